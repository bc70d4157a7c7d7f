//! Qualifying data: what ties a signature of a TPM to one TLS connection, to the claims that were sent over it, and to
//! what a key is for.

use holdfast_types::ComponentId;
use sha2::{Digest, Sha256};
use std::fmt;

/// Label of the TLS exporter that [`Exporter`] comes from (RFC 8446, 7.5). Its context is the device's id.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-holdfast-attest-1";

/// Bytes of the TLS 1.3 exporter of the connection. Fresh key shares of both sides are in it, so it is the nonce; another
/// connection never has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exporter(pub [u8; 32]);

/// The purpose of a certified key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// The device's own key, with which its OS speaks to others.
    Device,
    /// The key of the app with this component id.
    App(ComponentId),
}

impl Purpose {
    /// Returns the 17 bytes that are signed: a tag, and the id of the app or zeros.
    fn bytes(&self) -> [u8; 17] {
        let (tag, id) = match self {
            Self::Device => (0, [0; 16]),
            Self::App(id) => (1, id.0),
        };
        let mut bytes = [tag; 17];
        bytes.iter_mut().skip(1).zip(id).for_each(|(place, byte)| *place = byte);
        bytes
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("device"),
            Self::App(id) => write!(f, "app {id}"),
        }
    }
}

/// What a TPM is given to put into a signature (`extraData`): always 32 bytes, since a TPM with SHA-256 alone takes no
/// more than 34, and another takes more without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QualifyingData([u8; 32]);

impl QualifyingData {
    /// Returns the qualifying data of a quote: `SHA-256("holdfast-attest-1" ‖ 0 ‖ E ‖ SHA-256(claims))`, where E is the
    /// exporter and the claims are the very bytes that are sent.
    #[must_use]
    pub fn of_quote(exporter: &Exporter, claims: &[u8]) -> Self {
        let data = Sha256::new()
            .chain_update(b"holdfast-attest-1\0")
            .chain_update(exporter.0)
            .chain_update(Sha256::digest(claims));
        Self(data.finalize().into())
    }

    /// Returns the qualifying data of a key's certification, from that of the quote:
    /// `SHA-256("holdfast-key-1" ‖ 0 ‖ Q ‖ purpose)`.
    ///
    /// The purpose is in it because the keys pass through `uplink` on their way: who has taken that over, and one app,
    /// could otherwise have another app's certificate made out for that app's key.
    #[must_use]
    pub fn of_key(&self, purpose: &Purpose) -> Self {
        let data = Sha256::new()
            .chain_update(b"holdfast-key-1\0")
            .chain_update(self.0)
            .chain_update(purpose.bytes());
        Self(data.finalize().into())
    }

    /// Returns the bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns what a software key signs: `"holdfast-software-1" ‖ 0 ‖ Q`, and each key's purpose and point. Each part has
    /// a fixed length.
    pub(crate) fn of_software(&self, keys: &[(Purpose, crate::public::Point)]) -> Vec<u8> {
        let mut message = [&b"holdfast-software-1\0"[..], &self.0].concat();
        for (purpose, point) in keys {
            message.extend(purpose.bytes());
            message.extend(point.x);
            message.extend(point.y);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::hex::hex;
    use std::collections::BTreeSet;

    /// Calculated beside this program, with Python's `hashlib`.
    #[test]
    fn qualifying_data_is_as_calculated_elsewhere() {
        let data = QualifyingData::of_quote(&Exporter([0x11; 32]), b"{\"v\":1}");
        assert_eq!(
            hex(data.bytes()),
            "b47df5c2b3ac5eb9c0fe8e7eed469ee0539bf8e1bf3a092683823d5283cac5b1"
        );
        assert_eq!(
            hex(data.of_key(&Purpose::Device).bytes()),
            "2044eaddba76b3bfba78a87292f522dda3b812220e7cbbb9f7ad5070489dcb45"
        );
        let app = Purpose::App(ComponentId([0x22; 16]));
        assert_eq!(
            hex(data.of_key(&app).bytes()),
            "a40cfa432864571c4b876b70e33be24c7321dc5dffab11ec782b7e741d548801"
        );
    }

    #[test]
    fn qualifying_data_never_exceeds_32_bytes() {
        for length in [0, 1, 31, 32, 33, 64, 8192] {
            let data = QualifyingData::of_quote(&Exporter([1; 32]), &vec![7; length]);
            assert_eq!(data.bytes().len(), 32);
        }
    }

    #[test]
    fn each_input_changes_the_qualifying_data() {
        let quotes = [([1; 32], &b"a"[..]), ([2; 32], b"a"), ([1; 32], b"b"), ([1; 32], b"")]
            .map(|(exporter, claims)| QualifyingData::of_quote(&Exporter(exporter), claims));
        let purposes = [Purpose::Device, Purpose::App(ComponentId([0; 16])), {
            Purpose::App(ComponentId([1; 16]))
        }];
        let keys = quotes.iter().flat_map(|q| purposes.map(|purpose| q.of_key(&purpose)));
        let all: BTreeSet<[u8; 32]> = quotes.iter().copied().chain(keys).map(|q| q.0).collect();
        assert_eq!(all.len(), 4 + 4 * 3);
    }
}

//! What an app may have signed: the end of a TLS 1.3 handshake (RFC 8446, 4.4.3), and nothing else.
//!
//! Everything but the hash is put together here, so that no signature of an app's key is one of a message of its choice. What TLS
//! 1.2 signs begins with random numbers of both sides and could be anything: it is not offered.

/// Bytes of a transcript hash: SHA-256, which TLS_AES_128_GCM_SHA256 and TLS_CHACHA20_POLY1305_SHA256 have.
pub const HASH_BYTES: usize = 32;

/// The side of a handshake that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The client.
    Client,
    /// The server.
    Server,
}

impl Role {
    /// Reads the word for a side.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        match word {
            "client" => Some(Self::Client),
            "server" => Some(Self::Server),
            _ => None,
        }
    }

    fn context(self) -> &'static [u8] {
        match self {
            Self::Client => b"TLS 1.3, client CertificateVerify",
            Self::Server => b"TLS 1.3, server CertificateVerify",
        }
    }
}

/// Returns what `CertificateVerify` signs: 64 spaces, the context string of the side, a zero byte, and the transcript hash.
#[must_use]
pub fn signed_content(role: Role, transcript_hash: &[u8; HASH_BYTES]) -> Vec<u8> {
    [&[b' '; 64][..], role.context(), &[0], transcript_hash].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::hex::hex;

    /// The example of RFC 8446, 4.4.3, and the same for a client.
    #[test]
    fn what_is_signed_is_the_example_of_the_rfc() {
        let server = hex(&signed_content(Role::Server, &[1; 32]));
        let expected = [
            &"20".repeat(64),
            "544c5320312e332c207365727665722043657274696669636174655665726966",
            "79",
            "00",
            &"01".repeat(32),
        ];
        assert_eq!(server, expected.concat());
        let client = signed_content(Role::Client, &[1; 32]);
        assert_eq!(&client[64..97], b"TLS 1.3, client CertificateVerify");
        assert_eq!((client.len(), &client[97..]), (130, [&[0][..], &[1; 32]].concat().as_slice()));
    }

    #[test]
    fn a_handshake_has_two_sides() {
        assert_eq!(Role::of_word("client"), Some(Role::Client));
        assert_eq!(Role::of_word("server"), Some(Role::Server));
        for other in ["", "Client", "client ", "clients", "TLS 1.3, client"] {
            assert_eq!(Role::of_word(other), None, "{other}");
        }
    }
}

//! App packages: one signed file that holds an app's file system and its verity tree.
//!
//! The bytes are described in `docs/formats/app-package.md`. Everything that a device must decide
//! before it looks at any other byte stands in a header of [`HEADER_BYTES`]; its first
//! [`SIGNED_BYTES`] are what the signature is over. Reading is total and bounded: any input gives a
//! header or an error, and nothing is allocated.

pub mod entry;
mod short_name;

use crate::verity;
use ed25519_dalek::{Signature, VerifyingKey};
use holdfast_types::ComponentId;
use holdfast_types::KeyId;
use holdfast_types::Version;
pub use short_name::ShortName;
use thiserror::Error;

/// First bytes of every package.
pub const MAGIC: [u8; 8] = *b"HOLDFAPP";
/// Version of the format.
pub const FORMAT_VERSION: u16 = 1;
/// Length of the header; the file system follows.
pub const HEADER_BYTES: usize = 4096;
/// Length of the signed part of the header, in bytes.
pub const SIGNED_BYTES: usize = 448;
/// Length of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Size of data and hash blocks.
pub const BLOCK_BYTES: u64 = 4096;
/// Largest file system in a package: 1 GiB.
pub const MAX_DATA_BYTES: u64 = 1 << 30;
/// Room for the name of a product or board.
pub const NAME_BYTES: usize = 32;

/// Header of a package, which is under its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the file system, a multiple of [`BLOCK_BYTES`].
    pub data_bytes: u64,
    /// Component id of the app.
    pub component_id: ComponentId,
    /// Product that the package is for; empty for any.
    pub product: ShortName,
    /// Board that the package is for; empty for any.
    pub board: ShortName,
    /// Version of the app.
    pub version: Version,
    /// Rollback index, which only grows: a device refuses a package with a lower one.
    pub rollback_index: u64,
    /// Oldest OS version that the app runs on.
    pub least_os: Version,
    /// Id of the key that has signed the package; zero in an unsigned one.
    pub key_id: KeyId,
    /// Hash of the top block of the verity tree.
    pub root_hash: [u8; 32],
    /// Salt of the verity tree.
    pub salt: [u8; 32],
}

/// An error of parsing a package's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PackageError {
    /// Shorter than a header.
    #[error("is shorter than a header of {HEADER_BYTES} bytes")]
    TooShort,
    /// Other first bytes.
    #[error("is no app package")]
    Magic,
    /// Another version of the format.
    #[error("has format version {0}, not {FORMAT_VERSION}")]
    FormatVersion(u16),
    /// The length in the header is not the file's.
    #[error("is {found} bytes long, but its header says {stated}")]
    Length {
        /// Length in the header, in bytes.
        stated: u64,
        /// Length of the file, in bytes.
        found: u64,
    },
    /// A field holds what it may not.
    #[error("{0}")]
    Field(&'static str),
}

impl Header {
    /// Number of data blocks.
    #[must_use]
    pub fn data_blocks(&self) -> u64 {
        self.data_bytes / BLOCK_BYTES
    }

    /// Length of the verity tree.
    #[must_use]
    pub fn tree_bytes(&self) -> u64 {
        verity::tree_blocks(self.data_blocks()).saturating_mul(BLOCK_BYTES)
    }

    /// Length of the whole package.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let header = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
        header.saturating_add(self.data_bytes).saturating_add(self.tree_bytes())
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn signed_bytes(&self) -> [u8; SIGNED_BYTES] {
        let mut writer = Writer { bytes: [0; SIGNED_BYTES], at: 0 };
        writer.put(&MAGIC);
        writer.put(&FORMAT_VERSION.to_le_bytes());
        writer.put(&[0; 6]);
        writer.put(&self.total_bytes().to_le_bytes());
        writer.put(&self.data_bytes.to_le_bytes());
        writer.put(&self.tree_bytes().to_le_bytes());
        writer.put(&self.component_id.0);
        writer.put(&self.product.0);
        writer.put(&self.board.0);
        for version in [self.version, self.least_os] {
            for number in [version.major, version.minor, version.patch] {
                writer.put(&number.to_le_bytes());
            }
        }
        writer.put(&self.rollback_index.to_le_bytes());
        writer.put(&self.key_id.0);
        writer.put(&self.root_hash);
        writer.put(&self.salt);
        writer.bytes
    }

    /// The whole header, with a signature; zeros for an unsigned package.
    #[must_use]
    pub fn encode(&self, signature: &[u8; SIGNATURE_BYTES]) -> Box<[u8; HEADER_BYTES]> {
        let mut bytes = Box::new([0; HEADER_BYTES]);
        let (signed, rest) = bytes.split_at_mut(SIGNED_BYTES);
        signed.copy_from_slice(&self.signed_bytes());
        rest.split_at_mut(SIGNATURE_BYTES).0.copy_from_slice(signature);
        bytes
    }

    /// The header at the start of a file of `file_bytes`. `bytes` may go on behind the header.
    ///
    /// # Errors
    /// See [`PackageError`]. The signature is not checked here: see [`Header::verify`].
    pub fn parse(bytes: &[u8], file_bytes: u64) -> Result<Self, PackageError> {
        let Some((bytes, _)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(PackageError::TooShort);
        };
        let mut reader = Reader { bytes };
        if reader.array() != MAGIC {
            return Err(PackageError::Magic);
        }
        let format = u16::from_le_bytes(reader.array());
        if format != FORMAT_VERSION {
            return Err(PackageError::FormatVersion(format));
        }
        reader.expect_zeros(6)?;
        let total_bytes = reader.u64();
        let data_bytes = reader.u64();
        let tree_bytes = reader.u64();
        let header = Self {
            data_bytes,
            component_id: ComponentId(reader.array()),
            product: ShortName(reader.array()),
            board: ShortName(reader.array()),
            version: reader.version(),
            least_os: reader.version(),
            rollback_index: reader.u64(),
            key_id: KeyId(reader.array()),
            root_hash: reader.array(),
            salt: reader.array(),
        };
        let unused = SIGNED_BYTES.saturating_sub(HEADER_BYTES.saturating_sub(reader.bytes.len()));
        reader.expect_zeros(unused)?;
        let _signature: [u8; SIGNATURE_BYTES] = reader.array();
        let rest = reader.bytes.len();
        reader.expect_zeros(rest)?;
        if data_bytes == 0 || !data_bytes.is_multiple_of(BLOCK_BYTES) {
            return Err(PackageError::Field("its file system is not made of whole blocks"));
        }
        if data_bytes > MAX_DATA_BYTES {
            return Err(PackageError::Field("its file system is larger than 1 GiB"));
        }
        if tree_bytes != header.tree_bytes() {
            return Err(PackageError::Field("its verity tree does not fit its file system"));
        }
        if total_bytes != header.total_bytes() {
            return Err(PackageError::Field("its lengths do not add up"));
        }
        if total_bytes != file_bytes {
            return Err(PackageError::Length { stated: total_bytes, found: file_bytes });
        }
        if !header.product.is_valid() || !header.board.is_valid() {
            return Err(PackageError::Field("its product or board is no name"));
        }
        Ok(header)
    }

    /// Checks the signature of a whole header with the public key that its key id names.
    ///
    /// # Errors
    /// Another key, a key that is no point of the curve, or a signature over other bytes.
    pub fn verify(&self, bytes: &[u8], public: &[u8; 32]) -> Result<(), SignatureError> {
        if KeyId::of(public) != self.key_id {
            return Err(SignatureError::OtherKey);
        }
        let signed = bytes.get(..SIGNED_BYTES).ok_or(SignatureError::Bad)?;
        let signature = bytes
            .get(SIGNED_BYTES..)
            .and_then(|rest| rest.first_chunk::<SIGNATURE_BYTES>())
            .ok_or(SignatureError::Bad)?;
        let key = VerifyingKey::from_bytes(public).map_err(|_| SignatureError::OtherKey)?;
        key.verify_strict(signed, &Signature::from_bytes(signature))
            .map_err(|_| SignatureError::Bad)
    }

    /// Decides whether a device takes this package; its signature has been verified.
    ///
    /// # Errors
    /// The first reason to refuse it.
    pub fn admit(&self, device: &Device<'_>) -> Result<(), NotForDevice> {
        if self.component_id != device.component_id {
            return Err(NotForDevice::Component(self.component_id));
        }
        if !self.product.admits(device.product) {
            return Err(NotForDevice::Product(self.product));
        }
        if !self.board.admits(device.board) {
            return Err(NotForDevice::Board(self.board));
        }
        if self.least_os > device.os {
            return Err(NotForDevice::LeastOs(self.least_os));
        }
        if self.rollback_index < device.floor {
            return Err(NotForDevice::Rollback { index: self.rollback_index, floor: device.floor });
        }
        Ok(())
    }
}

/// The properties of a device that a package is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Device<'a> {
    /// The component that the package was found under.
    pub component_id: ComponentId,
    /// Product of the image.
    pub product: &'a str,
    /// Board of the image.
    pub board: &'a str,
    /// Version of the image.
    pub os: Version,
    /// Lowest rollback index that this component may have.
    pub floor: u64,
}

/// An error of verifying a package's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The key is not the one that the header names.
    #[error("is signed by another key")]
    OtherKey,
    /// The signature does not belong to the header.
    #[error("has a signature that does not fit its header")]
    Bad,
}

/// A reason for which a device does not take a package whose signature is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotForDevice {
    /// The package is another app's.
    #[error("is a package of component {0}")]
    Component(ComponentId),
    /// The package is for another product.
    #[error("is for product {0:?}")]
    Product(ShortName),
    /// The package is for another board.
    #[error("is for board {0:?}")]
    Board(ShortName),
    /// The package needs a newer OS.
    #[error("needs an OS of version {0} or later")]
    LeastOs(Version),
    /// The package is older than one that this device has committed (anti-rollback).
    #[error("has rollback index {index}, below the floor of {floor}")]
    Rollback {
        /// Rollback index of the package.
        index: u64,
        /// Floor of the device for this component id.
        floor: u64,
    },
}

struct Writer {
    bytes: [u8; SIGNED_BYTES],
    at: usize,
}

impl Writer {
    /// The fields add up to less than the room there is.
    fn put(&mut self, field: &[u8]) {
        let end = self.at.saturating_add(field.len());
        if let Some(place) = self.bytes.get_mut(self.at..end) {
            place.copy_from_slice(field);
        }
        self.at = end;
    }
}

/// Takes fields off a header that is known to be long enough for all of them.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.bytes.split_first_chunk::<N>() {
            Some((array, rest)) => {
                self.bytes = rest;
                *array
            }
            None => [0; N],
        }
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn version(&mut self) -> Version {
        let mut number = || u32::from_le_bytes(self.array());
        Version { major: number(), minor: number(), patch: number() }
    }

    fn expect_zeros(&mut self, count: usize) -> Result<(), PackageError> {
        let (zeros, rest) = self.bytes.split_at_checked(count).ok_or(PackageError::TooShort)?;
        self.bytes = rest;
        if zeros.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(PackageError::Field("a reserved byte of its header is not zero"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            data_bytes: 300 * BLOCK_BYTES,
            component_id: ComponentId(*b"component-id-123"),
            product: ShortName::new("pump").unwrap(),
            board: ShortName::new("").unwrap(),
            version: Version { major: 1, minor: 2, patch: 3 },
            rollback_index: 7,
            least_os: Version { major: 0, minor: 1, patch: 0 },
            key_id: KeyId::of(&key().verifying_key().to_bytes()),
            root_hash: [0x11; 32],
            salt: [0x22; 32],
        }
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    fn signed(header: &Header) -> Box<[u8; HEADER_BYTES]> {
        header.encode(&key().sign(&header.signed_bytes()).to_bytes())
    }

    fn device() -> Device<'static> {
        Device {
            component_id: ComponentId(*b"component-id-123"),
            product: "pump",
            board: "qemu-virt",
            os: Version { major: 0, minor: 1, patch: 0 },
            floor: 7,
        }
    }

    #[test]
    fn what_was_written_is_read_and_verified() {
        let header = header();
        let bytes = signed(&header);
        let read = Header::parse(&bytes[..], header.total_bytes()).unwrap();
        assert_eq!(read, header);
        assert_eq!(header.total_bytes(), (1 + 300 + 3 + 1) * 4096);
        assert_eq!(read.verify(&bytes[..], &key().verifying_key().to_bytes()), Ok(()));
        assert_eq!(read.admit(&device()), Ok(()));
    }

    /// The bytes of format version 1, written down once: they must never change.
    #[test]
    fn the_header_is_the_golden_one() {
        let golden = include_bytes!("golden-header.bin");
        let bytes = signed(&header());
        if std::env::var_os("HOLDFAST_WRITE_GOLDEN").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/package/golden-header.bin");
            std::fs::write(path, &bytes[..512]).unwrap();
        }
        assert!(bytes[..512] == golden[..], "the format has changed: that needs a new version");
    }

    #[test]
    fn every_changed_bit_of_the_header_is_refused() {
        let header = header();
        let good = signed(&header);
        let public = key().verifying_key().to_bytes();
        for at in 0..HEADER_BYTES {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            let taken = Header::parse(&bytes[..], header.total_bytes())
                .ok()
                .filter(|read| read.verify(&bytes[..], &public).is_ok());
            assert!(taken.is_none(), "a change of byte {at} was accepted");
        }
    }

    #[test]
    fn each_hostile_header_is_told_apart() {
        let header = header();
        let good = signed(&header);
        let total = header.total_bytes();
        let with = |at: usize, value: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + value.len()].copy_from_slice(value);
            Header::parse(&bytes[..], total)
        };
        assert_eq!(Header::parse(&good[..4095], total), Err(PackageError::TooShort));
        assert_eq!(with(0, b"X"), Err(PackageError::Magic));
        assert_eq!(with(8, &[2]), Err(PackageError::FormatVersion(2)));
        let longer = Header::parse(&good[..], total + 1);
        assert_eq!(longer, Err(PackageError::Length { stated: total, found: total + 1 }));
        let field = |result: Result<Header, PackageError>| match result {
            Err(PackageError::Field(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert!(field(with(16, &[1])).contains("do not add up"));
        assert!(field(with(24, &[1])).contains("whole blocks"));
        assert!(field(with(24, &[0; 8])).contains("whole blocks"));
        assert!(field(with(24, &u64::MAX.to_le_bytes())).contains("whole blocks"));
        assert!(field(with(24, &(1u64 << 62).to_le_bytes())).contains("1 GiB"));
        assert!(field(with(32, &[1])).contains("verity tree"));
        assert!(field(with(56, b"P")).contains("no name"));
        assert!(field(with(56, b"\0pump")).contains("no name"));
        assert!(field(with(440, &[1])).contains("reserved"));
        assert!(field(with(4095, &[1])).contains("reserved"));
    }

    #[test]
    fn another_key_and_no_signature_are_refused() {
        let header = header();
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        let bytes = signed(&header);
        assert_eq!(header.verify(&bytes[..], &other), Err(SignatureError::OtherKey));
        let unsigned = header.encode(&[0; 64]);
        let public = key().verifying_key().to_bytes();
        assert_eq!(header.verify(&unsigned[..], &public), Err(SignatureError::Bad));
    }

    #[test]
    fn a_device_refuses_what_is_not_for_it() {
        let refusal = |change: fn(&mut Header)| {
            let mut header = header();
            change(&mut header);
            header.admit(&device()).expect_err("was admitted").to_string()
        };
        assert!(refusal(|h| h.component_id.0[0] = 0).starts_with("is a package of component"));
        assert_eq!(
            refusal(|h| h.product = ShortName::new("fan").unwrap()),
            "is for product \"fan\""
        );
        assert_eq!(refusal(|h| h.board = ShortName::new("bbb").unwrap()), "is for board \"bbb\"");
        assert_eq!(refusal(|h| h.least_os.major = 9), "needs an OS of version 9.1.0 or later");
        assert_eq!(refusal(|h| h.rollback_index = 6), "has rollback index 6, below the floor of 7");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000), length in any::<u64>()
        ) {
            prop_assert!(Header::parse(&bytes, length).is_err());
        }

        #[test]
        fn a_header_with_changed_fields_keeps_its_bounds(
            at in 8usize..448, bytes in proptest::collection::vec(any::<u8>(), 1..9),
            length in any::<u64>(),
        ) {
            let mut header = signed(&header());
            for (place, byte) in header[at..448].iter_mut().zip(bytes) {
                *place = byte;
            }
            for length in [length, header_total(&header[..])] {
                if let Ok(read) = Header::parse(&header[..], length) {
                    prop_assert!(read.total_bytes() == length && read.data_bytes <= MAX_DATA_BYTES);
                }
            }
        }
    }

    fn header_total(bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes[16..24].try_into().unwrap())
    }
}

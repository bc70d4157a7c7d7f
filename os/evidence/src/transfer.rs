//! Transfer of a device from one catalog to another: vouchers, each signed by the key of the root that the device belongs to, and
//! the chain of them, which begins with the root in the device's image. A device follows a chain as TUF's clients follow roots.

use crate::attest::Signature;
use crate::config::IdentityConfig;
use crate::device_id::DeviceId;
use crate::issued::{CertificateError, certified_key};
use crate::messages::MAX_CERTIFICATE_BYTES;
use crate::verify::VerifySignature;
use holdfast_types::CatalogId;
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What is signed begins with this: no other message of a root's key can be taken for it.
const DOMAIN: &[u8] = b"holdfast-transfer-1\0";
/// Version of the file with a device's vouchers.
const VERSION: u8 = 1;
/// Most bytes of a voucher: a certificate, and less than 256 bytes beside it.
pub const MAX_VOUCHER_BYTES: usize = MAX_CERTIFICATE_BYTES + 256;
/// Most vouchers that a device keeps. A release whose image names the owner of the day begins a new chain.
pub const MAX_VOUCHERS: usize = 8;
/// Bytes of a signature: r and s.
const SIGNATURE_BYTES: usize = 64;

/// What a voucher says: this device goes from the catalog `from` to the catalog `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Id of the device.
    pub device: [u8; 32],
    /// The catalog whose root signs.
    pub from: CatalogId,
    /// The catalog that the device belongs to afterwards.
    pub to: CatalogId,
    /// Certificate of that catalog's root, DER.
    pub root: Vec<u8>,
    /// The owners that the device has had by then, without the first: one more than before.
    pub epoch: u32,
    /// End of the voucher, in seconds since 1970. A device that has followed it stays where it is.
    pub ends_at: u64,
}

impl Transfer {
    /// Returns what the root of [`from`](Self::from) signs with ECDSA and SHA-256.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, EncodingError> {
        Ok([DOMAIN, &encoding::encode(self)?].concat())
    }
}

/// A transfer with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// What is signed.
    pub transfer: Transfer,
    /// The signature, r and s.
    signature: Vec<u8>,
}

/// Errors of a voucher.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VoucherError {
    /// The bytes are no voucher.
    #[error("the voucher is malformed")]
    Malformed(#[from] EncodingError),
    /// Another release has written the file, in another form.
    #[error("the file of vouchers has version {0}, not {VERSION}")]
    Version(u8),
    /// It is longer than [`MAX_VOUCHER_BYTES`].
    #[error("the voucher has {0} bytes, more than {MAX_VOUCHER_BYTES}")]
    TooLong(usize),
    /// It is of another device.
    #[error("the voucher is of another device")]
    OtherDevice,
    /// It is from another catalog than the one that the device belongs to.
    #[error("the voucher is from catalog {found}, and the device belongs to {expected}")]
    OtherCatalog {
        /// The catalog that the voucher names.
        found: CatalogId,
        /// The one that the device belongs to.
        expected: CatalogId,
    },
    /// It does not follow the device's owner of the day: it was followed before, or one between is missing.
    #[error("the voucher makes the device's owner number {found}, and the next one is {expected}")]
    OtherEpoch {
        /// The number in the voucher.
        found: u32,
        /// The next one of this device.
        expected: u32,
    },
    /// It has ended.
    #[error("the voucher ended at {0}")]
    Ended(u64),
    /// A certificate of a root cannot be read.
    #[error("the certificate of a root is refused")]
    Root(#[source] CertificateError),
    /// The root of the device's catalog has not signed it.
    #[error("the root of the device's catalog has not signed the voucher")]
    Forged,
    /// The device has as many as it keeps.
    #[error("the device keeps {MAX_VOUCHERS} vouchers already")]
    TooMany,
}

impl Voucher {
    /// Puts a transfer and its signature together.
    #[must_use]
    pub fn new(transfer: Transfer, signature: &Signature) -> Self {
        Self { transfer, signature: signature.0.to_vec() }
    }

    /// Encodes it.
    ///
    /// # Errors
    /// The encoder's own, and it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, VoucherError> {
        let bytes = encoding::encode(self)?;
        if bytes.len() > MAX_VOUCHER_BYTES {
            return Err(VoucherError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// Decodes it. Nothing in it is to be believed before [`follow`] has taken it.
    ///
    /// # Errors
    /// The bytes are no voucher, or too many.
    pub fn decode(bytes: &[u8]) -> Result<Self, VoucherError> {
        if bytes.len() > MAX_VOUCHER_BYTES {
            return Err(VoucherError::TooLong(bytes.len()));
        }
        Ok(encoding::decode(bytes)?)
    }

    /// Returns the signature, where it has the length of one.
    fn signature(&self) -> Option<Signature> {
        <[u8; SIGNATURE_BYTES]>::try_from(self.signature.as_slice()).ok().map(Signature)
    }
}

/// Returns the owner that a device has by a voucher, which must be the next one of the owner before. `now` is none for a device
/// without a time, and for a voucher that the device has followed already.
///
/// # Errors
/// See [`VoucherError`].
pub fn follow(
    owner: &IdentityConfig,
    voucher: &Voucher,
    device: &DeviceId,
    now: Option<u64>,
    signatures: &impl VerifySignature,
) -> Result<IdentityConfig, VoucherError> {
    let Transfer { device: named, from, to, root, epoch, ends_at } = &voucher.transfer;
    if *named != device.0 {
        return Err(VoucherError::OtherDevice);
    }
    if *from != owner.catalog {
        return Err(VoucherError::OtherCatalog { found: *from, expected: owner.catalog });
    }
    let expected = owner.epoch.saturating_add(1);
    if *epoch != expected {
        return Err(VoucherError::OtherEpoch { found: *epoch, expected });
    }
    if now.is_some_and(|now| now >= *ends_at) {
        return Err(VoucherError::Ended(*ends_at));
    }
    let key = certified_key(&owner.catalog_root).map_err(VoucherError::Root)?;
    let signed = voucher.transfer.signed_bytes()?;
    let signature = voucher.signature().ok_or(VoucherError::Forged)?;
    if !signatures.is_valid(&key, &signed, &signature) {
        return Err(VoucherError::Forged);
    }
    // What the device could not verify the next voucher by, it does not go to.
    certified_key(root).map_err(VoucherError::Root)?;
    Ok(IdentityConfig { catalog: *to, catalog_root: root.clone(), epoch: *epoch })
}

/// The vouchers that a device has followed, as they lie in `state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    version: u8,
    vouchers: Vec<Voucher>,
}

impl Default for Chain {
    fn default() -> Self {
        Self { version: VERSION, vouchers: Vec::new() }
    }
}

impl Chain {
    /// Name of the file.
    pub const FILE_NAME: &str = "owners";
    /// Longest encoding in bytes.
    pub const MAX_ENCODED_BYTES: usize = MAX_VOUCHERS * (MAX_VOUCHER_BYTES + 8) + 8;

    /// Encodes the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// The bytes are of another version, malformed, or of more vouchers than are kept.
    pub fn decode(bytes: &[u8]) -> Result<Self, VoucherError> {
        if bytes.len() > Self::MAX_ENCODED_BYTES {
            return Err(VoucherError::TooLong(bytes.len()));
        }
        let chain: Self = encoding::decode(bytes)?;
        if chain.version != VERSION {
            return Err(VoucherError::Version(chain.version));
        }
        if chain.vouchers.len() > MAX_VOUCHERS {
            return Err(VoucherError::TooMany);
        }
        Ok(chain)
    }

    /// Returns this chain with one voucher more.
    ///
    /// # Errors
    /// It has as many as there may be.
    pub fn and(&self, voucher: Voucher) -> Result<Self, VoucherError> {
        if self.vouchers.len() >= MAX_VOUCHERS {
            return Err(VoucherError::TooMany);
        }
        let mut chain = self.clone();
        chain.vouchers.push(voucher);
        Ok(chain)
    }

    /// Returns the owner of a device by its image and these vouchers, and the vouchers that lead from the one to the other.
    ///
    /// Where an image of a later owner names its catalog, the chain goes on behind the voucher that has led there. That one and
    /// those before it are not verified: by them, nothing is believed but the number of owners, and a wrong number is a device that
    /// nobody recognizes. A chain that leads from another catalog than the image's is none of this image: the device is the image's.
    ///
    /// A voucher that should lead on and is refused is returned with its error: the device has the owner before it.
    #[must_use]
    pub fn owner(
        &self,
        image: &IdentityConfig,
        device: &DeviceId,
        signatures: &impl VerifySignature,
    ) -> (IdentityConfig, Self, Option<VoucherError>) {
        let leads_to_image = |voucher: &Voucher| {
            voucher.transfer.to == image.catalog && voucher.transfer.root == image.catalog_root
        };
        let behind = self.vouchers.iter().rposition(leads_to_image);
        let from = behind.map_or(0, |at| at.saturating_add(1));
        let mut owner = image.clone();
        if let Some(voucher) = behind.and_then(|at| self.vouchers.get(at)) {
            owner.epoch = voucher.transfer.epoch;
        }
        let mut followed: Vec<Voucher> = self.vouchers.iter().take(from).cloned().collect();
        for voucher in self.vouchers.iter().skip(from) {
            match follow(&owner, voucher, device, None, signatures) {
                Ok(next) => owner = next,
                Err(error) => {
                    return (owner, Self { version: VERSION, vouchers: followed }, Some(error));
                }
            }
            followed.push(voucher.clone());
        }
        (owner, Self { version: VERSION, vouchers: followed }, None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        reason = "a panic is a failed test"
    )]

    use super::*;
    use crate::service::Ring;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SigningKey};

    const DEVICE: DeviceId = DeviceId([0xde; 32]);
    const NOW: u64 = 1_790_000_000;

    /// A catalog with its root.
    struct Catalog {
        id: CatalogId,
        key: KeyPair,
        root: Vec<u8>,
    }

    fn catalog(number: u8) -> Catalog {
        let key = KeyPair::generate().unwrap();
        let root = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        Catalog { id: CatalogId([number; 16]), root: root.der().to_vec(), key }
    }

    impl Catalog {
        fn owner(&self, epoch: u32) -> IdentityConfig {
            IdentityConfig { catalog: self.id, catalog_root: self.root.clone(), epoch }
        }

        fn gives(&self, to: &Self, epoch: u32) -> Transfer {
            let (from, to, root) = (self.id, to.id, to.root.clone());
            Transfer { device: DEVICE.0, from, to, root, epoch, ends_at: NOW + 60 }
        }

        fn signs(&self, transfer: Transfer) -> Voucher {
            let signature = self.key.sign(&transfer.signed_bytes().unwrap()).unwrap();
            Voucher::new(transfer, &Signature::from_der(&signature).unwrap())
        }
    }

    fn refusal(owner: &IdentityConfig, voucher: &Voucher) -> VoucherError {
        follow(owner, voucher, &DEVICE, Some(NOW), &Ring).unwrap_err()
    }

    #[test]
    fn a_device_follows_the_voucher_of_its_catalogs_root_and_no_other() {
        let (from, to, thief) = (catalog(1), catalog(2), catalog(3));
        let owner = from.owner(0);
        let voucher = from.signs(from.gives(&to, 1));
        let followed = follow(&owner, &voucher, &DEVICE, Some(NOW), &Ring);
        assert_eq!(followed, Ok(to.owner(1)), "the control");
        assert_eq!(follow(&owner, &voucher, &DEVICE, None, &Ring), Ok(to.owner(1)));

        // Whoever is not the root of the device's catalog signs nothing that counts.
        assert_eq!(refusal(&owner, &to.signs(from.gives(&to, 1))), VoucherError::Forged);
        assert_eq!(refusal(&owner, &thief.signs(from.gives(&thief, 1))), VoucherError::Forged);
        let mut changed = voucher.clone();
        changed.transfer.root = thief.root.clone();
        assert_eq!(refusal(&owner, &changed), VoucherError::Forged);
        for length in [0, 63, 65] {
            let mut cut = voucher.clone();
            cut.signature.resize(length, 1);
            assert_eq!(refusal(&owner, &cut), VoucherError::Forged, "{length}");
        }
        let other = VoucherError::OtherCatalog { found: thief.id, expected: from.id };
        assert_eq!(refusal(&owner, &thief.signs(thief.gives(&to, 1))), other);

        // Another device's, one that was followed, one that is to come, and one that has ended.
        let another = Transfer { device: [1; 32], ..from.gives(&to, 1) };
        assert_eq!(refusal(&owner, &from.signs(another)), VoucherError::OtherDevice);
        for found in [0, 2, u32::MAX] {
            let error = VoucherError::OtherEpoch { found, expected: 1 };
            assert_eq!(refusal(&owner, &from.signs(from.gives(&to, found))), error);
        }
        let ended = Transfer { ends_at: NOW, ..from.gives(&to, 1) };
        assert_eq!(refusal(&owner, &from.signs(ended)), VoucherError::Ended(NOW));
        let no_root = Transfer { root: vec![1, 2, 3], ..from.gives(&to, 1) };
        assert!(matches!(refusal(&owner, &from.signs(no_root)), VoucherError::Root(_)));
    }

    #[test]
    fn a_chain_leads_from_the_images_catalog_through_every_owner() {
        let (a, b, c) = (catalog(1), catalog(2), catalog(3));
        let chain = Chain::default().and(a.signs(a.gives(&b, 1))).unwrap();
        let chain = chain.and(b.signs(b.gives(&c, 2))).unwrap();
        let owner = |chain: &Chain, image: &IdentityConfig| chain.owner(image, &DEVICE, &Ring);
        assert_eq!(owner(&chain, &a.owner(0)), (c.owner(2), chain.clone(), None));
        let read = Chain::decode(&chain.encode().unwrap()).unwrap();
        assert_eq!(read, chain);
        // An image of a later owner: its attestation key stays the same.
        assert_eq!(owner(&chain, &b.owner(0)).0, c.owner(2));
        assert_eq!(owner(&chain, &c.owner(0)), (c.owner(2), chain.clone(), None));
        // The first catalog has it again, and gives it away again.
        let back = chain.and(c.signs(c.gives(&a, 3))).unwrap();
        assert_eq!(owner(&back, &a.owner(0)).0, a.owner(3));
        let again = back.and(a.signs(a.gives(&b, 4))).unwrap();
        assert_eq!(owner(&again, &a.owner(0)).0, b.owner(4));
        // An image of somebody else.
        let (found, kept, refused) = owner(&chain, &catalog(4).owner(0));
        assert_eq!((found.catalog, found.epoch, kept), (CatalogId([4; 16]), 0, Chain::default()));
        assert!(matches!(refused, Some(VoucherError::OtherCatalog { .. })));
    }

    /// Whoever writes to the device's medium cannot make it his.
    #[test]
    fn a_chain_that_somebody_has_written_leads_nowhere() {
        let (a, b, thief) = (catalog(1), catalog(2), catalog(3));
        let good = Chain::default().and(a.signs(a.gives(&b, 1))).unwrap();
        let stolen = good.and(thief.signs(b.gives(&thief, 2))).unwrap();
        let (found, kept, refused) = stolen.owner(&a.owner(0), &DEVICE, &Ring);
        assert_eq!((found, kept, refused), (b.owner(1), good, Some(VoucherError::Forged)));
        let stolen = Chain::default().and(thief.signs(a.gives(&thief, 1))).unwrap();
        let (found, kept, _) = stolen.owner(&a.owner(0), &DEVICE, &Ring);
        assert_eq!((found, kept), (a.owner(0), Chain::default()));
        // What stands before the image's own catalog changes the number of owners and nothing else.
        let before = Chain::default().and(thief.signs(b.gives(&a, 7))).unwrap();
        let behind = before.and(thief.signs(a.gives(&thief, 8))).unwrap();
        let (found, _, refused) = behind.owner(&a.owner(0), &DEVICE, &Ring);
        assert_eq!((found, refused), (a.owner(7), Some(VoucherError::Forged)));
    }

    #[test]
    fn vouchers_and_chains_are_bounded() {
        let (a, b) = (catalog(1), catalog(2));
        let voucher = a.signs(a.gives(&b, 1));
        let bytes = voucher.encode().unwrap();
        assert_eq!(Voucher::decode(&bytes), Ok(voucher.clone()));
        for cut in 0..bytes.len() {
            Voucher::decode(&bytes[..cut]).unwrap_err();
        }
        let long = vec![0; MAX_VOUCHER_BYTES + 1];
        assert_eq!(Voucher::decode(&long), Err(VoucherError::TooLong(MAX_VOUCHER_BYTES + 1)));
        let longest = Transfer { root: vec![9; MAX_CERTIFICATE_BYTES], ..a.gives(&b, u32::MAX) };
        let longest = Transfer { ends_at: u64::MAX, ..longest };
        assert!(a.signs(longest).encode().unwrap().len() <= MAX_VOUCHER_BYTES);
        let mut chain = Chain::default();
        for _ in 0..MAX_VOUCHERS {
            chain = chain.and(voucher.clone()).unwrap();
        }
        assert_eq!(chain.and(voucher.clone()), Err(VoucherError::TooMany));
        assert!(chain.encode().unwrap().len() <= Chain::MAX_ENCODED_BYTES);
        chain.vouchers.push(voucher);
        assert_eq!(Chain::decode(&chain.encode().unwrap()), Err(VoucherError::TooMany));
        let other = Chain { version: 2, vouchers: Vec::new() };
        assert_eq!(Chain::decode(&other.encode().unwrap()), Err(VoucherError::Version(2)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Voucher::decode(&bytes);
            let _ = Chain::decode(&bytes);
            let _ = Signature::from_der(&bytes);
        }
    }
}

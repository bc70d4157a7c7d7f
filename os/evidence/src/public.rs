//! Public areas of keys, each of a template that is compared byte for byte but for `unique`, and their names (TPM 2.0
//! Library, part 2, 12.2.4; part 1, 16).

use crate::policy::PolicyDigest;
use crate::structure::{Reader, StructureError, put_sized};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// `TPM_ALG_ECC`, the type of every key here.
const ECC: [u8; 2] = [0, 0x23];
/// `TPM_ALG_SHA256`, the name algorithm of every key here.
pub(crate) const SHA256: [u8; 2] = [0, 0x0b];
/// `TPM_ALG_NULL`.
pub(crate) const NULL: [u8; 2] = [0, 0x10];
/// `TPM_ECC_NIST_P256`.
const P256: [u8; 2] = [0, 3];
/// `TPM_ALG_ECDSA` with SHA-256.
pub(crate) const ECDSA_SHA256: [u8; 4] = [0, 0x18, 0, 0x0b];
/// `TPM_ALG_AES`, 128 bits, `TPM_ALG_CFB`: what a storage key protects its children with.
const AES_128_CFB: [u8; 6] = [0, 6, 0, 128, 0, 0x43];

/// Longest public area of a template here, with its length, in bytes.
pub const MAX_PUBLIC_BYTES: usize = 124;

// `TPMA_OBJECT`, part 2, 8.3.
const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const USER_WITH_AUTH: u32 = 1 << 6;
const ADMIN_WITH_POLICY: u32 = 1 << 7;
const NO_DA: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;
/// Made by this TPM, in it for ever, and below the parent where it was made.
const OF_THIS_TPM: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN;

/// A point of P-256 in affine coordinates. Whether it lies on the curve is checked by whoever calculates with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Point {
    /// The x coordinate, in big-endian order.
    pub x: [u8; 32],
    /// The y coordinate, in big-endian order.
    pub y: [u8; 32],
}

impl Point {
    /// Returns the 65 bytes of the uncompressed form (SEC 1, 2.3.3): 4, x, y.
    #[must_use]
    pub fn uncompressed(&self) -> [u8; 65] {
        let mut bytes = [4; 65];
        let coordinates = self.x.iter().chain(&self.y);
        bytes.iter_mut().skip(1).zip(coordinates).for_each(|(place, byte)| *place = *byte);
        bytes
    }

    /// Reads the uncompressed form.
    #[must_use]
    pub fn from_uncompressed(bytes: &[u8]) -> Option<Self> {
        let [4, coordinates @ ..] = bytes else {
            return None;
        };
        let (x, y) = coordinates.split_first_chunk::<32>()?;
        Some(Self { x: *x, y: y.try_into().ok()? })
    }

    /// Reads `TPMS_ECC_POINT`, whose coordinates have all 32 bytes (part 1, C.8: they are padded).
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, StructureError> {
        Ok(Self { x: reader.sized_array("unique.x")?, y: reader.sized_array("unique.y")? })
    }

    /// Returns the 68 bytes of `TPMS_ECC_POINT`.
    #[must_use]
    pub fn to_tpm(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(68);
        put_sized(&mut bytes, &self.x);
        put_sized(&mut bytes, &self.y);
        bytes
    }
}

/// The name of a key, or its qualified name: SHA-256, behind the algorithm's identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name([u8; 32]);

impl Name {
    /// Returns the 34 bytes of `TPMT_HA`.
    #[must_use]
    pub fn bytes(&self) -> [u8; 34] {
        let mut bytes = [0; 34];
        let parts = SHA256.iter().chain(&self.0);
        bytes.iter_mut().zip(parts).for_each(|(place, byte)| *place = *byte);
        bytes
    }

    /// Returns the qualified name of a primary key of the endorsement hierarchy that has this name (part 1, 16).
    #[must_use]
    pub fn qualified_in_endorsement(&self) -> Self {
        let parent = crate::policy::ENDORSEMENT;
        Self(Sha256::new().chain_update(parent).chain_update(self.bytes()).finalize().into())
    }

    pub(crate) fn read(
        reader: &mut Reader<'_>,
        field: &'static str,
    ) -> Result<Self, StructureError> {
        let bytes: [u8; 34] = reader.sized_array(field)?;
        let mut name = Reader::new(&bytes);
        name.exactly(field, &SHA256)?;
        Ok(Self(name.array(field)?))
    }
}

/// What a key is for, which decides each byte of its public area but those of `unique`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// Endorsement key on P-256: template L-2 of the TCG EK Credential Profile.
    Endorsement,
    /// Attestation key: restricted, so it signs nothing that looks as if the TPM had made it and did not.
    Attestation,
    /// Storage root key: the parent of the keys that are used for TLS.
    StorageRoot,
    /// Key that signs TLS handshakes, of the device or an app, while this policy holds. Its own authorization, which is
    /// empty, can do no more than have it certified.
    Signing(PolicyDigest),
}

impl Template {
    fn attributes(&self) -> u32 {
        match self {
            Self::Endorsement => OF_THIS_TPM | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT,
            Self::Attestation => OF_THIS_TPM | USER_WITH_AUTH | NO_DA | RESTRICTED | SIGN,
            Self::StorageRoot => OF_THIS_TPM | USER_WITH_AUTH | NO_DA | RESTRICTED | DECRYPT,
            Self::Signing(_) => OF_THIS_TPM | NO_DA | SIGN,
        }
    }

    fn policy(&self) -> Option<PolicyDigest> {
        match self {
            Self::Endorsement => Some(PolicyDigest::of_endorsement()),
            Self::Attestation | Self::StorageRoot => None,
            Self::Signing(policy) => Some(*policy),
        }
    }

    /// The fields of `TPMT_PUBLIC` before `unique`, by name.
    fn fields(&self) -> [(&'static str, Vec<u8>); 5] {
        let mut policy = Vec::new();
        let digest = self.policy();
        let digest = digest.as_ref().map_or([].as_slice(), |policy| policy.0.as_slice());
        put_sized(&mut policy, digest);
        let (symmetric, scheme) = match self {
            Self::Endorsement | Self::StorageRoot => (AES_128_CFB.as_slice(), NULL.as_slice()),
            Self::Attestation | Self::Signing(_) => (NULL.as_slice(), ECDSA_SHA256.as_slice()),
        };
        [
            ("type", ECC.to_vec()),
            ("nameAlg", SHA256.to_vec()),
            ("objectAttributes", self.attributes().to_be_bytes().to_vec()),
            ("authPolicy", policy),
            ("parameters", [symmetric, scheme, &P256, &NULL].concat()),
        ]
    }

    /// Returns the `TPMT_PUBLIC` of a key with this point, at most [`MAX_PUBLIC_BYTES`] less 2.
    #[must_use]
    pub fn area(&self, unique: &Point) -> Vec<u8> {
        let mut area: Vec<u8> = self.fields().into_iter().flat_map(|(_, bytes)| bytes).collect();
        area.extend(unique.to_tpm());
        area
    }

    /// Returns what a key of this template is made from, a `TPMT_PUBLIC`. Primary keys differ by `unique`; the TCG's
    /// templates have zeros there.
    #[must_use]
    pub fn to_create(&self, unique: &[u8; 32]) -> Vec<u8> {
        self.area(&Point { x: *unique, y: [0; 32] })
    }
}

/// Errors of a key's public area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PublicError {
    /// The bytes are no `TPM2B_PUBLIC` with a point of P-256.
    #[error("the public area is malformed")]
    Malformed(#[from] StructureError),
    /// A field is not that of the template.
    #[error("{0}: is not the template's")]
    OtherTemplate(&'static str),
}

/// A public area that is a template's in every byte but those of `unique`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    area: Vec<u8>,
    point: Point,
}

impl Public {
    /// Reads a `TPM2B_PUBLIC` of this template.
    ///
    /// # Errors
    /// See [`PublicError`].
    pub fn read(bytes: &[u8], template: &Template) -> Result<Self, PublicError> {
        let mut outer = Reader::new(bytes);
        let area = outer.sized("publicArea", MAX_PUBLIC_BYTES)?;
        outer.end()?;
        let mut reader = Reader::new(area);
        for (field, expected) in template.fields() {
            if reader.take(field, expected.len())? != expected {
                return Err(PublicError::OtherTemplate(field));
            }
        }
        let point = Point::read(&mut reader)?;
        reader.end()?;
        Ok(Self { area: area.to_vec(), point })
    }

    /// Returns the key.
    #[must_use]
    pub fn point(&self) -> &Point {
        &self.point
    }

    /// Returns the name, which is calculated and never taken from anybody.
    #[must_use]
    pub fn name(&self) -> Name {
        Name(Sha256::digest(&self.area).into())
    }

    /// Returns the `TPM2B_PUBLIC` that was read.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_sized(&mut bytes, &self.area);
        bytes
    }
}

/// An attestation key: one that is restricted, signs, and has never been outside its TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationKey(Public);

impl AttestationKey {
    /// Reads a `TPM2B_PUBLIC` of [`Template::Attestation`].
    ///
    /// # Errors
    /// See [`PublicError`].
    pub fn read(bytes: &[u8]) -> Result<Self, PublicError> {
        Public::read(bytes, &Template::Attestation).map(Self)
    }

    /// Returns its public area.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.0
    }
}

/// An endorsement key of the TCG's template for P-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey(Public);

impl EndorsementKey {
    /// Reads a `TPM2B_PUBLIC` of [`Template::Endorsement`].
    ///
    /// # Errors
    /// See [`PublicError`].
    pub fn read(bytes: &[u8]) -> Result<Self, PublicError> {
        Public::read(bytes, &Template::Endorsement).map(Self)
    }

    /// Returns its public area.
    #[must_use]
    pub fn public(&self) -> &Public {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: Point = Point { x: [7; 32], y: [9; 32] };
    const SIGNING: Template = Template::Signing(PolicyDigest([5; 32]));

    fn sized(area: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_sized(&mut bytes, area);
        bytes
    }

    /// Sizes that were measured on a TPM with the same templates.
    #[test]
    fn public_areas_have_the_sizes_of_real_ones() {
        for (template, bytes) in [
            (Template::Endorsement, 124),
            (Template::StorageRoot, 92),
            (Template::Attestation, 90),
            (SIGNING, 122),
        ] {
            let public = sized(&template.area(&POINT));
            assert_eq!(public.len(), bytes, "{template:?}");
            let read = Public::read(&public, &template).unwrap();
            assert_eq!((read.point(), read.to_bytes()), (&POINT, public));
        }
    }

    /// Each bit of a public area but those of `unique` is compared.
    #[test]
    fn no_bit_differs_from_the_template_but_in_unique() {
        for template in [Template::Endorsement, Template::Attestation, SIGNING] {
            let public = sized(&template.area(&POINT));
            let before_unique = public.len() - 68;
            for (at, bit) in (0..public.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut other = public.clone();
                other[at] ^= 1 << bit;
                let read = Public::read(&other, &template);
                let in_length = [before_unique, before_unique + 34]
                    .iter()
                    .any(|start| (*start..start + 2).contains(&at));
                let in_unique = at >= before_unique && !in_length;
                assert_eq!(read.is_ok(), in_unique, "{template:?}: bit {bit} of byte {at}");
                if let Ok(read) = read {
                    assert_ne!(read.point(), &POINT);
                }
            }
            Public::read(&public[..public.len() - 1], &template).unwrap_err();
            Public::read(&[&public[..], &[0]].concat(), &template).unwrap_err();
        }
    }

    #[test]
    fn what_differs_is_named() {
        let unrestricted = (OF_THIS_TPM | USER_WITH_AUTH | NO_DA | SIGN).to_be_bytes();
        let mut public = sized(&Template::Attestation.area(&POINT));
        AttestationKey::read(&public).unwrap();
        public[6..10].copy_from_slice(&unrestricted);
        assert_eq!(
            AttestationKey::read(&public),
            Err(PublicError::OtherTemplate("objectAttributes"))
        );
        let other = Template::Signing(PolicyDigest([6; 32])).area(&POINT);
        let read = Public::read(&sized(&other), &SIGNING);
        assert_eq!(read, Err(PublicError::OtherTemplate("authPolicy")));
    }

    #[test]
    fn a_point_has_one_uncompressed_form() {
        let bytes = POINT.uncompressed();
        assert_eq!((bytes[0], bytes[1], bytes[64]), (4, 7, 9));
        assert_eq!(Point::from_uncompressed(&bytes), Some(POINT));
        assert_eq!(Point::from_uncompressed(&bytes[..64]), None);
        let mut compressed = bytes;
        compressed[0] = 2;
        assert_eq!(Point::from_uncompressed(&compressed), None);
    }
}

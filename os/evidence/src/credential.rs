//! Credentials: what only the TPM with an endorsement key and a key of a certain name can open, so that the two are
//! shown to be in one TPM (TPM 2.0 Library, part 1, 24 and C.6.4).

use crate::structure::{Reader, StructureError, put_sized};

/// Bytes of each half of a credential without its length: an HMAC and a secret, or a point, in sized buffers.
const HALF_BYTES: usize = 68;

/// A credential as `TPM2_ActivateCredential` takes it: 70 bytes and 70 bytes on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// `TPMS_ID_OBJECT`: the HMAC, and the encrypted secret.
    id_object: [u8; HALF_BYTES],
    /// The ephemeral point, of which the TPM makes the seed of the keys.
    encrypted_seed: [u8; HALF_BYTES],
}

impl Credential {
    /// Reads `TPM2B_ID_OBJECT` and `TPM2B_ENCRYPTED_SECRET`. What is in them only the TPM can tell.
    ///
    /// # Errors
    /// Another length than those of P-256, SHA-256 and a secret of 32 bytes.
    pub fn read(id_object: &[u8], encrypted_seed: &[u8]) -> Result<Self, StructureError> {
        let half = |field, bytes| {
            let mut reader = Reader::new(bytes);
            let half = reader.sized_array(field)?;
            reader.end()?;
            Ok(half)
        };
        Ok(Self {
            id_object: half("credentialBlob", id_object)?,
            encrypted_seed: half("secret", encrypted_seed)?,
        })
    }

    /// Returns `TPM2B_ID_OBJECT`.
    #[must_use]
    pub fn id_object(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_sized(&mut bytes, &self.id_object);
        bytes
    }

    /// Returns `TPM2B_ENCRYPTED_SECRET`.
    #[must_use]
    pub fn encrypted_seed(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_sized(&mut bytes, &self.encrypted_seed);
        bytes
    }
}

#[cfg(feature = "service")]
pub use making::{Agreement, NoAgreement};

#[cfg(feature = "service")]
mod making {
    use super::{Credential, HALF_BYTES};
    use crate::public::{EndorsementKey, Name, Point};
    use crate::structure::put_sized;
    use aes::Aes128;
    use aes::cipher::{BlockCipherEncrypt, KeyInit};
    use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
    use ring::{hmac, rand};
    use sha2::{Digest, Sha256};
    use thiserror::Error;

    /// The endorsement key's point is none of the curve, or there are no random numbers.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
    #[error("no secret can be agreed on with the endorsement key")]
    pub struct NoAgreement;

    /// An ephemeral key of P-256, and the secret that it has in common with an endorsement key.
    #[derive(Clone, Copy)]
    pub struct Agreement {
        /// The ephemeral public key.
        pub ephemeral: Point,
        /// The x coordinate of the common point.
        pub shared_x: [u8; 32],
    }

    impl std::fmt::Debug for Agreement {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Agreement").field("ephemeral", &self.ephemeral).finish_non_exhaustive()
        }
    }

    impl Agreement {
        /// Makes an ephemeral key and agrees on a secret with an endorsement key. The random numbers are the system's.
        ///
        /// # Errors
        /// See [`NoAgreement`].
        pub fn with(key: &EndorsementKey) -> Result<Self, NoAgreement> {
            let random = rand::SystemRandom::new();
            let ephemeral = EphemeralPrivateKey::generate(&ECDH_P256, &random);
            let ephemeral = ephemeral.map_err(|_| NoAgreement)?;
            let public = ephemeral.compute_public_key().map_err(|_| NoAgreement)?;
            let public = Point::from_uncompressed(public.as_ref()).ok_or(NoAgreement)?;
            let peer = UnparsedPublicKey::new(&ECDH_P256, key.public().point().uncompressed());
            let shared = agree_ephemeral(ephemeral, &peer, |secret| secret.try_into().ok());
            let shared_x = shared.ok().flatten().ok_or(NoAgreement)?;
            Ok(Self { ephemeral: public, shared_x })
        }
    }

    impl Credential {
        /// Makes a credential that the TPM with this endorsement key opens if it has a key of this name, and that gives
        /// the secret then.
        ///
        /// Nothing is random here but what `agreement` brings, so a credential can be made again and compared.
        #[must_use]
        pub fn make(
            key: &EndorsementKey,
            name: &Name,
            secret: &[u8; 32],
            agreement: &Agreement,
        ) -> Self {
            let seed = kdf_e(agreement, key.public().point());
            let storage: [u8; 16] = kdf_a(&seed, b"STORAGE\0", &name.bytes(), 128);
            let integrity: [u8; 32] = kdf_a(&seed, b"INTEGRITY\0", &[], 256);
            let mut encrypted = Vec::new();
            put_sized(&mut encrypted, secret);
            encrypt_cfb(storage, &mut encrypted);
            let mac = hmac::Key::new(hmac::HMAC_SHA256, &integrity);
            let mac = hmac::sign(&mac, &[&encrypted, &name.bytes()[..]].concat());
            let mut id_object = Vec::new();
            put_sized(&mut id_object, mac.as_ref());
            id_object.extend(encrypted);
            Self {
                id_object: half(&id_object),
                encrypted_seed: half(&agreement.ephemeral.to_tpm()),
            }
        }
    }

    /// The bytes of a half, of which there are as many by the lengths of what it is put together from.
    fn half(bytes: &[u8]) -> [u8; HALF_BYTES] {
        let mut half = [0; HALF_BYTES];
        half.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        half
    }

    /// KDFe for 256 bits (part 1, 11.4.10.3), with the label of credentials.
    fn kdf_e(agreement: &Agreement, key: &Point) -> [u8; 32] {
        Sha256::new()
            .chain_update(1u32.to_be_bytes())
            .chain_update(agreement.shared_x)
            .chain_update(b"IDENTITY\0")
            .chain_update(agreement.ephemeral.x)
            .chain_update(key.x)
            .finalize()
            .into()
    }

    /// KDFa (part 1, 11.4.10.2) with one context: as many bytes as there are bits, of one block of SHA-256.
    fn kdf_a<const N: usize>(seed: &[u8; 32], label: &[u8], context: &[u8], bits: u32) -> [u8; N] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let mut mac = hmac::Context::with_key(&key);
        mac.update(&1u32.to_be_bytes());
        mac.update(label);
        mac.update(context);
        mac.update(&bits.to_be_bytes());
        let mut bytes = [0; N];
        let tag = mac.sign();
        bytes.iter_mut().zip(tag.as_ref()).for_each(|(place, byte)| *place = *byte);
        bytes
    }

    /// AES-128 in CFB mode of whole blocks (NIST SP 800-38A, 6.3) from an initialization vector of zeros.
    fn encrypt_cfb(key: [u8; 16], bytes: &mut [u8]) {
        let cipher = Aes128::new(&key.into());
        let mut block = aes::Block::default();
        for plain in bytes.chunks_mut(16) {
            cipher.encrypt_block(&mut block);
            for (byte, stream) in plain.iter_mut().zip(block.iter_mut()) {
                *byte ^= *stream;
                *stream = *byte;
            }
        }
    }
}

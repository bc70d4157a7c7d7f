//! Keys of roots in a token by PKCS #11 (OASIS, version 2.40): made there, not extractable, and used by their label. What signs is the
//! token; what is signed is the SHA-256 of a certificate, by `CKM_ECDSA` on P-256.

use crate::root_key::RootKey;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use ring::digest::{SHA256, digest};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use thiserror::Error as ThisError;

/// `prime256v1` as `CKA_EC_PARAMS` has it.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// An `OCTET STRING` of 65 bytes, which `CKA_EC_POINT` is.
const POINT_HEADER: [u8; 2] = [0x04, 0x41];
/// Bytes of an uncompressed point.
const POINT_BYTES: usize = 65;

/// Errors of tokens.
#[derive(Debug, ThisError)]
pub enum TokenError {
    /// The module cannot be loaded or begun.
    #[error("{}: cannot load the module of PKCS #11", path.display())]
    Module {
        /// The module.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Error,
    },
    /// No slot has a token of this label.
    #[error("no token has the label `{0}`")]
    NoToken(String),
    /// The token refuses to be opened.
    #[error("the token cannot be opened: is the PIN right?")]
    Login(#[source] Error),
    /// The token failed.
    #[error("the token cannot {what}")]
    Operation {
        /// What it was to do.
        what: &'static str,
        /// The cause.
        #[source]
        source: Error,
    },
    /// A key is there more than once, or not on P-256.
    #[error("the token has no one key on P-256 with the label `{0}`")]
    NoOneKey(String),
}

fn cannot(what: &'static str) -> impl FnOnce(Error) -> TokenError {
    move |source| TokenError::Operation { what, source }
}

/// A token.
#[derive(Debug)]
pub struct Token {
    module: Pkcs11,
    slot: Slot,
    pin: AuthPin,
}

/// A key in a token.
struct TokenKey {
    session: Mutex<Session>,
    private: ObjectHandle,
    point: Vec<u8>,
}

impl Token {
    /// Loads a module, and finds the token of this label.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open(module: &Path, label: &str, pin: &str) -> Result<Self, TokenError> {
        let failed = |source| TokenError::Module { path: module.to_owned(), source };
        let loaded = Pkcs11::new(module).map_err(failed)?;
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match loaded.initialize(arguments) {
            // A module is begun once in a process, whoever does it.
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(source) => return Err(failed(source)),
        }
        let slots = loaded.get_slots_with_token().map_err(cannot("list its slots"))?;
        for slot in slots {
            let info = loaded.get_token_info(slot).map_err(cannot("say what it is"))?;
            if info.label().trim_end() == label {
                return Ok(Self { module: loaded, slot, pin: AuthPin::new(pin.trim().into()) });
            }
        }
        Err(TokenError::NoToken(label.to_owned()))
    }

    fn session(&self) -> Result<Session, TokenError> {
        let session = self.module.open_rw_session(self.slot).map_err(cannot("open a session"))?;
        match session.login(UserType::User, Some(&self.pin)) {
            // A login is the token's and not a session's.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(TokenError::Login(error)),
        }
    }

    /// Makes a key on P-256 with this label, which never leaves the token.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn make(&self, label: &str) -> Result<RootKey, TokenError> {
        let session = self.session()?;
        let name = || Attribute::Label(label.as_bytes().to_vec());
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::KeyType(KeyType::EC),
            Attribute::EcParams(P256.to_vec()),
            Attribute::Verify(true),
            name(),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            name(),
        ];
        let made = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private);
        let (public, private) = made.map_err(cannot("make a key"))?;
        let point = point(&session, public)?;
        let point = point.ok_or_else(|| TokenError::NoOneKey(label.to_owned()))?;
        Ok(Box::new(TokenKey { session: Mutex::new(session), private, point }))
    }

    /// Finds the key with this label; none where there is none.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn find(&self, label: &str) -> Result<Option<RootKey>, TokenError> {
        let session = self.session()?;
        let of_class = |class| {
            let wanted = [Attribute::Class(class), Attribute::Label(label.as_bytes().to_vec())];
            session.find_objects(&wanted).map_err(cannot("find a key"))
        };
        let (private, public) =
            (of_class(ObjectClass::PRIVATE_KEY)?, of_class(ObjectClass::PUBLIC_KEY)?);
        let no_one = || TokenError::NoOneKey(label.to_owned());
        let (private, public) = match (&private[..], &public[..]) {
            ([], _) => return Ok(None),
            ([private], [public]) => (*private, *public),
            _ => return Err(no_one()),
        };
        let point = point(&session, public)?.ok_or_else(no_one)?;
        Ok(Some(Box::new(TokenKey { session: Mutex::new(session), private, point })))
    }
}

/// The uncompressed point of a public key; none where it is of another curve.
fn point(session: &Session, key: ObjectHandle) -> Result<Option<Vec<u8>>, TokenError> {
    let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
    let found = session.get_attributes(key, &wanted).map_err(cannot("show a public key"))?;
    let is_p256 = found.iter().any(|one| matches!(one, Attribute::EcParams(it) if it == &P256));
    let point = found.into_iter().find_map(|one| match one {
        Attribute::EcPoint(bytes) => {
            // Some modules leave the header out.
            let bare = bytes.strip_prefix(&POINT_HEADER).filter(|it| it.len() == POINT_BYTES);
            Some(bare.map_or_else(|| bytes.clone(), <[u8]>::to_vec))
        }
        _ => None,
    });
    Ok(point.filter(|point| is_p256 && point.len() == POINT_BYTES && point.first() == Some(&4)))
}

impl PublicKeyData for TokenKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for TokenKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = digest(&SHA256, message);
        let signed = session.sign(&Mechanism::Ecdsa, self.private, hash.as_ref());
        let signed = signed.map_err(|_| rcgen::Error::RemoteKeyError)?;
        let fixed: [u8; 64] = signed.try_into().map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(ecdsa_signature(&fixed))
    }
}

/// `Ecdsa-Sig-Value` (RFC 3279, 2.2.3) of two numbers of 32 bytes each.
fn ecdsa_signature(fixed: &[u8; 64]) -> Vec<u8> {
    let (r, s) = fixed.split_at(32);
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for number in [r, s] {
                writer.next().write_bigint_bytes(number, true);
            }
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_has_no_byte_that_it_does_not_need() {
        let mut fixed = [0; 64];
        fixed[31] = 0x7f;
        fixed[32] = 0x80;
        let der = ecdsa_signature(&fixed);
        let mut expected = vec![0x30, 0x26, 0x02, 0x01, 0x7f, 0x02, 0x21, 0x00, 0x80];
        expected.extend([0; 31]);
        assert_eq!(der, expected);
    }
}

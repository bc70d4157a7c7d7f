//! Authorities of catalogs: a root that may stay offline, issuing certificates with wrapped keys, and leaves of devices.
//!
//! There is one algorithm in every chain, ECDSA on P-256 with SHA-256. What is issued is read by another verifier, webpki,
//! before it is used: a root and an issuing certificate with a leaf of each profile.
//!
//! With the feature `pkcs11`, keys of roots may be in a token.

pub mod authority;
pub mod issuer;
pub mod lint;
pub mod pem;
pub mod request;
pub mod root_key;
pub mod server_certificate;
#[cfg(feature = "pkcs11")]
pub mod token;
pub mod validity;
pub mod wrapping;

mod certificate;

pub use certificate::IssuingError;

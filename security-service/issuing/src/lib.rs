//! Authorities of catalogs: a root that may stay offline, issuing certificates with wrapped keys, and leaves of devices.
//!
//! There is one algorithm in every chain, ECDSA on P-256 with SHA-256. What is issued is read by another verifier, webpki,
//! before it is used: a root and an issuing certificate with a leaf of each profile.

pub mod authority;
pub mod issuer;
pub mod lint;
pub mod server_certificate;
pub mod wrapping;

mod certificate;

pub use certificate::IssuingError;

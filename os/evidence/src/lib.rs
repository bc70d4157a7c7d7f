//! What a device attests, and how that is verified: the same code on the device and in the service.
//!
//! A device sends [`claims`], a quote of PCR 8 by its attestation key, and keys that are certified by it. [`verify()`] takes
//! these bytes and returns what they attest as one value; what it does not return was only said. All of it is bound to one
//! TLS connection by the [`qualifying`] data.
//!
//! Nothing here does I/O or knows the time. [`command`] makes the bytes that a TPM is sent, and [`response`] reads what it
//! answers; `os/linux` carries them. Structures are those of the TPM 2.0 Library, revision 1.59, for keys of P-256 and
//! SHA-256 alone. What only the service links is behind the feature `service`.

pub mod attest;
pub mod claims;
pub mod command;
pub mod config;
pub mod credential;
pub mod device_id;
pub mod exchange;
pub mod http;
pub mod issued;
pub mod messages;
pub mod object;
pub mod policy;
pub mod public;
pub mod qualifying;
pub mod response;
pub mod schedule;
#[cfg(feature = "ring")]
pub mod service;
pub mod software;
pub mod transfer;
pub mod verify;

mod structure;

pub use structure::StructureError;
pub use verify::verify;

//! The Security Service as a program: its folder, settings, listeners, and the commands that make, run and examine it.

pub mod backup;
pub mod deliveries;
pub mod detection;
pub mod disk;
pub mod doctor;
pub mod files;
pub mod folder;
pub mod init;
pub mod issuing_request;
pub mod listener;
pub mod metrics;
pub mod roots;
pub mod run;
pub mod settings;
pub mod tls;
pub mod upkeep;
pub mod worker;

mod client_certificate;
mod deployments;
mod error;
mod postgres_tools;
mod repositories;
mod shared_stream;
#[cfg(feature = "pkcs11")]
mod token_roots;

pub use error::ServerError;

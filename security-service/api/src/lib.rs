//! Handlers of the Security Service: what devices ask on their port, and what people and tools ask on that of management.
//!
//! A handler reads a bounded request, asks the [domain](holdfast_service_domain) for a decision, has the
//! [store](holdfast_service_store) write it, and answers when that is done. It has no socket: the server hands it a
//! [`Peer`](peer::Peer), which can tell the TLS exporter of the connection.

pub mod catalogs;
pub mod checkpoints;
pub mod counts;
pub mod device_port;
pub mod issuers;
pub mod management;
pub mod peer;
pub mod providers;
pub mod release_files;
pub mod secret;
pub mod service;
pub mod session;
pub mod signed_releases;
pub mod symbolizer;
pub mod webhooks;

mod body;
mod refusal;
mod sign_in;
mod upload;

pub use refusal::Refusal;
pub use service::Service;

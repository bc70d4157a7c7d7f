//! Where alerts go: signed webhooks, mail by SMTP, and a collector of OpenTelemetry by OTLP over HTTP.
//!
//! Every receiver is somebody who may hang, answer without end, or lead elsewhere: an attempt has a deadline, an answer is not read
//! further than it matters, no redirect is followed, and a webhook reaches public addresses alone. Which alert is sent when, and how often
//! again, is decided elsewhere.

pub mod connect;
pub mod https_url;
pub mod mail;
pub mod message;
pub mod otlp;
pub mod sinks;
pub mod trust;
pub mod webhook;

mod error;
mod post;

pub use error::{SettingError, SinkError};

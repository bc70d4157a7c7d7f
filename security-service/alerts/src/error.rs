//! Errors of attempts, and of settings.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why an attempt has failed.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The receiver's name has no address that may be reached. Whether it has another is not said: names of the service's own network are
    /// nobody's matter.
    #[error("the name of the receiver has no public address")]
    NoAddress,
    /// No connection was made.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The handshake of TLS has failed.
    #[error("the handshake of TLS failed")]
    Handshake(#[source] io::Error),
    /// The request was not answered as HTTP is.
    #[error("there is no answer of HTTP")]
    Http(#[source] hyper::Error),
    /// The request cannot be made of what it consists of.
    #[error("the request cannot be made")]
    Request(#[source] hyper::http::Error),
    /// The receiver has answered something else than that it has taken the alert.
    #[error("the receiver answers {status}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Seconds after which it asks to be tried again.
        retry_after_s: Option<u64>,
        /// True if trying again is of no use.
        is_final: bool,
    },
    /// The collector has rejected records.
    #[error("the collector rejects {0} records")]
    Rejected(u64),
    /// The answer is not one of the protocol.
    #[error("the answer is not one of OTLP")]
    Answer(#[source] serde_json::Error),
    /// The answer is too large or broke off.
    #[error("the answer is too large, or broke off")]
    Body,
    /// It took too long.
    #[error("there was no answer in {0} s")]
    Deadline(u64),
    /// The body of the alert cannot be read.
    #[error("the alert cannot be read")]
    Alert(#[source] serde_json::Error),
    /// The mail cannot be made.
    #[error("the mail cannot be made")]
    Mail(#[source] lettre::error::Error),
    /// The mail was not taken.
    #[error("the server of mail has not taken it")]
    Smtp(#[source] lettre::transport::smtp::Error),
}

impl SinkError {
    /// True if trying again is of no use: what was sent is what is wrong.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Status { is_final, .. } => *is_final,
            Self::Rejected(_) | Self::Alert(_) | Self::Mail(_) | Self::Request(_) => true,
            _ => false,
        }
    }

    /// Returns the seconds after which the receiver asks to be tried again.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Status { retry_after_s, .. } => *retry_after_s,
            _ => None,
        }
    }
}

/// Why sinks cannot be set up as the settings have them.
#[derive(Debug, Error)]
pub enum SettingError {
    /// A file cannot be read.
    #[error("alerts.{setting}: cannot read {}", path.display())]
    File {
        /// Its setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A secret can be read by others.
    #[error("alerts.{setting}: {} can be read by others; run `chmod 600`", path.display())]
    OpenToOthers {
        /// Its setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A setting is not as it has to be.
    #[error("alerts.{setting}: {rule}")]
    Rule {
        /// The setting.
        setting: &'static str,
        /// What it has to be.
        rule: &'static str,
    },
    /// An address of mail is none.
    #[error(
        "alerts.mail.{setting}: `{text}` is no address of mail; write it as `name@example.com`"
    )]
    Mailbox {
        /// The setting.
        setting: &'static str,
        /// What it has.
        text: String,
        /// The cause.
        #[source]
        source: lettre::address::AddressError,
    },
    /// TLS cannot be set up.
    #[error("TLS of alerts cannot be set up")]
    Tls(#[source] rustls::Error),
    /// TLS of mail cannot be set up.
    #[error("TLS of mail cannot be set up")]
    MailTls(#[source] lettre::transport::smtp::Error),
}

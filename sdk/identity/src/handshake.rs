//! A handshake of TLS 1.3, as the identity service signs it.

/// The side of a connection whose handshake is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

impl Role {
    /// Returns the service's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A handshake, as it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub(crate) role: Role,
    pub(crate) transcript_hash: [u8; 32],
}

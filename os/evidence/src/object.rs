//! What both commands and responses name: handles of keys and sessions in a TPM, keys as they lie outside it, and bounds.

use std::fmt;

/// Most bytes of a command or a response (the kernel's `TPM_BUFSIZE`).
pub const MAX_BYTES: usize = 4096;
/// Most bytes of a key's private part as it lies outside the TPM (`TPM2B_PRIVATE`), without its length.
pub const MAX_PRIVATE_BYTES: usize = 512;
/// Most random bytes that a TPM with SHA-256 gives at once.
pub const MAX_RANDOM_BYTES: u16 = 32;
/// Most properties that are asked for at once.
pub const MAX_PROPERTIES: u32 = 64;

/// Most bytes that are read at once of an index of the TPM's memory: what every TPM gives (PC Client Platform TPM Profile, 1.05,
/// `TPM_PT_NV_BUFFER_MAX`).
pub const MAX_NV_BYTES: u16 = 512;

/// An index of the TPM's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NvIndex(pub u32);

impl NvIndex {
    /// Where a TPM has the certificate of the endorsement key of [`Template::Endorsement`](crate::public::Template::Endorsement)
    /// (TCG EK Credential Profile 2.5, 2.2.1.4: ECC NIST P256 EK Certificate).
    pub const ENDORSEMENT_CERTIFICATE: Self = Self(0x01c0_000a);
}

/// A handle of a key or a session in the TPM. Whoever gets one flushes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(pub u32);

/// A primary key that the TPM has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Primary {
    /// Its handle.
    pub handle: Handle,
    /// Its `TPM2B_PUBLIC`.
    pub public: Vec<u8>,
}

/// A key that the TPM has made and handed out, encrypted below its parent.
#[derive(Clone, PartialEq, Eq)]
pub struct Created {
    private: Vec<u8>,
    public: Vec<u8>,
}

impl Created {
    pub(crate) fn new(private: Vec<u8>, public: Vec<u8>) -> Self {
        Self { private, public }
    }

    /// Returns its `TPM2B_PRIVATE`.
    #[must_use]
    pub fn private(&self) -> &[u8] {
        &self.private
    }

    /// Returns its `TPM2B_PUBLIC`.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created").field("public", &self.public).finish_non_exhaustive()
    }
}

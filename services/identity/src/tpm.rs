//! A TPM as this service speaks to it: commands one after the other, and whatever was loaded is flushed by its owner.

use holdfast_evidence::command;
use holdfast_evidence::command::Hierarchy;
use holdfast_evidence::object::Handle;
use holdfast_evidence::public::Template;
use holdfast_evidence::response::{self, Meaning, ResponseCode, ResponseError};
use holdfast_evidence::{StructureError, object};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;

/// The cause of an error that somebody else has defined.
pub type Cause = Box<dyn Error + Send + Sync>;

/// The way to a TPM.
pub trait Transport {
    /// Sends a command and waits for the response, no longer than a deadline.
    ///
    /// # Errors
    /// There is no response. The TPM is not asked again.
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, Cause>;
}

impl Transport for holdfast_linux::tpm::Tpm {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, Cause> {
        Ok(Self::transmit(self, command)?)
    }
}

/// Errors of a TPM's command. Each names the step.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// There is no response.
    #[error("cannot {0}")]
    Transport(&'static str, #[source] Cause),
    /// The TPM refuses the command.
    #[error("cannot {0}: the TPM answers with code {1}")]
    Refused(&'static str, ResponseCode),
    /// The response is not the command's.
    #[error("cannot {0}: the TPM's response is malformed")]
    Malformed(&'static str, #[source] StructureError),
    /// The TPM has failed before, and is not asked again until the next start.
    #[error("cannot {0}: the TPM has failed before")]
    Failed(&'static str),
    /// What it returns is well formed, and not what was asked for.
    #[error("cannot {0}: the TPM returns {1}")]
    Lies(&'static str, &'static str),
}

/// A TPM. After a command without a response, in failure mode, and after a response that is none of the command's, it has
/// failed and is asked no more.
pub struct Tpm {
    /// `None` once it was closed: what it may still have loaded is flushed by the kernel then.
    transport: RefCell<Option<Box<dyn Transport>>>,
    has_failed: Cell<bool>,
}

impl fmt::Debug for Tpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tpm").field("has_failed", &self.has_failed).finish_non_exhaustive()
    }
}

impl Tpm {
    /// Takes the way to a TPM.
    #[must_use]
    pub fn new(transport: Box<dyn Transport>) -> Self {
        Self { transport: RefCell::new(Some(transport)), has_failed: Cell::new(false) }
    }

    /// True once it is asked no more.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    /// Sends a command and reads its response. `step` says what for, as an infinitive.
    ///
    /// # Errors
    /// See [`TpmError`].
    pub fn ask<T>(
        &self,
        step: &'static str,
        command: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, ResponseError>,
    ) -> Result<T, TpmError> {
        if self.has_failed() {
            return Err(TpmError::Failed(step));
        }
        let sent = match self.transport.borrow_mut().as_mut() {
            Some(transport) => transport.transmit(command),
            None => return Err(TpmError::Failed(step)),
        };
        let response = sent.map_err(|cause| {
            // It stays open: the close of a device that does not answer waits for it.
            self.has_failed.set(true);
            TpmError::Transport(step, cause)
        })?;
        match read(&response) {
            Ok(value) => Ok(value),
            Err(ResponseError::Refused(code)) => {
                if code.meaning() == Meaning::Failure {
                    self.has_failed.set(true);
                }
                Err(TpmError::Refused(step, code))
            }
            Err(ResponseError::Malformed(error)) => {
                self.close();
                Err(TpmError::Malformed(step, error))
            }
        }
    }

    /// Ends with a TPM that does not do what it is asked to: it may have loaded what nobody here knows the handle of.
    pub fn close(&self) {
        self.has_failed.set(true);
        self.transport.replace(None);
    }

    /// Returns the error of a TPM that returns something else than what was asked for, and ends with it.
    pub(crate) fn lies(&self, step: &'static str, what: &'static str) -> TpmError {
        self.close();
        TpmError::Lies(step, what)
    }

    /// Makes a primary key, and returns its `TPM2B_PUBLIC` with it.
    ///
    /// # Errors
    /// See [`TpmError`].
    pub fn primary(
        &self,
        step: &'static str,
        hierarchy: Hierarchy,
        template: &Template,
        unique: &[u8; 32],
    ) -> Result<(Loaded<'_>, Vec<u8>), TpmError> {
        let command = command::create_primary(hierarchy, template, unique);
        let object::Primary { handle, public } = self.ask(step, &command, response::primary)?;
        Ok((Loaded { tpm: self, handle }, public))
    }

    /// Loads a key that the TPM has made.
    ///
    /// # Errors
    /// See [`TpmError`].
    pub fn load(
        &self,
        step: &'static str,
        parent: &Loaded<'_>,
        key: &object::Created,
    ) -> Result<Loaded<'_>, TpmError> {
        let handle = self.ask(step, &command::load(parent.handle, key), response::loaded)?;
        Ok(Loaded { tpm: self, handle })
    }

    /// Starts a policy session.
    ///
    /// # Errors
    /// See [`TpmError`].
    pub fn policy_session(&self, step: &'static str) -> Result<Loaded<'_>, TpmError> {
        // A nonce goes into HMACs, and this session has none: any will do.
        let command = command::start_policy_session(&[0; 32]);
        let handle = self.ask(step, &command, response::session)?;
        Ok(Loaded { tpm: self, handle })
    }
}

/// A key or a session in the TPM, which is flushed with its owner.
#[derive(Debug)]
pub struct Loaded<'tpm> {
    tpm: &'tpm Tpm,
    handle: Handle,
}

impl Loaded<'_> {
    /// Returns the handle, for commands.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }
}

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        // A TPM that has failed is not asked: its device's close flushes what is left, or its reset does.
        if self.tpm.has_failed() {
            return;
        }
        let command = command::flush_context(self.handle);
        let flushed = self.tpm.ask("flush a key or a session", &command, response::done);
        if flushed.is_err() && !self.tpm.has_failed() {
            // A TPM that keeps what it should forget would be full one day.
            self.tpm.close();
        }
    }
}

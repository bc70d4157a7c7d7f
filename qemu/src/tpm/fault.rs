//! Ways in which a TPM fails.

use std::time::Duration;

/// What is wrong with a TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TpmFault {
    /// It is in failure mode: `TPM_RC_FAILURE` is its answer to everything.
    FailureMode,
    /// It answers so many commands after each reset and then none, until the guest gives one up.
    Silent {
        /// The commands that it answers.
        after: usize,
    },
    /// It takes so much longer for each answer.
    Slow(Duration),
}

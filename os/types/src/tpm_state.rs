//! The state of a device's TPM, as one word for all who say it.

use serde::{Deserialize, Serialize};

/// The state of a device's TPM: what the boot loader found, init's status says, and evidence claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TpmState {
    /// The TPM answers, and the boot loader has extended PCR 8.
    Ok,
    /// The board has a TPM that does not answer, or answers with errors.
    Failed,
    /// The board has none.
    None,
}

impl TpmState {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Failed, Self::None];

    /// Name of the property of `/chosen` in the kernel's device tree that holds the [word](Self::word), with a NUL behind it.
    /// The signed tree has it as `failed`, on boards that can have a TPM alone; the boot script sets it.
    pub const PROPERTY: &str = "holdfast,tpm";

    /// Returns the state as a word: `ok`, `failed` or `none`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::None => "none",
        }
    }

    /// Returns the state of that word; `None` where it is none of them.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_a_word_of_its_own_and_no_other_word_is_one() {
        for state in TpmState::ALL {
            assert_eq!(TpmState::from_word(state.word()), Some(state));
        }
        for word in ["", "OK", "ok ", "ok\0"] {
            assert_eq!(TpmState::from_word(word), None, "{word}");
        }
    }
}

//! The line in which init says how the device stands, and reading it back.

use crate::console_line::ConsoleLine;
use crate::slots::{BootState, Phase, Slot, SlotState};
use holdfast_types::TpmState;
use std::fmt;

/// Text in front of the fields.
const MARK: &str = "status: ";

/// The status of a device.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// The slot that runs.
    pub slot: Slot,
    /// The phase of that slot.
    pub phase: Phase,
    /// The boot state; none where it cannot be read.
    pub boot_state: Option<BootState>,
    /// Name of the image.
    pub image: String,
    /// Version of the image.
    pub version: String,
    /// The board.
    pub board: String,
    /// The release's rollback index.
    pub rollback_index: u32,
    /// The device's floor.
    pub floor: u32,
    /// The state of the TPM; [`TpmState::None`] also in a log of a release that did not say it.
    pub tpm: TpmState,
    /// The reason for which the last run ended, in words.
    pub last_reset: String,
}

/// A log that holds no status, or a damaged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// No line says it.
    #[error("no line of the log has init's `status:`")]
    None,
    /// A field of the last such line is missing or not understood.
    #[error("the last `status:` has no usable {0}")]
    Field(&'static str),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}slot={} phase={}", self.slot.letter(), self.phase.as_str())?;
        if let Some(BootState { slot, a, b }) = &self.boot_state {
            write!(f, " next={} tries_a={} tries_b={}", slot.letter(), a.tries, b.tries)?;
            write!(f, " good_a={} good_b={}", u8::from(a.good), u8::from(b.good))?;
        }
        let Self { board, rollback_index, .. } = self;
        write!(f, " image={} version={} board={board}", self.image, self.version)?;
        // The reason is the last field: it goes on to the end of the line.
        write!(f, " rollback_index={rollback_index} floor={} ", self.floor)?;
        write!(f, "tpm={} last_reset={}", self.tpm.word(), self.last_reset)
    }
}

impl Status {
    /// The last status in a log of the console.
    ///
    /// # Errors
    /// See [`StatusError`].
    pub fn last_in(log: &str) -> Result<Self, StatusError> {
        let line = log
            .lines()
            .rev()
            .find_map(|line| {
                let text = ConsoleLine::read(line).text;
                Some(text.strip_prefix("init: ")?.strip_prefix(MARK)?.to_owned())
            })
            .ok_or(StatusError::None)?;
        let (fields, last_reset) =
            line.split_once(" last_reset=").ok_or(StatusError::Field("last_reset"))?;
        let optional = |name: &str| {
            fields.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let field = |name: &'static str| optional(name).ok_or(StatusError::Field(name));
        let number =
            |name: &'static str| field(name)?.parse().map_err(|_| StatusError::Field(name));
        let slot =
            |name: &'static str| Slot::from_letter(field(name)?).ok_or(StatusError::Field(name));
        let phases = [Phase::Committed, Phase::Staged, Phase::Trying, Phase::FallingBack];
        let boot_state = match optional("next") {
            None => None,
            Some(_) => {
                let tries = |name| Ok(u8::try_from(number(name)?).unwrap_or(u8::MAX));
                let good = |name| Ok(number(name)? == 1);
                Some(BootState {
                    slot: slot("next")?,
                    a: SlotState { tries: tries("tries_a")?, good: good("good_a")? },
                    b: SlotState { tries: tries("tries_b")?, good: good("good_b")? },
                })
            }
        };
        let phase = field("phase")?;
        Ok(Self {
            slot: slot("slot")?,
            phase: phases
                .into_iter()
                .find(|known| known.as_str() == phase)
                .ok_or(StatusError::Field("phase"))?,
            boot_state,
            image: field("image")?.to_owned(),
            version: field("version")?.to_owned(),
            board: field("board")?.to_owned(),
            rollback_index: number("rollback_index")?,
            floor: number("floor")?,
            tpm: match optional("tpm") {
                None => TpmState::None,
                Some(word) => TpmState::from_word(word).ok_or(StatusError::Field("tpm"))?,
            },
            last_reset: last_reset.trim_end().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_a_log_as_it_was_written() {
        let status = Status {
            slot: Slot::B,
            phase: Phase::Trying,
            boot_state: Some(BootState::factory()),
            image: "hello".to_owned(),
            version: "1.2.3".to_owned(),
            board: "qemu-virt".to_owned(),
            rollback_index: 4,
            floor: 2,
            tpm: TpmState::Failed,
            last_reset: "kernel panic: a = b".to_owned(),
        };
        let unknown = Status { boot_state: None, ..status.clone() };
        for expected in [status, unknown] {
            let log = format!("[  1.0] init: {expected}\r\n[  2.0] hello: heartbeat 1\n");
            assert_eq!(Status::last_in(&log), Ok(expected));
        }
        assert_eq!(Status::last_in("hello: heartbeat"), Err(StatusError::None));
        let line = |tpm| {
            format!(
                "init: status: slot=b phase=trying image=pump version=1.0.0 board=x rollback_index=4 floor=2 \
                 {tpm}last_reset=power-on"
            )
        };
        for (tpm, expected) in [
            ("", Ok(TpmState::None)),
            ("tpm=ok ", Ok(TpmState::Ok)),
            ("tpm=fine ", Err(StatusError::Field("tpm"))),
        ] {
            assert_eq!(Status::last_in(&line(tpm)).map(|status| status.tpm), expected, "{tpm}");
        }
        let cut = "init: status: slot=b last_reset=x";
        assert_eq!(Status::last_in(cut), Err(StatusError::Field("phase")));
    }
}

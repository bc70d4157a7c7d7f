//! The slot that runs: whether it may, how it stands, and committing it.

use crate::floors::Floors;
use crate::log::Log;
use holdfast_lifecycle::kernel_fault::kernel_fault;
use holdfast_lifecycle::slots::{
    BootState, CommandLineError, Floor, FloorError, LastReset, Phase, RootTable, RunningSlot, Slot,
    StageError, Status, last_reset,
};
use holdfast_linux::boot_state::BootStateDevice;
use holdfast_linux::direct::Direct;
use holdfast_linux::watchdog::Watchdog;
use holdfast_linux::{PathError, block, boot_log, file, measured_boot};
use holdfast_sandbox::component::ImageDescription;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_sandbox::held::{Held, Running};
use holdfast_sandbox::wire::SlotPart;
use holdfast_types::event::init as event;
use holdfast_types::{TpmState, Version};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Name of the partition with the boot state.
pub(crate) const PARTITION: &str = "bootstate";
const COMMAND_LINE: &str = "/proc/cmdline";
/// Longest command line of an ARM kernel.
const COMMAND_LINE_BYTES: usize = 1024;

/// A release that must not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("there is no {COMMAND_LINE}")]
    NoCommandLine,
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    #[error("the signed command line is for board {0}, the root file system for {1}")]
    OtherBoard(String, String),
    #[error("this release is refused")]
    Floor(#[from] FloorError),
}

/// A boot state that was not saved, or a release that cannot be staged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("there is no partition {0}")]
    NoPartition(String),
    #[error("no copy of the boot state is valid")]
    Unknown,
    #[error(transparent)]
    Stage(#[from] StageError),
}

/// The slots, as the boot state and the command line have them.
#[derive(Debug)]
pub(crate) struct Slots {
    device: Option<BootStateDevice>,
    status: Status,
    root: RootTable,
    version: Version,
    committed: bool,
    last_reset: LastReset,
    kernel_fault: Option<u32>,
}

impl Slots {
    /// Refuses a release that must not run. Everything else can wait: see [`look`](Self::look).
    pub(crate) fn prepare(
        log: &Log,
        image: &ImageDescription,
        floors: &impl Floors,
    ) -> Result<Self, SlotError> {
        let bytes = file::read_bounded(Path::new(COMMAND_LINE), COMMAND_LINE_BYTES)?;
        let line = bytes.ok_or(SlotError::NoCommandLine)?;
        let line = String::from_utf8_lossy(&line);
        let release = RunningSlot::from_command_line(&line)?;
        // The kernel runs from it, so it is there.
        let table = RootTable::from_command_line(&line);
        let root = table.ok_or(CommandLineError("verity table"))?;
        // The command line is signed with the root hash, so that the two belong together: where they
        // differ, the release was put together wrongly, and its grants are those of another board.
        if release.board != image.board {
            return Err(SlotError::OtherBoard(release.board, image.board.clone()));
        }
        let floor = Floor(u32::try_from(floors.of(ReleaseSubject::Os)).unwrap_or(u32::MAX));
        let status = Status {
            slot: release.slot,
            phase: Phase::Trying,
            boot_state: None,
            image: image.name.clone(),
            version: image.version.to_string(),
            board: release.board.clone(),
            rollback_index: release.rollback_index,
            floor: floor.0,
            tpm: TpmState::Failed,
            last_reset: LastReset::Unknown.to_string(),
        };
        let version = image.version;
        let mut slots = Self {
            device: None,
            status,
            root,
            version,
            committed: false,
            last_reset: LastReset::Unknown,
            kernel_fault: None,
        };
        // It would be refused at each start, so that its tries go at once and the boot loader takes
        // the other slot.
        if let Err(error) = floor.admit(&release) {
            slots.give_up(log);
            return Err(error.into());
        }
        Ok(slots)
    }

    /// Reads how the device stands and why it was reset, says it, and gives a good slot its tries back.
    ///
    /// This comes before the first package is looked at: whatever an app does to this run from then on, a
    /// good slot is booted again.
    pub(crate) fn look(&mut self, log: &Log, watchdog: Option<&Watchdog>) {
        self.device = open(log);
        let boot_state = read(log, self.device.as_ref());
        // Taken once: this run's own log takes its place, and says why the next run is started.
        let earlier = boot_log::take().unwrap_or_else(|error| {
            log.failure(event::LAST_LOG_READ_FAILED, "cannot read the log of the last run", &error);
            None
        });
        let fired = watchdog.is_some_and(Watchdog::has_fired);
        self.status.boot_state = boot_state;
        self.status.phase = boot_state.map_or(Phase::Trying, |state| state.phase(self.status.slot));
        let last_reset = last_reset(earlier.as_deref(), fired);
        self.status.last_reset = last_reset.to_string();
        self.last_reset = last_reset.clone();
        self.kernel_fault = earlier.and_then(|earlier| kernel_fault(&earlier, self.version));
        self.status.tpm = tpm(log);
        self.say(log);
        if let Some(before) = boot_state {
            // A slot on trial keeps the tries it has: that is the boot loader's count.
            self.renew(log, before, &last_reset);
        }
    }

    /// A boot state that cannot be saved is said, and saved with the commit where it then can be.
    fn renew(&mut self, log: &Log, before: BootState, last_reset: &LastReset) {
        let after = before.renew(self.status.slot, last_reset);
        match self.save(&before, &after) {
            Ok(()) => self.status.boot_state = Some(after),
            Err(error) => {
                let what = "cannot give the slot its tries back";
                log.failure(event::SLOT_TRIES_PERSIST_FAILED, what, &error);
            }
        }
    }

    /// Tries once more to give a good slot its tries back. Nothing else changes: a run that has failed is no reason to
    /// raise a floor.
    pub(crate) fn renew_again(&mut self, log: &Log) {
        if let Some(before) = self.status.boot_state {
            self.renew(log, before, &LastReset::Unknown);
        }
    }

    fn say(&self, log: &Log) {
        log.status(&self.status.to_string());
    }

    /// The slot that runs.
    pub(crate) fn running(&self) -> Slot {
        self.status.slot
    }

    /// The phase of the device with its slots.
    pub(crate) fn phase(&self) -> Phase {
        self.status.phase
    }

    /// The release's rollback index.
    pub(crate) fn rollback_index(&self) -> u64 {
        self.status.rollback_index.into()
    }

    /// The reason for which the last run ended.
    pub(crate) fn last_reset(&self) -> &LastReset {
        &self.last_reset
    }

    /// Address at which the kernel has failed in the last run, if the same release ran then.
    pub(crate) fn kernel_fault(&self) -> Option<u32> {
        self.kernel_fault
    }

    /// True while the slot that runs is good: committed in this boot, or in an earlier one.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self.status.phase, Phase::Committed | Phase::Staged)
    }

    /// True while the slot that runs has not been good before: if it fails now, it fails as a
    /// release.
    pub(crate) fn is_on_trial(&self) -> bool {
        self.status.phase == Phase::Trying
    }

    /// The slot that runs is good and gets all its tries again; the floor rises to its index. How the device stands
    /// then, for the log.
    pub(crate) fn commit(
        &mut self,
        log: &Log,
        floors: &mut impl Floors,
    ) -> Result<String, SaveError> {
        self.committed = true;
        let Status { slot: running, rollback_index, floor, .. } = self.status;
        let rises = rollback_index > floor;
        let before = self.status.boot_state.unwrap_or(BootState::unknown());
        let after = before.commit(running, !rises);
        self.save(&before, &after)?;
        // Behind the commit: cut in between, and the next healthy boot raises it.
        if rises {
            self.status.floor = rollback_index;
            floors.raise(log, ReleaseSubject::Os, rollback_index.into());
        }
        self.status.boot_state = Some(after);
        self.status.phase = after.phase(running);
        Ok(self.status.to_string())
    }

    fn save(&self, before: &BootState, after: &BootState) -> Result<(), SaveError> {
        // Most starts change nothing, and the medium wears by each write.
        if before == after {
            return Ok(());
        }
        let device = self.device.as_ref();
        let device = device.ok_or_else(|| SaveError::NoPartition(PARTITION.to_owned()))?;
        Ok(device.save(after)?)
    }

    /// Returns the release of the OS that runs, with its floor.
    pub(crate) fn held(&self) -> Held {
        let running = Running {
            version: self.version,
            rollback_index: self.status.rollback_index.into(),
            root_hash: self.root.root_hash,
            data_bytes: self.root.data_bytes,
            on_trial: self.is_on_trial() && !self.committed,
        };
        let floor = self.status.floor.into();
        Held {
            subject: ReleaseSubject::Os,
            floor,
            running: Some(running),
            waits: self.status.phase == Phase::Staged,
            disagreed: self.last_reset.is_disagreement(),
        }
    }

    /// The other slot is about to be written.
    pub(crate) fn announce(&mut self, log: &Log) -> Result<(), SaveError> {
        let before = self.status.boot_state.ok_or(SaveError::Unknown)?;
        self.change(log, before.announce(self.status.slot)?)
    }

    /// A part of the other slot, which must have been announced, past the cache.
    pub(crate) fn other_part(&self, part: SlotPart) -> Result<OwnedFd, SaveError> {
        let running = self.status.slot;
        let state = self.status.boot_state.ok_or(SaveError::Unknown)?;
        // What could not be staged was not announced: the boot loader might still start it while it
        // is written.
        state.stage(running)?;
        Ok(Direct::open(&partition(part, running.other())?)?.into_descriptor())
    }

    /// A part of the slot that runs, for reading.
    pub(crate) fn running_part(&self, part: SlotPart) -> Result<OwnedFd, SaveError> {
        // For reading alone: the agent copies blocks of it, and must not be able to write what the system runs from.
        Ok(Direct::open_to_read(&partition(part, self.status.slot)?)?.into_descriptor())
    }

    /// The other slot is written and verified, and to be tried at the next start.
    pub(crate) fn stage(&mut self, log: &Log) -> Result<(), SaveError> {
        let before = self.status.boot_state.ok_or(SaveError::Unknown)?;
        self.change(log, before.stage(self.status.slot)?)
    }

    fn change(&mut self, log: &Log, after: BootState) -> Result<(), SaveError> {
        // In memory only when it is on the medium: what init says of the slots is what the boot
        // loader finds.
        self.save(&self.status.boot_state.unwrap_or(BootState::unknown()), &after)?;
        self.status.boot_state = Some(after);
        self.status.phase = after.phase(self.status.slot);
        self.say(log);
        Ok(())
    }

    /// Takes the tries of the slot that runs: it is refused, and would be each time.
    fn give_up(&mut self, log: &Log) {
        self.device = open(log);
        if let Some(before) = read(log, self.device.as_ref())
            && let Err(error) = self.save(&before, &before.does_not_verify(self.status.slot))
        {
            let what = "cannot take the tries of the slot that is refused";
            log.failure(event::SLOT_GIVE_UP_FAILED, what, &error);
        }
    }
}

/// Returns the state of the TPM, which changes nothing about the boot, and says it where it has failed.
fn tpm(log: &Log) -> TpmState {
    match measured_boot::state() {
        Ok(TpmState::Failed) => {
            let text = "the TPM does not answer: nothing uses it in this run";
            log.warning(event::TPM_FAILED, text);
            TpmState::Failed
        }
        Ok(state) => state,
        Err(error) => {
            let what = "cannot read what the boot loader says of the TPM";
            log.failure(event::TPM_STATE_READ_FAILED, what, &error);
            TpmState::Failed
        }
    }
}

fn partition(part: SlotPart, slot: Slot) -> Result<PathBuf, SaveError> {
    let name = format!("{}-{}", part.name(), slot.letter());
    block::partition_beside_root(&name)?.ok_or(SaveError::NoPartition(name))
}

fn open(log: &Log) -> Option<BootStateDevice> {
    match block::partition_beside_root(PARTITION) {
        Ok(Some(path)) => BootStateDevice::open(&path)
            .inspect_err(|error| {
                log.failure(event::BOOT_STATE_OPEN_FAILED, "cannot open the boot state", error);
            })
            .ok(),
        Ok(None) => {
            let text = format!("there is no partition {PARTITION}");
            log.warning(event::PARTITION_MISSING, &text);
            None
        }
        Err(error) => {
            let what = format!("cannot look for partition {PARTITION}");
            log.failure(event::PARTITION_LOOKUP_FAILED, &what, &error);
            None
        }
    }
}

fn read(log: &Log, device: Option<&BootStateDevice>) -> Option<BootState> {
    match device?.read() {
        Ok(copies) => {
            if copies.state().is_none() {
                log.warning(event::BOOT_STATE_DAMAGED, "no copy of the boot state is valid");
            }
            copies.state()
        }
        Err(error) => {
            log.failure(event::BOOT_STATE_READ_FAILED, "cannot read the boot state", &error);
            None
        }
    }
}

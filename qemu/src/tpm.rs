//! The TPM of a machine: swtpm as a process of the harness's own, at which QEMU's TIS device ends, and ways in which it fails.
//!
//! It begins with the machine and is reset with it (QEMU sends swtpm `CMD_INIT`), so that its PCRs are zero at each start of the
//! guest; seeds and what it keeps lie in a directory.

mod fault;
mod relay;

pub use self::fault::TpmFault;
use self::relay::Relay;
use crate::HarnessError;
use crate::option_value::value;
use crate::process::{Process, START_WITHIN};
use crate::settings;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The emulator of a TPM.
pub const PROGRAM: &str = "swtpm";
/// Names of what it has in the guest's directory. swtpm splits its options at commas and knows no way around that, so that it is
/// started there and takes these names.
const STATE: &str = "tpm-state";
const SOCKET: &str = "tpm-swtpm";
/// Name of the relay's socket.
const RELAY: &str = "tpm-relay";
const LOG: &str = "tpm-log";

/// A TPM that is plugged into a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tpm {
    /// Directory of its state, made where there is none; by itself one that goes with the guest's disk, and stays over
    /// [`start_again`](crate::machine::Machine::start_again).
    pub state: Option<PathBuf>,
    /// What is wrong with it.
    pub fault: Option<TpmFault>,
}

/// A TPM that runs.
#[derive(Debug)]
pub(crate) struct RunningTpm {
    relay: Option<Relay>,
    /// Path that QEMU connects to.
    socket: PathBuf,
    _process: Process,
}

impl Tpm {
    /// Starts it in the guest's directory.
    ///
    /// # Errors
    /// swtpm is missing, or does not take the state.
    pub(crate) fn start(&self, directory: &Path) -> Result<RunningTpm, HarnessError> {
        let at = |name: &str| directory.join(name);
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| HarnessError::File { operation, path, source }
        };
        let state = self.state.clone().unwrap_or_else(|| at(STATE));
        fs::create_dir_all(&state).map_err(failed("make", &state))?;
        if self.state.is_some() {
            let link = at(STATE);
            let _ = fs::remove_file(&link);
            let state = fs::canonicalize(&state).map_err(failed("find", &state))?;
            std::os::unix::fs::symlink(state, &link).map_err(failed("make", &link))?;
        }
        let socket = at(SOCKET);
        let _ = fs::remove_file(&socket);
        let log = at(LOG);
        let log_file = fs::File::create(&log).map_err(failed("create", &log))?;
        let child = Command::new(PROGRAM)
            .current_dir(directory)
            .args(["socket", "--tpm2", "--tpmstate", &format!("dir={STATE}")])
            .args(["--ctrl", &format!("type=unixio,path={SOCKET}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log_file)
            .spawn()
            .map_err(|source| HarnessError::Start { program: PROGRAM.to_owned(), source })?;
        let mut process = Process::new(child)?;
        let control = connect(&socket, &mut process, &log)?;
        let (relay, socket) = match self.fault {
            None => (None, socket),
            Some(fault) => {
                let path = at(RELAY);
                let _ = fs::remove_file(&path);
                (Some(Relay::listen(&path, control, fault)?), path)
            }
        };
        Ok(RunningTpm { relay, socket, _process: process })
    }
}

impl RunningTpm {
    /// Plugs it into the machine.
    pub(crate) fn plug_in(&self, command: &mut Command) {
        command
            .arg("-chardev")
            .arg(format!("socket,id=tpm-control,path={}", value(&self.socket)))
            .args(["-tpmdev", "emulator,id=tpm,chardev=tpm-control"])
            .args(["-device", "tpm-tis-device,tpmdev=tpm"]);
    }

    /// Codes of the commands that the guest has sent since the TPM was reset last; none where it has no fault.
    pub(crate) fn commands(&self) -> Vec<u32> {
        self.relay.as_ref().map(Relay::commands).unwrap_or_default()
    }
}

/// Connects to swtpm's control socket once it listens.
fn connect(socket: &Path, process: &mut Process, log: &Path) -> Result<UnixStream, HarnessError> {
    let deadline = Instant::now().checked_add(settings::scaled(START_WITHIN));
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            return Ok(stream);
        }
        let ended = matches!(process.try_wait(), Ok(Some(_)));
        if ended || deadline.is_some_and(|at| Instant::now() >= at) {
            let said = fs::read_to_string(log).unwrap_or_default();
            return Err(HarnessError::Tpm(said.trim().to_owned()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_directory_may_have_commas_and_its_state_lie_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let guest = directory.path().join("Meier, Anna");
        fs::create_dir(&guest).unwrap();
        let state = directory.path().join("kept, ü");
        for _ in 0..2 {
            let tpm = Tpm { state: Some(state.clone()), fault: None };
            let running = tpm.start(&guest).unwrap();
            let mut command = Command::new("qemu");
            running.plug_in(&mut command);
            let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
            let path = guest.to_string_lossy().replace(',', ",,");
            assert_eq!(arguments[1], format!("socket,id=tpm-control,path={path}/tpm-swtpm"));
        }
        let own = Tpm::default().start(directory.path()).unwrap();
        assert!(directory.path().join(STATE).is_dir());
        drop(own);
    }

    #[test]
    fn a_state_that_cannot_be_kept_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let tpm = Tpm { state: Some(file.clone()), fault: None };
        let error = tpm.start(directory.path()).unwrap_err().to_string();
        assert_eq!(error, format!("cannot make {}", file.display()));
    }
}

//! A machine: what an image is run on, with everything that is plugged into it.

use crate::HarnessError;
use crate::console::Console;
use crate::console_log::{ConsoleLog, Mirror};
pub use crate::guest::Guest;
use crate::model::Model;
use crate::option_value::value;
use crate::peer::{Peer, World};
use crate::probe::Probe;
use crate::process::{Process, START_WITHIN};
use crate::qmp::Qmp;
use crate::settings;
use crate::tpm::{RunningTpm, Tpm};
use holdfast_images::build;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddrV4;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-arm";
/// Size of the machine's flash, which QEMU wants to be given whole as a drive.
const FLASH_BYTES: u64 = 64 * 1024 * 1024;
/// Name of the log of writes.
pub(crate) const WRITE_LOG: &str = "writes";
/// Name of the socket of the serial line that apps can be granted.
pub(crate) const SERIAL_LINE: &str = "line";
/// Name of the socket for an app's debugger.
pub(crate) const DEBUG_SOCKET: &str = "debug-line";
/// Name of the peer's socket.
const PEER: &str = "peer";

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The disk image; never written, the guest works on a copy.
    pub image: PathBuf,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Count instructions: one CPU whose clock advances 2 ns for each, so that guest time repeats
    /// exactly (`-icount shift=1,sleep=off`).
    pub counted: bool,
    /// First time that the real-time clock shows, as QEMU's `-rtc base=` takes it.
    pub clock_base: Option<String>,
    /// Leave the boot loader out: QEMU starts the kernel that lies in slot A, unverified. For
    /// measuring what the boot loader costs.
    pub without_boot_loader: bool,
    /// How the boot loader's ROM gets into it.
    pub rom: Rom,
    /// Keep a log of everything that the guest writes; see [`Guest::written`].
    pub log_writes: bool,
    /// Number of processors; counting takes one.
    pub processors: u8,
    /// Sectors of the disk that take no write: the card says nothing and keeps what it had.
    pub lost_sectors: Vec<u64>,
    /// What is plugged into each of its network devices. There is one [`Peer`] at most.
    pub networks: Vec<Network>,
    /// What lies on a second card; whatever the guest writes there is gone with it.
    pub card: Option<PathBuf>,
    /// Where an app's debugger connects, which then has the line that is otherwise the probe's.
    pub debug_line: Option<DebugLine>,
    /// The TPM that is plugged in. Without one the board's is missing.
    pub tpm: Option<Tpm>,
    /// File to which [`run_on_terminal`](Self::run_on_terminal) copies what the guest prints.
    pub console_copy: Option<PathBuf>,
}

/// How the boot loader's ROM gets into the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rom {
    /// As a drive of flash that the guest can read and not write. QEMU 7.2 reads all 64 MiB of it at each start.
    Drive,
    /// Loaded at its address, for as much as there is of it. QEMU would let a guest write it, until it is started again.
    Loaded,
}

/// Where the debugger of an app finds the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugLine {
    /// At a TCP port of this host's loopback, for somebody who connects by hand.
    Tcp(u16),
    /// At [`Guest::debug_socket`]: guests that run side by side have no number to share.
    Socket,
}

/// What a network device of a machine is plugged into.
#[derive(Debug, Clone)]
pub enum Network {
    /// A [`Peer`], which plays this.
    Peer(World),
    /// QEMU's own network in user space, which leads to this host and beyond.
    User {
        /// Ports of this host's loopback that lead to TCP ports of the guest.
        forwards: Vec<(u16, u16)>,
    },
    /// QEMU's own network in user space, 203.0.113.0/24 (RFC 5737), which leads nowhere.
    Servers {
        /// As for [`User`](Self::User).
        forwards: Vec<(u16, u16)>,
        /// Those that the guest reaches: each connection to the address is a process of this command,
        /// which talks on its standard input and output.
        servers: Vec<(SocketAddrV4, String)>,
    },
    /// A cable to another machine, with nothing between the two.
    Cable {
        /// UNIX socket at which the ends meet.
        path: PathBuf,
        /// The end that is plugged into this machine.
        end: CableEnd,
    },
}

/// An end of a cable between two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CableEnd {
    /// The end of the machine that is started first and makes the socket. What it sends before the other end is there is lost.
    First,
    /// The end of the machine that connects to the socket. QEMU tries once, so that the socket must be there.
    Second,
}

impl Machine {
    /// A machine with the image's defaults.
    #[must_use]
    pub fn new(image: &Path, memory_mib: u32) -> Self {
        Self {
            image: image.to_owned(),
            memory_mib,
            counted: false,
            clock_base: None,
            without_boot_loader: false,
            rom: Rom::Loaded,
            log_writes: false,
            processors: 2,
            lost_sectors: Vec::new(),
            networks: Vec::new(),
            card: None,
            debug_line: None,
            tpm: None,
            console_copy: None,
        }
    }

    /// Copies the image, sparsely, and starts a guest on the copy. `mirror` sees the console; without one
    /// it goes to a file if the [`settings`] name a directory.
    ///
    /// # Errors
    /// The image cannot be read or copied, or QEMU does not start.
    pub fn start(&self, mirror: Option<Mirror>) -> Result<Guest, HarnessError> {
        let directory = self.directory()?;
        self.start_on(directory, mirror)
    }

    /// Starts a guest on the disk that an earlier guest has left.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_again(&self, earlier: Guest) -> Result<Guest, HarnessError> {
        let Guest { process, directory, peer, tpm, .. } = earlier;
        drop(process);
        drop((peer, tpm));
        self.start_on(directory, None)
    }

    /// Runs a guest whose console is the terminal, until it is quit with Ctrl-A x.
    ///
    /// # Errors
    /// As [`start`](Self::start), or QEMU ends with an error.
    pub fn run_on_terminal(&self) -> Result<(), HarnessError> {
        let directory = self.directory()?;
        let model = Model::of(&self.image)?;
        let mut command = self.command(model, directory.path())?;
        self.plug_in(model, &mut command, &directory.path().join(PEER));
        let _tpm = self.plug_tpm_in(model, &mut command, directory.path())?;
        match &self.console_copy {
            None => command.args(["-serial", "mon:stdio"]),
            // The same, said in full.
            Some(copy) => command
                .arg("-chardev")
                .arg(format!("stdio,id=terminal,mux=on,signal=off,logfile={}", value(copy)))
                .args(["-serial", "chardev:terminal", "-mon", "chardev=terminal,mode=readline"]),
        };
        if let Some(line) = self.debug_line {
            let line = line.character_device(directory.path());
            command.arg("-chardev").arg(line).args(model.second_line());
        } else if model == Model::Virt {
            command.args(["-device", "virtserialport,name=probe"]);
        }
        let status = command
            .status()
            .map_err(|source| HarnessError::Start { program: PROGRAM.to_owned(), source })?;
        if status.success() {
            return Ok(());
        }
        Err(HarnessError::Qmp(format!("QEMU ended with {status}")))
    }

    /// A fresh directory with a copy of the image.
    fn directory(&self) -> Result<TempDir, HarnessError> {
        let directory = tempfile::tempdir().map_err(|source| HarnessError::File {
            operation: "make",
            path: std::env::temp_dir(),
            source,
        })?;
        copy_sparse(&self.image, &directory.path().join("disk.img"))?;
        if !self.without_boot_loader && Model::of(&self.image)? == Model::Virt {
            let rom = directory.path().join("flash");
            copy_sparse(&build::rom_path(&self.image), &rom)?;
            if self.rom == Rom::Drive {
                fs::File::options()
                    .write(true)
                    .open(&rom)
                    .and_then(|file| file.set_len(FLASH_BYTES))
                    .map_err(|source| HarnessError::File {
                        operation: "extend",
                        path: rom.clone(),
                        source,
                    })?;
            }
        }
        Ok(directory)
    }

    fn start_on(&self, directory: TempDir, mirror: Option<Mirror>) -> Result<Guest, HarnessError> {
        let at = |name: &str| directory.path().join(name);
        let (qmp_path, probe_path) = (at("qmp"), at("probe"));
        let reset_path = at("reset");
        for socket in [
            &at(SERIAL_LINE),
            &at(DEBUG_SOCKET),
            &qmp_path,
            &reset_path,
            &probe_path,
            &at("debugger"),
            &at(PEER),
        ] {
            let _ = fs::remove_file(socket);
        }
        if self.log_writes {
            write(&at(WRITE_LOG), &[])?;
        }
        let qmp_listener = listen(&qmp_path)?;
        let probe_listener = listen(&probe_path)?;
        let reset_listener = listen(&reset_path)?;
        let world = self.networks.iter().find_map(|network| match network {
            Network::Peer(world) => Some(world.clone()),
            _ => None,
        });
        let model = Model::of(&self.image)?;
        let patience = model.patience();
        let peer = world.map(|world| Peer::listen(&at(PEER), world, patience)).transpose()?;
        let (mirror, complaints_mirror) = match (mirror, &settings::get().consoles) {
            (None, Some(consoles)) => {
                let ConsoleLog { console, complaints } = ConsoleLog::create(consoles, &self.image)?;
                (Some(console), Some(complaints))
            }
            (mirror, _) => (mirror, None),
        };
        let mut command = self.command(model, directory.path())?;
        self.plug_in(model, &mut command, &at(PEER));
        let tpm = self.plug_tpm_in(model, &mut command, directory.path())?;
        let mut process = command
            .args(["-monitor", "none", "-serial", "stdio"])
            .arg("-gdb")
            .arg(format!("unix:path={},server=on,wait=off", value(&at("debugger"))))
            .arg("-chardev")
            .arg(match self.debug_line {
                Some(line) => line.character_device(directory.path()),
                None => format!("socket,id=probe,path={}", value(&probe_path)),
            })
            .args(model.second_line())
            .args(match model {
                Model::Virt | Model::Imx6ulEvk => Vec::new(),
                Model::OrangePiPc => vec![
                    "-serial".to_owned(),
                    "null".to_owned(),
                    "-serial".to_owned(),
                    format!("unix:{},server=on,wait=off", value(&at(SERIAL_LINE))),
                ],
            })
            .arg("-qmp")
            .arg(format!("unix:{}", value(&qmp_path)))
            .arg("-qmp")
            .arg(format!("unix:{}", value(&reset_path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| HarnessError::Start { program: PROGRAM.to_owned(), source })?;
        let keyboard = process.stdin.take();
        let pipes = (process.stdout.take(), process.stderr.take());
        let mut process = Process::new(process)?;
        let (Some(stdout), Some(stderr)) = pipes else {
            return Err(HarnessError::Qmp("QEMU has no standard output".to_owned()));
        };
        let console = Console::collect(stdout, mirror);
        let complaints = Console::collect(stderr, complaints_mirror);
        let accept = |listener: &UnixListener, process: &mut Process| {
            accept(listener, process).map_err(|error| match error {
                HarnessError::Qmp(reason) => {
                    HarnessError::Qmp(format!("{reason}: {}", complaints.tail()))
                }
                other => other,
            })
        };
        // A debugger comes when it likes, in the probe's place.
        let probe_line = match self.debug_line {
            Some(_) => UnixStream::pair().map_err(|error| HarnessError::Qmp(error.to_string()))?.0,
            None => accept(&probe_listener, &mut process)?,
        };
        let probe = Probe::new(probe_line, patience);
        let mut negotiate = |listener| {
            let stream = accept(listener, &mut process)?;
            Qmp::negotiate(stream, patience).map_err(|error| match process.try_wait() {
                // Somebody has ended it meanwhile.
                Ok(Some(_)) => HarnessError::GuestDied {
                    waited_for: "its control socket".to_owned(),
                    tail: console.tail(),
                },
                _ => error,
            })
        };
        let (qmp, reset) = (negotiate(&qmp_listener)?, negotiate(&reset_listener)?);
        model.stand_in(&console, reset);
        let position = 0;
        Ok(Guest {
            console,
            position,
            qmp,
            probe,
            keyboard,
            process,
            tpm,
            directory,
            peer,
            patience,
        })
    }

    /// Starts the machine's TPM, if it has one, and plugs it in.
    fn plug_tpm_in(
        &self,
        model: Model,
        command: &mut Command,
        directory: &Path,
    ) -> Result<Option<RunningTpm>, HarnessError> {
        let Some(tpm) = &self.tpm else { return Ok(None) };
        if model != Model::Virt {
            return Err(HarnessError::NoTpm(self.image.clone()));
        }
        let running = tpm.start(directory)?;
        running.plug_in(command);
        Ok(Some(running))
    }
}

/// The device tree of `virt`, as QEMU makes it for these devices.
///
/// # Errors
/// QEMU is missing or refuses.
pub fn device_tree(memory_mib: u32) -> Result<Vec<u8>, HarnessError> {
    let failed = |source| HarnessError::Start { program: PROGRAM.to_owned(), source };
    let directory = tempfile::tempdir().map_err(failed)?;
    let path = directory.path().join("board.dtb");
    let mut arguments = Model::Virt.arguments(memory_mib);
    for argument in &mut arguments {
        if argument.starts_with("virt,") {
            *argument = format!("{argument},dumpdtb={}", value(&path));
        }
    }
    let output = Command::new(PROGRAM)
        .args(arguments)
        .args(["-smp", "2", "-display", "none"])
        .output()
        .map_err(failed)?;
    fs::read(&path).map_err(|_| {
        HarnessError::DeviceTree(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    })
}

fn accept(listener: &UnixListener, process: &mut Process) -> Result<UnixStream, HarnessError> {
    let deadline = Instant::now().checked_add(settings::scaled(START_WITHIN));
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(|e| HarnessError::Qmp(e.to_string()))?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(HarnessError::Qmp(error.to_string())),
        }
        if let Ok(Some(status)) = process.try_wait() {
            std::thread::sleep(Duration::from_millis(50));
            return Err(HarnessError::Qmp(format!("QEMU ended at once ({status})")));
        }
        if deadline.is_some_and(|at| Instant::now() >= at) {
            return Err(HarnessError::Qmp("QEMU did not connect".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn listen(path: &Path) -> Result<UnixListener, HarnessError> {
    let failed =
        |source| HarnessError::File { operation: "listen on", path: path.to_owned(), source };
    let listener = UnixListener::bind(path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), HarnessError> {
    fs::write(path, bytes).map_err(|source| HarnessError::File {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

/// Copies a file, holes left holes.
///
/// # Errors
/// One of the files cannot be used.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<(), HarnessError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| HarnessError::File { operation, path, source }
    };
    let mut source = fs::File::open(from).map_err(failed("open", from))?;
    let length = source.metadata().map_err(failed("examine", from))?.len();
    let mut target = fs::File::create(to).map_err(failed("create", to))?;
    target.set_len(length).map_err(failed("extend", to))?;
    let mut at = 0u64;
    // A file system that knows of no holes says that all of it is data: lseek(2).
    while let Some((begin, end)) = next_data(&source, at).map_err(failed("examine", from))? {
        source.seek(SeekFrom::Start(begin)).map_err(failed("read", from))?;
        target.seek(SeekFrom::Start(begin)).map_err(failed("write", to))?;
        let mut data = (&mut source).take(end.saturating_sub(begin));
        std::io::copy(&mut data, &mut target).map_err(failed("copy", from))?;
        at = end;
    }
    Ok(())
}

/// Where the first data from `at` on begin and end; `None` when there are none.
fn next_data(file: &fs::File, at: u64) -> std::io::Result<Option<(u64, u64)>> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(begin) => {
            let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(begin))?;
            Ok(Some((begin, end)))
        }
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_has_the_same_bytes_and_no_more_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        let mut file = fs::File::create(&from).unwrap();
        for at in [0, 1 << 20, (3 << 20) + 5] {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(b"data").unwrap();
        }
        file.set_len(8 << 20).unwrap();
        copy_sparse(&from, &to).unwrap();
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
        let blocks = |path| fs::metadata(path).unwrap().blocks();
        assert!(blocks(&to) <= blocks(&from), "{} of {}", blocks(&to), blocks(&from));
        fs::write(&from, "").unwrap();
        copy_sparse(&from, &to).unwrap();
        assert!(fs::read(&to).unwrap().is_empty());
    }
}

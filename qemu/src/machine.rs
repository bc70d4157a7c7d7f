//! A machine: what an image is run on, with everything that is plugged into it.

use crate::HarnessError;
use crate::console::Console;
use crate::debugger::Debugger;
use crate::model::Model;
use crate::peer::{Peer, World};
use crate::probe::Probe;
use crate::qmp::Qmp;
use crate::write_log::{self, Step};
use holdfast_images::{build, show};
use regex::Regex;
use std::fs;
use std::io::Write;
use std::net::SocketAddrV4;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-arm";
/// Size of the machine's flash, which QEMU wants to be given whole.
const FLASH_BYTES: u64 = 64 * 1024 * 1024;
/// Name of the log of writes.
const WRITE_LOG: &str = "writes";
/// Name of the socket of the serial line that apps can be granted.
const SERIAL_LINE: &str = "line";
/// Name of the peer's socket.
const PEER: &str = "peer";
/// Time for QEMU to open its sockets.
const START_WITHIN: Duration = Duration::from_secs(60);

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
    /// TCP port of this host's loopback for a debugger, which then has the line that is otherwise the
    /// probe's.
    pub debug_port: Option<u16>,
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
            log_writes: false,
            processors: 2,
            lost_sectors: Vec::new(),
            networks: Vec::new(),
            card: None,
            debug_port: None,
        }
    }

    /// Copies the image, sparsely, and starts a guest on the copy. `mirror` sees the console.
    ///
    /// # Errors
    /// The image cannot be read or copied, or QEMU does not start.
    pub fn start(&self, mirror: Option<Box<dyn Write + Send>>) -> Result<Guest, HarnessError> {
        let directory = self.directory()?;
        self.start_on(directory, mirror)
    }

    /// Starts a guest on the disk that an earlier guest has left.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_again(&self, earlier: Guest) -> Result<Guest, HarnessError> {
        let Guest { mut process, directory, peer, .. } = earlier;
        let _ = process.0.kill();
        let _ = process.0.wait();
        drop(peer);
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
        command.args(["-serial", "mon:stdio"]);
        if let Some(port) = self.debug_port {
            command.arg("-chardev").arg(debug_line(port)).args(model.second_line());
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
        Ok(directory)
    }

    /// QEMU with everything but the serial lines.
    fn command(&self, model: Model, directory: &Path) -> Result<Command, HarnessError> {
        let at = |name: &str| directory.join(name);
        let mut command = Command::new(PROGRAM);
        command.args(model.arguments(self.memory_mib)).args(["-display", "none"]);
        command.arg("-drive").arg(self.drive(model, directory));
        // The other machines have all their processors always, whose clocks QEMU cannot count as one.
        if model == Model::Virt {
            match self.counted {
                true => command.args(["-icount", "shift=1,sleep=off"]),
                false => command.args(["-smp", &self.processors.to_string()]),
            };
        }
        if let Some(base) = &self.clock_base {
            command.arg("-rtc").arg(format!("base={base}"));
        }
        if model == Model::OrangePiPc {
            return Ok(command);
        }
        if self.without_boot_loader || model == Model::Imx6ulEvk {
            let boot = show::read_boot(&at("disk.img"))?;
            write(&at("kernel"), &boot.kernel)?;
            write(&at("device-tree"), &boot.device_tree)?;
            command.arg("-kernel").arg(at("kernel")).arg("-dtb").arg(at("device-tree"));
        } else {
            // The root of trust: the guest can read it and not write it.
            command.arg("-drive").arg(format!(
                "if=pflash,unit=0,format=raw,readonly=on,file={}",
                at("flash").display()
            ));
        }
        if model != Model::Virt {
            return Ok(command);
        }
        command
            .args(["-device", "sdhci-pci", "-device", "sd-card,drive=disk"])
            .args(["-device", "i6300esb", "-action", "watchdog=reset"])
            .args(["-device", "virtio-serial-pci,max_ports=2", "-device", "virtio-rng-pci"]);
        if let Some(card) = &self.card {
            let card = card.display();
            command
                .arg("-drive")
                .arg(format!("if=none,id=card,format=raw,snapshot=on,file={card}"))
                .args(["-device", "sdhci-pci", "-device", "sd-card,drive=card"]);
        }
        Ok(command)
    }

    /// The network devices, and what is at the other end of their cables.
    fn plug_in(&self, model: Model, command: &mut Command, peer: &Path) {
        for (index, network) in self.networks.iter().enumerate() {
            let forwarded = |forwards: &[(u16, u16)]| {
                let one =
                    |(host, guest): &(u16, u16)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
                forwards.iter().map(one).collect::<String>()
            };
            let plug = match network {
                Network::Peer(_) => {
                    let peer = peer.display();
                    format!("stream,id=net{index},server=off,addr.type=unix,addr.path={peer}")
                }
                Network::User { forwards } => {
                    format!("user,id=net{index}{}", forwarded(forwards))
                }
                Network::Servers { forwards, servers } => {
                    let served = servers.iter().map(|(address, program)| {
                        // A comma would end the option.
                        let program = program.replace(',', ",,");
                        format!(",guestfwd=tcp:{address}-cmd:{program}")
                    });
                    format!(
                        "user,id=net{index},restrict=on,net=203.0.113.0/24{}{}",
                        forwarded(forwards),
                        served.collect::<String>()
                    )
                }
            };
            let last = index.saturating_add(0x56);
            let mac = format!("52:54:00:12:34:{last:02x}");
            command.args(["-netdev", &plug]);
            match model {
                Model::Virt => command.arg("-device").arg(format!(
                    "virtio-net-pci,id=network{index},netdev=net{index},mac={mac},romfile="
                )),
                Model::OrangePiPc | Model::Imx6ulEvk => {
                    command.arg("-net").arg(format!("nic,netdev=net{index},macaddr={mac}"))
                }
            };
        }
    }

    /// The disk, as QEMU's `-drive` takes it.
    fn drive(&self, model: Model, directory: &Path) -> String {
        let interface = model.card();
        let disk = directory.join("disk.img");
        let (disk, log) = (disk.display(), directory.join(WRITE_LOG));
        if self.log_writes {
            return format!(
                "{interface},driver=blklogwrites,file.driver=file,file.filename={disk},\
                 log.driver=file,log.filename={},log-sector-size=512,log-super-update-interval=1",
                log.display()
            );
        }
        if self.lost_sectors.is_empty() {
            return format!("{interface},format=raw,file={disk}");
        }
        let mut drive = format!(
            "{interface},driver=raw,file.driver=blkdebug,file.image.driver=file,\
             file.image.filename={disk}"
        );
        for (index, sector) in self.lost_sectors.iter().enumerate() {
            let rule = format!(",file.inject-error.{index}");
            drive.push_str(&format!(
                "{rule}.event=none{rule}.iotype=write{rule}.errno=5{rule}.sector={sector}"
            ));
        }
        drive
    }

    fn start_on(
        &self,
        directory: TempDir,
        mirror: Option<Box<dyn Write + Send>>,
    ) -> Result<Guest, HarnessError> {
        let at = |name: &str| directory.path().join(name);
        let (qmp_path, probe_path) = (at("qmp"), at("probe"));
        let reset_path = at("reset");
        for socket in
            [&at(SERIAL_LINE), &qmp_path, &reset_path, &probe_path, &at("debugger"), &at(PEER)]
        {
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
        let peer = world.map(|world| Peer::listen(&at(PEER), world)).transpose()?;
        let model = Model::of(&self.image)?;
        let mut command = self.command(model, directory.path())?;
        self.plug_in(model, &mut command, &at(PEER));
        let mut process = command
            .args(["-monitor", "none", "-serial", "stdio"])
            .arg("-gdb")
            .arg(format!("unix:path={},server=on,wait=off", at("debugger").display()))
            .arg("-chardev")
            .arg(match self.debug_port {
                Some(port) => debug_line(port),
                None => format!("socket,id=probe,path={}", probe_path.display()),
            })
            .args(model.second_line())
            .args(match model {
                Model::Virt | Model::Imx6ulEvk => Vec::new(),
                Model::OrangePiPc => vec![
                    "-serial".to_owned(),
                    "null".to_owned(),
                    "-serial".to_owned(),
                    format!("unix:{},server=on,wait=off", at(SERIAL_LINE).display()),
                ],
            })
            .arg("-qmp")
            .arg(format!("unix:{}", qmp_path.display()))
            .arg("-qmp")
            .arg(format!("unix:{}", reset_path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| HarnessError::Start { program: PROGRAM.to_owned(), source })?;
        let keyboard = process.stdin.take();
        let pipes = (process.stdout.take(), process.stderr.take());
        let mut process = KillOnDrop(process);
        let (Some(stdout), Some(stderr)) = pipes else {
            return Err(HarnessError::Qmp("QEMU has no standard output".to_owned()));
        };
        let console = Console::collect(stdout, mirror);
        let complaints = Console::collect(stderr, None);
        let accept = |listener: &UnixListener, process: &mut KillOnDrop| {
            accept(listener, process).map_err(|error| match error {
                HarnessError::Qmp(reason) => {
                    HarnessError::Qmp(format!("{reason}: {}", complaints.tail()))
                }
                other => other,
            })
        };
        // A debugger comes when it likes, in the probe's place.
        let probe = Probe::new(match self.debug_port {
            Some(_) => UnixStream::pair().map_err(|error| HarnessError::Qmp(error.to_string()))?.0,
            None => accept(&probe_listener, &mut process)?,
        });
        let mut negotiate = |listener| {
            let stream = accept(listener, &mut process)?;
            Qmp::negotiate(stream).map_err(|error| match process.0.try_wait() {
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
        let patience = model.patience();
        Ok(Guest { console, position: 0, qmp, probe, keyboard, process, directory, peer, patience })
    }
}

/// A line to whoever connects to this TCP port of this host's loopback.
fn debug_line(port: u16) -> String {
    format!("socket,id=probe,host=127.0.0.1,port={port},server=on,wait=off")
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
            *argument = format!("{argument},dumpdtb={}", path.display());
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

#[derive(Debug)]
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running guest. Dropping it ends it and deletes its disk.
#[derive(Debug)]
pub struct Guest {
    /// What it prints.
    pub console: Console,
    /// Where in the console the next [`wait`](Self::wait) begins.
    position: usize,
    /// QEMU's control socket.
    pub qmp: Qmp,
    /// The line to the probe; silent in images without one.
    pub probe: Probe,
    keyboard: Option<ChildStdin>,
    process: KillOnDrop,
    directory: TempDir,
    /// What it is plugged into, for a machine with such a network.
    peer: Option<Peer>,
    /// By how much it may be slower than its deadlines say.
    patience: u32,
}

impl Guest {
    /// What its network device is plugged into.
    ///
    /// # Errors
    /// The machine has no such network.
    pub fn peer(&self) -> Result<&Peer, HarnessError> {
        self.peer.as_ref().ok_or(HarnessError::Qmp("the machine has no peer".to_owned()))
    }

    /// Plugs the cable in or pulls it.
    ///
    /// # Errors
    /// There is no network device.
    pub fn plug(&mut self, in_place: bool) -> Result<(), HarnessError> {
        let arguments = serde_json::json!({ "name": "net0", "up": in_place });
        self.qmp.execute("set_link", &arguments).map(drop)
    }

    /// Waits until the console shows `pattern`, behind what earlier waits have found.
    ///
    /// # Errors
    /// The time ran out, or the guest ended; either with the console's tail.
    pub fn wait(&mut self, pattern: &str, within: Duration) -> Result<String, HarnessError> {
        let regex = Regex::new(pattern).map_err(|error| HarnessError::Qmp(error.to_string()))?;
        let within = within.saturating_mul(self.patience);
        let (found, end) = self.console.wait_from(self.position, &regex, within)?;
        self.position = end;
        Ok(found)
    }

    /// Waits until the console shows `pattern`, wherever earlier waits have ended.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_anywhere(
        &mut self,
        pattern: &str,
        within: Duration,
    ) -> Result<String, HarnessError> {
        let regex = Regex::new(pattern).map_err(|error| HarnessError::Qmp(error.to_string()))?;
        let within = within.saturating_mul(self.patience);
        self.console.wait_from(0, &regex, within).map(|(found, _)| found)
    }

    /// Makes the kernel hang, deaf to every interrupt; for a machine with one processor.
    ///
    /// # Errors
    /// The debugger refuses.
    pub fn hang_kernel(&mut self) -> Result<(), HarnessError> {
        Debugger::connect(&self.directory.path().join("debugger"))?.hang_kernel()
    }

    /// Types on the console.
    ///
    /// # Errors
    /// QEMU does not take it.
    pub fn press(&mut self, keys: &[u8]) -> Result<(), HarnessError> {
        let keyboard = self.keyboard.as_mut();
        keyboard
            .map_or(Ok(()), |keyboard| keyboard.write_all(keys).and_then(|()| keyboard.flush()))
            .map_err(|source| HarnessError::File {
                operation: "type on",
                path: PathBuf::from("the console"),
                source,
            })
    }

    /// Waits until the machine resets itself.
    ///
    /// # Errors
    /// It did not in time.
    pub fn wait_reset(&mut self, within: Duration) -> Result<(), HarnessError> {
        let within = within.saturating_mul(self.patience);
        if self.qmp.wait_event("RESET", within)? {
            return Ok(());
        }
        let waited_for = "a reset".to_owned();
        Err(HarnessError::Timeout { waited_for, within, tail: self.console.tail() })
    }

    /// Waits until QEMU ends by itself.
    ///
    /// # Errors
    /// It did not in time.
    pub fn wait_end(&mut self, within: Duration) -> Result<ExitStatus, HarnessError> {
        let within = within.saturating_mul(self.patience);
        let deadline = Instant::now().checked_add(within);
        loop {
            let ended = self.process.0.try_wait();
            if let Ok(Some(status)) = ended {
                return Ok(status);
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                let waited_for = "the guest's end".to_owned();
                return Err(HarnessError::Timeout {
                    waited_for,
                    within,
                    tail: self.console.tail(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends QEMU at once, as a cut of power would, and gives what the guest has written; the machine
    /// must [log writes](Machine::log_writes).
    ///
    /// # Errors
    /// QEMU does not end, or the log is damaged.
    pub fn written(&mut self) -> Result<Vec<Step>, HarnessError> {
        let _ = self.qmp.execute("quit", &serde_json::json!({}))?;
        self.wait_end(START_WITHIN)?;
        write_log::read(&self.directory.path().join(WRITE_LOG))
    }

    /// The other end of the serial line that apps can be granted, on a machine that has one: `$UART3` of the
    /// Orange Pi PC.
    ///
    /// # Errors
    /// There is none.
    pub fn serial_line(&self) -> Result<UnixStream, HarnessError> {
        let path = self.directory.path().join(SERIAL_LINE);
        UnixStream::connect(&path).map_err(|source| HarnessError::File {
            operation: "connect to",
            path,
            source,
        })
    }

    /// The guest's disk.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }
}

fn accept(listener: &UnixListener, process: &mut KillOnDrop) -> Result<UnixStream, HarnessError> {
    let deadline = Instant::now().checked_add(START_WITHIN);
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(|e| HarnessError::Qmp(e.to_string()))?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(HarnessError::Qmp(error.to_string())),
        }
        if let Ok(Some(status)) = process.0.try_wait() {
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

fn write(path: &Path, bytes: &[u8]) -> Result<(), HarnessError> {
    fs::write(path, bytes).map_err(|source| HarnessError::File {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

/// Copies a file, holes left holes.
fn copy_sparse(from: &Path, to: &Path) -> Result<(), HarnessError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| HarnessError::File { operation, path, source }
    };
    let bytes = fs::read(from).map_err(failed("read", from))?;
    let mut target = fs::File::create(to).map_err(failed("create", to))?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    target.set_len(length).map_err(failed("extend", to))?;
    let mut at = 0u64;
    for chunk in bytes.chunks(64 * 1024) {
        if chunk.iter().any(|byte| *byte != 0) {
            std::io::Seek::seek(&mut target, std::io::SeekFrom::Start(at))
                .and_then(|_| target.write_all(chunk))
                .map_err(failed("write", to))?;
        }
        at = at.saturating_add(64 * 1024);
    }
    Ok(())
}

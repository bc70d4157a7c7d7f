//! The harness's eye in a guest: answers one command a line on the serial line it was handed.
//!
//! It exists only in test images and runs under a plan of its own: an ordinary uid, one device,
//! the right to read about other processes, and a socket over which it may ask init to end the
//! system.

use holdfast_lifecycle::core_notes::{CoreNotes, Fault, Place, ReadAt};
use holdfast_linux::init_socket::InitSocket;
use holdfast_linux::{channel, clock};
use holdfast_networking::status::{MAX_MESSAGE_BYTES, NetworkStatus};
use holdfast_sandbox::wire::{
    self, ClockRequest, MAX_REPORT_REPLY_BYTES, ManageRequest, Reply, ReportRequest, Request,
    ShutdownRequest, StatusRequest,
};
use holdfast_test_apps::FLOAT_SECRET;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketType, bind, recv, socket};
use rustix::rand::{GetRandomFlags, getrandom};
use std::cell::RefCell;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

type Answer = Result<String, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut line = File::from(channel::handed_over(3)?);
    // Somebody that hostile apps try to reach.
    let _listener = listen_on_abstract_name()?;
    holdfast_test_apps::notify("READY=1")?;
    let mut commands = BufReader::new(line.try_clone()?);
    loop {
        let mut command = String::new();
        if commands.read_line(&mut command)? == 0 {
            // Nobody is at the other end.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        let answer = match answer(command.trim()) {
            Ok(text) => format!("ok {}\n", text.replace('\n', "\\n")),
            Err(error) => format!("error {}\n", error.to_string().replace('\n', "\\n")),
        };
        line.write_all(answer.as_bytes())?;
    }
}

fn listen_on_abstract_name() -> Result<OwnedFd, Box<dyn Error>> {
    let listener = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    bind(&listener, &SocketAddrUnix::new_abstract_name(b"holdfast-probe")?)?;
    Ok(listener)
}

fn answer(command: &str) -> Answer {
    let (verb, argument) = command.split_once(' ').unwrap_or((command, ""));
    match verb {
        "read" => Ok(fs::read_to_string(argument)?),
        "try-write" => match File::create(argument) {
            Ok(_) => Ok("written".to_owned()),
            Err(error) => Ok(format!("refused: {error}")),
        },
        "list" => list(argument),
        "links" => links(argument),
        "processes" => processes(),
        "memory" => memory(),
        "clocks" => clocks(),
        "random" => random(),
        "year-2040" => year_2040(),
        "reboot" => ask_init(&Request::Shutdown(ShutdownRequest::Reboot)),
        "power-off" => ask_init(&Request::Shutdown(ShutdownRequest::PowerOff)),
        "start" => ask_init(&Request::Manage(ManageRequest::Start(argument.to_owned()))),
        "stop" => ask_init(&Request::Manage(ManageRequest::Stop(argument.to_owned()))),
        "restart" => ask_init(&Request::Manage(ManageRequest::Restart(argument.to_owned()))),
        "status" => status(),
        "clock" => ask_init(&Request::Status(StatusRequest::Clock)),
        "claim" => ask_init(&Request::Clock(ClockRequest::Behind(argument.parse()?))),
        "answer-times" => answer_times(argument.parse()?),
        "crashes" => crashes(),
        "network" => network(),
        "send-descriptor" => send_descriptor(),
        other => Err(format!("unknown command `{other}`").into()),
    }
}

fn list(directory: &str) -> Answer {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join("\n"))
}

/// Where every link of a directory leads.
fn links(directory: &str) -> Answer {
    let mut text = String::new();
    for name in list(directory)?.lines() {
        // What was there may be gone.
        if let Ok(target) = fs::read_link(format!("{directory}/{name}")) {
            writeln!(text, "{name} {}", target.display())?;
        }
    }
    Ok(text)
}

/// Every process that is not a kernel thread: pid, name, state, parent, the lines of its status that say what it may
/// do, and its resident memory.
fn processes() -> Answer {
    let mut text = String::new();
    for pid in list("/proc")?.lines().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
        // It may have ended since it was listed.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
            continue;
        };
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or("-").trim().split('\t').next().unwrap_or("-").to_owned()
        };
        if field("Kthread") == "1" {
            continue;
        }
        write!(text, "pid={pid}")?;
        for name in ["Name", "State", "PPid", "Uid", "Gid", "NoNewPrivs", "Seccomp"] {
            write!(text, " {name}={}", field(name).replace(' ', "_"))?;
        }
        for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            write!(text, " {name}={}", field(name))?;
        }
        for name in ["RssAnon", "RssFile", "RssShmem"] {
            // A process that is ending has no address space any more, and no such lines.
            let resident = if status.contains("\nVmRSS:") { kib(&status, name)? } else { 0 };
            write!(text, " {name}={resident}")?;
        }
        writeln!(text)?;
    }
    Ok(text)
}

/// Memory in KiB: all, available, and what is in the address spaces of processes, each page once; of it, what is
/// mapped of files.
fn memory() -> Answer {
    let info = fs::read_to_string("/proc/meminfo")?;
    let (total, available) = (kib(&info, "MemTotal")?, kib(&info, "MemAvailable")?);
    let mapped = kib(&info, "Mapped")?;
    let user = kib(&info, "AnonPages")?.saturating_add(mapped);
    Ok(format!("total={total} available={available} user={user} mapped={mapped}"))
}

fn kib(text: &str, name: &str) -> Result<u64, Box<dyn Error>> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = value.and_then(|value| value.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("there is no {name}"))?.parse()?)
}

/// The processor's counter, its frequency, and the monotonic clock at the same moment.
fn clocks() -> Answer {
    let (counter, frequency) = clock::counter().ok_or("there is no counter")?;
    let monotonic = clock::monotonic().as_nanos();
    Ok(format!("counter={counter} frequency={frequency} monotonic_ns={monotonic}"))
}

fn random() -> Answer {
    let mut bytes = [0u8; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What std makes of a clock and of a file's time beyond the year 2038.
fn year_2040() -> Answer {
    const YEAR_2040: i64 = 2_208_988_800;
    let path = "/tmp/year-2040";
    File::create(path)?;
    let time = Timespec { tv_sec: YEAR_2040, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::empty())?;
    let modified = fs::metadata(path)?.modified()?.duration_since(UNIX_EPOCH)?.as_secs();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    std::thread::sleep(Duration::from_millis(10));
    Ok(format!("file={modified} now={now}"))
}

fn ask_init(request: &Request) -> Answer {
    Ok(format!("{:?}", exchange(request)?))
}

/// Sends a request to init and waits for its reply.
fn exchange(request: &Request) -> Result<Reply, Box<dyn Error>> {
    Ok(exchange_with(request)?.0)
}

fn exchange_with(request: &Request) -> Result<(Reply, Vec<OwnedFd>), Box<dyn Error>> {
    Ok(InitSocket::<Request>::from_environment()?.ask(request.clone())?)
}

/// What becomes of a descriptor that is sent to init.
fn send_descriptor() -> Answer {
    let sent = |variable: &str| -> Answer {
        let way = channel::handed_over(std::env::var(variable)?.parse()?)?;
        let null = File::open("/dev/null")?;
        Ok(match channel::send_with(&way, b"x", &[null.as_fd()]) {
            Ok(()) => "succeeded".to_owned(),
            Err(error) => format!("errno {}", error.raw_os_error().unwrap_or_default()),
        })
    };
    let (requests, replies) = (sent(wire::REQUESTS_VARIABLE)?, sent(wire::REPLIES_VARIABLE)?);
    Ok(format!("requests: {requests}, replies: {replies}"))
}

/// What the network service says of the network.
fn network() -> Answer {
    let (reply, handed) = exchange_with(&Request::Status(StatusRequest::Network))?;
    let socket = handed.into_iter().next().ok_or_else(|| format!("{reply:?}"))?;
    let mut status = vec![0u8; MAX_MESSAGE_BYTES];
    let (length, _) = recv(&socket, &mut status, RecvFlags::empty())?;
    Ok(NetworkStatus::decode(status.get(..length).unwrap_or_default())?.to_string())
}

/// A file of notes, and the ranges that were read of it.
struct Noted {
    bytes: Vec<u8>,
    read: RefCell<Vec<std::ops::Range<usize>>>,
}

impl ReadAt for Noted {
    fn read_at(&self, offset: u32, into: &mut [u8]) -> Option<()> {
        let start = usize::try_from(offset).ok()?;
        self.read.borrow_mut().push(start..start.checked_add(into.len())?);
        self.bytes.read_at(offset, into)
    }
}

/// Takes the ends of components that init has kept and their crashes, one a line: who, the signal, what the notes say, how large the file is, where it has
/// what the program keeps, and whether that was read.
fn crashes() -> Answer {
    let mut text = String::new();
    let mut init = InitSocket::<Request>::from_environment_with_room(MAX_REPORT_REPLY_BYTES)?;
    let (reply, _) = init.ask(Request::Report(ReportRequest::Ends))?;
    let Reply::Ends(told) = reply else {
        return Err(format!("{reply:?}").into());
    };
    // Of each component that has ended there is one at most.
    for _ in 0..=told.ends.len() {
        let (reply, handed) = init.ask(Request::Report(ReportRequest::Crash))?;
        let (Reply::Crash(crash), Some(file)) = (&reply, handed.into_iter().next()) else {
            return if reply == Reply::NotFound {
                Ok(text)
            } else {
                Err(format!("{reply:?}").into())
            };
        };
        let (mut bytes, mut file) = (Vec::new(), File::from(file));
        file.read_to_end(&mut bytes)?;
        let file = Noted { bytes, read: RefCell::default() };
        let notes = match CoreNotes::read(&file) {
            Ok(CoreNotes { signal, code, pc, lr, fault, .. }) => {
                let place = |place| match place {
                    Place::Program(offset) => format!("program+{offset:#x}"),
                    Place::Library(offset) => format!("library+{offset:#x}"),
                    Place::Elsewhere => "elsewhere".to_owned(),
                };
                let fault = fault.map_or("none", |fault| match fault {
                    Fault::Null => "null",
                    Fault::Stack => "stack",
                    Fault::Code => "code",
                    Fault::Other => "other",
                });
                format!(
                    "signal={signal} code={code} pc={} lr={} fault={fault}",
                    place(pc),
                    place(lr)
                )
            }
            Err(error) => format!("notes={}", error.to_string().replace(' ', "_")),
        };
        let (secret, float) = (holdfast_test_apps::secret(), FLOAT_SECRET.to_le_bytes());
        let kept: [(&str, &[u8]); 3] =
            [("memory", secret.as_bytes()), ("environment", b"NOTIFY_SOCKET"), ("float", &float)];
        let of = told.ends.iter().find(|end| end.crash == Some(crash.end));
        let name = of.map_or("unknown", |end| &end.name);
        write!(text, "name={name} ended={} {notes} bytes={}", crash.signal, file.bytes.len())?;
        for (name, kept) in kept {
            let place = file.bytes.windows(kept.len()).position(|window| window == kept);
            let found =
                place.map(|at| at..at.saturating_add(kept.len())).map_or("absent", |kept| {
                    let reads = file.read.borrow();
                    let touched = reads.iter().any(|r| r.start < kept.end && kept.start < r.end);
                    if touched { "read" } else { "unread" }
                });
            write!(text, " {name}={found}")?;
        }
        writeln!(text)?;
    }
    Ok(text)
}

/// The longest of so many times in which init answers, in microseconds.
fn answer_times(count: u32) -> Answer {
    let mut longest = Duration::ZERO;
    for _ in 0..count {
        let asked = Instant::now();
        exchange(&Request::Status(StatusRequest::Clock))?;
        longest = longest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(format!("longest_us={}", longest.as_micros()))
}

/// How every component is, one a line.
fn status() -> Answer {
    let mut text = String::new();
    let Reply::Components(components) = exchange(&Request::Status(StatusRequest::Components))?
    else {
        return Err("init does not say how the components are".into());
    };
    for status in components {
        writeln!(
            text,
            "name={} state={:?} uid={} memory_kib={} peak_kib={} processes={} restarts={} last={:?}",
            status.name,
            status.state,
            status.uid,
            status.memory_kib,
            status.memory_peak_kib,
            status.processes,
            status.restarts,
            status.last_exit
        )?;
    }
    Ok(text)
}

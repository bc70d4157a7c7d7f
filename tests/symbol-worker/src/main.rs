//! A symbol worker that somebody has taken over. The first address that it is asked about says what it does; from [`FREE`] on, it does
//! the same without having confined itself, which shows that the attack works.

use holdfast_service::worker;
use holdfast_service_api::symbolizer::Limits;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// What is added to the number of an attack that is not confined.
const FREE: u64 = 1000;
/// Status of an attack that has done what it wanted.
const DONE: u8 = 7;
/// Status of an attack that the kernel has refused, and that could go on.
const REFUSED: u8 = 8;

fn attempt(result: io::Result<()>) -> ExitCode {
    ExitCode::from(if result.is_ok() { DONE } else { REFUSED })
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(2).filter_map(|word| word.parse::<u64>().ok());
    let (Some(memory_mib), Some(seconds)) = (words.next(), words.next()) else {
        return ExitCode::FAILURE;
    };
    let addresses: Vec<u64> = words.collect();
    let limits = Limits { memory_mib, seconds };
    let attack = addresses.first().copied().unwrap_or_default();
    let number = if attack >= FREE { attack.saturating_sub(FREE) } else { attack };
    if number == 0 || number > 12 {
        return worker::run(limits, &addresses).unwrap_or(ExitCode::FAILURE);
    }
    if attack < FREE && worker::confine(limits).is_err() {
        return ExitCode::FAILURE;
    }
    match number {
        1 => attempt(File::open("/etc/passwd").map(drop)),
        2 => attempt(TcpListener::bind("127.0.0.1:0").map(drop)),
        3 => attempt(UnixDatagram::pair().map(drop)),
        // It returns only where it has failed; `true` has the status of an answer.
        4 => attempt(Err(Command::new("/bin/sh").args(["-c", "exit 7"]).exec())),
        5 => attempt(Command::new("/bin/true").spawn().map(drop)),
        6 => attempt(std::fs::remove_file("/nothing-is-here").or_else(|error| {
            if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
        })),
        7 => {
            let parent = rustix::process::getppid();
            let harmless = parent.map(rustix::process::test_kill_process);
            attempt(harmless.ok_or(io::ErrorKind::NotFound.into()).and_then(|sent| Ok(sent?)))
        }
        8 => loop {
            black_box(number);
        },
        9 => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            for _ in 0..64 {
                hoard.push(black_box(vec![1; 16 * 1024 * 1024]));
            }
            ExitCode::from(DONE)
        }
        10 => std::process::abort(),
        11 => {
            let written = (0..4096).try_for_each(|_| io::stdout().write_all(&[b'x'; 4096]));
            attempt(written)
        }
        _ => {
            attempt(io::stdout().write_all(b"{\"named\":{\"build_id\":\"00\",\"frames\":[null]}}"))
        }
    }
}

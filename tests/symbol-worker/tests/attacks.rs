//! A worker that was taken over gets nowhere, and whoever has started it goes on.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_service_api::symbolizer::{Limits, Worker, WorkerError};
use holdfast_service_symbols::program::{Named, ProgramError};
use object::read::{File as ElfFile, Object, ObjectSymbol};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMITS: Limits = Limits { memory_mib: 256, seconds: 10 };

fn worker(limits: Limits) -> Worker {
    Worker::new(PathBuf::from(env!("CARGO_BIN_EXE_holdfast-symbol-worker-tests")), limits)
}

fn ask(limits: Limits, file: &Path, addresses: &[u64]) -> Result<Named, WorkerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(worker(limits).names(File::open(file).unwrap(), addresses))
}

fn attack(number: u64) -> WorkerError {
    ask(LIMITS, Path::new("/dev/null"), &[number]).unwrap_err()
}

/// A program of this host with its symbols.
fn program() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let (source, output) = (scratch.path().join("pump.c"), scratch.path().join("pump"));
    std::fs::write(&source, "int run(int n) { return n * 3; } int main(void) { return run(0); }")
        .unwrap();
    let mut command = std::process::Command::new("cc");
    command.args(["-g", "-O0", "-no-pie", "-Wl,--build-id=sha1", "-o"]).arg(&output).arg(&source);
    assert!(command.status().unwrap().success());
    (scratch, output)
}

#[test]
fn a_worker_opens_connects_executes_and_begins_nothing() {
    for (number, what) in [
        (1, "open"),
        (2, "socket"),
        (3, "socketpair"),
        (4, "execve"),
        (5, "clone"),
        (6, "unlink"),
        (7, "kill"),
    ] {
        let free = attack(1000 + number);
        assert!(matches!(free, WorkerError::Status(7)), "the control of {what}: {free}");
        let confined = attack(number);
        assert!(matches!(confined, WorkerError::Forbidden), "{what}: {confined}");
    }
}

#[test]
fn a_worker_that_loops_hoards_crashes_or_lies_is_an_error_and_the_next_one_answers() {
    let limits = Limits { seconds: 2, ..LIMITS };
    let begun = Instant::now();
    let looping = ask(limits, Path::new("/dev/null"), &[8]).unwrap_err();
    let is_stopped = matches!(looping, WorkerError::TooSlow(2) | WorkerError::Signal(9 | 24));
    assert!(is_stopped, "{looping}");
    // The deadline holds where the kernel's limit of its time does not.
    let waiting = ask(limits, Path::new("/dev/null"), &[1008]).unwrap_err();
    assert!(matches!(waiting, WorkerError::TooSlow(2)), "{waiting}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(matches!(attack(9), WorkerError::Signal(6)), "{}", attack(9));
    assert!(matches!(attack(1009), WorkerError::Status(7)), "the control");
    assert!(matches!(attack(10), WorkerError::Signal(6)));
    assert!(matches!(attack(11), WorkerError::TooMuch | WorkerError::Status(_)), "{}", attack(11));
    assert!(matches!(attack(12), WorkerError::Status(7)), "{}", attack(12));
    let missing = Worker::new(PathBuf::from("/nothing-is-here"), LIMITS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let missing = runtime.block_on(missing.names(File::open("/dev/null").unwrap(), &[]));
    assert!(matches!(missing, Err(WorkerError::Start(_))));
    // A file that the worker cannot hold, and one that is no program.
    let scratch = tempfile::tempdir().unwrap();
    let large = scratch.path().join("large");
    std::fs::write(&large, vec![1; 60 * 1024 * 1024]).unwrap();
    let small = Limits { memory_mib: 32, ..LIMITS };
    let exhausted = ask(small, &large, &[]).unwrap_err();
    assert!(matches!(exhausted, WorkerError::Signal(6) | WorkerError::Status(1)), "{exhausted}");
    let none = ask(LIMITS, &large, &[]).unwrap_err();
    assert!(matches!(none, WorkerError::Program(ProgramError::NoProgram)), "{none}");
    // The control.
    let (_scratch, file) = program();
    let bytes = std::fs::read(&file).unwrap();
    let elf = ElfFile::parse(&*bytes).unwrap();
    let address = elf.symbols().find(|symbol| symbol.name() == Ok("run")).unwrap().address();
    let named = ask(LIMITS, &file, &[address, address + 4]).unwrap();
    assert_eq!(named.build_id.bytes(), elf.build_id().unwrap().unwrap());
    let functions = named.frames.iter().map(|frames| frames.as_ref().unwrap().function.as_str());
    assert_eq!(functions.collect::<Vec<_>>(), ["run", "run"]);
}

//! Puts a core of its own making where the kernel leaves one, and ends by itself; or, as it is told by an argument, crashes
//! while a second process of it writes over what the kernel writes.

use holdfast_sandbox::policy::{CORE_PATTERN, CRASH_DIRECTORY};
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Begins like a core, and goes on with numbers that are out of every bound.
fn forged() -> Vec<u8> {
    let begin = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x28\0";
    [begin.as_slice(), &[0xff; 4000]].concat()
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("crash") => {
            Command::new(std::env::args().next().unwrap_or_default()).arg("overwrite").spawn()?;
            std::thread::sleep(Duration::from_millis(300));
            println!("about to crash");
            std::process::abort();
        }
        Some(_) => overwrite(),
        None => {
            println!("{}", bounds());
            create(CORE_PATTERN)?.write_all(&forged())?;
        }
    }
    Ok(ExitCode::from(3))
}

/// What of the directory it can have: how many bytes, whether another file, whether it may read, and whether it can have a file
/// in the place of one that was removed and is still open, as the kernel would for a second process that crashes.
fn bounds() -> String {
    let mut blocks = 0_u32;
    let mut held = create(CORE_PATTERN).ok();
    if let Some(file) = &mut held {
        while blocks < 1024 && file.write_all(&[0; 1024]).is_ok() {
            blocks = blocks.saturating_add(1);
        }
    }
    let error = |outcome: Result<File, std::io::Error>| match outcome {
        Ok(_) => "possible".to_owned(),
        Err(error) => format!("errno {}", error.raw_os_error().unwrap_or_default()),
    };
    let second = error(create(&format!("{CRASH_DIRECTORY}/second")));
    let reading = error(File::open(CORE_PATTERN));
    let _ = fs::remove_file(CORE_PATTERN);
    let beside = error(create(CORE_PATTERN));
    drop(held);
    format!(
        "wrote {blocks} KiB, second file: {second}, reading: {reading}, beside one in use: {beside}"
    )
}

/// Makes a file, for writing alone: more is not granted there.
fn create(path: &str) -> Result<File, std::io::Error> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Writes over whatever lies there, without keeping it open.
fn overwrite() {
    let (began, forged) = (Instant::now(), forged());
    while began.elapsed() < Duration::from_secs(5) {
        if let Ok(mut file) = OpenOptions::new().write(true).open(CORE_PATTERN) {
            let _ = file.write_all(&forged);
        }
    }
}

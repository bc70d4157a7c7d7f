//! Fills its storage as far as it goes, and cannot live with that.

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let filled = File::create("/data/fill").and_then(|mut file| {
        loop {
            file.write_all(&[0xa5; 4096])?;
        }
    });
    let Err(error): Result<(), std::io::Error> = filled else { return ExitCode::SUCCESS };
    println!("the disk is full: {error}");
    ExitCode::FAILURE
}

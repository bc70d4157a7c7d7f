//! Makes a few hundred orphans, each of which ends and is left for PID 1 to reap.
//!
//! Each child starts one more process and ends before it does.

use std::process::{Command, ExitCode};
use std::time::Duration;

const ORPHANS: usize = 300;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let own = std::env::args().next().unwrap_or_default();
    match arguments.next().as_deref() {
        Some("parent") => {
            let started = Command::new(&own).arg("orphan").spawn().is_ok();
            ExitCode::from(u8::from(!started))
        }
        Some("orphan") => {
            std::thread::sleep(Duration::from_millis(20));
            ExitCode::SUCCESS
        }
        _ => {
            let made = (0..ORPHANS)
                .filter(|_| Command::new(&own).arg("parent").status().is_ok_and(|s| s.success()))
                .count();
            println!("made {made} orphans");
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
    }
}

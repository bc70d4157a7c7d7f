//! The smallest useful app: it says that it is alive, once a second.
//!
//! What an app prints goes to the device's log, one record a line.

use rustix::time::{ClockId, clock_gettime};
use std::thread::sleep;
use std::time::Duration;

fn main() {
    // The first statement: `holdfast measure` counts the app's start from here.
    let started = clock_gettime(ClockId::Monotonic);
    println!("hello, world; main at {}.{:09}s", started.tv_sec, started.tv_nsec);
    for beat in 1u64.. {
        println!("heartbeat {beat}");
        sleep(Duration::from_secs(1));
    }
}

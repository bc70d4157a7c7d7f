//! A PID 1 that panics: does the hook that init installs reboot the machine?

use holdfast_linux::mount::{self, Access};
use std::path::Path;

#[expect(clippy::indexing_slicing, reason = "the panic is what it is for")]
fn main() {
    holdfast_linux::power::reboot_on_panic();
    let devices = Access { devices: true, ..Access::default() };
    // As init has it by the time it does anything that could panic.
    let _ = mount::mount("devtmpfs", None, Path::new("/dev"), devices, &[]);
    let stages: Vec<&str> = std::env::args_os().skip(9).map(|_| "stage").collect();
    // Out of bounds on purpose, where the optimiser cannot see it.
    println!("{}", stages[std::hint::black_box(3)]);
}

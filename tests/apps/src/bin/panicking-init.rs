//! A PID 1 that panics: does the hook that init installs reboot the machine?

#[expect(clippy::indexing_slicing, reason = "the panic is what it is for")]
fn main() {
    holdfast_linux::power::reboot_on_panic();
    let stages: Vec<&str> = std::env::args_os().skip(9).map(|_| "stage").collect();
    // Out of bounds on purpose, where the optimiser cannot see it.
    println!("{}", stages[std::hint::black_box(3)]);
}

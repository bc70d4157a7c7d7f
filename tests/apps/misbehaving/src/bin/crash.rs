//! Runs for a moment, then dies of a bad memory access, every time, with secrets in its memory and in registers.

use holdfast_test_apps::{FLOAT_SECRET, secret};
use std::hint::black_box;

fn main() {
    println!("about to crash");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let kept = black_box(secret());
    // A stack overflow is a segmentation fault that needs no unsafe code.
    println!("{} {kept}", descend(1, black_box(f64::from_bits(FLOAT_SECRET))));
}

#[expect(unconditional_recursion, reason = "running out of stack is what it is for")]
#[inline(never)]
fn descend(depth: u64, kept: f64) -> f64 {
    let frame = black_box([depth; 64]);
    // `kept` is needed behind the call, so that it lies in a register over it.
    descend(frame[0].wrapping_add(1), kept) * kept + f64::from(u8::from(frame[1] == 0))
}

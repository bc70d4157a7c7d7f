//! Runs for a moment, then dies of a bad memory access, every time.

fn main() {
    println!("about to crash");
    std::thread::sleep(std::time::Duration::from_millis(200));
    // A stack overflow is a segmentation fault that needs no unsafe code.
    println!("{}", descend(1));
}

#[expect(unconditional_recursion, reason = "running out of stack is what it is for")]
#[inline(never)]
fn descend(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    descend(frame[0].wrapping_add(1)).wrapping_add(frame[1])
}

//! Prints as fast as it can, with terminal escapes and forged lines.

fn main() {
    for line in 0u64.. {
        println!("flood {line} \x1b[2J\rinit: forged");
    }
}

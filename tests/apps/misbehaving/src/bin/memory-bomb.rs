//! Takes memory until it is ended, every time.

fn main() {
    println!("taking memory");
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        // Written, so that it is really there.
        taken.push(vec![1; 64 * 1024]);
        std::hint::black_box(&taken);
    }
}

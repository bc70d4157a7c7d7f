//! Wants to keep the update agent from its work, with all that its grant lets it do: connections that never say
//! anything, messages that announce 128 MiB, and bytes without an end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

/// Little-endian, a method call, 128 MiB of body.
const LONG: [u8; 16] = [b'l', 1, 0, 1, 0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0, 0];
/// A reply that nobody has asked for, without a field.
const SHORT: [u8; 16] = [b'l', 2, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];

fn begin() -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect("/run/update")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let uid = rustix::process::getuid().as_raw().to_string();
    let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    let answer = answer.get(..length).unwrap_or_default();
    assert!(answer.starts_with(b"OK "), "{}", String::from_utf8_lossy(answer));
    stream.write_all(b"BEGIN\r\n")?;
    Ok(stream)
}

fn attack(message: &[u8], bytes: usize) -> std::io::Result<()> {
    let mut stream = begin()?;
    stream.write_all(message)?;
    for _ in 0..bytes / 4096 {
        stream.write_all(&[message, &[0; 4080]].concat())?;
    }
    Ok(())
}

fn main() {
    thread::spawn(|| {
        loop {
            // It is connected and says nothing, as long as it may.
            if let Ok(mut stream) = UnixStream::connect("/run/update") {
                let _ = stream.read(&mut [0]);
            }
        }
    });
    let mut rounds = 0u64;
    loop {
        for message in [LONG, SHORT] {
            // What becomes of it is for the update agent to say.
            let _ = attack(&message, 4 << 20);
        }
        rounds = rounds.saturating_add(1);
        if rounds.is_power_of_two() {
            println!("round {rounds}");
        }
    }
}

//! An app in an attacker's hand: it asks for signatures without end, and reads no reply.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

/// Connections that it asks over: as many as an app may have.
const CONNECTIONS: usize = 2;

/// Connects, and is known by its uid.
fn begin(socket: &str, uid: &str) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
    let mut answer = [0; 3];
    stream.read_exact(&mut answer)?;
    if answer != *b"OK " {
        return Err(io::Error::other("it is not known by its uid"));
    }
    stream.write_all(b"BEGIN\r\n")?;
    Ok(stream)
}

fn call() -> zbus::Result<Vec<u8>> {
    let call = zbus::Message::method_call("/org/holdfast/Identity1", "SignTls13")
        .interface("org.holdfast.Identity1");
    Ok(call.build(&("server", [1u8; 32].as_slice()))?.data().to_vec())
}

/// Asks for as long as it is read, and begins anew.
fn ask_without_end(socket: &str, uid: &str, call: &[u8]) {
    let mut asked = 0u64;
    loop {
        if let Ok(mut stream) = begin(socket, uid) {
            while stream.write_all(call).is_ok() {
                asked = asked.saturating_add(1);
                if asked.is_power_of_two() {
                    println!("has asked {asked} times");
                }
            }
        }
        println!("begins anew");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Floods `identity`.
pub(crate) fn flood(socket: &'static str) -> Result<(), Box<dyn std::error::Error>> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let call = call()?;
    let threads = (0..CONNECTIONS).map(|_| {
        let (uid, call) = (uid.clone(), call.clone());
        thread::spawn(move || ask_without_end(socket, &uid, &call))
    });
    for thread in threads.collect::<Vec<_>>() {
        // None of them ends.
        let _ = thread.join();
    }
    Err("its threads have ended".into())
}

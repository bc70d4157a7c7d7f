//! Connections that a guest makes through QEMU's network in user space, carried to a server on this host.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::ExitCode;
use std::thread;

/// First argument of this program when QEMU starts it for a connection.
const RELAY: &str = "relay-to-port";

/// The command by which QEMU has a connection carried to a port of this host's loopback: this program, whose
/// `main` asks [`relay_to`] first.
///
/// # Errors
/// Nobody says which program this is.
pub fn relay_command(port: u16) -> io::Result<String> {
    Ok(format!("{} {RELAY} {port}", std::env::current_exe()?.display()))
}

/// The port to relay to, where QEMU has started this program for a connection.
#[must_use]
pub fn relay_to() -> Option<u16> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == RELAY).then(|| arguments.next()?.parse().ok())?
}

/// Carries bytes between standard input and output and a port of this host's loopback.
#[must_use]
pub fn relay(port: u16) -> ExitCode {
    let carried = || -> io::Result<()> {
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let mut towards = connection.try_clone()?;
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut towards);
            towards.shutdown(std::net::Shutdown::Write)
        });
        let mut from = connection;
        let mut buffer = [0u8; 16_384];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            let mut output = io::stdout();
            output.write_all(buffer.get(..length).unwrap_or_default())?;
            output.flush()?;
        }
    };
    if carried().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! An app that serves a TCP port: it gives back every line it gets.
//!
//! Its manifest opens the port to the network (`AllowedTcpServerPorts`), and to the app `sensor` on the
//! same device, which names it in turn (`AllowedApplicationConnections`).

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const PORT: u16 = 8080;
/// Connections at once; each has a thread, and the manifest's limit of processes counts threads.
const MAX_CONNECTIONS: usize = 8;
/// Longest line in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// Whoever says nothing for so long makes room for others.
const PATIENCE: Duration = Duration::from_secs(30);

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

fn main() -> io::Result<()> {
    // Both versions of IP.
    let listener = TcpListener::bind(("::", PORT))?;
    println!("listening on port {PORT}");
    for connection in listener.incoming() {
        let connection = connection?;
        if CONNECTIONS.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
            continue; // Closed at once.
        }
        let serve = move || {
            if let Err(error) = serve(&connection) {
                println!("a connection has failed: {error}");
            }
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        };
        std::thread::Builder::new().stack_size(64 * 1024).spawn(serve)?;
    }
    Ok(())
}

fn serve(connection: &TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::with_capacity(MAX_LINE_BYTES, connection);
    let mut writer = connection;
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(());
        }
        writer.write_all(available)?;
        let length = available.len();
        reader.consume(length);
    }
}

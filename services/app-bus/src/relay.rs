//! Threads that relay the connections of apps, since a read or a close can be made to block.
//!
//! With its bytes an app can send descriptors, which are closed by the thread that reads over them or closes the
//! connection, and a close can wait for as long as the app likes. So each connection has a thread of its own, which alone
//! reads, writes and closes it; the bus is behind another pair of sockets, over which come bytes and nothing else. A
//! thread that waits is the app's loss: it is one of the app's few connections.

use holdfast_types::event::Event;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;

/// Most connections of one app.
pub const MAX_CONNECTIONS: usize = 2;
/// Stack of a relay's thread, in bytes.
const STACK_BYTES: usize = 64 * 1024;
/// Bytes that are relayed at once.
const PIECE_BYTES: usize = 1024;
/// Timeout of a write to the D-Bus service: when it is over, the service has closed the connection.
const BUS_PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_secs(1);

/// How the calls of apps are taken.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The event of a connection that cannot be accepted.
    pub accept_failed: Event,
    /// How fast what an app sends is read; as fast as it comes where there is none.
    pub pace: Option<Pace>,
}

/// How fast what comes over a connection is read, in the long run; as much as a second's comes at once after a pause. An app that
/// asks without end then has its service busy for a share of the time alone.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Bytes a second.
    pub bytes_per_second: u32,
}

/// What a connection may still send at once.
#[derive(Debug)]
struct Paced {
    pace: Option<Pace>,
    /// Bytes.
    left: u64,
    filled: Instant,
}

impl Paced {
    fn new(pace: Option<Pace>) -> Self {
        let left = pace.map_or(0, |pace| u64::from(pace.bytes_per_second));
        Self { pace, left, filled: Instant::now() }
    }

    /// Counts what has come, and returns for how long nothing more is read.
    fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        let Some(Pace { bytes_per_second }) = self.pace else { return Duration::ZERO };
        let a_second = u64::from(bytes_per_second.max(1));
        let milliseconds = now.saturating_duration_since(self.filled).as_millis();
        let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX);
        let gained = milliseconds.saturating_mul(a_second) / 1000;
        if gained > 0 {
            (self.left, self.filled) = (self.left.saturating_add(gained).min(a_second), now);
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let missing = bytes.saturating_sub(self.left);
        self.left = self.left.saturating_sub(bytes);
        let pause = Duration::from_millis(missing.saturating_mul(1000).div_ceil(a_second));
        if !pause.is_zero() {
            // The time of the pause pays for what has come, and for nothing else.
            self.filled = now.checked_add(pause).unwrap_or(now);
        }
        pause
    }
}

/// An app that calls, as a service knows it.
pub trait Caller: Clone + Send + 'static {
    /// Returns the name of its component.
    fn name(&self) -> &str;
}

/// A connection of an app.
#[derive(Debug)]
pub struct Call<A> {
    /// The app.
    pub app: A,
    /// The socket over which the app's bytes come.
    pub stream: UnixStream,
    /// Uid of the process at the other end.
    pub uid: Option<u32>,
}

/// Starts to accept connections of one app, as many at once as it may have. `bus` is the runtime of the D-Bus service.
///
/// # Errors
/// There is no thread for it.
pub fn take_calls<A: Caller>(
    app: &A,
    socket: OwnedFd,
    calls: &UnboundedSender<Call<A>>,
    bus: &Handle,
    terms: Terms,
) -> io::Result<()> {
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(false)?;
    let listener = Arc::new(listener);
    for _ in 0..MAX_CONNECTIONS {
        let (listener, app, calls) = (Arc::clone(&listener), app.clone(), calls.clone());
        let bus = bus.clone();
        let thread = std::thread::Builder::new().name("relay".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || {
            loop {
                if let Err(error) = take_call(&listener, &app, (&calls, &bus), terms.pace) {
                    println!(
                        "{}: cannot accept its D-Bus connection: {error} {}",
                        app.name(),
                        terms.accept_failed
                    );
                    std::thread::sleep(PAUSE);
                }
            }
        })?;
    }
    Ok(())
}

fn take_call<A: Caller>(
    listener: &UnixListener,
    app: &A,
    (calls, bus): (&UnboundedSender<Call<A>>, &Handle),
    pace: Option<Pace>,
) -> io::Result<()> {
    let (stream, _) = listener.accept()?;
    let (stream, uid) = with_uid(stream, bus)?;
    let (ours, theirs) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    ours.set_write_timeout(Some(BUS_PATIENCE))?;
    let call = Call { app: app.clone(), stream: theirs, uid };
    calls.send(call).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    // How it ends does not matter: the bus sees that it does.
    let _ = relay(&stream, &ours, Paced::new(pace));
    Ok(())
}

/// Returns a connection with the uid at its other end. An app is in another PID namespace, where its PID is 0 for this
/// process: tokio's credentials can hold that, and rustix's cannot.
fn with_uid(stream: UnixStream, bus: &Handle) -> io::Result<(UnixStream, Option<u32>)> {
    stream.set_nonblocking(true)?;
    let _context = bus.enter();
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let uid = stream.peer_cred().ok().map(|peer| peer.uid());
    Ok((stream.into_std()?, uid))
}

/// Relays bytes in both directions until one side ends.
fn relay(app: &UnixStream, bus: &UnixStream, mut paced: Paced) -> io::Result<()> {
    let mut piece = [0; PIECE_BYTES];
    // For the app, which may be slow to take it.
    let mut waiting = Vec::with_capacity(PIECE_BYTES);
    loop {
        let (to_app, from_bus) = match waiting.is_empty() {
            true => (PollFlags::empty(), PollFlags::IN),
            false => (PollFlags::OUT, PollFlags::empty()),
        };
        let mut polled = [PollFd::new(app, PollFlags::IN | to_app), PollFd::new(bus, from_bus)];
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [app_is, bus_is] = polled.map(|polled| polled.revents());
        if app_is.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            match recv(app, &mut piece, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Ok(()),
                Ok((_, length)) => {
                    let mut bus = bus;
                    bus.write_all(piece.get(..length).unwrap_or_default())?;
                    // What the service says meanwhile waits too: it is the same app's.
                    std::thread::sleep(paced.take(length, Instant::now()));
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if waiting.is_empty() && !bus_is.is_empty() {
            match recv(bus, &mut piece, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Ok(()),
                Ok((_, length)) => {
                    waiting.extend_from_slice(piece.get(..length).unwrap_or_default());
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !waiting.is_empty() {
            match send(app, &waiting, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => drop(waiting.drain(..sent.min(waiting.len()))),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            // The bus has closed the connection: the app stopped reading its socket.
            if !waiting.is_empty() && bus_is.contains(PollFlags::HUP) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a panic is a failed test")]
    use super::*;
    use holdfast_types::event::update::UPDATE_APP_ACCEPT_FAILED;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    const LINGER: Duration = Duration::from_secs(60);

    impl Caller for &'static str {
        fn name(&self) -> &str {
            self
        }
    }

    /// A connection whose last close waits: what it sent is not taken, and it lingers.
    fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let full = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        full.set_nonblocking(true).unwrap();
        while (&full).write(&[0; 65536]).is_ok() {}
        rustix::net::sockopt::set_socket_linger(&full, Some(LINGER)).unwrap();
        (full.into(), peer)
    }

    #[test]
    fn what_is_sent_too_fast_is_read_later() {
        let begin = Instant::now();
        let mut paced = Paced::new(Some(Pace { bytes_per_second: 2000 }));
        let ms = Duration::from_millis;
        assert_eq!(paced.take(2000, begin), Duration::ZERO, "a second's at once");
        assert_eq!(paced.take(1000, begin), ms(500));
        assert_eq!(paced.take(1000, begin + ms(500)), ms(500));
        // What another half second gives, and what minutes do.
        assert_eq!(paced.take(1000, begin + ms(1500)), Duration::ZERO);
        assert_eq!(paced.take(1, begin + ms(1500)), ms(1));
        assert_eq!(paced.take(2001, begin + ms(500_000)), ms(1));
        // Looks that come often lose nothing.
        let slow = Some(Pace { bytes_per_second: 10 });
        let mut paced = Paced { filled: begin, ..Paced::new(slow) };
        assert_eq!(paced.take(10, begin), Duration::ZERO);
        for at in [30, 60, 90] {
            assert_eq!(paced.take(0, begin + ms(at)), Duration::ZERO);
        }
        assert_eq!(paced.take(1, begin + ms(100)), Duration::ZERO);
        assert_eq!(Paced::new(None).take(usize::MAX, begin), Duration::ZERO);
    }

    #[test]
    fn an_app_that_has_a_thread_wait_costs_one_of_its_connections() {
        let path = std::env::temp_dir().join(format!("relay-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let (calls, mut taken) = tokio::sync::mpsc::unbounded_channel();
        let bus = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let handle = bus.handle();
        let terms = Terms { accept_failed: UPDATE_APP_ACCEPT_FAILED, pace: None };
        take_calls(&"app", listener.into(), &calls, handle, terms).unwrap();
        let mut taken = || {
            let call = taken.blocking_recv().unwrap();
            assert_eq!(call.uid, Some(rustix::process::getuid().as_raw()));
            call.stream
        };
        let call = || UnixStream::connect(&path).unwrap();
        let (_first, _second) = (call(), call());
        let (first, second) = (taken(), taken());
        // A third waits, with a descriptor that it has closed itself when a place is free.
        let hostile = call();
        let (full, _peer) = lingering();
        holdfast_linux::channel::send_with(&hostile, b"x", &[full.as_fd()]).unwrap();
        drop(full);
        drop(first);
        let mut nothing_comes = taken();
        std::thread::sleep(Duration::from_millis(300));
        let waits = nothing_comes.read(&mut [0]).unwrap_err();
        assert_eq!(waits.kind(), io::ErrorKind::WouldBlock, "its thread does not wait");
        let begun = Instant::now();
        drop(second);
        let mut theirs = call();
        let mut ours = taken();
        ours.set_nonblocking(false).unwrap();
        theirs.write_all(b"question").unwrap();
        let mut question = [0; 8];
        ours.read_exact(&mut question).unwrap();
        ours.write_all(b"answer").unwrap();
        let mut answer = [0; 6];
        theirs.read_exact(&mut answer).unwrap();
        assert_eq!((&question, &answer), (b"question", b"answer"));
        assert!(begun.elapsed() < LINGER / 2, "the other connection has waited");
        // The bus gives one up, and its place is free again.
        drop(ours);
        assert_eq!(theirs.read(&mut answer).unwrap(), 0);
        let _ = std::fs::remove_file(&path);
    }
}

//! One question to a name server over TCP, from the connection to the whole answer.

use holdfast_linux::poll::Poll;
use holdfast_linux::tcp::TcpConnection;
use holdfast_networking::name_proxy::{Failure, MAX_TCP_ANSWER_BYTES};
use holdfast_networking::resolution::Arriving;
use std::io;
use std::net::SocketAddr;

/// Bytes that the kernel keeps of an answer before they are taken.
const BUFFER_BYTES: usize = 2 * MAX_TCP_ANSWER_BYTES;
/// Pieces of an answer that are taken before other sockets have their turn.
const PIECES_PER_TURN: usize = 16;

/// A connection that has one question and awaits one answer. It has no deadline of its own: the exchange has
/// (`Step::Close`).
#[derive(Debug)]
pub(super) struct Connection {
    connection: TcpConnection,
    /// The rest of the question, with its length in front.
    unsent: Vec<u8>,
    arriving: Arriving,
}

impl Connection {
    /// Begins a connection for these bytes.
    pub(super) fn begin(server: SocketAddr, question: Vec<u8>) -> io::Result<Self> {
        let connection = TcpConnection::begin(server, BUFFER_BYTES)?;
        Ok(Self { connection, unsent: question, arriving: Arriving::default() })
    }

    pub(super) fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        if self.unsent.is_empty() {
            poll.add(&self.connection);
        } else {
            poll.add_to_send(&self.connection);
        }
    }

    /// Sends what is left of the question, and takes what has come of the answer; `None` while that is not all.
    pub(super) fn go_on(&mut self) -> Option<Result<Vec<u8>, Failure>> {
        let failed = |error: io::Error| Err(Failure::of_connection(error.kind()));
        if !self.unsent.is_empty() {
            match self.connection.send(&self.unsent) {
                Ok(sent) => {
                    self.unsent.drain(..sent.min(self.unsent.len()));
                }
                Err(error) => return Some(failed(error)),
            }
        }
        if !self.unsent.is_empty() {
            return None;
        }
        let mut buffer = [0u8; 1024];
        for _ in 0..PIECES_PER_TURN {
            let length = match self.connection.receive(&mut buffer) {
                Ok(Some(0)) => return Some(Err(Failure::TcpClosed)),
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(error) => return Some(failed(error)),
            };
            match self.arriving.take(buffer.get(..length).unwrap_or_default()) {
                Ok(None) => {}
                Ok(Some(message)) => return Some(Ok(message.to_vec())),
                Err(failure) => return Some(Err(failure)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]
    use super::*;
    use holdfast_linux::clock::monotonic_ms;
    use holdfast_networking::name_proxy::{Kind, Lookup, Outcome, Surroundings};
    use holdfast_networking::resolution::{Exchange, Servers, Step, TCP_WITHIN_MS, framed};
    use holdfast_sandbox::network::Destination;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    fn lookup() -> Lookup {
        let grant = Destination::parse("example.com").unwrap();
        Lookup { grant, name: "example.com".to_owned(), kind: Kind::A, on_link: false }
    }

    /// An answer to a question without EDNS: the flags, and perhaps an address.
    fn answer(question: &[u8], flags: u8, with_address: bool) -> Vec<u8> {
        let mut bytes = question.to_vec();
        (bytes[2], bytes[3]) = (flags, 0x80);
        if with_address {
            bytes[7] = 1;
            bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 9]);
        }
        bytes
    }

    fn question_on(stream: &mut TcpStream) -> Vec<u8> {
        let mut length = [0u8; 2];
        stream.read_exact(&mut length).unwrap();
        let mut question = vec![0u8; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question).unwrap();
        question
    }

    /// Asks a server on this host, whose answer by UDP was truncated, over TCP: what came of it, and how long that took
    /// in milliseconds.
    fn ask(serve: impl FnOnce(TcpStream) + Send + 'static) -> (Option<Outcome>, Vec<Failure>, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let serving = thread::spawn(move || serve(listener.accept().unwrap().0));
        let end = exchange(server);
        serving.join().unwrap();
        end
    }

    fn exchange(server: SocketAddr) -> (Option<Outcome>, Vec<Failure>, u64) {
        let (lookup, around, mut servers) = (lookup(), Surroundings::default(), Servers::default());
        let began = monotonic_ms();
        let mut exchange = Exchange::new(1001, &[server], began);
        let mut connection: Option<Connection> = None;
        loop {
            let now = monotonic_ms();
            match exchange.next(&lookup, &mut servers, 7, now) {
                Step::Ask(_, question) => {
                    // Without EDNS, so that the answer is the question and its flags.
                    let plain = lookup.question(7, false).unwrap();
                    assert_eq!(question[..2], plain[..2]);
                    let bytes = answer(&plain, 0x83, false);
                    exchange.on_answer(&lookup, (0, &bytes), &around, &mut servers, now);
                }
                Step::Connect(to, question) => match Connection::begin(to, question) {
                    Ok(begun) => connection = Some(begun),
                    // Who refuses on this host may do so at once.
                    Err(error) => {
                        let failure = Failure::of_connection(error.kind());
                        exchange.on_tcp_failure(failure, &mut servers, now);
                    }
                },
                Step::Close => connection = None,
                Step::Failed => {
                    let failures = exchange.failures().map(|(_, failure)| failure).collect();
                    return (None, failures, now - began);
                }
                Step::Wait => {
                    let mut poll = Poll::new();
                    connection.as_ref().unwrap().add_to(&mut poll);
                    poll.wait(exchange.deadline().saturating_sub(now)).unwrap();
                }
            }
            let now = monotonic_ms();
            match connection.as_mut().and_then(Connection::go_on) {
                Some(Ok(bytes)) => {
                    connection = None;
                    let outcome =
                        exchange.on_tcp_answer(&lookup, &bytes, &around, &mut servers, now);
                    if outcome.is_some() {
                        return (outcome, Vec::new(), now - began);
                    }
                }
                Some(Err(failure)) => {
                    connection = None;
                    exchange.on_tcp_failure(failure, &mut servers, now);
                }
                None => {}
            }
        }
    }

    #[test]
    fn an_answer_over_tcp_is_taken_however_it_is_cut() {
        for piece in [1, 2, 3, 17, 4096] {
            let (outcome, ..) = ask(move |mut stream| {
                stream.set_nodelay(true).unwrap();
                let question = question_on(&mut stream);
                for part in framed(&answer(&question, 0x81, true)).unwrap().chunks(piece) {
                    stream.write_all(part).unwrap();
                }
                // The client ends the connection, once it has everything.
                let _ = stream.read(&mut [0]);
            });
            let records = outcome.unwrap().records;
            assert_eq!(records[0].as_address(), Some([203, 0, 113, 9].into()), "{piece}");
        }
    }

    #[test]
    fn a_server_that_refuses_closes_or_says_too_much_fails_at_once_with_its_reason() {
        type Serve = fn(TcpStream);
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (outcome, failures, took) = exchange(nobody);
        assert_eq!((outcome, failures), (None, vec![Failure::TcpRefused]));
        assert!(took < TCP_WITHIN_MS, "{took}");
        let cases: [(Serve, Failure); 5] = [
            (drop, Failure::TcpClosed),
            (
                |mut stream| {
                    let question = question_on(&mut stream);
                    let whole = framed(&answer(&question, 0x81, true)).unwrap();
                    stream.write_all(&whole[..whole.len() - 1]).unwrap();
                },
                Failure::TcpClosed,
            ),
            (
                |mut stream| {
                    question_on(&mut stream);
                    stream.write_all(&[0x10, 0x01]).unwrap();
                    let _ = stream.read(&mut [0]);
                },
                Failure::TooLong,
            ),
            (
                |mut stream| {
                    let mut question = question_on(&mut stream);
                    question[0] ^= 1;
                    stream.write_all(&framed(&answer(&question, 0x81, true)).unwrap()).unwrap();
                    let _ = stream.read(&mut [0]);
                },
                Failure::OtherQuestion,
            ),
            (
                |mut stream| {
                    let question = question_on(&mut stream);
                    stream.write_all(&framed(&answer(&question, 0x83, false)).unwrap()).unwrap();
                    let _ = stream.read(&mut [0]);
                },
                Failure::Truncated,
            ),
        ];
        for (serve, why) in cases {
            let (outcome, failures, took) = ask(serve);
            assert_eq!((outcome, failures), (None, vec![why]));
            assert!(took < TCP_WITHIN_MS, "{why} took {took} ms");
        }
    }

    #[test]
    fn a_server_that_drips_is_left_at_the_deadline() {
        let (outcome, failures, took) = ask(|mut stream| {
            question_on(&mut stream);
            let _ = stream.write_all(&[0, 200]);
            // Until the client has had enough.
            while stream.write_all(&[0]).is_ok() {
                thread::sleep(std::time::Duration::from_millis(50));
            }
        });
        assert_eq!((outcome, failures), (None, vec![Failure::TcpSilent]));
        assert!((TCP_WITHIN_MS..2 * TCP_WITHIN_MS).contains(&took), "{took}");
    }
}

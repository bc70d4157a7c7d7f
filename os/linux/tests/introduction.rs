//! Alone in a process: its child has a copy of all that other tests have open.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

use holdfast_linux::channel::{ServiceEnd, receive_with, request_channel, send};
use holdfast_linux::introduction::Introduction;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// What init says, and what comes with it.
fn received(service: &ServiceEnd) -> (Vec<u8>, Option<OwnedFd>) {
    let mut buffer = [0; 32];
    let (length, handed) = receive_with(&service.answers, &mut buffer).unwrap();
    (buffer[..length].to_vec(), handed.into_iter().next())
}

#[test]
fn two_services_get_to_know_each_other_and_init_keeps_nothing() {
    let (to_wanted, wanted) = request_channel().unwrap();
    let (to_asking, asking) = request_channel().unwrap();
    let introduction = Introduction {
        wanted: &to_wanted,
        message: b"wanted",
        asking: &to_asking,
        accepted: b"accepted",
        refused: b"refused",
    };
    introduction.make().unwrap();
    let (message, ours) = received(&wanted);
    let (reply, theirs) = received(&asking);
    assert_eq!((message.as_slice(), reply.as_slice()), (&b"wanted"[..], &b"accepted"[..]));
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    send(&ours, b"hello").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(receive_with(&theirs, &mut buffer).unwrap().0, 5);
    // Nobody else has the other end once the child has ended: this one is told when it is gone.
    drop(theirs);
    let deadline = Instant::now() + Duration::from_secs(60);
    let gone = loop {
        let gone = receive_with(&ours, &mut buffer).unwrap_err();
        if gone.kind() != ErrorKind::WouldBlock || Instant::now() > deadline {
            break gone;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(gone.kind(), ErrorKind::UnexpectedEof);
    drop(wanted);
    introduction.make().unwrap();
    assert_eq!(received(&asking).0, b"refused");
}

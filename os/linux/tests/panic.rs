//! Alone in a process: what a panic does is a matter of the whole of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use holdfast_lifecycle::exit::Exit;
use holdfast_linux::channel::{output_pipe, read};
use holdfast_linux::child::{CHILD_PANICKED, in_a_child};
use holdfast_linux::power;
use holdfast_linux::wait::reap;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

#[test]
fn a_child_that_panics_ends_alone() {
    let (ended, end) = output_pipe().unwrap();
    let end = File::from(end);
    power::on_panic(move |_| (&end).write_all(b"x").unwrap());
    in_a_child(|| panic!("in the child")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let (_, exit) = loop {
        if let Some(ended) = reap().unwrap() {
            break ended;
        }
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(exit, Exit::Code(CHILD_PANICKED));
    let mut said = [0; 8];
    assert_eq!(read(&ended, &mut said).unwrap(), None, "it has done what its parent would");
    // The control: a panic of the parent itself.
    std::panic::catch_unwind(|| panic!("here")).unwrap_err();
    assert_eq!(read(&ended, &mut said).unwrap(), Some(1));
}

//! Ending the machine's run.

use crate::child;
use crate::kmsg::{Kmsg, Level};
use holdfast_lifecycle::breadcrumb::Breadcrumb;
use holdfast_lifecycle::reducer::End;
use holdfast_types::event::init as event;
use rustix::system::{RebootCommand, reboot};
use std::io;

/// Writes out all file systems, then ends. Returns only when the kernel refused.
#[must_use]
pub fn end(how: End) -> io::Error {
    // reboot(2) writes out nothing by itself.
    rustix::fs::sync();
    let command = match how {
        End::Reboot => RebootCommand::Restart,
        End::PowerOff => RebootCommand::PowerOff,
    };
    match reboot(command) {
        Ok(()) => io::Error::other("the kernel returned from reboot"),
        Err(error) => error.into(),
    }
}

/// Makes a panic of PID 1 say where it was, in the kernel's log, and reboot.
pub fn reboot_on_panic() {
    on_panic(|panic| {
        let (text, panicked, rebooting) = (panic.to_string(), panic.event(), event::REBOOTING);
        match Kmsg::open() {
            Ok(kmsg) => {
                kmsg.log(Level::Error, "init", &text, Some(panicked));
                kmsg.log(Level::Error, "init", "rebooting", Some(rebooting));
            }
            // So early that there is no /dev: standard error is the console.
            Err(_) => eprintln!("init: {text} {panicked}\ninit: rebooting {rebooting}"),
        }
        // Should the kernel refuse, the abort behind this hook makes it panic, and reboot.
        let _ = end(End::Reboot);
    });
}

/// From now on a panic of this process has `end` called with its place and its message. A copy of this process that is not yet another
/// program just ends, with [`CHILD_PANICKED`]: it has this one's powers, and what it fails at is its own.
///
/// [`CHILD_PANICKED`]: crate::child::CHILD_PANICKED
pub fn on_panic(end: impl Fn(&Breadcrumb) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        child::end_if_child();
        let place =
            panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        end(&Breadcrumb::Panicked(format!("{place}: {message}")));
    }));
}

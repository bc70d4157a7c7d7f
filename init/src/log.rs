//! The log of init: lines go to the console until `/dev` is mounted, and to the kernel's log from then on.
//!
//! Each line of init ends in its event. Two kinds of lines have none: the status, which programs read to its end, and
//! what components print, which is theirs.

use holdfast_linux::PathError;
use holdfast_linux::kmsg::{Kmsg, Level};
use holdfast_sandbox::component::ImageDescription;
use holdfast_types::chain;
use holdfast_types::event::{Event, init as event};
use std::cell::OnceCell;
use std::error::Error;
use std::time::Duration;

/// init's log.
#[derive(Debug)]
pub(crate) struct Log {
    kmsg: OnceCell<Kmsg>,
}

impl Log {
    /// A log that writes to standard error, which is the console.
    pub(crate) fn console() -> Self {
        Self { kmsg: OnceCell::new() }
    }

    /// From now on, writes to the kernel's log: a bounded ring that stamps each record with the
    /// monotonic time and reaches the console.
    pub(crate) fn use_kernel_log(&self) -> Result<(), PathError> {
        let kmsg = Kmsg::open()?;
        // A second call would find the cell filled with an equal log.
        let _ = self.kmsg.set(kmsg);
        Ok(())
    }

    /// Says which image this is.
    pub(crate) fn banner(&self, image: &ImageDescription, entered: Duration) {
        let ImageDescription { name, version, board, development, .. } = image;
        let (seconds, nanoseconds) = (entered.as_secs(), entered.subsec_nanos());
        let text =
            format!("image {name} {version} for {board}, main at {seconds}.{nanoseconds:09}s");
        self.notice(event::IMAGE_STARTED, &text);
        if *development {
            self.warning(event::DEVELOPMENT_IMAGE, "development image: not for production");
        }
    }

    /// Logs part of a normal life.
    pub(crate) fn notice(&self, event: Event, text: &str) {
        self.write(Level::Notice, "init", text, Some(event));
    }

    /// Logs something that is not as it should be.
    pub(crate) fn warning(&self, event: Event, text: &str) {
        self.write(Level::Warning, "init", text, Some(event));
    }

    /// Logs an error with its whole chain of causes.
    pub(crate) fn failure(&self, event: Event, what: &str, error: &dyn Error) {
        self.error(event, &format!("{what}: {}", chain(error)));
    }

    /// Logs a failure whose causes stand in the text.
    pub(crate) fn error(&self, event: Event, text: &str) {
        self.write(Level::Error, "init", text, Some(event));
    }

    /// Logs how the device stands.
    pub(crate) fn status(&self, status: &str) {
        // Its last field goes on to the end of the line (`slots::Status::last_in`): an event there would be read as
        // part of the reason of the last reset, by host tools that are in the field already too.
        self.write(Level::Notice, "init", status, None);
    }

    /// Logs a line that a component printed.
    pub(crate) fn component(&self, name: &str, line: &str) {
        // A service ends its line in an event of its own; an app may print what it likes, under its own name.
        self.write(Level::Notice, name, line, None);
    }

    fn write(&self, level: Level, tag: &str, text: &str, event: Option<Event>) {
        match (self.kmsg.get(), event) {
            (Some(kmsg), event) => kmsg.log(level, tag, text, event),
            // The kernel has opened the console as standard error of PID 1, before there is a /dev.
            (None, Some(event)) => eprintln!("{tag}: {text} {event}"),
            (None, None) => eprintln!("{tag}: {text}"),
        }
    }
}

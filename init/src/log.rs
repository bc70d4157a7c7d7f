//! Where init's words go: the console until `/dev` is mounted, the kernel's log from then on.

use holdfast_linux::PathError;
use holdfast_linux::kmsg::{Kmsg, Level};
use holdfast_sandbox::component::ImageDescription;
use holdfast_types::chain;
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
        self.notice(&format!(
            "image {name} {version} for {board}, main at {seconds}.{nanoseconds:09}s"
        ));
        if *development {
            self.warning("development image: not for production");
        }
    }

    pub(crate) fn notice(&self, text: &str) {
        self.write(Level::Notice, "init", text);
    }

    pub(crate) fn warning(&self, text: &str) {
        self.write(Level::Warning, "init", text);
    }

    /// Logs an error with its whole chain of causes.
    pub(crate) fn failure(&self, what: &str, error: &dyn Error) {
        self.error(&format!("{what}: {}", chain(error)));
    }

    pub(crate) fn error(&self, text: &str) {
        self.write(Level::Error, "init", text);
    }

    /// Logs a line that a component printed.
    pub(crate) fn component(&self, name: &str, line: &str) {
        self.write(Level::Notice, name, line);
    }

    fn write(&self, level: Level, tag: &str, text: &str) {
        match self.kmsg.get() {
            Some(kmsg) => kmsg.log(level, tag, text),
            // The kernel has opened the console as standard error of PID 1, before there is a /dev.
            None => eprintln!("{tag}: {text}"),
        }
    }
}

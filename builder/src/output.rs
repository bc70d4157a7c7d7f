//! `println!` and `eprintln!` of the host tools: as the standard library's, but they do not panic.

use holdfast_images::destination;
use std::fmt::Arguments;
use std::io::{Error, ErrorKind, Write};
use std::path::Path;
use std::sync::OnceLock;

/// Prints a line; a reader that has gone away, as `head` does, gets nothing more.
#[macro_export]
macro_rules! println {
    ($($line:tt)*) => { $crate::output::line(&mut ::std::io::stdout().lock(), format_args!($($line)*)) };
}

/// Prints a line for people.
#[macro_export]
macro_rules! eprintln {
    ($($line:tt)*) => { $crate::output::line(&mut ::std::io::stderr().lock(), format_args!($($line)*)) };
}

/// The error of the first line that could not be written.
static LOST: OnceLock<Error> = OnceLock::new();

/// Writes a line. What is missing from what somebody keeps ends in a failure, by [`lost`].
pub fn line(to: &mut impl Write, line: Arguments<'_>) {
    match writeln!(to, "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = LOST.set(error);
        }
        _ => {}
    }
}

/// Prints what was written to `path`: to standard output, or for people where that has the bytes themselves.
pub fn written(path: &Path, line: Arguments<'_>) {
    if destination::is_standard_output(path) {
        eprintln!("{line}");
    } else {
        println!("{line}");
    }
}

/// Returns the error for which the output is not whole, if a line was lost.
pub fn lost() -> Option<&'static Error> {
    LOST.get()
}

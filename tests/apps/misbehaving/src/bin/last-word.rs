//! Says that it is ready with its last breath: whoever hears it only later has not heard it.

use holdfast_linux::init_socket::notify_ready;
use std::process::ExitCode;

fn main() -> ExitCode {
    match notify_ready() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

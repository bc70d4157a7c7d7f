//! The services of every product in one program: which of them a process is, its name says (`argv[0]`).
//!
//! What they share is in the slot, and in memory, once. Each process has the uid, the sandbox and the limits of its
//! own `service.toml` all the same.

use std::path::Path;
use std::process::ExitCode;

/// A service: what it is called, and what it does until it ends.
type Service = (&'static str, fn() -> ExitCode);

/// Every service that is in here.
const SERVICES: [Service; 4] = [
    ("admission", holdfast_admission::run),
    ("network", holdfast_network::run),
    ("update", holdfast_update::run),
    ("uplink", holdfast_uplink::run),
];

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default();
    match SERVICES.iter().find(|(service, _)| name == *service) {
        Some((_, run)) => run(),
        None => {
            let known = SERVICES.map(|(service, _)| service).join(", ");
            eprintln!("no service is called `{}`; there are {known}", name.display());
            ExitCode::from(2)
        }
    }
}

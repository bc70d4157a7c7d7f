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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]
    use super::*;
    use std::fs;

    #[test]
    fn every_service_whose_directory_names_this_program_is_in_it() {
        let mut named = Vec::new();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap() {
            let path = entry.unwrap().path();
            let file = fs::read_to_string(path.join("service.toml")).unwrap_or_default();
            if file.lines().any(|line| line == "package = \"holdfast-services\"") {
                named.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
        named.sort();
        assert_eq!(named, SERVICES.map(|(service, _)| service));
    }
}

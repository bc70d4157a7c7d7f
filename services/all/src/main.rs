//! The services of every product in one program: which of them a process is, its name says (`argv[0]`).
//!
//! What they share is in the slot, and in memory, once. Each process has the uid, the sandbox and the limits of its
//! own `service.toml` all the same. Each service is a cargo feature: an image has the code of its own services alone.

use std::path::Path;
use std::process::ExitCode;

/// A service: what it is called, and what it does until it ends.
type Service = (&'static str, fn() -> ExitCode);

/// Every service that is in here.
const SERVICES: &[Service] = &[
    #[cfg(feature = "admission")]
    ("admission", holdfast_admission::run),
    #[cfg(feature = "identity")]
    ("identity", holdfast_identity::run),
    #[cfg(feature = "network")]
    ("network", holdfast_network::run),
    #[cfg(feature = "report")]
    ("report", holdfast_report::run),
    #[cfg(feature = "update")]
    ("update", holdfast_update::run),
    #[cfg(feature = "uplink")]
    ("uplink", holdfast_uplink::run),
];

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default();
    match SERVICES.iter().find(|(service, _)| name == *service) {
        Some((_, run)) => run(),
        None => {
            let known: Vec<&str> = SERVICES.iter().map(|(service, _)| *service).collect();
            let (name, known) = (name.display(), known.join(", "));
            eprintln!("no service is called `{name}`; there are {known}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]
    use super::*;
    use std::fs;

    /// With its default features, as the workspace's tests are built.
    #[test]
    fn every_service_whose_directory_names_this_program_is_a_feature_of_it() {
        let mut named = Vec::new();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap() {
            let path = entry.unwrap().path();
            let file = fs::read_to_string(path.join("service.toml")).unwrap_or_default();
            if file.lines().any(|line| line == "package = \"holdfast-services\"") {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                let feature = format!("features = [\"{name}\"]");
                assert!(file.lines().any(|line| line == feature), "{name}: no `{feature}`");
                named.push(name);
            }
        }
        named.sort();
        let known: Vec<&str> = SERVICES.iter().map(|(service, _)| *service).collect();
        assert_eq!(named, known);
    }
}

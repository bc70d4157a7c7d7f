//! System tests on real images in QEMU.
//!
//! `cargo holdfast test` builds the images and calls this program; it says so when it is started
//! by hand without them. Checks that need the same guest share one boot and are one job; jobs run side
//! by side, each in a process of its own. The output has one line for each check and ends like any
//! test runner's.

#![deny(clippy::mod_module_files, reason = "every module of this crate has the name of its file")]

mod apps;
mod boards;
mod boot;
mod docs;
mod harness;
mod identity;
mod network;
mod sandbox;
mod update;

use crate::harness::arguments::Arguments;
use crate::harness::artefacts::Artefacts;
use crate::harness::command;
use crate::harness::suite::Suite;
use clap::Parser;
use holdfast_qemu::relay;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(port) = relay::relay_to() {
        return relay::relay(port);
    }
    match command::run(&Arguments::parse(), register) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Registers every check of this program.
fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    boot::register(suite, artefacts);
    boards::register(suite, artefacts);
    apps::register(suite, artefacts);
    sandbox::register(suite, artefacts);
    network::register(suite, artefacts);
    update::register(suite, artefacts);
    identity::register(suite, artefacts);
    docs::register(suite, artefacts);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::artefacts::USUAL;
    use std::path::PathBuf;

    /// The checks that are registered for the machine of a board.
    fn registered(board: &str) -> Vec<String> {
        let artefacts = Artefacts {
            images: PathBuf::new(),
            programs: PathBuf::new(),
            keys: PathBuf::new(),
            effort: USUAL,
            board: board.to_owned(),
        };
        let mut suite = Suite::new(Vec::new(), &[]);
        register(&mut suite, &artefacts);
        let (jobs, _) = suite.into_jobs();
        jobs.iter().flat_map(|job| job.checks.clone()).collect()
    }

    #[test]
    fn no_two_checks_have_one_name() {
        let mut names = registered("qemu-virt");
        let all = names.len();
        assert!(all > 300, "only {all} checks are registered");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn every_check_that_a_machine_cannot_run_is_registered() {
        let names = registered("orangepi-pc");
        for (what, checks) in boards::lacking("orangepi-pc") {
            for check in *checks {
                assert!(names.iter().any(|name| name == check), "{what}: there is no {check}");
            }
        }
    }
}

//! A device has an identity by which its service, its apps and others know it, and nobody else has it.

mod apps;
mod broker;
mod check_in;
mod deployment;
mod example_apps;
mod fleet;
mod installation;
mod mosquitto;
mod peers;
mod report_costs;
mod reports;
mod run_with_service;
mod server;
mod world;

use crate::harness::artefacts::Artefacts;
use crate::harness::suite::Suite;

/// Registers the checks of this folder.
pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    // Of the machines that stand for boards, this one alone can have a TPM, and a second network device.
    if artefacts.board != "qemu-virt" {
        return;
    }
    check_in::register(suite, artefacts);
    apps::register(suite, artefacts);
    reports::register(suite, artefacts);
    report_costs::register(suite, artefacts);
    if artefacts.effort.authentication {
        broker::register(suite, artefacts);
        peers::register(suite, artefacts);
        run_with_service::register(suite);
        fleet::register(suite, artefacts);
    }
}

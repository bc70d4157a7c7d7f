//! `test`: everything that CI runs, as stages side by side, with a time table.

mod boards;
mod buildroot;
mod dynamic_app;
mod fleet;
mod fuzz;
mod graph;
mod hardening_checker;
mod names;
mod reference_client;
mod report;
mod reproducible;
mod schedule;
mod service_peers;
mod stage_log;
mod stages;
mod system_tests;
mod table;
mod test_run;
mod tools;

pub(crate) use test_run::{CheckArgs, TestArgs};

use anyhow::{Context, Result, bail};
use graph::Graph;
use holdfast_builder::failure::HostLacks;
use holdfast_builder::host;
use holdfast_builder::workspace::Workspace;
use holdfast_qemu::process_tree;
use holdfast_qemu::processor_time::ProcessorTime;
use std::sync::Arc;
use std::time::{Duration, Instant};
use table::{STAGES, Stage};
use test_run::{BUILDROOT, OF_CHECK, SERVICE_PEERS, TestRun, UNIT_PURE, WITHOUT_IMAGES};

pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<()> {
    let started = Instant::now();
    let after = args.minutes.map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
    let deadline = after.and_then(|after| started.checked_add(after));
    let mut test_run = TestRun::new(workspace, args, &table::names())?;
    if args.list {
        return stages::list(&test_run);
    }
    test_run.buildroot = std::env::var_os(buildroot::VARIABLE).is_some();
    if test_run.named.contains(&BUILDROOT) && !test_run.buildroot {
        bail!(HostLacks(format!(
            "stage {BUILDROOT}: {} is not set; set it to an unpacked release of Buildroot (docs/buildroot.md)",
            buildroot::VARIABLE
        )));
    }
    let makes_images = |stage: &Stage| {
        test_run.is_chosen(stage.node.name) && !WITHOUT_IMAGES.contains(&stage.node.name)
    };
    if STAGES.iter().any(makes_images) {
        // All at once, since apt has one lock.
        host::ensure(&[host::IMAGE, host::TOOLCHAIN, host::KERNEL, host::TESTS])?;
    }
    for (stage, needs) in [
        ("fuzz", host::FUZZ),
        ("system", host::TPM),
        ("system", host::BROKER),
        ("unit", host::TPM),
        ("unit", host::BROKER),
        ("unit", host::DATABASE),
        ("unit", host::RELYING_PARTIES),
        ("unit", host::BROWSER),
        ("unit", host::COMPILERS),
        ("unit", host::SYSTEMD),
        (SERVICE_PEERS, host::SERVICE_PEERS),
        (UNIT_PURE, host::TPM),
        ("images", host::DEBIAN_LIBC),
        ("images", host::SOURCE_PACKAGES),
        ("boards", host::SOURCE_PACKAGES),
    ] {
        if test_run.is_chosen(stage) {
            host::ensure(&[needs])?;
        }
    }
    let jobs = jobserver::Client::new(test_run.jobs).context("cannot make a jobserver")?;
    test_run.workspace.jobs = Some(jobs.clone());
    test_run.guests =
        Some(jobserver::Client::new(test_run.jobs).context("cannot make a jobserver")?);
    let test_run = Arc::new(test_run);
    let chosen = STAGES.iter().map(|stage| stage.node).filter(|n| test_run.is_chosen(n.name));
    let before = ProcessorTime::now();
    let mut outcome = schedule::run(&test_run, &jobs, Graph::new(chosen), started, deadline)?;
    let idle = before.zip(ProcessorTime::now()).and_then(|(from, to)| from.idle_percent(to));
    outcome.results.retain(|result| !test_run.is_silent(result));
    let result = report::report(&test_run, &outcome, idle, args.minutes);
    if !outcome.unfinished.is_empty() {
        process_tree::kill_descendants(std::process::id());
    }
    result
}

/// What is worth a minute before each commit.
pub(crate) fn check(workspace: &Workspace, args: &CheckArgs) -> Result<()> {
    let filters = OF_CHECK.map(str::to_owned).to_vec();
    run(workspace, &TestArgs { jobs: args.jobs, filters, ..TestArgs::default() })
}

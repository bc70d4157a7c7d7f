//! The stage `fleet`: a million simulated devices for a day in which nobody attacks them, and an outbreak among 20,000; and a million that
//! check in with the service's own handlers within a day, and 20,000 that come back after an outage.

use super::stage_log::StageLog;
use super::stages::cargo;
use super::test_run::{Counts, TestRun};
use anyhow::Result;

const PACKAGE: &str = "holdfast-fleet";
const OF_SERVICE: &str = "holdfast-service-fleet";
/// Devices of the large fleet.
const DEVICES: &str = "1000000";

pub(super) fn run(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let mut counts = Counts::default();
    for arguments in [
        &["quiet", "--days", "1", "--devices", DEVICES][..],
        &["outbreak", "--days", "8", "--devices", "20000"],
    ] {
        let mut command = cargo(test_run);
        command.args(["run", "--quiet", "--package", PACKAGE, "--"]).args(arguments);
        counts.add(log.passes(&mut command)?);
    }
    // Times are of the service as it is released.
    for arguments in [
        &["day", "--devices", DEVICES][..],
        &["day", "--devices", "100000", "--reports", "--deployment"],
        &["herd"],
    ] {
        let mut command = cargo(test_run);
        command.args(["run", "--quiet", "--release", "--package", OF_SERVICE, "--"]);
        counts.add(log.passes(command.args(arguments))?);
    }
    Ok(counts)
}

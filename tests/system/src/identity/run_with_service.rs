//! `run --with-service`: a service, a TPM and a claimed guest by one command, and the same device at each further start.

use crate::harness::artefacts::{checkout, host_tool};
use crate::harness::suite::{Needs, Suite, check};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Time for both starts, before which an image may have to be built.
const BOTH: Duration = Duration::from_secs(900);
/// Seconds that the tool gives a guest.
const GUEST_SECONDS: &str = "400";
/// The image, from the root of the checkout.
const IMAGE: &str = "images/attested.toml";
/// The directory in which the tool keeps the service of that image, from there.
const SERVICE: &str = "target/holdfast/attested.service";

pub(super) fn register(suite: &mut Suite<'_>) {
    check!(
        suite.with(Needs::Alone).within(BOTH),
        a_further_start_with_a_service_is_the_same_device()
    );
}

fn a_further_start_with_a_service_is_the_same_device() -> Result<()> {
    let root = checkout();
    let service = root.join(SERVICE);
    let _ = fs::remove_dir_all(&service);
    let taken = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    let port = taken.local_addr()?.port();
    // Whose port it is goes on, and nothing is made for a service that could not listen.
    let refused = run(&root, port, "never")?;
    let said = String::from_utf8_lossy(&refused.stderr);
    let reason = format!("--service-port: port {port} of 127.0.0.1 cannot be listened at");
    ensure!(refused.status.code() == Some(2), "{}: {said}", refused.status);
    ensure!(said.contains(&reason) && !service.exists(), "{said}");
    drop(taken);

    let first = started(&root, port, "identity: .* event=identity_checked_in")?;
    let id = claimed(&first)?;
    ensure!(first.contains(&format!("device {id}: full, grade emulated")), "{first}");

    let second = started(&root, port, "identity: device .* event=identity_started")?;
    ensure!(claimed(&second)? == id, "another device: {second}");
    ensure!(second.contains("grade emulated, enrolled"), "{second}");
    let log = fs::read_to_string(service.join("service.log"))?;
    let times = |event: &str| log.matches(&format!("event={event}")).count();
    ensure!(times("service_listening") == 2, "{log}");
    ensure!(times("service_ending") == 2, "it was killed: {log}");
    healthy(&service)
}

/// Checks that `service doctor` finds no fault in the directory of a service.
fn healthy(service: &Path) -> Result<()> {
    let output = Command::new(host_tool()?)
        .args(["service", "doctor", "--json"])
        .arg(service)
        .stdin(Stdio::null())
        .output()?;
    let found: Value = serde_json::from_slice(&output.stdout)?;
    let findings = found.get("items").and_then(Value::as_array).context("no findings")?;
    let is_good = |finding: &Value| finding.get("kind").is_some_and(|kind| kind == "good");
    let good = findings.iter().all(is_good);
    ensure!(output.status.success() && good && !findings.is_empty(), "{found:#}");
    Ok(())
}

/// Starts the guest until its console shows a match, and returns what the tool has said of it.
fn started(root: &Path, port: u16, until: &str) -> Result<String> {
    let output = run(root, port, until)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let console = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}: {said}\n{console}", output.status);
    Ok(said)
}

fn run(root: &Path, port: u16, until: &str) -> Result<Output> {
    Command::new(host_tool()?)
        .args(["run", "--headless", "--with-service", "--image", IMAGE])
        .args(["--service-port", &port.to_string()])
        .args(["--until", until, "--timeout", GUEST_SECONDS])
        .current_dir(root)
        .env("HOLDFAST_CONFIG", root.join("target/session-of-pages"))
        .stdin(Stdio::null())
        .output()
        .context("cannot run the tool")
}

/// The id of the device that a run has claimed.
fn claimed(said: &str) -> Result<String> {
    let line = said.lines().find(|line| line.contains(": claimed, grade emulated"));
    let line = line.with_context(|| format!("nothing was claimed: {said}"))?;
    let id = line.trim_start_matches("device ").split(':').next();
    Ok(id.context("no id")?.to_owned())
}

//! The stage `service-peers`: the security service with what others have made and what is large to install. Go's verifier reads 10,000
//! leaves, a token in software has the key of a root, and schemathesis asks management whatever its OpenAPI document allows, and what it
//! does not.

use super::stage_log::StageLog;
use super::stages::cargo;
use super::test_run::{Counts, TestRun};
use super::tools;
use anyhow::{Context, Result};
use holdfast_builder::process;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Tests behind a feature: the package, its feature, and the test program.
const TESTS: [(&str, &str, &str); 2] = [
    ("holdfast-service-issuing", "go-verifier", "verifiers"),
    ("holdfast-service", "pkcs11", "token"),
];
/// Requests of each operation that schemathesis makes up.
const EXAMPLES: u32 = 100;

pub(super) fn run(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let mut counts = Counts::default();
    for (package, feature, test) in TESTS {
        let of = ["--package", package, "--features", feature, "--test", test];
        let mut lint = cargo(test_run);
        lint.args(["clippy", "--quiet"]).args(of).args(["--", "-D", "warnings"]);
        counts.add(log.passes(&mut lint)?);
        let mut tests = cargo(test_run);
        tests.args(["test", "--quiet", "--no-fail-fast"]).args(of);
        counts.add(log.counted(&mut tests)?);
    }
    counts.add(openapi(test_run, log)?);
    Ok(counts)
}

/// A service that ends with the stage.
struct Service {
    child: Child,
    management: String,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has schemathesis ask a service whatever its document says, with the token of its first owner.
fn openapi(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let python = tools::schemathesis(&test_run.workspace)?;
    let program = program(test_run)?;
    let scratch = tempfile::tempdir().context("cannot make a directory")?;
    let folder = scratch.path().join("service");
    let mut init = Command::new(&program);
    init.arg("--folder").arg(&folder).args(["init", "--catalog", "asked", "--name", "127.0.0.1"]);
    init.args(["--device", "127.0.0.1:0", "--management", "127.0.0.1:0"]);
    let said = process::output(&mut init)?;
    let ticket = said.trim().rsplit('/').next().context("`init` prints no ticket")?.to_owned();
    let first_line = said.lines().next().unwrap_or_default();
    let catalog = first_line.rsplit(' ').next().context("`init` prints no catalog")?.to_owned();
    let service = start(&program, &folder)?;
    let authorities = folder.join("authorities.pem");
    let base = format!("https://{}", service.management);
    let mut take = Command::new("curl");
    take.args(["--silent", "--show-error", "--fail", "--request", "POST", "--cacert"]);
    take.arg(&authorities).arg(format!("{base}/v1/first-owner/{ticket}"));
    let made = process::output(&mut take)?;
    let made: serde_json::Value = serde_json::from_str(&made).context("the ticket is not taken")?;
    let token = made.get("token").and_then(|token| token.as_str()).context("there is no token")?;
    // A path's catalog is this one, so that what is asked is about something.
    let config = scratch.path().join("schemathesis.toml");
    let text = format!("[parameters]\n\"path.catalog\" = \"{catalog}\"\n");
    std::fs::write(&config, text).context("cannot write the configuration")?;
    let mut ask = Command::new(&python);
    ask.args(["-m", "schemathesis.cli", "--config-file"]).arg(&config).arg("run");
    ask.arg(format!("{base}/openapi.json")).arg("--tls-verify").arg(&authorities);
    ask.args(["--header", &format!("Authorization: Bearer {token}")]);
    ask.args(["--max-examples", &EXAMPLES.to_string(), "--seed", "1", "--mode", "all"]);
    ask.args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]);
    ask.args(["--phases", "examples,coverage,fuzzing", "--no-color"]).current_dir(scratch.path());
    log.passes(&mut ask)
}

/// Builds the program as tests have it.
fn program(test_run: &TestRun) -> Result<PathBuf> {
    process::output(cargo(test_run).args(["build", "--quiet", "--package", "holdfast-service"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(test_run.workspace.root.join(target).join("debug/holdfast-service"))
}

fn start(program: &Path, folder: &Path) -> Result<Service> {
    let mut run = Command::new(program);
    run.arg("--folder").arg(folder).arg("run").stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = run.spawn().context("cannot start the service")?;
    let stderr = child.stderr.take().context("the service has no standard error")?;
    let mut service = Service { child, management: String::new() };
    let mut lines = BufReader::new(stderr).lines();
    // `devices at A, management at B event=service_listening`
    let management = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split("management at ").nth(1)?.split(' ').next()?.to_owned()));
    service.management = management.context("the service ended before it listened")?;
    // Whoever reads it lets the service write.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(service)
}

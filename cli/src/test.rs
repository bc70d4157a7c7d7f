//! `test`: everything that CI runs, stage by stage, with a time table.

mod boards;
mod dynamic_app;
mod fuzz;
mod reference_client;
mod reproducible;
mod tools;

use crate::host;
use crate::image::ImageBuilder;
use crate::kernel;
use crate::workspace::{self, Workspace};
use crate::{keys, process};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use holdfast_images::board::Board;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Arguments of `test`.
#[derive(Debug, Args)]
#[command(after_help = "Stages: format, lint, docs, dependencies, images, unit, fuzz, \
                  reference-client, kernel-config, reproducible, system, boards.\n\nExample: cargo holdfast test\n         \
                  cargo holdfast test a_zombie_storm_is_reaped\n         cargo holdfast test --board orangepi-pc")]
pub(crate) struct TestArgs {
    /// Run every count that the project names, and write docs/evidence/.
    #[arg(long)]
    full: bool,
    /// Build the images for this board, and run the system tests on them alone.
    #[arg(long)]
    board: Option<String>,
    /// A stage, or a part of test names.
    filter: Option<String>,
}

/// What a stage has counted.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    passed: usize,
    failed: usize,
}

impl Counts {
    const PASSED: Self = Self { passed: 1, failed: 0 };
    const FAILED: Self = Self { passed: 0, failed: 1 };
}

/// One stage's result.
#[derive(Debug)]
struct StageResult {
    name: &'static str,
    counts: Counts,
    took: Duration,
}

/// What all stages need.
#[derive(Debug)]
struct TestRun<'a> {
    workspace: &'a Workspace,
    full: bool,
    /// Of the images; the board of their manifests when none is named.
    board: Option<String>,
    /// Part of test names; empty for all.
    filter: String,
    /// For property tests.
    seed: u64,
    /// What is tested, as it was when the run began.
    commit: String,
}

type Stage = fn(&TestRun<'_>) -> Result<Counts>;

const STAGES: [(&str, Stage); 12] = [
    ("format", format),
    ("lint", lint),
    ("docs", docs),
    ("dependencies", dependencies),
    ("images", images),
    ("unit", unit),
    ("fuzz", fuzz::run),
    ("reference-client", reference_client::run),
    ("kernel-config", kernel_config),
    ("reproducible", reproducible::run),
    ("system", system),
    ("boards", boards::run),
];

/// The board of the images' manifests.
const DEFAULT_BOARD: &str = "qemu-virt";
/// Cases of each property test with `--full`.
const FULL_CASES: u32 = 4096;

pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<()> {
    host::ensure(&[host::IMAGE, host::TOOLCHAIN, host::KERNEL, host::TESTS])?;
    let named = args.filter.as_deref().unwrap_or_default();
    let by_stage = STAGES.iter().any(|(name, _)| *name == named);
    let by_test = !named.is_empty() && !by_stage;
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let test_run = TestRun {
        workspace,
        full: args.full,
        board: args.board.clone().filter(|board| board != DEFAULT_BOARD),
        filter: if by_test { named.to_owned() } else { String::new() },
        seed: since_1970.as_secs(),
        commit: workspace.commit(),
    };
    let mut results = Vec::new();
    let mut ahead = None;
    for (name, stage) in STAGES {
        let wanted = if args.board.is_some() {
            ["images", "system"].contains(&name)
        } else {
            named.is_empty()
                || name == named
                || (by_test && ["unit", "images", "system"].contains(&name))
        };
        if !wanted {
            continue;
        }
        // The system tests wait for guests half of the time, in which another board's kernel can be built.
        if name == "system" && named.is_empty() && args.board.is_none() {
            ahead = boards::build_ahead(&test_run);
        }
        if name == "boards"
            && let Some(mut ahead) = ahead.take()
        {
            // What it could not do, the stage does, and says why.
            let _ = ahead.wait();
        }
        println!("== {name}");
        let started = Instant::now();
        let images_failed = |r: &StageResult| r.name == "images" && r.counts.failed > 0;
        let result = if name == "system" && results.iter().any(images_failed) {
            Err(anyhow!("there are no images of this commit to look at"))
        } else {
            stage(&test_run)
        };
        let counts = result.unwrap_or_else(|error| {
            println!("{name} FAILED: {error:#}");
            Counts::FAILED
        });
        results.push(StageResult { name, counts, took: started.elapsed() });
    }
    if by_test {
        results.retain(|result| result.name != "images" || result.counts.failed > 0);
    }
    report(&test_run, &results)
}

fn report(test_run: &TestRun<'_>, results: &[StageResult]) -> Result<()> {
    println!("\nstage            passed  failed   seconds");
    for StageResult { name, counts, took } in results {
        let seconds = took.as_secs_f32();
        println!("{name:<16} {:>6} {:>7} {seconds:>9.1}", counts.passed, counts.failed);
    }
    if std::env::var_os("HOLDFAST_ADVISORY_DB").is_none() {
        println!("not checked: security advisories (HOLDFAST_ADVISORY_DB is not set)");
    }
    if !test_run.full {
        println!(
            "left to --full: images of every board; reproducible from two empty caches; {FULL_CASES} cases a property; \
             {} inputs a fuzz target",
            fuzz::FULL_RUNS
        );
    }
    let passed: usize = results.iter().map(|result| result.counts.passed).sum();
    let failed: usize = results.iter().map(|result| result.counts.failed).sum();
    // A part of the tests is no evidence for a commit.
    if test_run.full && results.len() == STAGES.len() {
        write_evidence(test_run, results)?;
    }
    println!("{passed} passed, {failed} failed");
    std::io::stdout().flush().context("cannot write to standard output")?;
    if failed > 0 {
        bail!("{failed} failed");
    }
    if passed == 0 {
        bail!("no test is called that");
    }
    Ok(())
}

/// What a full run was, for whoever wants to see or repeat it.
fn write_evidence(test_run: &TestRun<'_>, results: &[StageResult]) -> Result<()> {
    let commit = &test_run.commit;
    let stages: Vec<_> = results
        .iter()
        .map(|result| {
            serde_json::json!({
                "stage": result.name,
                "passed": result.counts.passed,
                "failed": result.counts.failed,
                "seconds": result.took.as_secs(),
            })
        })
        .collect();
    let evidence = serde_json::json!({
        "commit": commit,
        "property_cases": FULL_CASES,
        "property_seed": test_run.seed,
        "stages": stages,
    });
    let path = test_run.workspace.root.join(format!("docs/evidence/{commit}.json"));
    let text = serde_json::to_string_pretty(&evidence).context("cannot write JSON")?;
    workspace::write(&path, format!("{text}\n"))?;
    println!("evidence: {}", path.display());
    Ok(())
}

/// The cargo that runs this program, in the workspace.
fn cargo(test_run: &TestRun<'_>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&test_run.workspace.root).stdin(Stdio::null());
    command
}

/// Runs a command whose success is one passed test; its output is the terminal's.
fn passes(command: &mut Command) -> Result<Counts> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    Ok(if status.success() { Counts::PASSED } else { Counts::FAILED })
}

fn format(test_run: &TestRun<'_>) -> Result<Counts> {
    passes(cargo(test_run).args(["fmt", "--all", "--check"]))
}

fn lint(test_run: &TestRun<'_>) -> Result<Counts> {
    let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    passes(cargo(test_run).args(arguments))
}

fn docs(test_run: &TestRun<'_>) -> Result<Counts> {
    passes(
        cargo(test_run)
            .args(["doc", "--quiet", "--no-deps", "--workspace", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Licences, bans and sources; advisories where a database is given.
fn dependencies(test_run: &TestRun<'_>) -> Result<Counts> {
    let deny = tools::cargo_deny(test_run.workspace)?;
    // Other platforms' crates stand in Cargo.lock as well; cargo-deny reads them and fetches none.
    process::output(cargo(test_run).args(["fetch", "--locked", "--quiet"]))?;
    let check = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command.current_dir(&test_run.workspace.root).stdin(Stdio::null());
        command.args(["--offline", "check", "--hide-inclusion-graph"]).args(what);
        passes(&mut command)
    };
    let mut counts = check(&["licenses", "bans", "sources"])?;
    if let Some(database) = std::env::var_os("HOLDFAST_ADVISORY_DB") {
        let config = workspace::read_text(&test_run.workspace.root.join("deny.toml"))?;
        let section = format!("\n[advisories]\ndb-path = {database:?}\n");
        let file = tempfile::Builder::new().suffix(".toml").tempfile().context("no file")?;
        workspace::write(file.path(), config + &section)?;
        let path = file.path().to_string_lossy().into_owned();
        let advisories = check(&["--disable-fetch", "--config", &path, "advisories"])?;
        counts.passed = counts.passed.saturating_add(advisories.passed);
        counts.failed = counts.failed.saturating_add(advisories.failed);
    }
    Ok(counts)
}

fn unit(test_run: &TestRun<'_>) -> Result<Counts> {
    let mut command = cargo(test_run);
    command.args(["test", "--workspace", "--no-fail-fast", "--quiet"]);
    command.env("PROPTEST_RNG_SEED", test_run.seed.to_string());
    if test_run.full {
        command.env("PROPTEST_CASES", FULL_CASES.to_string());
    }
    if !test_run.filter.is_empty() {
        command.arg("--").arg(&test_run.filter);
    }
    counted(&mut command)
}

/// Directory of the images that tests look at.
fn image_directory(test_run: &TestRun<'_>) -> Result<PathBuf> {
    let output = test_run.workspace.output()?;
    Ok(test_run.board.as_ref().map_or(output.clone(), |board| output.join(board)))
}

/// Directory of the programs of test apps, which are the same on every board.
fn program_directory(test_run: &TestRun<'_>) -> Result<PathBuf> {
    Ok(test_run.workspace.output()?.join("programs"))
}

/// Manifests of the images that the system tests look at.
const IMAGES: [&str; 9] = [
    "images/hello.toml",
    "images/connected.toml",
    "tests/images/probe.toml",
    "tests/images/supervision.toml",
    "tests/images/hostile.toml",
    "tests/images/network.toml",
    "tests/images/lease.toml",
    "tests/images/update.toml",
    "tests/images/deferral.toml",
];

/// The app of the first of them that waits for a debugger in an image of its own.
const DEBUGGED: &str = "hello";

fn images(test_run: &TestRun<'_>) -> Result<Counts> {
    let mut builder = ImageBuilder::new(test_run.workspace, false, false)?;
    let programs = program_directory(test_run)?;
    let dynamic = dynamic_app::build(test_run, builder.rust(), &programs)?;
    let board = test_run.board.as_deref();
    let more = (board == Some(boards::WITH_PERIPHERALS)).then_some(boards::PERIPHERALS);
    for manifest in IMAGES.into_iter().chain(more) {
        let apps = if manifest.contains("hostile") { &dynamic[..] } else { &[] };
        builder.build_for(board, &test_run.workspace.root.join(manifest), apps, None)?;
    }
    builder.build_test_programs(&programs)?;
    for (name, directory) in
        [("hostile", "tests/hostile-apps"), ("hostile-network", "tests/hostile-network-app")]
    {
        let program = builder.app_program(&test_run.workspace.root.join(directory))?;
        workspace::write(&programs.join(name), program)?;
    }
    builder.debug(Some(DEBUGGED));
    builder.build_for(board, &test_run.workspace.root.join(IMAGES[0]), &[], None)?;
    let control = workspace::read(&builder.control_kernel(board.unwrap_or(DEFAULT_BOARD))?)?;
    workspace::write(&image_directory(test_run)?.join("control-zImage"), control)?;
    Ok(Counts::PASSED)
}

/// Every rule of required.toml holds in the configuration of every board's kernel.
fn kernel_config(test_run: &TestRun<'_>) -> Result<Counts> {
    let boards = test_run.workspace.root.join("images/boards");
    let builder = ImageBuilder::new(test_run.workspace, false, false)?;
    let mut counts = Counts::default();
    for name in holdfast_images::board::names(&boards) {
        let board = Board::load(&boards, &name, Path::new("kernel-config"))?;
        let config = kernel::configuration(test_run.workspace, &board, builder.pins(), false)?;
        kernel::check_required(test_run.workspace, &config)
            .with_context(|| format!("board {name}"))?;
        counts.passed = counts.passed.saturating_add(kernel::required(test_run.workspace)?.len());
    }
    Ok(counts)
}

fn system(test_run: &TestRun<'_>) -> Result<Counts> {
    let board = test_run.board.as_deref().unwrap_or(DEFAULT_BOARD);
    let mut command = system_tests(test_run, board, &image_directory(test_run)?)?;
    counted(command.arg(&test_run.filter))
}

/// The program of the system tests, on the images of a board; parts of test names may follow.
fn system_tests(test_run: &TestRun<'_>, board: &str, images: &Path) -> Result<Command> {
    let mut command = cargo(test_run);
    command
        .args(["run", "--quiet", "--package", "holdfast-system-tests", "--"])
        .arg(images)
        .arg(program_directory(test_run)?)
        .arg(keys::development_directory(test_run.workspace))
        .arg(if test_run.full { "full" } else { "usual" })
        .arg(board);
    Ok(command)
}

/// Runs a command that runs tests, shows what it prints, and adds up its `test result:` lines.
fn counted(command: &mut Command) -> Result<Counts> {
    let name = format!("{command:?}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {name}"))?;
    let stdout = child.stdout.take().with_context(|| format!("{name} has no output"))?;
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.with_context(|| format!("cannot read the output of {name}"))?;
        if let Some(more) = result_line(&line) {
            counts.passed = counts.passed.saturating_add(more.passed);
            counts.failed = counts.failed.saturating_add(more.failed);
        } else if !line.is_empty() && !line.starts_with("running ") {
            println!("{line}");
        }
    }
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    if !status.success() && counts.failed == 0 {
        bail!("{name} ended with {status}");
    }
    Ok(counts)
}

/// The numbers in a `test result:` line.
fn result_line(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |unit: &str| -> Option<usize> {
        let part = rest.split([';', '.']).find(|part| part.trim().ends_with(unit))?;
        part.trim().split(' ').next()?.parse().ok()
    };
    Some(Counts { passed: number(" passed")?, failed: number(" failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up_and_others_are_not() {
        let line =
            "test result: FAILED. 23 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        let counts = result_line(line).unwrap();
        assert_eq!((counts.passed, counts.failed), (23, 2));
        assert!(result_line("test boots ... ok").is_none());
    }
}

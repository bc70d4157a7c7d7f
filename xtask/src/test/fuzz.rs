//! The stage `fuzz`: every target of `fuzz/` for a number of inputs that is the same in every run.

use super::stage_log::StageLog;
use super::stages::cargo;
use super::test_run::{Counts, TestRun};
use anyhow::{Context, Result};
use holdfast_builder::progress::Step;
use holdfast_builder::{host, process, workspace};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The program with every target, and its package.
const PROGRAM: &str = "holdfast-fuzz";
/// Inputs of each target.
const RUNS: u32 = 20_000;
/// The same with `--full`.
pub(super) const FULL_RUNS: u32 = 2_000_000;
/// What libFuzzer needs the compiler to put in (`clang` document SanitizerCoverage), and every check
/// that a program for the device has.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

pub(super) fn run(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    host::ensure(&[host::FUZZ])?;
    let workspace = &test_run.workspace;
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let directory = workspace.root.join("target/fuzz");
    let step = Step::begin("building the fuzz program".to_owned());
    let mut build = cargo(test_run);
    // With a target named, build scripts and macros are built without the flags.
    build
        .args(["build", "--quiet", "--package", PROGRAM, "--bins", "--profile", "fuzz"])
        .args(["--target", &target, "--target-dir"])
        .arg(&directory)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env_remove("RUSTFLAGS");
    process::output(&mut build)?;
    step.done("built");
    let program = directory.join(&target).join("fuzz").join(PROGRAM);
    let corpora = workspace.root.join("fuzz/corpora");
    let mut counts = Counts::default();
    for name in names(&corpora)? {
        match fuzz(test_run, &program, &name, &corpora.join(&name)) {
            Ok(()) => {
                log.print(format!("fuzz {name} ... ok"));
                counts.passed = counts.passed.saturating_add(1);
            }
            Err(error) => {
                log.print(format!("fuzz {name} ... FAILED\n{error:#}"));
                counts.failed = counts.failed.saturating_add(1);
            }
        }
    }
    Ok(counts)
}

/// A corpus stands for its target; a test in `fuzz/` sees to it that every target has one.
fn names(corpora: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let context = || format!("cannot list {}", corpora.display());
    for entry in fs::read_dir(corpora).with_context(context)? {
        names.push(entry.with_context(context)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn fuzz(test_run: &TestRun, program: &Path, target: &str, corpus: &Path) -> Result<()> {
    let findings = test_run.workspace.root.join("target/fuzz/findings");
    workspace::make_directory(&findings)?;
    // What it learns on the way is gone afterwards: the corpus in the tree grows by hand alone.
    let learnt = tempfile::tempdir().context("cannot make a directory")?;
    let runs = if test_run.full { FULL_RUNS } else { RUNS };
    let mut command = Command::new(program);
    command
        .env("HOLDFAST_FUZZ_TARGET", target)
        .arg(format!("-runs={runs}"))
        .arg(format!("-seed={}", test_run.seed & 0xffff_ffff))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .args(["-max_len=16384", "-timeout=20", "-rss_limit_mb=1024", "-verbosity=0"])
        .arg(learnt.path())
        .arg(corpus)
        .arg(test_run.workspace.root.join("images/tests/packages"));
    process::output(&mut command).map(|_| ())
}

//! `test`: everything that CI runs, as stages side by side, with a time table.

mod boards;
mod dynamic_app;
mod fuzz;
mod graph;
mod hardening_checker;
mod reference_client;
mod report;
mod reproducible;
mod schedule;
mod stage_log;
mod stages;
mod tools;

use anyhow::{Context, Result};
use clap::Args;
use graph::{Graph, Lane, Node, Rank};
use holdfast_builder::host;
use holdfast_builder::workspace::Workspace;
use holdfast_qemu::process_tree;
use holdfast_qemu::processor_time::ProcessorTime;
use stage_log::StageLog;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Arguments of `test`.
#[derive(Debug, Args)]
#[command(
    after_help = "Stages: kernels, images, system, unit, reproducible, boards, lint, docs, fuzz, dependencies, \
                  reference-client, kernel-config, format. They run side by side, as many as there are processors; \
                  each line of output has its stage in front.\n\n\
                  Example: cargo holdfast test\n         \
                  cargo holdfast test a_zombie_storm_is_reaped\n         \
                  cargo holdfast test lint docs an_unsigned_slot\n         \
                  cargo holdfast test --board orangepi-pc\n         \
                  cargo holdfast test --list update\n         \
                  cargo holdfast test --full --jobs 8\n         \
                  cargo holdfast test system --shard 1/3 --junit checks.xml\n         \
                  cargo holdfast test --minutes 85"
)]
pub(crate) struct TestArgs {
    /// Run every count that the project names, and write docs/evidence/.
    #[arg(long)]
    full: bool,
    /// Build the images for this board, as `orangepi-pc`, and run the system tests on them alone.
    #[arg(long)]
    board: Option<String>,
    /// Compile and run guests on so many processors, as 4, instead of on all.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Run the Kth of N parts of the system tests, as 1/3, for machines that share them.
    #[arg(long, value_name = "K/N", value_parser = shard)]
    shard: Option<String>,
    /// Print the names of the system tests, as `--list update` those with `update` in them, and run none.
    #[arg(long)]
    list: bool,
    /// Write the system tests' results as JUnit XML, as `checks.xml`; those of another board beside it, as
    /// `checks-orangepi-pc.xml`.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Give up after so many minutes, as 85, and say what was not done.
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Stages, and parts of test names, as `lint an_unsigned_slot`.
    #[arg(value_name = "STAGE|TEST")]
    filters: Vec<String>,
}

/// `K/N`, as the runner of the system tests takes it.
fn shard(text: &str) -> Result<String, String> {
    let numbers = text
        .split_once('/')
        .and_then(|(part, of)| Some((part.parse::<usize>().ok()?, of.parse::<usize>().ok()?)));
    match numbers {
        Some((part, of)) if (1..=of).contains(&part) => Ok(text.to_owned()),
        _ => Err("must be K/N with K from 1 to N, as 1/3".to_owned()),
    }
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

    fn add(&mut self, more: Self) {
        self.passed = self.passed.saturating_add(more.passed);
        self.failed = self.failed.saturating_add(more.failed);
    }
}

/// One stage's result.
#[derive(Debug)]
struct StageResult {
    name: &'static str,
    counts: Counts,
    /// When it began, counted from the run's begin.
    began: Duration,
    took: Duration,
}

/// What all stages need.
#[derive(Debug)]
struct TestRun {
    workspace: Workspace,
    full: bool,
    /// Of the images; the board of their manifests when none is named.
    board: Option<String>,
    /// Stages that were named; those run whole.
    named: Vec<&'static str>,
    /// Parts of test names; empty for all.
    tests: Vec<String>,
    /// Processors that may be used.
    jobs: usize,
    /// The tokens that all guests of the run share. Compilers have their own, so that no guest waits for one.
    guests: Option<jobserver::Client>,
    shard: Option<String>,
    junit: Option<PathBuf>,
    /// For property tests.
    seed: u64,
    /// What is tested, as it was when the run began.
    commit: String,
}

/// A row of the table of stages.
struct Stage {
    node: Node,
    run: fn(&TestRun, &StageLog) -> Result<Counts>,
    /// True where it is a test itself and no preparation of others.
    counts: bool,
}

const fn stage(
    name: &'static str,
    run: fn(&TestRun, &StageLog) -> Result<Counts>,
    needs: &'static [&'static str],
    lanes: &'static [Lane],
) -> Stage {
    Stage { node: Node { name, needs, lanes, rank: Rank::Usual }, run, counts: true }
}

impl Stage {
    const fn rank(self, rank: Rank) -> Self {
        let node = Node { rank, ..self.node };
        Self { node, ..self }
    }

    const fn prepares(self) -> Self {
        Self { counts: false, ..self }
    }
}

const HOST: &[Lane] = &[Lane::HostTarget];
const DEVICE: &[Lane] = &[Lane::DeviceBuilds];
const KERNEL: &[Lane] = &[Lane::KernelBuilds];
/// The host tool's tests build images and apps.
const BOTH: &[Lane] = &[Lane::HostTarget, Lane::DeviceBuilds];

/// Stages: what the longest one waits for, the longest one, and what fills the gaps.
const STAGES: [Stage; 16] = [
    stage("kernels", stages::kernels, &[], KERNEL).rank(Rank::Urgent),
    stage(HOST_PROGRAMS, stages::host_programs, &[], HOST).rank(Rank::Urgent).prepares(),
    stage("images", stages::images, &["kernels"], DEVICE).rank(Rank::Urgent),
    stage("system", stages::system, &["images", HOST_PROGRAMS], &[]).rank(Rank::Urgent),
    stage(UNIT_PROGRAMS, stages::unit_programs, &[HOST_PROGRAMS], HOST)
        .rank(Rank::Filler)
        .prepares(),
    stage("unit", stages::unit, &["images", UNIT_PROGRAMS], BOTH),
    stage("reproducible", reproducible::run, &["images"], DEVICE),
    // No filler: where it is not in the cache, the guests of `boards` would be left over at the end.
    stage(BOARD_KERNELS, stages::board_kernels, &[], KERNEL).prepares(),
    stage("boards", boards::run, &[BOARD_KERNELS, HOST_PROGRAMS], DEVICE),
    stage("lint", stages::lint, &[], HOST).rank(Rank::Filler),
    stage("docs", stages::docs, &[], HOST).rank(Rank::Filler),
    stage("fuzz", fuzz::run, &[], &[]).rank(Rank::Filler),
    stage("dependencies", stages::dependencies, &[], &[]).rank(Rank::Filler),
    stage("reference-client", reference_client::run, &[], &[]).rank(Rank::Filler),
    stage("kernel-config", stages::kernel_config, &[], KERNEL).rank(Rank::Filler),
    stage("format", stages::format, &[], &[]).rank(Rank::Filler),
];

/// The step that builds what other stages start on this host.
const HOST_PROGRAMS: &str = "host-programs";
/// The step that builds the unit tests.
const UNIT_PROGRAMS: &str = "unit-programs";
/// The step that builds the kernels and boot loaders of boards that the system tests do not run on.
const BOARD_KERNELS: &str = "board-kernels";
/// Stages that a test's name chooses.
const OF_TESTS: [&str; 4] = ["kernels", "images", "system", "unit"];
/// Stages that `--board` chooses.
const OF_BOARD: [&str; 3] = ["kernels", "images", "system"];
/// The board of the images' manifests.
const DEFAULT_BOARD: &str = "qemu-virt";
/// Cases of each property test with `--full`.
const FULL_CASES: u32 = 4096;

impl TestRun {
    fn new(workspace: &Workspace, args: &TestArgs) -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = args.jobs.map_or(processors, usize::from);
        let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let stage_of = |filter: &String| {
            let stage = STAGES.iter().find(|stage| stage.counts && stage.node.name == filter);
            stage.map(|stage| stage.node.name)
        };
        let absolute = |path: &PathBuf| std::path::absolute(path).context("--junit: no path");
        Ok(Self {
            workspace: workspace.clone(),
            full: args.full,
            board: args.board.clone(),
            named: args.filters.iter().filter_map(stage_of).collect(),
            tests: args.filters.iter().filter(|f| stage_of(f).is_none()).cloned().collect(),
            jobs,
            guests: None,
            shard: args.shard.clone(),
            junit: args.junit.as_ref().map(absolute).transpose()?,
            seed: since_1970.as_secs(),
            commit: workspace.commit(),
        })
    }

    /// True for a stage that is part of this run.
    fn is_chosen(&self, name: &str) -> bool {
        if name == HOST_PROGRAMS {
            return ["system", "boards"].iter().any(|stage| self.is_chosen(stage));
        }
        if name == UNIT_PROGRAMS {
            return self.is_chosen("unit");
        }
        if name == BOARD_KERNELS {
            return self.is_chosen("boards");
        }
        let named = self.named.contains(&name);
        if self.board.is_some() {
            return OF_BOARD.contains(&name) && (named || self.named.is_empty());
        }
        let everything = self.named.is_empty() && self.tests.is_empty();
        everything || named || (!self.tests.is_empty() && OF_TESTS.contains(&name))
    }

    /// Parts of the names of the tests that a stage runs; empty for all.
    fn filters_of(&self, stage: &str) -> &[String] {
        let whole = self.named.contains(&stage) || !["system", "unit"].contains(&stage);
        if whole { &[] } else { &self.tests }
    }

    /// True for what was run for other stages' sake and is not worth a line when it went well.
    fn is_silent(&self, result: &StageResult) -> bool {
        let for_tests = !self.tests.is_empty() && ["kernels", "images"].contains(&result.name);
        let prepares =
            [HOST_PROGRAMS, UNIT_PROGRAMS, BOARD_KERNELS].contains(&result.name) || for_tests;
        prepares && !self.named.contains(&result.name) && result.counts.failed == 0
    }
}

pub(crate) fn run(workspace: &Workspace, args: &TestArgs) -> Result<()> {
    let started = Instant::now();
    let after = args.minutes.map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
    let deadline = after.and_then(|after| started.checked_add(after));
    let mut test_run = TestRun::new(workspace, args)?;
    if args.list {
        return stages::list(&test_run);
    }
    // All at once, since apt has one lock.
    host::ensure(&[host::IMAGE, host::TOOLCHAIN, host::KERNEL, host::TESTS])?;
    for (stage, needs) in [
        ("fuzz", host::FUZZ),
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

/// A file's name with the board's behind it, before its extension.
fn beside(file: &Path, board: &str) -> PathBuf {
    let mut name = file.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{board}"));
    let path = file.with_file_name(name);
    match file.extension() {
        Some(extension) => path.with_added_extension(extension),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(board: Option<&str>, filters: &[&str]) -> (TestRun, Vec<&'static str>) {
        let workspace = Workspace { root: "/".into(), cache: "/".into(), jobs: None };
        let args = TestArgs {
            full: false,
            board: board.map(str::to_owned),
            jobs: None,
            shard: None,
            list: false,
            junit: None,
            minutes: None,
            filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
        };
        let run = TestRun::new(&workspace, &args).unwrap();
        let names = STAGES.iter().map(|stage| stage.node.name);
        let names = names.filter(|name| run.is_chosen(name)).collect();
        (run, names)
    }

    #[test]
    fn names_choose_stages_and_tests_choose_what_runs_them() {
        assert_eq!(chosen(None, &[]).1.len(), STAGES.len());
        assert_eq!(chosen(None, &["lint", "docs"]).1, ["lint", "docs"]);
        assert_eq!(chosen(None, &["system"]).1, ["host-programs", "system"]);
        let all = ["kernels", "host-programs", "images", "system", "unit-programs", "unit"];
        let (run, names) = chosen(None, &["a_zombie"]);
        assert_eq!(names, all);
        assert_eq!(run.filters_of("unit"), ["a_zombie"]);
        assert_eq!(run.filters_of("system"), ["a_zombie"]);
        let (run, names) = chosen(None, &["unit", "a_zombie"]);
        assert_eq!(names, all);
        assert!(run.filters_of("unit").is_empty(), "a stage that is named runs whole");
        let on_board = chosen(Some("orangepi-pc"), &["a_zombie"]);
        assert_eq!(on_board.1, ["kernels", "host-programs", "images", "system"]);
        assert_eq!(on_board.0.filters_of("system"), ["a_zombie"]);
    }

    #[test]
    fn preparations_are_reported_only_when_they_fail_or_were_asked_for() {
        let result = |name, counts| StageResult {
            name,
            counts,
            began: Duration::ZERO,
            took: Duration::ZERO,
        };
        let silent = |filters: &[&str], name| {
            let run = chosen(None, filters).0;
            let silent = run.is_silent(&result(name, Counts::PASSED));
            assert!(!run.is_silent(&result(name, Counts::FAILED)));
            silent
        };
        assert!(silent(&["a_zombie"], "images") && silent(&["a_zombie"], "kernels"));
        assert!(!silent(&[], "images") && !silent(&["images"], "images"));
        assert!(silent(&[], HOST_PROGRAMS) && !silent(&["a_zombie"], "unit"));
    }

    #[test]
    fn every_need_is_a_stage_before_it() {
        for (index, stage) in STAGES.iter().enumerate() {
            for need in stage.node.needs {
                let place = STAGES.iter().position(|other| other.node.name == *need);
                assert!(place.is_some_and(|at| at < index), "{} {need}", stage.node.name);
            }
        }
    }

    #[test]
    fn parts_and_files_are_named_as_the_help_says() {
        assert_eq!(shard("1/3").unwrap(), "1/3");
        for wrong in ["0/3", "4/3", "1", "a/b"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
        let named = beside(Path::new("/tmp/checks.xml"), "orangepi-pc");
        assert_eq!(named, Path::new("/tmp/checks-orangepi-pc.xml"));
        assert_eq!(beside(Path::new("checks"), "b"), Path::new("checks-b"));
    }
}

//! What a run of the tests is: which stages and tests were chosen, what they share, and what they have counted.

use anyhow::{Context, Result};
use clap::Args;
use holdfast_builder::image::parts::{self, Parts};
use holdfast_builder::workspace::Workspace;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The step that builds what other stages start on this host.
pub(super) const HOST_PROGRAMS: &str = "host-programs";
/// The step that builds the unit tests.
pub(super) const UNIT_PROGRAMS: &str = "unit-programs";
/// The step that builds the kernels and boot loaders of boards that the system tests do not run on.
pub(super) const BOARD_KERNELS: &str = "board-kernels";
/// The part of `unit` that needs nothing but this host's compiler; a run of everything has it in `unit`.
pub(super) const UNIT_PURE: &str = "unit-pure";
/// What real Buildroot makes of our tree: where somebody says where it is.
pub(super) const BUILDROOT: &str = "buildroot";
/// What can be said of our tree without it.
pub(super) const BUILDROOT_TREE: &str = "buildroot-tree";
/// What the security service is tried with that is large to install: with `--full`, or where it is named.
pub(super) const SERVICE_PEERS: &str = "service-peers";
/// A large fleet of simulated devices: with `--full`, or where it is named.
pub(super) const FLEET: &str = "fleet";
/// Stages of `check`.
pub(super) const OF_CHECK: [&str; 3] = ["format", "lint", UNIT_PURE];
/// Stages that make no image: they do without the Debian packages for it.
pub(super) const WITHOUT_IMAGES: [&str; 9] = [
    "format",
    "lint",
    "docs",
    "dependencies",
    "fuzz",
    UNIT_PURE,
    BUILDROOT_TREE,
    SERVICE_PEERS,
    FLEET,
];
/// Stages that a test's name chooses.
const OF_TESTS: [&str; 4] = ["kernels", "images", "system", "unit"];
/// Stages that `--board` chooses.
const OF_BOARD: [&str; 3] = ["kernels", "images", "system"];
/// The board of the images' manifests.
pub(super) const DEFAULT_BOARD: &str = "qemu-virt";
/// Cases of each property test with `--full`.
pub(super) const FULL_CASES: u32 = 4096;

/// Arguments of `test`.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Stages: kernels, images, system, unit, reproducible, boards, buildroot-tree, lint, docs, fuzz, \
                  dependencies, reference-client, kernel-config, format; unit-pure, a part of unit that runs when it \
                  is named; service-peers, which needs Go and more, and fleet, a million simulated devices, with --full; and buildroot, which runs real Buildroot where \
                  BUILDROOT_DIR names it. They run side by side, as many as there are processors; \
                  each line of output has its stage in front.\n\n\
                  Example: cargo holdfast test\n         \
                  cargo holdfast test a_zombie_storm_is_reaped\n         \
                  cargo holdfast test lint docs an_unsigned_slot\n         \
                  cargo holdfast test --board orangepi-pc\n         \
                  cargo holdfast test --image output/images/hello.img\n         \
                  cargo holdfast test --list update\n         \
                  cargo holdfast test --full --jobs 8\n         \
                  cargo holdfast test system --shard 1/3 --junit checks.xml\n         \
                  cargo holdfast test --minutes 85"
)]
pub(crate) struct TestArgs {
    /// Run every count that the project names, and write docs/evidence/.
    #[arg(long)]
    pub(super) full: bool,
    /// Build the images for this board, as `orangepi-pc`, and run the system tests on them alone.
    #[arg(long)]
    pub(super) board: Option<String>,
    /// Run the system tests on what somebody else (Buildroot) has built: on this image, and on test images that are
    /// put together from the parts that the file beside it (`NAME.parts.toml`) names.
    #[arg(long, value_name = "FILE", conflicts_with = "board")]
    pub(super) image: Option<PathBuf>,
    /// Compile and run guests on so many processors, as 4, instead of on all.
    #[arg(long, value_name = "N")]
    pub(super) jobs: Option<NonZeroUsize>,
    /// Run the Kth of N parts of the system tests, as 1/3, for machines that share them.
    #[arg(long, value_name = "K/N", value_parser = shard)]
    pub(super) shard: Option<String>,
    /// Print the names of the system tests, as `--list update` those with `update` in them, and run none.
    #[arg(long)]
    pub(super) list: bool,
    /// Write the system tests' results as JUnit XML, as `checks.xml`; those of another board beside it, as
    /// `checks-orangepi-pc.xml`.
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// Give up after so many minutes, as 85, and say what was not done.
    #[arg(long, value_name = "N")]
    pub(super) minutes: Option<u64>,
    /// Stages, and parts of test names, as `lint an_unsigned_slot`.
    #[arg(value_name = "STAGE|TEST")]
    pub(super) filters: Vec<String>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Runs the stages format, lint and unit-pure of `test`: rustfmt, clippy on everything that runs on \
                  this host, and the unit tests of the crates below os/ that have no effects. Nothing is built for \
                  a device.\n\n\
                  Example: cargo holdfast check"
)]
pub(crate) struct CheckArgs {
    /// Compile on so many processors, as 4, instead of on all.
    #[arg(long, value_name = "N")]
    pub(super) jobs: Option<NonZeroUsize>,
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
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

impl Counts {
    pub(super) const PASSED: Self = Self { passed: 1, failed: 0 };
    pub(super) const FAILED: Self = Self { passed: 0, failed: 1 };

    pub(super) fn add(&mut self, more: Self) {
        self.passed = self.passed.saturating_add(more.passed);
        self.failed = self.failed.saturating_add(more.failed);
    }
}

/// One stage's result.
#[derive(Debug)]
pub(super) struct StageResult {
    pub(super) name: &'static str,
    pub(super) counts: Counts,
    /// When it began, counted from the run's begin.
    pub(super) began: Duration,
    pub(super) took: Duration,
}

/// What all stages need.
#[derive(Debug)]
pub(super) struct TestRun {
    pub(super) workspace: Workspace,
    pub(super) full: bool,
    /// Of the images; the board of their manifests when none is named.
    pub(super) board: Option<String>,
    /// An image that somebody else has built, with the parts that it was put together from.
    pub(super) given: Option<(PathBuf, Parts)>,
    /// True where somebody says where Buildroot is.
    pub(super) buildroot: bool,
    /// Stages that were named; those run whole.
    pub(super) named: Vec<&'static str>,
    /// Parts of test names; empty for all.
    pub(super) tests: Vec<String>,
    /// Processors that may be used.
    pub(super) jobs: usize,
    /// The tokens that all guests of the run share. Compilers have their own, so that no guest waits for one.
    pub(super) guests: Option<jobserver::Client>,
    pub(super) shard: Option<String>,
    pub(super) junit: Option<PathBuf>,
    /// For property tests.
    pub(super) seed: u64,
    /// What is tested, as it was when the run began.
    pub(super) commit: String,
}

impl TestRun {
    /// The run that was asked for; `stages` are the names by which a filter chooses one.
    pub(super) fn new(
        workspace: &Workspace,
        args: &TestArgs,
        stages: &[&'static str],
    ) -> Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = args.jobs.map_or(processors, usize::from);
        let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let stage_of =
            |filter: &String| stages.iter().find(|stage| **stage == filter.as_str()).copied();
        let absolute = |path: &PathBuf| std::path::absolute(path).context("--junit: no path");
        let given = args.image.as_deref().map(given).transpose()?;
        Ok(Self {
            workspace: workspace.clone(),
            full: args.full,
            board: given.as_ref().map(|(_, parts)| parts.board.clone()).or(args.board.clone()),
            given,
            buildroot: false,
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
    pub(super) fn is_chosen(&self, name: &str) -> bool {
        if name == HOST_PROGRAMS {
            return ["system", "boards", BUILDROOT].iter().any(|stage| self.is_chosen(stage));
        }
        if name == UNIT_PROGRAMS {
            return self.is_chosen("unit");
        }
        if name == BOARD_KERNELS {
            return self.is_chosen("boards");
        }
        let named = self.named.contains(&name);
        if name == BUILDROOT {
            return named || (self.buildroot && self.is_everything() && self.board.is_none());
        }
        if name == UNIT_PURE {
            return named;
        }
        if [SERVICE_PEERS, FLEET].contains(&name) {
            return named || (self.full && self.is_everything() && self.board.is_none());
        }
        if self.board.is_some() {
            return OF_BOARD.contains(&name) && (named || self.named.is_empty());
        }
        self.is_everything() || named || (!self.tests.is_empty() && OF_TESTS.contains(&name))
    }

    /// True where no stage and no test was named.
    fn is_everything(&self) -> bool {
        self.named.is_empty() && self.tests.is_empty()
    }

    /// Parts of the names of the tests that a stage runs; empty for all.
    pub(super) fn filters_of(&self, stage: &str) -> &[String] {
        let whole = self.named.contains(&stage) || !["system", "unit"].contains(&stage);
        if whole { &[] } else { &self.tests }
    }

    /// True for what was run for other stages' sake and is not worth a line when it went well.
    pub(super) fn is_silent(&self, result: &StageResult) -> bool {
        let for_tests = !self.tests.is_empty() && ["kernels", "images"].contains(&result.name);
        let prepares =
            [HOST_PROGRAMS, UNIT_PROGRAMS, BOARD_KERNELS].contains(&result.name) || for_tests;
        prepares && !self.named.contains(&result.name) && result.counts.failed == 0
    }
}

/// An image that somebody else has built, and the parts that the file beside it names.
fn given(image: &Path) -> Result<(PathBuf, Parts)> {
    let image = std::fs::canonicalize(image)
        .with_context(|| format!("--image: cannot find {}", image.display()))?;
    let parts = Parts::load(&image.with_extension(parts::ENDING)).with_context(|| {
        format!(
            "--image: {}: nothing beside it names what it was put together from",
            image.display()
        )
    })?;
    Ok((image, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_a_part_of_some() {
        assert_eq!(shard("1/3").unwrap(), "1/3");
        for wrong in ["0/3", "4/3", "1", "a/b"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }
}

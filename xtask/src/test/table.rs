//! The table of stages: what each runs, what it needs, and what it must have for itself.

use super::graph::{Lane, Node, Rank};
use super::stage_log::StageLog;
use super::test_run::{
    BOARD_KERNELS, BUILDROOT, BUILDROOT_TREE, Counts, FLEET, HOST_PROGRAMS, SERVICE_PEERS, TestRun,
    UNIT_PROGRAMS, UNIT_PURE,
};
use super::{
    boards, buildroot, fleet, fuzz, reference_client, reproducible, service_peers, stages,
};
use anyhow::Result;

/// A row of the table of stages.
pub(super) struct Stage {
    pub(super) node: Node,
    pub(super) run: fn(&TestRun, &StageLog) -> Result<Counts>,
    /// True where it is a test itself and no preparation of others.
    pub(super) counts: bool,
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
pub(super) const STAGES: [Stage; 21] = [
    stage("kernels", stages::kernels, &[], KERNEL).rank(Rank::Urgent),
    stage(HOST_PROGRAMS, stages::host_programs, &[], HOST).rank(Rank::Urgent).prepares(),
    stage("images", stages::images, &["kernels"], DEVICE).rank(Rank::Urgent),
    stage("system", stages::system, &["images", HOST_PROGRAMS], &[]).rank(Rank::Urgent),
    stage(UNIT_PROGRAMS, stages::unit_programs, &[HOST_PROGRAMS], HOST)
        .rank(Rank::Filler)
        .prepares(),
    stage("unit", stages::unit, &["images", UNIT_PROGRAMS], BOTH),
    stage(UNIT_PURE, stages::unit_pure, &[], HOST),
    stage("reproducible", reproducible::run, &["images"], DEVICE),
    // No filler: where it is not in the cache, the guests of `boards` would be left over at the end.
    stage(BOARD_KERNELS, stages::board_kernels, &[], KERNEL).prepares(),
    stage("boards", boards::run, &[BOARD_KERNELS, HOST_PROGRAMS], DEVICE),
    stage(BUILDROOT, buildroot::run, &[HOST_PROGRAMS, "images"], DEVICE),
    stage(BUILDROOT_TREE, buildroot::tree, &[], &[]).rank(Rank::Filler),
    stage("lint", stages::lint, &[], HOST).rank(Rank::Filler),
    stage("docs", stages::docs, &[], HOST).rank(Rank::Filler),
    stage("fuzz", fuzz::run, &[], &[]).rank(Rank::Filler),
    stage("dependencies", stages::dependencies, &[], &[]).rank(Rank::Filler),
    stage("reference-client", reference_client::run, &[], &[]).rank(Rank::Filler),
    stage(SERVICE_PEERS, service_peers::run, &[], HOST).rank(Rank::Filler),
    stage(FLEET, fleet::run, &[], HOST).rank(Rank::Filler),
    stage("kernel-config", stages::kernel_config, &[], KERNEL).rank(Rank::Filler),
    stage("format", stages::format, &[], &[]).rank(Rank::Filler),
];

/// The names by which stages are chosen.
pub(super) fn names() -> Vec<&'static str> {
    STAGES.iter().filter(|stage| stage.counts).map(|stage| stage.node.name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::test_run::{OF_CHECK, StageResult, TestArgs};
    use super::*;
    use holdfast_builder::kernel::Purpose;
    use holdfast_builder::workspace::Workspace;
    use std::time::Duration;

    fn chosen(board: Option<&str>, filters: &[&str]) -> (TestRun, Vec<&'static str>) {
        let workspace = Workspace { root: "/".into(), cache: "/".into(), jobs: None };
        let args = TestArgs {
            board: board.map(str::to_owned),
            filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
            ..TestArgs::default()
        };
        let run = TestRun::new(&workspace, &args, &names()).unwrap();
        let chosen = STAGES.iter().map(|stage| stage.node.name);
        let chosen = chosen.filter(|name| run.is_chosen(name)).collect();
        (run, chosen)
    }

    #[test]
    fn names_choose_stages_and_tests_choose_what_runs_them() {
        let everything = chosen(None, &[]).1;
        let others = STAGES.iter();
        let others = others.filter(|stage| {
            ![UNIT_PURE, BUILDROOT, SERVICE_PEERS, FLEET].contains(&stage.node.name)
        });
        assert_eq!(everything.len(), others.count());
        assert!(!everything.contains(&UNIT_PURE), "it is a part of `unit`");
        assert!(!everything.contains(&BUILDROOT), "Buildroot is where BUILDROOT_DIR says");
        assert!(chosen(None, &[BUILDROOT]).1.contains(&BUILDROOT));
        for (name, why) in [(SERVICE_PEERS, "Go is large"), (FLEET, "a million devices take long")]
        {
            assert!(!everything.contains(&name), "{why}");
            assert!(chosen(None, &[name]).1.contains(&name));
        }
        assert_eq!(chosen(None, &OF_CHECK).1, [UNIT_PURE, "lint", "format"]);
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

    /// What names the parts of an image, as a build system writes it.
    const PARTS: &str = r#"
built_by = "Buildroot 2026.08"
board = "orangepi-pc"
[kernel]
image = "zImage"
config = "linux.config"
compiler = "gcc 14"
source = { version = "6.12.1", sha256 = "aa", directory = "linux" }
[boot_loader]
image = "u-boot-nodtb.bin"
config = "u-boot.config"
source = { version = "2023.01", sha256 = "bb", directory = "u-boot" }
[programs]
directory = "programs"
strip = "bin/strip"
sources = "holdfast"
cargo = "bin/cargo"
rustc = "bin/rustc"
[libc]
version = "1.2.5"
"#;

    #[test]
    fn an_image_that_was_given_brings_its_kernel() {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("hello.img");
        std::fs::write(&image, "").unwrap();
        let workspace = Workspace { root: "/".into(), cache: "/".into(), jobs: None };
        let run = |image: Option<&std::path::Path>| {
            let args = TestArgs {
                image: image.map(Into::into),
                filters: vec!["the_image_boots".to_owned()],
                ..TestArgs::default()
            };
            TestRun::new(&workspace, &args, &names())
        };
        assert!(run(Some(&image)).is_err(), "nothing names its parts");
        std::fs::write(image.with_extension("parts.toml"), PARTS).unwrap();
        let given = run(Some(&image)).unwrap();
        assert_eq!(given.board.as_deref(), Some("orangepi-pc"));
        assert!(given.is_chosen("kernels"), "the control of attacks runs on one");
        assert_eq!(stages::purposes(&given), [Purpose::Control]);
        assert_eq!(stages::purposes(&run(None).unwrap()), [Purpose::Image, Purpose::Control]);
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
}

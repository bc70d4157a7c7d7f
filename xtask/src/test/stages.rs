//! What the stages do that need no file of their own.

use super::hardening_checker::{self, HardeningChecker};
use super::stage_log::StageLog;
use super::system_tests::{self, SYSTEM_TESTS, host_directory, image_directory, program_directory};
use super::test_run::{Counts, DEFAULT_BOARD, FULL_CASES, HOST_PROGRAMS, TestRun};
use super::{boards, dynamic_app, names, tools};
use crate::test_programs;
use anyhow::{Context, Result, ensure};
use holdfast_builder::device_build::cargo_package;
use holdfast_builder::image::ImageBuilder;
use holdfast_builder::kernel::{self, Purpose, rules};
use holdfast_builder::workspace;
use holdfast_builder::{pins, process, u_boot};
use holdfast_images::board::Board;
use holdfast_images::{build, show};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The OEM's tool, and its package.
const HOST_TOOL: &str = "holdfast";
/// The program of the Security Service, and its package.
const SERVICE: &str = "holdfast-service";
/// The simulator of fleets, and its package.
const SIMULATOR: &str = "holdfast-fleet";
/// Names the program of the service to the tests of the tool's commands.
const SERVICE_VARIABLE: &str = "HOLDFAST_SERVICE_PROGRAM";

/// The cargo that runs this program, in the workspace, with its share of the processors.
pub(super) fn cargo(test_run: &TestRun) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&test_run.workspace.root).stdin(Stdio::null());
    test_run.workspace.share_jobs(&mut command);
    command
}

pub(super) fn format(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    log.passes(cargo(test_run).args(["fmt", "--all", "--check"]))
}

pub(super) fn lint(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let arguments = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    log.passes(cargo(test_run).args(arguments))
}

pub(super) fn docs(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    log.passes(
        cargo(test_run)
            .args(["doc", "--quiet", "--no-deps", "--workspace", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Licences, bans and sources; advisories where a database is given.
pub(super) fn dependencies(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let deny = tools::cargo_deny(&test_run.workspace)?;
    // Other platforms' crates stand in Cargo.lock as well; cargo-deny reads them and fetches none.
    process::output(cargo(test_run).args(["fetch", "--locked", "--quiet"]))?;
    let check = |what: &[&str]| {
        let mut command = Command::new(&deny);
        command.current_dir(&test_run.workspace.root);
        command.args(["--offline", "check", "--hide-inclusion-graph"]).args(what);
        log.passes(&mut command)
    };
    let mut counts = check(&["licenses", "bans", "sources"])?;
    if let Some(database) = std::env::var_os("HOLDFAST_ADVISORY_DB") {
        let config = workspace::read_text(&test_run.workspace.root.join("deny.toml"))?;
        let section = format!("\n[advisories]\ndb-path = {database:?}\n");
        let file = tempfile::Builder::new().suffix(".toml").tempfile().context("no file")?;
        workspace::write(file.path(), config + &section)?;
        let path = file.path().to_string_lossy().into_owned();
        counts.add(check(&["--disable-fetch", "--config", &path, "advisories"])?);
    }
    Ok(counts)
}

/// Kernels and boot loader of the board that the system tests run on, for which most stages wait.
pub(super) fn kernels(test_run: &TestRun, _: &StageLog) -> Result<Counts> {
    let board = test_run.board.as_deref().unwrap_or(DEFAULT_BOARD);
    build_kernels(test_run, board, purposes(test_run))?;
    Ok(Counts::PASSED)
}

/// What is built of kernels for the system tests: an image that was given brings its own, and its boot loader.
pub(super) fn purposes(test_run: &TestRun) -> &'static [Purpose] {
    if test_run.given.is_some() {
        return &[Purpose::Control];
    }
    &[Purpose::Image, Purpose::Control]
}

/// Kernels and boot loaders of all other boards that stage `boards` looks at.
pub(super) fn board_kernels(test_run: &TestRun, _: &StageLog) -> Result<Counts> {
    for board in boards::looked_at(test_run) {
        build_kernels(test_run, &board, &[Purpose::Image])?;
    }
    Ok(Counts::PASSED)
}

fn build_kernels(test_run: &TestRun, board: &str, purposes: &[Purpose]) -> Result<()> {
    let workspace = &test_run.workspace;
    let pins = pins::load(workspace)?;
    let board = Board::load(&workspace.root.join("images/boards"), board, Path::new("kernels"))?;
    if purposes.contains(&Purpose::Image) {
        u_boot::build(workspace, &board, &pins, false)?;
    }
    for purpose in purposes {
        kernel::build(workspace, &board, &pins, false, *purpose)?;
    }
    Ok(())
}

/// What other stages start on this host, in a directory of its own: cargo builds for other stages meanwhile, and
/// replaces what it has built in `target/debug`.
pub(super) fn host_programs(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let mut build = build_system_tests(test_run);
    build.args(["--package", HOST_TOOL, "--package", SERVICE, "--package", SIMULATOR]);
    let counts = log.passes(&mut build)?;
    if counts.failed > 0 {
        return Ok(counts);
    }
    let built = built_directory(test_run);
    let directory = host_directory(test_run)?;
    workspace::make_directory(&directory)?;
    for program in [SYSTEM_TESTS, HOST_TOOL, SERVICE, SIMULATOR] {
        let (from, to) = (built.join(program), directory.join(program));
        // Whoever runs the former one keeps it.
        let _ = std::fs::remove_file(&to);
        std::fs::copy(&from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    Ok(counts)
}

/// Where cargo puts what it has built for this host.
fn built_directory(test_run: &TestRun) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    test_run.workspace.root.join(target).join("debug")
}

/// The programs of the unit tests, which are built beside the guests and run later.
pub(super) fn unit_programs(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let Some(packages) = tested_packages(test_run)? else { return Ok(Counts::PASSED) };
    log.passes(cargo(test_run).args(["test", "--quiet", "--no-run"]).args(packages))
}

/// Arguments by which cargo builds every package whose unit tests are run: all of them, or those whose sources have a function that the
/// filters name. `None` where there is no such function: nothing has to be compiled to find that out.
fn tested_packages(test_run: &TestRun) -> Result<Option<Vec<String>>> {
    let filters = test_run.filters_of("unit");
    if filters.is_empty() {
        return Ok(Some(vec!["--workspace".to_owned()]));
    }
    let mut metadata = cargo(test_run);
    let metadata = metadata.args(["metadata", "--no-deps", "--format-version", "1", "--quiet"]);
    let metadata: Value = serde_json::from_str(&process::output(metadata)?)
        .context("cargo describes the workspace in no JSON")?;
    let mut arguments = Vec::new();
    let list = metadata.get("packages").and_then(Value::as_array);
    for package in list.into_iter().flatten() {
        let text = |field| package.get(field).and_then(Value::as_str).unwrap_or_default();
        let directory = Path::new(text("manifest_path")).parent();
        if let Some(directory) = directory
            && names::has_function(directory, filters)?
        {
            arguments.extend(["--package".to_owned(), text("name").to_owned()]);
        }
    }
    Ok(Some(arguments).filter(|arguments| !arguments.is_empty()))
}

pub(super) fn unit(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let Some(packages) = tested_packages(test_run)? else { return Ok(Counts::default()) };
    let mut command = cargo(test_run);
    command.args(["test", "--no-fail-fast", "--quiet"]).args(packages);
    command.env("PROPTEST_RNG_SEED", test_run.seed.to_string());
    // libtest takes no tokens; with a thread for each processor it would starve the guests beside it.
    command.env("RUST_TEST_THREADS", test_run.jobs.div_ceil(2).to_string());
    // Built for the tests of its own package, so that no test has to build it.
    command.env(SERVICE_VARIABLE, built_directory(test_run).join(SERVICE));
    if test_run.full {
        command.env("PROPTEST_CASES", FULL_CASES.to_string());
    }
    let filters = test_run.filters_of("unit");
    if !filters.is_empty() {
        command.arg("--").args(filters);
    }
    log.counted(&mut command)
}

/// The unit tests of the crates that decide and do nothing.
pub(super) fn unit_pure(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let mut command = cargo(test_run);
    command.args(["test", "--no-fail-fast", "--quiet"]);
    for package in pure_packages(&test_run.workspace.root)? {
        command.args(["--package", &package]);
    }
    command.env("PROPTEST_RNG_SEED", test_run.seed.to_string());
    log.counted(&mut command)
}

/// Names of the packages below `os/`, without the one that has the effects, and of what the security service decides.
fn pure_packages(root: &Path) -> Result<Vec<String>> {
    let directory = root.join("os");
    let list = || format!("cannot list {}", directory.display());
    let mut packages = Vec::new();
    for entry in directory.read_dir().with_context(list)? {
        let entry = entry.with_context(list)?;
        let package = entry.path();
        if entry.file_name() == "linux" || !package.join("Cargo.toml").is_file() {
            continue;
        }
        packages.push(cargo_package(&package)?);
    }
    packages.push(cargo_package(&root.join("security-service/domain"))?);
    packages.sort();
    ensure!(packages.len() > 1, "{}: has no packages", directory.display());
    Ok(packages)
}

/// Manifests of the images that the system tests look at.
const IMAGES: [&str; 11] = [
    "images/hello.toml",
    "images/connected.toml",
    "tests/images/probe.toml",
    "tests/images/supervision.toml",
    "tests/images/hostile.toml",
    "tests/images/network.toml",
    "tests/images/lease.toml",
    "tests/images/update.toml",
    "tests/images/deferral.toml",
    "tests/images/lingering.toml",
    "tests/images/crowd.toml",
];
/// Those whose guests check in, for the one board whose stand-in can have a TPM.
const CHECKING_IN: [&str; 2] = ["tests/images/service.toml", "tests/images/reports.toml"];
/// Programs of apps that tests put in the place of others.
const OTHER_PROGRAMS: [(&str, &str); 3] = [
    ("hostile", "tests/apps/hostile"),
    ("hostile-network", "tests/apps/hostile-network"),
    ("authenticating", "tests/apps/authenticating"),
];
/// An image whose apps authenticate to a broker and to each other, and one of those, with `--full` alone.
const AUTHENTICATING: &str = "tests/images/identity-apps.toml";
const PEER_IN_C: (&str, &str) = ("peer-in-c", "tests/apps/peer-in-c");

/// The app of the first of them that waits for a debugger in an image of its own.
const DEBUGGED: &str = "hello";

pub(super) fn images(test_run: &TestRun, _: &StageLog) -> Result<Counts> {
    let mut builder = ImageBuilder::new(&test_run.workspace, false, false)?;
    builder.take_parts(test_run.given.as_ref().map(|(_, parts)| parts.clone()));
    let programs = program_directory(test_run)?;
    let dynamic = dynamic_app::build(test_run, builder.devices()?, &programs)?;
    let board = test_run.board.as_deref();
    let more = (board == Some(boards::WITH_PERIPHERALS)).then_some(boards::PERIPHERALS);
    let checking_in = board.is_none_or(|board| board == DEFAULT_BOARD).then_some(CHECKING_IN);
    let authenticating = checking_in.filter(|_| test_run.full).map(|_| AUTHENTICATING);
    let checking_in = checking_in.into_iter().flatten();
    let more = more.into_iter().flatten().chain(checking_in).chain(authenticating);
    for manifest in IMAGES.into_iter().chain(more) {
        let apps = if manifest.contains("hostile") { &dynamic[..] } else { &[] };
        let output = given_output(test_run, manifest, "")?;
        let manifest = test_run.workspace.root.join(manifest);
        builder.build_for(board, &manifest, apps, output.as_deref())?;
    }
    test_programs::build(&test_run.workspace, &builder, &programs)?;
    for (name, directory) in OTHER_PROGRAMS.into_iter().chain(test_run.full.then_some(PEER_IN_C)) {
        let program = builder.app_program(&test_run.workspace.root.join(directory))?;
        workspace::write(&programs.join(name), program)?;
    }
    builder.set_debugged(Some(DEBUGGED));
    let output = given_output(test_run, IMAGES[0], "-debug")?;
    let manifest = test_run.workspace.root.join(IMAGES[0]);
    builder.build_for(board, &manifest, &[], output.as_deref())?;
    take_given(test_run)?;
    let control = control_kernel(test_run, &builder, board.unwrap_or(DEFAULT_BOARD))?;
    workspace::write(&image_directory(test_run)?.join("control-zImage"), control)?;
    Ok(Counts::PASSED)
}

/// Where an image goes that is put together from what somebody else has built; its usual place otherwise.
fn given_output(test_run: &TestRun, manifest: &str, mark: &str) -> Result<Option<PathBuf>> {
    if test_run.given.is_none() {
        return Ok(None);
    }
    let directory = image_directory(test_run)?;
    workspace::make_directory(&directory)?;
    let stem = Path::new(manifest).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(directory.join(format!("{stem}{mark}.img"))))
}

/// Copies the files of a directory, where there is one.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    workspace::make_directory(to)?;
    let list = || format!("cannot list {}", from.display());
    for entry in from.read_dir().with_context(list)? {
        let entry = entry.with_context(list)?;
        let (file, copy) = (entry.path(), to.join(entry.file_name()));
        std::fs::copy(&file, &copy)
            .with_context(|| format!("cannot copy {} to {}", file.display(), copy.display()))?;
    }
    Ok(())
}

/// Puts the image that was given, byte for byte, in the place of the one of its name, with the symbols of its programs.
fn take_given(test_run: &TestRun) -> Result<()> {
    let Some((image, _)) = &test_run.given else { return Ok(()) };
    let name = show::show(image)?.name;
    let place = image_directory(test_run)?.join(name).with_extension("img");
    let pairs = [(image.clone(), place.clone()), (build::rom_path(image), build::rom_path(&place))];
    for (from, to) in pairs.iter().filter(|(from, _)| from.is_file()) {
        std::fs::copy(from, to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    copy_files(&image.with_extension("symbols"), &place.with_extension("symbols"))
}

/// The kernel that the control of attacks runs on.
fn control_kernel(test_run: &TestRun, builder: &ImageBuilder<'_>, board: &str) -> Result<Vec<u8>> {
    let workspace = &test_run.workspace;
    let boards = workspace.root.join("images/boards");
    let board = Board::load(&boards, board, Path::new("tests/apps/hostile"))?;
    let kernel = kernel::build(workspace, &board, builder.pins(), false, Purpose::Control)?;
    workspace::read(&kernel.image)
}

/// Every rule of required.toml holds in the configuration of every board's kernel, and the document gives the
/// reason for every option that kernel-hardening-checker would have otherwise.
pub(super) fn kernel_config(test_run: &TestRun, _: &StageLog) -> Result<Counts> {
    let workspace = &test_run.workspace;
    let boards = workspace.root.join("images/boards");
    let pins = pins::load(workspace)?;
    let checker = HardeningChecker::load(workspace)?;
    let each = rules::required(workspace)?.len().saturating_add(checker.len());
    let mut counts = Counts::default();
    let mut differing = BTreeSet::new();
    for name in holdfast_images::board::names(&boards) {
        let board = Board::load(&boards, &name, Path::new("kernel-config"))?;
        let config = kernel::configuration(workspace, &board, &pins, false)?;
        rules::check_required(workspace, &config).with_context(|| format!("board {name}"))?;
        differing.extend(checker.differing(&config));
        counts.passed = counts.passed.saturating_add(each);
    }
    hardening_checker::check_reasons(workspace, &differing)?;
    Ok(counts)
}

pub(super) fn system(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let board = test_run.board.as_deref().unwrap_or(DEFAULT_BOARD);
    let mut command = system_tests::command(test_run, board, &image_directory(test_run)?)?;
    command.args(test_run.filters_of("system"));
    if let Some(file) = &test_run.junit {
        command.arg("--junit").arg(file);
    }
    log.counted(command.arg("--times").arg(test_run.workspace.output()?.join("test-times.json")))
}

fn build_system_tests(test_run: &TestRun) -> Command {
    let mut command = cargo(test_run);
    command.args(["build", "--quiet", "--package", SYSTEM_TESTS]);
    command
}

/// Prints the names of the system tests, for which nothing but their program is built.
pub(super) fn list(test_run: &TestRun) -> Result<()> {
    let built = host_programs(test_run, &StageLog::new(HOST_PROGRAMS))?;
    ensure!(built.failed == 0, "the system tests do not build");
    let board = test_run.board.as_deref().unwrap_or(DEFAULT_BOARD);
    let mut command = system_tests::command(test_run, board, &image_directory(test_run)?)?;
    let status = command.arg("--list").args(test_run.filters_of("system")).status();
    let status = status.context("cannot run the system tests")?;
    ensure!(status.success(), "the system tests ended with {status}");
    Ok(())
}

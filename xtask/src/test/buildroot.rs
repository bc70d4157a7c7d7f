//! The stages `buildroot-tree` and `buildroot`: what can be said of `buildroot-external/` without Buildroot, and what
//! real Buildroot makes of it.
//!
//! Real Buildroot is what `BUILDROOT_DIR` names: an unpacked release. `BUILDROOT_FRAGMENT` may name a file of lines that
//! are put behind each defconfig, `BUILDROOT_OVERRIDE` one of `PACKAGE_OVERRIDE_SRCDIR`, and `BUILDROOT_EXTERNAL` further
//! trees: by these, a toolchain or a source that cannot be had is replaced outside the tree.

mod legal_info;
mod oem;
mod refusals;
mod symbols;

use super::stage_log::StageLog;
use super::test_run::{Counts, DEFAULT_BOARD, TestRun};
use super::tools;
use crate::measure::boards::{self, BoardSizes, OfBuildroot};
use anyhow::{Context, Result, bail, ensure};
use holdfast_builder::buildroot::{self, DIRECTORY};
use holdfast_builder::device_build::FOR_THE_HOST;
use holdfast_builder::host::{self, Need};
use holdfast_builder::process;
use holdfast_builder::progress::Step;
use holdfast_builder::workspace;
use holdfast_images::{board, show, verify};
use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The variable that names Buildroot's release.
pub(super) const VARIABLE: &str = "BUILDROOT_DIR";
/// For lines behind each defconfig.
const FRAGMENT: &str = "BUILDROOT_FRAGMENT";
/// The tree of an OEM, below ours.
const OEM_TREE: &str = "example-oem";
/// What switches on its package.
const OEM_PACKAGE: &str = "BR2_PACKAGE_METER=y\n";
/// For Buildroot's `BR2_PACKAGE_OVERRIDE_FILE`.
const OVERRIDE: &str = "BUILDROOT_OVERRIDE";
/// For trees behind ours in `BR2_EXTERNAL`, with `:` between them.
const EXTERNAL: &str = "BUILDROOT_EXTERNAL";
/// What make has to know of boards; generated.
const BOARDS: &str = "boards.mk";
/// The board of which the image's boot and signature checks run, beside [`DEFAULT_BOARD`].
const OTHER_BOARD: &str = "orangepi-pc";
/// Those checks.
const OTHER_CHECKS: [&str; 5] = [
    "the_image_boots",
    "the_app_runs",
    "a_slot_that_a_key_has_signed_boots",
    "a_key_that_was_rotated_out_boots_nothing",
    "an_unsigned_slot_never_starts",
];
/// What reads Kconfig, with its hash.
const REQUIREMENTS: &str = "buildroot-external/support/requirements.txt";
/// What Buildroot's `utils/check-package` imports, with the hashes.
const CHECK_PACKAGE: &str = "buildroot-external/support/check-package-requirements.txt";
/// A linter of shell files.
const SHELL_LINTER: &[Need] = &[Need { what: "shellcheck", package: "shellcheck" }];
/// A linker for the device, of gcc.
const LINKER: &[Need] =
    &[Need { what: "arm-linux-gnueabihf-gcc", package: "gcc-arm-linux-gnueabihf" }];
/// What Buildroot looks for on a host before it begins, and images are not made with.
const BUILDROOT_NEEDS: &[Need] = &[
    Need { what: "rsync", package: "rsync" },
    Need { what: "cpio", package: "cpio" },
    Need { what: "file", package: "file" },
    Need { what: "wget", package: "wget" },
    Need { what: "unzip", package: "unzip" },
    Need { what: "g++", package: "g++" },
];
/// Prints the names of all symbols that a Kconfig file defines.
const SYMBOLS: &str = "import kconfiglib, sys\n\
                       for symbol in kconfiglib.Kconfig(sys.argv[1], warn=False).defined_syms:\n    \
                       print(symbol.name)\n";

/// Counts checks, and says how each went.
struct Checks<'a> {
    log: &'a StageLog,
    counts: Counts,
}

impl Checks<'_> {
    fn check(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                self.log.print(format!("test {name} ... ok"));
                self.counts.add(Counts::PASSED);
            }
            Err(error) => {
                self.log.print(format!("test {name} ... FAILED\n{error:#}"));
                self.counts.add(Counts::FAILED);
            }
        }
    }
}

/// What needs no Buildroot.
pub(super) fn tree(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let mut checks = Checks { log, counts: Counts::default() };
    checks.check("the_generated_parts_of_the_tree_are_current", generated_is_current(test_run));
    checks.check("the_tree_is_kconfig_and_defines_what_its_defconfigs_set", kconfig(test_run));
    checks.check("its_shell_files_pass_a_linter", shell_files(test_run));
    checks.check("make_knows_of_each_board_what_it_is_told", boards_in_make(test_run));
    checks.check("programs_get_the_unwinder_of_gcc", unwinder(test_run));
    Ok(checks.counts)
}

/// What `boards.mk` says of a board is what a package sees when make has read the tree.
fn boards_in_make(test_run: &TestRun) -> Result<()> {
    let tree = test_run.workspace.root.join(DIRECTORY);
    let text = workspace::read_text(&tree.join(BOARDS))?;
    for board in board::names(&test_run.workspace.root.join("images/boards")) {
        let begin = format!("ifeq ($(HOLDFAST_BOARD),{board})\n");
        let section = text.split_once(&begin).and_then(|(_, rest)| rest.split_once("endif\n"));
        let (section, _) = section.with_context(|| format!("{BOARDS} has no {board}"))?;
        // make reads the value again, so that what it refers to is the same.
        let compared: String = section
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(name, value)| {
                format!("$(if $(filter-out x$({name}),x{value}),$(error {name} is `$({name})`))\n")
            })
            .collect();
        let scratch = tempfile::tempdir().context("cannot make a directory")?;
        let file = scratch.path().join("Makefile");
        let makefile = format!(
            "BR2_EXTERNAL_HOLDFAST_PATH := {}\nBR2_HOLDFAST_BOARD := \"{board}\"\nqstrip = $(subst \",,$(1))\n\
             include $(BR2_EXTERNAL_HOLDFAST_PATH)/external.mk\n{compared}all: ;\n",
            tree.display()
        );
        workspace::write(&file, makefile)?;
        let mut command = Command::new("make");
        for name in ["MAKEFLAGS", "MFLAGS"] {
            command.env_remove(name);
        }
        command.arg("--silent").arg("--file").arg(&file).arg("all");
        process::output(&mut command).with_context(|| format!("{BOARDS}: {board}"))?;
    }
    Ok(())
}

/// What std asks the linker for, `-lunwind`, is found by a toolchain of gcc, and is the unwinder.
fn unwinder(test_run: &TestRun) -> Result<()> {
    host::ensure(&[LINKER])?;
    let scratch = tempfile::tempdir().context("cannot make a directory")?;
    let (source, program) = (scratch.path().join("unwind.c"), scratch.path().join("unwind"));
    workspace::write(
        &source,
        "int _Unwind_Backtrace(void *, void *);\nint main(void) { return _Unwind_Backtrace(0, 0); }\n",
    )?;
    let link = |libraries: &[&OsStr]| {
        let mut command = Command::new("arm-linux-gnueabihf-gcc");
        // No C library: that of a device is another.
        command.args([
            "-static",
            "-nostdlib",
            "-Wl,--entry=main",
            "-Wl,--unresolved-symbols=ignore-all",
        ]);
        process::output(command.arg("-o").arg(&program).arg(&source).args(libraries))
    };
    let has_unwinder = || -> Result<bool> {
        let symbols = process::output(Command::new("arm-linux-gnueabihf-nm").arg(&program))?;
        Ok(symbols.lines().any(|line| line.ends_with(" T _Unwind_Backtrace")))
    };
    link(&[])?;
    ensure!(!has_unwinder()?, "a program without the library has an unwinder");
    let mut place = OsString::from("-L");
    place.push(test_run.workspace.root.join(DIRECTORY).join("support/lib"));
    link(&[place.as_os_str(), OsStr::new("-Wl,-Bstatic"), OsStr::new("-lunwind")])?;
    ensure!(has_unwinder()?, "-lunwind has no unwinder");
    Ok(())
}

fn generated_is_current(test_run: &TestRun) -> Result<()> {
    for (name, text) in buildroot::files(&test_run.workspace)? {
        let found = workspace::read_text(&test_run.workspace.root.join(&name))?;
        ensure!(
            found == text,
            "{}: is not current; run HOLDFAST_WRITE_DOCS=1 cargo test -p holdfast-builder --test buildroot",
            name.display()
        );
    }
    Ok(())
}

fn kconfig(test_run: &TestRun) -> Result<()> {
    let root = &test_run.workspace.root;
    let (requirements, hashes) = (root.join(REQUIREMENTS), ["--require-hashes"]);
    let python = tools::python_with(
        &test_run.workspace,
        "kconfiglib",
        "kconfiglib",
        &requirements,
        &hashes,
    )?;
    let tree = root.join(DIRECTORY);
    let mut command = Command::new(python);
    command.current_dir(&tree).args(["-c", SYMBOLS, "Config.in"]);
    command.env("BR2_EXTERNAL_HOLDFAST_PATH", &tree).env("srctree", &tree);
    let output = process::output(&mut command)?;
    let defined: BTreeSet<&str> = output.lines().collect();
    for (name, text) in buildroot::files(&test_run.workspace)? {
        for line in
            text.lines().filter(|line| line.contains("HOLDFAST") && line.starts_with("BR2_"))
        {
            let symbol = line.split('=').next().unwrap_or_default();
            let is_own =
                symbol.starts_with("BR2_HOLDFAST") || symbol.starts_with("BR2_PACKAGE_HOLDFAST");
            ensure!(
                !is_own || defined.contains(symbol),
                "{}: {symbol} is not defined",
                name.display()
            );
        }
    }
    ensure!(defined.contains("BR2_HOLDFAST"), "Config.in defines {defined:?}");
    Ok(())
}

fn shell_files(test_run: &TestRun) -> Result<()> {
    host::ensure(&[SHELL_LINTER])?;
    let tree = test_run.workspace.root.join(DIRECTORY);
    let mut command = Command::new("shellcheck");
    for directory in ["support", "board/holdfast"] {
        let list = || format!("cannot list {directory}");
        for entry in fs::read_dir(tree.join(directory)).with_context(list)? {
            let path = entry.with_context(list)?.path();
            if path.extension().is_some_and(|extension| extension == "sh") {
                command.arg(path);
            }
        }
    }
    process::output(&mut command).map(drop)
}

/// What real Buildroot makes of the tree.
pub(super) fn run(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    host::ensure(&[SHELL_LINTER, BUILDROOT_NEEDS])?;
    let buildroot = Buildroot::new(test_run)?;
    let mut checks = Checks { log, counts: Counts::default() };
    let boards = board::names(&test_run.workspace.root.join("images/boards"));
    checks.check("check_package_finds_nothing_wrong", buildroot.check_package(test_run));
    for name in &boards {
        let label = |what: &str| format!("{what}_of_{}", name.replace('-', "_"));
        checks.check(&label("savedefconfig_gives_back_the_defconfig"), buildroot.round_trip(name));
        checks.check(&label("show_info_names_the_packages"), buildroot.show_info(name));
    }
    let mut images = Vec::new();
    for (mistake, result) in buildroot.refusals() {
        checks.check(&format!("a_configuration_with_{mistake}_ends_with_a_sentence"), result);
    }
    for name in &boards {
        let is_built = test_run.full || [DEFAULT_BOARD, OTHER_BOARD].contains(&name.as_str());
        if !is_built {
            continue;
        }
        let label = |what: &str| format!("{what}_of_{}", name.replace('-', "_"));
        let image = buildroot.build(name, "first");
        checks.check(
            &label("the_image_is_sound"),
            image.as_ref().map_err(again).and_then(|i| is_sound(i, name)),
        );
        let Ok(image) = image else { continue };
        checks.check(&label("symbols_are_found_by_the_build_ids"), symbols::are_found(&image));
        let agree = buildroot.legal_info(&buildroot.output.join("first").join(name), &image);
        checks.check(&label("legal_info_and_the_bill_agree"), agree);
        if name == DEFAULT_BOARD {
            let second = buildroot.build(name, "second");
            let same = second.and_then(|second| same_slots(&image, &second));
            checks.check(&label("two_builds_in_two_directories_have_the_same_slots"), same);
            buildroot.check_oem(&mut checks);
        }
        images.push((name, image));
    }
    let paths: Vec<&Path> = images.iter().map(|(_, image)| image.as_path()).collect();
    checks.check("sizes_are_kept_for_docs_numbers", keep_sizes(test_run, &paths));
    // What takes longest comes last.
    for (name, image) in &images {
        let filters: &[&str] = if *name == DEFAULT_BOARD { &[] } else { &OTHER_CHECKS };
        checks.check(
            &format!("the_system_tests_pass_on_the_image_of_{}", name.replace('-', "_")),
            system_tests(test_run, image, filters),
        );
    }
    Ok(checks.counts)
}

/// Leaves the sizes of images for `measure`.
fn keep_sizes(test_run: &TestRun, images: &[&Path]) -> Result<()> {
    let sizes = images.iter().map(|image| BoardSizes::of(image)).collect::<Result<_>>()?;
    let first = images.first().context("no image was built")?;
    let built_by = built_by(first)?;
    let text = serde_json::to_string_pretty(&OfBuildroot { built_by, boards: sizes })?;
    workspace::write(&boards::of_buildroot(&test_run.workspace)?, text)
}

/// Who has built an image, as it says itself.
fn built_by(image: &Path) -> Result<String> {
    let shown = show::show(image)?;
    let said = shown.provenance.as_ref().and_then(|p| p.get("built_by")?.as_str());
    said.map(str::to_owned).context("the image does not say who has built it")
}

/// An error that is said a second time.
fn again(error: &anyhow::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// A release of Buildroot, and where it builds.
struct Buildroot {
    source: PathBuf,
    external: PathBuf,
    output: PathBuf,
    host_tool: PathBuf,
}

impl Buildroot {
    fn new(test_run: &TestRun) -> Result<Self> {
        let source =
            env::var_os(VARIABLE).map(PathBuf::from).context("BUILDROOT_DIR is not set")?;
        ensure!(
            source.join("Makefile").is_file() && source.join("package").is_dir(),
            "BUILDROOT_DIR: {}: is no unpacked release of Buildroot",
            source.display()
        );
        let output = test_run.workspace.output()?;
        Ok(Self {
            source: std::path::absolute(source).context("BUILDROOT_DIR is no path")?,
            external: test_run.workspace.root.join(DIRECTORY),
            host_tool: output.join("host/holdfast"),
            output: output.join("buildroot"),
        })
    }

    /// `make` with one output directory; a variable of this run's own build is none of Buildroot's.
    fn make(&self, output: &Path) -> Command {
        let mut command = Command::new("make");
        command.arg("-C").arg(&self.source);
        let pair = |name: &str, value: &Path| {
            let mut word = OsString::from(format!("{name}="));
            word.push(value);
            word
        };
        let mut trees = pair("BR2_EXTERNAL", &self.external);
        trees.push(":");
        trees.push(self.external.join(OEM_TREE));
        if let Some(more) = env::var_os(EXTERNAL) {
            trees.push(":");
            trees.push(more);
        }
        command.arg(pair("O", output)).arg(trees);
        for name in ["MAKEFLAGS", "MFLAGS"].iter().chain(&FOR_THE_HOST) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    }

    fn configured(&self, board: &str, place: &str) -> Result<PathBuf> {
        let output = self.output.join(place).join(board);
        workspace::make_directory(&output)?;
        process::output(self.make(&output).arg(defconfig(board)))?;
        Ok(output)
    }

    /// A board's configuration with lines behind it.
    fn configured_with(&self, board: &str, place: &str, lines: &str) -> Result<PathBuf> {
        let output = self.configured(board, place)?;
        self.reconfigure(&output, lines)?;
        Ok(output)
    }

    fn old_config(&self, output: &Path) -> Result<()> {
        process::output(self.make(output).arg("olddefconfig")).map(drop)
    }

    fn check_package(&self, test_run: &TestRun) -> Result<()> {
        let requirements = test_run.workspace.root.join(CHECK_PACKAGE);
        let what = "what check-package imports";
        let options = ["--require-hashes"];
        let python = tools::python_with(
            &test_run.workspace,
            "check-package",
            what,
            &requirements,
            &options,
        )?;
        let mut files = Vec::new();
        below(&self.external, &mut files)?;
        let mut command = Command::new(python);
        command.arg(self.source.join("utils/check-package"));
        let mut ignored = OsString::from("--ignore-list=");
        ignored.push(self.external.join(".checkpackageignore"));
        command.arg("--br2-external").arg(ignored).args(files);
        process::output(&mut command).map(drop)
    }

    fn round_trip(&self, board: &str) -> Result<()> {
        let output = self.configured(board, "defconfig")?;
        let saved = output.join("saved");
        let mut word = OsString::from("BR2_DEFCONFIG=");
        word.push(&saved);
        process::output(self.make(&output).arg(word).arg("savedefconfig"))?;
        let (was, is) = (
            workspace::read_text(&self.external.join("configs").join(defconfig(board)))?,
            workspace::read_text(&saved)?,
        );
        let differing: Vec<&str> = was
            .lines()
            .filter(|line| !is.lines().any(|other| other == *line))
            .chain(is.lines().filter(|line| !was.lines().any(|other| other == *line)))
            .collect();
        ensure!(was == is, "savedefconfig has it otherwise:\n{}", differing.join("\n"));
        Ok(())
    }

    fn show_info(&self, board: &str) -> Result<()> {
        let output = self.configured(board, "defconfig")?;
        let said = process::output(self.make(&output).args(["--silent", "show-info"]))?;
        let info: serde_json::Value =
            serde_json::from_str(&said).context("show-info is no JSON")?;
        for package in ["linux", "uboot", "holdfast-init", "holdfast-services"] {
            ensure!(info.get(package).is_some(), "show-info has no {package}");
        }
        ensure!(info.get("busybox").is_none(), "show-info has busybox");
        Ok(())
    }

    /// Builds a board's image, with an OEM's package beside it, of which nothing may get into the image.
    fn build(&self, board: &str, place: &str) -> Result<PathBuf> {
        let mut lines = format!("BR2_HOLDFAST_TOOL=\"{}\"\n", self.host_tool.display());
        lines.push_str(OEM_PACKAGE);
        if let Some(fragment) = env::var_os(FRAGMENT) {
            lines.push_str(&workspace::read_text(Path::new(&fragment))?);
        }
        if let Some(file) = env::var_os(OVERRIDE) {
            let file = Path::new(&file).display();
            lines.push_str(&format!("BR2_PACKAGE_OVERRIDE_FILE=\"{file}\"\n"));
        }
        let output = self.configured_with(board, place, &lines)?;
        let mut step = Step::begin(format!("Buildroot's image for {board}"));
        process::follow(&mut self.make(&output), &mut step)?;
        step.done("built");
        Ok(output.join("images/hello.img"))
    }
}

fn defconfig(board: &str) -> String {
    format!("holdfast_{}_defconfig", board.replace('-', "_"))
}

fn below(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let list = || format!("cannot list {}", directory.display());
    for entry in fs::read_dir(directory).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.is_dir() {
            below(&path, files)?;
        } else if path.extension().is_some() || path.to_string_lossy().ends_with("_defconfig") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn is_sound(image: &Path, board: &str) -> Result<()> {
    let chain = verify::verify(image, None, Some(board))?;
    ensure!(chain.is_sound(), "the boot loader would not start it");
    let shown = show::show(image)?;
    ensure!(shown.board == board, "the root file system is for {}", shown.board);
    let built_by = built_by(image)?;
    ensure!(built_by.starts_with("Buildroot "), "the image was built by {built_by}");
    Ok(())
}

fn system_tests(test_run: &TestRun, image: &Path, filters: &[&str]) -> Result<()> {
    // Not its path: a stage may have built another program there meanwhile.
    let mut command = Command::new(format!("/proc/{}/exe", std::process::id()));
    command.current_dir(&test_run.workspace.root).arg("test").arg("--image").arg(image);
    command.args(if filters.is_empty() { &["system", "images"][..] } else { filters });
    command.args(["--jobs", &test_run.jobs.to_string()]).stdin(Stdio::null());
    process::output(&mut command).map(drop)
}

/// Fails with the parts of slot A in which two images differ.
fn same_slots(one: &Path, other: &Path) -> Result<()> {
    let mut differing = Vec::new();
    for partition in ["boot-a", "root-a"] {
        let read = |image: &Path| show::read_partition(image, partition);
        if read(one)? != read(other)? {
            differing.push(partition);
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    let files = |image: &Path| -> Result<BTreeSet<String>> {
        let shown = show::show(image)?;
        Ok(shown.files.iter().map(|f| format!("{} {:?}", f.path, f.sha256)).collect())
    };
    let (first, second) = (files(one)?, files(other)?);
    let named: Vec<&String> = first.symmetric_difference(&second).collect();
    bail!("two builds differ in {}: {named:?}", differing.join(" and "))
}

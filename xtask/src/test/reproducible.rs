//! Two builds of one commit are the same bytes.
//!
//! The small form builds the image twice from the same programs under different umasks, times,
//! time zones and temporary directories. The full form builds everything twice: another path,
//! another, empty cache.

use super::stage_log::StageLog;
use super::test_run::{Counts, TestRun};
use anyhow::{Context, Result, bail};
use holdfast_builder::process;
use holdfast_builder::progress::Step;
use holdfast_builder::workspace::{self, Workspace};
use holdfast_images::build;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(super) fn run(test_run: &TestRun, _: &StageLog) -> Result<Counts> {
    let scratch = tempfile::tempdir().context("cannot make a directory")?;
    let (first, second) = (scratch.path().join("first.img"), scratch.path().join("second.img"));
    let workspace = &test_run.workspace;
    let epoch = workspace.build_time()?.to_string();
    build_in(
        workspace,
        &workspace.root,
        &first,
        "022",
        &[("TZ", "UTC"), ("SOURCE_DATE_EPOCH", &epoch)],
    )?;
    let elsewhere = scratch.path().join("a longer temporary directory");
    workspace::make_directory(&elsewhere)?;
    let elsewhere = elsewhere.to_string_lossy().into_owned();
    let others = [
        ("TZ", "Pacific/Chatham"),
        ("LC_ALL", "C.UTF-8"),
        ("TMPDIR", elsewhere.as_str()),
        ("SOURCE_DATE_EPOCH", epoch.as_str()),
    ];
    build_in(workspace, &workspace.root, &second, "077", &others)?;
    same_with_rom(&first, &second)?;
    // A planted difference of one second must not go unnoticed.
    let planted = scratch.path().join("planted.img");
    let later = workspace.build_time()?.saturating_add(1).to_string();
    build_in(workspace, &workspace.root, &planted, "022", &[("SOURCE_DATE_EPOCH", &later)])?;
    if same(&first, &planted).is_ok() {
        bail!("an image that was dated a second later counts as the same");
    }
    let mut counts = Counts { passed: 2, failed: 0 };
    if test_run.full {
        from_two_empty_caches(workspace, scratch.path(), &epoch)?;
        counts.passed = counts.passed.saturating_add(1);
    }
    Ok(counts)
}

/// Builds the whole project twice from clones in two places, each with an empty cache.
fn from_two_empty_caches(workspace: &Workspace, scratch: &Path, epoch: &str) -> Result<()> {
    const PLACES: [(&str, &str); 2] = [("one", "022"), ("some/where/else", "077")];
    // Both before either is built: a commit that is made meanwhile must not get into one alone.
    for (place, _) in PLACES {
        let mut command = Command::new("git");
        command.args(["-c", "safe.directory=*", "clone", "--quiet"]);
        process::output(command.arg(&workspace.root).arg(scratch.join(place)))?;
    }
    let mut images = Vec::new();
    for (place, umask) in PLACES {
        let step = Step::begin(format!("building everything in {place}"));
        let cache = scratch.join(format!("{place}-cache")).to_string_lossy().into_owned();
        let image = scratch.join(format!("{}.img", images.len()));
        // Development keys belong to a checkout, and a signature is part of the bytes.
        let keys = scratch.join("keys").to_string_lossy().into_owned();
        let environment = [
            ("HOLDFAST_CACHE", cache.as_str()),
            ("HOLDFAST_KEYS", keys.as_str()),
            ("SOURCE_DATE_EPOCH", epoch),
        ];
        build_in(workspace, &scratch.join(place), &image, umask, &environment)?;
        images.push(image);
        step.done("built");
    }
    match images.as_slice() {
        [one, other] => same_with_rom(one, other),
        _ => bail!("two images were not built"),
    }
}

/// Builds the default image of the checkout `root` with this very program.
fn build_in(
    workspace: &Workspace,
    root: &Path,
    output: &Path,
    umask: &str,
    environment: &[(&str, &str)],
) -> Result<()> {
    // Not its path: an earlier stage may have built another program there meanwhile.
    let program = format!("/proc/{}/exe", std::process::id());
    let mut command = Command::new("sh");
    command
        .current_dir(root)
        .args(["-c", "umask \"$1\"; shift; exec \"$@\"", "sh", umask])
        .arg(program)
        .args(["image", "build", "--output"])
        .arg(output)
        .env_remove("CARGO_MANIFEST_DIR")
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    workspace.share_jobs(&mut command);
    process::output(&mut command).map(drop)
}

/// Two images and their boot loaders.
fn same_with_rom(one: &Path, other: &Path) -> Result<()> {
    same(one, other)?;
    same(&build::rom_path(one), &build::rom_path(other))
}

/// Fails with the first byte at which two files differ.
fn same(one: &Path, other: &Path) -> Result<()> {
    let (a, b) = (workspace::read(one)?, workspace::read(other)?);
    if a.len() != b.len() {
        bail!("two builds have {} and {} bytes", a.len(), b.len());
    }
    match a.iter().zip(&b).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(at) => {
            let kept: Vec<PathBuf> = [one, other].map(Path::to_path_buf).to_vec();
            bail!("two builds differ from byte {at} on: {kept:?}")
        }
    }
}

//! A static BusyBox for comparison, built from Debian's source package.
//!
//! `measure` boots our kernel once with our init and once with this one; no image of ours ever
//! holds it.

use crate::progress::Step;
use crate::sources::{self, Pin, Pins};
use crate::workspace::{self, Workspace};
use crate::{host, process};
use anyhow::{Context, Result, bail};
use holdfast_images::{hex, sha256};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CROSS_COMPILE: &str = "arm-linux-gnueabihf-";

/// What of BusyBox is built: an init and what its table needs, nothing else.
const CONFIG: [&str; 9] = [
    "STATIC",
    "LFS",
    "BUSYBOX",
    "INIT",
    "FEATURE_USE_INITTAB",
    "MOUNT",
    "SLEEP",
    "CAT",
    "ASH",
];

/// A command of apt (`apt-get`, `apt-cache`) with an index of source packages of its own, derived
/// from the archives that the host uses. The host's configuration is not touched.
pub(crate) fn apt_with_sources(workspace: &Workspace, program: &str) -> Result<Command> {
    let directory = workspace.cache.join("apt");
    let command = |program: &str| {
        let mut command = Command::new(program);
        for (key, value) in [
            ("Dir::Etc::sourcelist", directory.join("sources.list")),
            ("Dir::State::Lists", directory.join("lists")),
            ("Dir::Cache", directory.join("cache")),
        ] {
            command.arg("-o").arg(format!("{key}={}", value.display()));
        }
        command.args([
            "-o",
            "Dir::Etc::sourceparts=-",
            "-o",
            "APT::Sandbox::User=root",
        ]);
        command
    };
    let list = source_lines()?;
    let path = directory.join("sources.list");
    let fresh = fs::read_to_string(&path).is_ok_and(|before| before == list)
        && directory.join("updated").is_file();
    if !fresh {
        for name in ["lists/partial", "cache/archives/partial"] {
            workspace::make_directory(&directory.join(name))?;
        }
        workspace::write(&path, &list)?;
        let mut step = Step::begin("index of source packages");
        process::follow(command("apt-get").arg("update"), &mut step)?;
        workspace::write(&directory.join("updated"), "")?;
        step.done("fetched");
    }
    Ok(command(program))
}

/// A `deb-src` line for each archive that the host takes binary packages from.
fn source_lines() -> Result<String> {
    let format = "$(ORIGIN)|$(SITE)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)";
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", format, "Created-By: Packages"]);
    let mut lines = BTreeSet::new();
    for target in process::output(&mut command)?.lines() {
        let fields: Vec<&str> = target.split('|').collect();
        if let [
            origin @ ("Debian" | "Ubuntu"),
            site,
            release,
            component,
            key,
        ] = fields.as_slice()
        {
            let _ = origin;
            let key = if !key.starts_with('/') {
                String::new()
            } else {
                format!("[signed-by={key}] ")
            };
            lines.insert(format!("deb-src {key}{site} {release} {component}\n"));
        }
    }
    if lines.is_empty() {
        bail!("apt knows no archive of Debian; run `apt-get update` first");
    }
    Ok(lines.into_iter().collect())
}

/// The source package, checked against its pin and unpacked.
fn fetch(workspace: &Workspace, pins: &Pins, locked: bool) -> Result<(Pin, PathBuf)> {
    host::ensure(&[host::SOURCE_PACKAGES])?;
    let offered = sources::offered_source_package(workspace, sources::BUSYBOX)?;
    sources::accept(pins, sources::BUSYBOX, &offered, locked)?;
    let short = offered.sha256.get(..16).unwrap_or(&offered.sha256);
    let directory = workspace.cache.join(format!("busybox/source-{short}"));
    if directory.join("Makefile").is_file() {
        return Ok((offered, directory));
    }
    let mut step = Step::begin(format!("source package busybox {}", offered.version));
    let scratch = tempfile::tempdir_in(&workspace.cache).context("cannot make a directory")?;
    let mut download = apt_with_sources(workspace, "apt-get")?;
    download
        .current_dir(scratch.path())
        .args(["source", "--download-only"])
        .arg(format!("{}={}", sources::BUSYBOX, offered.version));
    process::follow(&mut download, &mut step)?;
    let dsc = find_dsc(scratch.path())?;
    let found = workspace::sha256_file(&dsc)?;
    if found != offered.sha256 {
        bail!(
            "{} has SHA-256 {found}, not {}",
            dsc.display(),
            offered.sha256
        );
    }
    let tree = scratch.path().join("tree");
    let mut unpack = Command::new("dpkg-source");
    unpack.args(["--no-check", "-x"]).arg(&dsc).arg(&tree);
    process::follow(&mut unpack, &mut step)?;
    workspace::make_directory(&workspace.cache.join("busybox"))?;
    fs::rename(&tree, &directory)
        .with_context(|| format!("cannot put {} in place", directory.display()))?;
    step.done("unpacked");
    Ok((offered, directory))
}

fn find_dsc(directory: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).context("cannot list what was downloaded")?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "dsc"))
        .context("apt downloaded no .dsc file")
}

/// Builds BusyBox, or finds it in the cache. Returns its bytes and what it is.
pub(crate) fn build(workspace: &Workspace, pins: &Pins) -> Result<(Vec<u8>, Pin)> {
    host::ensure(&[host::COMPARISON])?;
    let (source, tree) = fetch(workspace, pins, false)?;
    let key = hex(&sha256(&[
        source.sha256.as_bytes(),
        CONFIG.join(" ").as_bytes(),
    ]));
    let program = workspace
        .cache
        .join(format!("busybox/busybox-{}", key.get(..16).unwrap_or(&key)));
    let _lock = workspace.lock("busybox")?;
    if program.is_file() {
        return Ok((workspace::read(&program)?, source));
    }
    let scratch = tempfile::tempdir_in(&workspace.cache).context("cannot make a directory")?;
    let object = scratch.path().join("object");
    workspace::make_directory(&object)?;
    let mut step = Step::begin(format!("BusyBox {} for comparison", source.version));
    let make = |target: &str| {
        let mut command = Command::new("make");
        command
            .arg("-C")
            .arg(&tree)
            .arg(format!("O={}", object.display()))
            .args(["ARCH=arm", &format!("CROSS_COMPILE={CROSS_COMPILE}")])
            .arg(format!(
                "-j{}",
                std::thread::available_parallelism().map_or(2, usize::from)
            ))
            .arg(target)
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS");
        command
    };
    process::follow(&mut make("allnoconfig"), &mut step)?;
    // Its Kconfig takes no list of wishes, so they are written into what it made; new questions
    // that they raise are answered with their defaults.
    let config = object.join(".config");
    let mut text = workspace::read_text(&config)?;
    for option in CONFIG {
        let unset = format!("# CONFIG_{option} is not set");
        text = text.replace(&unset, &format!("CONFIG_{option}=y"));
    }
    workspace::write(&config, text)?;
    let mut answers = Command::new("sh");
    answers.args(["-c", "yes '' | \"$@\"", "sh"]);
    let oldconfig = make("oldconfig");
    answers
        .arg(oldconfig.get_program())
        .args(oldconfig.get_args());
    process::follow(&mut answers, &mut step)?;
    process::follow(&mut make("busybox"), &mut step)?;
    let bytes = workspace::read(&object.join("busybox"))?;
    workspace::write(&program, &bytes)?;
    step.done(&format!("{} bytes", bytes.len()));
    Ok((bytes, source))
}

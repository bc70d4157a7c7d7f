//! Debian source packages: what is offered, and fetching it, checked against its pin.

use crate::pins::{self, Pin, Pins};
use crate::progress::Step;
use crate::workspace::{self, Workspace};
use crate::{host, process};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command of apt (`apt-get`, `apt-cache`) with an index of source packages of its own, derived
/// from the archives that the host uses. The host's configuration is not touched.
///
/// # Errors
/// apt is missing, knows no archive of Debian, or cannot fetch the index.
pub fn apt_with_sources(workspace: &Workspace, program: &str) -> Result<Command> {
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
        command.args(["-o", "Dir::Etc::sourceparts=-", "-o", "APT::Sandbox::User=root"]);
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
        if let [origin @ ("Debian" | "Ubuntu"), site, release, component, key] = fields.as_slice() {
            let _ = origin;
            let key =
                if !key.starts_with('/') { String::new() } else { format!("[signed-by={key}] ") };
            lines.insert(format!("deb-src {key}{site} {release} {component}\n"));
        }
    }
    if lines.is_empty() {
        bail!("apt knows no archive of Debian; run `apt-get update` first");
    }
    Ok(lines.into_iter().collect())
}

/// The source package, checked against its pin and unpacked.
///
/// # Errors
/// The package is not offered, is not the pinned one where `locked` says that it must be, or cannot be fetched or
/// unpacked.
pub fn fetch(
    workspace: &Workspace,
    pins: &Pins,
    package: &str,
    locked: bool,
) -> Result<(Pin, PathBuf)> {
    host::ensure(&[host::SOURCE_PACKAGES])?;
    let offered = offered(workspace, package)?;
    pins::accept(pins, package, &offered, locked)?;
    let short = offered.sha256.get(..16).unwrap_or(&offered.sha256);
    let place = workspace.trees()?;
    let directory = place.join(format!("{package}/source-{short}"));
    if directory.join("Makefile").is_file() {
        return Ok((offered, directory));
    }
    let mut step = Step::begin(format!("source package {package} {}", offered.version));
    let scratch = tempfile::tempdir_in(&place).context("cannot make a directory")?;
    let mut download = apt_with_sources(workspace, "apt-get")?;
    download
        .current_dir(scratch.path())
        .args(["source", "--download-only"])
        .arg(format!("{}={}", package, offered.version));
    process::follow(&mut download, &mut step)?;
    let dsc = find_dsc(scratch.path())?;
    let found = workspace::sha256_file(&dsc)?;
    if found != offered.sha256 {
        bail!("{} has SHA-256 {found}, not {}", dsc.display(), offered.sha256);
    }
    let tree = scratch.path().join("tree");
    let mut unpack = Command::new("dpkg-source");
    unpack.args(["--no-check", "-x"]).arg(&dsc).arg(&tree);
    process::follow(&mut unpack, &mut step)?;
    workspace::make_directory(&place.join(package))?;
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

/// The newest version of a Debian source package that is offered, with the hash of its `.dsc`.
///
/// # Errors
/// No package of that name is offered, or apt fails.
pub fn offered(workspace: &Workspace, package: &str) -> Result<Pin> {
    let mut command = apt_with_sources(workspace, "apt-cache")?;
    let output = process::output(command.args(["showsrc", "--only-source", package]))?;
    newest_in_showsrc(&output).with_context(|| format!("Debian offers no source package {package}"))
}

/// The newest stanza's version and the SHA-256 of its `.dsc`. apt lists stanzas in no useful order,
/// so all of them are compared by Debian's own rule.
fn newest_in_showsrc(output: &str) -> Option<Pin> {
    let mut newest: Option<Pin> = None;
    for stanza in output.split("\n\n") {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name));
        let Some(version) = field("Version: ") else {
            continue;
        };
        let dsc = stanza
            .lines()
            .skip_while(|line| !line.starts_with("Checksums-Sha256:"))
            .skip(1)
            .take_while(|line| line.starts_with(' '))
            .find(|line| line.ends_with(".dsc"));
        let Some(sha256) = dsc.and_then(|line| line.split_whitespace().next()) else {
            continue;
        };
        let newer = newest.as_ref().is_none_or(|newest| is_newer(version, &newest.version));
        if newer {
            newest = Some(Pin { version: version.to_owned(), sha256: sha256.to_owned() });
        }
    }
    newest
}

fn is_newer(version: &str, than: &str) -> bool {
    Command::new("dpkg")
        .args(["--compare-versions", version, "gt", than])
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_source_package_is_found_in_any_order() {
        let stanza = |version: &str| {
            format!(
                "Package: busybox\nVersion: {version}\nChecksums-Sha256:\n h{version} 12 \
                 busybox_{version}.dsc\n x 13 busybox.orig.tar.bz2\n"
            )
        };
        for order in [["1:1.35.0-4", "1:1.35.0-4+deb12u1"], ["1:1.35.0-4+deb12u1", "1:1.35.0-4"]] {
            let newest = newest_in_showsrc(&order.map(stanza).join("\n")).unwrap();
            assert_eq!(newest.version, "1:1.35.0-4+deb12u1");
            assert_eq!(newest.sha256, "h1:1.35.0-4+deb12u1");
        }
    }
}

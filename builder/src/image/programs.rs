//! The programs of an image: what a build system has to build, and where it puts each for `image assemble`.

use crate::device_build::cargo_package;
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail};
use holdfast_images::manifest::ImageManifest;
use holdfast_images::own_services;
use holdfast_images::{hex, sha256};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Directory of the apps' programs, below that of all programs.
pub(super) const APPS: &str = "usr/lib/holdfast/apps";

/// Path of PID 1 on a device, below its root.
pub(super) const INIT: &str = "sbin/init";
/// Cargo package of PID 1.
pub(super) const INIT_PACKAGE: &str = "holdfast-init";
/// Binary of PID 1 in that package.
pub(super) const INIT_BINARY: &str = "init";

/// A program of an image that is made from source with cargo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Cargo package, in the checkout's workspace.
    pub package: String,
    /// Cargo features that the package is built with, and not its default ones; empty for the default ones.
    pub features: BTreeSet<String>,
    /// Binary of that package.
    pub binary: String,
    /// Path of the program, below the directory of all programs.
    pub place: String,
}

/// The programs of the image that a manifest describes, with further apps: PID 1 first, then services, then apps.
///
/// # Errors
/// The manifest or an app's `Cargo.toml` cannot be read, or an app that has one lies outside the checkout.
pub fn list(
    workspace: &Workspace,
    manifest: &ImageManifest,
    more_apps: &[PathBuf],
) -> Result<Vec<Program>> {
    let apps: Vec<PathBuf> = manifest.app_paths().chain(more_apps.iter().cloned()).collect();
    let own = own_services::load_all(&workspace.root.join("services"))?;
    let services = own_services::of_image(&own, manifest, !apps.is_empty());
    let mut programs = vec![Program {
        package: INIT_PACKAGE.to_owned(),
        features: BTreeSet::new(),
        binary: INIT_BINARY.to_owned(),
        place: INIT.to_owned(),
    }];
    for service in &services {
        programs.push(Program {
            package: service.package.clone(),
            features: own_services::features_of(&service.package, &services),
            binary: service.binary.clone(),
            place: service.program_path(),
        });
    }
    for app in apps.iter().filter(|app| app.join("Cargo.toml").is_file()) {
        let real =
            fs::canonicalize(app).with_context(|| format!("cannot find {}", app.display()))?;
        if !real.starts_with(&workspace.root) {
            bail!(
                "{}: is built from source and lies outside the checkout; pack it with `app pack`, and name the \
                 package",
                app.display()
            );
        }
        programs.push(Program {
            binary: app_binary(app)?,
            package: cargo_package(app)?,
            features: BTreeSet::new(),
            place: app_path(app)?,
        });
    }
    Ok(programs)
}

/// Returns the output of `image programs`: a line for each program, its fields separated by tabs, and one by which is
/// known from which sources they are built.
///
/// # Errors
/// As [`list`]; a directory has a blank in its name, or a source cannot be read.
pub fn table(
    workspace: &Workspace,
    manifest: &ImageManifest,
    more_apps: &[PathBuf],
) -> Result<String> {
    let mut text = String::new();
    for Program { package, features, binary, place } in list(workspace, manifest, more_apps)? {
        let features: Vec<String> = features.into_iter().collect();
        let features = if features.is_empty() { "-".to_owned() } else { features.join(",") };
        if place.contains(char::is_whitespace) {
            bail!(
                "{place}: has a blank, which no line of a table can hold; rename the app's directory"
            );
        }
        text.push_str(&format!("{package}\t{features}\t{binary}\t{place}\n"));
    }
    text.push_str(&format!("{SOURCES}{}\n", sources(workspace)?));
    Ok(text)
}

/// Beginning of the line about the sources.
const SOURCES: &str = "# sources ";

/// SHA-256 over what the programs of a checkout are built from.
fn sources(workspace: &Workspace) -> Result<String> {
    let root = &workspace.root;
    let mut parts = Vec::new();
    for file in ["Cargo.toml", "Cargo.lock"] {
        parts.push(workspace::sha256_file(&root.join(file))?);
    }
    for directory in ["os", "init", "services", "examples"] {
        parts.push(workspace::sha256_tree(&root.join(directory))?);
    }
    Ok(hex(&sha256(&[parts.concat().as_bytes()])))
}

/// Returns what is wrong with programs that were built when `image programs` printed `built`, for an image of which it
/// prints `wanted` now. Where `complete` is not set, those that are not there are built later.
pub(super) fn staleness(built: &[String], wanted: &str, complete: bool) -> Option<String> {
    let of_sources =
        |text: &str| text.lines().find_map(|line| line.strip_prefix(SOURCES)).map(str::to_owned);
    let now = of_sources(wanted);
    if built.iter().any(|text| of_sources(text) != now) {
        return Some("were built from other sources than this checkout has".to_owned());
    }
    let has = |line: &str| built.iter().any(|text| text.lines().any(|other| other == line));
    let missing = wanted.lines().find(|line| complete && !has(line))?;
    let place = missing.rsplit('\t').next().unwrap_or(missing);
    Some(format!("do not have {place} as this image manifest wants it"))
}

/// Returns the path at which the program of an app directory goes.
pub(super) fn app_path(directory: &Path) -> Result<String> {
    let real = fs::canonicalize(directory)
        .with_context(|| format!("cannot find {}", directory.display()))?;
    let name = real.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{}: has no name", directory.display()))?;
    Ok(format!("{APPS}/{name}"))
}

/// Returns the name of an app's binary, which is its package's where its `Cargo.toml` names no other.
pub(super) fn app_binary(app: &Path) -> Result<String> {
    binary(app)?.map_or_else(|| cargo_package(app), Ok)
}

/// The name of the binary that a `Cargo.toml` names, where it names one.
fn binary(app: &Path) -> Result<Option<String>> {
    let path = app.join("Cargo.toml");
    let table: toml::Table = workspace::read_toml(&path)?;
    let named = table.get("bin").and_then(toml::Value::as_array).and_then(|bins| bins.first());
    Ok(named.and_then(|bin| Some(bin.get("name")?.as_str()?.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout() -> Workspace {
        let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
        Workspace { root, cache: "/".into(), jobs: None }
    }

    #[test]
    fn an_image_has_init_its_services_and_the_programs_of_its_apps() {
        let workspace = checkout();
        let manifest = ImageManifest::load(&workspace.root.join("images/hello.toml")).unwrap();
        let programs = list(&workspace, &manifest, &[]).unwrap();
        let places: Vec<&str> = programs.iter().map(|program| program.place.as_str()).collect();
        let admission = "usr/lib/holdfast/services/admission/admission";
        assert_eq!(places, ["sbin/init", admission, "usr/lib/holdfast/apps/hello"]);
        assert_eq!(programs[1].features, BTreeSet::from(["admission".to_owned()]));
        assert_eq!(programs[2].package, "hello");
    }

    #[test]
    fn programs_of_other_sources_or_of_another_image_are_found_out() {
        let workspace = checkout();
        let image = |name: &str| {
            let manifest = ImageManifest::load(&workspace.root.join("images").join(name)).unwrap();
            table(&workspace, &manifest, &[]).unwrap()
        };
        let (hello, connected) = (image("hello.toml"), image("connected.toml"));
        let stale = |built: &str, wanted: &str, complete| {
            staleness(&[hello.clone(), built.to_owned()], wanted, complete)
        };
        assert_eq!(stale(&hello, &hello, true), None);
        assert_eq!(stale(&connected, &connected, true), None);
        let missing = stale(&hello, &connected, true).unwrap();
        assert!(missing.starts_with("do not have usr/lib/holdfast/"), "{missing}");
        assert_eq!(stale(&hello, &connected, false), None, "what is missing is built");
        let older = hello.replace("# sources ", "# sources 0");
        assert!(stale(&older, &hello, false).unwrap().contains("other sources"));
        assert!(stale("", &hello, true).unwrap().contains("other sources"));
    }

    #[test]
    fn an_app_that_cargo_would_build_outside_the_checkout_is_refused() {
        let workspace = checkout();
        let manifest = ImageManifest::load(&workspace.root.join("images/hello.toml")).unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("Cargo.toml"), "[package]\nname = \"x\"\n").unwrap();
        let refused = list(&workspace, &manifest, &[outside.path().to_owned()]).unwrap_err();
        assert!(refused.to_string().contains("outside the checkout; pack it with `app pack`"));
    }
}

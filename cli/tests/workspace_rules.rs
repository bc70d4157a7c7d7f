//! Rules of the house that no compiler checks.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Packages of the workspace with the workspace's packages that each depends on.
fn packages() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: Vec<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let ours = dependencies
                .iter()
                .map(|dependency| dependency["name"].as_str().unwrap())
                .filter(|name| names.contains(name))
                .map(str::to_owned)
                .collect();
            (package["name"].as_str().unwrap().to_owned(), ours)
        })
        .collect()
}

#[test]
fn dependency_arrows_point_only_where_the_architecture_lets_them() {
    let allowed = BTreeMap::from([
        ("holdfast-core", vec![]),
        ("holdfast-linux", vec!["holdfast-core"]),
        ("holdfast-init", vec!["holdfast-core", "holdfast-linux"]),
        ("holdfast-admission", vec!["holdfast-core"]),
        ("holdfast-debug", vec!["holdfast-linux"]),
        ("holdfast-network", vec!["holdfast-core", "holdfast-linux"]),
        ("holdfast-update", vec!["holdfast-core", "holdfast-linux"]),
        ("holdfast-uplink", vec!["holdfast-core", "holdfast-linux"]),
        ("holdfast-images", vec!["holdfast-core"]),
        ("holdfast-qemu", vec!["holdfast-images"]),
        ("holdfast-repository", vec!["holdfast-core", "holdfast-images"]),
        (
            "holdfast",
            vec!["holdfast-core", "holdfast-images", "holdfast-qemu", "holdfast-repository"],
        ),
        (
            "holdfast-system-tests",
            vec!["holdfast-core", "holdfast-images", "holdfast-qemu", "holdfast-repository"],
        ),
        ("holdfast-test-apps", vec!["holdfast-core", "holdfast-linux"]),
        ("holdfast-fuzz", vec!["holdfast-core", "holdfast-images", "holdfast-repository"]),
        ("hello", vec![]),
        ("tcp-server", vec![]),
        ("update-deferral", vec![]),
        ("web-client", vec![]),
    ]);
    for (package, dependencies) in packages() {
        let allowed = allowed.get(package.as_str());
        let allowed = allowed.unwrap_or_else(|| panic!("{package} has no rule here: add one"));
        for dependency in dependencies {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{package} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn every_package_takes_the_workspaces_lints_but_the_one_with_unsafe_code() {
    let mut own_lints = Vec::new();
    for manifest in manifests(&root()) {
        let text = std::fs::read_to_string(&manifest).unwrap();
        if text.contains("[package]") && !text.contains("[lints]\nworkspace = true") {
            own_lints.push(manifest);
        }
    }
    assert_eq!(own_lints, [root().join("os/linux/Cargo.toml")]);
}

/// What init opens, it opens by `os/linux`, where no `open` waits: not for a carrier, not for a writer.
#[test]
fn init_opens_nothing_by_itself() {
    let mut directories = vec![root().join("init/src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for open in ["OpenOptions", "File::open", "File::create", "fs::read(", "fs::write("] {
                assert!(!text.contains(open), "{} has {open}", path.display());
            }
        }
    }
}

#[test]
fn no_room_has_a_name_that_says_nothing() {
    for manifest in manifests(&root()) {
        let source = manifest.parent().unwrap().join("src");
        for entry in std::fs::read_dir(source).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            for empty in ["utils", "common", "misc", "helper"] {
                assert!(!name.contains(empty), "{} says nothing", entry.path().display());
            }
        }
    }
}

fn manifests(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(manifests(&path));
        } else if name == "Cargo.toml" {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_promise_of_the_readme_names_a_test_that_exists() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut tests = String::new();
    for entry in std::fs::read_dir(root().join("tests/system/src")).unwrap().flatten() {
        tests.push_str(&std::fs::read_to_string(entry.path()).unwrap());
    }
    let promises: Vec<&str> =
        readme.lines().filter(|line| line.starts_with("| ")).skip(2).collect();
    assert!(promises.len() > 5, "the table of promises was not found");
    for promise in promises {
        let names: Vec<&str> = promise.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test for: {promise}");
        for name in names.into_iter().filter(|name| name.contains('_')) {
            // The names of attacks are made from the table's.
            let attack = name.strip_prefix("attack_").map(|attack| attack.replace('_', "-"));
            let name = attack.as_deref().unwrap_or(name);
            assert!(tests.contains(&format!("\"{name}\"")), "there is no test {name}");
        }
    }
}

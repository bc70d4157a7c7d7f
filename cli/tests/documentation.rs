//! Checks of the documentation against the sources: what a page says of the code is compared with the code.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a directory whose names end in `.EXTENSION`, sorted; build outputs and hidden directories excepted.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The text of all Rust sources below these directories of the checkout.
fn sources(directories: &[&str]) -> String {
    let files = directories.iter().flat_map(|directory| files(&root().join(directory), "rs"));
    files.map(|file| read(&file)).collect()
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let page = read(&root().join("docs/promises.md"));
    let (tests, all) = (sources(&["tests/system/src"]), sources(&["."]));
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let promises: Vec<&str> =
        rows.filter(|row| !row.starts_with("| promise |") && !row.starts_with("| --- |")).collect();
    assert!(promises.len() > 30, "the tables of promises were not found");
    for promise in promises {
        let (_, kept_by) = promise.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        let names: Vec<&str> = kept_by.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test for: {promise}");
        for name in names {
            if kept_by.contains(&format!("stage `{name}`")) {
                assert!(all.contains(&format!("stage(\"{name}\"")), "there is no stage {name}");
                continue;
            }
            // The names of attacks are made from the table's.
            let attack = name.strip_prefix("attack_").map(|attack| attack.replace('_', "-"));
            let name = attack.as_deref().unwrap_or(name);
            assert!(tests.contains(&format!("\"{name}\"")), "there is no test {name}");
        }
    }
}

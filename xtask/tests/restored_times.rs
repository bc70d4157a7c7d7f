//! `.ci/restore-times`: a fresh clone has the times of the last one where nothing has changed, and nowhere else.
#![allow(
    clippy::unwrap_used,
    clippy::tests_outside_test_module,
    reason = "a panic is a failed test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Files of the repository, in directories that change by themselves.
const FILES: [&str; 3] = ["kept/a file", "changed/b", "removed/c"];

struct Checkout {
    directory: TempDir,
}

impl Checkout {
    fn new() -> Self {
        let own = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(own.path("origin")).unwrap();
        fs::create_dir_all(own.path("build")).unwrap();
        own.git("origin", &["init", "--quiet"]);
        for file in FILES {
            own.commit(file, "first");
        }
        own
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn git(&self, directory: &str, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.arg("-C").arg(self.path(directory));
        command.args(["-c", "user.name=n", "-c", "user.email=e"]).args(arguments);
        assert!(command.status().unwrap().success(), "{arguments:?}");
    }

    fn commit(&self, file: &str, text: &str) {
        let path = self.path("origin").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.git("origin", &["add", "--all"]);
        self.git("origin", &["commit", "--quiet", "--message", "m"]);
    }

    /// A fresh clone, whose files and directories all have the time `age` ago.
    fn clone(&self, name: &str, age: Duration) {
        let _ = fs::remove_dir_all(self.path(name));
        self.git("", &["clone", "--quiet", "origin", name]);
        let time = SystemTime::now().checked_sub(age).unwrap();
        for file in FILES {
            for path in [Path::new(file), Path::new(file).parent().unwrap()] {
                if let Ok(file) = fs::File::open(self.path(name).join(path)) {
                    file.set_modified(time).unwrap();
                }
            }
        }
    }

    fn restore(&self, name: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/restore-times");
        let mut command = Command::new(script);
        let status = command.arg(self.path("build")).current_dir(self.path(name)).status();
        assert!(status.unwrap().success());
    }

    fn time(&self, path: &str) -> SystemTime {
        fs::metadata(self.path(path)).unwrap().modified().unwrap()
    }
}

const FIRST: Duration = Duration::from_secs(3000);
const SECOND: Duration = Duration::from_secs(2000);

#[test]
fn what_has_not_changed_has_the_time_of_the_last_clone() {
    let checkout = Checkout::new();
    checkout.clone("here", FIRST);
    checkout.restore("here");
    let first = checkout.time("here/kept/a file");
    checkout.commit("changed/b", "second");
    checkout.commit("changed/new", "first");
    checkout.git("origin", &["rm", "--quiet", "removed/c"]);
    checkout.git("origin", &["commit", "--quiet", "--message", "m"]);
    checkout.clone("here", SECOND);
    let second = checkout.time("here/changed/b");
    assert!(first < second);
    checkout.restore("here");
    assert_eq!([checkout.time("here/kept/a file"), checkout.time("here/kept")], [first; 2]);
    assert_eq!([checkout.time("here/changed/b"), checkout.time("here/changed")], [second; 2]);
    // What is as it was before the last is later than the build of that, too.
    checkout.commit("changed/b", "first");
    checkout.clone("here", Duration::from_secs(1000));
    let third = checkout.time("here/changed/b");
    checkout.restore("here");
    assert_eq!(checkout.time("here/changed/b"), third);
    assert_eq!(checkout.time("here/kept/a file"), first);
}

#[test]
fn a_clone_at_another_path_keeps_its_times() {
    let checkout = Checkout::new();
    checkout.clone("here", FIRST);
    checkout.restore("here");
    checkout.clone("there", SECOND);
    let own = checkout.time("there/kept/a file");
    checkout.restore("there");
    assert_eq!(checkout.time("there/kept/a file"), own);
}

#[test]
fn what_is_no_checkout_of_git_is_built_all_the_same() {
    let checkout = Checkout::new();
    checkout.clone("here", FIRST);
    checkout.restore("here");
    fs::remove_dir_all(checkout.path("here/.git")).unwrap();
    checkout.restore("here");
    assert!(!checkout.path("build/source-times").exists(), "the next clone would be believed");
}

#[test]
fn after_a_checkout_with_changes_nothing_is_restored() {
    let checkout = Checkout::new();
    checkout.clone("here", FIRST);
    checkout.restore("here");
    fs::write(checkout.path("here/changed/b"), "not committed").unwrap();
    checkout.restore("here");
    checkout.clone("here", SECOND);
    let own = checkout.time("here/kept/a file");
    checkout.restore("here");
    assert_eq!(checkout.time("here/kept/a file"), own);
}

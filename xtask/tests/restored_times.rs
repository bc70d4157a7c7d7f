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

    /// Runs the script, and returns its exit code.
    fn restore(&self, name: &str) -> Option<i32> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/restore-times");
        let mut command = Command::new(script);
        let status = command.arg(self.path("build")).current_dir(self.path(name)).status();
        status.unwrap().code()
    }

    fn time(&self, path: &str) -> SystemTime {
        fs::metadata(self.path(path)).unwrap().modified().unwrap()
    }
}

const DONE: Option<i32> = Some(0);
const UNKNOWN: Option<i32> = Some(3);
const FIRST: Duration = Duration::from_secs(3000);
const SECOND: Duration = Duration::from_secs(2000);

#[test]
fn what_has_not_changed_has_the_time_of_the_last_clone() {
    let checkout = Checkout::new();
    checkout.clone("here", FIRST);
    assert_eq!(checkout.restore("here"), DONE);
    let kept = || [checkout.time("here/kept/a file"), checkout.time("here/kept")];
    let first = kept();
    checkout.commit("changed/b", "second");
    checkout.commit("changed/new", "first");
    checkout.git("origin", &["rm", "--quiet", "removed/c"]);
    checkout.git("origin", &["commit", "--quiet", "--message", "m"]);
    checkout.clone("here", SECOND);
    assert_eq!(checkout.restore("here"), DONE);
    assert_eq!(kept(), first);
    let second = checkout.time("here/changed/b");
    assert!(first[0] < second && first[0] < checkout.time("here/changed"));
    // What is as it was before the last is later than the build of that, too.
    checkout.commit("changed/b", "first");
    checkout.clone("here", Duration::from_secs(1000));
    assert_eq!(checkout.restore("here"), DONE);
    assert!(second < checkout.time("here/changed/b"));
    assert_eq!(kept(), first);
}

/// A checkout may be older than what was built from another.
#[test]
fn what_is_not_known_is_later_than_every_build() {
    let checkout = Checkout::new();
    checkout.clone("here", SECOND);
    assert_eq!(checkout.restore("here"), DONE);
    let built = checkout.time("here/kept/a file");
    checkout.clone("there", FIRST);
    assert_eq!(checkout.restore("there"), DONE);
    for path in ["there/kept/a file", "there/kept"] {
        assert!(built < checkout.time(path), "{path}");
    }
}

#[test]
fn what_is_no_checkout_of_git_is_not_built_with_others() {
    let checkout = Checkout::new();
    checkout.clone("here", FIRST);
    assert_eq!(checkout.restore("here"), DONE);
    fs::remove_dir_all(checkout.path("here/.git")).unwrap();
    assert_eq!(checkout.restore("here"), UNKNOWN);
    assert!(!checkout.path("build/source-times").exists(), "the next clone would be believed");
}

#[test]
fn a_checkout_with_changes_is_not_built_with_others() {
    let checkout = Checkout::new();
    checkout.clone("here", FIRST);
    assert_eq!(checkout.restore("here"), DONE);
    let first = checkout.time("here/kept/a file");
    fs::write(checkout.path("here/changed/b"), "not committed").unwrap();
    assert_eq!(checkout.restore("here"), UNKNOWN);
    checkout.clone("here", SECOND);
    assert_eq!(checkout.restore("here"), DONE);
    assert!(first < checkout.time("here/kept/a file"));
}

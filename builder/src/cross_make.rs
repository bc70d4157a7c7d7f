//! `make` for the device, in a tree with Kbuild's conventions: the kernel's, U-Boot's and BusyBox's.

use crate::process;
use crate::workspace::Workspace;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Prefix of the compiler and its tools.
const CROSS_COMPILE: &str = "arm-linux-gnueabihf-";
/// Variables of the caller's own build that would change this one.
const FOREIGN: [&str; 5] = ["MAKEFLAGS", "MFLAGS", "KBUILD_OUTPUT", "KCFLAGS", "LOCALVERSION"];

/// The compiler in its own words.
pub(crate) fn compiler() -> Result<String> {
    let version = process::output(Command::new(format!("{CROSS_COMPILE}gcc")).arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

/// `make TARGET` of the sources in `tree`, with everything that it makes in `object`.
pub fn cross_make(workspace: &Workspace, tree: &Path, object: &Path, target: &str) -> Command {
    let mut command = Command::new("make");
    command
        .arg("-C")
        .arg(tree)
        .arg(format!("O={}", object.display()))
        .args(["ARCH=arm", &format!("CROSS_COMPILE={CROSS_COMPILE}")])
        .arg(target)
        .env("LC_ALL", "C");
    for name in FOREIGN {
        command.env_remove(name);
    }
    // With `-j`, `make` would leave the jobserver that it is given and run as many jobs on top.
    if workspace.jobs.is_some() {
        workspace.share_jobs(&mut command);
    } else {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        command.arg(format!("-j{processors}"));
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn workspace(jobs: Option<jobserver::Client>) -> Workspace {
        Workspace { root: "/".into(), cache: "/".into(), jobs }
    }

    fn make_flags(command: &Command) -> Option<Option<&OsStr>> {
        command.get_envs().find(|(name, _)| *name == "MAKEFLAGS").map(|(_, value)| value)
    }

    #[test]
    fn make_takes_all_processors_or_shares_the_tokens_of_a_run() {
        let own = cross_make(&workspace(None), Path::new("t"), Path::new("o"), "zImage");
        assert!(own.get_args().any(|a| a.to_string_lossy().starts_with("-j")), "{own:?}");
        assert_eq!(make_flags(&own), Some(None), "a caller's flags come through");
        let jobs = jobserver::Client::new(2).unwrap();
        let shared = cross_make(&workspace(Some(jobs)), Path::new("t"), Path::new("o"), "zImage");
        assert!(!shared.get_args().any(|a| a.to_string_lossy().starts_with("-j")), "{shared:?}");
        let flags = make_flags(&shared).flatten().unwrap().to_string_lossy().into_owned();
        assert!(flags.contains("--jobserver-auth="), "{flags}");
    }

    #[test]
    fn make_runs_as_many_jobs_as_there_are_tokens() {
        let directory = tempfile::tempdir().unwrap();
        // Two recipes that each wait for the other's file; one alone would wait in vain.
        let rule = |own: &str, other: &str| {
            format!(
                "{own}:\n\t@touch {own}.here; for i in 1 2 3 4 5 6 7 8 9; do \
                 test -e {other}.here && exit 0; sleep 0.2; done; exit 1\n"
            )
        };
        let text = format!("all: a b\n{}{}", rule("a", "b"), rule("b", "a"));
        std::fs::write(directory.path().join("Makefile"), text).unwrap();
        let run = |tokens: usize| {
            let jobs = jobserver::Client::new(tokens).unwrap();
            let workspace = workspace(Some(jobs));
            let mut make = cross_make(&workspace, directory.path(), directory.path(), "all");
            let done = process::output(&mut make).is_ok();
            for name in ["a.here", "b.here"] {
                let _ = std::fs::remove_file(directory.path().join(name));
            }
            done
        };
        // Beside the tokens, `make` has the one that its caller holds.
        assert!(run(1));
        assert!(!run(0));
    }
}

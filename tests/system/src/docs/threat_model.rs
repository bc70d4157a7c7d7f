//! `docs/threat-model.md`, written from the table of attacks.
//!
//! Rows A1 to F10 are the published weaknesses of Azure Sphere, the system that Holdfast takes the
//! place of; rows C4 are escapes from container runtimes; rows S were found in reviews of Holdfast itself; rows L are losses;
//! rows N are ways around grants on the network; rows K are what all components share of the kernel and of the machine;
//! rows M are about measured boot; rows I are ways to an identity that is somebody else's.
//! Every row has its tests, a reason why it does not apply, or is open.

mod rows;
mod services;

use self::Verdict::{NotApplicable, Open, Tests};
use self::rows::ROWS;
use self::services::TAKEN_OVER;
use crate::sandbox::attacks::{ATTACKS, Attack, Control, NETWORK_ATTACKS};
use std::fmt::Write;

/// What becomes of a row.
enum Verdict {
    /// The attacks of that row, and these tests beside them.
    Tests(&'static [&'static str]),
    NotApplicable(&'static str),
    Open(&'static str),
}

fn attacks() -> impl Iterator<Item = &'static Attack> {
    ATTACKS.iter().chain(NETWORK_ATTACKS)
}

fn named(tests: &[&str]) -> String {
    format!("tests `{}`", tests.join("`, `"))
}

fn page() -> String {
    let mut page = String::from(
        "# Threat model\n\n\
         Written by a test of `tests/system` from its table of attacks (`HOLDFAST_WRITE_DOCS=1`); do not\n\
         edit.\n\n\
         **Who attacks:** an app in an attacker's hand, with everything its manifest grants; whoever writes\n\
         the `state`, `apps` and `data` partitions of a device that is off; whoever sends a package, sits on the\n\
         way to the update server, holds it, or holds fewer keys than sign.\n\
         **What must hold:** the app does what its manifest grants and nothing else, other components do\n\
         not notice, and nothing runs that was not signed.\n\
         **Not stopped:** a fault of the kernel that a system call of the list reaches; the device's holder\n\
         who puts back an older `state` together with an older package or slot (floors need a TPM or RPMB); a\n\
         crafted ext4 by someone who holds the flash; code reuse within one app; what the table of services that\n\
         were taken over calls open.\n\n\
         **Rollback.** A release's index stands under the signatures of its metadata, of the slot's command line and\n\
         of a package's header. init compares it with the component's floor at every start, raises the floor when the\n\
         release is committed, and then makes a slot below it unbootable. Keys that apps are signed with and roots of\n\
         repositories are in the root file system, so that its index covers them; later roots must be the next one,\n\
         signed by the one before. That stops a server, a stolen older release and a card that was swapped while\n\
         `state` stayed; it does not stop whoever writes `state`.\n\n\
         Each attack is a function of `tests/apps/hostile`, `tests/apps/dynamic` or \
         `tests/apps/hostile-network` and runs three times: in an app under its plan,\n\
         where it must meet its error; as PID 1 of a kernel with everything on, where it must succeed; as PID 1\n\
         of the shipped kernel, where its configuration alone must stop it if a third column says so.\n\n\
         ## Rows\n\n\
         A1 to F10 are published weaknesses of Azure Sphere; C4 rows are escapes from container runtimes; N\n\
         rows are ways around grants on the network; U rows are the attacks on updates of the lists of TUF and Uptane; P rows\n\
         are ways to keep PID 1 from its work; L rows are losses that cost more than what was lost; K rows are what all\n\
         components share of the kernel and of the machine; M rows are about measured boot; I rows are ways to an identity\n\
         that is somebody else's; S rows were found in reviews of Holdfast itself.\n\n\
         | row | what happened | here |\n| --- | --- | --- |\n",
    );
    for (row, about, verdict) in ROWS {
        let attacks: Vec<&str> =
            attacks().filter(|a| a.row == *row).map(|attack| attack.name).collect();
        let here = match verdict {
            Tests(tests) => {
                let mut parts = Vec::new();
                if !attacks.is_empty() {
                    parts.push(format!("attacks {}", attacks.join(", ")));
                }
                if !tests.is_empty() {
                    parts.push(named(tests));
                }
                parts.join("; ")
            }
            NotApplicable(reason) => format!("not applicable: {reason}"),
            Open(what) => format!("open: {what}"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| {row} | {about} | {here} |");
    }
    page.push_str(
        "\n## Services that were taken over\n\n\
         What each can do beyond its own work, with all that init gives it. All of them can fail for ever: each is\n\
         critical, so that the device then reboots about every 40 seconds, keeps its slot, and takes the next release\n\
         from a card.\n\n\
         | service | what it tries | here |\n| --- | --- | --- |\n",
    );
    for (service, tries, verdict) in TAKEN_OVER {
        let here = match verdict {
            Tests(tests) => format!("stopped: {}", named(tests)),
            NotApplicable(reason) => format!("not applicable: {reason}"),
            Open(what) => format!("open: {what}"),
        };
        let _ = writeln!(page, "| `{service}` | {tries} | {here} |");
    }
    page.push_str(
        "\n## Attacks\n\n\
         | attack | row | in an app | stopped by | by the kernel alone | without all of it |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for attack in attacks() {
        let bare = attack.on_bare_kernel.map_or("", |errno| errno.0);
        let control = match attack.control {
            Control::Succeeds => "succeeds".to_owned(),
            Control::None(reason) => format!("no control: {reason}"),
        };
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {bare} | {control} |",
            attack.name, attack.row, attack.meets.0, attack.layers
        );
    }
    page
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is a failed test")]
    use super::*;
    use std::path::{Path, PathBuf};

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn the_threat_model_in_docs_is_made_from_the_table() {
        let path = root().join("docs/threat-model.md");
        if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == page(),
            "docs/threat-model.md is stale; write it with \
             `HOLDFAST_WRITE_DOCS=1 cargo test --package holdfast-system-tests`"
        );
    }

    #[test]
    fn every_attack_has_its_row_and_no_row_is_empty() {
        for attack in attacks() {
            assert!(ROWS.iter().any(|(row, ..)| *row == attack.row), "{}", attack.name);
        }
        for (row, _, verdict) in ROWS {
            let has_attack = attacks().any(|attack| attack.row == *row);
            match verdict {
                Tests(tests) => assert!(has_attack || !tests.is_empty(), "{row} has no test"),
                _ => assert!(!has_attack, "{row} has attacks, but says otherwise"),
            }
        }
    }

    /// Every file of Rust source below a directory, as one text.
    fn sources(directory: &Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                sources(&path, text);
            } else if name.ends_with(".rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn every_test_that_is_named_exists() {
        let mut text = String::new();
        sources(&root(), &mut text);
        for (row, _, verdict) in ROWS.iter().chain(TAKEN_OVER) {
            let Tests(tests) = verdict else {
                continue;
            };
            for test in *tests {
                assert!(text.contains(&format!("fn {test}(")), "{row}: there is no test {test}");
            }
        }
    }
}

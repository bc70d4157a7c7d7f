//! How a board's watchdog is armed before init is there: `boot-loader/watchdogs.toml`.

use crate::kconfig::{options, value};
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail, ensure};
use holdfast_images::board::Board;
use std::collections::BTreeMap;

const TABLE: &str = "boot-loader/watchdogs.toml";

/// Options that arm one watchdog before init is there, or the reason why none do.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Armed {
    /// U-Boot's options, without `CONFIG_`, and their values.
    #[serde(default)]
    u_boot: BTreeMap<String, String>,
    /// The kernel's.
    #[serde(default)]
    kernel: BTreeMap<String, String>,
    /// Why there are none.
    not_armed: Option<String>,
}

/// Fails when the fragments of a board's U-Boot and kernel lack what arms its watchdog before init is there. That what they
/// name survives Kconfig is checked when each is built.
///
/// # Errors
/// An option is missing or has another value, or nothing is said about this watchdog.
pub(crate) fn check(
    workspace: &Workspace,
    board: &Board,
    u_boot_fragments: &str,
    kernel_fragments: &str,
) -> Result<()> {
    let text = workspace::read_text(&workspace.root.join(TABLE))?;
    let table: BTreeMap<String, Armed> = toml::from_str(&text).context(TABLE)?;
    let Board { name, watchdog, boot_loader, .. } = board;
    let Some(armed) = table.get(watchdog) else {
        bail!(
            "{TABLE}: says nothing about `{watchdog}`, the watchdog of board {name}; add the options that arm it \
             before init is there, or `not_armed` with the reason"
        );
    };
    let is_clear = match armed.not_armed {
        Some(_) => armed.u_boot.is_empty() && armed.kernel.is_empty(),
        None => !armed.u_boot.is_empty() && !armed.kernel.is_empty(),
    };
    ensure!(is_clear, "{TABLE}: `{watchdog}`: must have `u_boot` and `kernel`, or `not_armed`");
    let u_boot = options(u_boot_fragments);
    let mut missing = lacking("U-Boot", &armed.u_boot, &u_boot);
    missing.extend(lacking("the kernel", &armed.kernel, &options(kernel_fragments)));
    ensure!(
        missing.is_empty(),
        "board {name}: its fragments do not arm `{watchdog}` before init is there ({TABLE}):\n  {}",
        missing.join("\n  ")
    );
    // What U-Boot's driver model pets is not petted for ever.
    let is_stopped = boot_loader.watchdog.is_some() && value(&u_boot, "CMD_WDT") == "y";
    ensure!(
        value(&u_boot, "WDT") != "y" || is_stopped,
        "board {name}: boot_loader.watchdog: must name U-Boot's watchdog, and its fragments must have CMD_WDT: the \
         script stops it before it halts"
    );
    Ok(())
}

/// Returns the options that a program's fragments lack or have otherwise than `wanted`, with what was found.
fn lacking(
    program: &str,
    wanted: &BTreeMap<String, String>,
    have: &BTreeMap<&str, &str>,
) -> Vec<String> {
    let found = wanted.iter().map(|(option, wanted)| (option, wanted, value(have, option)));
    found
        .filter(|(_, wanted, found)| *wanted != found)
        .map(|(option, wanted, found)| {
            format!("CONFIG_{option} of {program}: must be {wanted}, is {found}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kconfig, kernel};
    use holdfast_images::board;
    use std::path::Path;

    fn checkout() -> Workspace {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Workspace { root, cache: "/".into(), jobs: None }
    }

    fn load(name: &str) -> Board {
        let boards = checkout().root.join("images/boards");
        Board::load(&boards, name, Path::new("image.toml")).unwrap()
    }

    fn fragments(board: &Board) -> [String; 2] {
        let directory = checkout().root.join("boot-loader");
        let u_boot = kconfig::merged_fragments(&directory, &board.boot_loader.fragments).unwrap();
        [u_boot, kernel::merged_fragments(&checkout(), board).unwrap()]
    }

    #[test]
    fn every_board_arms_its_watchdog_before_init_or_says_why_not() {
        let names = board::names(&checkout().root.join("images/boards"));
        assert!(names.len() >= 4, "{names:?}");
        for board in names.iter().map(|name| load(name)) {
            let [u_boot, kernel] = fragments(&board);
            check(&checkout(), &board, &u_boot, &kernel).unwrap();
        }
    }

    #[test]
    fn a_board_that_leaves_the_time_before_init_unwatched_is_refused() {
        let refused = |board: &Board, u_boot: &str, kernel: &str| {
            check(&checkout(), board, u_boot, kernel).unwrap_err().to_string()
        };
        let mut board = load("orangepi-pc");
        let [u_boot, kernel] = fragments(&board);
        let error = refused(&board, &u_boot.replace("CONFIG_WATCHDOG_AUTOSTART=y", ""), &kernel);
        assert!(error.contains("CONFIG_WATCHDOG_AUTOSTART of U-Boot: must be y, is n"), "{error}");
        let error = refused(&board, &u_boot, &kernel.replace("OPEN_TIMEOUT=60", "OPEN_TIMEOUT=0"));
        assert!(error.contains("OPEN_TIMEOUT of the kernel: must be 60, is 0"), "{error}");
        board.boot_loader.watchdog = None;
        let error = refused(&board, &u_boot, &kernel);
        assert!(error.contains("boot_loader.watchdog: must name"), "{error}");
        board.watchdog = "another".to_owned();
        let error = refused(&board, &u_boot, &kernel);
        assert!(error.contains("says nothing about `another`"), "{error}");
    }
}

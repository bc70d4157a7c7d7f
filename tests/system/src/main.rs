//! System tests on real images in QEMU.
//!
//! `cargo holdfast test` builds the images and calls this program; it says so when it is started
//! by hand without them. Checks that need the same guest share one boot. The output has one line
//! for each check and ends like any test runner's.

mod attacks;
mod boards;
mod boot;
mod boot_loader;
mod boot_script;
mod contents;
mod cuts;
mod debugging;
mod fallback;
mod hostile;
mod integrity;
mod network;
mod network_attacks;
mod network_time;
mod network_web;
mod packages;
mod scratch;
mod stager;
mod suite;
mod supervision;
#[cfg(test)]
mod threat_model;
mod update;
mod update_attacks;
mod update_cuts;
mod update_download;
mod update_page;
mod update_reset;
mod verified_boot;

use crate::suite::Suite;
use anyhow::{Result, ensure};
use holdfast_images::board::Board;
use holdfast_images::boot::BootSigningKey;
use holdfast_images::variant::Signer;
use holdfast_qemu::relay;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where `cargo holdfast test` has put what is tested.
#[derive(Debug, Clone)]
pub(crate) struct Artefacts {
    /// Images by their manifests' names.
    pub(crate) images: PathBuf,
    /// Stripped programs of the test apps.
    pub(crate) programs: PathBuf,
    /// The keys of this checkout, by which the images' boot loaders verify.
    pub(crate) keys: PathBuf,
    pub(crate) effort: Effort,
    /// The board that all images are for.
    pub(crate) board: String,
}

/// How much is tried of what could be tried for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Cuts of power that are judged.
    pub(crate) cuts: usize,
    /// Cuts of power that are booted.
    pub(crate) booted_cuts: usize,
    /// Boot states that the boot loader's script starts from.
    pub(crate) boot_states: usize,
    /// Boots with flipped bytes, for each partition.
    pub(crate) flips: usize,
    /// Cuts of an update after which the file systems are read back.
    pub(crate) updates_read_back: usize,
    /// Cuts of an update that are booted.
    pub(crate) updates_booted: usize,
}

const USUAL: Effort = Effort {
    cuts: 2_000,
    booted_cuts: 6,
    boot_states: 18,
    flips: 1,
    updates_read_back: 24,
    updates_booted: 4,
};
const FULL: Effort = Effort {
    cuts: 10_000,
    booted_cuts: 50,
    boot_states: 128,
    flips: 8,
    updates_read_back: 1_000,
    updates_booted: 50,
};

impl Artefacts {
    pub(crate) fn image(&self, name: &str) -> PathBuf {
        self.images.join(format!("{name}.img"))
    }

    /// The boot loader's key of that name.
    pub(crate) fn boot_key(&self, name: &str) -> Result<BootSigningKey> {
        Ok(BootSigningKey::load(&self.keys.join(format!("boot-{name}.pem")))?)
    }

    /// The board of all images.
    pub(crate) fn board(&self) -> Result<Board> {
        let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/boards");
        Ok(Board::load(&boards, &self.board, &boards)?)
    }

    /// Who signs variants of the images.
    pub(crate) fn signer(&self) -> Result<Signer> {
        Ok(Signer { board: self.board()?, key: self.boot_key("current")? })
    }
}

/// The host tool beside this program.
pub(crate) fn host_tool() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("holdfast");
    ensure!(path.is_file(), "{} is missing; run `cargo holdfast test`", path.display());
    Ok(path)
}

fn main() -> ExitCode {
    if let Some(port) = relay::relay_to() {
        return relay::relay(port);
    }
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut next = || arguments.next();
    let (Some(images), Some(programs), Some(keys), Some(effort), Some(board)) =
        (next(), next(), next(), next(), next())
    else {
        eprintln!("the system tests need images, programs and keys; run `cargo holdfast test`");
        return ExitCode::from(2);
    };
    let filters = arguments.map(|part| part.to_string_lossy().into_owned()).collect();
    let effort = if effort.as_os_str() == "full" { FULL } else { USUAL };
    let board = board.to_string_lossy().into_owned();
    let artefacts = Artefacts { images, programs, keys, effort, board };
    let mut suite = Suite::new(filters, boards::lacking(&artefacts.board));
    contents::run(&mut suite, &artefacts);
    boot::run(&mut suite, &artefacts);
    boards::run(&mut suite, &artefacts);
    packages::run(&mut suite, &artefacts);
    supervision::run(&mut suite, &artefacts);
    debugging::run(&mut suite, &artefacts);
    hostile::run(&mut suite, &artefacts);
    integrity::run(&mut suite, &artefacts);
    verified_boot::run(&mut suite, &artefacts);
    boot_script::run(&mut suite, &artefacts);
    boot_loader::run(&mut suite, &artefacts);
    fallback::run(&mut suite, &artefacts);
    cuts::run(&mut suite, &artefacts);
    network::run(&mut suite, &artefacts);
    network_attacks::run(&mut suite, &artefacts);
    network_time::run(&mut suite, &artefacts);
    network_web::run(&mut suite, &artefacts);
    update::run(&mut suite, &artefacts);
    update_download::run(&mut suite, &artefacts);
    update_attacks::run(&mut suite, &artefacts);
    update_cuts::run(&mut suite, &artefacts);
    update_reset::run(&mut suite, &artefacts);
    update_page::run(&mut suite, &artefacts);
    suite.finish()
}

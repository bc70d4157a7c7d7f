//! Artefacts under test, and how much of them is tried.

use anyhow::{Result, ensure};
use holdfast_images::board::Board;
use holdfast_images::boot::BootSigningKey;
use holdfast_images::variant::Signer;
use std::path::{Path, PathBuf};

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
    /// Seconds of guest time under all attacks at once.
    pub(crate) crowd_seconds: f64,
    /// True if apps authenticate to a broker and to each other, a fleet takes a release in stages, and the pages on the service, on fleets and on
    /// failure reports are run as printed:
    /// that takes images with programs of their own.
    pub(crate) authentication: bool,
}

pub(crate) const USUAL: Effort = Effort {
    cuts: 2_000,
    booted_cuts: 6,
    boot_states: 18,
    flips: 1,
    updates_read_back: 24,
    updates_booted: 4,
    crowd_seconds: 12.0,
    authentication: false,
};
pub(crate) const FULL: Effort = Effort {
    cuts: 10_000,
    booted_cuts: 50,
    boot_states: 128,
    flips: 8,
    updates_read_back: 1_000,
    updates_booted: 50,
    crowd_seconds: 600.0,
    authentication: true,
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
        let boards = checkout().join("images/boards");
        Ok(Board::load(&boards, &self.board, &boards)?)
    }

    /// Who signs variants of the images.
    pub(crate) fn signer(&self) -> Result<Signer> {
        Ok(Signer { board: self.board()?, key: self.boot_key("current")? })
    }
}

/// The root of the checkout that this program was built from.
pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The host tool beside this program.
pub(crate) fn host_tool() -> Result<PathBuf> {
    beside("holdfast")
}

/// The program of the Security Service beside this one.
pub(crate) fn security_service() -> Result<PathBuf> {
    beside("holdfast-service")
}

/// The simulator of fleets beside this one.
pub(crate) fn fleet_simulator() -> Result<PathBuf> {
    beside("holdfast-fleet")
}

fn beside(program: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(program);
    ensure!(path.is_file(), "{} is missing; run `cargo holdfast test`", path.display());
    Ok(path)
}

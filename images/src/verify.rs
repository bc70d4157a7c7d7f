//! Checking an image offline as its boot loader and its kernel would: `image verify`.

use crate::boot::{self, BootError, BootKey, signature};
use crate::boot_loader::{self, BootLoaderError};
use crate::show::{self, ShowError};
use crate::{FileError, build, disk, flash, hex, sha256};
use holdfast_lifecycle::slots::{BootState, Choice, CommandLineError, RunningSlot, Slot};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// The chain of trust between power-on and init.
#[derive(Debug, Serialize)]
pub struct Chain {
    /// The board.
    pub board: String,
    /// SHA-256 of the ROM, or of what lies in front of the card's partitions, in hexadecimal.
    pub boot_loader_sha256: String,
    /// Names and ids of the keys that the boot loader takes.
    pub keys: Vec<(String, String)>,
    /// The boot state; none where no copy of it is valid.
    pub boot_state: Option<BootState>,
    /// The slot that the boot loader takes first; none where it halts.
    pub first: Option<Slot>,
    /// Both slots, A first.
    pub slots: Vec<SlotReport>,
}

/// Report on one slot.
#[derive(Debug, Serialize)]
pub struct SlotReport {
    /// The slot.
    pub slot: Slot,
    /// True when nothing was ever written there.
    pub empty: bool,
    /// The verified slot; `None` when it does not boot.
    pub found: Option<SlotFound>,
    /// The reason for which the slot does not boot.
    pub refused: Option<String>,
}

/// A slot that boots.
#[derive(Debug, Serialize)]
pub struct SlotFound {
    /// Name of the key that has signed it.
    pub key: String,
    /// Board that the slot is for.
    pub board: String,
    /// Rollback index of the slot.
    pub rollback_index: u32,
    /// Verity root hash of its root file system, in hexadecimal.
    pub root_hash: String,
    /// Digest of its FIT, which the boot loader extends PCR 8 with where the board has a TPM; in hexadecimal.
    pub boot_digest: String,
    /// Whether the first and the spare copy of the boot loader are those that it brings; none where it
    /// brings none.
    pub boot_loader_copies: Option<[bool; 2]>,
}

/// An error for which the chain cannot even be looked at.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The image cannot be read.
    #[error(transparent)]
    Show(#[from] ShowError),
    /// The boot loader.
    #[error(transparent)]
    BootLoader(#[from] BootLoaderError),
    /// An image for a board with a ROM, and no ROM.
    #[error(
        "there is no boot loader in the image, and {} is not beside it; copy both together, or name it \
         with --rom",
        .0.display()
    )]
    NoRom(PathBuf),
    /// A card that was not written to its end.
    #[error("it was not written to its end; the same `flash` goes on with it")]
    Unfinished,
}

impl VerifyError {
    /// True when it names the file by itself.
    #[must_use]
    pub fn names_the_file(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Show(error) => error.names_the_file(),
            _ => false,
        }
    }
}

/// A reason for which a slot does not boot.
#[derive(Debug, thiserror::Error)]
enum SlotError {
    #[error(transparent)]
    Show(#[from] ShowError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    CommandLine(#[from] CommandLineError),
    #[error("its command line is that of slot {}", .0.letter())]
    OtherSlot(Slot),
    #[error("its command line is for board {0}")]
    OtherBoard(String),
    #[error("the hash tree behind its root does not fit; every read would fail")]
    HashTree,
    #[error("the boot loader that it brings would not start it: {0}")]
    Brought(BootError),
    #[error(transparent)]
    BootLoader(#[from] BootLoaderError),
}

impl Chain {
    /// True when the slot that is taken first boots.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.slots.iter().any(|slot| Some(slot.slot) == self.first && slot.found.is_some())
    }
}

/// Follows the chain of the image at `image`, for `board` or for that of the boot loader: the one at
/// `named`, the one beside the image, or the one in it.
///
/// # Errors
/// The files cannot be read, or the boot loader requires nothing of a slot.
pub fn verify(
    image: &Path,
    named: Option<&Path>,
    board: Option<&str>,
) -> Result<Chain, VerifyError> {
    let beside = build::rom_path(image);
    let rom = match named {
        Some(rom) => fs::read(rom).map_err(FileError::at("read", rom))?,
        None if beside.exists() => fs::read(&beside).map_err(FileError::at("read", &beside))?,
        None => disk::read_boot_loader(image)?,
    };
    if flash::is_unfinished(&rom) {
        return Err(VerifyError::Unfinished);
    }
    // Before the boot loader: what is no image has none either.
    let boot_state = show::read_boot_state(image)?.state();
    let in_image = named.is_none() && !beside.exists();
    let keys = boot_loader::required_keys(&rom).map_err(|error| match error {
        BootLoaderError::NoControlTree if in_image => VerifyError::NoRom(beside.clone()),
        other => other.into(),
    })?;
    let board = match board {
        Some(board) => board.to_owned(),
        None => boot_loader::board(&rom)?,
    };
    let choice = boot_state.unwrap_or(BootState::unknown()).choose().0;
    let slots = Slot::ALL.into_iter().map(|slot| report(image, slot, &board, (&keys, &rom)));
    let slots = slots.collect();
    Ok(Chain {
        board,
        boot_loader_sha256: hex(&sha256(&[&rom])),
        keys: keys.iter().map(|(name, key)| (name.clone(), key.id().to_string())).collect(),
        boot_state,
        first: match choice {
            Choice::Boot(slot) => Some(slot),
            Choice::Halt => None,
        },
        slots,
    })
}

fn report(
    image: &Path,
    slot: Slot,
    board: &str,
    loader: (&[(String, BootKey)], &[u8]),
) -> SlotReport {
    let (found, empty) = match show::read_partition(image, &format!("boot-{}", slot.letter())) {
        Ok(partition) => {
            (check(image, slot, board, &partition, loader), partition.iter().all(|byte| *byte == 0))
        }
        Err(error) => (Err(error.into()), false),
    };
    let refused = found.as_ref().err().map(|error| holdfast_types::chain(error));
    SlotReport { slot, empty, found: found.ok(), refused }
}

fn check(
    image: &Path,
    slot: Slot,
    board: &str,
    partition: &[u8],
    (keys, loader): (&[(String, BootKey)], &[u8]),
) -> Result<SlotFound, SlotError> {
    let (key, boot) = boot::verify(partition, slot, board, keys)?;
    let release = RunningSlot::from_command_line(&boot.command_line)?;
    if release.slot != slot {
        return Err(SlotError::OtherSlot(release.slot));
    }
    if release.board != board {
        return Err(SlotError::OtherBoard(release.board));
    }
    let (root, verity, behind) = show::verified_root(image, slot, &boot.command_line)?;
    if !behind.starts_with(&verity.tree) {
        return Err(SlotError::HashTree);
    }
    let brought = boot_loader::brought(&root)?;
    if let Some(brought) = &brought {
        // The device will have it in the place of the one that is there.
        let keys = boot_loader::required_keys(&brought.u_boot)?;
        boot::verify(partition, slot, board, &keys).map_err(SlotError::Brought)?;
    }
    Ok(SlotFound {
        key,
        board: release.board,
        rollback_index: release.rollback_index,
        root_hash: hex(&verity.root_hash),
        boot_digest: signature::boot_digest(partition).map_or_else(String::new, |d| hex(&d)),
        boot_loader_copies: brought
            .map(|brought| boot_loader::copies(loader, &brought).map(|copy| copy.is_current)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Layout;
    use std::fs::File;

    #[test]
    fn an_image_without_the_rom_beside_it_names_where_it_should_be() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("renamed.img");
        let partition = |name: &str, start| disk::Partition {
            name: name.to_owned(),
            start,
            length: disk::ALIGN_BYTES * 2,
        };
        let partitions = vec![partition("bootstate", disk::ALIGN_BYTES)];
        let layout = Layout { length: 16 << 20, entry_array: 2016, partitions };
        let mut file =
            File::options().read(true).write(true).create_new(true).open(&image).unwrap();
        file.set_len(layout.length).unwrap();
        layout.write_tables(&mut file, b"x").unwrap();
        assert_eq!(Layout::read(&mut file).unwrap(), layout);
        let error = verify(&image, None, None).unwrap_err();
        assert!(
            matches!(&error, VerifyError::NoRom(rom) if rom.ends_with("renamed.rom")),
            "{error}"
        );
        // What is named by hand, and is no boot loader, is not missing.
        let error = verify(&image, Some(&image), None).unwrap_err();
        assert!(matches!(error, VerifyError::BootLoader(_)), "{error}");
    }
}

//! A boot loader on a card: what the boot ROM starts, and behind it U-Boot in the form that its first
//! stage takes.
//!
//! Source: U-Boot's `include/image.h` (`struct legacy_img_hdr`) and `common/spl/spl_legacy.c`.

use super::error::BootLoaderError;
use crate::board::{Board, FirstStage};
use crc::{CRC_32_ISO_HDLC, Crc};
use holdfast_lifecycle::boot_loader::U_BOOT_MAGIC;

/// Operating system, architecture, kind and compression: U-Boot, ARM, firmware, none.
const KIND: [u8; 4] = [17, 2, 5, 0];
const NAME_BYTES: usize = 32;

/// Bytes with their place on the card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Offset of the first byte on the card.
    pub at: u64,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// A first stage as it was built, with its place on the card.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstStageAt<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at_kib: u32,
    /// Place at which this first stage looks for U-Boot.
    pub(super) u_boot_at_kib: u32,
}

/// Returns the pieces of one copy of a boot loader on a card.
///
/// # Errors
/// A piece is larger than its room.
pub(super) fn pieces(
    board: &Board,
    stage: &FirstStage,
    first: FirstStageAt<'_>,
    wrapped: &[u8],
) -> Result<[Piece; 2], BootLoaderError> {
    let bytes = |kib: u32| u64::from(kib).saturating_mul(1024);
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let check = |what: &str, length: u64, room: u64| {
        if length <= room {
            return Ok(());
        }
        let (board, what) = (board.name.clone(), what.to_owned());
        Err(BootLoaderError::TooLarge { board, what, length, room })
    };
    check(&stage.file, length(first.bytes), bytes(stage.most_kib))?;
    let at = bytes(first.u_boot_at_kib);
    let room = board.boot_loader.u_boot_end(first.u_boot_at_kib).saturating_sub(at);
    check("U-Boot", length(wrapped), room)?;
    Ok([
        Piece { at: bytes(first.at_kib), bytes: first.bytes.to_vec() },
        Piece { at, bytes: wrapped.to_vec() },
    ])
}

/// `data` behind a header with its length, its checksum and its address.
pub(super) fn legacy_image(data: &[u8], load: u32) -> Vec<u8> {
    let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let header = |own_checksum: u32| {
        let mut header = Vec::new();
        // The time of its making is that of no build.
        for word in [U_BOOT_MAGIC, own_checksum, 0, length, load, load, crc.checksum(data)] {
            header.extend_from_slice(&word.to_be_bytes());
        }
        header.extend_from_slice(&KIND);
        let mut name = b"Holdfast boot loader".to_vec();
        name.resize(NAME_BYTES, 0);
        header.extend_from_slice(&name);
        header
    };
    let mut image = header(crc.checksum(&header(0)));
    image.extend_from_slice(data);
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn board() -> Board {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        Board::load(&directory, "orangepi-pc", Path::new("image.toml")).unwrap()
    }

    fn made(first: usize, u_boot: usize) -> Result<[Piece; 2], BootLoaderError> {
        let board = board();
        let loader = &board.boot_loader;
        let (stage, place) = (loader.first_stage.as_ref().unwrap(), loader.u_boot.unwrap());
        let bytes = vec![1; first];
        let first =
            FirstStageAt { bytes: &bytes, at_kib: stage.at_kib, u_boot_at_kib: place.at_kib };
        pieces(&board, stage, first, &legacy_image(&vec![2; u_boot], place.load))
    }

    #[test]
    fn u_boot_has_the_header_that_the_first_stage_checks() {
        let [first, u_boot] = made(100, 5).unwrap();
        assert_eq!((first.at, u_boot.at), (8 * 1024, 160 * 1024));
        let bytes = u_boot.bytes;
        assert_eq!(bytes.len(), 64 + 5);
        // As `mkimage -A arm -O u-boot -T firmware -C none -a 4a000000 -e 4a000000` writes it.
        assert_eq!(bytes[..4], [0x27, 0x05, 0x19, 0x56]);
        assert_eq!(bytes[12..24], [0, 0, 0, 5, 0x4a, 0, 0, 0, 0x4a, 0, 0, 0]);
        assert_eq!(bytes[28..32], [17, 2, 5, 0]);
        let mut zeroed = bytes[..64].to_vec();
        zeroed[4..8].fill(0);
        let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
        assert_eq!(bytes[4..8], crc.checksum(&zeroed).to_be_bytes());
        assert_eq!(bytes[24..28], crc.checksum(&[2; 5]).to_be_bytes());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = made(32 * 1024 + 1, 5).unwrap_err().to_string();
        assert!(error.contains("orangepi-pc: spl/sunxi-spl.bin has 32769 bytes"), "{error}");
        // Up to where the spare copy's begins.
        let room = (576 - 160) * 1024;
        assert_eq!(made(5, room - 64).unwrap()[1].bytes.len(), room);
        let error = made(5, room - 63).unwrap_err().to_string();
        assert!(error.contains("U-Boot has 425985 bytes"), "{error}");
    }
}

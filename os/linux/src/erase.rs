//! Writing a partition anew, with nothing left of what was on it.

use crate::PathError;
use crate::direct::Direct;
use holdfast_lifecycle::factory_reset::Blank;
use std::io::{Error, ErrorKind};
use std::path::Path;

const BLOCK_BYTES: usize = 4096;
/// Blocks between two calls of `alive`.
const BLOCKS_AT_ONCE: u64 = 1024;

/// Overwrites every block of a partition, with an empty file system and zeros, and reads all of it back from the
/// medium. `alive` is called now and then. What a card keeps of blocks that it has put aside is beyond this.
///
/// # Errors
/// The file system does not fit, the partition cannot be written or read, or has something else afterwards.
pub fn overwrite(path: &Path, blank: &Blank<'_>, alive: impl Fn()) -> Result<(), PathError> {
    let failed = |operation, kind: ErrorKind, why: &str| {
        PathError::new(operation, path, Error::new(kind, why.to_owned()))
    };
    let mut partition = Direct::open(path)?;
    let bytes = partition.length()?;
    let blocks = bytes / 4096;
    if u64::from(blank.blocks) > blocks {
        return Err(failed("erase", ErrorKind::FileTooLarge, "its file system has no room"));
    }
    let pet = |number: u64| {
        // Every 4 MiB: often enough for the slowest card, seldom enough to cost nothing.
        if number.is_multiple_of(BLOCKS_AT_ONCE) {
            alive();
        }
    };
    let mut writer = partition.writer();
    for (number, block) in (0..blocks).zip(content(blank)) {
        pet(number);
        writer.put(block)?;
    }
    writer.finish()?;
    // A card that is worn out may take what it is given and keep what it had: what counts is what
    // it reads back.
    let mut expected = (0..blocks).zip(content(blank));
    let mut same = true;
    partition.read(blocks.saturating_mul(4096), |piece| {
        for block in piece.chunks(BLOCK_BYTES) {
            same &= expected.next().is_some_and(|(number, expected)| {
                pet(number);
                block == expected
            });
        }
    })?;
    if same { Ok(()) } else { Err(failed("erase", ErrorKind::InvalidData, "something is left")) }
}

/// True when a partition holds nothing but zeros. `alive` is called now and then.
///
/// # Errors
/// The partition cannot be read.
pub fn is_zero(path: &Path, alive: impl Fn()) -> Result<bool, PathError> {
    let mut partition = Direct::open_to_read(path)?;
    let length = partition.length()?;
    let read = partition.read_from(0, length, |piece| {
        alive();
        if piece.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(Stop::Something) }
    });
    match read {
        Ok(()) => Ok(true),
        Err(Stop::Something) => Ok(false),
        Err(Stop::Unreadable(error)) => Err(error),
    }
}

/// A reason to stop reading.
enum Stop {
    Something,
    Unreadable(PathError),
}

impl From<PathError> for Stop {
    fn from(error: PathError) -> Self {
        Self::Unreadable(error)
    }
}

/// Iterates over the blocks that are written: the file system, and zeros for as long as anybody asks.
fn content<'a>(blank: &'a Blank<'_>) -> impl Iterator<Item = &'a [u8]> {
    const ZEROS: &[u8] = &[0; BLOCK_BYTES];
    let mut used = blank.used.iter().peekable();
    (0u64..).map(move |number| {
        let used = used.next_if(|(at, _)| u64::from(*at) == number);
        used.map_or(ZEROS, |(_, block)| *block)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_is_something() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../../target/zero-{}", std::process::id()));
        for (at, expected) in [(None, true), (Some(0), false), (Some(40 * BLOCK_BYTES - 1), false)]
        {
            let mut bytes = vec![0; 40 * BLOCK_BYTES];
            if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
                *byte = 1;
            }
            assert!(std::fs::write(&path, &bytes).is_ok());
            assert!(is_zero(&path, || {}).is_ok_and(|zero| zero == expected), "{at:?}");
        }
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn nothing_is_left_and_the_file_system_is_there() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../../target/erase-{}", std::process::id()));
        let written = std::fs::write(&path, vec![0xa5; 40 * BLOCK_BYTES]);
        assert!(written.is_ok(), "{written:?}");
        let content = vec![7; BLOCK_BYTES];
        let blank = Blank { blocks: 40, used: vec![(0, &content), (39, &content)] };
        assert!(overwrite(&path, &blank, || {}).is_ok());
        let found = std::fs::read(&path).unwrap_or_default();
        let expected = [&*content, &vec![0; 38 * BLOCK_BYTES], &content].concat();
        assert!(found == expected);
        let larger = Blank { blocks: 41, used: Vec::new() };
        assert!(overwrite(&path, &larger, || {}).is_err());
        let _ = std::fs::remove_file(path);
    }
}

//! The kernel's notes on a crash, which a component can write itself.

use holdfast_lifecycle::core_notes::{CoreNotes, MAX_BYTES, ReadAt};
use std::cell::Cell;

/// A file that counts the bytes that are read of it.
struct Counted<'a> {
    file: &'a [u8],
    read: Cell<usize>,
}

impl ReadAt for Counted<'_> {
    fn read_at(&self, offset: u32, into: &mut [u8]) -> Option<()> {
        self.read.set(self.read.get().saturating_add(into.len()));
        self.file.read_at(offset, into)
    }
}

/// Notes on a crash.
pub fn core_notes(bytes: &[u8]) {
    let file = Counted { file: bytes, read: Cell::new(0) };
    let notes = CoreNotes::read(&file);
    assert!(file.read.get() / 3 <= MAX_BYTES as usize, "{} bytes", file.read.get());
    // What lies beyond the bound is not looked at.
    let longer = [bytes, vec![0; MAX_BYTES as usize].as_slice()].concat();
    if let Ok(notes) = notes {
        assert_eq!(CoreNotes::read(longer.as_slice()), Ok(notes));
    }
}

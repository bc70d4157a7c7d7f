//! The last bytes that a component has written, from which it can be told where a program in Rust has panicked.
//!
//! init keeps them and reads nothing of them: whoever reports failures takes them, of a component that may have ended by a panic
//! alone, and reads them in its own sandbox.

/// Most bytes that are kept of a component: the lines of a panic, and no backtrace.
pub const MAX_BYTES: usize = 1024;

/// The last bytes that a component has written.
#[derive(Debug, Clone, Default)]
pub struct LastOutput {
    bytes: Vec<u8>,
}

impl LastOutput {
    /// Adds what was written.
    pub fn push(&mut self, written: &[u8]) {
        let last = written.get(written.len().saturating_sub(MAX_BYTES)..).unwrap_or_default();
        let too_many = self.bytes.len().saturating_add(last.len()).saturating_sub(MAX_BYTES);
        self.bytes.drain(..too_many.min(self.bytes.len()));
        self.bytes.extend(last);
    }

    /// Takes what is kept, which is forgotten: the next program begins without.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_last_bytes_are_kept_and_no_more(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 0..8),
        ) {
            let mut last = LastOutput::default();
            pieces.iter().for_each(|piece| last.push(piece));
            let all = pieces.concat();
            let kept = last.take();
            prop_assert_eq!(&kept[..], &all[all.len().saturating_sub(MAX_BYTES)..]);
            prop_assert!(last.take().is_empty());
        }
    }
}

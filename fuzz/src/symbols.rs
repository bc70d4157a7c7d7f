//! What is demanded of what reads symbols, and of whoever reads its answer: names that are bounded and of printable characters, from any
//! file, and no answer that breaks a bound.

use holdfast_service_domain::symbols::MAX_NAME_BYTES;
use holdfast_service_symbols::answer::{self, MAX_ADDRESSES};
use holdfast_service_symbols::name;
use holdfast_service_symbols::program::{self, Named};

/// Addresses that are asked about: those of the fixture's code, and ends of what there is.
const ADDRESSES: [u64; 7] = [0, 0x1_0000, 0x1_000c, 0x1_0018, 0xffff_fffe, 0xffff_ffff, u64::MAX];

fn is_name(name: &str) {
    assert!((1..=MAX_NAME_BYTES).contains(&name.len()), "{} bytes", name.len());
    assert!(!name.chars().any(char::is_control), "a control character");
}

/// A program with its symbols, as an owner sends it.
pub fn program_symbols(bytes: &[u8]) {
    let named = program::names(bytes, &ADDRESSES);
    if let Ok(Named { frames, .. }) = &named {
        assert_eq!(frames.len(), ADDRESSES.len());
        for frames in frames.iter().flatten() {
            is_name(&frames.function);
            is_name(&frames.outer);
        }
    }
    // The service reads what the worker has written as the same.
    let Ok(written) = answer::write(&named) else { panic!("it cannot be written") };
    assert!(answer::read(&written, ADDRESSES.len()).is_ok_and(|read| read == named));
}

/// A mangled name.
pub fn symbol_name(bytes: &[u8]) {
    if let Some(name) = name::readable(&String::from_utf8_lossy(bytes)) {
        is_name(&name);
    }
}

/// The answer of a worker that was taken over.
pub fn symbol_answer(bytes: &[u8]) {
    for addresses in [0, 1, MAX_ADDRESSES] {
        if let Ok(Ok(Named { frames, .. })) = answer::read(bytes, addresses) {
            assert_eq!(frames.len(), addresses);
            for frames in frames.iter().flatten() {
                is_name(&frames.function);
                is_name(&frames.outer);
            }
        }
    }
}

#[cfg(test)]
pub(crate) use tests::seeds;

#[cfg(test)]
mod tests {
    use super::*;

    /// A program in Thumb's instructions, with DWARF.
    const PROGRAM: &[u8] = include_bytes!("fixtures/thumb-program.elf");

    pub(crate) fn seeds() -> [(&'static str, Vec<Vec<u8>>); 3] {
        let names = [
            "_ZN4pump3run17h0123456789abcdefE",
            "_RNvCs4fqI2P2rA04_4pump3run",
            "_ZN4pump5valve5closeEiPKc",
        ];
        let answers = [program::names(PROGRAM, &[0x1_0000]), program::names(b"", &[])];
        [
            ("program_symbols", vec![PROGRAM.to_vec()]),
            ("symbol_name", names.map(|name| name.as_bytes().to_vec()).to_vec()),
            ("symbol_answer", answers.map(|named| answer::write(&named).unwrap()).to_vec()),
        ]
    }

    #[test]
    fn the_program_of_the_fixtures_has_names_at_the_addresses() {
        let named = program::names(PROGRAM, &ADDRESSES).unwrap();
        let functions = named.frames.iter().flatten().map(|frames| frames.function.as_str());
        let functions: Vec<_> = functions.collect();
        assert!(
            functions.contains(&"read_valve") && functions.contains(&"supervise"),
            "{functions:?}"
        );
    }
}

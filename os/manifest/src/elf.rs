//! Checks of ELF files before they may be on a device: ARM, complete, and with nothing that asks for executable
//! writable memory.
//!
//! The host checks whole files with [`check`]; the device, once more, their headers with
//! [`check_segments`].

use object::LittleEndian;
use object::elf::{
    DT_NEEDED, DynamicTag, EM_ARM, ET_DYN, ET_EXEC, FileHeader32, PF_W, PF_X, PT_DYNAMIC,
    PT_GNU_STACK, PT_INTERP, PT_LOAD,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// Files that an ELF file needs beside itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Needs {
    /// Path of its loader; none for a static program.
    pub interpreter: Option<String>,
    /// Names of the libraries it is linked to.
    pub libraries: Vec<String>,
}

/// A property for which an ELF file may not be in an image.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ElfError {
    /// No 32-bit little-endian ELF at all.
    #[error("is not a 32-bit ARM ELF file")]
    NotArm,
    /// ELF, but the headers make no sense.
    #[error("is a damaged ELF file: {0}")]
    Damaged(String),
    /// An object file or a core.
    #[error("is an ELF file, but neither a program nor a library")]
    NotExecutable,
    /// `PT_GNU_STACK` is missing or asks for an executable stack: every page it maps could then
    /// be executable.
    #[error("asks for an executable stack; link it with `-z noexecstack`")]
    ExecutableStack,
    /// A segment is writable and executable at once.
    #[error("has a segment that is writable and executable")]
    WritableCode,
}

/// True when the file begins like an ELF file of any kind.
#[must_use]
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Checks one program or library.
///
/// # Errors
/// See [`ElfError`].
pub fn check(bytes: &[u8]) -> Result<Needs, ElfError> {
    let damaged = |error: object::Error| ElfError::Damaged(error.to_string());
    let header = FileHeader32::<LittleEndian>::parse(bytes).map_err(|_| ElfError::NotArm)?;
    let endian = LittleEndian;
    if header.e_machine(endian) != EM_ARM {
        return Err(ElfError::NotArm);
    }
    if ![ET_EXEC, ET_DYN].contains(&header.e_type(endian)) {
        return Err(ElfError::NotExecutable);
    }
    let segments = header.program_headers(endian, bytes).map_err(damaged)?;
    check_flags(segments)?;
    let mut needs = Needs::default();
    for segment in segments {
        match segment.p_type(endian) {
            PT_INTERP => {
                let path = segment.interpreter(endian, bytes).map_err(damaged)?;
                needs.interpreter = path.map(|p| String::from_utf8_lossy(p).into_owned());
            }
            PT_DYNAMIC => needs.libraries = libraries(bytes, segments, segment)?,
            _ => {}
        }
    }
    Ok(needs)
}

/// Bytes at the start of a file in which [`check_segments`] expects the program headers.
pub const SEGMENT_BYTES: usize = 4096;

/// Checks what the kernel looks at first: the program headers at the start of a file. `bytes` are
/// its first [`SEGMENT_BYTES`], or all it has.
///
/// # Errors
/// As [`check`]; `Damaged` too where the headers lie elsewhere.
pub fn check_segments(bytes: &[u8]) -> Result<(), ElfError> {
    let header = FileHeader32::<LittleEndian>::parse(bytes).map_err(|_| ElfError::NotArm)?;
    if header.e_machine(LittleEndian) != EM_ARM {
        return Err(ElfError::NotArm);
    }
    let segments = header
        .program_headers(LittleEndian, bytes)
        .map_err(|error| ElfError::Damaged(error.to_string()))?;
    check_flags(segments)
}

/// The stack must be said to hold no code, and no segment may be writable code.
fn check_flags(segments: &[object::elf::ProgramHeader32<LittleEndian>]) -> Result<(), ElfError> {
    let mut stack_is_safe = false;
    for segment in segments {
        let flags = segment.p_flags(LittleEndian);
        match segment.p_type(LittleEndian) {
            PT_GNU_STACK if flags.0 & PF_X.0 != 0 => return Err(ElfError::ExecutableStack),
            PT_GNU_STACK => stack_is_safe = true,
            PT_LOAD if flags.0 & PF_W.0 != 0 && flags.0 & PF_X.0 != 0 => {
                return Err(ElfError::WritableCode);
            }
            _ => {}
        }
    }
    if stack_is_safe { Ok(()) } else { Err(ElfError::ExecutableStack) }
}

/// The `DT_NEEDED` names, found by program headers alone: section headers may be stripped.
fn libraries(
    bytes: &[u8],
    segments: &[object::elf::ProgramHeader32<LittleEndian>],
    dynamic: &object::elf::ProgramHeader32<LittleEndian>,
) -> Result<Vec<String>, ElfError> {
    let endian = LittleEndian;
    let damaged = |what: &str| ElfError::Damaged(what.to_owned());
    let entries = dynamic
        .dynamic(endian, bytes)
        .map_err(|error| ElfError::Damaged(error.to_string()))?
        .unwrap_or_default();
    let value = |tag: DynamicTag| {
        entries
            .iter()
            .find(|e| e.tag32(endian).map(i64::from) == Some(tag.0))
            .and_then(|e| e.val32(endian))
    };
    let Some(strings_at) = value(object::elf::DT_STRTAB) else {
        return Ok(Vec::new());
    };
    let strings = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD)
        .find_map(|segment| {
            let offset = strings_at.checked_sub(segment.p_vaddr(endian))?;
            segment.data(endian, bytes).ok()?.get(usize::try_from(offset).ok()?..)
        })
        .ok_or_else(|| damaged("its string table lies in no segment"))?;
    let mut names = Vec::new();
    for entry in entries.iter().filter(|e| e.tag32(endian).map(i64::from) == Some(DT_NEEDED.0)) {
        let name = entry
            .val32(endian)
            .and_then(|at| strings.get(usize::try_from(at).ok()?..))
            .and_then(|rest| rest.split(|byte| *byte == 0).next())
            .ok_or_else(|| damaged("the name of a library lies outside its string table"))?;
        names.push(String::from_utf8_lossy(name).into_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal static ARM program header: one code segment, one stack segment.
    fn program(machine: u8, kind: u8, load_flags: u8, stack_flags: Option<u8>) -> Vec<u8> {
        let mut elf = vec![0u8; 0x34];
        elf[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
        elf[0x10] = kind;
        elf[0x12] = machine;
        elf[0x14] = 1;
        elf[0x1c] = 0x34; // e_phoff
        elf[0x28] = 0x34; // e_ehsize
        elf[0x2a] = 0x20; // e_phentsize
        let mut segment = |kind: object::elf::ProgramType, flags: u8| {
            let mut header = [0u8; 0x20];
            header[..4].copy_from_slice(&kind.0.to_le_bytes());
            header[0x18] = flags;
            elf.extend_from_slice(&header);
            elf[0x2c] = elf[0x2c].wrapping_add(1);
        };
        segment(PT_LOAD, load_flags);
        if let Some(flags) = stack_flags {
            segment(PT_GNU_STACK, flags);
        }
        elf
    }

    const ARM: u8 = 40; // EM_ARM
    const EXEC: u8 = 2; // ET_EXEC

    #[test]
    fn a_static_arm_program_needs_nothing() {
        assert_eq!(check(&program(ARM, EXEC, 5, Some(6))), Ok(Needs::default()));
    }

    #[test]
    fn each_kind_of_unfit_program_is_told_apart() {
        assert_eq!(check(b"#!/bin/sh\n"), Err(ElfError::NotArm));
        assert_eq!(check(&program(62, EXEC, 5, Some(6))), Err(ElfError::NotArm));
        assert_eq!(check(&program(ARM, 1, 5, Some(6))), Err(ElfError::NotExecutable));
        assert_eq!(check(&program(ARM, EXEC, 5, Some(7))), Err(ElfError::ExecutableStack));
        assert_eq!(check(&program(ARM, EXEC, 5, None)), Err(ElfError::ExecutableStack));
        assert_eq!(check(&program(ARM, EXEC, 7, Some(6))), Err(ElfError::WritableCode));
    }

    proptest::proptest! {
        #[test]
        fn changed_bytes_never_panic(
            at in 0usize..0x74, value in proptest::prelude::any::<u8>()
        ) {
            let mut elf = program(ARM, EXEC, 5, Some(6));
            elf[at] = value;
            // What the host takes, the device takes.
            if check(&elf).is_ok() {
                proptest::prop_assert_eq!(check_segments(&elf), Ok(()));
            }
        }
    }
}

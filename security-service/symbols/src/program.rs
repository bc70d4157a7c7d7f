//! A program with its symbols: an ELF file, its build id, and the functions that its DWARF and its table of symbols name.

use crate::name::{bounded, has_path, readable};
use addr2line::{Context, LookupResult};
use gimli::{Dwarf, EndianSlice, RunTimeEndian, SectionId};
use holdfast_service_domain::symbols::{BuildId, Frames};
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use object::read::{File, Object, ObjectSection, ObjectSymbol};
use object::{CompressionFormat, FileKind, ObjectKind, SymbolKind};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use thiserror::Error;

/// Most bytes of a section that is packed, once it is unpacked.
const MAX_UNPACKED_BYTES: usize = 128 * 1024 * 1024;
/// Most functions at one address that are inlined into each other and looked at.
const MAX_INLINED: usize = 256;
/// Longest name in the file, in bytes, that is looked at.
const MAX_RAW_NAME_BYTES: usize = 64 * 1024;

type Bytes<'d> = EndianSlice<'d, RunTimeEndian>;

/// Why a file is none of a program with symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramError {
    /// It is no ELF file of a program.
    #[error("it is no ELF file of a program")]
    NoProgram,
    /// It has no note with a build id.
    #[error("it has no build id; link it with `--build-id=sha1`")]
    NoBuildId,
    /// It has no names of functions.
    #[error("it has neither DWARF nor a table of symbols; was it stripped?")]
    Stripped,
}

/// What is known of addresses of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The program's build id.
    pub build_id: BuildId,
    /// For each address, the functions there, where they are known.
    pub frames: Vec<Option<Frames>>,
}

/// Reads a program's build id and names the functions at addresses of it, as its file has them.
///
/// DWARF that cannot be read names nothing, and the table of symbols is asked then.
///
/// # Errors
/// The file is none of a program with symbols.
pub fn names(file: &[u8], addresses: &[u64]) -> Result<Named, ProgramError> {
    let is_elf = matches!(FileKind::parse(file), Ok(FileKind::Elf32 | FileKind::Elf64));
    let file = File::parse(file).ok().filter(|_| is_elf).ok_or(ProgramError::NoProgram)?;
    if !matches!(file.kind(), ObjectKind::Executable | ObjectKind::Dynamic) {
        return Err(ProgramError::NoProgram);
    }
    let build_id = file.build_id().ok().flatten().ok_or(ProgramError::NoBuildId)?;
    let build_id = BuildId::from_bytes(build_id).map_err(|_| ProgramError::NoBuildId)?;
    let has_table = file.symbols().any(|symbol| symbol.kind() == SymbolKind::Text);
    let sections = sections(&file);
    let has_dwarf =
        sections.get(SectionId::DebugInfo.name()).is_some_and(|bytes| !bytes.is_empty());
    if !has_table && !has_dwarf {
        return Err(ProgramError::Stripped);
    }
    let context = if addresses.is_empty() { None } else { context(&file, &sections) };
    // No instruction lies at the last address, and none of a program of 32 bits beyond them.
    let last = if file.is_64() { u64::MAX } else { u64::from(u32::MAX) };
    let name = |address: &u64| {
        if *address >= last {
            return None;
        }
        let [function, outer] = match &context {
            Some(context) => inlined(context, *address),
            None => Default::default(),
        };
        // With DWARF of lines alone, a function that was not inlined has a name without its path, or none; the table has the whole one.
        let outer_name = of_table(&file, *address).or(outer.clone())?;
        let function = function.filter(|function| Some(function) != outer.as_ref());
        let function = match function {
            // The same DWARF names what is inlined without its path as well: one `{closure#0}` is not every other.
            Some(short) if !has_path(&short) && has_path(&outer_name) => {
                bounded(format_args!("{short} in {outer_name}"))
            }
            Some(whole) => whole,
            None => outer_name.clone(),
        };
        Some(Frames { function, outer: outer_name })
    };
    Ok(Named { build_id, frames: addresses.iter().map(name).collect() })
}

/// The sections of DWARF by their names, unpacked where they are packed.
fn sections<'d>(file: &File<'d>) -> BTreeMap<&'static str, Cow<'d, [u8]>> {
    let wanted = [
        SectionId::DebugAbbrev,
        SectionId::DebugAddr,
        SectionId::DebugAranges,
        SectionId::DebugInfo,
        SectionId::DebugLine,
        SectionId::DebugLineStr,
        SectionId::DebugRanges,
        SectionId::DebugRngLists,
        SectionId::DebugStr,
        SectionId::DebugStrOffsets,
    ];
    let mut found = BTreeMap::new();
    for id in wanted {
        let section = file.section_by_name(id.name());
        let data = section.and_then(|section| section.compressed_data().ok());
        let unpacked = data.and_then(|data| match data.format {
            CompressionFormat::None => Some(Cow::Borrowed(data.data)),
            CompressionFormat::Zlib => {
                let most = usize::try_from(data.uncompressed_size).unwrap_or(usize::MAX);
                let most = most.min(MAX_UNPACKED_BYTES);
                decompress_to_vec_zlib_with_limit(data.data, most).ok().map(Cow::Owned)
            }
            _ => None,
        });
        if let Some(bytes) = unpacked {
            found.insert(id.name(), bytes);
        }
    }
    found
}

fn context<'s>(
    file: &File<'_>,
    sections: &'s BTreeMap<&'static str, Cow<'_, [u8]>>,
) -> Option<Context<Bytes<'s>>> {
    let endian = if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    let section = |id: SectionId| {
        let bytes: &'s [u8] = sections.get(id.name()).map_or(&[], |bytes| bytes);
        Ok::<_, gimli::Error>(EndianSlice::new(bytes, endian))
    };
    Context::from_dwarf(Dwarf::load(section).ok()?).ok()
}

/// The functions at an address that DWARF names: the one that is inlined deepest, and the one that all are inlined into.
fn inlined(context: &Context<Bytes<'_>>, address: u64) -> [Option<String>; 2] {
    let frames = match context.find_frames(address) {
        LookupResult::Output(frames) => frames,
        // What lies in other files is not here.
        load => load.skip_all_loads(),
    };
    let Ok(mut frames) = frames else { return Default::default() };
    let (mut deepest, mut outermost) = (None, None);
    for _ in 0..MAX_INLINED {
        let Ok(Some(frame)) = frames.next() else { break };
        let name = frame.function.as_ref().and_then(|function| {
            let raw = function.name.slice();
            let raw = raw.get(..raw.len().min(MAX_RAW_NAME_BYTES))?;
            readable(&String::from_utf8_lossy(raw))
        });
        if deepest.is_none() {
            deepest.clone_from(&name);
        }
        outermost = name;
    }
    [deepest, outermost]
}

/// The function at an address in the table of symbols: the one that begins last before it, if it has not ended.
fn of_table(file: &File<'_>, address: u64) -> Option<String> {
    // On ARM, the lowest bit of a function's address says that its instructions are Thumb's.
    let mask = if file.architecture() == object::Architecture::Arm { !1 } else { u64::MAX };
    let mut best: Option<(u64, &[u8])> = None;
    for symbol in file.symbols() {
        let is_function = symbol.kind() == SymbolKind::Text && symbol.is_definition();
        let begin = symbol.address() & mask;
        let Some(offset) = address.checked_sub(begin) else { continue };
        // What was written in assembler may have no size.
        let has_ended = symbol.size() != 0 && offset >= symbol.size();
        if !is_function || has_ended {
            continue;
        }
        let Ok(name) = symbol.name_bytes() else { continue };
        // Functions with the same instructions may be one, under several names: the first of them, whatever order they are in.
        let is_better = best.is_none_or(|(of_best, best_name)| {
            begin > of_best || (begin == of_best && name < best_name)
        });
        if is_better {
            best = Some((begin, name));
        }
    }
    let (_, name) = best?;
    let name = name.get(..name.len().min(MAX_RAW_NAME_BYTES))?;
    readable(&String::from_utf8_lossy(name))
}

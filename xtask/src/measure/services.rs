//! What the services of an image with network and update agents take: memory of each process, and what their program
//! is made of.

use super::guest::{BOOT, whole};
use anyhow::{Context, Result};
use holdfast_builder::image::{Built, ImageBuilder};
use holdfast_builder::workspace::{self, Workspace};
use holdfast_qemu::machine::Machine;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use toml::{Table, Value};

/// An image with network, update agents and the probe.
const MANIFEST: &str = "tests/images/update.toml";
/// An image whose devices check in at a Security Service: its `[service]` is put into the former for a comparison.
const CHECKING_IN: &str = "tests/images/service.toml";
/// The keys of `[service]` that name files.
const SERVICE_FILES: [&str; 2] = ["authorities", "catalog_root"];
/// The key of a machine's memory.
const MEMORY: &str = "memory_mib";
/// The processes that have something to do with check-ins.
const OF_CHECK_INS: [&str; 2] = ["identity", "uplink"];
/// The service whose program is looked at: all of an image's services are one program, under several names.
const PROGRAM: &str = "network";
/// Seconds of guest time after which the services are idle but for what they do now and then.
const IDLE_SECONDS: u32 = 30;
/// Crates that have a row of their own.
const TOP_CRATES: usize = 16;
/// Crates that come with the compiler.
const STANDARD: [&str; 6] =
    ["alloc", "core", "std", "compiler_builtins", "hashbrown", "panic_abort"];

/// A process, in KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ProcessMemory {
    name: String,
    /// Pages that nobody else has.
    own: u64,
    /// Resident pages of files, those that others map too included.
    of_files: u64,
}

/// Bytes of a program that have a name: a section's, or the code of one crate's functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Part {
    name: String,
    bytes: u64,
}

/// What services take.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ServicesNumbers {
    processes: Vec<ProcessMemory>,
    /// Mapped pages of files, each counted once, in KiB.
    mapped: u64,
    program_bytes: usize,
    sections: Vec<Part>,
    crates: Vec<Part>,
    check_ins: CheckInNumbers,
}

/// The cost of check-ins to an image.
#[derive(Debug, Clone, Serialize)]
struct CheckInNumbers {
    /// Bytes that the one program of the services has more.
    program_bytes: i64,
    /// Bytes that the slot has more.
    slot_bytes: i64,
    /// The processes that check-ins are made by, with keys in files, as on a board without a TPM.
    processes: Vec<ProcessMemory>,
}

pub(super) fn measure(
    workspace: &Workspace,
    builder: &ImageBuilder<'_>,
) -> Result<ServicesNumbers> {
    let built = builder.build(&workspace.root.join(MANIFEST), &[], None)?;
    let (program_bytes, slot_bytes) = sizes(&built)?;
    let program = workspace::read(&built.symbols.join(PROGRAM))?;
    let (sections, crates) = content(&program)?;
    let (processes, mapped) = memory(&built)?;
    let with_service = with_service(workspace, builder)?;
    let (program_with, slot_with) = sizes(&with_service)?;
    let (mut of_check_ins, _) = memory(&with_service)?;
    of_check_ins.retain(|process| OF_CHECK_INS.contains(&process.name.as_str()));
    let more = |with: usize, without: usize| -> Result<i64> {
        Ok(i64::try_from(with)?.saturating_sub(i64::try_from(without)?))
    };
    let check_ins = CheckInNumbers {
        program_bytes: more(program_with, program_bytes)?,
        slot_bytes: more(slot_with, slot_bytes)?,
        processes: of_check_ins,
    };
    Ok(ServicesNumbers { processes, mapped, program_bytes, sections, crates, check_ins })
}

/// Bytes of the one program of an image's services, and of a slot.
fn sizes(built: &Built) -> Result<(usize, usize)> {
    let path = format!("/usr/lib/holdfast/services/{PROGRAM}/{PROGRAM}");
    let image = holdfast_images::show::show(&built.path)?;
    let shipped = image.files.iter().find(|file| file.path == path);
    let program_bytes = usize::try_from(shipped.with_context(|| format!("no {path}"))?.size)?;
    Ok((program_bytes, image.slot_bytes))
}

/// Builds the image of [`MANIFEST`] with the `[service]` of [`CHECKING_IN`] and nothing else beside it.
fn with_service(workspace: &Workspace, builder: &ImageBuilder<'_>) -> Result<Built> {
    let load = |name: &str| workspace::read_toml::<Table>(&workspace.root.join(name));
    let manifest = manifest_with_service(&load(MANIFEST)?, &load(CHECKING_IN)?, |name, path| {
        let directory = workspace.root.join(name).with_file_name("");
        directory.join(path).to_string_lossy().into_owned()
    })?;
    let directory = workspace.output()?.join("measured");
    workspace::make_directory(&directory)?;
    let path = directory.join("update-with-service.toml");
    workspace::write(&path, toml::to_string(&manifest).context("cannot write a manifest")?)?;
    builder.build(&path, &[], Some(&path.with_extension("img")))
}

/// Returns `manifest` with the `[service]` of `checking_in`. `place` says where a path of either file leads.
fn manifest_with_service(
    manifest: &Table,
    checking_in: &Table,
    place: impl Fn(&str, &str) -> String,
) -> Result<Table> {
    let mut whole = manifest.clone();
    let apps = whole.get_mut("app").and_then(Value::as_array_mut);
    for app in apps.into_iter().flatten() {
        if let Some(Value::String(path)) = app.get_mut("path") {
            *path = place(MANIFEST, path);
        }
    }
    let service = checking_in.get("service").and_then(Value::as_table);
    let mut service = service.with_context(|| format!("{CHECKING_IN} has no [service]"))?.clone();
    for key in SERVICE_FILES {
        let paths = match service.get_mut(key) {
            Some(Value::Array(several)) => several.iter_mut().collect(),
            one => one.into_iter().collect::<Vec<_>>(),
        };
        for path in paths {
            if let Value::String(path) = path {
                *path = place(CHECKING_IN, path);
            }
        }
    }
    whole.insert("service".to_owned(), Value::Table(service));
    // One service more does not fit into what the former has.
    let memory =
        checking_in.get(MEMORY).with_context(|| format!("{CHECKING_IN} has no {MEMORY}"))?;
    whole.insert(MEMORY.to_owned(), memory.clone());
    Ok(whole)
}

fn memory(built: &Built) -> Result<(Vec<ProcessMemory>, u64)> {
    let machine = Machine {
        counted: true,
        without_boot_loader: true,
        ..Machine::new(&built.path, built.manifest.memory_mib)
    };
    let mut guest = machine.start(None)?;
    guest.wait("init: probe is ready", BOOT)?;
    guest.wait(&format!("hello: heartbeat {IDLE_SECONDS}\\b"), BOOT)?;
    let mapped = whole(&guest.probe.ask("memory", BOOT)?, r"mapped=(\d+)")?;
    Ok((processes(&guest.probe.ask("processes", BOOT)?)?, mapped))
}

/// Processes in the probe's words, the largest first.
fn processes(text: &str) -> Result<Vec<ProcessMemory>> {
    let mut processes = Vec::new();
    for line in text.lines() {
        let name = line.split(' ').find_map(|word| word.strip_prefix("Name="));
        processes.push(ProcessMemory {
            name: name.with_context(|| format!("`{line}` has no name"))?.to_owned(),
            own: whole(line, r"RssAnon=(\d+)")?,
            of_files: whole(line, r"RssFile=(\d+)")?,
        });
    }
    processes.sort_by_key(|process| std::cmp::Reverse(process.own));
    Ok(processes)
}

/// The sections of a program that are loaded, and its code by crate, the largest first.
fn content(program: &[u8]) -> Result<(Vec<Part>, Vec<Part>)> {
    let file = object::File::parse(program).context("a service's program is no ELF file")?;
    let loaded = |section: &object::Section<'_, '_>| {
        let object::SectionFlags::Elf { sh_flags, .. } = section.flags() else { return false };
        sh_flags.contains(object::elf::SHF_ALLOC)
            && section.kind() != object::SectionKind::UninitializedData
    };
    let mut sections = Vec::new();
    for section in file.sections().filter(loaded) {
        let name = section.name().unwrap_or("?").to_owned();
        sections.push(Part { name, bytes: section.size() });
    }
    sections.sort_by_key(|section| std::cmp::Reverse(section.bytes));
    let mut crates: BTreeMap<String, u64> = BTreeMap::new();
    // Functions that were merged are one piece of code with several names.
    let mut places: BTreeMap<u64, (u64, &str)> = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let name = symbol.name().unwrap_or_default();
        places.entry(symbol.address()).or_insert((symbol.size(), name));
    }
    for (bytes, name) in places.into_values() {
        let total = crates.entry(crate_of(name)).or_default();
        *total = total.saturating_add(bytes);
    }
    let mut crates: Vec<Part> =
        crates.into_iter().map(|(name, bytes)| Part { name, bytes }).collect();
    crates.sort_by_key(|code| std::cmp::Reverse(code.bytes));
    Ok((sections, crates))
}

/// The crate that a function is there for: the first in its path that is not the standard library's, since
/// `Vec<zbus::Message>::push` is there for zbus. What has no path is C or assembly.
fn crate_of(symbol: &str) -> String {
    let Ok(demangled) = rustc_demangle::try_demangle(symbol) else {
        return "C and assembly".to_owned();
    };
    let path = format!("{demangled:#}");
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut standard = false;
    for (at, _) in path.match_indices("::") {
        let before = path.get(..at).unwrap_or_default();
        let first = before.rsplit(|character| !is_word(character)).next().unwrap_or_default();
        let root = before.strip_suffix(first).unwrap_or_default();
        // The end of a type in brackets, or a part of a path whose beginning was looked at already.
        if first.is_empty() {
            continue;
        }
        if root.ends_with("::") {
            continue;
        }
        if !STANDARD.contains(&first) {
            return first.to_owned();
        }
        standard = true;
    }
    if standard { "the standard library" } else { "types of the language" }.to_owned()
}

/// Its part of docs/numbers.md.
pub(super) fn section(numbers: &ServicesNumbers) -> String {
    let counted = numbers.processes.iter().map(|process| process.of_files);
    let counted = counted.fold(0, u64::saturating_add);
    let mut text = format!(
        "\nMemory of the processes of `{MANIFEST}` when idle, in KiB: pages that a process has alone, and resident pages of \
         files\n(programs, which the services share). The latter are {counted} KiB as the processes count them and {} KiB \
         with each page\ncounted once.\n\n| process | own | of files |\n| --- | ---: | ---: |\n",
        numbers.mapped
    );
    // Writing to a string cannot fail.
    for process in &numbers.processes {
        let ProcessMemory { name, own, of_files } = process;
        let _ = writeln!(text, "| `{name}` | {own} | {of_files} |");
    }
    let _ = writeln!(
        text,
        "\nThe one program of these services has {} bytes. Its sections, and its code by the crate that a function is there \
         for,\nin bytes.\n\n| section | bytes |\n| --- | ---: |",
        numbers.program_bytes
    );
    for Part { name, bytes } in numbers.sections.iter().filter(|part| part.bytes >= 1024) {
        let _ = writeln!(text, "| `{name}` | {bytes} |");
    }
    let _ = writeln!(text, "\n| crate | bytes |\n| --- | ---: |");
    for Part { name, bytes } in numbers.crates.iter().take(TOP_CRATES) {
        let _ = writeln!(text, "| {name} | {bytes} |");
    }
    let rest = numbers.crates.iter().skip(TOP_CRATES);
    let rest = rest.map(|code| code.bytes).fold(0, u64::saturating_add);
    let _ = writeln!(text, "| others | {rest} |");
    let CheckInNumbers { program_bytes, slot_bytes, processes } = &numbers.check_ins;
    let _ = writeln!(
        text,
        "\nWith `[service]`, so that devices check in, the program has {program_bytes} bytes more and the slot \
         {slot_bytes}; the aim is at most\n358400 for `identity`, `report` and what is new in `uplink`. Memory of them when \
         idle, in KiB, on a device without a TPM:\n\n| process | own | of files |\n| --- | ---: | ---: |"
    );
    for ProcessMemory { name, own, of_files } in processes {
        let _ = writeln!(text, "| `{name}` | {own} | {of_files} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_belongs_to_the_crate_that_it_is_there_for() {
        for (symbol, expected) in [
            ("_ZN4zbus10connection10Connection4send17h0123456789abcdefE", "zbus"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "the standard library"),
            // `<alloc::vec::Vec<rustls::Message>>::push`, as RFC 2603 writes it.
            ("_RNvMCs1_5allocINtNtB2_3vec3VecNtCs2_6rustls7MessageE4push", "rustls"),
            ("memcpy", "C and assembly"),
        ] {
            assert_eq!(crate_of(symbol), expected, "{symbol}");
        }
    }

    #[test]
    fn processes_are_read_from_the_probes_words() {
        let text = "pid=1 Name=init State=S_(sleeping) RssAnon=120 RssFile=300 RssShmem=0\n\
                    pid=40 Name=uplink State=S_(sleeping) RssAnon=500 RssFile=900 RssShmem=0\n";
        let of = |name: &str, own, of_files| ProcessMemory { name: name.to_owned(), own, of_files };
        assert_eq!(processes(text).unwrap(), [of("uplink", 500, 900), of("init", 120, 300)]);
        assert_eq!(
            processes("pid=1 State=S").unwrap_err().to_string(),
            "`pid=1 State=S` has no name"
        );
    }

    #[test]
    fn an_image_is_compared_with_itself_and_a_service() {
        let without: Table = toml::from_str("name = \"a\"\n[[app]]\npath = \"../x\"\n").unwrap();
        let with: Table = toml::from_str(
            "name = \"b\"\nmemory_mib = 96\n[service]\nurl = \"u\"\nauthorities = [\"c\"]\ncatalog_root = \"d\"\n",
        )
        .unwrap();
        let place = |file: &str, path: &str| format!("{file}:{path}");
        let whole = manifest_with_service(&without, &with, place).unwrap();
        let expected: Table = toml::from_str(&format!(
            "name = \"a\"\nmemory_mib = 96\n[[app]]\npath = \"{MANIFEST}:../x\"\n[service]\nurl = \"u\"\n\
             authorities = [\"{CHECKING_IN}:c\"]\ncatalog_root = \"{CHECKING_IN}:d\"\n"
        ))
        .unwrap();
        assert_eq!(whole, expected);
        let error = manifest_with_service(&with, &without, place).unwrap_err().to_string();
        assert_eq!(error, format!("{CHECKING_IN} has no [service]"));
    }

    #[test]
    fn the_content_of_a_program_is_its_sections_and_its_code() {
        let own = workspace::read(&std::env::current_exe().unwrap()).unwrap();
        let (sections, crates) = content(&own).unwrap();
        assert!(sections.iter().any(|part| part.name == ".text" && part.bytes > 0), "{sections:?}");
        let of = |name: &str| crates.iter().find(|code| code.name == name).map(|code| code.bytes);
        assert!(of("xtask") > Some(0) && of("the standard library") > Some(0), "{crates:?}");
    }
}

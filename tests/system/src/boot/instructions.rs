//! What processors a program needs: the instructions in it, by the disassembler. Nothing is booted.

use crate::harness::artefacts::Artefacts;
use crate::harness::suite::{Suite, check};
use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Instructions that ARMv7-A processors may lack, and the Cortex-A8 of the BeagleBone Black lacks (its Technical Reference
/// Manual, and chapter A4 of the ARM Architecture Reference Manual, ARMv7-A edition): division, VFPv4's fused multiplication
/// and conversions of half precision, and what comes with the multiprocessing extensions.
const LACKING: &str = r"^(?:udiv|sdiv|vfn?m[as]|vcvt[bt]|pldw)(?:[a-z]{2})?(?:\.\w+)*$";
/// Binutils for the device, of the Debian package `binutils-arm-linux-gnueabihf`.
const DISASSEMBLER: &str = "arm-linux-gnueabihf-objdump";
const ASSEMBLER: &str = "arm-linux-gnueabihf-as";

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, no_program_has_an_instruction_that_a_board_lacks(artefacts));
}

/// Looks at the programs as the compiler made them: what is stripped has no symbols that tell Thumb code from data.
fn no_program_has_an_instruction_that_a_board_lacks(artefacts: &Artefacts) -> Result<()> {
    the_disassembler_shows_one_that_is_there()?;
    for image in ["hello", "update"] {
        let directory = artefacts.image(image).with_extension("symbols");
        let programs = below(&directory)?;
        ensure!(!programs.is_empty(), "{} has no programs", directory.display());
        for program in programs {
            let (seen, lacking) = lacking(&program)?;
            ensure!(seen > 1_000, "{}: {seen} instructions were seen", program.display());
            if let Some(line) = lacking {
                bail!("{}: the Cortex-A8 has no such instruction: {line}", program.display());
            }
        }
    }
    Ok(())
}

/// The control: one such instruction among others is found.
fn the_disassembler_shows_one_that_is_there() -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a directory")?;
    for (instruction, is_lacking) in
        [("udiv r0, r1, r2", true), ("vfma.f32 s0, s1, s2", true), ("mul r0, r1, r2", false)]
    {
        let (source, object) = (scratch.path().join("one.s"), scratch.path().join("one.o"));
        let text = format!(
            ".syntax unified\n.cpu cortex-a7\n.fpu neon-vfpv4\n.thumb\n{instruction}\nbx lr\n"
        );
        fs::write(&source, text).context("cannot write the source")?;
        let status = Command::new(ASSEMBLER).arg(&source).arg("-o").arg(&object).status();
        ensure!(status.context(ASSEMBLER)?.success(), "{ASSEMBLER} refuses {instruction}");
        let found = lacking(&object)?.1;
        ensure!(found.is_some() == is_lacking, "{instruction}: found {found:?}");
    }
    Ok(())
}

/// Counts a program's instructions, and returns the first line that has one of those.
fn lacking(program: &Path) -> Result<(usize, Option<String>)> {
    let pattern = Regex::new(LACKING).context("a pattern of this program is broken")?;
    let mut disassembler = Command::new(DISASSEMBLER)
        .args(["--disassemble", "--no-show-raw-insn"])
        .arg(program)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {DISASSEMBLER}"))?;
    let output = disassembler.stdout.take().context("the disassembler has no output")?;
    let (mut seen, mut first) = (0_usize, None);
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what the disassembler prints")?;
        // "   1234:\tudiv\tr0, r1, r2": the address, the mnemonic, what it is applied to.
        let Some(mnemonic) = line.split('\t').nth(1) else { continue };
        seen = seen.saturating_add(1);
        if first.is_none() && pattern.is_match(mnemonic.trim()) {
            first = Some(line);
        }
    }
    let status = disassembler.wait().with_context(|| format!("cannot wait for {DISASSEMBLER}"))?;
    ensure!(status.success(), "{DISASSEMBLER} {}: {status}", program.display());
    Ok((seen, first))
}

/// All files below a directory.
fn below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry.with_context(|| directory.display().to_string())?.path();
        if path.is_dir() {
            files.extend(below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

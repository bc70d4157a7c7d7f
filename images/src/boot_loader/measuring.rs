//! The commands of the boot script that measure what it starts: PCR 8 of the board's TPM is extended with the digest of the
//! FIT, and the kernel is told how that went.
//!
//! Nothing here can keep a slot from starting. A TPM that fails once is not asked again in this start, and the kernel does not
//! touch it: its node in the kernel's signed device tree is off, and switched on only here. Whether an exchange went well is not
//! taken from the exit code of `tpm2`, since the driver of U-Boot 2023.01 takes silence for an answer (`tpm_tis_recv` in
//! `drivers/tpm/tpm2_tis_core.c` returns 0 bytes, `tpm_xfer` then success): PCR 8 is read before and after, and must have become
//! the hash of what was there and the digest.

use super::commands::Script;
use crate::board::{Board, PluggedIn};
use holdfast_types::TpmState;

/// The PCR that is extended: the first that a boot loader has for itself (TCG PC Client Platform Firmware Profile).
const PCR: u32 = 8;
/// Bytes of a SHA-256.
const DIGEST: u32 = 32;

/// Places in memory of 32 bytes each, as words of the script. The second lies right behind the first, so that both are hashed at once.
struct Memory {
    /// Value of PCR 8 before it is extended.
    before: u32,
    /// Digest of the FIT.
    digest: u32,
    /// Value that PCR 8 must have then: the hash of the first two.
    expected: u32,
    /// Value that it has.
    after: u32,
}

/// Commands of a board with a TPM, by the names under which [`define`] has put them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measuring {
    /// Starts the TPM, once for each start of the device.
    pub(super) begin: &'static str,
    /// Measures the FIT of `$length` bytes that lies in memory.
    pub(super) measure: &'static str,
    /// Tells the kernel's device tree, which has been verified and lies where it is loaded to.
    pub(super) tell: &'static str,
}

/// Defines the commands; `None` on a board without a TPM.
pub(super) fn define(script: &mut Script, board: &Board) -> Option<Measuring> {
    let node = board.tpm_node()?;
    let addresses = &board.addresses;
    // The kernel comes there later.
    let at = |index: u32| addresses.kernel.saturating_add(index.saturating_mul(DIGEST));
    let memory = Memory { before: at(0), digest: at(1), expected: at(2), after: at(3) };
    let (ok, failed, none) = (TpmState::Ok.word(), TpmState::Failed.word(), TpmState::None.word());
    let registers = board.device_tree.tpm_registers.as_ref();
    match registers.and_then(|registers| registers.plugged_in.as_ref()) {
        // Nothing of that tree is expanded but the address at which the property lies.
        Some(PluggedIn { tree, node }) => script.define(
            "tpm_begin",
            &[
                &format!("setenv tpm {none}"),
                &format!(
                    "if fdt addr {tree:x}; then if fdt get addr tpm_at {node} compatible; \
                     then run tpm_start; fi; fi"
                ),
            ],
        ),
        None => script.define("tpm_begin", &["run tpm_start"]),
    }
    script.define(
        "tpm_start",
        &[
            &format!("setenv tpm {failed}"),
            &format!("if tpm2 startup TPM2_SU_CLEAR; then setenv tpm {ok}; fi"),
        ],
    );
    script.define("tpm_measure", &[&format!("if test $tpm = {ok}; then run tpm_extend; fi")]);
    let Memory { before, digest, expected, after } = memory;
    let (fit, both) = (addresses.fit, DIGEST.saturating_mul(2));
    script.define(
        "tpm_extend",
        &[
            &format!("setenv tpm {failed}"),
            &format!(
                "if hash sha256 {fit:x} $length *{digest:x}; then \
                 if tpm2 pcr_read {PCR} 0x{before:x}; then \
                 if hash sha256 {before:x} {both:x} *{expected:x}; then \
                 if tpm2 pcr_extend {PCR} 0x{digest:x}; then \
                 if tpm2 pcr_read {PCR} 0x{after:x}; then \
                 if cmp.b {expected:x} {after:x} {DIGEST:x}; then setenv tpm {ok}; \
                 fi; fi; fi; fi; fi; fi"
            ),
        ],
    );
    // Both words are shorter than what stands there, so that the tree need not grow.
    let property = TpmState::PROPERTY;
    script.define(
        &format!("tpm_is_{ok}"),
        &[
            "echo holdfast: measured",
            &format!("if fdt set {node} status okay; then fdt set /chosen {property} {ok}; fi"),
        ],
    );
    script.define(
        &format!("tpm_is_{none}"),
        &["echo holdfast: no TPM", &format!("fdt set /chosen {property} {none}")],
    );
    script.define(&format!("tpm_is_{failed}"), &["echo holdfast: the TPM has failed"]);
    script.define(
        "tpm_tell",
        &[&format!("if fdt addr {:x}; then run tpm_is_$tpm; fi", addresses.device_tree)],
    );
    Some(Measuring { begin: "tpm_begin", measure: "tpm_measure", tell: "tpm_tell" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn script_of(board: &str, change: impl FnOnce(&mut Board)) -> String {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        let mut board = Board::load(&directory, board, Path::new("image.toml")).unwrap();
        change(&mut board);
        let mut script = Script::default();
        let measuring = define(&mut script, &board);
        assert_eq!(measuring.is_some(), board.tpm_node().is_some());
        script.text
    }

    #[test]
    fn a_tpm_that_may_be_missing_is_looked_for_before_it_is_touched() {
        let begin = |script: String| {
            let line = script.lines().find(|line| line.starts_with("setenv tpm_begin "));
            line.unwrap().to_owned()
        };
        assert_eq!(
            begin(script_of("qemu-virt", |_| {})),
            "setenv tpm_begin 'setenv tpm none; if fdt addr 40000000; then if fdt get addr tpm_at \
             /platform-bus@c000000/tpm_tis@0 compatible; then run tpm_start; fi; fi'"
        );
        let soldered = script_of("qemu-virt", |board| {
            if let Some(registers) = &mut board.device_tree.tpm_registers {
                registers.plugged_in = None;
            }
        });
        assert_eq!(begin(soldered), "setenv tpm_begin 'run tpm_start'");
        assert_eq!(script_of("orangepi-pc", |_| {}), "");
    }

    #[test]
    fn the_kernel_is_told_with_words_for_which_the_signed_tree_has_room() {
        let script = script_of("qemu-virt", |_| {});
        let written = script.split("fdt set ").skip(1);
        let words = written.map(|rest| {
            let mut words = rest.split([' ', ';', '\'']).skip(1);
            (words.next().unwrap(), words.next().unwrap())
        });
        let words: Vec<_> = words.collect();
        let property = TpmState::PROPERTY;
        assert_eq!(words, [("status", "okay"), (property, "ok"), (property, "none")]);
        for (name, word) in words {
            let signed = if name == "status" { "disabled" } else { TpmState::Failed.word() };
            assert!(word.len() <= signed.len(), "{name} {word}");
        }
    }

    #[test]
    fn addresses_that_tpm2_reads_say_that_they_are_hexadecimal() {
        // Unlike those of every other command, which takes none without 0x: `simple_strtoul` with base 0 in `cmd/tpm-v2.c`.
        let script = script_of("qemu-virt", |_| {});
        let calls: Vec<&str> = script.split("tpm2 pcr_").skip(1).collect();
        assert_eq!(calls.len(), 3);
        for call in calls {
            let address = call.split([' ', ';']).nth(2).unwrap();
            assert!(address.starts_with("0x408000"), "{address}");
        }
    }
}

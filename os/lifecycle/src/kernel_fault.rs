//! Where the kernel has failed in the machine's last run, from the log that it left in memory which a reset leaves alone.
//!
//! Production kernels have no names of functions (`KALLSYMS`): what is known is an address, which the kernel's own symbols resolve.
//! A component's lines carry its name in front, so that none can pass its own for the kernel's.

use crate::console_line::without_time;
use crate::crash::registers;
use holdfast_types::Version;

/// Returns the address at which the kernel has failed first, if it panicked for it while the release of this version ran. `None` for
/// panics that are no fault at an address, and where the log does not say which release it is of: the address would name another
/// kernel's code.
#[must_use]
pub fn kernel_fault(log: &str, running: Version) -> Option<u32> {
    let (mut is_of_running, mut pc, mut fault, mut has_panicked) = (false, None, None, false);
    for line in log.lines().map(without_time) {
        if let Some(version) = image_version(line) {
            (is_of_running, pc, fault, has_panicked) = (version == running, None, None, false);
        } else if let Some((at, _)) = registers(line) {
            pc = Some(at);
        } else if line.starts_with("Flags: ") {
            let at = pc.take().filter(|_| line.contains(" Mode ") && !line.contains("Mode USER_"));
            fault = fault.or(at);
        } else if line.starts_with("Kernel panic - not syncing: ") {
            has_panicked = true;
        }
    }
    fault.filter(|_| is_of_running && has_panicked)
}

/// `init: image NAME VERSION for BOARD, main at …`, init's first line of a run.
fn image_version(line: &str) -> Option<Version> {
    let (_, rest) = line.strip_prefix("init: image ")?.split_once(' ')?;
    rest.split_once(" for ")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a kernel without names of functions prints it.
    const LOG: &str = "\
[    2.810097] init: image fleet 1.2.0 for qemu-virt, main at 2.790000000s event=image_started
[    9.100000] 8<--- cut here ---
[    9.100001] Unable to handle kernel NULL pointer dereference at virtual address 00000000 when write
[    9.100002] Internal error: Oops: 817 [#1] SMP ARM
[    9.100003] CPU: 0 UID: 0 PID: 7 Comm: worker Not tainted 6.12.117-holdfast #1
[    9.100004] PC is at 0xc0512340
[    9.100005] pc : [<c0512340>]    lr : [<c05129ac>]    psr: 60000013
[    9.100006] Flags: nZCv  IRQs on  FIQs on  Mode SVC_32  ISA ARM  Segment none
[    9.100007] Kernel panic - not syncing: Fatal exception
";
    const RUNNING: Version = Version { major: 1, minor: 2, patch: 0 };

    #[test]
    fn the_address_of_a_panic_is_told_of_the_release_that_runs_alone() {
        assert_eq!(kernel_fault(LOG, RUNNING), Some(0xc051_2340));
        assert_eq!(kernel_fault(LOG, Version { patch: 1, ..RUNNING }), None, "another release");
        let unknown = LOG.split_once('\n').map_or("", |(_, rest)| rest);
        assert_eq!(kernel_fault(unknown, RUNNING), None);
        let went_on = LOG.replace("Kernel panic - not syncing", "went on");
        assert_eq!(kernel_fault(&went_on, RUNNING), None);
        let next = format!("{LOG}[    2.8] init: image fleet 1.2.0 for qemu-virt, main at 2.7s\n");
        assert_eq!(kernel_fault(&next, RUNNING), None, "of an earlier run");
    }

    #[test]
    fn the_first_fault_is_the_cause_and_a_programs_is_none() {
        let second = LOG.replace("c0512340", "c0999990");
        let (_, second) = second.split_once('\n').unwrap();
        let both = LOG.replace("Kernel panic", second);
        assert_eq!(
            kernel_fault(&format!("{both}Kernel panic - not syncing: x\n"), RUNNING),
            Some(0xc051_2340)
        );
        let program = LOG.replace("Mode SVC_32", "Mode USER_32");
        assert_eq!(kernel_fault(&program, RUNNING), None);
        let said = LOG.replace("pc : [<", "hello: pc : [<");
        assert_eq!(kernel_fault(&said, RUNNING), None, "what a component says");
    }

    proptest! {
        #[test]
        fn any_log_is_read(lines in proptest::collection::vec("[ -~]{0,60}|pc : \\[<c0000010>\\] lr : \\[<00000020>\\]|Flags: Mode SVC_32|Kernel panic - not syncing: x", 0..16)) {
            let log = lines.join("\n");
            prop_assert_eq!(kernel_fault(&log, RUNNING), None, "no line says whose log it is");
        }
    }
}

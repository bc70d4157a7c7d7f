//! Sets of system calls as BPF programs for a 32-bit ARM kernel.
//!
//! seccompiler generates the code; it has no 32-bit ARM target, so a program is made for a 64-bit
//! one, whose layout of `struct seccomp_data` is the same, and its one word that names the
//! architecture is replaced. See `docs/decisions/0007-seccomp-filters.md`.

use holdfast_sandbox::policy::system_calls::{ABSENT, Rule, SystemCalls};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;
use syscalls::arm::Sysno;

/// `AUDIT_ARCH_ARM` (linux/audit.h): EM_ARM, little-endian.
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
/// Classic BPF (linux/filter.h): load a word of `struct seccomp_data`, the number being its first;
/// jump where the accumulator is at least an operand; jump.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP: u16 = 0x05;
/// Calls that are compared with one after the other.
const CALLS_IN_A_LEAF: usize = 4;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// An error of turning a set into BPF programs.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// ARM has no system call of that name.
    #[error("there is no system call `{0}` on ARM")]
    UnknownCall(&'static str),
    /// The generator refuses, or makes other code than expected.
    #[error("the filter cannot be generated: {0}")]
    Generate(String),
}

/// The programs of a set, each as the bytes of its `struct sock_filter`s, in the order in which
/// they are applied: first the calls that do not exist, then the allow list.
///
/// # Errors
/// A call that ARM does not have, or the generator's own.
pub fn programs(set: SystemCalls) -> Result<[Vec<u8>; 2], SeccompError> {
    let absent: Vec<Rule> = ABSENT.iter().map(|name| Rule { name, any_of: &[] }).collect();
    let absent = generate(&absent, SeccompAction::Allow, SeccompAction::Errno(ENOSYS))?;
    let allowed = generate(&set.rules(), SeccompAction::Errno(EPERM), SeccompAction::Allow)?;
    Ok([bytes(&absent), bytes(&allowed)])
}

fn generate(
    rules: &[Rule],
    otherwise: SeccompAction,
    on_match: SeccompAction,
) -> Result<BpfProgram, SeccompError> {
    let failed = |error: seccompiler::BackendError| SeccompError::Generate(error.to_string());
    let mut map: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules {
        let mut alternatives = Vec::new();
        for conditions in rule.any_of {
            let conditions = conditions
                .iter()
                .map(|condition| {
                    let mask = SeccompCmpOp::MaskedEq(condition.mask.into());
                    let value = condition.value.into();
                    SeccompCondition::new(condition.argument, SeccompCmpArgLen::Dword, mask, value)
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(failed)?;
            alternatives.push(SeccompRule::new(conditions).map_err(failed)?);
        }
        map.insert(number(rule.name)?, alternatives);
    }
    let calls: Vec<_> = map.into_iter().collect();
    let mut program = vec![statement(LOAD_WORD, 0)];
    program.extend(search(&calls, &otherwise, &on_match)?);
    Ok(program)
}

/// A program that finds the rules of a call by halving the list; the accumulator holds its number.
///
/// seccompiler compares with one call after the other. The kernel runs a new filter once for every
/// number there is, so with some two hundred calls that is most of what a start costs.
fn search(
    calls: &[(i64, Vec<SeccompRule>)],
    otherwise: &SeccompAction,
    on_match: &SeccompAction,
) -> Result<BpfProgram, SeccompError> {
    let (lower, upper) = calls.split_at(calls.len() / 2);
    let Some((pivot, _)) = upper.first().filter(|_| calls.len() > CALLS_IN_A_LEAF) else {
        return leaf(calls, otherwise, on_match);
    };
    let lower = search(lower, otherwise, on_match)?;
    let out_of_range = |_| SeccompError::Generate("a call has no 32-bit number".to_owned());
    let pivot = u32::try_from(*pivot).map_err(out_of_range)?;
    let mut program = vec![
        // At least the pivot: jump over the lower half. Below it: jump over that jump.
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: pivot },
        statement(JUMP, u32::try_from(lower.len()).map_err(out_of_range)?),
    ];
    program.extend(lower);
    program.extend(search(upper, otherwise, on_match)?);
    Ok(program)
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Compiles a few calls with seccompiler: to a whole program that ends in an answer.
fn leaf(
    calls: &[(i64, Vec<SeccompRule>)],
    otherwise: &SeccompAction,
    on_match: &SeccompAction,
) -> Result<BpfProgram, SeccompError> {
    let failed = |error: seccompiler::BackendError| SeccompError::Generate(error.to_string());
    let map = calls.iter().cloned().collect();
    let target = TargetArch::aarch64;
    let filter = SeccompFilter::new(map, otherwise.clone(), on_match.clone(), target);
    let mut program: BpfProgram = filter.and_then(TryInto::try_into).map_err(failed)?;
    // LD [4] (the architecture), then a jump that compares it: nothing else may stand there.
    match program.get_mut(..2) {
        Some([load, compare])
            if (load.code, load.k) == (LOAD_WORD, 4)
                && (compare.code, compare.k) == (0x15, AUDIT_ARCH_AARCH64) =>
        {
            compare.k = AUDIT_ARCH_ARM;
        }
        _ => {
            let reason = "it does not begin with the check of the architecture".to_owned();
            return Err(SeccompError::Generate(reason));
        }
    }
    Ok(program)
}

/// Number of a call in the ARM EABI's table, or one of the processor's own.
fn number(name: &'static str) -> Result<i64, SeccompError> {
    let own = match name {
        "cacheflush" => Some(0x000f_0002),
        "set_tls" => Some(0x000f_0005),
        "get_tls" => Some(0x000f_0006),
        _ => None,
    };
    let known = || name.parse::<Sysno>().ok().map(|call| i64::from(call.id()));
    own.or_else(known).ok_or(SeccompError::UnknownCall(name))
}

fn bytes(program: &BpfProgram) -> Vec<u8> {
    let mut bytes = Vec::new();
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_le_bytes());
        bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
        bytes.extend_from_slice(&instruction.k.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "an interpreter that runs away is a failed test"
    )]
    use super::*;
    use proptest::prelude::*;

    const ALLOW: u32 = 0x7fff_0000;
    const KILL: u32 = 0x8000_0000;
    const ERRNO: u32 = 0x0005_0000;

    /// `struct seccomp_data` for a call with 32-bit arguments.
    fn data(number: u32, architecture: u32, arguments: [u32; 6]) -> [u8; 64] {
        let mut data = [0; 64];
        data[..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&architecture.to_le_bytes());
        for (index, argument) in arguments.iter().enumerate() {
            data[16 + 8 * index..][..4].copy_from_slice(&argument.to_le_bytes());
        }
        data
    }

    /// Runs a program as the kernel would: the classic BPF that seccomp allows.
    fn run(program: &[u8], data: &[u8; 64]) -> u32 {
        let word =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let instruction = &program[at * 8..at * 8 + 8];
            let code = u16::from_le_bytes(instruction[..2].try_into().unwrap());
            let (on_true, on_false) = (usize::from(instruction[2]), usize::from(instruction[3]));
            let operand = word(instruction, 4);
            at += 1;
            let mut jump = |condition: bool| at += if condition { on_true } else { on_false };
            match code {
                0x20 => accumulator = word(data, operand as usize), // LD W ABS
                0x54 => accumulator &= operand,                     // ALU AND K
                0x05 => at += operand as usize,                     // JMP JA
                0x15 => jump(accumulator == operand),               // JMP JEQ K
                0x25 => jump(accumulator > operand),                // JMP JGT K
                0x35 => jump(accumulator >= operand),               // JMP JGE K
                0x45 => jump(accumulator & operand != 0),           // JMP JSET K
                0x06 => return operand,                             // RET K
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// Returns the kernel's answer when both programs are applied: the strictest, and of two errors
    /// that of the program that was applied last.
    fn verdict(set: SystemCalls, call: &'static str, arguments: [u32; 6]) -> u32 {
        verdict_of(set, u32::try_from(number(call).unwrap()).unwrap(), AUDIT_ARCH_ARM, arguments)
    }

    fn verdict_of(set: SystemCalls, call: u32, architecture: u32, arguments: [u32; 6]) -> u32 {
        let data = data(call, architecture, arguments);
        let [absent, allowed] = programs(set).unwrap().map(|program| run(&program, &data));
        match (absent, allowed) {
            (ALLOW, answer) | (answer, ALLOW) => answer,
            (KILL, _) | (_, KILL) => KILL,
            (_, last) => last,
        }
    }

    fn local(call: &'static str, arguments: [u32; 6]) -> u32 {
        verdict(SystemCalls::Local, call, arguments)
    }

    #[test]
    fn what_is_not_listed_fails_and_what_does_not_exist_says_so() {
        assert_eq!(local("read", [0; 6]), ALLOW);
        assert_eq!(local("set_tls", [0; 6]), ALLOW);
        for call in ["ptrace", "mount", "memfd_create", "personality", "io_uring_setup", "bpf"] {
            assert_eq!(local(call, [0; 6]), ERRNO | EPERM, "{call}");
        }
        assert_eq!(local("clone3", [0; 6]), ERRNO | ENOSYS);
        assert_eq!(verdict(SystemCalls::Stub, "openat", [0; 6]), ERRNO | EPERM);
        assert_eq!(verdict(SystemCalls::Stub, "execve", [0; 6]), ERRNO | EPERM);
        assert_eq!(verdict(SystemCalls::Stub, "wait4", [0; 6]), ALLOW);
    }

    #[test]
    fn another_architecture_kills() {
        assert_eq!(verdict_of(SystemCalls::Local, 3, AUDIT_ARCH_AARCH64, [0; 6]), KILL);
        assert_eq!(verdict_of(SystemCalls::Local, 3, 0xc000_003e, [0; 6]), KILL);
    }

    #[test]
    fn memory_is_never_writable_and_executable_nor_executable_and_anonymous() {
        const ANONYMOUS: u32 = 0x20;
        let mmap = |protection, flags| local("mmap2", [0, 4096, protection, flags, 0, 0]);
        assert_eq!(mmap(3, 2 | ANONYMOUS), ALLOW, "read write anonymous");
        assert_eq!(mmap(5, 2), ALLOW, "read execute of a file");
        assert_eq!(mmap(7, 2), ERRNO | EPERM, "all of a file");
        assert_eq!(mmap(5, 2 | ANONYMOUS), ERRNO | EPERM, "execute anonymous");
        assert_eq!(mmap(4, 1 | ANONYMOUS), ERRNO | EPERM, "execute anonymous shared");
        assert_eq!(local("mprotect", [0, 4096, 3, 0, 0, 0]), ALLOW);
        assert_eq!(local("mprotect", [0, 4096, 5, 0, 0, 0]), ERRNO | EPERM);
    }

    #[test]
    fn only_apps_with_peripherals_ask_drivers_and_only_for_what_they_need() {
        const NEEDED: [u32; 14] = [
            0x5402,      // TCSETS
            0x540b,      // TCFLSH
            0x402c_542b, // TCSETS2
            0x0703,      // I2C_SLAVE
            0x0707,      // I2C_RDWR
            0x8001_6b01, // SPI_IOC_RD_MODE
            0x4001_6b03, // SPI_IOC_WR_BITS_PER_WORD
            0x4004_6b04, // SPI_IOC_WR_MAX_SPEED_HZ
            0x8004_6b05, // SPI_IOC_RD_MODE32
            0x4020_6b00, // SPI_IOC_MESSAGE(1)
            0x4200_6b00, // SPI_IOC_MESSAGE(16)
            0xc110_b40d, // GPIO_V2_LINE_SET_CONFIG
            0xc010_b40e, // GPIO_V2_LINE_GET_VALUES
            0xc010_b40f, // GPIO_V2_LINE_SET_VALUES
        ];
        const NEVER: [u32; 9] = [
            0x5412,      // TIOCSTI
            0x5423,      // TIOCSETD
            0x541d,      // TIOCCONS
            0x541f,      // TIOCSSERIAL
            0x5437,      // TIOCVHANGUP
            0x0706,      // I2C_SLAVE_FORCE
            0x8020_6b00, // SPI_IOC_MESSAGE, but to read
            0xc250_b407, // GPIO_V2_GET_LINE
            0x8044_b401, // GPIO_GET_CHIPINFO
        ];
        let asks = |set, request| verdict(set, "ioctl", [3, request, 0, 0, 0, 0]);
        for set in [
            SystemCalls::Peripherals,
            SystemCalls::NetworkedPeripherals,
            SystemCalls::ServingPeripherals,
        ] {
            for request in NEEDED {
                assert_eq!(asks(set, request), ALLOW, "{request:#x}");
            }
            for request in NEVER {
                assert_eq!(asks(set, request), ERRNO | EPERM, "{request:#x}");
            }
        }
        for set in [
            SystemCalls::Local,
            SystemCalls::Networked,
            SystemCalls::Serving,
            SystemCalls::NetworkService,
        ] {
            for request in NEEDED.into_iter().chain(NEVER) {
                assert_eq!(asks(set, request), ERRNO | EPERM, "{request:#x}");
            }
        }
    }

    #[test]
    fn arguments_decide_about_sockets_clones_and_controls() {
        let socket = |family, kind| local("socket", [family, kind, 0, 0, 0, 0]);
        assert_eq!(socket(1, 1 | 0o2000000), ALLOW, "AF_UNIX stream, close on exec");
        assert_eq!(socket(1, 3), ERRNO | EPERM, "AF_UNIX raw");
        for family in [0, 2, 10, 16, 17, 29, 38, 40] {
            assert_eq!(socket(family, 1), ERRNO | EPERM, "family {family}");
        }
        let clone = |flags| local("clone", [flags, 0, 0, 0, 0, 0]);
        assert_eq!(clone(0x003d_0f00), ALLOW, "a thread");
        for flag in [17, 25, 26, 27, 28, 29, 30, 13] {
            assert_eq!(clone(1 << flag | 17), ERRNO | EPERM, "flag {flag}");
        }
        assert_eq!(local("ioctl", [0, 0x5421, 0, 0, 0, 0]), ALLOW);
        assert_eq!(local("ioctl", [0, 0x5412, 0, 0, 0, 0]), ERRNO | EPERM, "TIOCSTI");
        let set_project = [0, 0x401c_5820, 0, 0, 0, 0];
        assert_eq!(local("ioctl", set_project), ERRNO | EPERM, "FS_IOC_FSSETXATTR");
        assert_eq!(local("prctl", [15, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(local("prctl", [4, 1, 0, 0, 0, 0]), ERRNO | EPERM, "dumpable again");
        assert_eq!(local("prctl", [65, 0, 0, 0, 0, 0]), ERRNO | EPERM, "PR_SET_MDWE");
    }

    proptest! {
        /// The programs say what the table says, whatever the call and its arguments.
        #[test]
        fn programs_and_table_agree(
            rule in any::<prop::sample::Index>(), arguments in any::<[u32; 6]>(),
            near in any::<bool>(), bit in 0u32..32,
        ) {
            let rules = SystemCalls::Local.rules();
            let rule = &rules[rule.index(rules.len())];
            let mut arguments = arguments;
            // Random words seldom meet a condition: start from one, a bit away from it at times.
            if let (true, Some(conditions)) = (near, rule.any_of.first()) {
                for condition in *conditions {
                    let word = &mut arguments[usize::from(condition.argument)];
                    *word = (*word & !condition.mask) | condition.value;
                }
                arguments[usize::from(conditions[0].argument)] ^= u32::from(bit < 8) << bit;
            }
            let holds = rule.any_of.is_empty() || rule.any_of.iter().any(|conditions| {
                conditions.iter().all(|c| arguments[usize::from(c.argument)] & c.mask == c.value)
            });
            let expected = match (rule.name, holds) {
                ("clone3", _) => ERRNO | ENOSYS,
                (_, true) => ALLOW,
                (_, false) => ERRNO | EPERM,
            };
            prop_assert_eq!(local(rule.name, arguments), expected, "{}", rule.name);
        }

        #[test]
        fn no_other_number_is_allowed(call in any::<u32>(), arguments in any::<[u32; 6]>()) {
            let listed = SystemCalls::Local.rules().iter().any(|r| {
                number(r.name).ok() == Some(i64::from(call))
            });
            prop_assume!(!listed);
            let answer = verdict_of(SystemCalls::Local, call, AUDIT_ARCH_ARM, arguments);
            prop_assert_eq!(answer, ERRNO | EPERM);
        }
    }
}

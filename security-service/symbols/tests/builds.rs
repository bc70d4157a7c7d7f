//! Real programs of real compilers: names of their functions, and what stays the same from one build to the next.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_failure_reports::record::{Body, BuildId, Crash, End, Ended, Place};
use holdfast_failure_reports::samples;
use holdfast_service_domain::crash::{Address, Key};
use holdfast_service_domain::symbols::{Frames, of_return_address};
use holdfast_service_symbols::program::{Named, ProgramError, names};
use holdfast_types::Version;
use object::read::{File, Object, ObjectSymbol};
use std::process::Command;

const VERSION: Version = Version { major: 1, minor: 0, patch: 0 };

/// `crash_here` stands where a valve is read, in a function that is inlined, and `returned_here` behind the call that leads there.
const RUST: &str = r#"
use std::hint::black_box;
mod valve {
    use std::arch::asm;
    #[inline(always)]
    pub fn read(at: *const u32) -> u32 {
        unsafe {
            asm!(".globl crash_here", "crash_here:", "nop");
            at.read_volatile()
        }
    }
    #[inline(never)]
    pub fn position(at: *const u32) -> u32 {
        read(at) + 1
    }
    #[inline(never)]
    pub fn supervise(at: *const u32) -> u32 {
        let position = position(at);
        unsafe { asm!(".globl returned_here", "returned_here:", "nop") };
        position * 2
    }
}
fn main() {
    let value = 7;
    println!("{}", black_box(valve::supervise(black_box(&value))));
}
"#;

/// The same for C.
const C: &str = r#"
static inline __attribute__((always_inline)) int read_valve(const volatile int *at) {
    __asm__ volatile(".globl crash_here\ncrash_here: nop");
    return *at;
}
__attribute__((noinline)) int position(const volatile int *at) { return read_valve(at) + 1; }
__attribute__((noinline)) int supervise(const volatile int *at) {
    int found = position(at);
    __asm__ volatile(".globl returned_here\nreturned_here: nop");
    return found * 2;
}
int main(void) { static volatile int value; return supervise(&value); }
"#;

fn compile(compiler: &str, name: &str, source: &str, arguments: &[&str]) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let (path, output) = (scratch.path().join(name), scratch.path().join("program"));
    std::fs::write(&path, source).unwrap();
    let status = Command::new(compiler).args(arguments).arg("-o").arg(&output).arg(&path).status();
    assert!(status.unwrap().success(), "{compiler}");
    std::fs::read(output).unwrap()
}

/// A program of Rust; what stands before the source moves all of it.
fn rust(before: &str, arguments: &[&str]) -> Vec<u8> {
    let usual =
        ["-Clink-arg=-Wl,--build-id=sha1", "-Cpanic=abort", "-Anamed_asm_labels", "--edition=2024"];
    compile("rustc", "pump.rs", &format!("{before}{RUST}"), &[&usual, arguments].concat())
}

/// A program of C for the device's processor, in Thumb's instructions.
fn thumb(before: &str, arguments: &[&str]) -> Vec<u8> {
    let usual =
        ["-mthumb", "-march=armv7-a+fp", "-static", "-nostdlib", "-Wl,--build-id=sha1,-e,main"];
    let source = format!("{before}{C}");
    compile("arm-linux-gnueabihf-gcc", "pump.c", &source, &[&usual, arguments].concat())
}

fn address(program: &[u8], symbol: &str) -> u64 {
    let file = File::parse(program).unwrap();
    let found = file.symbols().find(|found| found.name() == Ok(symbol));
    found.unwrap_or_else(|| panic!("no {symbol}")).address()
}

/// Where the program was, and whence it was called.
fn crash(program: &[u8]) -> (Named, u64) {
    let pc = address(program, "crash_here");
    let caller = of_return_address(address(program, "returned_here"));
    (names(program, &[pc, caller]).unwrap(), pc)
}

/// The key of the group that a crash there belongs to. `frames` are of its instruction, and of where that would have returned to.
fn key(build_id: [u8; 20], pc: u64, frames: &[Option<Frames>]) -> Key {
    let place = |offset: u64| Place {
        build_id: Some(BuildId(build_id)),
        offset: u32::try_from(offset).unwrap(),
    };
    let (pc, lr) = (place(pc), place(0));
    let crash = Some(Crash { pc, lr: Some(lr), ..samples::ended().crash.unwrap() });
    let body = Body::Ended(Ended { end: End::Signal(11), crash, panic: None, ..samples::ended() });
    let name = |address: &Address| {
        let frames = match address {
            Address::Instruction(_) => frames.first(),
            Address::Return(_) => frames.get(1),
        };
        Some(frames?.as_ref()?.function.clone())
    };
    Key::of(&body, VERSION, name).unwrap().0
}

/// The key of a crash with its names.
fn group(named: &Named, pc: u64) -> Key {
    assert!(named.frames.iter().all(Option::is_some), "{named:?}");
    key(named.build_id.bytes().try_into().unwrap(), pc, &named.frames)
}

const MOVING: &str = "#[inline(never)] pub fn added(n: u64) -> u64 { std::hint::black_box(n) + 3 }\n\
                      #[used] static KEPT: fn(u64) -> u64 = added;\n";

#[test]
fn the_same_function_across_two_builds_is_one_group() {
    let lines = ["-Copt-level=s", "-Cdebuginfo=line-tables-only"];
    let full = ["-Copt-level=s", "-Cdebuginfo=2"];
    let read_in = "read in pump::valve::position";
    for (usual, more, function) in [
        (&lines[..], &[][..], read_in),
        (&lines, &["-Csymbol-mangling-version=v0"], read_in),
        (&lines, &["-Cmetadata=another", "-Ccodegen-units=1"], read_in),
        (&full, &["-Copt-level=3", "-Ccodegen-units=1"], "pump::valve::read"),
    ] {
        let (first, next) = (rust("", usual), rust(MOVING, &[usual, more].concat()));
        let ((one, pc), (two, other_pc)) = (crash(&first), crash(&next));
        assert_ne!(one.build_id, two.build_id, "they are two builds");
        assert_ne!(pc, other_pc, "and the code of one lies elsewhere in the other");
        assert_eq!(group(&one, pc), group(&two, other_pc), "{:?} {:?}", one.frames, two.frames);
        let frames = |function: &str, outer: &str| {
            Some(Frames { function: function.to_owned(), outer: outer.to_owned() })
        };
        let supervise = "pump::valve::supervise";
        let expected = [frames(function, "pump::valve::position"), frames(supervise, supervise)];
        assert_eq!(one.frames, expected);
    }
    // Without names, two builds are two groups, and never one for all.
    let (_, pc) = crash(&rust("", &lines));
    assert_ne!(key([1; 20], pc, &[]), key([1; 20], pc + 2, &[]));
    assert_ne!(key([1; 20], pc, &[]), key([2; 20], pc, &[]));
}

#[test]
fn a_program_for_the_device_is_read_with_dwarf_and_without() {
    let more = "int added(int n) { return n * 3 + 1; }\n";
    let (first, next) = (thumb("", &["-g", "-Os"]), thumb(more, &["-g", "-O2"]));
    let ((one, pc), (two, other_pc)) = (crash(&first), crash(&next));
    let frames = |function: &str, outer: &str| {
        Some(Frames { function: function.to_owned(), outer: outer.to_owned() })
    };
    assert_eq!(one.frames, [frames("read_valve", "position"), frames("supervise", "supervise")]);
    assert_ne!(pc, other_pc);
    assert_eq!(group(&one, pc), group(&two, other_pc));
    // The table of symbols alone knows nothing of what is inlined.
    let (without, _) = crash(&thumb("", &["-Os"]));
    assert_eq!(without.frames, [frames("position", "position"), frames("supervise", "supervise")]);
    let packed = thumb("", &["-g", "-Os", "-gz=zlib"]);
    assert_eq!(crash(&packed).0.frames, one.frames);
    let nowhere = names(&first, &[0, 0x7fff_fff0, u64::MAX]).unwrap();
    assert_eq!(nowhere.frames, [None, None, None]);
}

#[test]
fn what_has_no_build_id_or_no_names_is_refused() {
    let refused = |bytes: &[u8]| names(bytes, &[0x1_0000]).map(|named| named.frames);
    assert_eq!(refused(&thumb("", &["-g"])), Ok(vec![None]), "the control");
    assert_eq!(refused(&thumb("", &["-s"])), Err(ProgramError::Stripped));
    assert_eq!(refused(&thumb("", &["-Wl,--build-id=none"])), Err(ProgramError::NoBuildId));
    assert_eq!(refused(&thumb("", &["-Wl,--build-id=0xabcd"])), Err(ProgramError::NoBuildId));
    assert_eq!(refused(&thumb("", &["-c"])), Err(ProgramError::NoProgram));
    assert_eq!(refused(b"\x7fELF"), Err(ProgramError::NoProgram));
}

/// DWARF that lies or breaks off names less, and never more than it may.
#[test]
fn a_program_that_was_damaged_anywhere_has_an_answer() {
    let whole = thumb("", &["-g", "-Os"]);
    let pc = address(&whole, "crash_here");
    let mut named = 0;
    for at in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xa5;
        named += usize::from(names(&damaged, &[pc]).is_ok_and(|named| named.frames[0].is_some()));
        let _ = names(&whole[..at], &[pc]);
    }
    assert!(named > 0, "the control: some damage is none that matters");
}

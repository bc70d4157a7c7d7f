//! Crashes in the kernel's log: where a program was when a signal killed it.
//!
//! The kernel writes a block of lines when `kernel.print-fatal-signals` is set (kernel document
//! `admin-guide/sysctl/kernel`), as init sets it in development images. Components cannot forge one: their
//! lines begin with their names.

use crate::console_line::ConsoleLine;
use holdfast_types::event;
use serde::Serialize;

/// A process that a signal killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Crash {
    /// Seconds since the kernel started, as the log says it; empty where it has no times.
    pub at: String,
    /// The component: an app's by its uid, another's by the name of its process.
    pub component: String,
    /// What the process called itself, at most 15 bytes; a thread may have a name of its own.
    pub process: String,
    /// Its user id, which is the component's.
    pub uid: u32,
    /// Its process id, in init's namespace.
    pub pid: u32,
    /// The signal, where init or the kernel says it.
    pub signal: Option<i32>,
    /// The instruction it was at.
    pub pc: u32,
    /// Where the function that it was in would have returned to.
    pub lr: u32,
}

/// The crashes in a log, with the device that it is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CrashLog {
    /// Name and board of the image, as init's first line names them.
    pub image: Option<(String, String)>,
    /// Whether it is the build of that image in which an app waits for a debugger.
    pub debugged: bool,
    /// Whether init has said anything in it.
    pub of_a_device: bool,
    /// In the log's order.
    pub crashes: Vec<Crash>,
}

/// The block that is being read.
#[derive(Debug)]
struct Block {
    crash: Crash,
    registers: bool,
}

impl CrashLog {
    /// Reads a log: of the console, or of the kernel.
    #[must_use]
    pub fn read(log: &str) -> Self {
        let mut found = Self::default();
        let mut apps: Vec<(u32, &str)> = Vec::new();
        let mut signal = None;
        let mut block: Option<Block> = None;
        let log = log.strip_prefix('\u{feff}').unwrap_or(log);
        let lines: Vec<ConsoleLine> =
            log.lines().map(|line| ConsoleLine::read(without_front(line))).collect();
        for ConsoleLine { time, text } in &lines {
            let text = text.as_str();
            if let Some(init) = text.strip_prefix("init: ") {
                found.of_a_device = true;
                let (init, _) = event::split(init);
                if let Some(image) = image(init) {
                    (found.image, found.debugged) = (Some(image), false);
                }
                found.debugged |= init.ends_with(" waits for a debugger");
                apps.extend(app_uid(init));
                found.take_end(init);
            } else if let Some((_, number)) =
                text.split_once(": potentially unexpected fatal signal ")
            {
                signal = number.trim_end_matches('.').parse().ok();
            } else if let Some(begun) = begins(text) {
                let app = apps.iter().rev().find(|(uid, _)| *uid == begun.uid);
                let component = app.map_or(begun.process.as_str(), |(_, name)| name).to_owned();
                let crash = Crash { at: time.clone(), component, signal: signal.take(), ..begun };
                block = Some(Block { crash, registers: false });
            } else if let Some(read) = &mut block {
                if let Some((pc, lr)) = registers(text) {
                    (read.crash.pc, read.crash.lr, read.registers) = (pc, lr, true);
                } else if text.starts_with("Flags: ") {
                    // The kernel's own faults have the same lines, and other addresses.
                    if read.registers && text.contains("Mode USER_") {
                        found.crashes.push(read.crash.clone());
                    }
                    block = None;
                }
            }
        }
        found
    }

    /// init says how a component ended, after the kernel has said where.
    fn take_end(&mut self, init: &str) {
        let Some((name, end)) = init.split_once(" ended with signal ") else {
            return;
        };
        let number = end.split(',').next().and_then(|number| number.parse().ok());
        let crash = self.crashes.iter_mut().rev().find(|crash| crash.component == name);
        if let Some(crash) = crash
            && crash.signal.is_none()
        {
            crash.signal = number;
        }
    }
}

/// A line without what a program of a host has put in front with a colon behind it: the number of the line (`12: `),
/// a time with its year (`Sat May  2 12:33:22 2026: `), or a time with host and source (`May 02 12:33:22 gw kernel: `).
///
/// No component's line begins like any of these: a component's name begins with a lower-case letter.
fn without_front(line: &str) -> &str {
    let line = line.trim_start();
    if let Some((number, behind)) = line.split_once(':')
        && is_number(number)
        && behind.starts_with([' ', '\t', '['])
    {
        return behind;
    }
    if let Some((front, behind)) = line.split_once(" kernel: ")
        && let Some((time, host)) = front.trim_end().rsplit_once(' ')
        && !host.contains(':')
        && is_time(time)
    {
        return behind;
    }
    match line.split_once(": ") {
        Some((front, behind)) if is_dated(front) => behind,
        _ => line,
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// True for the time of a line of the system log, such as `May 02 12:33:22` or `2026-05-02T12:33:22+02:00`.
fn is_time(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_clock = |word: &str| {
        let marks = |byte: u8| byte.is_ascii_digit() || b":.,-+TZ".contains(&byte);
        word.starts_with(|first: char| first.is_ascii_digit())
            && word.contains(':')
            && word.bytes().all(marks)
    };
    match words.as_slice() {
        [stamp] => is_clock(stamp),
        [month, day, clock] => is_name(month) && is_number(day) && is_clock(clock),
        _ => false,
    }
}

/// True for a time as `asctime` and `date` write it, such as `Sat May  2 12:33:22 2026`.
fn is_dated(text: &str) -> bool {
    let Some((weekday, rest)) = text.split_once(' ') else { return false };
    let Some((time, year)) = rest.rsplit_once(' ') else { return false };
    is_name(weekday) && is_number(year) && is_time(time)
}

/// True for a word such as `May` or `Sat`.
fn is_name(word: &str) -> bool {
    word.len() == 3
        && word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.bytes().skip(1).all(|byte| byte.is_ascii_lowercase())
}

/// `image NAME VERSION for BOARD, main at …`, init's first line.
fn image(init: &str) -> Option<(String, String)> {
    let (name, rest) = init.strip_prefix("image ")?.split_once(' ')?;
    let (_, rest) = rest.split_once(" for ")?;
    let (board, _) = rest.split_once(", main at ")?;
    Some((name.to_owned(), board.to_owned()))
}

/// `NAME: package VERSION, …, uid UID`, as init says it of every app.
fn app_uid(init: &str) -> Option<(u32, &str)> {
    let (name, rest) = init.split_once(": package ")?;
    let (_, uid) = rest.rsplit_once(", uid ")?;
    Some((uid.parse().ok()?, name))
}

/// `CPU: 0 UID: 105 PID: 75 Comm: crash Not tainted 6.12.117 #1`
fn begins(text: &str) -> Option<Crash> {
    let rest = text.strip_prefix("CPU: ")?;
    let (_, rest) = rest.split_once(" UID: ")?;
    let (uid, rest) = rest.split_once(" PID: ")?;
    let (pid, rest) = rest.split_once(" Comm: ")?;
    let end = rest.find(" Not tainted").or_else(|| rest.find(" Tainted: "))?;
    let process = rest.get(..end)?.to_owned();
    let (uid, pid) = (uid.parse().ok()?, pid.parse().ok()?);
    let (at, component) = (String::new(), String::new());
    Some(Crash { at, component, process, uid, pid, signal: None, pc: 0, lr: 0 })
}

/// `pc : [<0002e124>]    lr : [<00022ba8>]    psr: 60000010`
pub(crate) fn registers(text: &str) -> Option<(u32, u32)> {
    let rest = text.strip_prefix("pc : [<")?;
    let (pc, rest) = rest.split_once(">]")?;
    let (_, rest) = rest.split_once("lr : [<")?;
    let (lr, _) = rest.split_once(">]")?;
    Some((u32::from_str_radix(pc, 16).ok()?, u32::from_str_radix(lr, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a device has printed it.
    const LOG: &str = "\
[    2.810097] init: image fleet 1.2.0 for qemu-virt, main at 2.790000000s event=image_started
[    3.210097] init: valve: package 0.1.0, rollback index 0, uid 1002 event=app_admitted
[    3.799836] CPU: 0 UID: 1002 PID: 75 Comm: worker 1 Not tainted 6.12.117-holdfast #1 \r
[    3.800295] Hardware name: Generic DT based system
[    3.801084] PC is at 0x0002e124
[    3.801511] LR is at 0x00022ba8
[    3.801588] pc : [<0002e124>]    lr : [<00022ba8>]    psr: 60000010
[    3.802188] sp : 7e877e98  ip : 7e8786a0  fp : 7e977e80
[    3.802656] Flags: nZCv  IRQs on  FIQs on  Mode USER_32  ISA ARM  Segment user
[    3.802795] Control: 50c5387d  Table: 41c5806a  DAC: 00000055
[    5.884509] init: valve ended with signal 11, memory peak 1460 KiB
";

    fn valve() -> Crash {
        Crash {
            at: "3.799836".to_owned(),
            component: "valve".to_owned(),
            process: "worker 1".to_owned(),
            uid: 1002,
            pid: 75,
            signal: Some(11),
            pc: 0x2e124,
            lr: 0x22ba8,
        }
    }

    #[test]
    fn a_crash_is_read_with_its_app_and_its_signal() {
        let read = CrashLog::read(LOG);
        assert_eq!(read.image, Some(("fleet".to_owned(), "qemu-virt".to_owned())));
        assert!(!read.debugged);
        assert_eq!(read.crashes, [valve()]);
    }

    #[test]
    fn a_crash_is_read_from_what_terminal_programs_keep() {
        let kept = |line: &dyn Fn(&str) -> String| -> String {
            LOG.lines().map(|text| line(text) + "\n").collect()
        };
        for log in [
            kept(&|line| format!("12:33:22.123 > {line}")),
            kept(&|line| format!("[2026-05-02 12:33:22] {line}")),
            kept(&|line| format!("\u{1b}[32m{line}\u{1b}[0m\r\r")),
            kept(&|line| format!("<4>{line}")),
            kept(&|line| format!("Sat May  2 12:33:22 2026: {line}")),
            kept(&|line| format!("12: {line}")),
            kept(&|line| format!("1207:{line}")),
            kept(&|line| format!("May 02 12:33:22 gw kernel: {line}")),
            kept(&|line| format!("2026-05-02T12:33:22+02:00 gw kernel: {line}")),
            format!("\u{feff}{LOG}"),
            kept(&|line| line.replacen("] ", "][   T91] ", 1)),
        ] {
            let read = CrashLog::read(&log);
            assert_eq!(read.crashes, [valve()], "{log}");
            assert!(read.of_a_device && read.image.is_some(), "{log}");
        }
        assert!(!CrashLog::read("[ 1.0] eth0: link up\n").of_a_device);
    }

    #[test]
    fn the_build_with_a_debug_port_is_told_from_the_other() {
        let debugged = format!("{LOG}[    2.9] init: valve waits for a debugger\n");
        assert!(CrashLog::read(&debugged).debugged);
        assert!(!CrashLog::read(&debugged.replace("init: valve", "valve: it")).debugged);
        assert!(!CrashLog::read(&format!("{debugged}{LOG}")).debugged, "another image since");
    }

    #[test]
    fn the_kernels_own_line_names_the_signal_too() {
        let text = LOG.replace(
            "[    3.799836]",
            "[    3.799800] /bin/valve: worker 1: potentially unexpected fatal signal 6.\n[    3.799836]",
        );
        let signals: Vec<_> = CrashLog::read(&text).crashes.iter().map(|c| c.signal).collect();
        assert_eq!(signals, [Some(6)]);
    }

    #[test]
    fn what_a_component_prints_is_no_crash() {
        for said in [
            "valve: CPU: 0",
            "valve: 12: CPU: 0",
            "valve: kernel: CPU: 0",
            "valve: May 02 12:33:22 gw kernel: CPU: 0",
            "valve: Sat May  2 12:33:22 2026: CPU: 0",
        ] {
            let forged = LOG.replace("CPU: 0", said);
            assert_eq!(CrashLog::read(&forged).crashes, [], "{said}");
            // Nor in the log of a kernel without times.
            let bare: String = forged
                .lines()
                .filter_map(|line| Some(line.split_once("] ")?.1.to_owned() + "\n"))
                .collect();
            assert_eq!(CrashLog::read(&bare).crashes, [], "{said}");
        }
    }

    #[test]
    fn a_fault_of_the_kernel_is_no_crash_of_a_program() {
        let kernel = LOG.replace("Mode USER_32", "Mode SVC_32");
        assert_eq!(CrashLog::read(&kernel).crashes, []);
        // A block without registers, as of a process that ran out of memory, does not borrow the next one's.
        let bare = "CPU: 0 UID: 9 PID: 9 Comm: bomb Not tainted 6.12 #1\nCall trace:\n";
        assert_eq!(CrashLog::read(&format!("{bare}{LOG}")).crashes, [valve()]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_no_block_is_read_twice(
            lines in proptest::collection::vec(
                "[ -~]{0,40}|CPU: 0 UID: [0-9]{1,12} PID: 7 Comm: [ -~]{0,20} Not tainted|pc : [ -~]{0,30}\
                 |pc : \\[<00000010>\\] lr : \\[<00000020>\\]|Flags: Mode USER_32",
                0..24,
            )
        ) {
            let begun = lines.iter().filter(|line| line.starts_with("CPU: ")).count();
            prop_assert!(CrashLog::read(&lines.join("\n")).crashes.len() <= begun);
        }
    }
}

//! Lines of a console as a program of a host has kept them.

/// A line of the kernel's log without the time in front, as the console shows it.
#[must_use]
pub fn without_time(line: &str) -> &str {
    let rest = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    rest.map_or(line, |(_, text)| text)
}

/// A line of the console as a program of a host has kept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleLine {
    /// Seconds since the kernel started; empty where the line has no time of the kernel's.
    pub time: String,
    /// The text of the line.
    pub text: String,
}

impl ConsoleLine {
    /// Reads a line: without the colours of a terminal, the times that the host or the kernel has put in front,
    /// the kernel's level (`<4>`) and its caller (`[T91]`).
    ///
    /// Nothing of a component's line is left out but what stands before its name, since a word that ends in a colon
    /// is no time: no component can say what the kernel says.
    #[must_use]
    pub fn read(line: &str) -> Self {
        let plain = without_colours(line);
        let (mut rest, mut time) = (plain.trim(), "");
        loop {
            let behind = match rest.split_once(' ') {
                Some((word, behind)) if is_in_front(word) => {
                    time = kernel_time(word).unwrap_or(time);
                    behind
                }
                _ => match level(rest) {
                    Some(behind) => behind,
                    None => break,
                },
            };
            rest = behind.trim_start();
        }
        Self { time: time.to_owned(), text: rest.to_owned() }
    }
}

/// Names of days and months, as `ts` and `dmesg -T` write them.
const NAMES: [&str; 19] = [
    "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar", "Apr", "May", "Jun",
    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Characters around times.
const BRACKETS: [char; 5] = ['[', ']', '(', ')', ','];

/// True for a word that is part of a time, or of what stands around one.
fn is_in_front(word: &str) -> bool {
    let bare = word.trim_matches(BRACKETS);
    if NAMES.contains(&bare) {
        return true;
    }
    // The caller: a thread or a processor.
    let called = bare.strip_prefix(['T', 'C']).filter(|_| word.ends_with(']'));
    let bare = called.unwrap_or(bare);
    let marks = |byte: u8| byte.is_ascii_digit() || b":.,-+/TZ".contains(&byte);
    let is_separator = matches!(word, "[" | ">" | "|" | "->" | "-");
    let has_digit = bare.starts_with(|first: char| first.is_ascii_digit());
    is_separator || (has_digit && bare.bytes().all(marks) && !word.ends_with([':', '-', '.']))
}

/// The kernel's time, of a word such as `2.810097]` or `[12.345678]`.
fn kernel_time(word: &str) -> Option<&str> {
    let time = word.trim_matches(BRACKETS);
    let (whole, part) = time.split_once('.').filter(|_| word.contains(']'))?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(whole) && digits(part)).then_some(time)
}

/// Returns what follows the kernel's level, such as `<4>`.
fn level(text: &str) -> Option<&str> {
    let (number, behind) = text.strip_prefix('<')?.split_once('>')?;
    (number.len() <= 3 && number.parse::<u8>().is_ok()).then_some(behind)
}

/// `line` without the orders to a terminal (ECMA-48, control sequences) and other control characters.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    while let Some(next) = rest.next() {
        if next == '\u{1b}' && rest.next_if_eq(&'[').is_some() {
            // Up to the final byte.
            rest.by_ref().find(|c| ('\u{40}'..='\u{7e}').contains(c));
        } else if !next.is_control() {
            plain.push(next);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_puts_in_front_of_a_line_is_left_out() {
        for front in [
            "",
            "[    3.799836] ",
            "[12:33:22] [    3.799836] ",
            "12:33:22.123 [    3.799836] ",
            "12:33:22.123 > [    3.799836] ",
            "[2026-05-02 12:33:22.123] [    3.799836] ",
            "2026-05-02T12:33:22.123456+02:00 [    3.799836] ",
            "2026-05-02T10:33:22Z [    3.799836] ",
            "May 02 12:33:22 [    3.799836] ",
            "[Sat May  2 12:33:22 2026] [    3.799836] ",
            "[12.345678 0.000123] [    3.799836] ",
            "(12:33:22) | [    3.799836] ",
            "\u{1b}[0m\u{1b}[1;33m[    3.799836]\u{1b}[0m ",
            "<4>[    3.799836] ",
            "<4>",
            "[    3.799836][   T91] ",
            "[    3.799836] [   T91] ",
            "[    3.799836][    C0] ",
        ] {
            let line = ConsoleLine::read(&format!("{front}CPU: 0 UID: 1002 PID: 75\r\r"));
            assert_eq!(line.text, "CPU: 0 UID: 1002 PID: 75", "{front}");
            let time = if front.contains("3.799836") { "3.799836" } else { "" };
            assert_eq!(line.time, time, "{front}");
        }
    }

    #[test]
    fn a_components_line_keeps_its_name_whatever_it_says() {
        for said in [
            "valve: CPU: 0 UID: 0 PID: 1",
            "may: 12:33 CPU: 0",
            "a-1: CPU: 0",
            "valve: [    3.799836] CPU: 0",
            "valve: <4>CPU: 0",
            "t1: [T91] CPU: 0",
        ] {
            for front in ["[    3.799836] ", "12:33:22 [    3.799836] ", ""] {
                assert_eq!(ConsoleLine::read(&format!("{front}{said}")).text, said);
            }
        }
        assert_eq!(ConsoleLine::read("Mode: [1] x").text, "Mode: [1] x");
    }
}

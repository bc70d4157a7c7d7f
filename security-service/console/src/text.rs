//! Numbers, times and ids as people read them.

use holdfast_types::date;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;
/// Letters of an id that are shown where there is little room: as many as tell a million devices apart.
const SHORT: usize = 12;

/// Returns a number with its thousands apart: `41,980`.
pub(crate) fn number(number: &u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a part of a whole in percent: `0 %`, `< 1 %`, `45 %`, `> 99 %`, `100 %`. What is not all is never shown as all.
pub(crate) fn percent(part: &u64, whole: &u64) -> String {
    if *whole == 0 || *part == 0 {
        return "0 %".to_owned();
    }
    if part >= whole {
        return "100 %".to_owned();
    }
    let hundredfold = u128::from(*part).saturating_mul(100);
    match hundredfold.checked_div(u128::from(*whole)) {
        Some(0) | None => "< 1 %".to_owned(),
        Some(99) => "> 99 %".to_owned(),
        Some(percent) => format!("{percent} %"),
    }
}

/// Returns who may have a release in a stage: `15 %`, `a list of 25 devices`.
pub(crate) fn stage(stage: &crate::rows::Stage) -> String {
    match (stage.listed, stage.permille) {
        (Some(devices), _) => format!("a list of {}", count(&devices.into(), "device", "devices")),
        (None, share) => permille(&share.unwrap_or(0)),
    }
}

/// Returns thousandths in percent: `15 %`, `2.5 %`.
pub(crate) fn permille(permille: &u16) -> String {
    match permille % 10 {
        0 => format!("{} %", permille / 10),
        rest => format!("{}.{rest} %", permille / 10),
    }
}

/// Returns a number of seconds in its largest unit: `3 h`.
pub(crate) fn seconds(seconds: &u64) -> String {
    match *seconds {
        seconds if seconds < MINUTE_S => format!("{seconds} s"),
        seconds if seconds < HOUR_S => format!("{} min", seconds / MINUTE_S),
        seconds if seconds < 2 * DAY_S => format!("{} h", seconds / HOUR_S),
        seconds => format!("{} d", seconds / DAY_S),
    }
}

/// Returns a time as it lies from now: `3 h ago`, `in 21 h`, `now`.
pub(crate) fn from_now(at: &u64, now: &u64) -> String {
    match (now.saturating_sub(*at), at.saturating_sub(*now)) {
        (0, 0) => "now".to_owned(),
        (0, ahead) => format!("in {}", seconds(&ahead)),
        (behind, _) => format!("{} ago", seconds(&behind)),
    }
}

/// Returns a time in UTC to the minute: `2026-12-01 10:02`.
pub(crate) fn minute(at: &u64) -> String {
    let date = date(*at);
    // What lies beyond the calendar has another form, and is told as it is.
    date.strip_suffix(|_: char| true)
        .and_then(|_| date.get(..16).filter(|_| date.len() == 19))
        .map_or_else(|| date.clone(), str::to_owned)
}

/// Returns a time as a program reads it (RFC 3339).
pub(crate) fn machine(at: &u64) -> String {
    date(*at).replacen(' ', "T", 1) + "Z"
}

/// Returns a day in UTC: `2026-12-01`.
pub(crate) fn day(at: &u64) -> String {
    let date = date(*at);
    date.split_once(' ').map_or_else(|| date.clone(), |(day, _)| day.to_owned())
}

/// Returns the beginning of an id, with what shows that it is one.
pub(crate) fn short(id: &str) -> String {
    match id.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", id.get(..end).unwrap_or(id)),
        None => id.to_owned(),
    }
}

/// Returns bytes in their largest binary unit: `12.4 GiB`.
pub(crate) fn bytes(bytes: &u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut whole, mut rest, mut unit) = (*bytes, 0, 0usize);
    while whole >= 1024 && unit < units.len().saturating_sub(1) {
        rest = whole % 1024;
        whole /= 1024;
        unit = unit.saturating_add(1);
    }
    let name = units.get(unit).copied().unwrap_or("B");
    if unit == 0 {
        format!("{whole} {name}")
    } else {
        format!("{whole}.{} {name}", rest.saturating_mul(10) / 1024)
    }
}

/// Returns a noun with a number before it, in its plural where the number is not one.
pub(crate) fn count(number: &u64, one: &str, many: &str) -> String {
    format!("{} {}", self::number(number), if *number == 1 { one } else { many })
}

/// Returns a rate, as few digits as it takes.
pub(crate) fn rate(rate: &f64) -> String {
    if *rate >= 10.0 { format!("{rate:.0}") } else { format!("{rate:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_shares_are_written_as_people_read_them() {
        let numbers = [0, 999, 1000, 41_980, 1_234_567].map(|one| number(&one));
        assert_eq!(numbers, ["0", "999", "1,000", "41,980", "1,234,567"]);
        let shares = [(0, 7), (1, 1000), (1, 2), (999, 1000), (7, 7), (1, 0)];
        let shares = shares.map(|(part, whole)| percent(&part, &whole));
        assert_eq!(shares, ["0 %", "< 1 %", "50 %", "> 99 %", "100 %", "0 %"]);
        assert_eq!([150, 25].map(|one| permille(&one)), ["15 %", "2.5 %"]);
        assert_eq!(
            [0, 1023, 1536, u64::MAX].map(|one| bytes(&one)),
            ["0 B", "1023 B", "1.5 KiB", "15.9 EiB"]
        );
        assert_eq!(
            (count(&1, "device", "devices"), count(&2, "device", "devices")),
            ("1 device".to_owned(), "2 devices".to_owned())
        );
    }

    #[test]
    fn times_are_told_from_now_and_to_the_minute() {
        let now = 1_796_119_503;
        let told =
            [now, now - 59, now - 3 * HOUR_S, now - 47 * HOUR_S, now - 3 * DAY_S, now + 90, 0];
        let told = told.map(|at| from_now(&at, &now));
        assert_eq!(
            told,
            ["now", "59 s ago", "3 h ago", "47 h ago", "3 d ago", "in 1 min", "20788 d ago"]
        );
        assert_eq!(minute(&now), "2026-12-01 10:05");
        assert_eq!(
            (machine(&0), day(&now)),
            ("1970-01-01T00:00:00Z".to_owned(), "2026-12-01".to_owned())
        );
        assert!(minute(&u64::MAX).contains("after 1970"));
    }

    #[test]
    fn an_id_is_cut_between_letters() {
        assert_eq!(short("2386aa490011ffee"), "2386aa490011…");
        assert_eq!(
            (short("d41"), short(&"ß".repeat(13))),
            ("d41".to_owned(), format!("{}…", "ß".repeat(12)))
        );
    }
}

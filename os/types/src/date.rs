//! Times as people read them.

/// The last second of the year 9999, where the calendar of RFC 3339 ends.
const LAST_SECOND: u64 = 253_402_300_799;
const SECONDS_OF_DAY: u64 = 86_400;
/// Days of 400 years, after which the Gregorian calendar repeats itself.
const DAYS_OF_ERA: u64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;

/// A time as people read it, in UTC: `2026-11-24 08:05:09`. Seconds since 1970 where the calendar ends,
/// with the year 9999.
///
/// The calendar is that of "Euclidean affine functions and their application to calendar algorithms" (Neri,
/// Schneider, 2022), in which a year begins in March, so that a leap day is its last.
#[must_use]
pub fn date(seconds: u64) -> String {
    if seconds > LAST_SECOND {
        return format!("{seconds} s after 1970");
    }
    let (days, second) = (seconds / SECONDS_OF_DAY, seconds % SECONDS_OF_DAY);
    let (year, month, day) = civil(days.saturating_add(DAYS_BEFORE_1970));
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days since 0000-03-01.
#[allow(clippy::arithmetic_side_effects, reason = "no day is after the year 9999")]
fn civil(days: u64) -> (u64, u64, u64) {
    let (era, of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months of 31, 30, 31, 30, 31 days, and again: 153 days each time.
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::OffsetDateTime;

    #[test]
    fn a_time_is_read_as_people_write_it() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_795_507_509, "2026-11-24 08:05:09"),
            (2_208_988_800, "2040-01-01 00:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (LAST_SECOND, "9999-12-31 23:59:59"),
        ] {
            assert_eq!(date(seconds), text);
        }
        assert_eq!(date(LAST_SECOND + 1), "253402300800 s after 1970");
        assert_eq!(date(u64::MAX), format!("{} s after 1970", u64::MAX));
    }

    proptest! {
        #[test]
        fn the_calendar_is_that_of_a_library(seconds in 0..=LAST_SECOND) {
            let time = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap();
            let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
            let (hour, minute, second) = time.to_hms();
            prop_assert_eq!(
                date(seconds),
                format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
            );
        }
    }
}

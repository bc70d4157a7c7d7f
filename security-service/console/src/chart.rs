//! Charts, as geometry: what a template draws as SVG, with the same numbers as text beside it.

use crate::text::{day, number, percent};

/// Width of a bar's drawing. It is stretched to the width that there is.
pub(crate) const WIDTH: u64 = 1000;
/// Height of the drawing of days.
pub(crate) const HEIGHT: u64 = 100;
/// Least width of what is not nothing, so that it is seen.
const LEAST: u64 = 4;

/// A bar of a list of bars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bar {
    /// What it is of.
    pub(crate) name: String,
    /// Where its name leads, if anywhere.
    pub(crate) link: Option<String>,
    /// How many.
    pub(crate) value: u64,
    /// Its part of the whole.
    pub(crate) share: String,
    /// Its length, of [`WIDTH`].
    pub(crate) length: u64,
}

/// Returns bars of these names and values, which fill their room as they fill the whole.
pub(crate) fn bars(values: Vec<(String, Option<String>, u64)>) -> Vec<Bar> {
    let whole = values.iter().fold(0u64, |sum, (_, _, value)| sum.saturating_add(*value));
    let bar = |(name, link, value): (String, Option<String>, u64)| Bar {
        name,
        link,
        value,
        share: percent(&value, &whole),
        length: scaled(value, whole, WIDTH),
    };
    values.into_iter().map(bar).collect()
}

/// A part of a stacked bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// What it is of.
    pub(crate) name: &'static str,
    /// How it is drawn: the name of a mood.
    pub(crate) mood: &'static str,
    /// How many.
    pub(crate) value: u64,
    /// Its part of the whole.
    pub(crate) share: String,
    /// Where it begins, of [`WIDTH`].
    pub(crate) from: u64,
    /// Its length.
    pub(crate) length: u64,
}

/// Returns a bar of parts, which fill it together.
pub(crate) fn stack(parts: &[(&'static str, &'static str, u64)]) -> Vec<Part> {
    // As wide as it takes: of a sum that was cut, the parts would be more than the whole.
    let whole = parts.iter().fold(0u128, |sum, (_, _, value)| sum.saturating_add((*value).into()));
    let seen = parts.iter().filter(|(_, _, value)| *value > 0).count();
    // What is next to nothing takes its least room from the rest.
    let room = WIDTH.saturating_sub(LEAST.saturating_mul(u64::try_from(seen).unwrap_or(0)));
    let mut from = 0u64;
    let part = |(name, mood, value): &(&'static str, &'static str, u64)| {
        let length = match value {
            0 => 0,
            value => LEAST.saturating_add(proportion(*value, whole, room)),
        };
        let share = percent(value, &u64::try_from(whole).unwrap_or(u64::MAX));
        let part = Part { name, mood, value: *value, share, from, length };
        from = from.saturating_add(length);
        part
    };
    parts.iter().map(part).collect()
}

/// A column of a chart of days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// The day.
    pub(crate) day: String,
    /// What is shown of it.
    pub(crate) label: String,
    /// Its left edge.
    pub(crate) x: u64,
    /// Its upper edge, from the top on.
    pub(crate) y: u64,
    /// Its height, of [`HEIGHT`].
    pub(crate) height: u64,
}

/// A chart of days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Days {
    /// What it shows, in a few words.
    pub(crate) title: &'static str,
    /// What is in it, in a sentence.
    pub(crate) says: String,
    /// The columns, the oldest first.
    pub(crate) columns: Vec<Column>,
    /// Width of a column.
    pub(crate) width: u64,
    /// Label of the highest.
    pub(crate) most: String,
    /// The first day and the last one.
    pub(crate) ends: (String, String),
}

/// A day: its beginning in seconds since 1970, what its height is, and how that is told.
pub(crate) type DayValue = (u64, u64, String);

/// Returns a chart of days, if there are any.
pub(crate) fn days(title: &'static str, values: &[DayValue]) -> Option<Days> {
    let (first, last) = (values.first()?, values.last()?);
    let highest = values.iter().max_by_key(|(_, value, _)| *value)?;
    let step = WIDTH.checked_div(u64::try_from(values.len()).ok()?)?.max(1);
    let column = |(index, (at, value, label)): (u64, &DayValue)| {
        let height = scaled(*value, highest.1, HEIGHT);
        Column {
            day: day(at),
            label: label.clone(),
            x: index.saturating_mul(step),
            y: HEIGHT.saturating_sub(height),
            height,
        }
    };
    let columns = (0u64..).zip(values).map(column).collect();
    let ends = (day(&first.0), day(&last.0));
    let says = format!(
        "{} days from {} to {}; the highest is {} on {}, the last is {}.",
        number(&u64::try_from(values.len()).unwrap_or(u64::MAX)),
        ends.0,
        ends.1,
        highest.2,
        day(&highest.0),
        last.2,
    );
    // A gap between columns, where there is room for one.
    let width = step.saturating_sub(step / 5).max(1);
    Some(Days { title, says, columns, width, most: highest.2.clone(), ends })
}

fn proportion(value: u64, whole: u128, room: u64) -> u64 {
    let scaled = u128::from(value).saturating_mul(u128::from(room));
    let scaled = scaled.checked_div(whole).unwrap_or(0);
    u64::try_from(scaled).unwrap_or(room).min(room)
}

/// Returns the length of a value of which the highest takes all the room; what is not nothing is seen.
fn scaled(value: u64, most: u64, room: u64) -> u64 {
    if value == 0 { 0 } else { proportion(value, most.into(), room).max(LEAST.min(room)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values_and_none_is_lost() {
        let of = |name: &str, value| (name.to_owned(), None, value);
        let bars =
            bars(vec![of("1.4.0", 38_112), of("1.3.2", 3_868), of("1.2.0", 1), of("1.1.0", 0)]);
        let lengths: Vec<u64> = bars.iter().map(|bar| bar.length).collect();
        assert_eq!(lengths, [907, 92, 4, 0]);
        let shares: Vec<&str> = bars.iter().map(|bar| bar.share.as_str()).collect();
        assert_eq!(shares, ["90 %", "9 %", "< 1 %", "0 %"]);
        assert_eq!(super::bars(vec![]), []);
    }

    #[test]
    fn a_stack_is_never_longer_than_its_room() {
        for values in [[0, 0, 0], [1, 0, 0], [6_211, 14, 2], [u64::MAX, u64::MAX, 1], [1, 1, 1]] {
            let parts = stack(&[
                ("a", "good", values[0]),
                ("b", "warn", values[1]),
                ("c", "bad", values[2]),
            ]);
            let end = parts.iter().map(|part| part.from + part.length).max().unwrap();
            assert!(end <= WIDTH, "{parts:?}");
            for pair in parts.windows(2) {
                assert_eq!(pair[0].from + pair[0].length, pair[1].from);
            }
            assert!(parts.iter().all(|part| (part.value > 0) == (part.length > 0)), "{parts:?}");
        }
    }

    #[test]
    fn days_have_a_scale_and_a_sentence() {
        assert_eq!(days("devices", &[]), None);
        let at = |index: u64| 1_796_083_200 + index * 86_400;
        let values: Vec<DayValue> =
            (0..30).map(|index| (at(index), index, index.to_string())).collect();
        let chart = days("devices", &values).unwrap();
        assert_eq!((chart.columns[0].height, chart.columns[29].height), (0, HEIGHT));
        assert_eq!((chart.columns[29].y, chart.most.as_str()), (0, "29"));
        assert!(chart.columns[29].x + chart.width <= WIDTH);
        assert_eq!(chart.ends.0, "2026-12-01");
        assert!(chart.says.contains("the highest is 29 on 2026-12-30"), "{}", chart.says);
        let flat = days("devices", &[(at(0), 0, "0".into())]).unwrap();
        assert_eq!((flat.columns[0].height, flat.columns[0].y), (0, HEIGHT));
    }
}

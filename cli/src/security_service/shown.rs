//! Answers of the service as they are printed: as JSON, or in columns for people.

use anyhow::{Context, Result};
use holdfast_types::{date, escape};
use serde_json::Value;

/// Members that are seconds since 1970.
const TIMES: [&str; 24] = [
    "at",
    "certificate_end",
    "closed_at",
    "contained_at",
    "created_at",
    "decided_at",
    "delivered_at",
    "end_at",
    "ends_at",
    "failed_at",
    "first_at",
    "granted_at",
    "last_at",
    "next_at",
    "not_after",
    "not_before",
    "opened_at",
    "regressed_at",
    "requested_at",
    "seen_at",
    "since",
    "soaks_until",
    "start_at",
    "until",
];

/// Prints an answer as one JSON document.
///
/// # Errors
/// It cannot be written as JSON.
pub(crate) fn json(value: &Value) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value).context("cannot write JSON")?);
    Ok(())
}

/// Prints a list: as it is, or the members of its entries that the columns name, below their heads.
///
/// # Errors
/// As [`json`].
pub(crate) fn list(list: &Value, as_json: bool, columns: &[(&str, &str)]) -> Result<()> {
    if as_json {
        return json(list);
    }
    let heads: Vec<String> = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let row = |entry: &Value| columns.iter().map(|(_, member)| cell(entry, member)).collect();
    let rows: Vec<Vec<String>> = items(list).iter().map(row).collect();
    if rows.is_empty() {
        eprintln!("there are none");
        return Ok(());
    }
    for line in aligned(&heads, &rows) {
        println!("{line}");
    }
    Ok(())
}

/// Prints one thing: as it is, or those of its members that it has, each behind its label.
///
/// # Errors
/// As [`json`].
pub(crate) fn object(value: &Value, as_json: bool, members: &[(&str, &str)]) -> Result<()> {
    if as_json {
        return json(value);
    }
    let width = members.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    for (label, member) in members {
        if !find(value, member).is_null() {
            println!("{label:<width$}  {}", cell(value, member));
        }
    }
    Ok(())
}

/// Prints what the service answers to a change, or a sentence for people.
///
/// # Errors
/// As [`json`].
pub(crate) fn done(answer: &Value, as_json: bool, sentence: &str) -> Result<()> {
    if as_json {
        return json(answer);
    }
    println!("{}", waiting(answer).unwrap_or_else(|| sentence.to_owned()));
    Ok(())
}

/// Returns what is said of a change that waits for a second person; nothing of one that was made.
pub(crate) fn waiting(answer: &Value) -> Option<String> {
    let number = answer.get("approval").filter(|_| cell(answer, "state") == "waiting")?;
    let until = cell(answer, "ends_at");
    Some(format!(
        "this waits for a second person until {until} UTC, who looks at it and runs `approval approve {number}`"
    ))
}

/// Puts a member into an object, where it is said.
pub(crate) fn say(object: &mut Value, name: &str, value: Option<&str>) {
    if let (Some(members), Some(value)) = (object.as_object_mut(), value) {
        members.insert(name.to_owned(), value.into());
    }
}

/// Returns the entries of a list.
pub(crate) fn items(list: &Value) -> &[Value] {
    list.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Returns a member of an entry as text; an entry that is no object is its own text.
pub(crate) fn cell(entry: &Value, member: &str) -> String {
    let value = if entry.is_object() { find(entry, member) } else { entry };
    match value {
        Value::Null => "-".to_owned(),
        Value::Number(number) => match number.as_u64() {
            Some(seconds) if TIMES.contains(&member) => date(seconds),
            _ => number.to_string(),
        },
        Value::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
        // What a device says of itself must not move the cursor of whoever reads it.
        Value::String(text) => escape(text.as_bytes()),
        Value::Array(values) => {
            let words: Vec<String> = values.iter().map(|value| cell(value, "")).collect();
            words.join(",")
        }
        Value::Object(_) => value.to_string(),
    }
}

/// Returns a member, which may be one of another: `place.group`.
fn find<'v>(value: &'v Value, member: &str) -> &'v Value {
    let found = member.split('.').try_fold(value, |value, name| value.get(name));
    found.unwrap_or(&Value::Null)
}

/// Lines of columns that are as wide as their widest cell.
fn aligned(heads: &[String], rows: &[Vec<String>]) -> Vec<String> {
    let all = || std::iter::once(heads).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_shown_as_people_read_them() {
        let entry = json!({
            "id": "a\u{1b}[2J", "seen_at": 0, "index": 7, "quarantined": false, "version": null,
            "grades": ["software", "hardware"], "place": {"group": "eval"},
        });
        for (member, text) in [
            ("id", "a\\x1b[2J"),
            ("seen_at", "1970-01-01 00:00:00"),
            ("index", "7"),
            ("quarantined", "no"),
            ("version", "-"),
            ("missing", "-"),
            ("grades", "software,hardware"),
            ("place.group", "eval"),
            ("place.missing", "-"),
        ] {
            assert_eq!(cell(&entry, member), text, "{member}");
        }
        assert_eq!(cell(&json!("pump"), "name"), "pump");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let heads: Vec<String> = words(&["NAME", "GRADES"]);
        let lines = aligned(&heads, &[words(&["production", "-"]), words(&["a", "hardware"])]);
        assert_eq!(lines, ["NAME        GRADES", "production  -", "a           hardware"]);
    }
}

//! The check of a document against the table, and the words for what was expected.

use super::{CONNECTION, Field, Kind};
use crate::document::Value;
use crate::fault::Fault;
use holdfast_sandbox::network::{Destination, PortRange};
use holdfast_types::Version;
use holdfast_types::is_clean_absolute;
use holdfast_types::is_guid;

/// Checks `value` against `kind` and adds what is wrong to `faults`, each with its path.
pub(crate) fn check(kind: &Kind, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    let mut refuse = |reason: String| faults.push(Fault { path: path.to_owned(), reason });
    match (kind, value) {
        (Kind::Boolean, Value::Boolean(_)) => {}
        (Kind::Integer { least, most }, Value::Integer(number)) => {
            if number < least || number > most {
                refuse(format!("must be {}, is {number}", range(*least, *most)));
            }
        }
        (Kind::Object(fields), Value::Object(entries)) => {
            check_object(fields, entries, path, faults);
        }
        (Kind::Connection, Value::Object(entries)) => {
            check_object(CONNECTION, entries, path, faults);
        }
        (Kind::Ports, Value::Integer(port)) => {
            if !(1..=65_535).contains(port) {
                refuse(format!("must be {}, is {port}", range(1, 65_535)));
            }
        }
        (Kind::List { of, least, most, distinct }, Value::List(items)) => {
            if items.len() < *least {
                refuse(format!(
                    "must have at least {least} entry, has none; without the field, everything is meant"
                ));
                return;
            }
            if items.len() > *most {
                refuse(format!("must have at most {most} entries, has {}", items.len()));
                return;
            }
            for (index, item) in items.iter().enumerate() {
                let here = format!("{path}[{index}]");
                if *distinct && items.iter().take(index).any(|earlier| earlier == item) {
                    faults.push(Fault { path: here, reason: "is there twice".to_owned() });
                    continue;
                }
                check(of, item, &here, faults);
            }
        }
        (Kind::Peripheral, Value::Integer(number)) => {
            if !(0..=1023).contains(number) {
                refuse(format!("must be {}, is {number}", range(0, 1023)));
            }
        }
        (
            Kind::Text { .. }
            | Kind::Guid
            | Kind::Version
            | Kind::Path
            | Kind::Choice(_)
            | Kind::Host
            | Kind::Connection
            | Kind::Ports
            | Kind::Peripheral,
            Value::Text(text),
        ) => {
            if let Err(reason) = check_text(kind, text) {
                refuse(reason);
            }
        }
        (kind, found) => refuse(format!("must be {}, is {}", expected(kind), found.kind())),
    }
}

fn check_object(
    fields: &[Field],
    entries: &[(String, Value)],
    path: &str,
    faults: &mut Vec<Fault>,
) {
    let below = |name: &str| {
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    };
    for (index, (name, value)) in entries.iter().enumerate() {
        if entries.iter().take(index).any(|(earlier, _)| earlier == name) {
            faults.push(Fault { path: below(name), reason: "is there twice".to_owned() });
            continue;
        }
        match fields.iter().find(|field| field.name == name) {
            Some(field) => check(&field.kind, value, &below(name), faults),
            None => {
                let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
                faults.push(Fault {
                    path: below(name),
                    reason: format!("is not a field; fields here are {}", known.join(", ")),
                });
            }
        }
    }
    for field in fields.iter().filter(|field| field.required) {
        if !entries.iter().any(|(name, _)| name == field.name) {
            let reason = format!("is missing; it must be {}", expected(&field.kind));
            faults.push(Fault { path: below(field.name), reason });
        }
    }
}

fn check_text(kind: &Kind, text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err("must not hold control characters".to_owned());
    }
    let fits = match kind {
        Kind::Text { most_bytes } => {
            if text.len() > *most_bytes {
                return Err(format!("must have at most {most_bytes} bytes, has {}", text.len()));
            }
            true
        }
        Kind::Guid => is_guid(text),
        Kind::Version => text.parse::<Version>().is_ok(),
        Kind::Path => text.len() <= 255 && is_clean_absolute(text),
        Kind::Choice(choices) => choices.contains(&text),
        Kind::Host | Kind::Connection => Destination::parse(text).is_some(),
        Kind::Ports => PortRange::parse(text).is_some(),
        Kind::Peripheral => {
            let name = text.strip_prefix('$').unwrap_or(text);
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            !name.is_empty() && name.len() <= 64 && name.bytes().all(is_part)
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("must be {}, is `{text}`", expected(kind))) }
}

fn range(least: i64, most: i64) -> String {
    if least == most { least.to_string() } else { format!("from {least} to {most}") }
}

/// The values of a kind in words, to stand behind "must be".
pub(crate) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "true or false".to_owned(),
        Kind::Integer { least, most } => format!("an integer, {}", range(*least, *most)),
        Kind::Text { most_bytes } => format!("a string of at most {most_bytes} bytes"),
        Kind::Guid => "a GUID such as \"25025d2c-66da-4448-bae1-ac26fcdd3627\"".to_owned(),
        Kind::Version => "three numbers such as \"1.0.0\"".to_owned(),
        Kind::Path => "an absolute path without `.` and `..`, such as \"/bin/app\"".to_owned(),
        Kind::Choice(choices) => format!("one of \"{}\"", choices.join("\", \"")),
        Kind::Host => "a host name, an IP address or prefix, or a DNS-SD name".to_owned(),
        Kind::Connection => {
            format!("{}, or an object with Host, Protocol and Ports", expected(&Kind::Host))
        }
        Kind::Ports => "a port from 1 to 65535, or a range such as \"8000-8010\"".to_owned(),
        Kind::Peripheral => "a number from 0 to 1023, or a name such as \"$LED\"".to_owned(),
        Kind::List { of, least, most, .. } => {
            let entries = if *least == 0 {
                format!("at most {most} entries")
            } else {
                format!("{least} to {most} entries")
            };
            format!("an array of {entries}, each {}", expected(of))
        }
        Kind::Object(_) => "an object".to_owned(),
    }
}

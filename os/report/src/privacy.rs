//! What each field of a record tells, and what of it may leave the device.
//!
//! The table is the whole list: a test takes a sample of every kind of record apart and compares. A field that is not
//! in the table cannot be sent, since the test fails; there is no class for memory, addresses, arguments, log lines or names
//! that no manifest has.

/// A kind of information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A number that counts or measures, such as seconds or percent.
    Measure,
    /// One of few words that this crate lists.
    Word,
    /// A version, a rollback index, a build id, a hash of a package: of what the owner has released.
    Release,
    /// A place in a program that the owner has released.
    Code,
    /// A name or id from a manifest.
    Manifest,
    /// A port number, which says what kind of service was meant, not whose.
    Port,
    /// A number that is random and is of this boot alone.
    Random,
}

/// A field, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Type and name.
    pub name: &'static str,
    /// Its kind of information.
    pub class: Class,
    /// What it tells.
    pub tells: &'static str,
}

const fn field(name: &'static str, class: Class, tells: &'static str) -> Field {
    Field { name, class, tells }
}

/// Every field that a device sends.
pub const FIELDS: &[Field] = &[
    field("Record.sequence", Class::Measure, "number of the record on this device"),
    field("Record.at", Class::Measure, "time of the device's clock, in seconds"),
    field("Record.uptime_s", Class::Measure, "seconds since the boot"),
    field("Boot.boot_id", Class::Random, "the kernel's random id of the boot"),
    field("Boot.version", Class::Release, "version of the OS"),
    field("Boot.slot", Class::Word, "slot that runs"),
    field("Boot.phase", Class::Word, "phase of the device with its slots"),
    field("Boot.reset", Class::Word, "why the boot before has ended"),
    field(
        "Boot.fault",
        Class::Code,
        "address at which the kernel has failed, where the same release ran",
    ),
    field(
        "Component",
        Class::Manifest,
        "an app by component id, name, version and hash of its package, or a service by name",
    ),
    field("Ended.end", Class::Word, "the way it ended, with exit code or signal"),
    field("Crash.pc", Class::Code, "the instruction it was at"),
    field("Crash.lr", Class::Code, "where its function would have returned to"),
    field("Crash.fault", Class::Word, "the kind of address it failed at, without the address"),
    field(
        "Panic.message",
        Class::Code,
        "hash of the beginning of a panic's message, or of an assertion's condition, without quoted texts and words with digits",
    ),
    field("Panic.file", Class::Code, "hash of the name of the source file that has panicked"),
    field("Panic.line", Class::Code, "line of the source at which it has panicked"),
    field("Ended.ran_s", Class::Measure, "seconds from its start to its end"),
    field("Ended.count", Class::Measure, "how often it has ended so"),
    field(
        "Update.app",
        Class::Manifest,
        "the app's component id, or none for the OS and for metadata",
    ),
    field("Update.from", Class::Release, "version before"),
    field("Update.to", Class::Release, "version that was offered"),
    field("Update.outcome", Class::Word, "what has become of it"),
    field("Update.fetched_bytes", Class::Measure, "bytes that were fetched for it"),
    field("Refused.protocol", Class::Word, "protocol of refused packets"),
    field("Refused.port", Class::Port, "their destination port"),
    field("Refused.to", Class::Word, "the kind of place, without the address"),
    field("Refused.count", Class::Measure, "how many"),
    field("Refused.addresses_log2", Class::Measure, "how many addresses, as a power of 2"),
    field(
        "Refused.is_granted_name",
        Class::Word,
        "whether the app had asked for a name that it has a grant for",
    ),
    field("Traffic.sent_bytes", Class::Measure, "bytes that an app has sent"),
    field("Traffic.received_bytes", Class::Measure, "bytes that an app has received"),
    field("Used.memory_peak_kib", Class::Measure, "most memory of a component"),
    field("Used.restarts", Class::Measure, "restarts of a component"),
    field("Storage.partition", Class::Word, "a partition"),
    field("Storage.percent", Class::Measure, "how full it is"),
    field("Clock.source", Class::Word, "source of the clock's time"),
    field("Clock.step_s", Class::Measure, "seconds by which it was set"),
    field("Clock.is_refused", Class::Word, "whether the claim was refused"),
    field("CheckIn.outcome", Class::Word, "what has become of check-ins"),
    field("CheckIn.count", Class::Measure, "how often"),
    field("Lost.why", Class::Word, "why records were not kept"),
    field("Lost.count", Class::Measure, "how many"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// Types whose fields the table lists one by one; all others are one entry.
    const OPENED: [(&str, &str); 2] = [("crash", "Crash"), ("panic", "Panic")];

    fn fields(of: &str, value: &Value, found: &mut Vec<(String, Value)>) {
        for (key, value) in value.as_object().unwrap() {
            let opened = OPENED.iter().find(|(name, _)| name == key);
            match (opened, key.as_str()) {
                (Some((_, name)), _) => fields(name, value, found),
                (None, "component") => found.push(("Component".to_owned(), value.clone())),
                (None, "body") => {
                    let body = value.as_object().unwrap();
                    assert_eq!(body.len(), 1);
                    for (kind, value) in body {
                        fields(kind, value, found);
                    }
                }
                (None, key) => found.push((format!("{of}.{key}"), value.clone())),
            }
        }
    }

    fn sent() -> Vec<(String, Value)> {
        let mut found = Vec::new();
        for record in samples::records() {
            fields("Record", &serde_json::to_value(record).unwrap(), &mut found);
        }
        found
    }

    fn texts(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => {
                found.insert(text.clone());
            }
            Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
            Value::Object(values) => values.values().for_each(|value| texts(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_field_of_every_record_is_in_the_table_and_nothing_else_is() {
        let sent: BTreeSet<String> = sent().into_iter().map(|(name, _)| name).collect();
        let listed: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        let set: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(set.len(), listed.len(), "each once");
        assert_eq!(sent, set);
    }

    #[test]
    fn no_field_holds_a_text_but_names_of_manifests() {
        for (name, value) in sent() {
            let class = FIELDS.iter().find(|field| field.name == name).unwrap().class;
            let mut found = BTreeSet::new();
            texts(&value, &mut found);
            match class {
                // Words are listed by their types: what is no variant cannot be decoded.
                Class::Word | Class::Manifest => {
                    assert!(found.iter().all(|text| text.len() <= 31), "{name}: {found:?}");
                }
                Class::Measure | Class::Release | Class::Code | Class::Port | Class::Random => {
                    assert!(found.is_empty(), "{name}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn a_text_that_is_no_name_is_not_taken_for_one() {
        let name = |text: &str| serde_json::from_value::<crate::record::Name>(text.into());
        assert_eq!(name("camera-2").unwrap().as_str(), "camera-2");
        for text in ["", "Camera", "a b", "10.0.0.1", "/data/secret", "x".repeat(32).as_str()] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}

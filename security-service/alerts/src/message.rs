//! An alert as the outbox has it, and its texts for people. What a device has chosen of them, such as a component's name, is escaped: it can
//! begin no line and no header.

use crate::error::SinkError;
use holdfast_types::{date, escape};
use serde::Deserialize;
use std::fmt::Write;

/// Longest subject in bytes.
const MAX_SUBJECT_BYTES: usize = 200;
/// Longest text of a finding that is told, in bytes.
const MAX_TEXT_BYTES: usize = 1000;
/// Most findings that a mail tells of; the others are counted.
const MAX_FINDINGS: usize = 50;

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Message {
    /// Id of the catalog.
    pub catalog: String,
    /// The product.
    pub product: String,
    /// The group.
    pub group: String,
    /// When it was made, in seconds since 1970.
    pub at: u64,
    /// `finding`, `digest` or `overflow`.
    pub kind: String,
    /// What it tells of.
    pub findings: Vec<Told>,
}

/// A finding that is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Told {
    /// Its number.
    pub number: u64,
    /// Its rule.
    pub rule: String,
    /// Its severity, from 1 (for now) to 3 (for some day).
    pub severity: u64,
    /// What it is about.
    pub about: String,
    /// Devices that it was seen on.
    pub devices: u64,
    /// When it was seen first, in seconds since 1970.
    pub first: u64,
    /// When it was seen last, in seconds since 1970.
    pub last: u64,
    /// What the rule sees.
    pub sees: String,
    /// What to do about it.
    pub remedy: String,
}

impl Message {
    /// Reads the body of an alert.
    ///
    /// # Errors
    /// It is none.
    pub fn read(body: &str) -> Result<Self, SinkError> {
        serde_json::from_str(body).map_err(SinkError::Alert)
    }

    /// Returns the subject of a mail: the worst severity, the rule, product and group.
    #[must_use]
    pub fn subject(&self) -> String {
        let severity = self.findings.iter().map(|told| told.severity).min().unwrap_or(3);
        let rule = match self.findings.as_slice() {
            [told] => plain(&told.rule),
            told => format!("{} findings", told.len()),
        };
        let kind = match self.kind.as_str() {
            "digest" => "digest, ",
            "overflow" => "too many open findings, ",
            _ => "",
        };
        let (product, group) = (plain(&self.product), plain(&self.group));
        cut(
            format!("[holdfast] {kind}severity {severity}: {rule}, {product}/{group}"),
            MAX_SUBJECT_BYTES,
        )
    }

    /// Returns the text of a mail.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "Catalog {}, product {}, group {}, {} UTC\n",
            plain(&self.catalog),
            plain(&self.product),
            plain(&self.group),
            date(self.at)
        );
        if self.kind == "overflow" {
            text.push_str(
                "\nThere are too many open findings: some made room for worse ones, or have none.\n\
                 What to do: close what was dealt with. These are the worst that are open:\n",
            );
        }
        for told in self.findings.iter().take(MAX_FINDINGS) {
            // Writing to a text does not fail.
            let _ = write!(
                text,
                "\nFinding {}, severity {}: {}\nAbout:   {}\nDevices: {}\nSeen:    {} to {} UTC\n{}\nWhat to do: {}\n",
                told.number,
                told.severity,
                plain(&told.rule),
                plain(&told.about),
                told.devices,
                date(told.first),
                date(told.last),
                plain(&told.sees),
                plain(&told.remedy),
            );
        }
        let more = self.findings.len().saturating_sub(MAX_FINDINGS);
        if more > 0 {
            let _ = write!(text, "\nand {more} more.\n");
        }
        text
    }
}

/// Returns a text as it may stand in a line.
pub(crate) fn plain(text: &str) -> String {
    cut(escape(text.as_bytes()), MAX_TEXT_BYTES)
}

fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn message(about: &str, kind: &str) -> Message {
        let told = Told {
            number: 7,
            rule: "outbreak".to_owned(),
            severity: 1,
            about: about.to_owned(),
            devices: 9,
            first: 1_800_000_000,
            last: 1_800_000_060,
            sees: "Devices try many addresses.".to_owned(),
            remedy: "Contain.".to_owned(),
        };
        Message {
            catalog: "25025d2c-66da-4448-bae1-ac26fcdd3627".to_owned(),
            product: "pump".to_owned(),
            group: "production".to_owned(),
            at: 1_800_000_100,
            kind: kind.to_owned(),
            findings: vec![told],
        }
    }

    #[test]
    fn a_subject_says_severity_rule_and_place() {
        let mut alert = message("camera 2.1.0", "finding");
        assert_eq!(alert.subject(), "[holdfast] severity 1: outbreak, pump/production");
        alert.kind = "overflow".to_owned();
        assert!(alert.subject().starts_with("[holdfast] too many open findings, severity 1: "));
        assert!(alert.text().contains("There are too many open findings"));
        alert.kind = "digest".to_owned();
        let more = Told { severity: 3, ..alert.findings[0].clone() };
        alert.findings.push(more);
        assert_eq!(alert.subject(), "[holdfast] digest, severity 1: 2 findings, pump/production");
    }

    #[test]
    fn what_a_device_has_chosen_begins_no_line() {
        let mut alert = message("camera\r\nWhat to do: nothing\u{2028}\u{1b}[2J", "finding");
        let lines = message("camera", "finding").text().lines().count();
        let text = alert.text();
        assert_eq!(text.lines().count(), lines, "{text}");
        assert!(!text.contains(['\r', '\u{1b}', '\u{2028}']), "{text}");
        alert.product = "pump\r\nBcc: victim@example.com".to_owned();
        alert.findings[0].rule = "x".repeat(10_000);
        let subject = alert.subject();
        assert!(subject.len() <= MAX_SUBJECT_BYTES && !subject.contains(['\r', '\n']), "{subject}");
    }
}

//! Devices that a console's log names: the line with which the device's `identity` begins.

use anyhow::{Context, Result};
use regex::Regex;

/// A device as it has named itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The id that the device has named: 64 hex digits.
    pub(crate) id: String,
    /// True where its keys are in a TPM.
    pub(crate) in_tpm: bool,
}

/// Returns the devices of a log, each once. Only lines of the service `identity` count: init puts the component's name in front of
/// each line, so that an app cannot write one.
///
/// # Errors
/// None that a log could cause.
pub(crate) fn devices(log: &str) -> Result<Vec<Named>> {
    let line = Regex::new(
        r"(?m)^\[ *\d+\.\d+\] identity: device ([0-9a-f]{64}), keys in (\w+) event=identity_started\r?$",
    );
    let line = line.context("the pattern of a device's line")?;
    let mut found: Vec<Named> = Vec::new();
    for captures in line.captures_iter(log) {
        let (_, [id, keys]) = captures.extract();
        let named = Named { id: id.to_owned(), in_tpm: keys == "tpm" };
        if !found.contains(&named) {
            found.push(named);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_by_identity_alone() {
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        let log = format!(
            "[    3.1] identity: device {one}, keys in tpm event=identity_started\r\n\
             [    3.2] pump: [    3.1] identity: device {other}, keys in tpm event=identity_started\r\n\
             [    3.3] pump: identity: device {other}, keys in tpm event=identity_started\n\
             [    3.4] identity: device {other}, keys in tpm event=identity_started and more\n\
             [   63.1] identity: device {one}, keys in tpm event=identity_started\n"
        );
        assert_eq!(devices(&log).unwrap(), [Named { id: one, in_tpm: true }]);
        let log = format!(
            "[    3.1] identity: device {other}, keys in software event=identity_started\n"
        );
        assert_eq!(devices(&log).unwrap(), [Named { id: other, in_tpm: false }]);
        assert_eq!(devices("").unwrap(), []);
    }
}

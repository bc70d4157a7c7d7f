//! Thresholds of the rules: settings of a group, each with its default and its bounds.

use super::rule::Rule;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// What a threshold is, for pages and for checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// Its name.
    pub name: &'static str,
    /// The rules that read it.
    pub rules: &'static [Rule],
    /// What it says, with its unit.
    pub means: &'static str,
    /// Its value where nobody has set it.
    pub default: u32,
    /// The least value that it may have.
    pub least: u32,
    /// The most.
    pub most: u32,
}

/// Thresholds of a group that differ from their defaults, by name. A default that a later release changes changes the others.
pub type Overrides = BTreeMap<String, u32>;

/// A change of thresholds is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// There is no such threshold.
    #[error("{0}: there is no such threshold; docs/threat-detection.md lists them")]
    Unknown(String),
    /// The value is out of bounds.
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    /// It is counted over a whole catalog.
    #[error("{0}: is counted over the whole catalog; set it without a product and a group")]
    OfCatalog(&'static str),
}

/// Returns overrides after a change: a value of `None` brings the default back. `of_group` is false for devices that are in no group,
/// and for what is counted over a whole catalog.
///
/// # Errors
/// See [`ChangeError`].
pub fn changed(
    mut overrides: Overrides,
    changes: &BTreeMap<String, Option<u32>>,
    of_group: bool,
) -> Result<Overrides, ChangeError> {
    for (name, value) in changes {
        let known = Thresholds::ALL.into_iter().find(|known| known.name == name);
        let Threshold { name, rules, least, most, .. } =
            known.ok_or_else(|| ChangeError::Unknown(name.clone()))?;
        if of_group && rules == [Rule::Enrol] {
            return Err(ChangeError::OfCatalog(name));
        }
        match *value {
            None => drop(overrides.remove(name)),
            Some(value) if !(least..=most).contains(&value) => {
                return Err(OutOfBounds { name, value, least, most }.into());
            }
            Some(value) => drop(overrides.insert(name.to_owned(), value)),
        }
    }
    Ok(overrides)
}

/// A threshold has a value that it may not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{name}: {value} is not within {least} and {most}")]
pub struct OutOfBounds {
    /// The threshold.
    pub name: &'static str,
    /// Its value.
    pub value: u32,
    /// The least value that it may have.
    pub least: u32,
    /// The most.
    pub most: u32,
}

macro_rules! thresholds {
    ($($name:ident = $default:literal in $least:literal..$most:literal, [$($rule:ident),+]: $means:literal);+ $(;)?) => {
        /// Thresholds of a group. What is not set has its default.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Thresholds {
            $(#[doc = $means] pub $name: u32),+
        }

        impl Default for Thresholds {
            fn default() -> Self {
                Self { $($name: $default),+ }
            }
        }

        impl Thresholds {
            /// What each of them is.
            pub const ALL: [Threshold; [$($least),+].len()] = [$(Threshold {
                name: stringify!($name),
                rules: &[$(Rule::$rule),+],
                means: $means,
                default: $default,
                least: $least,
                most: $most,
            }),+];

            /// Returns the values, in the order of [`ALL`](Self::ALL).
            #[must_use]
            pub fn values(&self) -> [u32; Self::ALL.len()] {
                [$(self.$name),+]
            }

            /// Returns them with another value of one; `None` where there is none of this name.
            #[must_use]
            pub fn with(self, name: &str, value: u32) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self { $name: value, ..self }),)+
                    _ => None,
                }
            }
        }
    };
}

thresholds! {
    scan_addresses = 32 in 8..65536, [Scan]:
        "Addresses at the busiest ports that one device tries in an hour.";
    scan_ports = 3 in 1..16, [Scan]:
        "Ports whose addresses are added up: who speaks to many peers at many ports does not scan.";
    outbreak_addresses = 32 in 8..65536, [Outbreak]:
        "Addresses at one port that a device tries in an hour to count.";
    outbreak_devices = 3 in 2..1000, [Outbreak]:
        "Devices of one version of an app with the same port, within a day.";
    outbreak_permille = 1 in 0..1000, [Outbreak]:
        "Devices in a thousand of those that run the version, where that is more.";
    exploit_devices = 3 in 1..1000, [ExploitThenCall]:
        "Devices with the same crash and then a new destination, within a day.";
    exploit_within_s = 600 in 10..3600, [ExploitThenCall]:
        "Seconds on a device from the crash to the first refused packet.";
    exploit_share_permille = 500 in 0..1000, [ExploitThenCall]:
        "Devices in a thousand of those that try the destination, which must have crashed before.";
    sandbox_devices = 1 in 1..1000, [Sandbox]:
        "Devices on which it is a finding, of severity 3, within a day.";
    sandbox_severe_devices = 2 in 1..1000, [Sandbox]:
        "Devices from which on it has severity 1.";
    new_destination_devices = 5 in 2..1000, [NewDestination]:
        "Devices that try the destination within a day; one more for each 100,000 devices of the group.";
    learning_days = 7 in 0..30, [NewDestination]:
        "Days in which a group's usual destinations are learned and none is a finding.";
    flood_mib = 10 in 1..65536, [Flood]:
        "MiB that an app sends and receives in an hour.";
    flood_times_p99 = 8 in 1..1000, [Flood]:
        "Times as much as 99 of 100 hours of the same app.";
    flood_samples = 200 in 10..100000, [Flood]:
        "Hours of the app that must be known before.";
    measurement_devices = 1 in 1..1000, [Measurement]:
        "Devices with an unknown measurement or false claims, within a day.";
    clone_devices = 1 in 1..1000, [Clone]:
        "Devices whose receipt, TPM clock or key is another's, within a day.";
    rollback_signature_devices = 1 in 1..1000, [Rollback]:
        "Devices that have refused a release for its signature, within a day.";
    rollback_floor_devices = 3 in 1..1000, [Rollback]:
        "Devices that have refused a release below their floor, within a day.";
    rollback_expired_devices = 3 in 1..1000, [Rollback]:
        "Devices that have refused expired metadata, within a day.";
    rollback_expired_permille = 10 in 0..1000, [Rollback]:
        "Devices in a thousand of the group, where that is more.";
    fallback_devices = 3 in 1..1000, [Fallback, BootLoop]:
        "Devices on which a release has failed, within a day.";
    fallback_permille = 20 in 1..1000, [Fallback, BootLoop]:
        "Share of the release's devices in a thousand, which must lie below Wilson's lower bound of those that failed.";
    boot_loop_boots = 3 in 2..100, [BootLoop]:
        "Failed boots of a device within a day to count.";
    silence_deviations = 5 in 3..10, [Silence]:
        "Standard deviations of a Poisson process by which more are missing than usually.";
    silence_permille = 10 in 1..500, [Silence]:
        "Devices in a thousand that are taken for usually missing, where fewer were.";
    silence_gap_minutes = 10 in 3..1440, [Silence]:
        "Minutes without an evaluation after which the service itself was away.";
    clock_devices = 3 in 1..1000, [Clock]:
        "Devices with such a clock, within a day.";
    clock_permille = 1 in 0..1000, [Clock]:
        "Devices in a thousand of the group, where that is more.";
    clock_skew_s = 3600 in 60..86400, [Clock]:
        "Seconds by which a clock was set back, or runs ahead of the service's.";
    enrol_failures = 20 in 1..10000, [Enrol]:
        "Failed enrolments from one /24 or /48 in an hour that are not yet too many.";
}

impl Thresholds {
    /// Returns them with a group's overrides. One that this release does not know or take is left alone: a newer one beside it has set it.
    #[must_use]
    pub fn with_overrides(overrides: &Overrides) -> Self {
        overrides.iter().fold(Self::default(), |before, (name, value)| {
            before.with(name, *value).filter(|after| after.check().is_ok()).unwrap_or(before)
        })
    }

    /// Checks that each has a value that it may have.
    ///
    /// # Errors
    /// The first that has not.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        for (Threshold { name, least, most, .. }, value) in Self::ALL.into_iter().zip(self.values())
        {
            if !(least..=most).contains(&value) {
                return Err(OutOfBounds { name, value, least, most });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_lie_within_their_bounds_and_others_are_refused() {
        assert_eq!(Thresholds::default().check(), Ok(()));
        for Threshold { name, least, most, default, .. } in Thresholds::ALL {
            let with = |value| Thresholds::default().with(name, value).unwrap();
            assert!(least < most && (least..=most).contains(&default), "{name}");
            assert_eq!((with(least).check(), with(most).check()), (Ok(()), Ok(())), "{name}");
            assert_eq!(with(most + 1).check().unwrap_err().name, name);
            if let Some(less) = least.checked_sub(1) {
                assert_eq!(with(less).check().unwrap_err().name, name);
            }
        }
        assert_eq!(Thresholds::default().with("scan", 1), None);
    }

    #[test]
    fn settings_name_what_they_change_and_nothing_unknown() {
        let set: Thresholds = toml::from_str("outbreak_devices = 9").unwrap();
        assert_eq!(Some(set), Thresholds::default().with("outbreak_devices", 9));
        toml::from_str::<Thresholds>("outbreak = 9").unwrap_err();
    }

    #[test]
    fn a_change_names_what_it_changes_and_leaves_the_rest() {
        let change = |name: &str, value| BTreeMap::from([(name.to_owned(), value)]);
        let none = Overrides::new();
        let set = changed(none.clone(), &change("outbreak_devices", Some(9)), true).unwrap();
        let set = changed(set, &change("flood_mib", Some(20)), true).unwrap();
        let with = Thresholds::with_overrides(&set);
        assert_eq!((with.outbreak_devices, with.flood_mib, with.scan_ports), (9, 20, 3));
        let back = changed(set, &change("outbreak_devices", None), true).unwrap();
        assert_eq!(back.keys().collect::<Vec<_>>(), ["flood_mib"]);
        let error = changed(back, &change("outbreak_devices", Some(1)), true).unwrap_err();
        assert_eq!(error.to_string(), "outbreak_devices: 1 is not within 2 and 1000");
        let unknown = changed(none.clone(), &change("scan", Some(9)), true).unwrap_err();
        assert!(unknown.to_string().starts_with("scan: there is no such threshold"));
        let enrol = change("enrol_failures", Some(9));
        let refused = changed(none.clone(), &enrol, true).unwrap_err();
        assert_eq!(refused, ChangeError::OfCatalog("enrol_failures"));
        assert_eq!(changed(none, &enrol, false).unwrap().len(), 1, "the control");
    }

    #[test]
    fn an_override_that_is_not_known_or_taken_changes_nothing() {
        let overrides = Overrides::from([("later".to_owned(), 1), ("scan_ports".to_owned(), 99)]);
        assert_eq!(Thresholds::with_overrides(&overrides), Thresholds::default());
    }

    #[test]
    fn every_rule_has_a_threshold() {
        for rule in Rule::ALL {
            assert!(Thresholds::ALL.iter().any(|it| it.rules.contains(&rule)), "{rule:?}");
        }
    }
}

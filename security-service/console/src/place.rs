//! Places of the console: each has one path, and a path names one place or none.

use std::fmt;

/// What every path begins with.
pub(crate) const ROOT: &str = "/console";
/// Longest part of a path, in bytes.
const MAX_PART_BYTES: usize = 128;

/// A place within a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The fleet at one look.
    Fleet,
    /// Devices.
    Devices,
    /// A device.
    Device(String),
    /// Products and their groups.
    Groups,
    /// A group of a product.
    Group(String, String),
    /// Deployments.
    Deployments,
    /// A deployment.
    Deployment(String),
    /// Releases.
    Releases,
    /// Crash groups.
    Crashes,
    /// A crash group.
    Crash(String),
    /// What threat detection has found.
    Threats,
    /// One of that.
    Threat(String),
    /// What was found about devices.
    Findings,
    /// The certificates of the catalog's authority.
    Authorities,
    /// Who may do what.
    People,
    /// Where alerts go.
    Alerts,
    /// The audit log.
    Audit,
    /// The service itself.
    Health,
    /// What will happen, before it does: an action's name.
    Confirm(String),
    /// Where a form is sent: an action's name.
    Act(String),
}

impl Place {
    fn parts(&self) -> Vec<&str> {
        match self {
            Self::Fleet => vec!["fleet"],
            Self::Devices => vec!["devices"],
            Self::Device(id) => vec!["devices", id],
            Self::Groups => vec!["groups"],
            Self::Group(product, group) => vec!["groups", product, group],
            Self::Deployments => vec!["deployments"],
            Self::Deployment(id) => vec!["deployments", id],
            Self::Releases => vec!["releases"],
            Self::Crashes => vec!["crashes"],
            Self::Crash(id) => vec!["crashes", id],
            Self::Threats => vec!["threats"],
            Self::Threat(number) => vec!["threats", number],
            Self::Findings => vec!["findings"],
            Self::Authorities => vec!["ca-certificates"],
            Self::People => vec!["people"],
            Self::Alerts => vec!["alerts"],
            Self::Audit => vec!["audit"],
            Self::Health => vec!["health"],
            Self::Confirm(action) => vec!["confirm", action],
            Self::Act(action) => vec!["act", action],
        }
    }

    fn of_parts(parts: &[&str]) -> Option<Self> {
        let owned = |part: &&str| (*part).to_owned();
        Some(match parts {
            ["fleet"] => Self::Fleet,
            ["devices"] => Self::Devices,
            ["devices", id] => Self::Device(owned(id)),
            ["groups"] => Self::Groups,
            ["groups", product, group] => Self::Group(owned(product), owned(group)),
            ["deployments"] => Self::Deployments,
            ["deployments", id] => Self::Deployment(owned(id)),
            ["releases"] => Self::Releases,
            ["crashes"] => Self::Crashes,
            ["crashes", id] => Self::Crash(owned(id)),
            ["threats"] => Self::Threats,
            ["threats", number] => Self::Threat(owned(number)),
            ["findings"] => Self::Findings,
            ["ca-certificates"] => Self::Authorities,
            ["people"] => Self::People,
            ["alerts"] => Self::Alerts,
            ["audit"] => Self::Audit,
            ["health"] => Self::Health,
            ["confirm", action] => Self::Confirm(owned(action)),
            ["act", action] => Self::Act(owned(action)),
            _ => return None,
        })
    }
}

/// A place with its catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// The catalog's id.
    pub(crate) catalog: String,
    /// The place.
    pub(crate) place: Place,
}

/// True for what stands in a path as it is: ids and names that the service gives or takes. A dot begins none, and ends none.
pub(crate) fn is_plain(part: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !part.is_empty()
        && part.len() <= MAX_PART_BYTES
        && part.bytes().all(is_letter)
        && !part.starts_with('.')
        && !part.ends_with('.')
}

impl Address {
    /// Reads a path; true beside it where it asks for the place as JSON.
    pub(crate) fn of_path(path: &str) -> Option<(Self, bool)> {
        let rest = path.strip_prefix(ROOT)?.strip_prefix('/')?;
        let (rest, is_json) = match rest.strip_suffix(".json") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let (catalog, parts) = parts.split_first()?;
        if !is_plain(catalog) || !parts.iter().all(|part| is_plain(part)) {
            return None;
        }
        let place = Place::of_parts(parts)?;
        Some((Self { catalog: (*catalog).to_owned(), place }, is_json))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT}/{}/{}", self.catalog, self.place.parts().join("/"))
    }
}

/// Returns a text as a part of a query (RFC 3986, 2.1).
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_read_as_it_is_written() {
        let text = || "a-1.b_2".to_owned();
        let places = [
            Place::Fleet,
            Place::Devices,
            Place::Device(text()),
            Place::Groups,
            Place::Group(text(), "eval".to_owned()),
            Place::Deployments,
            Place::Deployment(text()),
            Place::Releases,
            Place::Crashes,
            Place::Crash(text()),
            Place::Threats,
            Place::Threat("118".to_owned()),
            Place::Findings,
            Place::Authorities,
            Place::People,
            Place::Alerts,
            Place::Audit,
            Place::Health,
            Place::Confirm("device-retire".to_owned()),
            Place::Act("device-retire".to_owned()),
        ];
        for place in places {
            let address = Address { catalog: "25025d2c-66da".to_owned(), place };
            let path = address.to_string();
            assert_eq!(Address::of_path(&path), Some((address.clone(), false)), "{path}");
            assert_eq!(Address::of_path(&format!("{path}.json")), Some((address, true)), "{path}");
        }
    }

    #[test]
    fn what_is_no_place_is_none() {
        for path in [
            "/console",
            "/console/",
            "/console/c",
            "/console/c/",
            "/console/c/nothing",
            "/console/c/devices/",
            "/console/c/devices/..",
            "/console/c/devices/a/b",
            "/console/c/devices/a%2fb",
            "/console/../fleet",
            "/console//fleet",
            "//evil.example/fleet",
            "/console/c/devices/a?b",
            "/other/c/fleet",
        ] {
            assert_eq!(Address::of_path(path), None, "{path}");
        }
        let long = format!("/console/c/devices/{}", "a".repeat(MAX_PART_BYTES + 1));
        assert_eq!(Address::of_path(&long), None);
        assert_eq!(encoded("a b&c=<d>/ä"), "a%20b%26c%3D%3Cd%3E%2F%C3%A4");
    }
}

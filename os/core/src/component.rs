//! The component list: what init starts, as plain data inside the verified root file system.
//!
//! The image builder writes it with [`ComponentList::encode`]; init reads it with
//! [`ComponentList::decode`] before it starts anything. The bytes are postcard, bounded by
//! [`MAX_ENCODED_BYTES`], and rejected when anything follows them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where the component list lies in the root file system.
pub const PATH: &str = "/etc/holdfast/components";
/// Version of the encoding; a list with another one is refused.
pub const FORMAT_VERSION: u16 = 1;
/// Largest encoded list in bytes that init will look at.
pub const MAX_ENCODED_BYTES: usize = 64 * 1024;
/// Most components in one image.
pub const MAX_COMPONENTS: usize = 64;
/// Longest component name in bytes.
pub const MAX_NAME_BYTES: usize = 31;
/// Uids below this one are never given to a component.
pub const FIRST_SERVICE_UID: u32 = 100;
/// Uids from this one up belong to apps.
pub const FIRST_APP_UID: u32 = 1001;
/// Highest uid a component may have.
pub const LAST_UID: u32 = 59_999;
/// Highest capability number of Linux 6.12 (`CAP_CHECKPOINT_RESTORE`, linux/capability.h).
pub const LAST_CAPABILITY: u8 = 40;

/// Everything init has to know about the image it was started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentList {
    /// Always [`FORMAT_VERSION`].
    pub format_version: u16,
    /// Which image this is.
    pub image: ImageIdentity,
    /// In start order.
    pub components: Vec<Component>,
}

/// What an image says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageIdentity {
    /// Name from the image manifest.
    pub name: String,
    /// Version from the image manifest.
    pub version: String,
    /// Board the image was made for.
    pub board: String,
    /// Host name the kernel is given.
    pub hostname: String,
    /// Seconds since 1970: no clock on this device may show less.
    pub build_time: u64,
    /// True unless the image was built with `--production`.
    pub development: bool,
}

/// Whose program a component is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Ours, part of the OS.
    Service,
    /// An OEM's.
    App,
}

/// How init learns that a component is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// Ready as soon as it runs.
    Started,
    /// Ready when it has sent `READY=1`; killed and restarted when it has not within the time.
    Notify {
        /// Time allowed, in milliseconds.
        within_ms: u32,
    },
}

/// One program that init starts and keeps running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Unique; lower-case letters, digits and `-`.
    pub name: String,
    /// Service or app.
    pub kind: Kind,
    /// Absolute path of the program.
    pub entry_point: String,
    /// Arguments after the program's own name.
    pub args: Vec<String>,
    /// Uid and gid it runs with; unique.
    pub uid: u32,
    /// How readiness is learned.
    pub readiness: Readiness,
    /// It must send `WATCHDOG=1` at least this often, in milliseconds, once it is ready.
    pub watchdog_ms: Option<u32>,
    /// Device nodes init opens for reading and writing and hands over from descriptor 3 on.
    pub descriptors: Vec<String>,
    /// Capability numbers it keeps; empty for every app.
    pub capabilities: Vec<u8>,
    /// It gets a socket to init and may ask for a reboot or a power-off ([`crate::wire`]).
    pub may_end_system: bool,
}

/// Why a component list was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ComponentListError {
    /// Longer than [`MAX_ENCODED_BYTES`].
    #[error("component list is {0} bytes long, more than {MAX_ENCODED_BYTES}")]
    TooLong(usize),
    /// Not the bytes of a component list.
    #[error("component list cannot be decoded")]
    Malformed(#[source] postcard::Error),
    /// Bytes follow the list.
    #[error("component list is followed by {0} unexpected bytes")]
    TrailingBytes(usize),
    /// Written for another init.
    #[error("component list has format version {0}, not {FORMAT_VERSION}")]
    FormatVersion(u16),
    /// More than [`MAX_COMPONENTS`].
    #[error("component list has {0} components, more than {MAX_COMPONENTS}")]
    TooMany(usize),
    /// A field of one component holds what it may not.
    #[error("component `{component}`: {field}: {reason}")]
    Field {
        /// Name of the component, as found.
        component: String,
        /// The offending field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl ComponentList {
    /// Bytes for [`PATH`].
    ///
    /// # Errors
    /// The list breaks a rule that [`decode`](Self::decode) would refuse it for.
    pub fn encode(&self) -> Result<Vec<u8>, ComponentListError> {
        self.validate()?;
        let bytes = postcard::to_allocvec(self).map_err(ComponentListError::Malformed)?;
        if bytes.len() > MAX_ENCODED_BYTES {
            return Err(ComponentListError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// The list in `bytes`, checked in every field.
    ///
    /// # Errors
    /// Too long, not decodable, followed by more bytes, or a field out of bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, ComponentListError> {
        if bytes.len() > MAX_ENCODED_BYTES {
            return Err(ComponentListError::TooLong(bytes.len()));
        }
        let (list, rest) =
            postcard::take_from_bytes::<Self>(bytes).map_err(ComponentListError::Malformed)?;
        if !rest.is_empty() {
            return Err(ComponentListError::TrailingBytes(rest.len()));
        }
        list.validate()?;
        Ok(list)
    }

    fn validate(&self) -> Result<(), ComponentListError> {
        if self.format_version != FORMAT_VERSION {
            return Err(ComponentListError::FormatVersion(self.format_version));
        }
        if self.components.len() > MAX_COMPONENTS {
            return Err(ComponentListError::TooMany(self.components.len()));
        }
        let mut seen: Vec<(&str, u32)> = Vec::with_capacity(self.components.len());
        for component in &self.components {
            let refuse = |field, reason| {
                Err(ComponentListError::Field { component: component.name.clone(), field, reason })
            };
            if let Err(reason) = check_name(&component.name) {
                return refuse("name", reason);
            }
            if seen.iter().any(|(name, _)| *name == component.name) {
                return refuse("name", "used by another component");
            }
            if seen.iter().any(|(_, uid)| *uid == component.uid) {
                return refuse("uid", "used by another component");
            }
            let first = match component.kind {
                Kind::Service => FIRST_SERVICE_UID,
                Kind::App => FIRST_APP_UID,
            };
            if component.uid < first || component.uid > LAST_UID {
                return refuse("uid", "outside the range for its kind");
            }
            if !is_clean_absolute(&component.entry_point) {
                return refuse("entry_point", "must be an absolute path without `.`, `..` or NUL");
            }
            if component.args.iter().any(|arg| arg.contains('\0')) {
                return refuse("args", "must not contain NUL");
            }
            if component.descriptors.len() > 8 {
                return refuse("descriptors", "more than 8");
            }
            if !component.descriptors.iter().all(|p| p.starts_with("/dev/") && is_clean_absolute(p))
            {
                return refuse("descriptors", "must be paths of device nodes below /dev");
            }
            if component.capabilities.iter().any(|c| *c > LAST_CAPABILITY) {
                return refuse("capabilities", "unknown capability number");
            }
            if component.kind == Kind::App && !component.capabilities.is_empty() {
                return refuse("capabilities", "an app has none");
            }
            if component.kind == Kind::App && component.may_end_system {
                return refuse("may_end_system", "only a service may");
            }
            if component.watchdog_ms.is_some_and(|ms| ms < 100) {
                return refuse("watchdog_ms", "shorter than 100 ms");
            }
            if component.readiness == (Readiness::Notify { within_ms: 0 }) {
                return refuse("readiness", "no time is allowed");
            }
            seen.push((&component.name, component.uid));
        }
        Ok(())
    }
}

/// Checks the name of a component: 1 to [`MAX_NAME_BYTES`] of `a-z`, `0-9` and `-`, a letter first.
///
/// # Errors
/// What is wrong, as a phrase to put behind the field's name.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err("must be 1 to 31 characters long");
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err("must start with a lower-case letter");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("must consist of lower-case letters, digits and `-`");
    }
    Ok(())
}

/// The component name for an app of any name: what [`check_name`] allows of it, in lower case, and
/// `-` for all else. A name without a single letter becomes `app`.
#[must_use]
pub fn name_for(app_name: &str) -> String {
    let mut name = String::new();
    for character in app_name.chars().map(|c| c.to_ascii_lowercase()) {
        if name.len() >= MAX_NAME_BYTES {
            break;
        }
        match character {
            'a'..='z' => name.push(character),
            '0'..='9' if !name.is_empty() => name.push(character),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { "app".to_owned() } else { name.to_owned() }
}

/// True for `/a/b` forms: absolute, no empty, `.` or `..` part, no NUL.
#[must_use]
pub fn is_clean_absolute(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        !rest.contains('\0')
            && rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn component(name: &str, uid: u32) -> Component {
        Component {
            name: name.to_owned(),
            kind: Kind::App,
            entry_point: "/bin/app".to_owned(),
            args: vec!["-v".to_owned()],
            uid,
            readiness: Readiness::Started,
            watchdog_ms: None,
            descriptors: Vec::new(),
            capabilities: Vec::new(),
            may_end_system: false,
        }
    }

    fn list(components: Vec<Component>) -> ComponentList {
        ComponentList {
            format_version: FORMAT_VERSION,
            image: ImageIdentity {
                name: "hello".to_owned(),
                version: "1.0.0".to_owned(),
                board: "qemu-virt".to_owned(),
                hostname: "holdfast".to_owned(),
                build_time: 1_700_000_000,
                development: true,
            },
            components,
        }
    }

    fn refused_field(component: Component) -> &'static str {
        match list(vec![component]).encode() {
            Err(ComponentListError::Field { field, .. }) => field,
            other => panic!("expected a refused field, got {other:?}"),
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let list = list(vec![component("hello", 1001), component("world", 1002)]);
        assert_eq!(ComponentList::decode(&list.encode().unwrap()).unwrap(), list);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = list(vec![component("hello", 1001)]).encode().unwrap();
        bytes.push(0);
        assert_eq!(ComponentList::decode(&bytes), Err(ComponentListError::TrailingBytes(1)));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = list(vec![component("hello", 1001)]).encode().unwrap();
        for len in 0..bytes.len() {
            let part = &bytes[..len];
            assert!(ComponentList::decode(part).is_err(), "{len} bytes were accepted");
        }
    }

    #[test]
    fn two_components_cannot_share_a_uid_or_a_name() {
        let same_uid = list(vec![component("a", 1001), component("b", 1001)]).encode();
        assert!(matches!(same_uid, Err(ComponentListError::Field { field: "uid", .. })));
        let same_name = list(vec![component("a", 1001), component("a", 1002)]).encode();
        assert!(matches!(same_name, Err(ComponentListError::Field { field: "name", .. })));
    }

    #[test]
    fn powers_and_paths_outside_their_bounds_are_refused() {
        assert_eq!(refused_field(component("Root", 1001)), "name");
        assert_eq!(refused_field(component("root", 0)), "uid");
        assert_eq!(refused_field(component("service", FIRST_SERVICE_UID)), "uid");
        let mut c = component("a", 1001);
        c.entry_point = "/bin/../sbin/init".to_owned();
        assert_eq!(refused_field(c), "entry_point");
        let mut c = component("a", 1001);
        c.capabilities = vec![21];
        assert_eq!(refused_field(c), "capabilities");
        let mut c = component("a", 1001);
        c.descriptors = vec!["/etc/holdfast/components".to_owned()];
        assert_eq!(refused_field(c), "descriptors");
    }

    #[test]
    fn a_name_for_people_becomes_a_component_name() {
        for (name, expected) in [
            ("hello", "hello"),
            ("Pump Controller (rev. 2)", "pump-controller-rev-2"),
            ("Ärzte & Söhne", "rzte-s-hne"),
            ("3D", "d"),
            ("温度", "app"),
        ] {
            assert_eq!(name_for(name), expected);
        }
    }

    proptest! {
        #[test]
        fn every_name_becomes_a_valid_component_name(name in ".{0,60}") {
            prop_assert_eq!(check_name(&name_for(&name)), Ok(()));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Ok(list) = ComponentList::decode(&bytes) {
                prop_assert!(list.validate().is_ok());
            }
        }

        #[test]
        fn one_changed_byte_never_yields_a_list_that_breaks_the_rules(
            at in any::<prop::sample::Index>(), value in any::<u8>()
        ) {
            let mut bytes = list(vec![component("hello", 1001)]).encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(list) = ComponentList::decode(&bytes) {
                prop_assert!(list.validate().is_ok());
            }
        }
    }
}

//! The component list: what init starts, as plain data inside the verified root file system.
//!
//! The image builder writes it with [`ComponentList::encode`]; init reads it with
//! [`ComponentList::decode`] before it starts anything. The bytes are postcard, bounded by
//! [`MAX_ENCODED_BYTES`], and rejected when anything follows them.

use crate::peripheral::{self, BoardPeripheral};
use crate::policy::Plan;
use crate::policy::system_calls::SystemCalls;
use holdfast_types::ComponentId;
use holdfast_types::component_name::check_name;
use holdfast_types::encoding::{self, EncodingError};
use holdfast_types::uid::{FIRST_APP_UID, FIRST_SERVICE_UID};
use holdfast_types::{KeyId, Version};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Path of the component list in the root file system.
pub const PATH: &str = "/etc/holdfast/components";
/// Version of the encoding; a list with another one is refused.
pub const FORMAT_VERSION: u16 = 13;
/// Largest encoded list in bytes that init will look at.
pub const MAX_ENCODED_BYTES: usize = 64 * 1024;
/// Most components in one image.
pub const MAX_COMPONENTS: usize = 64;

/// Everything init has to know about the image it was started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentList {
    /// Always [`FORMAT_VERSION`].
    pub format_version: u16,
    /// Description of the image.
    pub image: ImageDescription,
    /// Services, in start order.
    pub services: Vec<Service>,
    /// Apps, in start order; what they are granted is said by their packages.
    pub apps: Vec<App>,
    /// Peripherals that the board offers to apps.
    pub peripherals: Vec<BoardPeripheral>,
    /// The one-shot process that looks at a package; there is one where there are apps.
    pub admission: Option<Service>,
}

/// Description of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDescription {
    /// Name from the image manifest.
    pub name: String,
    /// Product from the image manifest; app packages name it, or none.
    pub product: String,
    /// Version from the image manifest.
    pub version: Version,
    /// Board the image was made for.
    pub board: String,
    /// KiB of memory of the machine that the image was made for.
    pub memory_kib: u32,
    /// Host name the kernel is given.
    pub hostname: String,
    /// Seconds since 1970: no clock on this device may show less.
    pub build_time: u64,
    /// True unless the image was built with `--production`.
    pub development: bool,
    /// The app that waits for a debugger when it is started; none but in development images.
    pub debugged: Option<String>,
    /// True where the board has a TPM.
    pub has_tpm: bool,
}

/// A service of the OS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Unique; lower-case letters, digits and `-`.
    pub name: String,
    /// Uid and gid it runs with; unique.
    pub uid: u32,
    /// Everything it is given.
    pub plan: Plan,
}

/// An app that the image admits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Name of the component, unique; made from the name in the manifest.
    pub name: String,
    /// Id by which packages, storage and floor belong to the app.
    pub component_id: ComponentId,
}

/// An error of a component list.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ComponentListError {
    /// Longer than [`MAX_ENCODED_BYTES`].
    #[error("component list is {0} bytes long, more than {MAX_ENCODED_BYTES}")]
    TooLong(usize),
    /// Not the bytes of a component list.
    #[error("component list cannot be decoded")]
    Malformed(#[from] EncodingError),
    /// Written for another init.
    #[error("component list has format version {0}, not {FORMAT_VERSION}")]
    FormatVersion(u16),
    /// More than [`MAX_COMPONENTS`].
    #[error("component list has {0} components, more than {MAX_COMPONENTS}")]
    TooMany(usize),
    /// Apps, and nothing to look at their packages with.
    #[error("component list has apps, but no admission")]
    NoAdmission,
    /// A peripheral of the board breaks a rule.
    #[error("a peripheral of the board: {0}")]
    Peripheral(&'static str),
    /// A debugger where none may be.
    #[error("debugging: {0}")]
    Debugging(&'static str),
    /// A field of one component holds what it may not.
    #[error("component `{component}`: {field}: {reason}")]
    Field {
        /// Name of the component, as found.
        component: String,
        /// The offending field.
        field: &'static str,
        /// The rule that the field breaks.
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
        let bytes = encoding::encode(self)?;
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
        let list: Self = encoding::decode(bytes)?;
        list.validate()?;
        Ok(list)
    }

    /// No production image has a service that may trace.
    fn validate_debugging(&self) -> Result<(), ComponentListError> {
        let refuse = |reason| Err(ComponentListError::Debugging(reason));
        let traces = |service: &Service| service.plan.system_calls == SystemCalls::Debugger;
        match &self.image.debugged {
            None if self.services.iter().chain(&self.admission).any(traces) => {
                refuse("a service traces, but no app is debugged")
            }
            None => Ok(()),
            Some(_) if !self.image.development => refuse("is for development images alone"),
            Some(app) if !self.apps.iter().any(|known| known.name == *app) => {
                refuse("the image has no such app")
            }
            Some(_) => Ok(()),
        }
    }

    fn validate(&self) -> Result<(), ComponentListError> {
        if self.format_version != FORMAT_VERSION {
            return Err(ComponentListError::FormatVersion(self.format_version));
        }
        let count = self.services.len().saturating_add(self.apps.len());
        if count > MAX_COMPONENTS {
            return Err(ComponentListError::TooMany(count));
        }
        self.validate_debugging()?;
        let services = || self.services.iter().chain(&self.admission);
        for (index, service) in services().enumerate() {
            let refuse = |field, reason| {
                Err(ComponentListError::Field { component: service.name.clone(), field, reason })
            };
            if let Err((field, reason)) = service.plan.check() {
                return refuse(field, reason);
            }
            if services().take(index).any(|earlier| earlier.uid == service.uid) {
                return refuse("uid", "used by another component");
            }
            if service.uid < FIRST_SERVICE_UID || service.uid >= FIRST_APP_UID {
                return refuse("uid", "outside the range of services");
            }
        }
        for (index, app) in self.apps.iter().enumerate() {
            if self.apps.iter().take(index).any(|e| e.component_id == app.component_id) {
                return Err(ComponentListError::Field {
                    component: app.name.clone(),
                    field: "component_id",
                    reason: "used by another app",
                });
            }
        }
        let offered = &self.peripherals;
        if offered.len() > peripheral::MAX_OFFERED {
            return Err(ComponentListError::Peripheral("there are more than 64"));
        }
        for (index, peripheral) in offered.iter().enumerate() {
            peripheral.check().map_err(ComponentListError::Peripheral)?;
            if offered.iter().take(index).any(|earlier| earlier.name == peripheral.name) {
                return Err(ComponentListError::Peripheral("a name is there twice"));
            }
        }
        if !self.apps.is_empty() && self.admission.is_none() {
            return Err(ComponentListError::NoAdmission);
        }
        let names: Vec<&String> =
            services().map(|s| &s.name).chain(self.apps.iter().map(|a| &a.name)).collect();
        for (index, name) in names.iter().enumerate() {
            let refuse = |reason| {
                let component = (*name).clone();
                Err(ComponentListError::Field { component, field: "name", reason })
            };
            if let Err(reason) = check_name(name) {
                return refuse(reason);
            }
            if names.iter().take(index).any(|earlier| earlier == name) {
                return refuse("used by another component");
            }
        }
        Ok(())
    }
}

/// One of an app's packages on the `apps` partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The update agent writes it; nobody looks at it.
    Unfinished,
    /// On trial, with so many tries left.
    Trial(u8),
    /// In use.
    Current,
    /// The one before, for the day on which the current one cannot be used.
    Previous,
}

impl Stored {
    /// File of an app's package on the `apps` partition.
    #[must_use]
    pub fn file(self, id: ComponentId) -> String {
        match self {
            Self::Unfinished => format!("{id}.unfinished"),
            Self::Trial(tries) => format!("{id}.trial-{tries}"),
            Self::Current => format!("{id}.package"),
            Self::Previous => format!("{id}.previous"),
        }
    }
}

/// The step that init takes with an app's packages when a block of the one in use does not fit its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// The damaged one was on trial: it goes, and the current one is started.
    GiveUpTrial,
    /// The one before takes the place of the current one.
    FallBack,
    /// There is nothing better: what there is stays, and the app is not started again.
    Stay,
}

impl Recovery {
    /// Chooses the step. `on_trial`: the damaged package is on trial. `previous_may_run`: there is a package before it,
    /// and
    /// admission would take that.
    ///
    /// A package that could not run takes no other's place: with the one before below the floor, a release that mends
    /// the current one would find nothing to be made of.
    #[must_use]
    pub fn of(on_trial: bool, previous_may_run: impl FnOnce() -> bool) -> Self {
        if on_trial {
            return Self::GiveUpTrial;
        }
        if previous_may_run() { Self::FallBack } else { Self::Stay }
    }
}

/// Directory of [`trusted_key_path`].
pub const TRUSTED_KEYS: &str = "/etc/holdfast/trust/app/";

/// Returns the path in the verified root of a public key for app packages. The file's name says
/// when it is a development key.
#[must_use]
pub fn trusted_key_path(id: KeyId, development: bool) -> String {
    let suffix = if development { "development.pub" } else { "pub" };
    format!("{TRUSTED_KEYS}{id}.{suffix}")
}

/// Returns the path in the verified root of a seccomp program of a set; programs are applied in their order.
#[must_use]
pub fn filter_path(set: SystemCalls, order: usize) -> String {
    format!("/usr/lib/holdfast/seccomp/{}-{order}.bpf", set.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;
    use proptest::prelude::*;

    fn service(name: &str, uid: u32) -> Service {
        Service {
            name: name.to_owned(),
            uid,
            plan: policy::admission_plan("a", "/usr/lib/holdfast/a"),
        }
    }

    fn list(services: Vec<Service>) -> ComponentList {
        ComponentList {
            format_version: FORMAT_VERSION,
            image: ImageDescription {
                name: "hello".to_owned(),
                product: "hello".to_owned(),
                version: Version { major: 1, minor: 0, patch: 0 },
                board: "qemu-virt".to_owned(),
                memory_kib: 65_536,
                hostname: "holdfast".to_owned(),
                build_time: 1_700_000_000,
                development: true,
                debugged: None,
                has_tpm: false,
            },
            services,
            apps: vec![App { name: "app".to_owned(), component_id: ComponentId([7; 16]) }],
            peripherals: Vec::new(),
            admission: Some(service("admission", 100)),
        }
    }

    fn refused_field(service: Service) -> &'static str {
        match list(vec![service]).encode() {
            Err(ComponentListError::Field { field, .. }) => field,
            other => panic!("expected a refused field, got {other:?}"),
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let list = list(vec![service("hello", 101), service("world", 102)]);
        assert_eq!(ComponentList::decode(&list.encode().unwrap()).unwrap(), list);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = list(vec![service("hello", 101)]).encode().unwrap();
        bytes.push(0);
        assert_eq!(ComponentList::decode(&bytes), Err(EncodingError::TrailingBytes(1).into()));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = list(vec![service("hello", 101)]).encode().unwrap();
        for len in 0..bytes.len() {
            let part = &bytes[..len];
            assert!(ComponentList::decode(part).is_err(), "{len} bytes were accepted");
        }
    }

    #[test]
    fn two_components_cannot_share_a_uid_a_name_or_an_id() {
        assert_eq!(refused_field(service("a", 100)), "uid");
        assert_eq!(refused_field(service("admission", 101)), "name");
        assert_eq!(refused_field(service("app", 101)), "name");
        let mut twice = list(Vec::new());
        twice.apps.push(App { name: "other".to_owned(), component_id: ComponentId([7; 16]) });
        assert!(matches!(
            twice.encode(),
            Err(ComponentListError::Field { field: "component_id", .. })
        ));
    }

    #[test]
    fn powers_and_names_outside_their_bounds_are_refused() {
        assert_eq!(refused_field(service("Root", 101)), "name");
        assert_eq!(refused_field(service("root", 0)), "uid");
        assert_eq!(refused_field(service("service", FIRST_APP_UID)), "uid");
        let mut bad = service("a", 101);
        bad.plan.program = "/bin/../sbin/init".to_owned();
        assert_eq!(refused_field(bad), "program");
        let mut alone = list(Vec::new());
        alone.admission = None;
        assert_eq!(alone.encode(), Err(ComponentListError::NoAdmission));
    }

    #[test]
    fn a_corrupt_package_on_trial_never_displaces_a_good_one() {
        for previous_may_run in [true, false] {
            assert_eq!(Recovery::of(true, || previous_may_run), Recovery::GiveUpTrial);
        }
        assert_eq!(Recovery::of(false, || true), Recovery::FallBack);
        assert_eq!(Recovery::of(false, || false), Recovery::Stay, "nor one that could not run");
    }

    #[test]
    fn nothing_is_debugged_in_production() {
        let with = |development, debugged: Option<&str>| {
            let mut list = list(vec![service("hello", 101)]);
            list.image.development = development;
            list.image.debugged = debugged.map(str::to_owned);
            list
        };
        let app = with(true, None).apps[0].name.clone();
        assert_eq!(with(true, Some(&app)).validate(), Ok(()));
        for wrong in [with(false, Some(&app)), with(true, Some("nobody"))] {
            assert!(matches!(wrong.validate(), Err(ComponentListError::Debugging(_))));
        }
        let mut tracing = with(true, None);
        tracing.services[0].plan.system_calls = SystemCalls::Debugger;
        assert!(matches!(tracing.validate(), Err(ComponentListError::Debugging(_))));
    }

    proptest! {
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
            let mut bytes = list(vec![service("hello", 101)]).encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(list) = ComponentList::decode(&bytes) {
                prop_assert!(list.validate().is_ok());
            }
        }
    }
}

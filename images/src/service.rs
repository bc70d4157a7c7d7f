//! Services: what one is granted, as the `service.toml` in its directory below `services/` says it, or the
//! `[[services]]` of an image manifest.
//!
//! Both documents have the same fields. Those that belong to the product's own services alone are refused in an image
//! manifest.

use crate::FieldError;
use holdfast_sandbox::app_manifest::Limits;
use holdfast_sandbox::policy::Requests;
use holdfast_types::component_name::check_name;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// Directory of the services in the root file system.
pub const DIRECTORY: &str = "usr/lib/holdfast/services";

/// One service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Component name.
    pub name: String,
    /// Cargo package that has the program.
    pub package: String,
    /// Cargo features of that package which the service is made of. A package of which any service names some is built
    /// with those that its services in the image name, and without its default ones.
    #[serde(default)]
    pub features: Vec<String>,
    /// Further cargo features of that package, by the part of an image manifest with which they come.
    #[serde(default)]
    pub features_with: BTreeMap<Part, Vec<String>>,
    /// Binary of that package; on the device, it has the service's name.
    pub binary: String,
    /// Arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Milliseconds within which the service must send `READY=1`; without the field, it is ready at once.
    pub ready_within_ms: Option<u32>,
    /// Milliseconds within which the service must send `WATCHDOG=1`, again and again.
    pub watchdog_ms: Option<u32>,
    /// A slot is committed only if this service gets ready and stays so.
    #[serde(default)]
    pub critical: bool,
    /// Device nodes that the service is handed.
    #[serde(default)]
    pub descriptors: Vec<String>,
    /// Capabilities that the service keeps, by name.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Requests that the service may send to init.
    #[serde(default)]
    pub requests: Requests,
    /// The service sees the system's root and processes instead of a root of its own; for services of development
    /// images.
    #[serde(default)]
    pub system_view: bool,
    /// Resource limits.
    #[serde(default)]
    pub limits: Limits,
    /// The service exists in development images only; `image build --production` refuses it.
    #[serde(default)]
    pub test_only: bool,
    /// Uid of a service of the product's own, the same in every image.
    pub uid: Option<u32>,
    /// Parts of an image manifest with any of which a service of the product's own comes.
    #[serde(default)]
    pub with: Vec<Part>,
    /// True of a one-shot process: init starts one for each question that it has.
    #[serde(default)]
    pub one_shot: bool,
    /// The service is in the system's network namespace, and may configure it by netlink.
    #[serde(default)]
    pub system_network: bool,
    /// Whom it reaches through a veth pair of its own.
    #[serde(default)]
    pub reaches: Vec<Reach>,
    /// The service has a directory of the `state` partition.
    #[serde(default)]
    pub state: bool,
    /// The service may write the `apps` partition, which has the app packages.
    #[serde(default)]
    pub app_store: bool,
    /// The service may trace an app (`ptrace`).
    #[serde(default)]
    pub debugger: bool,
    /// The file that says this, and what stands before its fields there.
    #[serde(skip)]
    pub(crate) said_in: (PathBuf, String),
}

/// A part of an image manifest with which services of the product's own come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Apps, now or later.
    Apps,
    /// `[network]`.
    Network,
    /// `[update]`.
    Update,
    /// An app that is debugged.
    Debug,
    /// `[service]`.
    Service,
    /// `[service]`, unless it has `reports = false`.
    Reports,
}

/// Destinations that a service reaches on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// The servers of `[update]`.
    UpdateServers,
    /// The service of `[service]`.
    Service,
}

impl Service {
    /// The program, below the root of the verified file system.
    #[must_use]
    pub fn program_path(&self) -> String {
        format!("{DIRECTORY}/{0}/{0}", self.name)
    }

    /// A file beside its program, below the root of the verified file system.
    pub(crate) fn file_path(&self, name: &str) -> String {
        format!("{DIRECTORY}/{}/{name}", self.name)
    }

    /// Returns the error for a service whose package has no such program; `there` are those that it has.
    #[must_use]
    pub fn no_binary(&self, there: &str) -> FieldError {
        let Self { package, binary, .. } = self;
        self.refused(
            "binary",
            format!("package {package} has no program `{binary}`; it has {there}"),
        )
    }

    pub(crate) fn refused(&self, field: &str, reason: impl Into<String>) -> FieldError {
        let (path, prefix) = &self.said_in;
        FieldError { path: path.clone(), field: format!("{prefix}{field}"), reason: reason.into() }
    }

    /// Checks what stands in an image manifest.
    pub(crate) fn check_in_manifest(&self) -> Result<(), FieldError> {
        let own = [
            ("uid", self.uid.is_some()),
            ("with", !self.with.is_empty()),
            ("features_with", !self.features_with.is_empty()),
            ("one_shot", self.one_shot),
            ("system_network", self.system_network),
            ("reaches", !self.reaches.is_empty()),
            ("state", self.state),
            ("app_store", self.app_store),
            ("debugger", self.debugger),
        ];
        if let Some((field, _)) = own.into_iter().find(|(_, said)| *said) {
            return Err(self.refused(field, "is for services of the product's own; leave it out"));
        }
        self.check()
    }

    /// Checks what holds wherever it stands.
    pub(crate) fn check(&self) -> Result<(), FieldError> {
        check_name(&self.name).map_err(|reason| self.refused("name", reason))?;
        if self.system_view && !self.test_only {
            return Err(self.refused("system_view", "is for services that are `test_only`"));
        }
        self.limits
            .check()
            .map_err(|name| self.refused("limits", format!("{name} is out of its bounds")))?;
        self.capability_numbers().map(drop)
    }

    /// The numbers of its capabilities.
    pub(crate) fn capability_numbers(&self) -> Result<Vec<u8>, FieldError> {
        let number = |name: &String| {
            caps::Capability::from_str(name).map(|found| found.index()).map_err(|_| {
                let reason = format!("`{name}` is no capability; write it as in CAP_NET_ADMIN");
                self.refused("capabilities", reason)
            })
        };
        self.capabilities.iter().map(number).collect()
    }
}

//! Services: what one is granted, as the `service.toml` in its directory below `services/` says it, or the
//! `[[services]]` of an image manifest.
//!
//! Both have the same fields. Those that belong to the product's own services alone are refused in an image manifest.

use crate::board::{Board, TEST_LINE};
use crate::document;
use crate::manifest::{ImageManifest, ManifestError, read_text};
use crate::{FieldError, FileError};
use holdfast_sandbox::app_manifest::Limits;
use holdfast_sandbox::component;
use holdfast_sandbox::network::NetworkGrants;
use holdfast_sandbox::policy::{self, Requests, ServiceGrants};
use holdfast_types::component_name::check_name;
use holdfast_types::uid::FIRST_SERVICE_UID;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Directory of the services in the root file system.
pub const DIRECTORY: &str = "usr/lib/holdfast/services";
/// File with what a service is granted, in its directory.
pub const FILE_NAME: &str = "service.toml";
/// Uids from this one up belong to the services of image manifests, in their order; those below to the product's own.
const FIRST_UID_OF_MANIFESTS: u32 = FIRST_SERVICE_UID + 100;

/// One service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Component name.
    pub name: String,
    /// Cargo package that has the program.
    pub package: String,
    /// Binary of that package; on the device, it has the service's name.
    pub binary: String,
    /// Arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Milliseconds within which it must say that it is ready; without it, it is ready at once.
    pub ready_within_ms: Option<u32>,
    /// Milliseconds within which it must show that it is alive, again and again.
    pub watchdog_ms: Option<u32>,
    /// A release is good only if it gets ready and stays so.
    #[serde(default)]
    pub critical: bool,
    /// Device nodes it is handed.
    #[serde(default)]
    pub descriptors: Vec<String>,
    /// Capabilities it keeps, by name.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// What it may ask init for.
    #[serde(default)]
    pub requests: Requests,
    /// It sees the whole system instead of a root of its own; for services of development images.
    #[serde(default)]
    pub system_view: bool,
    /// What it may use at most.
    #[serde(default)]
    pub limits: Limits,
    /// It exists in development images only; `image build --production` refuses it.
    #[serde(default)]
    pub test_only: bool,
    /// Of a service of the product's own: the uid that it has in every image.
    pub uid: Option<u32>,
    /// Of a service of the product's own: parts of an image manifest, any of which it comes with.
    #[serde(default)]
    pub with: Vec<Part>,
    /// It is no service that runs, but a process for each question that init has.
    #[serde(default)]
    pub one_shot: bool,
    /// It sees the system's network, and may ask the kernel to change it.
    #[serde(default)]
    pub system_network: bool,
    /// Whom it reaches through a link of its own.
    pub reaches: Option<Reach>,
    /// It keeps something on `state`.
    #[serde(default)]
    pub state: bool,
    /// It writes app packages.
    #[serde(default)]
    pub app_store: bool,
    /// It traces an app.
    #[serde(default)]
    pub debugger: bool,
    /// The file that says this, and what stands before its fields there.
    #[serde(skip)]
    pub(crate) said_in: (PathBuf, String),
}

/// A part of an image manifest with which services of the product's own come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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
}

/// Whom a service reaches on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// The servers of `[update]`.
    UpdateServers,
}

impl Part {
    /// True where the manifest has it.
    fn is_in(self, manifest: &ImageManifest, has_apps: bool) -> bool {
        match self {
            Self::Apps => has_apps || manifest.later_apps().next().is_some(),
            Self::Network => manifest.network.is_some(),
            Self::Update => manifest.update.is_some(),
            Self::Debug => manifest.debugged.is_some(),
        }
    }
}

/// The services of the product's own, each in a directory below `directory`, in the order of their uids.
///
/// # Errors
/// A `service.toml` cannot be read, or a field of it holds what it may not.
pub fn load_all(directory: &Path) -> Result<Vec<Service>, ManifestError> {
    let failed = |error| ManifestError::File(FileError::at("list", directory)(error));
    let mut services = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path().join(FILE_NAME);
        if path.is_file() {
            services.push(load(&path)?);
        }
    }
    services.sort_by_key(|service: &Service| service.uid);
    for pair in services.windows(2) {
        if let [first, second] = pair
            && first.uid == second.uid
        {
            let reason = format!("is that of `{}` as well; take another one", first.name);
            return Err(second.refused("uid", reason).into());
        }
    }
    Ok(services)
}

fn load(path: &Path) -> Result<Service, ManifestError> {
    let text = read_text(path)?;
    let mut service: Service = toml::from_str(&text).map_err(|error| ManifestError::Toml {
        path: path.to_owned(),
        complaint: document::complaint(&text, &error),
    })?;
    service.said_in = (path.to_owned(), String::new());
    let directory = path.parent().and_then(Path::file_name).unwrap_or_default();
    if directory != service.name.as_str() {
        let reason = format!("must be that of its directory, `{}`", directory.display());
        return Err(service.refused("name", reason).into());
    }
    let uids = FIRST_SERVICE_UID..FIRST_UID_OF_MANIFESTS;
    if !service.uid.is_some_and(|uid| uids.contains(&uid)) {
        let most = uids.end.saturating_sub(1);
        let reason = format!("must be from {} to {most}, and no other service's", uids.start);
        return Err(service.refused("uid", reason).into());
    }
    if service.with.is_empty() {
        let reason = "must name a part of image manifests that it comes with: \"apps\", \"network\", \"update\" or \"debug\"";
        return Err(service.refused("with", reason).into());
    }
    service.check()?;
    Ok(service)
}

/// The services of an image: those of the product's own that it needs, in the order of their uids, then its
/// manifest's.
#[must_use]
pub fn of_image(own: &[Service], manifest: &ImageManifest, has_apps: bool) -> Vec<Service> {
    let needed = |service: &&Service| service.with.iter().any(|p| p.is_in(manifest, has_apps));
    let mut services: Vec<Service> = own.iter().filter(needed).cloned().collect();
    for service in services.iter_mut().filter(|service| service.debugger) {
        service.args.extend(manifest.debugged.clone());
    }
    services.extend(manifest.services.iter().cloned());
    services
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

    /// What is wrong where its package has no such program; `there` are those that it has.
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
            ("one_shot", self.one_shot),
            ("system_network", self.system_network),
            ("reaches", self.reaches.is_some()),
            ("state", self.state),
            ("app_store", self.app_store),
            ("debugger", self.debugger),
        ];
        if let Some((field, _)) = own.into_iter().find(|(_, said)| *said) {
            return Err(self.refused(field, "is for services of the product's own; leave it out"));
        }
        self.check()
    }

    fn check(&self) -> Result<(), FieldError> {
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
    fn capability_numbers(&self) -> Result<Vec<u8>, FieldError> {
        let number = |name: &String| {
            caps::Capability::from_str(name).map(|found| found.index()).map_err(|_| {
                let reason = format!("`{name}` is no capability; write it as in CAP_NET_ADMIN");
                self.refused("capabilities", reason)
            })
        };
        self.capabilities.iter().map(number).collect()
    }

    /// What init is told of it. `uid` is for a service of an image manifest.
    pub(crate) fn component(
        &self,
        manifest: &ImageManifest,
        board: &Board,
        uid: u32,
    ) -> Result<component::Service, FieldError> {
        let directory = format!("/{DIRECTORY}/{}", self.name);
        let plan = if self.one_shot {
            let plan = policy::admission_plan(&self.name, &directory);
            policy::Plan { limits: self.limits, ..plan }
        } else {
            policy::service_plan(&ServiceGrants {
                args: self.args.clone(),
                capabilities: self.capability_numbers()?,
                descriptors: self.device_nodes(board)?,
                requests: self.requests,
                system_view: self.system_view,
                system_network: self.system_network,
                network: self.network(manifest)?,
                debugger: self.debugger,
                state: self.state,
                app_store: self.app_store,
                limits: self.limits,
                readiness: policy::readiness(self.ready_within_ms),
                watchdog_ms: self.watchdog_ms,
                critical: self.critical,
                ..ServiceGrants::none(&directory, &self.name)
            })
        };
        Ok(component::Service { name: self.name.clone(), uid: self.uid.unwrap_or(uid), plan })
    }

    /// Whom it reaches.
    fn network(&self, manifest: &ImageManifest) -> Result<NetworkGrants, FieldError> {
        match (self.reaches, &manifest.update) {
            (Some(Reach::UpdateServers), Some(update)) => {
                update.grants().map_err(|(field, reason)| FieldError {
                    path: manifest.path.clone(),
                    field: format!("update.{field}"),
                    reason: reason.to_owned(),
                })
            }
            (Some(Reach::UpdateServers) | None, _) => Ok(NetworkGrants::default()),
        }
    }

    /// Its device nodes, the board's line for tests by its own name.
    fn device_nodes(&self, board: &Board) -> Result<Vec<String>, FieldError> {
        let named = |node: &String| match (&board.test_line, node.as_str()) {
            (Some(line), TEST_LINE) => Ok(line.clone()),
            (None, TEST_LINE) => {
                let reason = format!("board {} has no `test_line`", board.name);
                Err(self.refused("descriptors", reason))
            }
            _ => Ok(node.clone()),
        };
        self.descriptors.iter().map(named).collect()
    }
}

/// The services with what init is told of each: those that run, and the one that looks at packages.
pub(crate) fn components<'a>(
    services: impl Iterator<Item = &'a Service>,
    manifest: &ImageManifest,
    board: &Board,
) -> Result<(Vec<component::Service>, Option<component::Service>), FieldError> {
    let (mut running, mut admission) = (Vec::new(), None);
    let mut uid = FIRST_UID_OF_MANIFESTS;
    for service in services {
        let component = service.component(manifest, board, uid)?;
        if service.uid.is_none() {
            uid = uid.saturating_add(1);
        }
        if service.one_shot {
            admission = Some(component);
        } else {
            running.push(component);
        }
    }
    Ok((running, admission))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::GOOD;

    fn own() -> Vec<Service> {
        load_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../services")).unwrap()
    }

    fn manifest(more: &str) -> ImageManifest {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.toml");
        fs::write(&path, format!("{GOOD}{more}")).unwrap();
        ImageManifest::load(&path).unwrap()
    }

    fn refusal(text: &str) -> String {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("meter");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join(FILE_NAME), text).unwrap();
        load_all(scratch.path()).expect_err("was accepted").to_string()
    }

    #[test]
    fn an_image_has_the_services_that_it_needs() {
        let names = |manifest: &ImageManifest, has_apps| -> Vec<String> {
            of_image(&own(), manifest, has_apps).into_iter().map(|service| service.name).collect()
        };
        assert_eq!(names(&manifest(""), false), Vec::<String>::new());
        assert_eq!(names(&manifest(""), true), ["admission"]);
        assert_eq!(names(&manifest("[network]\n"), true), ["admission", "network"]);
        let update = "[network]\n[update]\nos = { url = \"https://a.example.com/os\" }\n";
        let all = ["admission", "network", "uplink", "update"];
        assert_eq!(names(&manifest(update), false), all);
        let mut debugged = manifest("");
        debugged.debugged = Some("hello".to_owned());
        let services = of_image(&own(), &debugged, true);
        assert_eq!(services.last().unwrap().args, ["hello"]);
    }

    #[test]
    fn what_a_service_file_says_wrong_is_named_with_the_remedy() {
        let good =
            "name = \"meter\"\npackage = \"p\"\nbinary = \"b\"\nuid = 150\nwith = [\"apps\"]\n";
        let changed = |from: &str, to: &str| {
            assert!(good.contains(from));
            refusal(&good.replace(from, to))
        };
        let name = changed("\"meter\"", "\"other\"");
        assert!(
            name.ends_with("service.toml: name: must be that of its directory, `meter`"),
            "{name}"
        );
        let uid = changed("150", "7");
        assert!(uid.contains("uid: must be from 100 to 199"), "{uid}");
        let with = changed("with = [\"apps\"]\n", "");
        assert!(with.contains("with: must name a part of image manifests"), "{with}");
        let capability = refusal(&format!("{good}capabilities = [\"CAP_FLY\"]\n"));
        assert!(capability.contains("capabilities: `CAP_FLY` is no capability"), "{capability}");
        let view = refusal(&format!("{good}system_view = true\n"));
        assert!(view.contains("system_view: is for services that are `test_only`"), "{view}");
        let limits = refusal(&format!("{good}[limits]\nprocesses = 0\n"));
        assert!(limits.contains("limits: Processes is out of its bounds"), "{limits}");
    }

    #[test]
    fn no_two_services_have_one_uid_and_none_is_an_image_manifests() {
        let services = own();
        assert!(services.len() >= 5);
        for (index, service) in services.iter().enumerate() {
            let uid = service.uid.unwrap();
            assert!(services[..index].iter().all(|earlier| earlier.uid != Some(uid)));
            assert!((FIRST_SERVICE_UID..FIRST_UID_OF_MANIFESTS).contains(&uid), "{}", service.name);
        }
    }

    #[test]
    fn an_image_manifest_grants_nothing_that_is_the_products_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.toml");
        let service = "[[services]]\nname = \"a\"\npackage = \"p\"\nbinary = \"b\"\n";
        for field in ["uid = 150", "state = true", "app_store = true", "system_network = true"] {
            fs::write(&path, format!("{GOOD}{service}{field}\n")).unwrap();
            let refused = ImageManifest::load(&path).expect_err("was accepted").to_string();
            let name = field.split(' ').next().unwrap();
            let expected = format!("services[0].{name}: is for services of the product's own");
            assert!(refused.contains(&expected), "{refused}");
        }
    }
}

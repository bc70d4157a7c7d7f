//! The image manifest: which board, services and apps make one image.

mod network;
mod security_service;
mod update;

use crate::document::{self, DocumentError};
use crate::service::Service;
use crate::{FieldError, FileError};
use holdfast_sandbox::component::App;
use holdfast_sandbox::package::ShortName;
use holdfast_types::{CatalogId, ComponentId, Version};
pub use network::{AddressingSource, InterfaceSource, NetworkSource};
pub use security_service::SecurityServiceSource;
use serde::Deserialize;
use std::path::{Path, PathBuf};
pub use update::{RepositorySource, UpdateSource};

/// A checked image manifest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageManifest {
    /// Always 1.
    pub schema: u32,
    /// Name of the image: lower-case letters, digits and `-`.
    pub name: String,
    /// Version of the image, `major.minor.patch`.
    pub version: String,
    /// Name of a board that the builder knows.
    pub board: String,
    /// Host name of the device.
    #[serde(default = "default_hostname")]
    pub hostname: String,
    /// Memory of the machine in MiB, for a board without memory of its own.
    pub memory_mib: u32,
    /// Product that the image is of; app packages name it, or none. The image's name unless said.
    #[serde(default)]
    pub product: String,
    /// A number that only grows from release to release: a device refuses one below what it has
    /// committed.
    #[serde(default)]
    pub rollback_index: u32,
    /// Apps, in start order.
    #[serde(default, rename = "app")]
    pub apps: Vec<AppSource>,
    /// Keys that the device trusts.
    #[serde(default)]
    pub trust: Trust,
    /// Services of the OS.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Sources of releases; without it the device takes none.
    pub update: Option<UpdateSource>,
    /// The service that the device checks in with; without it the device has no identity.
    pub service: Option<SecurityServiceSource>,
    /// The network; without it no device is switched on, and no app can be granted a connection.
    pub network: Option<NetworkSource>,
    /// Room for each slot.
    pub slots: Slots,
    /// Room for what is written on the device.
    pub storage: Storage,
    /// Path that the manifest was read from.
    #[serde(skip)]
    pub path: PathBuf,
    /// The app that is debugged; never said in the file.
    #[serde(skip)]
    pub debugged: Option<String>,
}

/// An app of the image.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSource {
    /// App directory, or app package, relative to the manifest.
    pub path: Option<PathBuf>,
    /// Component id of an app that comes later, by `image append-app` or as a release.
    pub component_id: Option<String>,
    /// Name of such an app on the device.
    pub name: Option<String>,
}

/// Keys that the device trusts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Public keys for app packages: PEM files, relative to the manifest.
    #[serde(default)]
    pub app_keys: Vec<PathBuf>,
    /// Public keys of the boot loader, RSA-3072; this checkout's development keys when not given.
    pub boot: Option<BootTrust>,
}

/// Keys of the boot loader: PEM files, relative to the manifest. A slot that one of them has signed is
/// booted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootTrust {
    /// Key that releases are signed with.
    pub current: PathBuf,
    /// Key that releases will be signed with after a rotation.
    pub next: PathBuf,
    /// Key that is kept away from both, for the day on which both are lost.
    pub recovery: PathBuf,
}

/// Room for one slot, in MiB.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// Kernel and device tree.
    pub boot_mib: u32,
    /// Root file system with its verity tree.
    pub root_mib: u32,
}

/// Room for the writable partitions, in MiB.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// State of init and the services.
    pub state_mib: u32,
    /// App packages.
    pub apps_mib: u32,
    /// Storage of apps.
    pub data_mib: u32,
}

/// Reads the text of a document that a person has written; a byte order mark in front of it is left out.
pub(crate) fn read_text(path: &Path) -> Result<String, ManifestError> {
    let bytes = document::read(path, document::MAX_BYTES)?;
    let refuse = |reason: &str| FieldError {
        path: path.to_owned(),
        field: "encoding".to_owned(),
        reason: reason.to_owned(),
    };
    let wide = match bytes.as_slice() {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        // A letter of ASCII has a zero beside it.
        [first, second, ..] => (*first == 0) != (*second == 0),
        _ => false,
    };
    if wide {
        return Err(refuse("is UTF-16; save it as UTF-8").into());
    }
    let text = String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8; save it as UTF-8"))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn default_hostname() -> String {
    "holdfast".to_owned()
}

/// An error of an image manifest or a board's file.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The document cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The document is no TOML, or not of the right shape; the message names line and field.
    #[error("{}: {complaint}", path.display())]
    Toml {
        /// Path of the document.
        path: PathBuf,
        /// Message with the line as far as it can be shown.
        complaint: String,
    },
    /// A directory cannot be listed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value is out of bounds.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There is no board of the name that `--board` gives.
    #[error("--board: {0}")]
    NoBoard(String),
}

impl ImageManifest {
    /// Reads and checks the manifest at `path`.
    ///
    /// # Errors
    /// Unreadable, not TOML, an unknown or missing field, or a value out of bounds.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let text = read_text(path)?;
        let mut manifest: Self = toml::from_str(&text).map_err(|error| ManifestError::Toml {
            path: path.to_owned(),
            complaint: document::complaint(&text, &error),
        })?;
        manifest.path = path.to_owned();
        for (index, service) in manifest.services.iter_mut().enumerate() {
            service.said_in = (path.to_owned(), format!("services[{index}]."));
        }
        if manifest.product.is_empty() {
            manifest.product.clone_from(&manifest.name);
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Returns the apps that the image starts and does not have yet.
    pub fn later_apps(&self) -> impl Iterator<Item = App> + '_ {
        self.apps.iter().filter_map(|app| {
            let component_id = ComponentId::parse(app.component_id.as_ref()?)?;
            Some(App { name: app.name.clone()?, component_id })
        })
    }

    /// Returns app directories and packages, with the manifest's own directory in front.
    pub fn app_paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.apps.iter().filter_map(|app| app.path.as_ref()).map(|path| self.beside(path))
    }

    /// Returns the public keys of the boot loader: current, next, recovery; `None` where the manifest names none.
    #[must_use]
    pub fn boot_key_paths(&self) -> Option<[PathBuf; 3]> {
        let BootTrust { current, next, recovery } = self.trust.boot.as_ref()?;
        Some([current, next, recovery].map(|path| self.beside(path)))
    }

    /// Returns the paths of trusted public keys, with the manifest's own directory in front.
    pub fn app_key_paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.trust.app_keys.iter().map(|key| self.beside(key))
    }

    /// Returns the version as numbers; it was checked when the manifest was loaded.
    #[must_use]
    pub fn version_number(&self) -> Version {
        self.version.parse().unwrap_or_default()
    }

    /// Returns a path that the manifest names, with the manifest's own directory in front.
    #[must_use]
    pub fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Returns the catalog that the image's devices belong to, where they have a service.
    #[must_use]
    pub fn catalog(&self) -> Option<CatalogId> {
        self.service.as_ref().and_then(|service| service.catalog_id().ok())
    }

    /// Has the device check in with another service than the manifest's, or with one where it has none.
    ///
    /// # Errors
    /// As [`load`](Self::load), of `[service]`.
    pub fn set_service(&mut self, service: SecurityServiceSource) -> Result<(), FieldError> {
        self.service = Some(service);
        self.check_service()
    }

    fn check_service(&self) -> Result<(), FieldError> {
        let Some(service) = &self.service else { return Ok(()) };
        let refused = |field: &str, reason: &str| FieldError {
            path: self.path.clone(),
            field: field.to_owned(),
            reason: reason.to_owned(),
        };
        if self.network.is_none() {
            return Err(refused("service", "needs the network; add `[network]`"));
        }
        let checked = service.check(self.apps.len());
        checked.map_err(|(field, reason)| {
            let field = format!("service.{field}");
            refused(field.trim_end_matches('.'), reason)
        })
    }

    fn check(&self) -> Result<(), FieldError> {
        let refuse = |field: &str, reason: &str| {
            Err(FieldError {
                path: self.path.clone(),
                field: field.to_owned(),
                reason: reason.to_owned(),
            })
        };
        if self.schema != 1 {
            return refuse("schema", "must be 1");
        }
        if let Err(reason) = holdfast_types::component_name::check_name(&self.name) {
            return refuse("name", reason);
        }
        if let Err(reason) = holdfast_types::component_name::check_name(&self.hostname) {
            return refuse("hostname", reason);
        }
        if let Err(error) = self.version.parse::<Version>() {
            return refuse("version", &error.to_string());
        }
        if ShortName::new(&self.product).is_none() {
            return refuse("product", "must be at most 32 lower-case letters, digits and `-`");
        }
        for (field, mib, least) in [
            ("memory_mib", self.memory_mib, 32),
            ("slots.boot_mib", self.slots.boot_mib, 4),
            ("slots.root_mib", self.slots.root_mib, 4),
            ("storage.state_mib", self.storage.state_mib, 4),
            ("storage.apps_mib", self.storage.apps_mib, 4),
            ("storage.data_mib", self.storage.data_mib, 4),
        ] {
            if mib < least || mib > 2048 || mib % 4 != 0 {
                let reason = format!("must be a multiple of 4 from {least} to 2048");
                return refuse(field, &reason);
            }
        }
        for (index, app) in self.apps.iter().enumerate() {
            let field = |name: &str| format!("app[{index}]{name}");
            match (&app.path, &app.component_id, &app.name) {
                (Some(_), None, None) => {}
                (None, Some(id), Some(name)) => {
                    if ComponentId::parse(id).is_none() {
                        return refuse(&field(".component_id"), "must be a GUID");
                    }
                    if let Err(reason) = holdfast_types::component_name::check_name(name) {
                        return refuse(&field(".name"), reason);
                    }
                }
                _ => {
                    let reason =
                        "must have `path`, or `component_id` and `name` of an app that comes later";
                    return refuse(&field(""), reason);
                }
            }
        }
        if let Some(network) = &self.network
            && let Err((field, reason)) = network.config()
        {
            return refuse(&format!("network.{field}"), reason);
        }
        if let Some(update) = &self.update {
            if self.network.is_none() {
                return refuse("update", "needs the network; add `[network]`");
            }
            if let Err((field, reason)) = update.check() {
                return refuse(&format!("update.{field}"), reason);
            }
        }
        self.check_service()?;
        self.services.iter().try_for_each(Service::check_in_manifest)?;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::error::Error;
    use std::fs;

    /// A manifest with what every one must have, and nothing else.
    pub(crate) const GOOD: &str = r#"
schema = 1
name = "first"
version = "0.1.0"
board = "qemu-virt"
memory_mib = 64
[slots]
boot_mib = 8
root_mib = 8
[storage]
state_mib = 8
apps_mib = 32
data_mib = 16
"#;

    pub(crate) fn load(text: &str) -> Result<ImageManifest, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.toml");
        fs::write(&path, text).unwrap();
        ImageManifest::load(&path).map_err(|error| error.to_string())
    }

    fn refusal(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from));
        load(&GOOD.replace(from, to)).expect_err("was accepted")
    }

    #[test]
    fn a_whole_manifest_is_read() {
        let manifest = load(GOOD).unwrap();
        assert_eq!(manifest.hostname, "holdfast");
        assert_eq!(manifest.slots.boot_mib, 8);
    }

    #[test]
    fn a_refusal_names_file_field_and_remedy() {
        let message = refusal("version = \"0.1.0\"", "version = \"one\"");
        assert!(message.contains("image.toml: version: must be three numbers"), "{message}");
        let message = refusal("boot_mib = 8", "boot_mib = 7");
        assert!(message.contains("slots.boot_mib: must be a multiple of 4"), "{message}");
        let message = refusal("memory_mib = 64", "memory_mb = 64");
        assert!(message.contains("image.toml") && message.contains("memory_mb"), "{message}");
        let message = refusal("schema = 1", "schema = 2");
        assert!(message.contains("schema: must be 1"), "{message}");
    }

    #[test]
    fn a_fault_of_the_text_is_said_once_and_a_manifest_has_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.toml");
        let refusal = |text: &str| {
            fs::write(&path, text).unwrap();
            ImageManifest::load(&path).unwrap_err()
        };
        let error = refusal("schema = \n");
        assert!(error.source().is_none() && error.to_string().contains("image.toml: line 1"));
        let error = refusal(&format!("{GOOD}#{}", " ".repeat(document::MAX_BYTES)));
        assert!(error.to_string().ends_with("image.toml: is longer than 65536 bytes"), "{error}");
        let error = ImageManifest::load(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.starts_with("/dev/zero: is no regular file"), "{error}");
    }

    #[test]
    fn an_empty_list_does_not_stand_for_what_a_missing_one_does() {
        for (table, field) in [
            ("network", "name_servers"),
            ("network", "time_servers"),
            ("update.os]\nurl = \"https://a.example/os\"\n[update", "authorities"),
        ] {
            let text = format!("{GOOD}[{table}]\n{field} = []\n");
            let message = load(&text).unwrap_err();
            assert!(message.contains(field) && message.contains("at least one"), "{message}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_other_encodings_are_named() {
        load(&format!("\u{feff}{GOOD}")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.toml");
        let wide: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [[b"\xff\xfe".as_slice(), &wide].concat(), wide] {
            fs::write(&path, bytes).unwrap();
            let message = ImageManifest::load(&path).unwrap_err().to_string();
            assert!(
                message.ends_with("image.toml: encoding: is UTF-16; save it as UTF-8"),
                "{message}"
            );
        }
        fs::write(&path, b"# M\xfcller\n").unwrap();
        let message = ImageManifest::load(&path).unwrap_err().to_string();
        assert!(message.ends_with("is not UTF-8; save it as UTF-8"), "{message}");
    }

    #[test]
    fn an_unknown_capability_is_named() {
        let service = "[[services]]\nname = \"a\"\npackage = \"p\"\nbinary = \"b\"\n";
        let message = load(&format!("{GOOD}{service}capabilities = [\"CAP_FLY\"]\n")).unwrap_err();
        assert!(message.contains("services[0].capabilities: `CAP_FLY`"), "{message}");
        load(&format!("{GOOD}{service}capabilities = [\"CAP_SYS_PTRACE\"]\n")).unwrap();
    }

    /// serde names every field that it knows when it meets one that it does not.
    #[test]
    fn the_page_on_image_manifests_names_every_field() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/image_manifest.md");
        let page = fs::read_to_string(page).unwrap();
        for (table, from, to) in [
            ("the manifest", "schema = 1", "schema = 1\nx = 1"),
            ("[[app]]", "[slots]", "[[app]]\nx = 1\n[slots]"),
            ("[trust]", "[slots]", "[trust]\nx = 1\n[slots]"),
            ("[trust.boot]", "[slots]", "[trust.boot]\nx = 1\n[slots]"),
            ("[network]", "[slots]", "[network]\nx = 1\n[slots]"),
            ("[[network.interface]]", "[slots]", "[[network.interface]]\nx = 1\n[slots]"),
            ("[update]", "[slots]", "[update]\nx = 1\n[slots]"),
            ("[update.os]", "[slots]", "[update.os]\nx = 1\n[slots]"),
            ("[service]", "[slots]", "[service]\nx = 1\n[slots]"),
            ("[[services]]", "[slots]", "[[services]]\nx = 1\n[slots]"),
            ("[slots]", "[slots]", "[slots]\nx = 1"),
            ("[storage]", "[storage]", "[storage]\nx = 1"),
        ] {
            let message = refusal(from, to);
            let known = message.split("expected").nth(1).unwrap_or_default();
            let fields: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
            assert!(!fields.is_empty(), "{table}: {message}");
            for field in fields {
                assert!(page.contains(&format!("`{field}`")), "{table} has a field `{field}`");
            }
        }
    }
}

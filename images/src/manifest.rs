//! The image manifest: which board, services and apps make one image.

use crate::document::{self, DocumentError};
use crate::service::Service;
use crate::{FieldError, FileError};
use holdfast_networking::config::{Addressing, Interface, NetworkConfig};
use holdfast_release::RepositoryName;
use holdfast_release::config::Window;
use holdfast_sandbox::component::App;
use holdfast_sandbox::network::{Connection, Destination, NetworkGrants, PortRange, Protocol};
use holdfast_sandbox::package::ShortName;
use holdfast_types::ComponentId;
use holdfast_types::Version;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

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
    /// Whose app packages the device takes.
    #[serde(default)]
    pub trust: Trust,
    /// Services of the OS.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Where releases come from; without it the device takes none.
    pub update: Option<UpdateSource>,
    /// The network; without it no device is switched on, and no app can be granted a connection.
    pub network: Option<NetworkSource>,
    /// Room for each slot.
    pub slots: Slots,
    /// Room for what is written on the device.
    pub storage: Storage,
    /// Where the manifest was read from.
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
    /// Of an app that comes later, by `image append-app` or as a release: its id.
    pub component_id: Option<String>,
    /// What such an app is called on the device.
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
    /// What releases are signed with.
    pub current: PathBuf,
    /// What they will be signed with after a rotation.
    pub next: PathBuf,
    /// Kept away from both, for the day on which both are lost.
    pub recovery: PathBuf,
}

/// Where releases come from, as a person writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateSource {
    /// The repository of the OS.
    pub os: Option<RepositorySource>,
    /// The repository of the OEM's apps.
    pub oem: Option<RepositorySource>,
    /// Certificates of the authorities that may vouch for the servers: PEM files, relative to the manifest.
    /// This checkout's development authority when not given.
    #[serde(default, deserialize_with = "at_least_one")]
    pub authorities: Vec<PathBuf>,
    /// Seconds between two looks for releases.
    #[serde(default = "default_check_every_s")]
    pub check_every_s: u32,
    /// Seconds until the first look after a failure.
    #[serde(default = "default_retry_after_s")]
    pub retry_after_s: u32,
    /// When the device may reboot for an update, each day in UTC, such as `02:00-04:00`; at any time when not
    /// given.
    pub window: Option<String>,
    /// Most MiB that are fetched in a day.
    #[serde(default = "default_mib_a_day")]
    pub mib_a_day: u32,
    /// Most KiB that are fetched for one release: one that costs more waits for a card, or for a smaller step. As
    /// many as it takes when not given.
    pub kib_a_release: Option<u32>,
}

/// One repository.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositorySource {
    /// An `https:` URL.
    pub url: String,
    /// Its root metadata, relative to the manifest; one of this checkout's development key when not given.
    pub root: Option<PathBuf>,
}

fn default_check_every_s() -> u32 {
    3600
}

fn default_retry_after_s() -> u32 {
    60
}

fn default_mib_a_day() -> u32 {
    64
}

impl UpdateSource {
    /// The repositories that are named.
    pub fn repositories(&self) -> impl Iterator<Item = (RepositoryName, &RepositorySource)> {
        let all = [(RepositoryName::Os, &self.os), (RepositoryName::Oem, &self.oem)];
        all.into_iter().filter_map(|(repository, source)| Some((repository, source.as_ref()?)))
    }

    /// Whom `uplink` may connect to: the servers, and nobody else.
    ///
    /// # Errors
    /// The field below `update`, and what is wrong with it.
    pub fn grants(&self) -> Result<NetworkGrants, (String, &'static str)> {
        let mut grants = NetworkGrants::default();
        for (repository, source) in self.repositories() {
            let refused = |reason| (format!("{repository}.url"), reason);
            let reason =
                "must be such as \"https://updates.example.com/os\", without a slash at its end";
            let (to, port) = server(&source.url).ok_or_else(|| refused(reason))?;
            let connection =
                Connection { to, protocol: Some(Protocol::Tcp), ports: vec![PortRange::one(port)] };
            if !grants.connections.contains(&connection) {
                grants.connections.push(connection);
            }
        }
        Ok(grants)
    }

    fn check(&self) -> Result<(), (String, &'static str)> {
        let refuse = |field: &str, reason| Err((field.to_owned(), reason));
        if self.repositories().next().is_none() {
            return refuse("os", "is missing, and so is update.oem; name one of them at least");
        }
        self.grants()?;
        if !(1..=7 * 86_400).contains(&self.check_every_s) {
            return refuse("check_every_s", "must be from 1 to 604800");
        }
        if !(1..=self.check_every_s).contains(&self.retry_after_s) {
            return refuse("retry_after_s", "must be from 1 to check_every_s");
        }
        if self.mib_a_day == 0 {
            return refuse("mib_a_day", "must be above 0");
        }
        if self.kib_a_release == Some(0) {
            return refuse("kib_a_release", "must be above 0");
        }
        if self.window.as_ref().is_some_and(|text| Window::parse(text).is_none()) {
            return refuse("window", "must be such as \"02:00-04:00\"");
        }
        Ok(())
    }
}

/// Host and port of an `https:` URL.
fn server(url: &str) -> Option<(Destination, u16)> {
    let rest = url.strip_prefix("https://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, "a"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if !path.bytes().all(plain) || path.is_empty() || path.ends_with('/') {
        return None;
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => 443,
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
    };
    match Destination::parse(host)? {
        Destination::Service(_) => None,
        to => Some((to, port)),
    }
}

/// The network of a device, as a person writes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSource {
    /// Interfaces that do not get their addresses by themselves.
    #[serde(default, rename = "interface")]
    pub interfaces: Vec<InterfaceSource>,
    /// Name servers, instead of those that the network names.
    #[serde(default, deserialize_with = "at_least_one")]
    pub name_servers: Vec<IpAddr>,
    /// Time servers, by address or name, instead of those that the network names: up to 4.
    #[serde(default, deserialize_with = "at_least_one")]
    pub time_servers: Vec<String>,
}

/// One interface, as a person writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceSource {
    /// Name of the device, such as `eth0`.
    pub name: String,
    /// `"auto"` (DHCP), `"off"`, or address and gateway.
    pub ipv4: Option<AddressingSource>,
    /// `"auto"` (router advertisements), `"off"`, or address and gateway.
    pub ipv6: Option<AddressingSource>,
}

/// Where addresses come from, as a person writes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum AddressingSource {
    /// `auto` or `off`.
    Word(String),
    /// As said here.
    Static {
        /// Address and length of its prefix, such as `192.168.1.5/24`.
        address: String,
        /// The way out.
        gateway: Option<IpAddr>,
    },
}

impl NetworkSource {
    /// The configuration that the service reads.
    ///
    /// # Errors
    /// The field below `network`, and what is wrong with it.
    pub fn config(&self) -> Result<NetworkConfig, (String, &'static str)> {
        let mut interfaces = Vec::new();
        for (index, source) in self.interfaces.iter().enumerate() {
            let addressing = |field: &str, source: &Option<AddressingSource>| {
                let refuse = |reason| (format!("interface[{index}].{field}"), reason);
                match source {
                    None => Ok(Addressing::Automatic),
                    Some(AddressingSource::Word(word)) => match word.as_str() {
                        "auto" => Ok(Addressing::Automatic),
                        "off" => Ok(Addressing::Off),
                        _ => Err(refuse(
                            "must be \"auto\", \"off\", or { address = \"…/24\", gateway = \"…\" }",
                        )),
                    },
                    Some(AddressingSource::Static { address, gateway }) => {
                        let parts = address.split_once('/');
                        let parsed = parts.and_then(|(address, prefix)| {
                            Some((address.parse().ok()?, prefix.parse().ok()?))
                        });
                        let (address, prefix) = parsed.ok_or_else(|| {
                            refuse("must have an address with a prefix, such as 192.168.1.5/24")
                        })?;
                        Ok(Addressing::Static { address, prefix, gateway: *gateway })
                    }
                }
            };
            interfaces.push(Interface {
                name: source.name.clone(),
                ipv4: addressing("ipv4", &source.ipv4)?,
                ipv6: addressing("ipv6", &source.ipv6)?,
            });
        }
        let mut time_servers = Vec::new();
        for (index, text) in self.time_servers.iter().enumerate() {
            let reason = "must be an address or a name, such as \"time.example.com\"";
            let refused = || (format!("time_servers[{index}]"), reason);
            time_servers.push(Destination::parse(text).ok_or_else(refused)?);
        }
        let name_servers = self.name_servers.clone();
        let config = NetworkConfig { interfaces, name_servers, time_servers };
        config.check()?;
        Ok(config)
    }
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
    /// What init and update keep.
    pub state_mib: u32,
    /// App packages.
    pub apps_mib: u32,
    /// What apps keep.
    pub data_mib: u32,
}

/// A list that stands for something when it is left out: empty, it would have to mean nothing, and is refused.
fn at_least_one<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(D::Error::custom(
            "must have at least one entry; leave the field out for what stands in its place otherwise",
        ));
    }
    Ok(list)
}

/// The text of a document that a person has written; a byte order mark in front of it is left out.
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

/// Why an image manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// It is no TOML, or not of the right shape; the message names line and field.
    #[error("{}: {complaint}", path.display())]
    Toml {
        /// The manifest.
        path: PathBuf,
        /// Where and why, with as much of the line as can be shown.
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

    /// Apps that the image starts and does not have yet.
    pub fn later_apps(&self) -> impl Iterator<Item = App> + '_ {
        self.apps.iter().filter_map(|app| {
            let component_id = ComponentId::parse(app.component_id.as_ref()?)?;
            Some(App { name: app.name.clone()?, component_id })
        })
    }

    /// App directories and packages, with the manifest's own directory in front.
    pub fn app_paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.apps.iter().filter_map(|app| app.path.as_ref()).map(|path| self.beside(path))
    }

    /// The public keys of the boot loader: current, next, recovery; none where the manifest names none.
    #[must_use]
    pub fn boot_key_paths(&self) -> Option<[PathBuf; 3]> {
        let BootTrust { current, next, recovery } = self.trust.boot.as_ref()?;
        Some([current, next, recovery].map(|path| self.beside(path)))
    }

    /// Trusted public keys, with the manifest's own directory in front.
    pub fn app_key_paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.trust.app_keys.iter().map(|key| self.beside(key))
    }

    /// The version as numbers; it was checked when the manifest was loaded.
    #[must_use]
    pub fn version_number(&self) -> Version {
        self.version.parse().unwrap_or_default()
    }

    /// A path that the manifest names, with the manifest's own directory in front.
    #[must_use]
    pub fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
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

    fn load(text: &str) -> Result<ImageManifest, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.toml");
        fs::write(&path, text).unwrap();
        ImageManifest::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_is_reached_by_its_host_and_port_alone() {
        let parsed = |url: &str| server(url).map(|(to, port)| format!("{to} {port}"));
        assert_eq!(parsed("https://a.example.com/os").as_deref(), Some("a.example.com 443"));
        assert_eq!(parsed("https://a.example.com:8443").as_deref(), Some("a.example.com 8443"));
        assert_eq!(parsed("https://192.0.2.1:1/x/y").as_deref(), Some("192.0.2.1 1"));
        assert_eq!(parsed("https://[2001:db8::1]/os").as_deref(), Some("2001:db8::1 443"));
        for wrong in [
            "http://a.example.com/os",
            "https://",
            "https:///os",
            "https://a.example.com/os/",
            "https://a.example.com/",
            "https://a.example.com:0/os",
            "https://a.example.com:x/os",
            "https://user@a.example.com/os",
            "https://a.example.com/os?x",
            "https://a.example.com/os#x",
            "https://_http._tcp.local/os",
            "https://[2001:db8::1/os",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn updates_out_of_bounds_are_refused() {
        let with = |update: &str| load(&format!("{GOOD}\n[network]\n[update]\n{update}"));
        let os = "os = { url = \"https://a.example.com/os\" }";
        assert!(with(os).unwrap().update.unwrap().grants().unwrap().connections.len() == 1);
        for (update, expected) in [
            ("", "update.os: is missing"),
            ("os = { url = \"ftp://a\" }", "update.os.url: must be such as"),
            (&format!("{os}\ncheck_every_s = 0"), "update.check_every_s"),
            (&format!("{os}\nretry_after_s = 4000"), "update.retry_after_s"),
            (&format!("{os}\nmib_a_day = 0"), "update.mib_a_day"),
            (&format!("{os}\nwindow = \"2-4\""), "update.window"),
            (&format!("{os}\nkib_a_release = 0"), "update.kib_a_release"),
        ] {
            let refused = with(update).expect_err("was accepted");
            assert!(refused.contains(expected), "{refused}");
        }
        let alone = load(&format!("{GOOD}\n[update]\n{os}")).expect_err("was accepted");
        assert!(alone.contains("update: needs the network"), "{alone}");
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
    fn interfaces_are_automatic_off_or_static() {
        let with =
            |lines: &str| load(&format!("{GOOD}[[network.interface]]\nname = \"eth0\"\n{lines}"));
        let manifest =
            with("ipv4 = { address = \"10.0.0.5/24\", gateway = \"10.0.0.1\" }\nipv6 = \"off\"");
        let config = manifest.unwrap().network.unwrap().config().unwrap();
        assert!(matches!(
            config.of("eth0"),
            (Addressing::Static { prefix: 24, .. }, Addressing::Off)
        ));
        let message = with("ipv4 = \"static\"").unwrap_err();
        assert!(message.contains("network.interface[0].ipv4: must be \"auto\""), "{message}");
        let message = with("ipv4 = { address = \"10.0.0.5\" }").unwrap_err();
        assert!(message.contains("such as 192.168.1.5/24"), "{message}");
        assert!(load(GOOD).unwrap().network.is_none());
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

//! `settings.toml`: where the service listens, and where its database and keys are.

use crate::schedule::EVERY_S;
use crate::sign_in_settings::SignInSettings;
use serde::{Deserialize, Deserializer, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Name of the file in the service's folder.
pub const FILE: &str = "settings.toml";

/// The settings. Paths are of the service's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The port of devices.
    pub device: DevicePort,
    /// The port of management.
    pub management: ManagementPort,
    /// The database.
    pub database: Database,
    /// The service's own certificate.
    pub tls: Tls,
    /// Keys.
    pub keys: Keys,
    /// Repositories whose releases are taken as they are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<WatchedRepository>,
    /// Where alerts go.
    #[serde(default, skip_serializing_if = "AlertSettings::is_usual")]
    pub alerts: AlertSettings,
    /// How people sign in.
    #[serde(default, skip_serializing_if = "SignInSettings::is_usual")]
    pub sign_in: SignInSettings,
    /// The port of metrics, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsPort>,
    /// How much of the disk has to be free.
    #[serde(default, skip_serializing_if = "DiskSettings::is_usual")]
    pub disk: DiskSettings,
    /// The object store that symbols and files of releases are in; they are in the folder where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ObjectStoreSettings>,
    /// What an examination expects of backups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSettings>,
}

/// A bucket of an object store of S3's interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectStoreSettings {
    /// Name of the bucket.
    pub bucket: String,
    /// Its region.
    #[serde(default = "usual_region")]
    pub region: String,
    /// URL of the object store, `https:` or, to a loopback address, `http:`; that of Amazon's for the region where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// What names of objects begin with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// File with the id of an access key and its secret, a line each, and a session's token where there is one; the environment has them
    /// where it is not said (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// File of the authorities that vouch for the object store, as PEM; the system's where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// MiB of files that the folder keeps of it, for symbols and for releases each.
    #[serde(default = "usual_cache_mib")]
    pub cache_mib: u32,
}

/// What an examination expects of backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupSettings {
    /// The directory that backups are written to; the newest file in it is looked at.
    pub directory: PathBuf,
    /// Hours after which the newest is too old.
    #[serde(default = "usual_backup_hours")]
    pub most_hours: u32,
}

/// Where alerts go. Webhooks are no setting: catalogs have them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertSettings {
    /// File of the authorities that vouch for receivers, as PEM; the system's where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// Addresses of the installation's own network that webhooks may go to, beside public ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub private_receivers: Vec<IpAddr>,
    /// Mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailSettings>,
    /// A collector of OpenTelemetry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<OtlpSettings>,
}

impl AlertSettings {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// How mail is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    /// Name or address of the server.
    pub server: String,
    /// Its port.
    #[serde(default = "usual_mail_port")]
    pub port: u16,
    /// How the connection is secured.
    #[serde(default)]
    pub security: MailSecurity,
    /// Whom it is from, as `name@example.com`.
    pub from: String,
    /// Whom it is to.
    pub to: Vec<String>,
    /// File with user and password, a line each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
}

/// How a connection to a server of mail is secured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailSecurity {
    /// By STARTTLS (RFC 3207), without which nothing is sent.
    #[default]
    Starttls,
    /// By TLS from the first byte on (RFC 8314).
    Tls,
    /// Not at all, to a loopback address.
    None,
}

/// A collector that logs are sent to, by OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtlpSettings {
    /// Its URL, without `/v1/logs`.
    pub endpoint: String,
    /// File with the value of the header `Authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<PathBuf>,
}

/// The port of metrics, which speaks HTTP without TLS and asks for no token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsPort {
    /// The address.
    pub listen: SocketAddr,
}

/// How much of the file system of the service's folder has to be free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskSettings {
    /// Percent below which reports and symbols are refused.
    pub reports_percent: u8,
    /// Percent below which nothing but check-ins is written.
    pub writes_percent: u8,
}

impl Default for DiskSettings {
    fn default() -> Self {
        Self { reports_percent: 10, writes_percent: 5 }
    }
}

impl DiskSettings {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// A repository that lies in a directory of this host, where whoever publishes releases puts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchedRepository {
    /// Id of the catalog that takes its releases, and whose owner has set its root.
    pub catalog: String,
    /// The directory, which has `metadata` in it.
    pub directory: PathBuf,
    /// Seconds from one look to the next.
    #[serde(default = "usual_look_s")]
    pub look_every_s: u32,
}

/// The port of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePort {
    /// The address.
    pub listen: SocketAddr,
    /// Most requests that are served at once; others are told to come later, before they send a body.
    #[serde(default = "usual_requests")]
    pub most_requests: usize,
    /// Most connections at once.
    #[serde(default = "usual_connections")]
    pub most_connections: usize,
    /// Most connections of one address (IPv6: of one /64) at once.
    #[serde(default = "usual_per_address")]
    pub most_per_address: usize,
    /// Addresses of load balancers of layer 4, whose connections begin with a header of the PROXY protocol, version 2. From any
    /// other address, such a header is no handshake.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxies: Vec<IpAddr>,
    /// Seconds from one check-in of a device to the next, within [`EVERY_S`]. A device is told at each check-in when to come again.
    #[serde(
        default = "usual_check_in_s",
        deserialize_with = "read_check_in_s",
        skip_serializing_if = "is_usual_check_in_s"
    )]
    pub check_in_every_s: u32,
}

/// The port of management.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagementPort {
    /// The address.
    pub listen: SocketAddr,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `sqlite:PATH` or `postgres://…`.
    pub url: String,
}

/// The service's own certificate: made at each start by a root of the service's own, or one that somebody else has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Names and addresses that devices and people reach the service by.
    pub names: Vec<String>,
    /// Key of the service's root, PKCS #8 as PEM: a certificate is made by it at each start, and each 45 days.
    pub root_key: Option<PathBuf>,
    /// A chain of certificates as PEM, where there is no root key here.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// File of the key that issuing keys are wrapped by. The variable `HOLDFAST_SERVICE_KEK` comes first, where it is set.
    pub key_encryption_key: PathBuf,
    /// Directory of the keys of catalogs' roots. What is not there is kept elsewhere, and asked for at half time.
    pub roots: PathBuf,
    /// The token that has the keys of catalogs' roots in place of the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
}

/// A token, by PKCS #11. Only a program that was built with the feature `pkcs11` can use one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The module: a shared library of whoever has made the token.
    pub module: PathBuf,
    /// Label of the token.
    pub label: String,
    /// File of the user's PIN.
    pub pin: PathBuf,
}

fn usual_region() -> String {
    "us-east-1".to_owned()
}

fn usual_cache_mib() -> u32 {
    4096
}

fn usual_backup_hours() -> u32 {
    48
}

fn usual_check_in_s() -> u32 {
    EVERY_S.1
}

fn is_usual_check_in_s(every_s: &u32) -> bool {
    *every_s == usual_check_in_s()
}

fn read_check_in_s<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let (least, most) = EVERY_S;
    let every_s = u32::deserialize(deserializer)?;
    if (least..=most).contains(&every_s) {
        return Ok(every_s);
    }
    let rule = format!("device.check_in_every_s: must be {least} to {most} seconds");
    Err(serde::de::Error::custom(rule))
}

fn usual_requests() -> usize {
    256
}

fn usual_connections() -> usize {
    4096
}

fn usual_mail_port() -> u16 {
    587
}

fn usual_look_s() -> u32 {
    60
}

fn usual_per_address() -> usize {
    8
}

impl Settings {
    /// Returns those of a new folder.
    #[must_use]
    pub fn new(
        device: SocketAddr,
        management: SocketAddr,
        names: Vec<String>,
        url: String,
    ) -> Self {
        Self {
            device: DevicePort {
                listen: device,
                most_requests: usual_requests(),
                most_connections: usual_connections(),
                most_per_address: usual_per_address(),
                proxies: Vec::new(),
                check_in_every_s: usual_check_in_s(),
            },
            management: ManagementPort { listen: management },
            database: Database { url },
            tls: Tls {
                names,
                root_key: Some("service-root.key".into()),
                certificate: None,
                key: None,
            },
            keys: Keys {
                key_encryption_key: "key-encryption-key".into(),
                roots: "roots".into(),
                token: None,
            },
            repositories: Vec::new(),
            alerts: AlertSettings::default(),
            sign_in: SignInSettings::default(),
            metrics: None,
            disk: DiskSettings::default(),
            object_store: None,
            backup: None,
        }
    }

    /// Reads them from text.
    ///
    /// # Errors
    /// It has what settings do not have.
    pub fn read(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Returns their text, which [`read`](Self::read) reads.
    ///
    /// # Errors
    /// A path is no text.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Returns the files that have to be there beside those that the service makes, each with the field that names it.
    #[must_use]
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        let Self { tls, keys, alerts, sign_in, object_store, .. } = self;
        let mail = alerts.mail.as_ref().and_then(|mail| mail.credentials.as_ref());
        let otlp = alerts.otlp.as_ref().and_then(|otlp| otlp.authorization.as_ref());
        let token = keys.token.as_ref();
        let bucket = object_store.as_ref();
        let named = [
            ("tls.root_key", tls.root_key.as_ref()),
            ("tls.certificate", tls.certificate.as_ref()),
            ("tls.key", tls.key.as_ref()),
            ("keys.token.module", token.map(|token| &token.module)),
            ("keys.token.pin", token.map(|token| &token.pin)),
            ("alerts.authorities", alerts.authorities.as_ref()),
            ("alerts.mail.credentials", mail),
            ("alerts.otlp.authorization", otlp),
            ("sign_in.authorities", sign_in.authorities.as_ref()),
            ("object_store.credentials", bucket.and_then(|bucket| bucket.credentials.as_ref())),
            ("object_store.authorities", bucket.and_then(|bucket| bucket.authorities.as_ref())),
        ];
        let secrets = sign_in.providers.iter().map(|provider| provider.client_secret.as_ref());
        let secrets = secrets.map(|secret| ("sign_in.providers.client_secret", secret));
        let named = named.into_iter().chain(secrets);
        named.filter_map(|(field, path)| Some((field, path?.as_path()))).collect()
    }

    /// Returns the URL of the database, with a path of SQLite taken from the folder.
    #[must_use]
    pub fn database_url(&self, folder: &Path) -> String {
        let path = self.database.url.strip_prefix("sqlite:").filter(|path| !path.starts_with('/'));
        path.map_or_else(
            || self.database.url.clone(),
            |path| format!("sqlite:{}", folder.join(path).display()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let names = vec!["service.example".to_owned()];
        Settings::new(address(8443), address(8444), names, "sqlite:service.db".to_owned())
    }

    #[test]
    fn settings_are_read_as_they_are_written() {
        let mut settings = settings();
        settings.keys.token = Some(Token {
            module: "/usr/lib/softhsm/libsofthsm2.so".into(),
            label: "holdfast".to_owned(),
            pin: "token-pin".into(),
        });
        settings.repositories = vec![WatchedRepository {
            catalog: "25025d2c-66da-4448-bae1-ac26fcdd3627".to_owned(),
            directory: "/srv/repository".into(),
            look_every_s: 60,
        }];
        settings.device.proxies =
            vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        settings.alerts = AlertSettings {
            authorities: Some("authorities.pem".into()),
            private_receivers: vec!["10.0.0.5".parse().unwrap()],
            mail: Some(MailSettings {
                server: "mail.example.com".to_owned(),
                port: 465,
                security: MailSecurity::Tls,
                from: "holdfast@example.com".to_owned(),
                to: vec!["ops@example.com".to_owned()],
                credentials: Some("mail-credentials".into()),
            }),
            otlp: Some(OtlpSettings {
                endpoint: "https://collector.example:4318".to_owned(),
                authorization: None,
            }),
        };
        settings.metrics = Some(MetricsPort { listen: SocketAddr::from(([127, 0, 0, 1], 9464)) });
        settings.disk = DiskSettings { reports_percent: 20, writes_percent: 2 };
        settings.object_store = Some(ObjectStoreSettings {
            bucket: "holdfast".to_owned(),
            region: "eu-central-1".to_owned(),
            endpoint: Some("https://s3.example".to_owned()),
            prefix: "pumps".to_owned(),
            credentials: Some("object-store-credentials".into()),
            authorities: None,
            cache_mib: 512,
        });
        settings.backup = Some(BackupSettings { directory: "/backup".into(), most_hours: 26 });
        let files: Vec<&str> = settings.files().into_iter().map(|(field, _)| field).collect();
        let named = ["tls.root_key", "keys.token.module", "keys.token.pin", "alerts.authorities"];
        let more = ["alerts.mail.credentials", "object_store.credentials"];
        assert_eq!(files, [named.as_slice(), &more].concat());
        let text = settings.to_text().unwrap();
        assert_eq!(Settings::read(&text).unwrap(), settings);
        let unknown = format!("{text}\n[extra]\n");
        Settings::read(&unknown).unwrap_err();
    }

    #[test]
    fn settings_of_before_alerts_and_metrics_are_read() {
        let settings = settings();
        let text = settings.to_text().unwrap();
        assert!(!text.contains("alerts") && !text.contains("disk"), "{text}");
        assert!(!text.contains("check_in"), "{text}");
        let more = "[alerts.mail]\nserver = \"mail.example\"\nfrom = \"a@b.c\"\nto = [\"d@e.f\"]\n";
        let mail = Settings::read(&format!("{text}{more}")).unwrap().alerts.mail.unwrap();
        assert_eq!((mail.port, mail.security), (587, MailSecurity::Starttls));
    }

    #[test]
    fn an_interval_of_check_ins_is_a_minute_to_a_day() {
        let read = |every: &str| {
            let text = settings().to_text().unwrap();
            let line = format!("[device]\ncheck_in_every_s = {every}\n");
            Settings::read(&text.replacen("[device]\n", &line, 1))
        };
        for every_s in [60, 900, 86_400] {
            let settings = read(&every_s.to_string()).unwrap();
            assert_eq!(settings.device.check_in_every_s, every_s);
            assert_eq!(Settings::read(&settings.to_text().unwrap()).unwrap(), settings);
        }
        for wrong in ["0", "59", "86401"] {
            let error = read(wrong).unwrap_err().to_string();
            let rule = "device.check_in_every_s: must be 60 to 86400 seconds";
            assert!(error.contains(rule), "{error}");
        }
        read("-1").unwrap_err();
    }

    #[test]
    fn a_path_of_sqlite_is_of_the_folder() {
        let mut settings = settings();
        let folder = Path::new("/srv/holdfast");
        assert_eq!(settings.database_url(folder), "sqlite:/srv/holdfast/service.db");
        for url in ["sqlite:/other/service.db", "postgres://holdfast@db/holdfast"] {
            settings.database.url = url.to_owned();
            assert_eq!(settings.database_url(folder), url);
        }
    }
}

//! `settings.toml`: where the service listens, and where its database and keys are.

use crate::error::{ServerError, file};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
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
}

fn usual_requests() -> usize {
    256
}

fn usual_connections() -> usize {
    4096
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
            },
            management: ManagementPort { listen: management },
            database: Database { url },
            tls: Tls {
                names,
                root_key: Some("service-root.key".into()),
                certificate: None,
                key: None,
            },
            keys: Keys { key_encryption_key: "key-encryption-key".into(), roots: "roots".into() },
        }
    }

    /// Reads those of a folder.
    ///
    /// # Errors
    /// The file cannot be read, or has what settings do not have.
    pub fn load(folder: &Path) -> Result<Self, ServerError> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(file("read", &path))?;
        toml::from_str(&text).map_err(|source| ServerError::Settings { path, source })
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
        let text = toml::to_string(&settings()).unwrap();
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), settings());
        let unknown = format!("{text}\n[extra]\n");
        toml::from_str::<Settings>(&unknown).unwrap_err();
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

//! Where symbols and files of releases are, by the settings: in the folder, or in a bucket with a part of it in the folder.

use crate::error::{ServerError, file};
use crate::folder;
use crate::settings::{ObjectStoreSettings, Settings};
use holdfast_service_alerts::trust::Trust;
use holdfast_service_store::blobs::Blobs;
use holdfast_service_store::blobs::bucket::{Bucket, Credentials, Place};
use rustls::RootCertStore;
use std::net::IpAddr;
use std::path::Path;

/// Directory of symbols in the folder, and what their names in a bucket begin with.
const SYMBOLS: &str = "symbols";
/// Directory of files of releases in the folder, and what their names in a bucket begin with.
const RELEASES: &str = "releases";
/// Bytes of a MiB.
const MIB: u64 = 1024 * 1024;

/// The files of a service.
#[derive(Debug)]
pub struct Files {
    /// Symbols.
    pub symbols: Blobs,
    /// Files of releases.
    pub releases: Blobs,
}

impl Files {
    /// Opens them. Of a bucket nothing is asked yet.
    ///
    /// # Errors
    /// A directory cannot be made, or the settings of the object store are none.
    pub fn open(folder: &Path, settings: &Settings) -> Result<Self, ServerError> {
        let (symbols, releases) = (folder.join(SYMBOLS), folder.join(RELEASES));
        let Some(of) = &settings.object_store else {
            return Ok(Self { symbols: Blobs::open(&symbols)?, releases: Blobs::open(&releases)? });
        };
        let bucket = bucket(folder, of)?;
        let most = u64::from(of.cache_mib).saturating_mul(MIB);
        Ok(Self {
            symbols: Blobs::open_in(bucket.clone(), SYMBOLS, &symbols, most)?,
            releases: Blobs::open_in(bucket, RELEASES, &releases, most)?,
        })
    }
}

/// Checks what can be known of the object store before there is a folder: what the settings say, and credentials of the environment.
///
/// # Errors
/// A setting is none, or the environment lacks credentials.
pub(crate) fn check(settings: &Settings) -> Result<(), ServerError> {
    let Some(settings) = &settings.object_store else { return Ok(()) };
    place(settings)?;
    if settings.credentials.is_none() {
        of_environment(|name| std::env::var(name).ok())?;
    }
    Ok(())
}

fn place(settings: &ObjectStoreSettings) -> Result<Place, ServerError> {
    let is_without_tls = match settings.endpoint.as_deref() {
        Some(endpoint) => is_without_tls(endpoint)?,
        None => false,
    };
    let rule = |setting, rule| ServerError::ObjectStoreSetting { setting, rule };
    if settings.bucket.is_empty() || settings.bucket.contains('/') {
        return Err(rule("bucket", "must be the name of a bucket, without `/`"));
    }
    Ok(Place {
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        bucket: settings.bucket.clone(),
        prefix: settings.prefix.clone(),
        is_without_tls,
    })
}

fn bucket(folder: &Path, settings: &ObjectStoreSettings) -> Result<Bucket, ServerError> {
    let place = place(settings)?;
    let credentials = match &settings.credentials {
        Some(path) => of_file(&folder.join(path))?,
        None => of_environment(|name| std::env::var(name).ok())?,
    };
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(
        Trust::read(folder, settings.authorities.as_deref())?.authorities,
    );
    Ok(Bucket::new(place, credentials, authorities)?)
}

/// True for an endpoint without TLS, which has to be a loopback address.
fn is_without_tls(endpoint: &str) -> Result<bool, ServerError> {
    let rule = "must be `https:`, or `http:` and a loopback address, as `http://127.0.0.1:9000`";
    let refused = || ServerError::ObjectStoreSetting { setting: "endpoint", rule };
    if endpoint.starts_with("https://") {
        return Ok(false);
    }
    let host = endpoint.strip_prefix("http://").ok_or_else(refused)?.trim_end_matches('/');
    let address = host.parse::<std::net::SocketAddr>().map(|address| address.ip());
    let address = address.or_else(|_| host.parse::<IpAddr>()).map_err(|_| refused())?;
    if address.is_loopback() { Ok(true) } else { Err(refused()) }
}

fn of_file(path: &Path) -> Result<Credentials, ServerError> {
    let text = folder::read_secret(path)?;
    let mut lines = text.lines().map(|line| line.trim().to_owned());
    let mut next = || lines.next().filter(|line| !line.is_empty());
    let (access_key, secret_key, session_token) = (next(), next(), next());
    let keys = access_key.zip(secret_key);
    let (access_key, secret_key) = keys.ok_or_else(|| {
        file("read", path)(std::io::Error::other(
            "it must have the id of an access key and its secret, a line each",
        ))
    })?;
    Ok(Credentials { access_key, secret_key, session_token })
}

fn of_environment(get: impl Fn(&str) -> Option<String>) -> Result<Credentials, ServerError> {
    let keys = get("AWS_ACCESS_KEY_ID").zip(get("AWS_SECRET_ACCESS_KEY"));
    let (access_key, secret_key) = keys.ok_or(ServerError::ObjectStoreSetting {
        setting: "credentials",
        rule: "must name a file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set",
    })?;
    Ok(Credentials { access_key, secret_key, session_token: get("AWS_SESSION_TOKEN") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_store_without_tls_is_on_this_host() {
        for (good, is_without) in [
            ("https://s3.example", false),
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000/", true),
        ] {
            assert_eq!(is_without_tls(good).unwrap(), is_without, "{good}");
        }
        for bad in ["http://s3.example", "http://10.0.0.1:9000", "s3.example", "ftp://127.0.0.1"] {
            assert!(is_without_tls(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_of_an_object_store_are_checked_without_a_folder() {
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let mut settings = Settings::new(any, any, Vec::new(), "sqlite:service.db".to_owned());
        check(&settings).unwrap();
        let good = ObjectStoreSettings {
            bucket: "holdfast".to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some("https://s3.example".to_owned()),
            prefix: String::new(),
            credentials: Some("object-store-credentials".into()),
            authorities: None,
            cache_mib: 1,
        };
        settings.object_store = Some(good.clone());
        check(&settings).unwrap();
        let endpoint = Some("http://s3.example".to_owned());
        for bad in [
            ObjectStoreSettings { bucket: "a/b".to_owned(), ..good.clone() },
            ObjectStoreSettings { endpoint, ..good },
        ] {
            settings.object_store = Some(bad);
            let refused = check(&settings).unwrap_err();
            assert!(matches!(refused, ServerError::ObjectStoreSetting { .. }), "{refused:?}");
        }
    }

    #[test]
    fn credentials_come_from_a_file_that_nobody_else_reads_or_from_the_environment() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("credentials");
        folder::write_secret(&path, "AKIA\nsecret words\n").unwrap();
        let read = of_file(&path).unwrap();
        assert_eq!((read.access_key.as_str(), read.secret_key.as_str()), ("AKIA", "secret words"));
        assert!(read.session_token.is_none());
        assert!(!format!("{read:?}").contains("secret words"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(of_file(&path), Err(ServerError::OpenToOthers(_))));
        let short = scratch.path().join("short");
        folder::write_secret(&short, "AKIA\n").unwrap();
        of_file(&short).unwrap_err();
        let both = of_environment(|name| Some(name.to_owned())).unwrap();
        assert_eq!(both.access_key, "AWS_ACCESS_KEY_ID");
        of_environment(|name| (name == "AWS_ACCESS_KEY_ID").then(String::new)).unwrap_err();
    }
}

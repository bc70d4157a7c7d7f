//! Targets of a repository, and the releases that they are.

use crate::feed::Feed;
use crate::reuse::{CHUNK_BYTES, CHUNK_HASH_BYTES};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::ComponentId;
use holdfast_types::Version;
use holdfast_types::hex::unhex;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Longest path of a release in a repository, in bytes.
const MAX_PATH_BYTES: usize = 200;

/// A file that the targets metadata name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Length of the file in bytes.
    pub length: u64,
    /// Hashes of the file in hexadecimal, by algorithm: SHA-256 at least.
    pub hashes: BTreeMap<String, String>,
    /// The release that the file is; a device ignores files without one. A `custom` of another tool or of a later
    /// version counts as none, since it must not make the other targets unreadable (4.5).
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "release_if_understood"
    )]
    pub custom: Option<Release>,
}

fn release_if_understood<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Release>, D::Error> {
    let custom = Value::deserialize(from)?;
    Ok(Release::deserialize(custom).ok())
}

/// Name of one of the two repositories that a device trusts, each for what it may release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RepositoryName {
    /// The repository of those who make the OS.
    Os,
    /// The repository of those who make the device and its apps.
    Oem,
}

impl RepositoryName {
    /// Both names.
    pub const ALL: [Self; 2] = [Self::Os, Self::Oem];

    /// Returns the name, `os` or `oem`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Os => "os",
            Self::Oem => "oem",
        }
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One signed version of the OS or of an app, as the field `custom` of its target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The OS or the app that this is a version of: `component` in JSON, as `os` or the app's component id.
    #[serde(rename = "component", with = "as_text")]
    pub subject: ReleaseSubject,
    /// Product that the release is for; empty for any.
    pub product: String,
    /// Board that the release is for; empty for any board, which an OS is never for.
    pub board: String,
    /// Version of the release.
    #[serde(with = "as_text")]
    pub version: Version,
    /// A number that only grows; a device refuses a lower one.
    pub rollback_index: u64,
    /// Least version of the OS that may install the release.
    #[serde(with = "as_text")]
    pub least_os: Version,
    /// Bytes of the FIT in front of the root file system, for the OS; 0 for an app.
    pub boot_bytes: u64,
    /// Root hash of the verity tree in hexadecimal.
    pub root_hash: String,
    /// Hashes of the FIT's chunks in hexadecimal, each the first half of a SHA-256: by them a device finds the chunks
    /// that it has, and verifies those that it fetches. Empty for an app.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_chunks: String,
    /// SHA-256 of the FIT in hexadecimal, of as many bytes as its header says: what the boot loader extends PCR 8 with. It is
    /// for whoever believes a quote, and a device does not need it. Empty for an app, and in releases before this was there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub boot_digest: String,
    /// The feed whose devices the release is for alone; none for those of every feed. Devices with an OS from before feeds know nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::fmt::Display;
    use std::str::FromStr;

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The subjects that a repository may release for a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// The OS alone.
    Os,
    /// The apps with these component ids, which the signed image lists.
    Apps(Vec<ComponentId>),
}

impl Authority {
    pub(crate) fn covers(&self, subject: ReleaseSubject) -> bool {
        match (self, subject) {
            (Self::Os, ReleaseSubject::Os) => true,
            (Self::Apps(ids), ReleaseSubject::App(id)) => ids.contains(&id),
            _ => false,
        }
    }
}

/// The device that installs releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Product of the device.
    pub product: String,
    /// Board of the device.
    pub board: String,
    /// Version of the OS that runs.
    pub os: Version,
}

impl Release {
    /// True when the release is for this product and board.
    #[must_use]
    pub fn is_for(&self, device: &Device) -> bool {
        // A kernel is for one board.
        let any_board = self.board.is_empty() && self.subject != ReleaseSubject::Os;
        (self.product.is_empty() || self.product == device.product)
            && (any_board || self.board == device.board)
    }

    /// Decodes the hashes of the FIT's chunks; `None` where they are malformed, or not one for each chunk.
    #[must_use]
    pub fn boot_chunks(&self) -> Option<Vec<[u8; CHUNK_HASH_BYTES]>> {
        let (hashes, rest) = self.boot_chunks.as_bytes().as_chunks::<{ CHUNK_HASH_BYTES * 2 }>();
        let hashes: Option<Vec<_>> =
            hashes.iter().map(|hash| unhex(str::from_utf8(hash).ok()?)).collect();
        let chunks = self.boot_bytes.div_ceil(u64::try_from(CHUNK_BYTES).ok()?);
        hashes.filter(|hashes| rest.is_empty() && u64::try_from(hashes.len()) == Ok(chunks))
    }

    /// Decodes the digest of the FIT; `None` where there is none, or it is malformed.
    #[must_use]
    pub fn boot_digest(&self) -> Option<[u8; 32]> {
        unhex(&self.boot_digest)
    }

    /// Decodes the root hash; `None` where it is malformed.
    #[must_use]
    pub fn root_hash(&self) -> Option<[u8; 32]> {
        unhex(&self.root_hash)
    }
}

impl Target {
    /// Decodes the SHA-256 of the file; `None` where there is none.
    #[must_use]
    pub fn sha256(&self) -> Option<[u8; 32]> {
        unhex(self.hashes.get("sha256")?)
    }

    /// Checks that a device could install this release from `path`.
    ///
    /// # Errors
    /// The reason why it could not.
    pub fn check(&self, path: &str) -> Result<(), &'static str> {
        let Some(release) = &self.custom else {
            return Err("says of no release which it is");
        };
        if !is_plain(path) {
            return Err("must be a path of letters, digits, `-`, `_` and `.` alone");
        }
        if self.length == 0 || release.boot_bytes >= self.length {
            return Err("is empty, or nothing but a kernel");
        }
        if self.sha256().is_none() {
            return Err("has no SHA-256");
        }
        if release.root_hash().is_none() {
            return Err("has no root hash of 64 hexadecimal digits");
        }
        if release.subject == ReleaseSubject::Os
            && (release.board.is_empty() || release.boot_bytes == 0)
        {
            return Err("is an OS, which is for one board and has a kernel");
        }
        // Without them, nobody could tell what comes before it has overwritten the other slot.
        if release.subject == ReleaseSubject::Os && release.boot_chunks().is_none() {
            return Err("is an OS, and does not name the hashes of all chunks of its kernel");
        }
        Ok(())
    }

    /// Returns the path of the file on a server with consistent snapshots: the hash stands before the name.
    #[must_use]
    pub fn place(&self, path: &str) -> Option<String> {
        let hash = self.hashes.get("sha256")?;
        Some(match path.rsplit_once('/') {
            Some((directory, name)) => format!("targets/{directory}/{hash}.{name}"),
            None => format!("targets/{hash}.{path}"),
        })
    }
}

/// True for a relative path of plain characters without `.` and `..`.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    path.len() <= MAX_PATH_BYTES
        && path
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Targets;

    const ID: ComponentId = ComponentId([7; 16]);

    fn release(subject: ReleaseSubject) -> Release {
        Release {
            subject,
            product: "pump".to_owned(),
            board: "qemu-virt".to_owned(),
            version: Version { major: 1, minor: 0, patch: 0 },
            rollback_index: 3,
            least_os: Version::default(),
            boot_bytes: u64::from(subject == ReleaseSubject::Os),
            root_hash: "00".repeat(32),
            boot_chunks: if subject == ReleaseSubject::Os {
                "0a".repeat(16)
            } else {
                String::new()
            },
            boot_digest: String::new(),
            feed: None,
        }
    }

    fn device() -> Device {
        Device { product: "pump".to_owned(), board: "qemu-virt".to_owned(), os: Version::default() }
    }

    fn targets(all: &[(&str, Release)]) -> Targets {
        let target = |release: &Release| Target {
            length: 100,
            hashes: BTreeMap::from([("sha256".to_owned(), "11".repeat(32))]),
            custom: Some(release.clone()),
        };
        let json = serde_json::json!({
            "_type": "targets", "spec_version": "1.0.0", "version": 1,
            "expires": "2030-01-01T00:00:00Z", "targets": {}
        });
        let mut targets: Targets = serde_json::from_value(json).unwrap();
        targets.targets = all.iter().map(|(path, r)| ((*path).to_owned(), target(r))).collect();
        targets
    }

    #[test]
    fn a_release_is_what_its_json_says() {
        let json = serde_json::json!({
            "component": "os", "product": "pump", "board": "qemu-virt", "version": "1.2.3",
            "rollback_index": 3, "least_os": "0.1.0", "boot_bytes": 1, "root_hash": "00",
            "something_newer": [1]
        });
        let release: Release = serde_json::from_value(json.clone()).unwrap();
        assert_eq!((release.boot_digest(), release.boot_digest.as_str()), (None, ""));
        assert!(serde_json::to_value(&release).unwrap().get("boot_digest").is_none());
        assert_eq!(release.version, Version { major: 1, minor: 2, patch: 3 });
        for (field, wrong) in [("component", "oss"), ("version", "1.2"), ("rollback_index", "3")] {
            let mut json = json.clone();
            json[field] = wrong.into();
            assert!(serde_json::from_value::<Release>(json).is_err(), "{field}");
        }
    }

    #[test]
    fn clause_4_5_a_custom_that_is_not_understood_takes_no_release_away() {
        let app = ReleaseSubject::App(ID);
        let release = serde_json::to_value(release(app)).unwrap();
        let with = |field: &str, value: &str| {
            let mut later = release.clone();
            later[field] = value.into();
            later
        };
        let others = [
            with("component", "boot-loader"),
            with("version", "1.2.3-rc1"),
            serde_json::json!({"sigstore": {"status": "Active"}}),
            serde_json::json!(7),
            Value::Null,
        ];
        for other in others {
            let json = serde_json::json!({
                "_type": "targets", "spec_version": "1.0.0", "version": 1,
                "expires": "2030-01-01T00:00:00Z", "targets": {
                    "a": {"length": 100, "hashes": {"sha256": "11".repeat(32)}, "custom": other},
                    "b": {"length": 100, "hashes": {"sha256": "11".repeat(32)}, "custom": release},
                }
            });
            let targets: Targets = serde_json::from_value(json).unwrap();
            assert_eq!(targets.targets["a"].custom, None, "{other}");
            let apps = Authority::Apps(vec![ID]);
            let found = targets.release_for(app, &device(), &apps, |_| true);
            assert_eq!(found.map(|(path, _, _)| path), Some("b"), "{other}");
        }
    }

    #[test]
    fn a_device_takes_what_is_for_it_and_from_whom_may_release_it() {
        let app = ReleaseSubject::App(ID);
        let other = Release { board: "other".to_owned(), ..release(app) };
        let any = Release { board: String::new(), product: String::new(), ..release(app) };
        let os_for_any = Release { board: String::new(), ..release(ReleaseSubject::Os) };
        let apps = Authority::Apps(vec![ID]);
        let find = |all: &[(&str, Release)], subject, authority: &Authority| {
            let targets = targets(all);
            targets
                .release_for(subject, &device(), authority, |_| true)
                .map(|found| found.0.to_owned())
        };
        assert_eq!(find(&[("a", release(app))], app, &apps).as_deref(), Some("a"));
        assert_eq!(find(&[("a", any)], app, &apps).as_deref(), Some("a"));
        assert_eq!(find(&[("a", other)], app, &apps), None);
        assert_eq!(find(&[("a", os_for_any)], ReleaseSubject::Os, &Authority::Os), None);
        let unnamed = Release { boot_chunks: String::new(), ..release(ReleaseSubject::Os) };
        assert_eq!(find(&[("a", unnamed)], ReleaseSubject::Os, &Authority::Os), None);
        let os = [("a", release(ReleaseSubject::Os))];
        assert_eq!(find(&os, ReleaseSubject::Os, &Authority::Os).as_deref(), Some("a"));
        assert_eq!(find(&os, ReleaseSubject::Os, &apps), None, "OEMs release no OS");
        assert_eq!(find(&[("a", release(app))], app, &Authority::Os), None);
        assert_eq!(find(&[("a", release(app))], app, &Authority::Apps(Vec::new())), None);
        let higher = Release { rollback_index: 4, ..release(app) };
        let newer = Release { version: "2.0.0".parse().unwrap(), ..release(app) };
        let all = [("a", higher), ("b", newer), ("c", release(app))];
        assert_eq!(find(&all, app, &apps).as_deref(), Some("a"));
    }

    #[test]
    fn what_makes_no_sense_is_no_release() {
        let app = ReleaseSubject::App(ID);
        let find = |path: &str, release: Release| {
            let targets = targets(&[(path, release)]);
            targets.release_for(app, &device(), &Authority::Apps(vec![ID]), |_| true).is_some()
        };
        assert!(find("apps/pump-1.0.0.app", release(app)));
        for path in ["", "/a", "a/", "../a", "a/../b", "a//b", ".a", "a b", "a%2e", "a\\b"] {
            assert!(!find(path, release(app)), "{path}");
        }
        assert!(!find(&"a".repeat(201), release(app)));
        assert!(!find("a", Release { root_hash: "00".to_owned(), ..release(app) }));
        assert!(!find("a", Release { boot_bytes: 100, ..release(app) }));
    }

    #[test]
    fn chunks_are_named_all_or_none() {
        let of = |boot_bytes, boot_chunks: &str| {
            let boot_chunks = boot_chunks.to_owned();
            Release { boot_bytes, boot_chunks, ..release(ReleaseSubject::Os) }.boot_chunks()
        };
        let hash = "0a".repeat(16);
        assert_eq!(of(4096, &hash), Some(vec![[10; 16]]));
        assert_eq!(of(32_769, &hash.repeat(2)), Some(vec![[10; 16]; 2]));
        for wrong in ["", "0a", &hash.repeat(2), &"zz".repeat(16), &"ä".repeat(16)] {
            assert_eq!(of(4096, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_lies_below_its_hash() {
        let targets = targets(&[("os/a.img", release(ReleaseSubject::Os))]);
        let target = &targets.targets["os/a.img"];
        let hash = "11".repeat(32);
        assert_eq!(target.place("os/a.img"), Some(format!("targets/os/{hash}.a.img")));
        assert_eq!(target.place("a.img"), Some(format!("targets/{hash}.a.img")));
    }
}

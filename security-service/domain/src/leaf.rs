//! What goes into a device's certificate: names, usages, the grade's policy, the release, and its time.

use crate::grade::Grade;
use crate::schedule::BACKDATED_S;
use holdfast_evidence::messages::{CatalogId, DeviceId, Profile};
use holdfast_evidence::public::Point;
use holdfast_evidence::qualifying::Purpose;
use holdfast_types::Version;

/// The arc below which our object identifiers are: that of documentation (RFC 5612) until one is registered.
const ARC: [u64; 8] = [1, 3, 6, 1, 4, 1, 32473, 1];
/// `id-kp-clientAuth`.
pub const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
/// `id-kp-serverAuth`.
pub const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];

/// Returns an object identifier of ours.
fn ours(last: [u64; 2]) -> Vec<u64> {
    [&ARC[..], &last].concat()
}

/// Returns the certificate policy of a grade: `ARC.1.N`.
#[must_use]
pub fn policy_of(grade: Grade) -> Vec<u64> {
    ours([1, grade.policy().into()])
}

/// Returns the extended key usage of certificates that are good for updates alone: `ARC.2.1`. Whoever asks for `clientAuth`
/// refuses them without having heard of it.
#[must_use]
pub fn update_only_usage() -> Vec<u64> {
    ours([2, 1])
}

/// Returns the extended key usage of what signs checkpoints of the audit log: `ARC.2.2`.
#[must_use]
pub fn audit_usage() -> Vec<u64> {
    ours([2, 2])
}

/// Returns the name of what signs checkpoints of a catalog's audit log.
#[must_use]
pub fn audit_uri(catalog: &CatalogId) -> String {
    format!("spiffe://{catalog}.holdfast/audit")
}

/// Returns the extension that has the release: `ARC.3.1`, a `SEQUENCE` of the version as `UTF8String` and the rollback index
/// as `INTEGER`.
#[must_use]
pub fn release_extension() -> Vec<u64> {
    ours([3, 1])
}

/// Returns the name of a device in its own certificate.
#[must_use]
pub fn device_uri(catalog: &CatalogId, device: &DeviceId) -> String {
    format!("spiffe://{catalog}.holdfast/device/{device}")
}

/// What a leaf says. Its serial number is random, and its issuer's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// What the certificate is for.
    pub purpose: Purpose,
    /// The public key.
    pub point: Point,
    /// The common name: the device's id.
    pub common_name: String,
    /// The URI of SPIFFE, as the subject's alternative name.
    pub uri: String,
    /// Extended key usages.
    pub usages: Vec<Vec<u64>>,
    /// The certificate policy of the grade.
    pub policy: Vec<u64>,
    /// Version of the release that was measured.
    pub version: Version,
    /// Its rollback index.
    pub index: u64,
    /// Begin, in seconds since 1970.
    pub not_before: u64,
    /// End, in seconds since 1970.
    pub not_after: u64,
}

/// What all leaves of a check-in have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Common {
    /// The catalog.
    pub catalog: CatalogId,
    /// The device.
    pub device: DeviceId,
    /// The grade.
    pub grade: Grade,
    /// What the certificates are good for.
    pub profile: Profile,
    /// Version of the release that was measured.
    pub version: Version,
    /// Its rollback index.
    pub index: u64,
    /// The time, in seconds since 1970.
    pub now: u64,
    /// Seconds for which they are good.
    pub valid_s: u64,
}

impl Leaf {
    /// Makes the leaf of one key.
    #[must_use]
    pub fn new(common: &Common, purpose: Purpose, point: Point) -> Self {
        let Common { catalog, device, .. } = common;
        let of_device = device_uri(catalog, device);
        let uri = match purpose {
            Purpose::Device => of_device,
            Purpose::App(id) => format!("{of_device}/app/{id}"),
        };
        let usages = match common.profile {
            Profile::Full => vec![CLIENT_AUTH.to_vec(), SERVER_AUTH.to_vec()],
            Profile::UpdateOnly => vec![update_only_usage()],
        };
        Self {
            purpose,
            point,
            common_name: device.to_string(),
            uri,
            usages,
            policy: policy_of(common.grade),
            version: common.version,
            index: common.index,
            not_before: common.now.saturating_sub(BACKDATED_S),
            not_after: common.now.saturating_add(common.valid_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::ComponentId;
    use std::collections::BTreeSet;

    const POINT: Point = Point { x: [1; 32], y: [2; 32] };

    fn common(profile: Profile) -> Common {
        Common {
            catalog: CatalogId([0xca; 16]),
            device: DeviceId([0xde; 32]),
            grade: Grade::Hardware,
            profile,
            version: Version { major: 1, minor: 4, patch: 0 },
            index: 7,
            now: 1_000_000,
            valid_s: 7200,
        }
    }

    #[test]
    fn a_leaf_names_the_device_and_the_app() {
        let of_device = Leaf::new(&common(Profile::Full), Purpose::Device, POINT);
        assert_eq!(of_device.common_name, "de".repeat(32), "the longest common name of X.509");
        let catalog = "cacacaca-caca-caca-caca-cacacacacaca";
        let id = "de".repeat(32);
        assert_eq!(of_device.uri, format!("spiffe://{catalog}.holdfast/device/{id}"));
        let app = Purpose::App(ComponentId([0xa1; 16]));
        let of_app = Leaf::new(&common(Profile::Full), app, POINT);
        let expected = format!("{}/app/a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1", of_device.uri);
        assert_eq!(of_app.uri, expected);
        assert_eq!((of_device.not_before, of_device.not_after), (999_400, 1_007_200));
    }

    #[test]
    fn a_certificate_for_updates_has_none_of_the_usages_that_others_ask_for() {
        let full = Leaf::new(&common(Profile::Full), Purpose::Device, POINT);
        assert_eq!(full.usages, [CLIENT_AUTH.to_vec(), SERVER_AUTH.to_vec()], "the control");
        let update = Leaf::new(&common(Profile::UpdateOnly), Purpose::Device, POINT);
        assert_eq!(update.usages, [update_only_usage()]);
    }

    #[test]
    fn each_object_identifier_is_its_own_and_readable_by_go() {
        let policies = Grade::ALL.map(policy_of);
        let all =
            policies.into_iter().chain([update_only_usage(), audit_usage(), release_extension()]);
        let all: Vec<Vec<u64>> = all.collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        // Go reads arcs into 31 bits.
        assert!(all.iter().flatten().all(|arc| *arc < 1 << 31));
    }
}

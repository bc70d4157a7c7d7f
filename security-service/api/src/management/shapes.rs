//! The JSON of management: bodies of requests and answers.

use holdfast_failure_reports::Level;
use holdfast_release::feed::Feed;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::role::Role;
use holdfast_service_store::device::Shown;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// The precondition of a change.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "the document alone is made of it")]
pub(super) struct IfMatch {
    /// Entity tags as `ETag` has them, or `*`: what is changed must still be what was seen, or the change is refused with 412.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// A list's page.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listed<T> {
    /// The entries.
    pub(super) items: Vec<T>,
    /// What `after` is for the next page; none where this one was not full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

impl<T> Listed<T> {
    /// Makes a page, of which `key` is what entries are sorted by.
    pub(super) fn new(items: Vec<T>, most: u32, key: impl Fn(&T) -> String) -> Self {
        let is_full = u32::try_from(items.len()).is_ok_and(|length| length >= most);
        let next = items.last().filter(|_| is_full).map(key);
        Self { items, next }
    }

    /// Leaves out what the caller may not see. The page is shorter then, and the next one begins where it would have.
    pub(super) fn retain(mut self, keep: impl FnMut(&T) -> bool) -> Self {
        self.items.retain(keep);
        self
    }
}

/// A catalog.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CatalogShape {
    /// Its id, a GUID.
    pub(super) id: String,
    /// Its name.
    pub(super) name: String,
    /// The grades that it takes.
    #[schema(value_type = Vec<String>)]
    pub(super) grades: Vec<Grade>,
    /// When it was made, in seconds since 1970.
    pub(super) created_at: u64,
}

/// A new catalog.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCatalog {
    /// Its name.
    pub(super) name: String,
    /// The grades that it takes: all but `emulated` where none are named.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) grades: Option<Vec<Grade>>,
}

/// What is changed of a catalog.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogChange {
    /// The grades that it takes.
    #[schema(value_type = Vec<String>)]
    pub(super) grades: Vec<Grade>,
}

/// A group.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupShape {
    /// Its name; in a request, the path has it.
    #[serde(default)]
    pub(super) name: String,
    /// The least rollback index that it takes.
    #[serde(default)]
    pub(super) least_index: u64,
    /// The grades that it takes; the catalog's where none are said.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) grades: Option<Vec<Grade>>,
    /// How much its devices report: `off`, `health` or `full`. In a request, it stays as it is where it is not said.
    #[schema(value_type = Option<String>)]
    pub(super) reports: Option<Level>,
    /// True if deployments need two people. In a request, it stays as it is where it is not said.
    pub(super) production: Option<bool>,
    /// `on`, or `off`: then no deployment gives its devices anything. In a request, it stays as it is where it is not said.
    pub(super) update: Option<UpdateMode>,
    /// The feed that its devices follow, where their images allow it, such as `retail`; where it is none, devices follow the first that their images
    /// name. In a request, it stays as it is where it is not said.
    #[schema(value_type = Option<String>)]
    pub(super) feed: Option<Feed>,
}

/// Whether deployments give devices of a group releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum UpdateMode {
    /// They do.
    On,
    /// They do not.
    Off,
}

impl UpdateMode {
    pub(super) fn of(is_on: bool) -> Self {
        if is_on { Self::On } else { Self::Off }
    }
}

/// A product and a group.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    /// The product.
    pub(super) product: String,
    /// The group.
    pub(super) group: String,
}

/// A certificate of the catalog's authority.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuthorityShape {
    /// Serial number, in hexadecimal.
    pub(super) serial: String,
    /// `root` or `issuing`.
    pub(super) kind: String,
    /// The certificate, PEM.
    pub(super) pem: String,
    /// Begin, in seconds since 1970.
    pub(super) not_before: u64,
    /// End, in seconds since 1970.
    pub(super) not_after: u64,
}

/// A device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeviceShape {
    /// Its id.
    pub(super) id: String,
    /// `tpm` or `software`.
    pub(super) kind: String,
    /// `waiting`, `claimed`, `enrolled` or `retired`.
    pub(super) state: String,
    /// The grade that it was enrolled with.
    #[schema(value_type = Option<String>)]
    pub(super) grade: Option<Grade>,
    /// The grade that the claim vouches for.
    #[schema(value_type = Option<String>)]
    pub(super) claimed_grade: Option<Grade>,
    /// True while its owner has it quarantined.
    pub(super) quarantined: bool,
    /// The product and the group that it is in.
    pub(super) place: Option<Place>,
    /// Name of the board.
    pub(super) board: Option<String>,
    /// The maker's serial number.
    pub(super) serial: Option<String>,
    /// The verdict on its last check-in: `full`, `update-only`, or the problem's name.
    pub(super) verdict: Option<String>,
    /// Version of the release that was measured last.
    pub(super) version: Option<String>,
    /// Its rollback index.
    pub(super) index: Option<u64>,
    /// The phase that was claimed last.
    pub(super) phase: Option<String>,
    /// End of its certificates, in seconds since 1970.
    pub(super) certificate_end: Option<u64>,
    /// When it is to check in next, in seconds since 1970.
    pub(super) next_at: Option<u64>,
    /// When it was seen last, in seconds since 1970.
    pub(super) seen_at: Option<u64>,
}

impl From<Shown> for DeviceShape {
    fn from(shown: Shown) -> Self {
        let device = shown.device;
        Self {
            id: device.id.to_string(),
            kind: device.kind.word().to_owned(),
            state: device.state.word().to_owned(),
            grade: device.grade,
            claimed_grade: device.claimed_grade,
            quarantined: device.quarantined,
            place: shown.group.map(|(product, group)| Place { product, group }),
            board: shown.board,
            serial: shown.serial,
            verdict: shown.verdict,
            version: shown.version,
            index: shown.index,
            phase: shown.phase,
            certificate_end: shown.certificate_end,
            next_at: shown.next_at,
            seen_at: shown.seen_at,
        }
    }
}

/// Claims.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Claims {
    /// The claims, at most 1000.
    pub(super) devices: Vec<ClaimShape>,
}

/// A claim: whoever makes it vouches for the device's key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimShape {
    /// The device's id.
    pub(super) device: String,
    /// The grade that is vouched for.
    #[schema(value_type = String)]
    pub(super) grade: Grade,
    /// Name of the board.
    pub(super) board: Option<String>,
    /// The maker's serial number.
    pub(super) serial: Option<String>,
    /// The product and the group that it goes into.
    pub(super) place: Option<Place>,
}

/// The result of a claim.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Claimed {
    /// The device's id.
    pub(super) device: String,
    /// Its state afterwards.
    pub(super) state: String,
}

/// A release by what it measures.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReleaseShape {
    /// What the boot loader extends into PCR 8: the `boot_digest` of a signed target.
    pub(super) boot: String,
    /// The digest of PCR 8 that a quote then has.
    pub(super) pcr: String,
    /// Its version.
    pub(super) version: String,
    /// Its rollback index.
    pub(super) index: u64,
    /// True once it was withdrawn.
    pub(super) withdrawn: bool,
    /// `signed` where signed targets name it, `by-hand` where somebody has typed it.
    pub(super) source: String,
    /// The feed whose devices it is for alone; none for those of every feed.
    pub(super) feed: Option<String>,
}

/// A release that was added by hand.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedByHand {
    /// True.
    pub(super) done: bool,
    /// `by-hand`: nobody but the holder of the token vouches for it.
    pub(super) source: String,
}

/// The root that a catalog is to trust for a repository.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRoot {
    /// The text of a `root.json` of the repository: the oldest that devices' images have.
    pub(super) root: String,
}

/// A repository whose root a catalog trusts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RepositoryShape {
    /// Version of the root.
    pub(super) version: u32,
    /// Its expiry, as RFC 3339.
    pub(super) expires: String,
    /// SHA-256 of the file, in hexadecimal.
    pub(super) sha256: String,
    /// When it was set, in seconds since 1970.
    pub(super) set_at: u64,
    /// Version of the targets that were taken last.
    pub(super) targets: Option<u64>,
    /// When metadata was taken last, in seconds since 1970.
    pub(super) taken_at: Option<u64>,
    /// When what devices are served has changed last, in seconds since 1970; none where they are served nothing.
    pub(super) served_at: Option<u64>,
    /// Where devices find it, below the URL of the device port.
    pub(super) served_at_path: String,
}

/// Signed metadata of a repository.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMetadata {
    /// Texts of the files in the repository's directory `metadata`, by their names: `timestamp.json`, the snapshot and the targets
    /// that belong to it, and roots that are newer than the trusted one.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    pub(super) metadata: BTreeMap<String, String>,
    /// True if devices are to be served the metadata and the files that they name.
    #[serde(default)]
    pub(super) serve: bool,
}

/// A file of a release that the catalog holds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HeldFileShape {
    /// SHA-256 of its content, in hexadecimal.
    pub(super) sha256: String,
    /// Bytes of its content.
    pub(super) bytes: u64,
    /// Name of the token that has added it.
    pub(super) added_by: String,
    /// When it was added last, in seconds since 1970.
    pub(super) added_at: u64,
}

/// A file of a release that was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedFile {
    /// SHA-256 of its content, in hexadecimal.
    pub(super) sha256: String,
    /// True if the catalog did not hold it before.
    pub(super) new: bool,
}

/// What was taken of signed metadata.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TakenShape {
    /// `signed`.
    pub(super) source: String,
    /// Version of the targets.
    pub(super) targets: u32,
    /// Releases of the OS that they name.
    pub(super) releases: Vec<SignedShape>,
    /// Releases of the OS that cannot be attested, and why.
    pub(super) ignored: Vec<IgnoredShape>,
    /// True if devices are served it from now on.
    pub(super) served: bool,
}

/// A release that signed targets name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedShape {
    /// Path of the target.
    pub(super) path: String,
    /// What the boot loader extends into PCR 8.
    pub(super) boot: String,
    /// Its version.
    pub(super) version: String,
    /// Its rollback index.
    pub(super) index: u64,
    /// The feed whose devices it is for alone; none for those of every feed.
    pub(super) feed: Option<String>,
    /// True if it was not known, or was typed by hand before.
    pub(super) new: bool,
}

/// A release that is not taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IgnoredShape {
    /// Path of the target.
    pub(super) path: String,
    /// Why.
    pub(super) reason: String,
}

/// A new release.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRelease {
    /// What the boot loader extends into PCR 8: 64 hex digits, the `boot_digest` of a signed target.
    pub(super) boot: String,
    /// Its version, such as 1.4.0.
    pub(super) version: String,
    /// Its rollback index.
    pub(super) index: u64,
}

/// A maker of TPMs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMaker {
    /// The authority's certificate, DER in base64.
    pub(super) certificate: String,
    /// The grade that it vouches for.
    #[schema(value_type = String)]
    pub(super) grade: Grade,
}

/// A maker that is listed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MakerShape {
    /// SHA-256 of the certificate, in hexadecimal.
    pub(super) fingerprint: String,
    /// The grade that it vouches for.
    #[schema(value_type = String)]
    pub(super) grade: Grade,
}

/// A finding.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FindingShape {
    /// The device.
    pub(super) device: String,
    /// What was found.
    pub(super) kind: String,
    /// When it was found first, in seconds since 1970.
    pub(super) opened_at: u64,
    /// When it was found last.
    pub(super) last_at: u64,
    /// How often it was found.
    pub(super) times: u64,
    /// When it was closed.
    pub(super) closed_at: Option<u64>,
}

/// A finding that is to be closed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FindingToClose {
    /// The device.
    pub(super) device: String,
    /// What was found.
    pub(super) kind: String,
}

/// A row of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditShape {
    /// Its number, from 1 on.
    pub(super) number: u64,
    /// The time, in seconds since 1970.
    pub(super) at: u64,
    /// Who.
    pub(super) who: String,
    /// What.
    pub(super) verb: String,
    /// To what.
    pub(super) object: String,
    /// SHA-256 of the request's body, in hexadecimal.
    pub(super) digest: String,
    /// The hash of the chain up to it, in hexadecimal.
    pub(super) hash: String,
}

/// How the audit log stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditVerdict {
    /// Rows that were followed.
    pub(super) rows: u64,
    /// The first row that is not what was written, or behind one that is missing.
    pub(super) broken: Option<u64>,
}

/// A new token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// Its name, which the audit log has.
    pub(super) name: String,
    /// Its role.
    #[schema(value_type = String)]
    pub(super) role: Role,
    /// Days until it ends, 1 to 90.
    pub(super) days: u32,
    /// The product that it is for; the whole catalog where none is said.
    pub(super) product: Option<String>,
    /// The group of devices that it is for.
    pub(super) group: Option<String>,
    /// Whose it is, where it is somebody else's. Of no meaning where people sign in by a provider.
    pub(super) person: Option<String>,
}

/// A token that was made. Its secret is told here and never again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeToken {
    /// The secret.
    pub(super) token: String,
    /// Its end, in seconds since 1970.
    pub(super) ends_at: u64,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenShape {
    /// Its name.
    pub(super) name: String,
    /// Whose it is.
    pub(super) person: String,
    /// The product that it is for; the whole catalog where none is said.
    pub(super) product: Option<String>,
    /// The group of devices that it is for.
    pub(super) group: Option<String>,
    /// Its role.
    #[schema(value_type = String)]
    pub(super) role: Role,
    /// When it was made, in seconds since 1970.
    pub(super) created_at: u64,
    /// Its end, in seconds since 1970.
    pub(super) ends_at: u64,
}

/// A problem (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemShape {
    /// URI of the kind.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// A sentence for the kind.
    pub(super) title: String,
    /// HTTP status.
    pub(super) status: u16,
    /// What happened.
    pub(super) detail: String,
}

/// Nothing but that it was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// True.
    pub(super) done: bool,
}

/// Symbols of a program.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SymbolsShape {
    /// The program's build id, in hexadecimal.
    pub(super) build_id: String,
    /// SHA-256 of its file, in hexadecimal.
    pub(super) sha256: String,
    /// Bytes of its file.
    pub(super) bytes: u64,
    /// Name of the token that has added them.
    pub(super) added_by: String,
    /// When they were added, in seconds since 1970.
    pub(super) added_at: u64,
}

/// Symbols that were taken.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedSymbols {
    /// The program's build id, in hexadecimal.
    pub(super) build_id: String,
    /// True if there were none of it before.
    pub(super) new: bool,
}

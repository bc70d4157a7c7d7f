//! The JSON of sign-ins, sessions, roles, approvals and checkpoints.

use holdfast_service_domain::role::Role;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A provider that people sign in by.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProviderShape {
    /// Its name.
    pub(super) name: String,
    /// Its issuer.
    pub(super) issuer: String,
}

/// A sign-in on the command line that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BegunDeviceShape {
    /// Where the person goes, in whatever browser.
    pub(super) url: String,
    /// The same with the code in it, where the provider offers that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) complete_url: Option<String>,
    /// What the person types there.
    pub(super) user_code: String,
    /// Seconds from one question to the next.
    pub(super) interval_s: u64,
    /// Seconds until it ends.
    pub(super) expires_in_s: u64,
    /// What is asked with: a secret.
    pub(super) handle: String,
}

/// A question about a sign-in on the command line.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DevicePoll {
    /// The handle of what has begun.
    pub(super) handle: String,
}

/// What has become of a sign-in on the command line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DevicePollShape {
    /// True while the person has not decided.
    pub(super) pending: bool,
    /// Seconds until the next question, while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interval_s: Option<u64>,
    /// The session's secret, which is told once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    /// Its end at the latest, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ends_at: Option<u64>,
}

/// A role, and how far it reaches.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoleHeldShape {
    /// The role.
    #[schema(value_type = String)]
    pub(super) role: Role,
    /// The catalog; all where none is said.
    pub(super) catalog: Option<String>,
    /// The product; all where none is said.
    pub(super) product: Option<String>,
    /// The group; all where none is said.
    pub(super) group: Option<String>,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionShape {
    /// Id of the person.
    pub(super) person: String,
    /// The name, as the audit log has it.
    pub(super) name: String,
    /// `browser` or `command-line`.
    pub(super) client: String,
    /// When it ends if it is not used any more, in seconds since 1970.
    pub(super) ends_at: u64,
    /// What requests by the cookie repeat in `X-CSRF-Token` to change something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) csrf_token: Option<String>,
    /// Roles.
    pub(super) roles: Vec<RoleHeldShape>,
}

/// A new role. It is a person's (`subject`) or a group's of the provider.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRole {
    /// Name of the provider.
    pub(super) provider: String,
    /// The person's subject there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// The group of the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) claimed_group: Option<String>,
    /// The role.
    #[schema(value_type = String)]
    pub(super) role: Role,
    /// The product that it is for; the whole catalog where none is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) product: Option<String>,
    /// The group of devices that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
}

/// A role that was given.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoleShape {
    /// Its id.
    pub(super) id: String,
    /// Issuer of the provider.
    pub(super) issuer: String,
    /// The person's subject, where it is a person's.
    pub(super) subject: Option<String>,
    /// The group of the provider, where it is a group's.
    pub(super) claimed_group: Option<String>,
    /// The role.
    #[schema(value_type = String)]
    pub(super) role: Role,
    /// The product that it is for; the whole catalog where none is said.
    pub(super) product: Option<String>,
    /// The group of devices that it is for.
    pub(super) group: Option<String>,
    /// Who has given it.
    pub(super) granted_by: String,
    /// When, in seconds since 1970.
    pub(super) granted_at: u64,
}

/// A change that waits for a second person, or did.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApprovalShape {
    /// Its number.
    pub(super) approval: u64,
    /// What it is.
    pub(super) kind: String,
    /// To what it is done.
    pub(super) object: String,
    /// What was asked for.
    pub(super) request: Value,
    /// SHA-256 of kind, object and request, in hexadecimal: whoever approves repeats what he has seen.
    pub(super) digest: String,
    /// `waiting`, `approved`, `rejected` or `ended`.
    pub(super) state: String,
    /// Who has asked for it.
    pub(super) requested_by: String,
    /// When, in seconds since 1970.
    pub(super) requested_at: u64,
    /// When it ends if nobody decides, in seconds since 1970.
    pub(super) ends_at: u64,
    /// Who has decided.
    pub(super) decided_by: Option<String>,
    /// When, in seconds since 1970.
    pub(super) decided_at: Option<u64>,
}

/// A decision about a change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DecisionShape {
    /// The digest of the change, as it is shown.
    pub(super) digest: String,
}

/// An authority that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RenewedAuthority {
    /// The serial number of the certificate.
    pub(super) serial: String,
}

/// A checkpoint of the audit log, signed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CheckpointShape {
    /// Id of the catalog.
    catalog: String,
    /// Rows of the log.
    size: u64,
    /// Hash of the last row, in hexadecimal.
    head: String,
    /// When it was made, in seconds since 1970.
    at: u64,
    /// What has signed, and what has issued its certificate: DER in base64.
    certificates: Vec<String>,
    /// ECDSA on P-256 with SHA-256, ASN.1 in base64.
    signature: String,
}

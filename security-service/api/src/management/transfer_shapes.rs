//! The JSON of transfers.

use super::shapes::Place;
use holdfast_service_domain::grade::Grade;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A device that is offered to another catalog.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTransfer {
    /// Id of the catalog that it goes to.
    pub(super) to: String,
    /// Certificate of that catalog's root, DER in base64.
    pub(super) root: String,
    /// Days for which the voucher is good, 1 to 400.
    pub(super) days: u32,
}

/// An approval.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Approval {
    /// The signature of `signed_bytes` by the key of this catalog's root, ECDSA with SHA-256, DER in base64: where that key is kept
    /// elsewhere.
    pub(super) signature: Option<String>,
}

/// A transfer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TransferShape {
    /// The device.
    pub(super) device: String,
    /// Id of the catalog that it goes to.
    pub(super) to: String,
    /// How many owners it has had by then, without the first.
    pub(super) epoch: u32,
    /// `offered`, `approved`, `sent`, `followed` or `ended`.
    pub(super) state: String,
    /// Who has offered it.
    pub(super) offered_by: String,
    /// Who has approved it.
    pub(super) approved_by: Option<String>,
    /// End of the voucher, in seconds since 1970.
    pub(super) ends_at: u64,
    /// When the device was told first, in seconds since 1970.
    pub(super) sent_at: Option<u64>,
    /// When it has enrolled in the other catalog, in seconds since 1970, where that is of this service.
    pub(super) followed_at: Option<u64>,
    /// What the root of this catalog signs, in base64.
    pub(super) signed_bytes: String,
    /// The voucher, in base64, by which the other catalog accepts the device.
    pub(super) voucher: Option<String>,
}

/// A device that another catalog gives.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Acceptance {
    /// The voucher, in base64.
    pub(super) voucher: String,
    /// The grade that is vouched for.
    #[schema(value_type = String)]
    pub(super) grade: Grade,
    /// The product and the group that it goes into.
    pub(super) place: Option<Place>,
}

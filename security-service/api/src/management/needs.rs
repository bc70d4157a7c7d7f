//! What each operation of management needs: the one table that the page on people is made of and that the test of all operations
//! compares the service with. An operation without a row here fails a test.

use holdfast_service_domain::role::Need;

/// Who may do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anybody: signing in begins so.
    Anybody,
    /// Whoever has a session, whatever the role.
    Session,
    /// Whoever has a role with one of these.
    Role(&'static [Need]),
    /// As the action in the path says: `approve` needs [`Need::Approve`], `resume` [`Need::Release`], all others [`Need::Operate`].
    Action,
}

/// How far a role has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nowhere.
    None,
    /// The whole service.
    Service,
    /// Anywhere in any catalog: what is shown is the service's own.
    Anywhere,
    /// Over the whole catalog.
    Catalog,
    /// Anywhere in the catalog: what is shown is common to all of it.
    Common,
    /// Anywhere: what the role does not reach is left out.
    Filtered,
    /// To the product or the group that the request names.
    Named,
    /// To the product or the group of the row; for the whole catalog where it is in none. A row that the role does not let see is missing.
    Row,
}

impl Reach {
    /// Returns what it means, as the page on people has it.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Service => "the whole service",
            Self::Anywhere => "any part of any catalog",
            Self::Catalog => "the whole catalog",
            Self::Common => "any part of the catalog",
            Self::Filtered => "any part; the rest is left out",
            Self::Named => "what the request names",
            Self::Row => "the product or group of the row",
        }
    }
}

/// An operation, and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Method and path, as the OpenAPI document has them.
    pub operation: &'static str,
    /// Who may do it.
    pub who: Who,
    /// How far the role has to reach.
    pub reach: Reach,
}

impl Operation {
    /// Returns the word for what it needs, as the page on people has it.
    #[must_use]
    pub fn need(&self) -> String {
        match self.who {
            Who::Anybody => "nothing".to_owned(),
            Who::Session => "a session".to_owned(),
            Who::Action => "approve, release or operate".to_owned(),
            Who::Role(needs) => {
                needs.iter().map(|need| need.word()).collect::<Vec<_>>().join(" or ")
            }
        }
    }
}

const fn row(operation: &'static str, who: Who, reach: Reach) -> Operation {
    Operation { operation, who, reach }
}

const SEE: Who = Who::Role(&[Need::See]);
const CLOSE: Who = Who::Role(&[Need::Close]);
const CLAIM: Who = Who::Role(&[Need::Claim]);
const OPERATE: Who = Who::Role(&[Need::Operate]);
const RELEASE: Who = Who::Role(&[Need::Release]);
const APPROVE: Who = Who::Role(&[Need::Approve]);
const REJECT: Who = Who::Role(&[Need::Operate, Need::Approve]);
const AUDIT: Who = Who::Role(&[Need::Audit]);
const OWN: Who = Who::Role(&[Need::Own]);

/// Every operation.
pub const NEEDS: &[Operation] = &[
    row("POST /v1/first-owner/{ticket}", Who::Anybody, Reach::None),
    row("GET /v1/sign-in", Who::Anybody, Reach::None),
    row("GET /v1/sign-in/{provider}/begin", Who::Anybody, Reach::None),
    row("GET /v1/sign-in/{provider}/callback", Who::Anybody, Reach::None),
    row("POST /v1/sign-in/{provider}/device", Who::Anybody, Reach::None),
    row("POST /v1/sign-in/{provider}/device/poll", Who::Anybody, Reach::None),
    row("GET /v1/session", Who::Session, Reach::None),
    row("POST /v1/session/end", Who::Session, Reach::None),
    row("GET /v1/status", SEE, Reach::Anywhere),
    row("GET /v1/catalogs", SEE, Reach::Filtered),
    row("POST /v1/catalogs", OWN, Reach::Service),
    row("GET /v1/catalogs/{catalog}", SEE, Reach::Common),
    row("PATCH /v1/catalogs/{catalog}", OWN, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/overview", SEE, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/products", SEE, Reach::Filtered),
    row("PUT /v1/catalogs/{catalog}/products/{product}", OPERATE, Reach::Named),
    row("GET /v1/catalogs/{catalog}/products/{product}/groups", SEE, Reach::Filtered),
    row("GET /v1/catalogs/{catalog}/products/{product}/groups/{group}", SEE, Reach::Named),
    row("PUT /v1/catalogs/{catalog}/products/{product}/groups/{group}", OPERATE, Reach::Named),
    row("POST /v1/catalogs/{catalog}/products/{product}/default-groups", OPERATE, Reach::Named),
    row(
        "GET /v1/catalogs/{catalog}/products/{product}/groups/{group}/thresholds",
        SEE,
        Reach::Named,
    ),
    row(
        "PATCH /v1/catalogs/{catalog}/products/{product}/groups/{group}/thresholds",
        OPERATE,
        Reach::Named,
    ),
    row("GET /v1/catalogs/{catalog}/thresholds", SEE, Reach::Catalog),
    row("PATCH /v1/catalogs/{catalog}/thresholds", OPERATE, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/deployments", SEE, Reach::Filtered),
    row("POST /v1/catalogs/{catalog}/deployments", RELEASE, Reach::Named),
    row("GET /v1/catalogs/{catalog}/deployments/{deployment}", SEE, Reach::Row),
    row("GET /v1/catalogs/{catalog}/deployments/{deployment}/devices", SEE, Reach::Row),
    row("GET /v1/catalogs/{catalog}/deployments/{deployment}/reasons", SEE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/deployments/{deployment}/{action}", Who::Action, Reach::Row),
    row("POST /v1/catalogs/{catalog}/claims", CLAIM, Reach::Named),
    row("GET /v1/catalogs/{catalog}/devices", SEE, Reach::Filtered),
    row("GET /v1/catalogs/{catalog}/devices/{device}", SEE, Reach::Row),
    row("GET /v1/catalogs/{catalog}/devices/{device}/timeline", SEE, Reach::Row),
    row("GET /v1/catalogs/{catalog}/devices/{device}/transfer", SEE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/devices/{device}/transfer", OWN, Reach::Row),
    row("POST /v1/catalogs/{catalog}/devices/{device}/transfer/approve", OWN, Reach::Row),
    row("POST /v1/catalogs/{catalog}/devices/{device}/transfer/withdraw", OWN, Reach::Row),
    row("GET /v1/catalogs/{catalog}/transfers", SEE, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/transfers/accept", CLAIM, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/devices/{device}/move", OPERATE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/devices/{device}/quarantine", OPERATE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/devices/{device}/end-quarantine", OPERATE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/devices/{device}/retire", OPERATE, Reach::Row),
    row("GET /v1/catalogs/{catalog}/releases", SEE, Reach::Common),
    row("POST /v1/catalogs/{catalog}/releases", RELEASE, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/releases/{boot}/withdraw", RELEASE, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/releases/{boot}/restore", RELEASE, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/repositories/{repository}", SEE, Reach::Common),
    row("PUT /v1/catalogs/{catalog}/repositories/{repository}/root", OWN, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/repositories/{repository}/metadata", RELEASE, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/release-files", SEE, Reach::Common),
    row("PUT /v1/catalogs/{catalog}/release-files/{sha256}", RELEASE, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/symbols", SEE, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/symbols/{build_id}", SEE, Reach::Catalog),
    row("PUT /v1/catalogs/{catalog}/symbols/{build_id}", RELEASE, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/symbols/{build_id}/remove", RELEASE, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/makers", SEE, Reach::Common),
    row("POST /v1/catalogs/{catalog}/makers", OWN, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/ca-certificates", SEE, Reach::Common),
    row("POST /v1/catalogs/{catalog}/ca-certificates/renew", OWN, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/findings", SEE, Reach::Filtered),
    row("POST /v1/catalogs/{catalog}/findings/close", CLOSE, Reach::Row),
    row("GET /v1/catalogs/{catalog}/threats", SEE, Reach::Filtered),
    row("GET /v1/catalogs/{catalog}/threats/{number}", SEE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/threats/{number}/close", CLOSE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/threats/{number}/contain", OPERATE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/threats/{number}/release", OPERATE, Reach::Row),
    row("GET /v1/catalogs/{catalog}/reports", SEE, Reach::Filtered),
    row("GET /v1/catalogs/{catalog}/crashes", SEE, Reach::Filtered),
    row("GET /v1/catalogs/{catalog}/crashes/{group}", SEE, Reach::Row),
    row("GET /v1/catalogs/{catalog}/crashes/{group}/days", SEE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/crashes/{group}/close", CLOSE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/crashes/{group}/reopen", CLOSE, Reach::Row),
    row("GET /v1/catalogs/{catalog}/audit", AUDIT, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/audit/verify", AUDIT, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/audit/checkpoint", SEE, Reach::Common),
    row("POST /v1/catalogs/{catalog}/audit/checkpoint", AUDIT, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/exports", AUDIT, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/tokens", OWN, Reach::Filtered),
    row("POST /v1/catalogs/{catalog}/tokens", OWN, Reach::Named),
    row("POST /v1/catalogs/{catalog}/tokens/{name}/remove", OWN, Reach::Row),
    row("GET /v1/catalogs/{catalog}/roles", OWN, Reach::Filtered),
    row("POST /v1/catalogs/{catalog}/roles", OWN, Reach::Named),
    row("POST /v1/catalogs/{catalog}/roles/{role}/revoke", OWN, Reach::Row),
    row("GET /v1/catalogs/{catalog}/approvals", SEE, Reach::Filtered),
    row("GET /v1/catalogs/{catalog}/approvals/{approval}", SEE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/approvals/{approval}/approve", APPROVE, Reach::Row),
    row("POST /v1/catalogs/{catalog}/approvals/{approval}/reject", REJECT, Reach::Row),
    row("GET /v1/catalogs/{catalog}/deliveries", OPERATE, Reach::Catalog),
    row("GET /v1/catalogs/{catalog}/webhooks", OPERATE, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/webhooks", OPERATE, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/webhooks/{name}/remove", OPERATE, Reach::Catalog),
    row("POST /v1/catalogs/{catalog}/webhooks/{name}/test", OPERATE, Reach::Catalog),
];

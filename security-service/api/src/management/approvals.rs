//! Changes that wait for a second person: shown, approved and rejected, and what is done when one is approved.

use super::asking::{self, Asked, alone, shape};
use super::caller::{Caller, Change, done, json, shown};
use super::catalogs;
use super::page::Page;
use super::people_shapes::{ApprovalShape, DecisionShape, RenewedAuthority};
use super::releases;
use super::roles;
use super::shapes::{Done, GroupShape, Listed, NewMaker, ProblemShape};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use holdfast_service_domain::approval::{
    self, Decision, Kind, Refusal as ApprovalRefusal, State as ApprovalState,
};
use holdfast_service_domain::extent::Extent;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_store::approval::{self as stored, PendingRow};
use holdfast_service_store::authority::{self, Authority, AuthorityKind};
use holdfast_service_store::precondition::{self, Precondition, Seen, Subject};
use holdfast_service_store::{Connection, Scope, StoreError, person};
use holdfast_types::hex::hex;
use std::sync::Arc;

type Shared = State<Arc<Service>>;

fn number(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| Refusal::from(Problem::NotFound))
}

/// Lists changes that wait for a second person, and with `state=all` those that were decided about or have ended.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/approvals",
    params(("catalog" = String, Path), Page), security(("token" = [])),
    responses((status = 200, body = Listed<ApprovalShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let after = if page.after.is_empty() { Ok(0) } else { page.after.parse() };
    let after = after.map_err(|_| Refusal::new(Problem::Malformed, "after: must be a number"))?;
    let (all, now) = (page.state.as_deref() == Some("all"), service.now());
    let rows = service.store.pending_changes(scope, all, after, page.most(), now).await?;
    let listed = Listed::new(rows, page.most(), |row: &PendingRow| row.number.to_string());
    let listed = listed.retain(|row| caller.0.may(Need::See, &row.extent));
    let items = listed.items.into_iter().map(|row| shape(row, now)).collect();
    shown(&Listed { items, next: listed.next })
}

/// Shows a change that waits for a second person, or did.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/approvals/{approval}",
    params(("catalog" = String, Path), ("approval" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = ApprovalShape), (status = 404, body = ProblemShape)))]
pub(super) async fn show(
    State(service): Shared,
    caller: Caller,
    Path((catalog, approval)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let row = service.store.pending_change(scope, number(&approval)?).await?;
    if !caller.0.may(Need::See, &row.extent) {
        return Err(Problem::NotFound.into());
    }
    shown(&shape(row, service.now()))
}

/// Approves a change, which is carried out at once. Whoever approves is another person than whoever has asked, and repeats the digest of what he has seen.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/approvals/{approval}/approve",
    params(("catalog" = String, Path), ("approval" = u64, Path)), request_body = DecisionShape,
    security(("token" = [])),
    responses((status = 200, body = ApprovalShape), (status = 409, body = ProblemShape)))]
pub(super) async fn approve(
    State(service): Shared,
    Path((catalog, approval)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Approve).await?;
    let row = service.store.pending_change(scope, number(&approval)?).await?;
    may_decide(&change.caller, &row)?;
    let DecisionShape { digest } = change.json()?;
    if digest != hex(&row.digest) {
        let detail = "digest: is not that of the change; look at it with `approval show`";
        return Err(Refusal::new(Problem::Malformed, detail));
    }
    let (by, now) = (change.caller.0.by.clone(), service.now());
    // What has to be made outside of a transaction is made before it.
    let made = match row.pending.kind {
        Kind::Authority => Some(catalogs::next_authority(&service, scope).await?),
        _ => None,
    };
    let standing = service.sign_in.standing.clone();
    let object = spoken(&row);
    let answer =
        change.make(&service, scope, "approval.approve", &object, move |connection, scope| {
            Box::pin(async move {
                let number = row.number;
                let decision = Decision::Approve;
                let row = stored::decide(connection, scope, number, decision, &by, &standing, now);
                let row = row.await?;
                carry_out(connection, scope, &row, made, &standing, now).await?;
                let pending = approval::Pending { state: ApprovalState::Approved, ..row.pending };
                let decided = Some((by.name, now));
                Ok(done(&shape(PendingRow { pending, decided, ..row }, now)))
            })
        });
    let answer = answer.await?;
    service.issuers.forget(&scope.catalog());
    Ok(answer)
}

/// Rejects a change. Whoever has asked for it takes it back so.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/approvals/{approval}/reject",
    params(("catalog" = String, Path), ("approval" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 409, body = ProblemShape)))]
pub(super) async fn reject(
    State(service): Shared,
    Path((catalog, approval)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Operate).await;
    let scope = match scope {
        Err(refusal) if refusal.problem == Problem::Forbidden => {
            change.caller.scope_in(&service, &catalog, Need::Approve).await?
        }
        scope => scope?,
    };
    let row = service.store.pending_change(scope, number(&approval)?).await?;
    if row.pending.requested_by.person != change.caller.0.by.person {
        may_decide(&change.caller, &row)?;
    }
    let (by, now, object) = (change.caller.0.by.clone(), service.now(), spoken(&row));
    let (standing, decision) = (service.sign_in.standing.clone(), Decision::Reject);
    let work =
        change.carry_out(&service, scope, "approval.reject", &object, move |connection, scope| {
            Box::pin(async move {
                let number = row.number;
                stored::decide(connection, scope, number, decision, &by, &standing, now).await?;
                Ok(())
            })
        });
    work.await
}

/// Demands that the caller may decide about a change.
fn may_decide(caller: &Caller, row: &PendingRow) -> Result<(), Refusal> {
    if caller.0.may(row.pending.kind.need(), &row.extent) {
        Ok(())
    } else if caller.0.may(Need::See, &row.extent) {
        Err(Problem::Forbidden.into())
    } else {
        Err(Problem::NotFound.into())
    }
}

/// Returns what the audit log says of a change, with the name of whoever has asked for it.
fn spoken(row: &PendingRow) -> String {
    let (kind, by) = (row.pending.kind.word(), &row.pending.requested_by.name);
    format!("{} {kind} {}, asked for by {by}", row.number, row.object)
}

/// Does what was approved, if the object is what it was when it was asked for.
async fn carry_out(
    connection: &mut Connection,
    scope: Scope,
    row: &PendingRow,
    made: Option<Authority>,
    standing: &[holdfast_service_domain::sign_in_settings::StandingGrant],
    now: u64,
) -> Result<(), StoreError> {
    let changed = || StoreError::Approval(ApprovalRefusal::ObjectChanged);
    let damaged = |_| StoreError::Damaged("request");
    match row.pending.kind {
        Kind::LeastIndex | Kind::ProductionMark | Kind::Feed => {
            let (Some(product), Some(group)) = (row.extent.product(), row.extent.group()) else {
                return Err(StoreError::Damaged("grp"));
            };
            let revision = row.seen.parse().map_err(|_| StoreError::Damaged("seen"))?;
            let (product, group) = (product.to_owned(), group.to_owned());
            let subject = Subject::Group { product: product.clone(), group: group.clone() };
            let seen = Precondition { subject, seen: Seen::Revisions(vec![revision]) };
            let held = precondition::hold(connection, scope, Some(&seen)).await;
            held.map_err(|error| match error {
                StoreError::Changed => changed(),
                error => error,
            })?;
            let new: GroupShape = serde_json::from_str(&row.request).map_err(damaged)?;
            let group = catalogs::group_row(product, group, new);
            holdfast_service_store::catalog::put_group(connection, scope, group, now).await
        }
        Kind::Authority => {
            let newest = authority::newest(connection, scope, AuthorityKind::Issuing).await?;
            if newest.as_deref().unwrap_or_default() != row.seen {
                return Err(changed());
            }
            let made = made.ok_or_else(changed)?;
            authority::add(connection, scope, made).await
        }
        Kind::Maker => {
            let new: NewMaker = serde_json::from_str(&row.request).map_err(damaged)?;
            let certificate = releases::maker_of(&new).map_err(|_| changed())?;
            let store = holdfast_service_store::release::put_maker(
                connection,
                scope,
                certificate,
                new.grade,
                now,
            );
            store.await.map(|_| ())
        }
        Kind::OwnerGrant => {
            let given = roles::given_of(row, scope)?;
            person::give(connection, scope, given).await
        }
        Kind::OwnerRevocation => {
            let taken = person::take_away(connection, scope, &row.seen, standing, now).await;
            taken.map_err(|error| match error {
                StoreError::Missing(_) => changed(),
                error => error,
            })
        }
    }
}

/// Renews the issuing certificate of the catalog before its time. It needs the key of the catalog's root, and a second person.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/ca-certificates/renew",
    params(("catalog" = String, Path)), security(("token" = [])),
    responses((status = 200, body = RenewedAuthority), (status = 202, body = ApprovalShape),
        (status = 409, body = ProblemShape)))]
pub(super) async fn renew_authority(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Own).await?;
    let extent = Extent::Catalog(scope.catalog());
    if asking::waits(&service, &change.caller, scope, Kind::Authority, &extent).await? {
        let rows = service.store.authorities(scope).await?;
        let newest = rows.iter().find(|row| row.kind == AuthorityKind::Issuing);
        let seen = newest.map(|row| row.serial.clone()).unwrap_or_default();
        let (kind, request) = (Kind::Authority, "{}".to_owned());
        let object = "issuing certificate".to_owned();
        let asked = Asked { kind, object, extent, request, seen };
        return asking::ask(&service, scope, change, asked, None).await;
    }
    let made = catalogs::next_authority(&service, scope).await?;
    let object = alone(&made.serial);
    let work =
        change.make(&service, scope, "ca-certificate.renew", &object, move |connection, scope| {
            Box::pin(async move {
                let serial = made.serial.clone();
                authority::add(connection, scope, made).await?;
                Ok(done(&RenewedAuthority { serial }))
            })
        });
    let answer = work.await?;
    service.issuers.forget(&scope.catalog());
    Ok(answer)
}

/// Shows the newest checkpoint of the audit log.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/audit/checkpoint",
    params(("catalog" = String, Path)), security(("token" = [])),
    responses((status = 200, body = super::people_shapes::CheckpointShape),
        (status = 404, body = ProblemShape)))]
pub(super) async fn checkpoint(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let found = service.store.checkpoint(scope, None).await?;
    let missing = || Refusal::new(Problem::NotFound, "no checkpoint was signed yet");
    Ok(json(StatusCode::OK, found.ok_or_else(missing)?.1))
}

/// Signs a checkpoint of the audit log as it is now.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/audit/checkpoint",
    params(("catalog" = String, Path)), security(("token" = [])),
    responses((status = 200, body = super::people_shapes::CheckpointShape),
        (status = 403, body = ProblemShape)))]
pub(super) async fn make_checkpoint(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Audit).await?;
    let made = crate::checkpoints::make(&service, scope).await.map_err(|error| {
        let event = holdfast_types::event::security_service::AUDIT_CHECKPOINT_FAILED;
        let cause = holdfast_types::escaped_chain(&error);
        eprintln!("catalog {}: no checkpoint: {cause} {event}", scope.catalog());
        Refusal::from(Problem::Internal)
    })?;
    Ok(json(StatusCode::OK, made))
}

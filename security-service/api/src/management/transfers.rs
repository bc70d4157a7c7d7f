//! Transfers of devices between catalogs: offered by one owner, approved by another one, followed by the device, and accepted by the
//! catalog that it goes to.

use super::caller::{Caller, Change, done, shown};
use super::devices::found;
use super::page::Page;
use super::shapes::{Claimed, Done, Listed, ProblemShape};
use super::transfer_shapes::{Acceptance, Approval, NewTransfer, TransferShape};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_evidence::attest::Signature;
use holdfast_evidence::issued::certified_key;
use holdfast_evidence::messages::{CatalogId, DeviceId, MAX_CERTIFICATE_BYTES};
use holdfast_evidence::service::Ring;
use holdfast_evidence::transfer::{Transfer as Signed, Voucher};
use holdfast_evidence::verify::VerifySignature;
use holdfast_service_domain::device::Kind;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_domain::transfer::{Transfer, ends_at};
use holdfast_service_store::authority::AuthorityKind;
use holdfast_service_store::device::Claim;
use holdfast_service_store::transfer::{self, Offer};
use holdfast_service_store::{Scope, StoreError};
use holdfast_types::chain;
use std::sync::Arc;

type Shared = State<Arc<Service>>;

fn base64(field: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    STANDARD.decode(text).map_err(|_| Refusal::malformed(format!("{field}: must be base64")))
}

/// What the root of this catalog signs.
fn signed(scope: Scope, device: &DeviceId, of: &Transfer) -> Signed {
    Signed {
        device: device.0,
        from: scope.catalog(),
        to: of.to,
        root: of.root.clone(),
        epoch: of.epoch,
        ends_at: of.ends_at,
    }
}

fn signed_bytes(scope: Scope, device: &DeviceId, of: &Transfer) -> Result<Vec<u8>, Refusal> {
    let bytes = signed(scope, device, of).signed_bytes();
    bytes.map_err(|error| Refusal::new(Problem::Internal, chain(&error)))
}

fn shape(
    scope: Scope,
    device: &DeviceId,
    of: &Transfer,
    now: u64,
) -> Result<TransferShape, Refusal> {
    Ok(TransferShape {
        device: device.to_string(),
        to: of.to.to_string(),
        epoch: of.epoch,
        state: of.progress(now).word().to_owned(),
        offered_by: of.offered_by.clone(),
        approved_by: of.approved_by.clone(),
        ends_at: of.ends_at,
        sent_at: of.sent_at,
        followed_at: of.followed_at,
        signed_bytes: STANDARD.encode(signed_bytes(scope, device, of)?),
        voucher: of.voucher.as_ref().map(|voucher| STANDARD.encode(voucher)),
    })
}

/// Lists transfers by device.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/transfers", params(("catalog" = String, Path), Page),
    security(("token" = [])),
    responses((status = 200, body = Listed<TransferShape>), (status = 403, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::See).await?;
    let (now, most) = (service.now(), page.most());
    let rows = service.store.transfers(scope, &page.after, most).await?;
    let items = rows.iter().map(|(device, row)| shape(scope, device, row, now));
    let items = items.collect::<Result<Vec<_>, Refusal>>()?;
    shown(&Listed::new(items, most, |item: &TransferShape| item.device.clone()))
}

/// Shows the transfer of a device, with what the root signs.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/devices/{device}/transfer",
    params(("catalog" = String, Path), ("device" = String, Path)), security(("token" = [])),
    responses((status = 200, body = TransferShape), (status = 404, body = ProblemShape)))]
pub(super) async fn show(
    State(service): Shared,
    caller: Caller,
    Path((catalog, device)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let (scope, row) = found(&service, &caller, (&catalog, &device), Need::See).await?;
    let id = row.device.id;
    let row = service.store.transfer(scope, &id).await?;
    let row = row.ok_or_else(|| Refusal::from(Problem::NotFound))?;
    shown(&shape(scope, &id, &row, service.now())?)
}

/// Offers a device to another catalog. Nothing comes of it before another owner has approved it.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/devices/{device}/transfer",
    params(("catalog" = String, Path), ("device" = String, Path)), request_body = NewTransfer,
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 409, body = ProblemShape)))]
pub(super) async fn offer(
    State(service): Shared,
    Path((catalog, device)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let (scope, row) = found(&service, &change.caller, (&catalog, &device), Need::Own).await?;
    let id = row.device.id;
    let new: NewTransfer = change.json()?;
    let to = CatalogId::parse(&new.to)
        .ok_or_else(|| Refusal::malformed("to: must be a catalog's id"))?;
    let root = base64("root", &new.root)?;
    if root.len() > MAX_CERTIFICATE_BYTES || certified_key(&root).is_err() {
        return Err(Refusal::malformed("root: must be a certificate, DER, with a key on P-256"));
    }
    let now = service.now();
    let ends_at = ends_at(new.days, now).map_err(|error| Refusal::malformed(error.to_string()))?;
    let by = change.caller.0.by.clone();
    let offer = Offer { device: id, to, root, ends_at, by };
    let object = format!("{device} {to}");
    let work =
        change.carry_out(&service, scope, "transfer.offer", &object, move |connection, scope| {
            Box::pin(async move { transfer::offer(connection, scope, offer, now).await })
        });
    work.await
}

/// Approves the transfer of a device, which another person has offered: the device is told at its next check-in.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/devices/{device}/transfer/approve",
    params(("catalog" = String, Path), ("device" = String, Path)),
    request_body = Option<Approval>, security(("token" = [])),
    responses((status = 200, body = Done), (status = 409, body = ProblemShape)))]
pub(super) async fn approve(
    State(service): Shared,
    Path((catalog, device)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let (scope, row) = found(&service, &change.caller, (&catalog, &device), Need::Own).await?;
    let id = row.device.id;
    let (by, now) = (change.caller.0.by.clone(), service.now());
    let offered = service.store.transfer(scope, &id).await?;
    let offered = offered.ok_or_else(|| Refusal::from(Problem::NotFound))?;
    offered.approve(&by.person, now).map_err(StoreError::from)?;
    let approval: Approval = change.json_if_any()?.unwrap_or_default();
    let voucher = voucher(&service, scope, (&id, &offered), &approval).await?;
    let object = format!("{device} {}", offered.to);
    let work =
        change.carry_out(&service, scope, "transfer.approve", &object, move |connection, scope| {
            Box::pin(async move {
                let (offered, approved) = ((&id, &offered), (by, voucher));
                transfer::approve(connection, scope, offered, approved, now).await
            })
        });
    work.await
}

/// Withdraws the transfer of a device, as long as the device was not told.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/devices/{device}/transfer/withdraw",
    params(("catalog" = String, Path), ("device" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 409, body = ProblemShape)))]
pub(super) async fn withdraw(
    State(service): Shared,
    Path((catalog, device)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let (scope, row) = found(&service, &change.caller, (&catalog, &device), Need::Own).await?;
    let id = row.device.id;
    let now = service.now();
    let work = change.carry_out(
        &service,
        scope,
        "transfer.withdraw",
        &device,
        move |connection, scope| {
            Box::pin(async move { transfer::withdraw(connection, scope, &id, now).await })
        },
    );
    work.await
}

/// Makes the voucher: by the signature that comes with the approval, or by the root's key where it is at hand.
async fn voucher(
    service: &Service,
    scope: Scope,
    (device, offered): (&DeviceId, &Transfer),
    approval: &Approval,
) -> Result<Vec<u8>, Refusal> {
    let internal = |error: &dyn std::error::Error| Refusal::new(Problem::Internal, chain(error));
    let authorities = service.store.authorities(scope).await?;
    let root = authorities.iter().find(|row| row.kind == AuthorityKind::Root);
    let root = root.ok_or_else(|| Refusal::from(Problem::NotFound))?;
    let key = certified_key(&root.certificate).map_err(|error| internal(&error))?;
    let bytes = signed_bytes(scope, device, offered)?;
    let signature = match &approval.signature {
        Some(signature) => base64("signature", signature)?,
        None => {
            let found = service.issuers.roots().find(&scope.catalog());
            let found = found.map_err(|error| internal(&error))?;
            let key = found.ok_or_else(|| {
                Refusal::malformed(
                    "signature: is needed, since the key of the catalog's root is not at hand; sign `signed_bytes` with it",
                )
            })?;
            key.sign(&bytes).map_err(|error| internal(&error))?
        }
    };
    let signature = Signature::from_der(&signature);
    let signature = signature.filter(|signature| Ring.is_valid(&key, &bytes, signature));
    let signature = signature.ok_or_else(|| {
        Refusal::malformed("signature: is not that of the catalog's root over `signed_bytes`")
    })?;
    let voucher = Voucher::new(signed(scope, device, offered), &signature).encode();
    voucher.map_err(|error| internal(&error))
}

/// Accepts a device that another catalog gives to this one: it is claimed, and enrols once it has followed the voucher.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/transfers/accept",
    params(("catalog" = String, Path)), request_body = Acceptance, security(("token" = [])),
    responses((status = 200, body = Claimed), (status = 400, body = ProblemShape)))]
pub(super) async fn accept(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Claim).await?;
    let acceptance: Acceptance = change.json()?;
    let voucher = Voucher::decode(&base64("voucher", &acceptance.voucher)?);
    let voucher =
        voucher.map_err(|error| Refusal::malformed(format!("voucher: {}", chain(&error))))?;
    let Signed { device, to, root, epoch, ends_at, .. } = voucher.transfer;
    let authorities = service.store.authorities(scope).await?;
    let own = authorities.iter().find(|row| row.kind == AuthorityKind::Root);
    if to != scope.catalog() || own.is_none_or(|own| own.certificate != root) {
        return Err(Refusal::malformed(
            "voucher: is to another catalog, or to another root than this one's",
        ));
    }
    let now = service.now();
    if now >= ends_at {
        return Err(Refusal::malformed("voucher: has ended; have another one signed"));
    }
    let id = DeviceId(device);
    let kind = Kind::of_grade(acceptance.grade);
    let group = acceptance.place.map(|place| (place.product, place.group));
    let grade = acceptance.grade;
    let claim = Claim { device: id, kind, grade, board: None, serial: None, group };
    let object = id.to_string();
    let work =
        change.make(&service, scope, "transfer.accept", &object, move |connection, scope| {
            Box::pin(async move {
                let state = transfer::accept(connection, scope, claim, epoch, now).await?;
                let state = state.word().to_owned();
                Ok(done(&Claimed { device: id.to_string(), state }))
            })
        });
    work.await
}

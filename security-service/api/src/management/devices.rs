//! Devices: claimed by list, listed, shown, moved, quarantined, retired.

use super::caller::{Caller, Change, done, shown, shown_at};
use super::overview::WITHIN_S;
use super::page::DevicesPage;
use super::shapes::{
    ClaimShape, Claimed, Claims, DeviceShape, Done, IfMatch, Listed, Place, ProblemShape,
};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_evidence::messages::DeviceId;
use holdfast_service_domain::device::{Kind, State as DeviceState};
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_store::Scope;
use holdfast_service_store::device::{self, Claim, Shown};
use holdfast_service_store::precondition::{self, Subject};
use holdfast_service_store::retirement;
use holdfast_service_store::wanted::{Standing, WantedDevices};
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Most claims of a request.
const MAX_CLAIMS: usize = 1000;
/// Longest serial number or board in bytes.
const MAX_TEXT_BYTES: usize = 64;

/// Reads a device's id.
pub(super) fn device_id(text: &str) -> Result<DeviceId, Refusal> {
    text.parse()
        .map_err(|_| Refusal::new(Problem::Malformed, "device: must be 64 lower-case hex digits"))
}

/// Returns the scope of a catalog and a device of it, if the caller may do with the device's group what needs this.
pub(super) async fn found(
    service: &Service,
    caller: &Caller,
    (catalog, device): (&str, &str),
    need: Need,
) -> Result<(Scope, Shown), Refusal> {
    let scope = caller.scope_in(service, catalog, need).await?;
    let row = service.store.device(scope, &device_id(device)?).await?;
    let Some(row) = row else {
        // Whoever may see devices of the catalog hears that there is none; to others it is as one that they may not see.
        return Err(Problem::UnknownDevice.into());
    };
    let group = row.group.as_ref();
    let product = group.map(|(product, _)| product.as_str());
    let group = (product, group.map(|(_, group)| group.as_str()));
    caller.of_row(scope, need, group, Problem::UnknownDevice)?;
    Ok((scope, row))
}

/// Lists devices.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/devices", params(("catalog" = String, Path), DevicesPage),
    security(("token" = [])),
    responses((status = 200, body = Listed<DeviceShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: DevicesPage,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let (after, most) = (page.after.clone(), page.most());
    let wanted = wanted(page, service.now())?;
    let rows = service.store.wanted_devices(scope, &wanted, &after, most).await?;
    let items = rows.into_iter().map(DeviceShape::from).collect();
    let listed = Listed::new(items, most, |item: &DeviceShape| item.id.clone());
    let sees = |item: &DeviceShape| {
        let place = item.place.as_ref();
        let group = (place.map(|of| of.product.as_str()), place.map(|of| of.group.as_str()));
        caller.may(scope, Need::See, group.0, group.1)
    };
    shown(&listed.retain(sees))
}

fn wanted(page: DevicesPage, now: u64) -> Result<WantedDevices, Refusal> {
    let state = page.state.map(|word| {
        let rule = "state: must be waiting, claimed, enrolled or retired";
        DeviceState::of_word(&word).ok_or_else(|| Refusal::new(Problem::Malformed, rule))
    });
    let standing = page.standing.map(|word| {
        let rule = "standing: must be attested, update-only, refused or silent";
        Standing::of_word(&word).ok_or_else(|| Refusal::new(Problem::Malformed, rule))
    });
    let since = now.saturating_sub(WITHIN_S);
    Ok(WantedDevices {
        state: state.transpose()?,
        standing: standing.transpose()?.map(|standing| (standing, since)),
        product: page.product,
        group: page.group,
        version: page.version,
        find: page.find,
    })
}

/// Shows a device.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/devices/{device}",
    params(("catalog" = String, Path), ("device" = String, Path)), security(("token" = [])),
    responses((status = 200, body = DeviceShape), (status = 404, body = ProblemShape)))]
pub(super) async fn show(
    State(service): Shared,
    caller: Caller,
    Path((catalog, device)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let (_, row) = found(&service, &caller, (&catalog, &device), Need::See).await?;
    let revision = row.device.revision;
    shown_at(&DeviceShape::from(row), revision)
}

/// Claims devices by a list: all of them, or none where one claim is malformed.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/claims", params(("catalog" = String, Path)),
    request_body = Claims, security(("token" = [])),
    responses((status = 200, body = Listed<Claimed>), (status = 400, body = ProblemShape)))]
pub(super) async fn claim(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Claim).await?;
    let list: Claims = change.json()?;
    if list.devices.is_empty() || list.devices.len() > MAX_CLAIMS {
        return Err(Refusal::new(Problem::Malformed, "devices: must be 1 to 1000"));
    }
    let claims = list.devices.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    for claim in &claims {
        let group = claim.group.as_ref();
        let product = group.map(|(product, _)| product.as_str());
        let group = group.map(|(_, group)| group.as_str());
        change.caller.must(scope, Need::Claim, product, group)?;
        // What is there is claimed anew: then it is taken from where it was.
        if let Some(there) = service.store.device(scope, &claim.device).await?
            && let Some((product, group)) = &there.group
        {
            change.caller.must(scope, Need::Claim, Some(product), Some(group))?;
        }
    }
    let object = format!("{} devices", claims.len());
    let now = service.now();
    let work = change.make(&service, scope, "device.claim", &object, move |connection, scope| {
        Box::pin(async move {
            let mut items = Vec::new();
            for claim in claims {
                let device = claim.device.to_string();
                let state = device::claim(connection, scope, claim, now).await?;
                items.push(Claimed { device, state: state.word().to_owned() });
            }
            Ok(done(&Listed { items, next: None }))
        })
    });
    work.await
}

/// Reads a claim; an error names its place in the list.
fn read((index, claim): (usize, ClaimShape)) -> Result<Claim, Refusal> {
    let malformed = |field: &str, rule: &str| {
        Refusal::new(Problem::Malformed, format!("devices[{index}].{field}: {rule}"))
    };
    let device = claim.device.parse();
    let device = device.map_err(|_| malformed("device", "must be 64 lower-case hex digits"))?;
    for (field, text) in [("board", &claim.board), ("serial", &claim.serial)] {
        let is_good = |text: &String| {
            text.len() <= MAX_TEXT_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if text.as_ref().is_some_and(|text| !is_good(text)) {
            return Err(malformed(field, "must be at most 64 printable characters without blanks"));
        }
    }
    let kind = Kind::of_grade(claim.grade);
    let group = claim.place.map(|place| (place.product, place.group));
    let ClaimShape { grade, board, serial, .. } = claim;
    Ok(Claim { device, kind, grade, board, serial, group })
}

/// Moves a device to another group.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/devices/{device}/move",
    params(("catalog" = String, Path), ("device" = String, Path), IfMatch), request_body = Place,
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape),
        (status = 412, body = ProblemShape)))]
pub(super) async fn move_to(
    State(service): Shared,
    Path((catalog, device)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let (scope, row) = found(&service, &change.caller, (&catalog, &device), Need::Operate).await?;
    let id = row.device.id;
    let place: Place = change.json()?;
    change.caller.must(scope, Need::Operate, Some(&place.product), Some(&place.group))?;
    let seen = change.precondition(Subject::Device(id));
    let work =
        change.carry_out(&service, scope, "device.move", &device, move |connection, scope| {
            Box::pin(async move {
                precondition::hold(connection, scope, seen.as_ref()).await?;
                device::move_to(connection, scope, &id, place.product, place.group).await
            })
        });
    work.await
}

/// Quarantines a device: from its next check-in on it gets a certificate for updates alone.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/devices/{device}/quarantine",
    params(("catalog" = String, Path), ("device" = String, Path), IfMatch), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape),
        (status = 412, body = ProblemShape)))]
pub(super) async fn quarantine(
    State(service): Shared,
    Path((catalog, device)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    set_quarantine(&service, &catalog, &device, change, true).await
}

/// Ends the quarantine of a device.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/devices/{device}/end-quarantine",
    params(("catalog" = String, Path), ("device" = String, Path), IfMatch), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape),
        (status = 412, body = ProblemShape)))]
pub(super) async fn end_quarantine(
    State(service): Shared,
    Path((catalog, device)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    set_quarantine(&service, &catalog, &device, change, false).await
}

async fn set_quarantine(
    service: &Service,
    catalog: &str,
    device: &str,
    change: Change,
    quarantined: bool,
) -> Result<Response, Refusal> {
    let (scope, row) = found(service, &change.caller, (catalog, device), Need::Operate).await?;
    let id = row.device.id;
    let verb = if quarantined { "device.quarantine" } else { "device.end-quarantine" };
    let seen = change.precondition(Subject::Device(id));
    let work = change.carry_out(service, scope, verb, device, move |connection, scope| {
        Box::pin(async move {
            precondition::hold(connection, scope, seen.as_ref()).await?;
            device::set_quarantine(connection, scope, &id, quarantined).await
        })
    });
    work.await
}

/// Retires a device: it is refused until it is claimed again, and what the service kept of it is erased.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/devices/{device}/retire",
    params(("catalog" = String, Path), ("device" = String, Path), IfMatch), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape),
        (status = 412, body = ProblemShape)))]
pub(super) async fn retire(
    State(service): Shared,
    Path((catalog, device)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let (scope, row) = found(&service, &change.caller, (&catalog, &device), Need::Operate).await?;
    let id = row.device.id;
    let seen = change.precondition(Subject::Device(id));
    let work =
        change.carry_out(&service, scope, "device.retire", &device, move |connection, scope| {
            Box::pin(async move {
                precondition::hold(connection, scope, seen.as_ref()).await?;
                retirement::retire(connection, scope, &id).await
            })
        });
    work.await
}

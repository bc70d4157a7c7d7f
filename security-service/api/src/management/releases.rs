//! Releases by what they measure, and makers of TPMs.

use super::asking::{self, Asked};
use super::caller::{Caller, Change, done, shown};
use super::page::Page;
use super::shapes::{
    AddedByHand, Done, Listed, MakerShape, NewMaker, NewRelease, ProblemShape, ReleaseShape,
};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_evidence::policy::BootDigest;
use holdfast_service_domain::approval::Kind;
use holdfast_service_domain::endorsement::Maker;
use holdfast_service_domain::extent::Extent;
use holdfast_service_domain::measurement::{Release, Source};
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::reference_values::MAX_INDEX;
use holdfast_service_domain::role::Need;
use holdfast_service_store::release::{self, ReleaseRow};
use holdfast_types::hex::{hex, sha256, unhex};
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Longest certificate of a maker in bytes.
const MAX_MAKER_BYTES: usize = 4096;

fn boot_digest(text: &str) -> Result<BootDigest, Refusal> {
    let digest = unhex(text).map(BootDigest);
    digest.ok_or_else(|| Refusal::new(Problem::Malformed, "boot: must be 64 hex digits"))
}

/// Lists releases.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/releases", params(("catalog" = String, Path), Page),
    security(("token" = [])),
    responses((status = 200, body = Listed<ReleaseShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let rows = service.store.releases(scope, &page.after, page.most()).await?;
    let items = rows.into_iter().map(|(pcr, ReleaseRow { release, source, feed })| ReleaseShape {
        boot: hex(&release.boot.0),
        pcr,
        version: release.version.to_string(),
        index: release.index,
        withdrawn: release.withdrawn,
        source: source.word().to_owned(),
        feed: feed.map(|feed| feed.to_string()),
    });
    shown(&Listed::new(items.collect(), page.most(), |item: &ReleaseShape| item.pcr.clone()))
}

/// Adds a release by hand: what it measures, as its signed target says. It is never deleted. A catalog that trusts a root of
/// releases takes none by hand.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/releases", params(("catalog" = String, Path)),
    request_body = NewRelease, security(("token" = [])),
    responses((status = 200, body = AddedByHand), (status = 409, body = ProblemShape)))]
pub(super) async fn add(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Release).await?;
    let new: NewRelease = change.json()?;
    let boot = boot_digest(&new.boot)?;
    let version = new.version.parse();
    let rule = "version: must be three numbers, such as 1.0.0";
    let version = version.map_err(|_| Refusal::new(Problem::Malformed, rule))?;
    if new.index > MAX_INDEX {
        return Err(Refusal::new(Problem::Malformed, "index: must be below 2^63"));
    }
    let release = Release { boot, version, index: new.index, withdrawn: false };
    let now = service.now();
    let verb = "release.add-by-hand";
    let work = change.make(&service, scope, verb, &new.boot, move |connection, scope| {
        Box::pin(async move {
            release::add(connection, scope, release, now).await?;
            let source = Source::ByHand.word().to_owned();
            Ok(done(&AddedByHand { done: true, source }))
        })
    });
    work.await
}

/// Withdraws a release: devices that run it get a certificate for updates alone, until they run another.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/releases/{boot}/withdraw",
    params(("catalog" = String, Path), ("boot" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn withdraw(
    State(service): Shared,
    Path((catalog, boot)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    set_withdrawn(&service, &catalog, &boot, change, true).await
}

/// Takes the withdrawal of a release back.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/releases/{boot}/restore",
    params(("catalog" = String, Path), ("boot" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn restore(
    State(service): Shared,
    Path((catalog, boot)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    set_withdrawn(&service, &catalog, &boot, change, false).await
}

async fn set_withdrawn(
    service: &Service,
    catalog: &str,
    boot: &str,
    change: Change,
    withdrawn: bool,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(service, catalog, Need::Release).await?;
    let digest = boot_digest(boot)?;
    let verb = if withdrawn { "release.withdraw" } else { "release.restore" };
    let at = withdrawn.then(|| service.now());
    let work = change.carry_out(service, scope, verb, boot, move |connection, scope| {
        Box::pin(async move { release::set_withdrawn(connection, scope, &digest, at).await })
    });
    work.await
}

/// Reads the certificate of a maker.
pub(super) fn maker_of(new: &NewMaker) -> Result<Vec<u8>, Refusal> {
    let rule = "certificate: must be the DER of an authority's certificate in base64";
    let malformed = || Refusal::new(Problem::Malformed, rule);
    let certificate = STANDARD.decode(&new.certificate).map_err(|_| malformed())?;
    if certificate.len() > MAX_MAKER_BYTES || Maker::read(&certificate, new.grade).is_err() {
        return Err(malformed());
    }
    Ok(certificate)
}

/// Lists makers of TPMs.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/makers", params(("catalog" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = Listed<MakerShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn makers(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let rows = service.store.makers(scope).await?.into_iter();
    let items = rows.map(|row| MakerShape { fingerprint: row.fingerprint, grade: row.grade });
    shown(&Listed { items: items.collect(), next: None })
}

/// Lists a maker of TPMs, or changes the grade that its certificates vouch for.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/makers", params(("catalog" = String, Path)),
    request_body = NewMaker, security(("token" = [])),
    responses((status = 200, body = MakerShape), (status = 400, body = ProblemShape)))]
pub(super) async fn put_maker(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Own).await?;
    let new: NewMaker = change.json()?;
    let certificate = maker_of(&new)?;
    let (now, grade, kind) = (service.now(), new.grade, Kind::Maker);
    let extent = Extent::Catalog(scope.catalog());
    if asking::waits(&service, &change.caller, scope, kind, &extent).await? {
        let request = serde_json::to_string(&new);
        let request =
            request.map_err(|error| Refusal::new(Problem::Internal, error.to_string()))?;
        let object = format!("{} as {}", sha256(&certificate), grade.word());
        let asked = Asked { kind, object, extent, request, seen: String::new() };
        return asking::ask(&service, scope, change, asked, None).await;
    }
    let object = asking::alone(grade.word());
    let work = change.make(&service, scope, "maker.put", &object, move |connection, scope| {
        Box::pin(async move {
            let fingerprint =
                release::put_maker(connection, scope, certificate, grade, now).await?;
            Ok(done(&MakerShape { fingerprint, grade }))
        })
    });
    work.await
}

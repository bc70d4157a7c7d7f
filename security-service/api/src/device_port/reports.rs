//! Reports: a device shows the certificate of its check-in, and is told what is stored once it is.

use super::exchange::{answer, place};
use crate::body;
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::symbolizer::{MAX_ASKED, SymbolizerError};
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::batch::{Batch, MAX_BATCH_BYTES, MEDIA_TYPE};
use holdfast_service_domain::crash::Address;
use holdfast_service_domain::disk::Write;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::report_batch;
use holdfast_service_domain::reporter::{self, ReporterError};
use holdfast_service_domain::symbols::{BuildId, of_return_address};
use holdfast_service_store::Scope;
use holdfast_service_store::authority::AuthorityKind;
use holdfast_service_store::moment::Moment;
use holdfast_service_store::report::Outcome;
use holdfast_types::chain;
use holdfast_types::event::security_service::{
    REPORTS_LEFT_OUT, REPORTS_REFUSED, SYMBOL_WORKER_FAILED,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// Most programs of one batch whose functions are named: those of a device, in two builds.
const MOST_PROGRAMS: usize = 32;

/// What a device is told of its batch.
#[derive(Debug, Serialize)]
struct Stored {
    /// The highest number of the batch's epoch that is stored.
    stored: u64,
}

/// Takes a batch. Who it is of and whether it may come now is known before its body is read.
pub(super) async fn take(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let _place = place(&service)?;
    service.admit(Write::Report)?;
    let (scope, device) = reporter(&service, &peer).await?;
    let now = service.now();
    let waited = {
        let mut rates = service.report_rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(scope.catalog(), device, now)
    };
    waited.map_err(Refusal::too_many)?;
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    if kind != Some(MEDIA_TYPE.as_bytes()) {
        let rule = format!("Content-Type: must be {MEDIA_TYPE}");
        return Err(Refusal::new(Problem::Malformed, rule));
    }
    let bytes = body::read(body, MAX_BATCH_BYTES).await?;
    let batch = Batch::decode(&bytes);
    let batch = batch.map_err(|error| Refusal::new(Problem::Malformed, error.to_string()))?;
    service.store.reached(Moment::Admitted);
    let names = names(&service, scope, device, &batch).await?;
    let refused = |problem: Problem| {
        eprintln!("device {device}: reports refused: {} {REPORTS_REFUSED}", problem.slug());
        Refusal::from(problem)
    };
    match service.store.take_reports(scope, device, batch, names, now).await? {
        Outcome::Stored { stored, left_out, .. } => {
            if left_out > 0 {
                eprintln!(
                    "device {device}: {left_out} failures and counters of a batch are left out, as there are too many {REPORTS_LEFT_OUT}"
                );
            }
            service.store.reached(Moment::Answering);
            answer(StatusCode::OK, &Stored { stored })
        }
        Outcome::Off => Err(refused(Problem::ReportsOff)),
        Outcome::Unknown => Err(refused(Problem::UnknownDevice)),
        Outcome::Retired => Err(refused(Problem::Released)),
    }
}

/// Names the functions at the addresses of a batch's failures, as far as the catalog has the symbols of their programs: the failures of
/// others are grouped by address.
///
/// # Errors
/// Others wait for names. What was grouped once stays so, and therefore the device comes again.
async fn names(
    service: &Service,
    scope: Scope,
    device: DeviceId,
    batch: &Batch,
) -> Result<BTreeMap<Address, String>, Refusal> {
    let mut programs: BTreeMap<[u8; 20], Vec<(Address, u64)>> = BTreeMap::new();
    for address in report_batch::addresses(batch) {
        let (place, at) = match address {
            Address::Instruction(place) => (place, u64::from(place.offset)),
            Address::Return(place) => (place, of_return_address(u64::from(place.offset))),
        };
        if let Some(build_id) = place.build_id
            && (programs.contains_key(&build_id.0) || programs.len() < MOST_PROGRAMS)
        {
            let asked = programs.entry(build_id.0).or_default();
            if asked.len() < MAX_ASKED {
                asked.push((address, at));
            }
        }
    }
    let mut names = BTreeMap::new();
    for (build_id, asked) in programs {
        let Ok(build_id) = BuildId::from_bytes(&build_id) else {
            continue;
        };
        let addresses: Vec<u64> = asked.iter().map(|(_, at)| *at).collect();
        match service.function_names(scope, &build_id, &addresses).await {
            Ok(frames) => {
                let named = asked.into_iter().zip(frames);
                names.extend(
                    named.filter_map(|((address, _), frames)| Some((address, frames?.function))),
                );
            }
            Err(SymbolizerError::Busy) => return Err(Refusal::from(Problem::Busy)),
            // Without symbols, or with symbols that could not be read before, which was said then.
            Err(SymbolizerError::NoSymbols | SymbolizerError::FailedBefore) => {}
            Err(error) => eprintln!(
                "device {device}: functions of build {build_id} are not named: {} {SYMBOL_WORKER_FAILED}",
                chain(&error)
            ),
        }
    }
    Ok(names)
}

/// Returns the device that the certificate of a connection is of, once its catalog's root vouches for it.
async fn reporter(service: &Service, peer: &Peer) -> Result<(Scope, DeviceId), Refusal> {
    let refused = |error: ReporterError| Refusal::new(Problem::CertificateRefused, chain(&error));
    let shown = peer.certificates();
    let named = reporter::named(shown).map_err(refused)?;
    // That a catalog is unknown and that it has not issued this are one answer: a stranger learns of no catalog.
    let unknown = || Refusal::new(Problem::CertificateRefused, "no catalog vouches for it");
    let scope = service.store.scope_of_device(named.catalog).await?.ok_or_else(unknown)?;
    let authorities = service.store.authorities(scope).await?;
    let roots = authorities.iter().filter(|authority| authority.kind == AuthorityKind::Root);
    let now = service.now();
    let mut verified =
        roots.map(|root| reporter::verify(shown, &root.certificate, now)).filter_map(Result::ok);
    let reporter = verified.next().ok_or_else(|| {
        eprintln!(
            "device {}: reports refused: its catalog does not vouch for the certificate {REPORTS_REFUSED}",
            named.device
        );
        unknown()
    })?;
    Ok((scope, reporter.device))
}

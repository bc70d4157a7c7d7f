//! Check-in: the evidence is verified, the decision made, certificates issued, all of it written, and only then answered.

use super::exchange::{admit, answer};
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::service::Service;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use holdfast_evidence::attest::Signature;
use holdfast_evidence::claims::Claims;
use holdfast_evidence::messages::{
    Bytes, CheckInAnswer, CheckInRequest, EvidenceMessage, Holder, IssuedChain, ReportsPolicy,
};
use holdfast_evidence::policy::PcrDigest;
use holdfast_evidence::public::{AttestationKey, Point};
use holdfast_evidence::qualifying::{Exporter, Purpose};
use holdfast_evidence::service::Ring;
use holdfast_evidence::software::{SoftwareEvidence, verify_software};
use holdfast_evidence::verify::{Evidence, KeyEvidence};
use holdfast_service_domain::check_in::{CheckIn, Issue, Verdict, Verified, decide};
use holdfast_service_domain::device::{Device, Kind, State as DeviceState};
use holdfast_service_domain::problem::Problem;
use holdfast_service_store::check_in::Facts;
use holdfast_service_store::deployment::check_in::StagedCheckIn;
use holdfast_service_store::moment::Moment;
use holdfast_service_store::{Scope, StoreError};
use holdfast_types::event::security_service::{
    CHECK_IN_REFUSED, EVIDENCE_REFUSED, FINDING_NOTED, ISSUING_FAILED,
};
use holdfast_types::{chain, escaped_chain};
use std::sync::Arc;

/// Times that a decision is made anew because another request for the same device was faster.
const TRIES: u32 = 4;

pub(super) async fn check_in(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Response, Refusal> {
    let (request, _place) = admit::<CheckInRequest>(&service, body).await?;
    service.store.reached(Moment::Admitted);
    let exporter = peer.exporter(&request.device.0);
    let exporter = exporter.ok_or_else(|| Refusal::from(Problem::Internal))?;
    // Only where to look first: what is decided on is the release that is found by what was verified.
    let claimed = Claims::read(&request.claims.0).ok();
    let expected = claimed.map(|claims| PcrDigest::of_one_extend(&claims.os.digest));
    for _ in 0..TRIES {
        let answered = decide_once(&service, &request, expected.as_ref(), &exporter).await?;
        if let Some(answered) = answered {
            service.store.reached(Moment::Answering);
            return answer(StatusCode::OK, &answered);
        }
    }
    Err(Problem::Busy.into())
}

/// Decides on the device's row as it is now. Nothing is returned where it has changed before the decision was written.
async fn decide_once(
    service: &Service,
    request: &CheckInRequest,
    expected: Option<&PcrDigest>,
    exporter: &Exporter,
) -> Result<Option<CheckInAnswer>, Refusal> {
    let id = request.device;
    let facts = service.store.facts(request.catalog, &id, expected).await?;
    let (scope, facts) = facts.ok_or_else(|| Refusal::from(Problem::UnknownCatalog))?;
    let Facts {
        device,
        rules,
        contained,
        has_deployments,
        is_emergency,
        feed,
        has_voucher,
        expected: release,
    } = facts.ok_or_else(|| Refusal::from(Problem::UnknownDevice))?;
    let verified = verified(&device, request, exporter)?;
    service.store.reached(Moment::Verified);
    let measured = verified.measured();
    let release = if expected == Some(&measured) {
        release
    } else {
        service.store.release(scope, &measured).await?
    };
    let receipt = request.receipt.as_ref().map(|receipt| receipt.0.as_slice());
    let number =
        receipt.map(|receipt| service.receipts.number(&scope.catalog(), &id, receipt).unwrap_or(0));
    let now = service.now();
    let decision = decide(&CheckIn {
        device: &device,
        rules: &rules,
        contained: &contained,
        verified: &verified,
        release: release.as_ref(),
        returned: number,
        is_emergency,
        every_s: service.check_in_every_s,
        now,
    });
    service.store.reached(Moment::Decided);
    let mut answered = match &decision.verdict {
        Verdict::Issue(issue) => {
            let mut answer = issued(service, scope, &device, issue, now).await?;
            answer.reports = Some(ReportsPolicy { level: rules.reports.word().to_owned() });
            answer.feed = feed.map(|feed| feed.to_string());
            Ok(answer)
        }
        Verdict::Refused(problem) => Err(*problem),
    };
    service.store.reached(Moment::Issued);
    for finding in &decision.write.findings {
        eprintln!("device {id}: found: {} {FINDING_NOTED}", finding.word());
    }
    let claims = request.claims.0.clone();
    let written = if has_deployments {
        let update = request.update;
        let check_in = StagedCheckIn { id, decision, measured, claims, update };
        service.store.check_in_with_deployments(scope, check_in).await.map(Some)
    } else {
        let written = service.store.check_in(scope, id, decision.write, measured, claims).await;
        written.map(|()| None)
    };
    match (written, &mut answered) {
        (Ok(assignments), Ok(answer)) => answer.assignments = assignments,
        (Ok(_), Err(_)) => {}
        (Err(StoreError::Overtaken), _) => return Ok(None),
        (Err(error), _) => return Err(error.into()),
    }
    match answered {
        Ok(mut answer) => {
            if has_voucher {
                let voucher = service.store.tell_of_transfer(scope, id, now).await?;
                answer.transfer = voucher.map(Bytes);
            }
            Ok(Some(answer))
        }
        Err(problem) => {
            eprintln!("device {id}: check-in refused: {} {CHECK_IN_REFUSED}", problem.slug());
            Err(problem.into())
        }
    }
}

/// Verifies the evidence by the key that the device was enrolled with.
fn verified(
    device: &Device,
    request: &CheckInRequest,
    exporter: &Exporter,
) -> Result<Verified, Refusal> {
    // Of a retired device no key is kept. What it is told, an enrolment tells everybody.
    if device.state == DeviceState::Retired {
        return Err(Problem::Released.into());
    }
    // A device that is to enrol is told that it is unknown, and begins there.
    let Some(key) = device.key.as_deref().filter(|_| device.state != DeviceState::Claimed) else {
        return Err(Problem::UnknownDevice.into());
    };
    let claims = request.claims.0.as_slice();
    let verified = match (&request.evidence, device.kind) {
        (EvidenceMessage::Tpm { quote, keys }, Kind::Tpm) => {
            let key = AttestationKey::read(key).map_err(|_| Refusal::from(Problem::Internal))?;
            let keys: Vec<KeyEvidence<'_>> = keys
                .iter()
                .map(|key| KeyEvidence {
                    purpose: key.holder.0,
                    public: &key.public.0,
                    certification: key.certification.signed(),
                })
                .collect();
            let evidence = Evidence { claims, quote: quote.signed(), keys: &keys };
            holdfast_evidence::verify(&evidence, exporter, &key, &Ring).map(Verified::Tpm)
        }
        (EvidenceMessage::Software { signature, keys }, Kind::Software) => {
            let key = Point::from_uncompressed(key);
            let key = key.ok_or_else(|| Refusal::from(Problem::Internal))?;
            let malformed = |detail| Refusal::new(Problem::Malformed, detail);
            let signature = signature.0.as_slice().try_into();
            let signature = signature.map_err(|_| malformed("signature: must have 64 bytes"))?;
            let point = |bytes: &Bytes| Point::from_uncompressed(&bytes.0);
            let keys = keys.iter().map(|key| Some((key.holder.0, point(&key.point)?)));
            let keys: Option<Vec<(Purpose, Point)>> = keys.collect();
            let keys = keys.ok_or_else(|| malformed("keys: a point is not uncompressed"))?;
            let signature = &Signature(signature);
            let evidence = SoftwareEvidence { claims, keys: &keys, signature };
            verify_software(&evidence, exporter, &key, &Ring).map(Verified::Software)
        }
        _ => return Err(Refusal::new(Problem::EvidenceRefused, "it is of another kind of device")),
    };
    verified.map_err(|error| {
        eprintln!(
            "device {}: evidence refused: {} {EVIDENCE_REFUSED}",
            device.id,
            escaped_chain(&error)
        );
        Refusal::new(Problem::EvidenceRefused, chain(&error))
    })
}

/// Issues the certificates, which nobody gets before the decision is written.
async fn issued(
    service: &Service,
    scope: Scope,
    device: &Device,
    issue: &Issue,
    now: u64,
) -> Result<CheckInAnswer, Refusal> {
    let failed = |error: &dyn std::error::Error| {
        eprintln!("catalog {}: cannot issue: {} {ISSUING_FAILED}", scope.catalog(), chain(error));
        Refusal::from(Problem::Internal)
    };
    let issuer = service.issuers.of(&service.store, scope, now).await;
    let issuer = issuer.map_err(|error| failed(&error))?;
    let mut certificates = Vec::new();
    for leaf in &issue.leaves {
        let certificate = issuer.issue(leaf).map_err(|error| failed(&error))?;
        certificates.push(IssuedChain {
            holder: Holder(leaf.purpose),
            chain: vec![Bytes(certificate), Bytes(issuer.certificate().to_vec())],
        });
    }
    let receipt = service.receipts.make(&scope.catalog(), &device.id, issue.receipt);
    Ok(CheckInAnswer {
        profile: issue.profile,
        reasons: issue.reasons.iter().map(|problem| problem.slug().to_owned()).collect(),
        certificates,
        until: issue.until,
        next_s: issue.next_s,
        receipt: Bytes(receipt),
        reports: None,
        assignments: None,
        feed: None,
        transfer: None,
    })
}

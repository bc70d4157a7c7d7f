//! Enrolment: a TPM opens a credential, or a software key signs, on the very connection.

use super::exchange::{admit, answer};
use crate::peer::Peer;
use crate::refusal::Refusal;
use crate::secret;
use crate::service::Service;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use holdfast_evidence::attest::Signature;
use holdfast_evidence::claims::MAX_NAME_BYTES;
use holdfast_evidence::credential::{Agreement, Credential};
use holdfast_evidence::messages::{
    Bytes, DeviceId, EnrolAnswer, EnrolKey, EnrolRequest, FinishRequest, MAX_EK_CERTIFICATE_BYTES,
    enrolment_proof, software_enrolment,
};
use holdfast_evidence::public::{AttestationKey, EndorsementKey, Point};
use holdfast_evidence::service::Ring;
use holdfast_evidence::verify::VerifySignature;
use holdfast_service_domain::detection::subject::Network;
use holdfast_service_domain::device::{Finding, Kind, State as DeviceState};
use holdfast_service_domain::disk::Write;
use holdfast_service_domain::endorsement::{self, Maker};
use holdfast_service_domain::enrolment::{self, Decision, Request, WITHIN_S};
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::problem::Problem;
use holdfast_service_store::enrolment::Enrolment;
use holdfast_service_store::{Scope, StoreError};
use holdfast_types::event::security_service::{DEVICE_ENROLLED, ENROLMENT_REFUSED};
use ring::hmac;
use std::sync::Arc;

/// A key that was read by its template.
struct Read {
    id: DeviceId,
    kind: Kind,
    key: Vec<u8>,
    tpm: Option<(EndorsementKey, AttestationKey)>,
    endorsed: Option<Grade>,
}

pub(super) async fn begin(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Response, Refusal> {
    service.admit(Write::Other)?;
    let (request, _place) = admit::<EnrolRequest>(&service, body).await?;
    let board = board(&request.board)?;
    let scope = service.store.scope_of_device(request.catalog).await?;
    let scope = scope.ok_or_else(|| Refusal::from(Problem::UnknownCatalog))?;
    let read = match &request.key {
        EnrolKey::Tpm { ek, ek_certificate, ak } => {
            let certificate = ek_certificate.as_ref().map(|bytes| bytes.0.as_slice());
            read_tpm(&service, scope, &ek.0, certificate, &ak.0).await
        }
        EnrolKey::Software { point, signature } => read_software(&peer, &point.0, &signature.0),
    };
    let read = match read {
        Ok(read) => read,
        Err(refusal) => {
            if refusal.problem == Problem::KeyRefused {
                note_failed(&service, scope, &peer).await?;
            }
            return Err(refusal);
        }
    };
    let id = read.id;
    let known = service.store.device(scope, &id).await?.map(|shown| shown.device);
    let rules = service.store.rules(scope, &id.to_string()).await?;
    let waiting = if known.is_none() { service.store.waiting(scope).await? } else { 0 };
    let asked = Request { kind: read.kind, endorsed: read.endorsed };
    let now = service.now();
    match enrolment::decide(&asked, known.as_ref(), rules.grades, waiting) {
        Decision::Wait { next_s } => {
            service.store.wait_for_claim(scope, id, read.kind, board, now).await?;
            answer(StatusCode::ACCEPTED, &EnrolAnswer::Waiting { device: id, next_s })
        }
        Decision::Refused(Problem::Released) => {
            // A device that has lost what it knew of its owner comes back here, and is sent on.
            let voucher = service.store.tell_of_transfer(scope, id, now).await?;
            let Some(voucher) = voucher.map(Bytes) else {
                return Err(refused(&id, Problem::Released));
            };
            answer(StatusCode::OK, &EnrolAnswer::Transferred { voucher })
        }
        Decision::Refused(problem) => Err(refused(&id, problem)),
        Decision::Go(grade) => go_on(&service, scope, read, grade, now).await,
    }
}

/// Says why a device does not enrol.
fn refused(id: &DeviceId, problem: Problem) -> Refusal {
    eprintln!("device {id}: enrolment refused: {} {ENROLMENT_REFUSED}", problem.slug());
    problem.into()
}

/// Sends a TPM its credential, or enrols a software key, whose signature was verified.
async fn go_on(
    service: &Service,
    scope: Scope,
    read: Read,
    grade: Grade,
    now: u64,
) -> Result<Response, Refusal> {
    let Some((ek, ak)) = read.tpm else {
        enrol(service, scope, read.id, read.key, grade, now).await?;
        return answer(StatusCode::OK, &EnrolAnswer::Enrolled { device: read.id });
    };
    let agreement = Agreement::with(&ek);
    let agreement =
        agreement.map_err(|error| Refusal::new(Problem::KeyRefused, error.to_string()))?;
    let (number, secret) = (secret::random::<16>()?, secret::random::<32>()?);
    let credential = Credential::make(&ek, &ak.public().name(), &secret, &agreement);
    let ends_at = now.saturating_add(u64::from(WITHIN_S));
    let enrolment =
        Enrolment { device: read.id, key: read.key, secret: secret.to_vec(), grade, ends_at };
    service.store.begin_enrolment(scope, &number, enrolment, now).await?;
    let challenge = EnrolAnswer::Challenge {
        enrolment: Bytes(number.to_vec()),
        id_object: Bytes(credential.id_object()),
        encrypted_seed: Bytes(credential.encrypted_seed()),
        within_s: WITHIN_S,
    };
    answer(StatusCode::OK, &challenge)
}

pub(super) async fn finish(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Response, Refusal> {
    service.admit(Write::Other)?;
    let (request, _place) = admit::<FinishRequest>(&service, body).await?;
    let now = service.now();
    // Whoever comes with the number takes it away, right or wrong: there is one try.
    let taken = service.store.take_enrolment(&request.enrolment.0, now).await?;
    let (scope, enrolment) = taken.ok_or_else(|| Refusal::from(Problem::EnrolmentGone))?;
    let id = enrolment.device;
    let exporter = peer.exporter(&id.0).ok_or_else(|| Refusal::from(Problem::Internal))?;
    let proof = enrolment_proof(&exporter, &enrolment.key);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &enrolment.secret);
    if hmac::verify(&key, &proof, &request.proof.0).is_err() {
        note_failed(&service, scope, &peer).await?;
        eprintln!(
            "device {id}: enrolment refused: the proof is not the secret's {ENROLMENT_REFUSED}"
        );
        return Err(Refusal::new(
            Problem::EvidenceRefused,
            "the proof is not that of this connection",
        ));
    }
    enrol(&service, scope, id, enrolment.key, enrolment.grade, now).await?;
    answer(StatusCode::OK, &EnrolAnswer::Enrolled { device: id })
}

/// Notes that somebody has tried to enrol who does not hold the key, by his network: threat detection counts these.
async fn note_failed(service: &Service, scope: Scope, peer: &Peer) -> Result<(), Refusal> {
    let network = Network::of(peer.address);
    service.store.note_failed_enrolment(scope, network, service.now()).await?;
    Ok(())
}

async fn enrol(
    service: &Service,
    scope: Scope,
    id: DeviceId,
    key: Vec<u8>,
    grade: Grade,
    now: u64,
) -> Result<(), Refusal> {
    match service.store.enrol(scope, id, key, grade, now).await {
        Ok(()) => {
            eprintln!("device {id}: enrolled, {grade} {DEVICE_ENROLLED}");
            Ok(())
        }
        Err(StoreError::Overtaken) => Err(not_enrolled(service, scope, id, now).await?),
        Err(error) => Err(error.into()),
    }
}

/// Why a device that has shown its keys is not enrolled with them: it was retired meanwhile, or is known with another key, which
/// is a finding now that both are shown to be in its TPM.
async fn not_enrolled(
    service: &Service,
    scope: Scope,
    id: DeviceId,
    now: u64,
) -> Result<Refusal, Refusal> {
    let known = service.store.device(scope, &id).await?;
    let problem = match known.map(|shown| shown.device.state) {
        None => Problem::UnknownDevice,
        Some(DeviceState::Retired) => Problem::Released,
        Some(_) => {
            service.store.note_finding(scope, id, Finding::KeyChanged, now).await?;
            Problem::KeyChanged
        }
    };
    eprintln!("device {id}: enrolment refused: {} {ENROLMENT_REFUSED}", problem.slug());
    Ok(problem.into())
}

/// A name of a board, by the rule that claims have for it.
fn board(board: &str) -> Result<String, Refusal> {
    let of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if board.is_empty() || board.len() > MAX_NAME_BYTES || !board.bytes().all(of_name) {
        return Err(Refusal::new(Problem::Malformed, "board: must be 1 to 64 of a-z, 0-9 and -"));
    }
    Ok(board.to_owned())
}

async fn read_tpm(
    service: &Service,
    scope: Scope,
    ek: &[u8],
    certificate: Option<&[u8]>,
    ak: &[u8],
) -> Result<Read, Refusal> {
    let refused = |which: &str, error: &dyn std::error::Error| {
        let detail = format!("{which}: {}", holdfast_types::chain(error));
        Refusal::new(Problem::KeyRefused, detail)
    };
    let endorsement_key = EndorsementKey::read(ek).map_err(|error| refused("ek", &error))?;
    let attestation_key = AttestationKey::read(ak).map_err(|error| refused("ak", &error))?;
    let endorsed = match certificate {
        None => None,
        Some(bytes) if bytes.len() > MAX_EK_CERTIFICATE_BYTES => {
            return Err(Refusal::new(Problem::KeyRefused, "ek_certificate: is too long"));
        }
        Some(bytes) => endorsed(service, scope, bytes, &endorsement_key).await?,
    };
    Ok(Read {
        id: DeviceId::of_endorsement_key(ek),
        kind: Kind::Tpm,
        key: ak.to_vec(),
        tpm: Some((endorsement_key, attestation_key)),
        endorsed,
    })
}

/// The grade that a listed maker's certificate vouches for. A certificate of somebody else says nothing; the claim list may.
async fn endorsed(
    service: &Service,
    scope: Scope,
    certificate: &[u8],
    key: &EndorsementKey,
) -> Result<Option<Grade>, Refusal> {
    let rows = service.store.makers(scope).await?;
    let makers = rows.iter().filter_map(|row| Maker::read(&row.certificate, row.grade).ok());
    let makers: Vec<Maker> = makers.collect();
    match endorsement::verify(certificate, key, &makers, service.now()) {
        Ok(grade) => Ok(Some(grade)),
        Err(endorsement::EndorsementError::OtherKey) => {
            Err(Refusal::new(Problem::KeyRefused, "ek_certificate: is of another key"))
        }
        Err(_) => Ok(None),
    }
}

fn read_software(peer: &Peer, point: &[u8], signature: &[u8]) -> Result<Read, Refusal> {
    let refused = |detail: &str| Refusal::new(Problem::KeyRefused, detail);
    let bytes: &[u8; 65] = point.try_into().map_err(|_| refused("point: must have 65 bytes"))?;
    let key = Point::from_uncompressed(bytes);
    let key = key.ok_or_else(|| refused("point: must be uncompressed"))?;
    let signature = signature.try_into().map_err(|_| refused("signature: must have 64 bytes"))?;
    let id = DeviceId::of_software_key(bytes);
    let exporter = peer.exporter(&id.0).ok_or_else(|| Refusal::from(Problem::Internal))?;
    let message = software_enrolment(&exporter, bytes);
    if !Ring.is_valid(&key, &message, &Signature(signature)) {
        return Err(refused("signature: is not that of the key on this connection"));
    }
    Ok(Read { id, kind: Kind::Software, key: point.to_vec(), tpm: None, endorsed: None })
}

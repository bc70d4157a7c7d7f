//! The device as the service knows it: what `uplink` asks for is answered here, and everything that it brings is hostile.

use crate::handshake::{Role, signed_content};
use crate::keys::{Key, Keys, KeysError};
use crate::state::Enrolment;
use crate::tpm::Cause;
use holdfast_evidence::StructureError;
use holdfast_evidence::attest::Signature;
use holdfast_evidence::claims::{
    AppClaim, BootId, Claims, ClaimsError, ClockSource, OsClaim, Phase,
};
use holdfast_evidence::config::IdentityConfig;
use holdfast_evidence::credential::Credential;
use holdfast_evidence::exchange::{ExchangeReply, ExchangeRequest};
use holdfast_evidence::issued::{CertificateError, certified_grade, certified_key};
use holdfast_evidence::messages::{
    Bytes, CheckInAnswer, CheckInRequest, EnrolAnswer, EnrolRequest, FinishRequest, IssuedChain,
    MAX_ANSWER_BYTES, MAX_RECEIPT_BYTES, MAX_REQUEST_BYTES, Profile, UpdateWait, enrolment_proof,
};
use holdfast_evidence::policy::BootDigest;
use holdfast_evidence::qualifying::{Exporter, Purpose};
use holdfast_evidence::service::Ring;
use holdfast_evidence::transfer::{self, Chain, Voucher, VoucherError};
use holdfast_evidence::verify::MAX_KEYS;
use holdfast_sandbox::wire::{ClaimedApp, DeviceClaims};
use holdfast_types::event::Event;
use holdfast_types::event::identity as event;
use ring::hmac;
use serde::Serialize;

/// Most certificates of a chain: the leaf, and what has issued it, up to below the root.
pub const MAX_CHAIN: usize = 4;
/// Longest word for a level of failure reports that is handed on, in bytes.
const MAX_LEVEL_BYTES: usize = 16;
/// Bytes of an enrolment's number.
const ENROLMENT_BYTES: usize = 16;

/// What the device needs of the world around it.
pub trait World {
    /// Returns what init knows of the device.
    ///
    /// # Errors
    /// init does not answer, or cannot say.
    fn claims(&mut self) -> Result<DeviceClaims, Cause>;

    /// Returns the digest of what runs, as the boot loader measures it.
    ///
    /// # Errors
    /// It cannot be read.
    fn boot_digest(&mut self) -> Result<BootDigest, Cause>;

    /// Keeps an enrolment.
    ///
    /// # Errors
    /// It cannot be written.
    fn save(&mut self, enrolment: &Enrolment) -> Result<(), Cause>;

    /// Keeps the vouchers that the device has followed.
    ///
    /// # Errors
    /// It cannot be written.
    fn save_owners(&mut self, vouchers: &Chain) -> Result<(), Cause>;

    /// Returns the time that the clock shows, in seconds since 1970. Whether it is to be believed, [`claims`](Self::claims) says.
    fn now(&self) -> u64;

    /// Logs an event.
    fn log(&mut self, event: Event, text: &str);
}

/// Errors of a request. None of them ends the service.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The keys did not do it.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// init does not say what runs.
    #[error("cannot learn what runs")]
    Claims(#[source] Cause),
    /// What runs cannot be measured.
    #[error("cannot measure what runs")]
    Measure(#[source] Cause),
    /// The claims break a rule of their own.
    #[error("cannot write the claims")]
    WriteClaims(#[source] ClaimsError),
    /// A body is longer than the service takes.
    #[error("the body of a request has {0} bytes, more than {MAX_REQUEST_BYTES}")]
    TooLong(usize),
    /// A body cannot be written.
    #[error("cannot write the body of a request")]
    Write(#[source] serde_json::Error),
    /// The service's answer is no JSON of its fields, or too long.
    #[error("the service's answer cannot be read")]
    Answer(#[source] serde_json::Error),
    /// The service's answer to an enrolment asks for something else than a TPM's answer, or this device has no TPM.
    #[error("the service's answer does not ask for a credential to be opened")]
    NoChallenge,
    /// The credential has not the one form that is taken.
    #[error("the service's credential is malformed")]
    Credential(#[source] StructureError),
    /// The number of an enrolment has another length.
    #[error("the service's number of an enrolment has {0} bytes, not {ENROLMENT_BYTES}")]
    Number(usize),
    /// There is no check-in that this is the answer to.
    #[error("there was no check-in that this would be the answer to")]
    NoCheckIn,
    /// The device has no certificate: there was no check-in since the start.
    #[error("there is no certificate since the start")]
    NoCertificate,
    /// The receipt is too long.
    #[error("the service's receipt has {0} bytes, more than {MAX_RECEIPT_BYTES}")]
    Receipt(usize),
    /// A chain of certificates has a number of them that no chain has, or is there twice.
    #[error("the certificates of the {0} are too many, too few, or there twice")]
    Chain(Purpose),
    /// A certificate is malformed.
    #[error("a certificate of the {0} is refused")]
    Certificate(Purpose, #[source] CertificateError),
    /// A certificate is for another key than the one that was attested.
    #[error("a certificate of the {0} is for another key")]
    OtherKey(Purpose),
    /// A voucher is refused.
    #[error("the service's voucher is refused")]
    Voucher(#[from] VoucherError),
    /// The release is on trial: the one before, to which the device may go back, would find keys of another owner.
    #[error("no owner is followed while the release is on trial")]
    OnTrial,
    /// The vouchers cannot be kept: after the next start the device would be the owner's before.
    #[error("cannot keep the voucher")]
    KeepVoucher(#[source] Cause),
}

/// A key with its certificates.
#[derive(Debug)]
struct Certified {
    purpose: Purpose,
    key: Key,
    /// The leaf first, DER.
    chain: Vec<Vec<u8>>,
    /// Word for the grade that the leaf has.
    grade: &'static str,
}

/// Word for the grade of a certificate that has none of those known here.
const UNKNOWN_GRADE: &str = "unknown";

/// The device.
#[derive(Debug)]
pub struct Device {
    /// The catalog that it belongs to, with its root: that of its image, or of the last voucher that it has followed.
    config: IdentityConfig,
    vouchers: Chain,
    has_followed: bool,
    keys: Keys,
    enrolment: Option<Enrolment>,
    /// The keys of a check-in that is not answered yet.
    attested: Vec<(Purpose, Key)>,
    /// Those of the last one that was.
    certified: Vec<Certified>,
}

impl Device {
    /// Begins with the catalog that the device belongs to, by the vouchers that it has followed, and what is remembered. An enrolment that
    /// is not this device's in this catalog is forgotten.
    #[must_use]
    pub fn new(
        config: IdentityConfig,
        vouchers: Chain,
        keys: Keys,
        remembered: Option<Enrolment>,
    ) -> Self {
        let id = keys.id();
        let enrolment = remembered.filter(|enrolment| enrolment.is_of(config.catalog, &id));
        let (attested, certified) = (Vec::new(), Vec::new());
        Self { config, vouchers, has_followed: false, keys, enrolment, attested, certified }
    }

    /// True once the device has followed a voucher: its keys and its catalog are others from the next start of the service on.
    #[must_use]
    pub fn has_followed(&self) -> bool {
        self.has_followed
    }

    /// Returns the certificate of the root of the catalog that the device belongs to, DER.
    #[must_use]
    pub fn catalog_root(&self) -> &[u8] {
        &self.config.catalog_root
    }

    /// Returns the keys that the device is known by.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns the certificates of a holder, DER, the leaf first.
    #[must_use]
    pub fn chain(&self, purpose: &Purpose) -> Option<&[Vec<u8>]> {
        self.certified.iter().find(|one| one.purpose == *purpose).map(|one| one.chain.as_slice())
    }

    /// Returns the word for the grade that the certificates of a holder have.
    #[must_use]
    pub fn grade(&self, purpose: &Purpose) -> Option<&'static str> {
        self.certified.iter().find(|one| one.purpose == *purpose).map(|one| one.grade)
    }

    /// Returns the end of the certificates of the last check-in, in seconds since 1970; 0 before the first.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.enrolment.as_ref().map_or(0, |enrolment| enrolment.until)
    }

    /// Signs a message with the key of a holder, for which there are certificates. `None` where there are none.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn sign(&self, purpose: &Purpose, message: &[u8]) -> Option<Result<Signature, KeysError>> {
        let certified = self.certified.iter().find(|one| one.purpose == *purpose)?;
        Some(self.keys.sign(&certified.key, message))
    }

    /// Answers a request of `uplink`. What fails is logged, and is no reason to end.
    pub fn answer(&mut self, request: &ExchangeRequest, world: &mut dyn World) -> ExchangeReply {
        match self.try_answer(request, world) {
            Ok(reply) => reply,
            Err(error) => {
                let text = format!("{}: {}", failure(request), holdfast_types::chain(&error));
                if self.keys.have_failed() {
                    world.log(event::IDENTITY_TPM_FAILED, &text);
                    return ExchangeReply::NoIdentity;
                }
                let failed = match request {
                    ExchangeRequest::Follow(_) => event::IDENTITY_TRANSFER_REFUSED,
                    _ => event::IDENTITY_REQUEST_FAILED,
                };
                world.log(failed, &text);
                ExchangeReply::Failed
            }
        }
    }

    fn try_answer(
        &mut self,
        request: &ExchangeRequest,
        world: &mut dyn World,
    ) -> Result<ExchangeReply, RequestError> {
        if self.keys.have_failed() {
            return Ok(ExchangeReply::NoIdentity);
        }
        match request {
            ExchangeRequest::Describe => {
                let claims = world.claims().map_err(RequestError::Claims)?;
                let is_on_trial = claims.phase == Phase::Trying;
                let is_enrolled = self.enrolment.is_some();
                Ok(ExchangeReply::device(&self.keys.id(), is_enrolled, is_on_trial))
            }
            ExchangeRequest::Enrol(exporter) => self.enrol(&Exporter(*exporter), world),
            ExchangeRequest::Finish { answer, exporter } => {
                self.finish(answer, &Exporter(*exporter))
            }
            ExchangeRequest::Enrolled => Ok(self.enrolled(world)),
            ExchangeRequest::CheckIn(exporter) => self.check_in(&Exporter(*exporter), None, world),
            ExchangeRequest::CheckInWaiting { exporter, update } => {
                self.check_in(&Exporter(*exporter), Some(*update), world)
            }
            ExchangeRequest::Keep(answer) => self.keep(answer, world),
            // Before the first check-in of a boot there is none, which is no failure.
            ExchangeRequest::Chain => Ok(match self.chain(&Purpose::Device) {
                Some(chain) => ExchangeReply::Chain(chain.to_vec()),
                None => ExchangeReply::Failed,
            }),
            ExchangeRequest::SignHandshake(transcript_hash) => {
                let content = signed_content(Role::Client, transcript_hash);
                let signed = self.sign(&Purpose::Device, &content);
                let signature = signed.ok_or(RequestError::NoCertificate)??;
                Ok(ExchangeReply::Signature(signature.to_der()))
            }
            ExchangeRequest::Follow(voucher) => self.follow(voucher, world),
        }
    }

    /// Follows a voucher to another catalog. Certificates of the catalog before are used no more.
    fn follow(
        &mut self,
        voucher: &[u8],
        world: &mut dyn World,
    ) -> Result<ExchangeReply, RequestError> {
        let voucher = Voucher::decode(voucher)?;
        let claims = world.claims().map_err(RequestError::Claims)?;
        if claims.phase == Phase::Trying {
            return Err(RequestError::OnTrial);
        }
        let now = (claims.clock != ClockSource::Floor).then(|| world.now());
        let owner = transfer::follow(&self.config, &voucher, &self.keys.id(), now, &Ring)?;
        let vouchers = self.vouchers.and(voucher)?;
        world.save_owners(&vouchers).map_err(RequestError::KeepVoucher)?;
        let (from, to) = (self.config.catalog, owner.catalog);
        let text = format!("device {} goes from catalog {from} to {to}", self.keys.id());
        world.log(event::IDENTITY_TRANSFERRED, &text);
        (self.config, self.vouchers, self.has_followed) = (owner, vouchers, true);
        (self.enrolment, self.attested, self.certified) = (None, Vec::new(), Vec::new());
        Ok(ExchangeReply::Followed)
    }

    fn enrol(
        &self,
        exporter: &Exporter,
        world: &mut dyn World,
    ) -> Result<ExchangeReply, RequestError> {
        let claims = world.claims().map_err(RequestError::Claims)?;
        body(&EnrolRequest {
            catalog: self.config.catalog,
            board: claims.board,
            image: claims.image,
            key: self.keys.enrol(exporter)?,
        })
    }

    /// Opens the service's credential, whose secret goes no further than into an HMAC.
    fn finish(&self, answer: &[u8], exporter: &Exporter) -> Result<ExchangeReply, RequestError> {
        let (EnrolAnswer::Challenge { enrolment, id_object, encrypted_seed, .. }, Keys::Tpm(keys)) =
            (read(answer)?, &self.keys)
        else {
            return Err(RequestError::NoChallenge);
        };
        if enrolment.0.len() != ENROLMENT_BYTES {
            return Err(RequestError::Number(enrolment.0.len()));
        }
        let credential = Credential::read(&id_object.0, &encrypted_seed.0);
        let credential = credential.map_err(RequestError::Credential)?;
        let secret = keys.activate(&credential).map_err(KeysError::from)?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let proof = hmac::sign(&secret, &enrolment_proof(exporter, &keys.attestation()));
        body(&FinishRequest { enrolment, proof: Bytes(proof.as_ref().to_vec()) })
    }

    fn enrolled(&mut self, world: &mut dyn World) -> ExchangeReply {
        let id = self.keys.id();
        let enrolment = Enrolment::new(self.config.catalog, &id);
        let text = format!("device {id} is enrolled in catalog {}", self.config.catalog);
        world.log(event::IDENTITY_ENROLLED, &text);
        self.remember(enrolment, world);
        ExchangeReply::Kept { next_s: 0, is_for_updates_alone: false, reports: None }
    }

    /// Keeps an enrolment, in memory where `state` does not take it: the next start enrols again, and nothing is lost.
    fn remember(&mut self, enrolment: Enrolment, world: &mut dyn World) {
        if let Err(error) = world.save(&enrolment) {
            let text = format!("cannot keep the enrolment: {}", holdfast_types::chain(&*error));
            world.log(event::IDENTITY_STATE_PERSIST_FAILED, &text);
        }
        self.enrolment = Some(enrolment);
    }

    fn check_in(
        &mut self,
        exporter: &Exporter,
        update: Option<UpdateWait>,
        world: &mut dyn World,
    ) -> Result<ExchangeReply, RequestError> {
        let known = world.claims().map_err(RequestError::Claims)?;
        let purposes = self.purposes(&known.apps, world);
        let digest = world.boot_digest().map_err(RequestError::Measure)?;
        let claims = self.claims(known, digest).to_bytes().map_err(RequestError::WriteClaims)?;
        let (evidence, keys) = self.keys.attest(exporter, &claims, &purposes)?;
        let reply = body(&CheckInRequest {
            catalog: self.config.catalog,
            device: self.keys.id(),
            claims: Bytes(claims),
            evidence,
            receipt: self.enrolment.as_ref().and_then(|of| of.receipt.clone()).map(Bytes),
            update,
        })?;
        self.attested = keys;
        Ok(reply)
    }

    /// The device, and the apps that ask for a certificate of its catalog.
    fn purposes(&self, apps: &[ClaimedApp], world: &mut dyn World) -> Vec<Purpose> {
        let asking = apps.iter().filter(|app| app.catalog == Some(self.config.catalog));
        let asking = asking.map(|app| Purpose::App(app.id));
        let mut purposes: Vec<Purpose> = std::iter::once(Purpose::Device).chain(asking).collect();
        if purposes.len() > MAX_KEYS {
            let apps = purposes.len().saturating_sub(MAX_KEYS);
            let text =
                format!("{apps} apps get no certificate: there are more than {MAX_KEYS} keys");
            world.log(event::IDENTITY_APPS_LIMITED, &text);
            purposes.truncate(MAX_KEYS);
        }
        purposes
    }

    fn claims(&self, known: DeviceClaims, digest: BootDigest) -> Claims {
        let apps = known.apps.iter().map(|app| AppClaim {
            id: app.id,
            version: app.version,
            index: app.rollback_index,
            root: app.root_hash,
        });
        Claims {
            boot: BootId(known.boot_id),
            image: known.image,
            board: known.board,
            os: OsClaim {
                version: known.version,
                index: known.rollback_index,
                digest,
                slot: known.slot,
                phase: known.phase,
            },
            apps: apps.collect(),
            debug: known.is_debugged,
            clock: known.clock,
            reset: known.last_reset,
            tpm: self.keys.tpm(),
        }
    }

    /// Takes the certificates of the check-in before, each for its own key, and the receipt. All of it or nothing.
    fn keep(
        &mut self,
        answer: &[u8],
        world: &mut dyn World,
    ) -> Result<ExchangeReply, RequestError> {
        if self.attested.is_empty() {
            return Err(RequestError::NoCheckIn);
        }
        let answer: CheckInAnswer = read(answer)?;
        if answer.receipt.0.len() > MAX_RECEIPT_BYTES {
            return Err(RequestError::Receipt(answer.receipt.0.len()));
        }
        for (index, issued) in answer.certificates.iter().enumerate() {
            let purpose = issued.holder.0;
            let mut earlier = answer.certificates.iter().take(index);
            if earlier.any(|earlier| earlier.holder == issued.holder) {
                return Err(RequestError::Chain(purpose));
            }
            check_chain(issued, &self.attested)?;
        }
        let mut chains: Vec<(Purpose, Vec<Vec<u8>>)> = Vec::new();
        for issued in answer.certificates {
            let chain = issued.chain.into_iter().map(|bytes| bytes.0).collect();
            chains.push((issued.holder.0, chain));
        }
        let attested = std::mem::take(&mut self.attested);
        self.certified = attested
            .into_iter()
            .filter_map(|(purpose, key)| {
                let at = chains.iter().position(|(of, _)| *of == purpose)?;
                let (_, chain) = chains.swap_remove(at);
                let grade = chain.first().and_then(|leaf| certified_grade(leaf).ok().flatten());
                Some(Certified { purpose, key, chain, grade: grade.unwrap_or(UNKNOWN_GRADE) })
            })
            .collect();
        let count = self.certified.len();
        let reasons: Vec<String> = answer.reasons.iter().take(4).map(|r| word(r)).collect();
        let text = match reasons.as_slice() {
            [] => format!("checked in: {:?}, {count} certificates", answer.profile),
            some => {
                let why = some.join(", ");
                format!("checked in: {:?} ({why}), {count} certificates", answer.profile)
            }
        };
        world.log(event::IDENTITY_CHECKED_IN, &text);
        let mut enrolment = Enrolment::new(self.config.catalog, &self.keys.id());
        enrolment.receipt = Some(answer.receipt.0);
        enrolment.until = answer.until;
        self.remember(enrolment, world);
        // A word that is longer is none of the levels that there are.
        let reports = answer.reports.map(|reports| reports.level);
        Ok(ExchangeReply::Kept {
            next_s: answer.next_s,
            is_for_updates_alone: answer.profile == Profile::UpdateOnly,
            reports: reports.filter(|level| level.len() <= MAX_LEVEL_BYTES),
        })
    }
}

/// What could not be done of a request.
fn failure(request: &ExchangeRequest) -> &'static str {
    match request {
        ExchangeRequest::Describe => "cannot describe the device",
        ExchangeRequest::Enrol(_) => "cannot begin the enrolment",
        ExchangeRequest::Finish { .. } => "cannot finish the enrolment",
        ExchangeRequest::Enrolled => "cannot remember the enrolment",
        ExchangeRequest::CheckIn(_) | ExchangeRequest::CheckInWaiting { .. } => {
            "cannot attest the device"
        }
        ExchangeRequest::Keep(_) => "cannot keep what a check-in has brought",
        ExchangeRequest::Chain => "cannot hand over the device's certificates",
        ExchangeRequest::SignHandshake(_) => "cannot sign a handshake for the device",
        ExchangeRequest::Follow(_) => "cannot follow a voucher to another catalog",
    }
}

/// A reason of the service's, bounded and escaped for the log.
fn word(reason: &str) -> String {
    let short: String = reason.chars().take(32).collect();
    holdfast_types::escape(short.as_bytes())
}

fn body<T: Serialize>(message: &T) -> Result<ExchangeReply, RequestError> {
    let body = serde_json::to_vec(message).map_err(RequestError::Write)?;
    if body.len() > MAX_REQUEST_BYTES {
        return Err(RequestError::TooLong(body.len()));
    }
    Ok(ExchangeReply::Body(body))
}

fn read<T: serde::de::DeserializeOwned>(answer: &[u8]) -> Result<T, RequestError> {
    if answer.len() > MAX_ANSWER_BYTES {
        let error = serde::de::Error::custom("it is too long");
        return Err(RequestError::Answer(error));
    }
    serde_json::from_slice(answer).map_err(RequestError::Answer)
}

/// Checks that a chain is one for a key that was attested for its holder.
fn check_chain(issued: &IssuedChain, attested: &[(Purpose, Key)]) -> Result<(), RequestError> {
    let purpose = issued.holder.0;
    let key = attested.iter().find(|(of, _)| *of == purpose);
    let (_, key) = key.ok_or(RequestError::OtherKey(purpose))?;
    let (1..=MAX_CHAIN, Some(leaf)) = (issued.chain.len(), issued.chain.first()) else {
        return Err(RequestError::Chain(purpose));
    };
    for certificate in &issued.chain {
        certified_key(&certificate.0).map_err(|error| RequestError::Certificate(purpose, error))?;
    }
    let refused = |error| RequestError::Certificate(purpose, error);
    certified_grade(&leaf.0).map_err(refused)?;
    if certified_key(&leaf.0).map_err(refused)? == *key.point() {
        Ok(())
    } else {
        Err(RequestError::OtherKey(purpose))
    }
}

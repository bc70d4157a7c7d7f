//! One check-in, from the question who the device is to what is kept, with a service at this host.
#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]

use super::*;
use crate::device_certificate::SignHandshake;
use crate::service_in_tests::{DEVICE, NOW, Request, service};
use crate::verifier::Moment;
use holdfast_evidence::messages::Bytes;
use holdfast_types::UpdateWait;
use serde_json::json;
use std::sync::{Arc, Mutex as Lock};

/// An identity that does what it is asked to, and remembers what that was.
#[derive(Debug)]
struct Fake {
    is_enrolled: bool,
    asked: Vec<ExchangeRequest>,
    /// The replies that are others, by the number of the request.
    instead: Vec<(usize, ExchangeReply)>,
}

impl Fake {
    fn new(is_enrolled: bool) -> Self {
        Self { is_enrolled, asked: Vec::new(), instead: Vec::new() }
    }

    /// The requests so far, by their first letters.
    fn story(&self) -> String {
        let name = |request: &ExchangeRequest| match request {
            ExchangeRequest::Describe => "describe",
            ExchangeRequest::Enrol(_) => "enrol",
            ExchangeRequest::Finish { .. } => "finish",
            ExchangeRequest::Enrolled => "enrolled",
            ExchangeRequest::CheckIn(_) => "check-in",
            ExchangeRequest::CheckInWaiting { .. } => "check-in-waiting",
            ExchangeRequest::Keep(_) => "keep",
            ExchangeRequest::Chain => "chain",
            ExchangeRequest::SignHandshake(_) => "sign",
            ExchangeRequest::Follow(_) => "follow",
        };
        self.asked.iter().map(name).collect::<Vec<_>>().join(" ")
    }
}

impl Parts for Fake {
    fn identity(&mut self, request: &ExchangeRequest) -> Result<ExchangeReply, AttemptError> {
        let number = self.asked.len();
        self.asked.push(request.clone());
        if let Some((_, reply)) = self.instead.iter().find(|(at, _)| *at == number) {
            return Ok(reply.clone());
        }
        Ok(match request {
            ExchangeRequest::Describe => ExchangeReply::device(&DEVICE, self.is_enrolled, true),
            ExchangeRequest::Enrol(exporter)
            | ExchangeRequest::CheckIn(exporter)
            | ExchangeRequest::CheckInWaiting { exporter, .. }
            | ExchangeRequest::Finish { exporter, .. } => ExchangeReply::Body(exporter.to_vec()),
            ExchangeRequest::Enrolled => {
                self.is_enrolled = true;
                ExchangeReply::Kept { next_s: 0, is_for_updates_alone: false, reports: None }
            }
            ExchangeRequest::Keep(_) => {
                ExchangeReply::Kept { next_s: 86_400, is_for_updates_alone: false, reports: None }
            }
            ExchangeRequest::Follow(voucher) if voucher == VOUCHER => ExchangeReply::Followed,
            ExchangeRequest::Follow(_)
            | ExchangeRequest::Chain
            | ExchangeRequest::SignHandshake(_) => ExchangeReply::Failed,
        })
    }

    fn moment(&mut self) -> Result<Moment, AttemptError> {
        Ok(NOW)
    }

    fn signer(&mut self) -> Result<Arc<SignHandshake>, AttemptError> {
        Err(AttemptError::NoIdentityService)
    }
}

/// The answers of a service by path, each taken once; the last one stays.
type Script = Vec<(&'static str, u16, serde_json::Value)>;

/// A service that says these things. What is sent to it must be bound to its connection.
fn scripted(script: Script) -> DevicePort {
    let script = Arc::new(Lock::new(script));
    service(move |request: &mut Request| {
        let path = request.path().to_owned();
        let (body, exporter) = (request.body(), request.exporter);
        if body != exporter {
            return request.answer(403, "", b"\"evidence for another connection\"");
        }
        let mut script = script.lock().unwrap();
        let at = script.iter().position(|(of, ..)| *of == path);
        let Some(at) = at else { return request.answer(500, "", b"{}") };
        let (_, status, answer) = script.remove(at);
        request.answer(status, "Retry-After: 7\r\n", answer.to_string().as_bytes());
    })
}

fn challenge() -> serde_json::Value {
    serde_json::to_value(EnrolAnswer::Challenge {
        enrolment: Bytes(vec![1; 16]),
        id_object: Bytes(vec![2; 70]),
        encrypted_seed: Bytes(vec![3; 70]),
        within_s: 600,
    })
    .unwrap()
}

fn enrolled(device: DeviceId) -> serde_json::Value {
    serde_json::to_value(EnrolAnswer::Enrolled { device }).unwrap()
}

fn waiting() -> serde_json::Value {
    serde_json::to_value(EnrolAnswer::Waiting { device: DEVICE, next_s: 600 }).unwrap()
}

fn transferred(voucher: &[u8]) -> serde_json::Value {
    serde_json::to_value(EnrolAnswer::Transferred { voucher: Bytes(voucher.to_vec()) }).unwrap()
}

fn kept() -> serde_json::Value {
    json!({"profile": "full", "certificates": [], "until": 1, "next_s": 5, "receipt": "AA"})
}

/// A voucher that identity follows; every other is refused.
const VOUCHER: &[u8] = b"voucher";

fn kept_with(voucher: &[u8]) -> serde_json::Value {
    let mut answer = kept();
    answer["transfer"] = serde_json::to_value(Bytes(voucher.to_vec())).unwrap();
    answer
}

/// Runs one attempt: its outcome, and what identity was asked.
fn run(fake: &mut Fake, script: Script, schedule: &mut Schedule) -> Result<Outcome, AttemptError> {
    attempt(fake, &scripted(script), schedule, &mut None, &Board::default())
}

/// The answers of the service, the outcome, and what identity is asked.
#[test]
fn a_device_enrols_where_it_has_to_and_checks_in() {
    let checked_in = Outcome::CheckedIn { next_s: 86_400, is_on_trial: true };
    let unclaimed = Outcome::Unclaimed { next_s: 600 };
    let cases: [(bool, Script, Outcome, &str); 9] = [
        (true, vec![(CHECK_IN_PATH, 200, kept())], checked_in, "describe check-in keep"),
        (
            false,
            vec![
                (ENROL_PATH, 200, challenge()),
                (FINISH_PATH, 200, enrolled(DEVICE)),
                (CHECK_IN_PATH, 200, kept()),
            ],
            checked_in,
            "describe enrol finish enrolled check-in keep",
        ),
        (
            false,
            vec![(ENROL_PATH, 200, enrolled(DEVICE)), (CHECK_IN_PATH, 200, kept())],
            checked_in,
            "describe enrol enrolled check-in keep",
        ),
        (false, vec![(ENROL_PATH, 202, waiting())], unclaimed, "describe enrol"),
        (
            false,
            vec![(ENROL_PATH, 200, challenge()), (FINISH_PATH, 202, waiting())],
            unclaimed,
            "describe enrol finish",
        ),
        (true, vec![(CHECK_IN_PATH, 202, waiting())], unclaimed, "describe check-in"),
        (
            true,
            vec![(CHECK_IN_PATH, 200, kept_with(VOUCHER))],
            Outcome::Transferred,
            "describe check-in keep follow",
        ),
        (
            true,
            vec![(CHECK_IN_PATH, 200, kept_with(b"refused"))],
            checked_in,
            "describe check-in keep follow",
        ),
        (
            false,
            vec![(ENROL_PATH, 200, transferred(VOUCHER))],
            Outcome::Transferred,
            "describe enrol follow",
        ),
    ];
    for (is_enrolled, script, outcome, story) in cases {
        let mut fake = Fake::new(is_enrolled);
        let mut schedule = Schedule::new(0, 0);
        let ended = run(&mut fake, script, &mut schedule).unwrap();
        assert_eq!((ended, fake.story().as_str()), (outcome, story));
        if let Some(ExchangeRequest::Finish { answer, .. }) = fake.asked.get(2) {
            let sent: serde_json::Value = serde_json::from_slice(answer).unwrap();
            assert_eq!(sent, challenge(), "identity reads the service's own bytes");
        }
    }
}

#[test]
fn what_goes_wrong_ends_the_attempt_with_its_reason() {
    let problem = |word: &str, status: u16| json!({"type": format!("https://a.example/problems/{word}"), "status": status});
    let cases: [(bool, Script, &str); 8] = [
        (true, vec![(CHECK_IN_PATH, 200, json!("x"))], "kept"),
        (true, vec![(CHECK_IN_PATH, 403, problem("measurement-unknown", 403))], {
            "the service answers 403 measurement-unknown"
        }),
        (true, vec![(CHECK_IN_PATH, 500, json!("\u{1b}[2J"))], "the service answers 500"),
        (true, vec![(CHECK_IN_PATH, 400, problem("x\nevent=y", 400))], "answers 400 x\\x0aevent"),
        (false, vec![(ENROL_PATH, 200, json!({"state": "else"}))], "is no JSON of its fields"),
        (false, vec![(ENROL_PATH, 200, enrolled(DeviceId([0; 32])))], "another device"),
        (
            false,
            vec![(ENROL_PATH, 200, challenge()), (FINISH_PATH, 200, challenge())],
            "again instead of an end",
        ),
        (false, vec![], "the service answers 500"),
    ];
    for (is_enrolled, script, expected) in cases {
        let mut fake = Fake::new(is_enrolled);
        let ended = run(&mut fake, script, &mut Schedule::new(0, 0));
        if expected == "kept" {
            // Whatever it is, identity is the one that reads it.
            assert!(ended.is_ok() && fake.story().ends_with("keep"));
            continue;
        }
        let says = chain(&ended.unwrap_err());
        assert!(says.contains(expected), "{expected}: {says}");
        assert!(!says.contains('\n') && !says.contains('\u{1b}'), "{says:?}");
    }
}

#[test]
fn identity_may_fail_at_each_step() {
    let script = || -> Script {
        vec![
            (ENROL_PATH, 200, challenge()),
            (FINISH_PATH, 200, enrolled(DEVICE)),
            (CHECK_IN_PATH, 200, kept()),
        ]
    };
    for at in 0..6 {
        for reply in [
            ExchangeReply::Failed,
            ExchangeReply::NoIdentity,
            ExchangeReply::Kept { next_s: 1, is_for_updates_alone: false, reports: None },
            ExchangeReply::Body(vec![0; 4]),
        ] {
            let mut fake = Fake::new(false);
            fake.instead = vec![(at, reply.clone())];
            let ended = run(&mut fake, script(), &mut Schedule::new(0, 0));
            match (&reply, ended) {
                (ExchangeReply::NoIdentity, Err(error)) => {
                    assert_eq!(error.outcome(), Outcome::NoIdentity, "{at}");
                }
                (ExchangeReply::Failed, Err(error)) => {
                    assert!(matches!(error, AttemptError::IdentityFailed), "{at}: {error}");
                }
                (ExchangeReply::Kept { .. }, Ok(_)) => assert!([3, 5].contains(&at), "{at}"),
                // The service refuses it.
                (_, Err(error)) => assert!(!matches!(error, AttemptError::Init(_)), "{error}"),
                (reply, Ok(outcome)) => panic!("{at} {reply:?}: {outcome:?}"),
            }
        }
    }
}

#[test]
fn a_device_that_the_service_has_lost_enrols_again() {
    let lost = json!({"type": "urn:holdfast:unknown-device", "status": 403});
    for script in [vec![(CHECK_IN_PATH, 404, json!({}))], vec![(CHECK_IN_PATH, 403, lost)]] {
        let mut fake = Fake::new(true);
        let mut schedule = Schedule::new(0, 0);
        let error = run(&mut fake, script, &mut schedule).unwrap_err();
        let outcome = error.outcome();
        assert_eq!(outcome, Outcome::Failed { retry_after_s: Some(7), is_unknown: true });
        schedule.ended(outcome, 0, 0);
        let again = vec![(ENROL_PATH, 200, enrolled(DEVICE)), (CHECK_IN_PATH, 200, kept())];
        run(&mut fake, again, &mut schedule).unwrap();
        assert!(fake.story().ends_with("describe enrol enrolled check-in keep"));
        assert!(!schedule.must_enrol());
    }
}

#[test]
fn a_failure_that_goes_on_is_said_once() {
    let mut said = Said::default();
    let failed = |status| -> Result<Outcome, AttemptError> {
        let word = String::new();
        Err(AttemptError::Refused { status, word, retry_after_s: None, is_unknown: false })
    };
    let line = |said: &mut Said, ended: &Result<Outcome, AttemptError>| said.line(ended, "a:1");
    let first = line(&mut said, &failed(503)).unwrap();
    assert!(first.starts_with("cannot check in at a:1: the service answers 503"), "{first}");
    assert!(first.ends_with("event=uplink_check_in_failed"), "{first}");
    assert_eq!(line(&mut said, &failed(503)), None);
    assert!(line(&mut said, &failed(403)).is_some());
    assert!(line(&mut said, &Err(AttemptError::Silent)).is_some());
    assert_eq!(line(&mut said, &Err(AttemptError::Silent)), None);
    let unclaimed = Ok(Outcome::Unclaimed { next_s: 60 });
    assert!(line(&mut said, &unclaimed).unwrap().ends_with("event=uplink_device_unclaimed"));
    assert_eq!(line(&mut said, &unclaimed), None);
    let checked_in = Ok(Outcome::CheckedIn { next_s: 60, is_on_trial: false });
    assert_eq!(line(&mut said, &checked_in), None);
    assert!(line(&mut said, &failed(503)).is_some(), "after a success it is said again");
}

#[test]
fn what_is_assigned_waits_for_the_agent_and_its_reason_for_the_next_check_in() {
    let board = Board::default();
    let once = |fake: &mut Fake, answer| {
        let port = scripted(vec![(CHECK_IN_PATH, 200, answer)]);
        attempt(fake, &port, &mut Schedule::new(0, 0), &mut None, &board).unwrap()
    };
    let mut answer = kept();
    answer["assignments"] = json!([{"component": "os", "newest": "1.4.0"}]);
    let mut fake = Fake::new(true);
    assert_eq!(board.exchange(Some(UpdateWait::Window)), None);
    once(&mut fake, answer);
    assert_eq!(fake.story(), "describe check-in keep", "nothing was assigned before");
    assert!(board.exchange(Some(UpdateWait::Declined)).is_some_and(|it| !it.is_empty()));
    once(&mut fake, kept());
    assert!(fake.story().ends_with("describe check-in-waiting keep"), "{}", fake.story());
    // This service has taken back what it had assigned, and is asked nothing new.
    once(&mut fake, kept());
    assert!(fake.story().ends_with("describe check-in keep"), "{}", fake.story());
    // What identity does not keep was not assigned.
    let mut answer = kept();
    answer["assignments"] = json!([{"component": "os", "newest": "1.4.0"}]);
    let mut fake = Fake::new(true);
    fake.instead = vec![(2, ExchangeReply::Failed)];
    let port = scripted(vec![(CHECK_IN_PATH, 200, answer)]);
    attempt(&mut fake, &port, &mut Schedule::new(0, 0), &mut None, &board).unwrap_err();
    assert!(board.exchange(None).is_some_and(|it| it.is_empty()));
}

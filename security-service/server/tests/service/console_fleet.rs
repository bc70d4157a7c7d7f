//! A fleet as an owner may have it, for pages to show: made by the functions of the store that devices' requests end in.

use crate::installation::{BOOT, Installation, OTHER_BOOT};
use holdfast_evidence::claims::Phase;
use holdfast_evidence::messages::{DeviceId, Profile};
use holdfast_evidence::policy::BootDigest;
use holdfast_failure_reports::batch::{Batch, Epoch};
use holdfast_failure_reports::record::{Body, Record};
use holdfast_failure_reports::samples;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service_domain::check_in::{CheckInWrite, Decision, Issue, Verdict};
use holdfast_service_domain::crash::{Address, Key};
use holdfast_service_domain::deployment::plan::{Plan, Size, Stage};
use holdfast_service_domain::deployment::slot::Target;
use holdfast_service_domain::detection::finding::{
    About, Detection, Evidence, Key as ThreatKey, Severity,
};
use holdfast_service_domain::detection::fleet::GroupName;
use holdfast_service_domain::detection::rule::Rule;
use holdfast_service_domain::detection::sightings::Seen;
use holdfast_service_domain::detection::subject::{Part, Subject};
use holdfast_service_domain::device::{Finding, Kind};
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::measurement::Release;
use holdfast_service_domain::person::By;
use holdfast_service_domain::receipt::Receipts;
use holdfast_service_store::deployment::change::{self, Action, Draft};
use holdfast_service_store::deployment::check_in::StagedCheckIn;
use holdfast_service_store::device::{self, Claim};
use holdfast_service_store::{Scope, Store};
use holdfast_types::Version;
use holdfast_types::hex::hex;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Devices of the production group.
pub(crate) const DEVICES: u8 = 120;
const DAY_S: u64 = 24 * 60 * 60;
const OLD: Release = of(OTHER_BOOT, 3, 6);
const NEW: Release = of(BOOT, 4, 7);
const OLD_COMMITTED: (Release, Phase) = (OLD, Phase::Committed);
const NEW_COMMITTED: (Release, Phase) = (NEW, Phase::Committed);

const fn of(boot: [u8; 32], minor: u32, index: u64) -> Release {
    let version = Version { major: 1, minor, patch: 0 };
    Release { boot: BootDigest(boot), version, index, withdrawn: false }
}

/// A device of the fleet, by its number.
pub(crate) fn device(number: u8) -> DeviceId {
    let mut id = [number; 32];
    // The first bytes of real ids are spread as well.
    (id[0], id[1]) = (number.wrapping_mul(73), number.wrapping_mul(151));
    DeviceId(id)
}

/// What people and names are called in the fleet: ordinary, or as somebody would call them who means harm.
pub(crate) struct Names {
    pub(crate) board: String,
    pub(crate) serial: String,
    pub(crate) function: String,
    pub(crate) caller: String,
    pub(crate) who: String,
    pub(crate) reason: String,
}

impl Names {
    pub(crate) fn ordinary() -> Self {
        let text = str::to_owned;
        Self {
            board: text("qemu-virt"),
            serial: text("PX-2026-0412"),
            function: text("read in pump::valve::position"),
            caller: text("pump::control::run"),
            who: text("ole"),
            reason: text("a drill"),
        }
    }
}

struct Fleet {
    store: Store,
    scope: Scope,
    now: u64,
}

impl Fleet {
    async fn claim(&self, number: u8, grade: Grade, group: Option<&str>, names: &Names) {
        let (scope, at) = (self.scope, self.now - 30 * DAY_S);
        let claim = Claim {
            device: device(number),
            kind: if grade == Grade::Software { Kind::Software } else { Kind::Tpm },
            grade,
            board: Some(names.board.clone()),
            serial: Some(format!(
                "{}{}",
                names.serial,
                if number == 0 { String::new() } else { format!("-{number}") }
            )),
            group: group.map(|group| ("pump".to_owned(), group.to_owned())),
        };
        let claimed = self.store.write(move |connection| {
            Box::pin(async move { device::claim(connection, scope, claim, at).await })
        });
        claimed.await.unwrap();
        self.store.enrol(scope, device(number), vec![number; 65], grade, at).await.unwrap();
    }

    async fn check_in(&self, number: u8, (release, phase): (Release, Phase), at: u64) {
        self.check_in_as(number, (release, phase), at, "full").await;
    }

    async fn check_in_as(
        &self,
        number: u8,
        (release, phase): (Release, Phase),
        at: u64,
        verdict: &'static str,
    ) {
        let id = device(number);
        let before = self.store.device(self.scope, &id).await.unwrap().unwrap();
        let is_known = verdict != "measurement-unknown";
        let write = CheckInWrite {
            revision: before.device.revision,
            receipts: Receipts { newest: 2, returned: 1 },
            clock: None,
            verdict,
            release: is_known.then_some(release),
            phase,
            certificate_end: is_known.then_some(at + 2 * DAY_S),
            next_at: Some(at + DAY_S),
            findings: if is_known { vec![] } else { vec![Finding::MeasurementUnknown] },
            at,
        };
        let issue = Issue {
            profile: if verdict == "full" { Profile::Full } else { Profile::UpdateOnly },
            reasons: vec![],
            leaves: vec![],
            until: at + 2 * DAY_S,
            next_s: 86_400,
            receipt: 2,
        };
        let (version, digest) = (release.version, hex(&release.boot.0));
        let phase = match phase {
            Phase::Committed => "committed",
            Phase::Staged => "staged",
            Phase::Trying => "trying",
            Phase::FallingBack => "falling-back",
        };
        let claims = json!({
            "v": 1, "boot": "6b".repeat(16), "image": "pump", "board": "qemu-virt",
            "os": {"version": version.to_string(), "index": release.index, "digest": digest, "slot": "a", "phase": phase},
            "apps": [{"id": "25025d2c-66da-4448-bae1-ac26fcdd3627", "version": "2.1.0", "index": 3, "root": "41".repeat(32)}],
            "debug": false, "clock": "network", "reset": "reboot", "tpm": "ok",
        });
        let check_in = StagedCheckIn {
            id,
            decision: Decision { verdict: Verdict::Issue(issue), write },
            measured: release.pcr(),
            claims: claims.to_string().into_bytes(),
            update: None,
        };
        self.store.check_in_with_deployments(self.scope, check_in).await.unwrap();
    }

    /// A deployment in its third stage: two devices have fallen back, some try it, and some have not come.
    async fn deploy(&self, who: &str) {
        let (scope, by) = (self.scope, By::named(who));
        let began = self.now - 2 * DAY_S;
        let stages = [(50, 600), (200, 600), (500, 3600), (1000, 0)];
        let stages = stages.map(|(share, soak_s)| Stage { size: Size::Share(share), soak_s });
        let draft = Draft {
            id: "d41".to_owned(),
            product: "pump".to_owned(),
            group: "production".to_owned(),
            target: Target { subject: ReleaseSubject::Os, version: NEW.version },
            plan: Plan::new(stages.to_vec(), 500).unwrap(),
            lists: Vec::new(),
            window: Some("02:00-04:00+60".parse().unwrap()),
            deadline_s: Some(2 * DAY_S),
            check_every_s: None,
            begins_at: 0,
            by,
        };
        let made = self.store.write(move |connection| {
            Box::pin(async move { change::create(connection, scope, draft, began).await })
        });
        made.await.unwrap();
        let approved = self.store.write(move |connection| {
            Box::pin(async move {
                let ines = By::named("ines");
                change::act(connection, scope, "d41", Action::Approve, ines, began).await
            })
        });
        approved.await.unwrap();
        let tend =
            async |at| self.store.tend_deployment(scope, "d41".to_owned(), at).await.unwrap();
        tend(began).await;
        let mut has_it = Vec::new();
        for stage in 0..3u64 {
            let at = began + 2000 * (stage + 1);
            for number in 0..DEVICES {
                let is_left_out = stage == 2 && number % 9 == 4;
                if !has_it.contains(&number) && !is_left_out {
                    self.check_in(number, OLD_COMMITTED, at).await;
                }
            }
            let given: Vec<u8> =
                self.given().await.into_iter().filter(|one| !has_it.contains(one)).collect();
            for (index, number) in given.iter().enumerate() {
                match (stage, index) {
                    (2, 0 | 1) => self.check_in(*number, (OLD, Phase::FallingBack), at + 700).await,
                    (2, 2..8) => self.check_in(*number, (NEW, Phase::Trying), at + 600).await,
                    (2, 8..20) => {}
                    _ => self.check_in(*number, NEW_COMMITTED, at + 600).await,
                }
            }
            has_it.extend(given);
            if stage < 2 {
                tend(at + 700).await;
                tend(at + 1400).await;
            }
        }
    }

    /// Numbers of the devices that were given the release.
    async fn given(&self) -> Vec<u8> {
        let all = self.store.whereabouts(self.scope, "d41", self.now, "", 1000).await.unwrap();
        let given = all.into_iter().filter(|row| row.slot.is_some());
        given.map(|row| row.device.0[31]).collect()
    }

    async fn report(&self, number: u8, records: Vec<Record>, names: &Names, at: u64) {
        let mut functions: BTreeMap<Address, String> = BTreeMap::new();
        for record in &records {
            for (address, name) in
                Key::addresses(&record.body).zip([&names.function, &names.caller])
            {
                functions.insert(address, name.clone());
            }
        }
        let batch = Batch { epoch: Epoch([number; 8]), records, unknown: 0 };
        self.store.take_reports(self.scope, device(number), batch, functions, at).await.unwrap();
    }

    /// A camera that crashes, on more devices from day to day, and all else that a device may report.
    async fn fail(&self, names: &Names) {
        for number in 0..24u8 {
            let at = self.now - u64::from(20 - number.min(20)) * DAY_S / 2 - 4000;
            let body = Body::Ended(holdfast_failure_reports::record::Ended {
                panic: None,
                ..samples::ended()
            });
            let crash = Record { sequence: 1, at: Some(at), uptime_s: 90, body };
            self.report(number, vec![crash], names, at).await;
        }
        let records = samples::records().into_iter();
        let records =
            records.map(|record| Record { at: Some(self.now - 7000), ..record }).collect();
        let panics =
            Names { function: "panic".to_owned(), caller: "main".to_owned(), ..Names::ordinary() };
        self.report(30, records, &panics, self.now - 6000).await;
    }

    /// What rules have found: an outbreak, and a release that falls back.
    async fn threaten(&self) {
        let holder = "fleet".to_owned();
        assert!(self.store.hold_lease(holder.clone(), self.now).await.unwrap().is_some());
        let samples_app = match samples::app() {
            holdfast_failure_reports::record::Component::App(app) => app,
            holdfast_failure_reports::record::Component::Service(_) => panic!("an app"),
        };
        let found = |rule, severity, part, version, devices: u8| {
            let about = About::Subject(Subject { part, version: Some(version) });
            let seen: Vec<_> = (0..devices)
                .map(|number| (device(number), Seen::once(self.now - 1800, 1, 1, 0)))
                .collect();
            let evidence = Evidence::of(seen.iter().map(|(device, seen)| (device, seen)));
            Detection { key: ThreatKey { rule, about }, severity, evidence }
        };
        let detections = vec![
            found(
                Rule::Outbreak,
                Severity::Now,
                Part::App(samples_app.id),
                samples_app.version,
                24,
            ),
            found(Rule::Fallback, Severity::Today, Part::Os, NEW.version, 4),
        ];
        let group = GroupName { product: "pump".to_owned(), group: "production".to_owned() };
        let taken =
            self.store.take_detections(self.scope, holder.clone(), group, detections, self.now);
        assert_eq!(taken.await.unwrap().findings.len(), 2);
        self.store.end_lease(holder).await.unwrap();
    }
}

/// Fills a service whose tests have done nothing yet, and starts it again.
pub(crate) fn fill(service: &mut Installation, names: &Names) {
    service.add_release(&OTHER_BOOT, "1.3.0", 6);
    for product in ["pump", "valve"] {
        service.done("PUT", &format!("/products/{product}"), &Value::Null);
    }
    service.done("POST", "/products/pump/default-groups", &Value::Null);
    let webhook = json!({"name": "ops", "url": "https://alerts.example.com/holdfast"});
    service.done("POST", "/webhooks", &webhook);
    let waiting = DeviceId([0xfe; 32]);
    service.stop();
    let replica = service.replica();
    let (now, catalog) = (service.now(), service.catalog);
    service.block_on(async {
        let store = replica.store.clone();
        let scope = store.scope_of_device(catalog).await.unwrap().unwrap();
        let fleet = Fleet { store, scope, now };
        for number in 0..DEVICES {
            let grade = match number % 20 {
                0 => Grade::Software,
                1..=3 => Grade::HardwareVerified,
                _ => Grade::Hardware,
            };
            fleet.claim(number, grade, Some("production"), names).await;
        }
        for number in DEVICES..DEVICES + 12 {
            fleet.claim(number, Grade::Hardware, Some("field-test"), names).await;
        }
        fleet.deploy(&names.who).await;
        for number in DEVICES..DEVICES + 12 {
            match number - DEVICES {
                0..4 => fleet.check_in_as(number, NEW_COMMITTED, now - 9000, "update-only").await,
                4 | 5 => {
                    fleet
                        .check_in_as(number, NEW_COMMITTED, now - 5000, "measurement-unknown")
                        .await
                }
                _ => fleet.check_in(number, NEW_COMMITTED, now - 5 * DAY_S).await,
            }
        }
        // Each checks in once a day; those that have the release stay with it.
        for number in 0..DEVICES {
            let shown = fleet.store.device(scope, &device(number)).await.unwrap().unwrap();
            let seen = shown.seen_at.unwrap_or(0);
            if shown.phase.as_deref() == Some("committed") && number % 50 != 49 {
                let is_new = shown.version.as_deref() == Some("1.4.0");
                let with = if is_new { NEW_COMMITTED } else { OLD_COMMITTED };
                let write =
                    fleet.check_in(number, with, (now - 300 - u64::from(number) * 317).max(seen));
                write.await;
            }
        }
        for day in (0..30).rev() {
            fleet.store.count_exposure(scope, now - day * DAY_S).await.unwrap();
        }
        fleet.fail(names).await;
        for (number, finding) in
            [(1, Finding::SlotFailed), (2, Finding::SlotFailed), (3, Finding::DebugBuild)]
        {
            fleet.store.note_finding(scope, device(number), finding, now - 4000).await.unwrap();
        }
        let board = names.board.clone();
        fleet.store.wait_for_claim(scope, waiting, Kind::Tpm, board, now - 600).await.unwrap();
        fleet.threaten().await;
    });
    drop(replica);
    service.begin();
    let id = device(5);
    service.done("POST", &format!("/devices/{id}/quarantine"), &Value::Null);
}

//! A group of devices takes a release in stages, of which the second is bad: the deployment stops there, and an emergency release mends
//! what it has reached and what it has not.
//!
//! The release has a critical part that needs a second card, which each device has until it restarts for the release in the second stage.

use super::deployment::{Deployments, Shown};
use super::installation::Installation;
use super::world::{CHECK_IN, FULL, TPM, World, device_id};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Needs, Suite, check};
use anyhow::{Context, Result, ensure};
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_qemu::settings;
use holdfast_qemu::web_server::WebAnswer;
use holdfast_repository::Released;
use holdfast_sandbox::component::Service;
use holdfast_sandbox::policy::{self, ServiceGrants};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// Devices of the fleet: enough for a stage to halt by itself.
const DEVICES: usize = 8;
/// The release that is bad in the second stage, and the one that mends it.
const BAD: &str = "0.2.0";
const MENDED: &str = "0.3.0";
/// Least seconds that devices take from one check-in to the next.
const CHECK_IN_EVERY_S: u32 = 60;
/// Seconds for which stages are watched.
const SOAK_S: u32 = 5;
/// For each stage: devices come for it within two check-ins, fall back within three boots of 45 s, and come again.
const A_STAGE: Duration = Duration::from_secs(900);
/// Pause between two looks at guests and service.
const LOOK: Duration = Duration::from_millis(250);
/// Where a device finds its second card.
const CARD: &str = "/dev/mmcblk1";

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let within = Duration::from_secs(2400);
    check!(
        suite.with(Needs::Light).within(within),
        a_release_that_is_bad_in_its_second_stage_stops_and_is_mended(artefacts)
    );
}

/// A device of the group.
struct Member {
    id: String,
    /// Absent only while it is started again.
    guest: Option<Guest>,
    machine: Machine,
    /// What it has printed on machines before this one.
    printed: String,
}

impl Member {
    fn guest(&self) -> Result<&Guest> {
        self.guest.as_ref().context("the guest was not started again")
    }

    fn text(&self) -> Result<String> {
        Ok(format!("{}{}", self.printed, self.guest()?.console.text()))
    }

    fn has_said(&self, what: &str) -> Result<bool> {
        Ok(self.text()?.contains(what))
    }

    /// Switches it off and on again, without its second card.
    fn lose_card(&mut self) -> Result<()> {
        let guest = self.guest.take().context("the guest was not started again")?;
        self.printed.push_str(&guest.console.text());
        self.machine.card = None;
        self.guest = Some(self.machine.start_again(guest)?);
        Ok(())
    }
}

struct Fleet {
    world: World,
    members: Vec<Member>,
    image: Scratch,
}

impl Fleet {
    /// Has [`DEVICES`] enrolled in a group whose OS a first deployment narrows, so that they take nothing that is not deployed.
    fn of(artefacts: &Artefacts) -> Result<(Self, String)> {
        let service = Installation::with_settings(CHECK_IN_EVERY_S, DEVICES)?;
        let world = World::with_service(artefacts, "service", service)?;
        let image = world.image(|root| world.update_from_service(root))?;
        world.add_release(image.path())?;
        // Only the service has releases of the OS.
        world.scene.lie(
            |asked, truth| {
                if asked.path.starts_with("os/") { WebAnswer::Status(404) } else { truth }
            },
        );
        world.service.trust("os", &world.scene.repository("os"))?;
        world.service.serve("os", &world.scene.repository("os"))?;
        world.service.create_group()?;
        let stages: Vec<_> = [250, 750, 1000]
            .map(|permille| json!({ "permille": permille, "soak_s": SOAK_S }))
            .into();
        let bad = world.service.draft(BAD, &json!({ "stages": stages }))?;
        let card = world.scene.path("card.img");
        fs::File::create(&card)?.set_len(16 << 20)?;
        let mut fleet = Self { world, members: Vec::new(), image };
        for _ in 0..DEVICES {
            fleet.start_one(card.clone())?;
        }
        for member in &mut fleet.members {
            let guest = member.guest.as_mut().context("it was not started")?;
            guest.wait(FULL, CHECK_IN)?;
        }
        Ok((fleet, bad))
    }

    fn start_one(&mut self, card: PathBuf) -> Result<()> {
        let machine = self.world.machine(self.image.path(), TPM)?;
        let machine = Machine { card: Some(card), ..machine };
        let mut guest = machine.start(None)?;
        let id = device_id(&mut guest, "tpm")?;
        // Before it asks: it would ask again a quarter of an hour later.
        self.world.service.claim_in_group(&id, "emulated")?;
        guest.wait_anywhere("init: slot a committed", BOOT)?;
        let printed = String::new();
        self.members.push(Member { id, guest: Some(guest), machine, printed });
        Ok(())
    }

    /// A release whose critical part needs the second card, or does not.
    fn release(&self, artefacts: &Artefacts, version: &str, needs_card: bool) -> Result<Released> {
        let program = fs::read(artefacts.programs.join("unready"))?;
        let index = if needs_card { 1 } else { 2 };
        self.world.scene.os(version, index, |root, list| {
            self.world.configure(root)?;
            self.world.update_from_service(root)?;
            let descriptors = if needs_card { vec![CARD.to_owned()] } else { Vec::new() };
            let plan = policy::service_plan(&ServiceGrants {
                critical: true,
                descriptors,
                ..ServiceGrants::none("/usr/lib/holdfast/services/sensor", "sensor")
            });
            list.services.push(Service { name: "sensor".to_owned(), uid: 150, plan });
            root.add("usr/lib/holdfast/services/sensor/sensor", program, true);
            Ok(())
        })
    }

    /// Publishes releases, and waits until a device has seen that and taken nothing.
    fn publish(&mut self, releases: &[Released]) -> Result<()> {
        self.world.scene.publish("os", releases)?;
        self.world.service.serve("os", &self.world.scene.repository("os"))
    }

    /// Looks at a deployment until it is as it should be; a device that restarts for the bad release outside of the first stage has no card
    /// any more.
    fn watch(
        &mut self,
        id: &str,
        first: Option<&BTreeSet<String>>,
        what: &str,
        is_there: impl Fn(&Shown) -> bool,
    ) -> Result<Shown> {
        let (began, within) = (Instant::now(), settings::scaled(A_STAGE));
        loop {
            let shown = self.world.service.deployment(id)?;
            if is_there(&shown) {
                return Ok(shown);
            }
            for member in &mut self.members {
                let is_of_second = first.is_some_and(|first| !first.contains(&member.id));
                if is_of_second
                    && member.machine.card.is_some()
                    && member.has_said("init: rebooting")?
                {
                    member.lose_card()?;
                }
            }
            ensure!(began.elapsed() < within, "not {what}: {shown:#?}\n{}", self.told()?);
            thread::sleep(LOOK);
        }
    }

    /// What helps to find out why a deployment did not go on.
    fn told(&self) -> Result<String> {
        let mut told = self.world.service.log();
        for member in &self.members {
            write!(told, "\n{}:\n{}", member.id, member.guest()?.console.tail())?;
        }
        Ok(told)
    }

    fn ids(&self) -> BTreeSet<String> {
        self.members.iter().map(|member| member.id.clone()).collect()
    }

    /// Checks which version the service knows each device to run.
    fn ensure_runs(&self, version: &str, ids: &BTreeSet<String>) -> Result<()> {
        for id in ids {
            let device = self.world.service.device(id)?;
            for (field, expected) in [("version", version), ("phase", "committed")] {
                let found = device.get(field).and_then(|value| value.as_str());
                ensure!(found == Some(expected), "{field} is not {expected}: {device:#}");
            }
        }
        Ok(())
    }
}

fn a_release_that_is_bad_in_its_second_stage_stops_and_is_mended(
    artefacts: &Artefacts,
) -> Result<()> {
    let (mut fleet, bad) = Fleet::of(artefacts)?;
    let all = fleet.ids();
    ensure!(all.len() == DEVICES, "two devices have one id");
    let release = fleet.release(artefacts, BAD, true)?;
    fleet.publish(std::slice::from_ref(&release))?;
    // It is signed and served, and drafted: nobody takes it.
    let seen = "update: os: nothing new in version 2";
    for member in &mut fleet.members {
        let guest = member.guest.as_mut().context("it was not started")?;
        guest.wait_anywhere(seen, CHECK_IN)?;
        ensure!(!guest.console.text().contains("fetching release"), "{}", guest.console.tail());
    }
    fleet.world.service.act(&bad, "approve")?;

    // The first stage has it, and is good.
    let shown = fleet.watch(&bad, None, "in its second stage", |shown| shown.stage == 2)?;
    let first = fleet.world.service.with_slot(&bad, &["committed"])?;
    ensure!(u64::try_from(first.len())? == shown.given_before, "{first:?} of {shown:#?}");
    fleet.ensure_runs(BAD, &first)?;

    // The second one is bad, and halts by itself.
    let shown = fleet.watch(&bad, Some(&first), "stopped", |shown| shown.state == "halted")?;
    let expected =
        format!("{0} devices have fallen back, and {0} are the most of", shown.failures_to_halt);
    ensure!(shown.says.starts_with(&expected), "{shown:#?}");
    ensure!(shown.cause.as_deref() == Some("failures"), "{shown:#?}");
    stopped(&fleet, &bad, &first)?;
    mended(&mut fleet, artefacts, release, &bad)
}

/// The good ones stay, nobody else is offered it, and whoever looks sees why.
fn stopped(fleet: &Fleet, bad: &str, first: &BTreeSet<String>) -> Result<()> {
    let service = &fleet.world.service;
    fleet.ensure_runs(BAD, first)?;
    let given =
        service.with_slot(bad, &["committed", "granted", "trial", "fell-back", "refused"])?;
    for member in fleet.members.iter().filter(|member| !given.contains(&member.id)) {
        let text = member.text()?;
        ensure!(!text.contains("fetching release"), "it was offered it: {text}");
    }
    let reasons = service.why_not(bad)?;
    for (id, why) in &reasons {
        let expected: &[&str] = match (first.contains(id), given.contains(id)) {
            (true, _) => &[""],
            (_, true) => &["failed-before", "halted", "trial"],
            _ => &["halted"],
        };
        ensure!(expected.contains(&why.as_str()), "{id} is said to be {why}: {reasons:?}");
    }
    ensure!(reasons.values().any(|why| why == "failed-before"), "{reasons:?}");
    let page = service.page(&format!("deployments/{bad}"))?;
    for shown in ["halted", "Cause of the halt", "failed-before"] {
        ensure!(page.contains(shown), "the page does not show `{shown}`:\n{page}");
    }
    Ok(())
}

/// An emergency release reaches all: those with the bad one, those that have fallen back, and those that never had it.
fn mended(fleet: &mut Fleet, artefacts: &Artefacts, bad: Released, id: &str) -> Result<()> {
    let all = fleet.ids();
    fleet.world.service.act(id, "withdraw")?;
    let mends = json!({ "preset": "emergency", "soak_s": SOAK_S });
    let emergency = fleet.world.service.draft(MENDED, &mends)?;
    let release = fleet.release(artefacts, MENDED, false)?;
    fleet.publish(&[bad, release])?;
    fleet.world.service.act(&emergency, "approve")?;
    // Who is on its way back from the bad release comes back first, and takes no other try of it.
    fleet.watch(&emergency, None, "done", |shown| shown.state == "done")?;
    fleet.world.service.wait_slots(&emergency, "committed", all.len())?;
    fleet.ensure_runs(MENDED, &all)?;
    for member in &fleet.members {
        let enrolled = member.text()?.matches("event=identity_enrolled").count();
        ensure!(enrolled == 1, "{} has enrolled {enrolled} times", member.id);
    }
    Ok(())
}

//! A release on trial: staged into slot B of an image, in a guest that falls back where it is not healthy.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::scratch::Scratch;
use crate::harness::stager::{self, Release};
use anyhow::{Result, ensure};
use holdfast_images::root::Root;
use holdfast_images::{show, variant};
use holdfast_lifecycle::slots::{BootState, Phase, Slot, Status};
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_sandbox::component::{self, ComponentList, Service};
use holdfast_sandbox::policy::{self, ServiceGrants};
use std::fs;
use std::path::PathBuf;

/// An image, and what variants of it are made with.
pub(crate) struct Bench {
    pub(crate) artefacts: Artefacts,
    pub(crate) image: PathBuf,
}

impl Bench {
    /// A release whose root is another.
    pub(crate) fn release(&self, change: impl FnOnce(&mut Root)) -> Result<Release> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("release.img");
        variant::with_root(&self.image, &path, &self.artefacts.signer()?, change)?;
        Release::of(&path)
    }

    /// A release with another rollback index.
    pub(crate) fn release_with_index(&self, rollback_index: u32) -> Result<Release> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("release.img");
        let signer = self.artefacts.signer()?;
        variant::with_rollback_index(&self.image, &path, &signer, rollback_index)?;
        Release::of(&path)
    }

    /// A critical service that crashes, beside whatever the image has.
    pub(crate) fn with_crashing_service(&self) -> Result<impl FnOnce(&mut Root)> {
        let program = fs::read(self.artefacts.programs.join("crash-loop"))?;
        let list =
            holdfast_images::root::read_file(&show::read_root(&self.image)?, component::PATH)?;
        let mut list = ComponentList::decode(&list)?;
        let plan = policy::service_plan(&ServiceGrants {
            critical: true,
            ..ServiceGrants::none("/usr/lib/holdfast/services/crashing", "crash-loop")
        });
        list.services.push(Service { name: "crashing".to_owned(), uid: 150, plan });
        let encoded = list.encode()?;
        Ok(move |root: &mut Root| {
            root.add(component::PATH.trim_start_matches('/'), encoded, false);
            root.add("usr/lib/holdfast/services/crashing/crash-loop", program, true);
        })
    }

    /// A guest whose slot B holds `release`, on trial, with the machine it runs on.
    pub(crate) fn with_trial(&self, release: &Release) -> Result<Trial> {
        let scratch = Scratch::of(&self.image)?;
        stager::stage(scratch.path(), Slot::A, release)?;
        self.trial(scratch)
    }

    pub(crate) fn trial(&self, scratch: Scratch) -> Result<Trial> {
        Trial::on(scratch, |machine| Machine { counted: true, ..machine })
    }

    /// As [`trial`](Self::trial), for a guest that spins: one processor, on the host's clock.
    pub(crate) fn spinning_trial(&self, scratch: Scratch) -> Result<Trial> {
        Trial::on(scratch, |machine| Machine { processors: 1, ..machine })
    }
}

/// A guest on trial.
pub(crate) struct Trial {
    _scratch: Scratch,
    pub(crate) guest: Guest,
}

impl Trial {
    pub(crate) fn on(scratch: Scratch, machine: impl FnOnce(Machine) -> Machine) -> Result<Self> {
        let guest = machine(Machine::new(scratch.path(), 64)).start(None)?;
        Ok(Self { _scratch: scratch, guest })
    }

    /// Switched off and on again.
    pub(crate) fn start_again(self, machine: &Machine) -> Result<Self> {
        let Self { _scratch, guest } = self;
        Ok(Self { _scratch, guest: machine.start_again(guest)? })
    }

    /// Waits until init commits a slot, and gives the status that it then prints.
    pub(crate) fn committed(&mut self) -> Result<Status> {
        self.guest.wait(r"init: slot [ab] committed event=slot_committed\n", BOOT)?;
        self.guest.wait("init: status: .*\n", BOOT)?;
        Ok(Status::last_in(&self.guest.console.text())?)
    }

    /// How often the boot loader has chosen this slot.
    pub(crate) fn tries_of(&self, slot: Slot) -> usize {
        let chosen = format!("holdfast: slot {}, ", slot.letter());
        self.guest.console.text().matches(&chosen).count()
    }

    /// Slot B was tried three times and failed, A runs and is committed.
    pub(crate) fn fell_back(&mut self, why: &str) -> Result<()> {
        self.guest.wait("init: status: slot=a phase=falling-back .*\n", BOOT.saturating_mul(2))?;
        let status = Status::last_in(&self.guest.console.text())?;
        ensure!(status.last_reset.starts_with(why), "the reason is `{}`", status.last_reset);
        let tail = || self.guest.console.tail();
        ensure!(self.tries_of(Slot::B) == 3, "{} tries:\n{}", self.tries_of(Slot::B), tail());
        let status = self.committed()?;
        ensure!((status.slot, status.phase) == (Slot::A, Phase::Committed), "{status:?}");
        ensure!(status.boot_state == Some(BootState::factory()), "{status:?}");
        Ok(())
    }
}

//! What the agent tells: init of releases and slots, apps of the state, and the record of releases.

use super::Agent;
use crate::bus::{State, UpdateStatus};
use crate::news;
use crate::state;
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::init_socket::InitError;
use holdfast_sandbox::held::{Held, ReleaseSubject};
use holdfast_sandbox::wire::{UpdateNews, UpdateOutcome, UpdateRequest};
use holdfast_types::event;
use holdfast_types::{Version, chain};

impl Agent {
    /// Tells what has become of the release that was staged last.
    pub(super) fn tell_end(
        &mut self,
        subject: ReleaseSubject,
        outcome: UpdateOutcome,
        held: &[Held],
    ) -> Result<(), InitError> {
        self.tell(Some(news::ended(subject, outcome, state::load_tried(), held)))
    }

    /// Tells init what has become of a release, for whoever reports it.
    pub(super) fn tell(&mut self, news: Option<UpdateNews>) -> Result<(), InitError> {
        if let Some(news) = news.filter(|news| self.told.is_new(*news, monotonic_ms())) {
            self.connection.init.tell(UpdateRequest::Tell(news))?;
        }
        Ok(())
    }

    /// Has what is staged not be tried, since it may not be taken any more. A package of an app stays staged, and is tried at the next
    /// start for whatever reason.
    pub(super) fn take_back(&mut self, subject: ReleaseSubject) -> Result<(), InitError> {
        if subject == ReleaseSubject::Os {
            // init first: what is forgotten before the slot is marked would be tried without a record.
            self.connection.init.tell(UpdateRequest::Announce)?;
            self.memory.take_back();
            self.save_memory();
            self.assigned.stage(None);
            self.bus.publish(UpdateStatus::IDLE);
            let taken_back = event::update::UPDATE_TAKEN_BACK;
            println!("{subject}: the staged release may not be taken any more {taken_back}");
        }
        Ok(())
    }

    /// Tells init, once, as soon as there is no objection to a commit.
    pub(super) fn agree_if_reached(&mut self) -> Result<(), InitError> {
        let agrees = self.trial.is_none_or(|staged| staged.agrees(self.has_reached));
        if agrees && !self.has_agreed {
            self.connection.init.tell(UpdateRequest::Agree)?;
            self.has_agreed = true;
        }
        Ok(())
    }

    pub(super) fn publish_status(
        &self,
        state: State,
        subject: ReleaseSubject,
        version: Option<Version>,
    ) {
        let version = version.map(|version| version.to_string()).unwrap_or_default();
        self.bus.publish(UpdateStatus { state, component: subject.to_string(), version });
    }

    pub(super) fn save_memory(&self) {
        if let Err(error) = state::save_memory(&self.memory) {
            println!(
                "cannot save the record of releases: {} {}",
                chain(&error),
                event::update::UPDATE_RECORD_PERSIST_FAILED
            );
        }
    }
}

//! How components have ended, for the service that reports it.

use super::Supervision;
use crate::app_store::APPS;
use crate::app_uids::{DATA, STATE};
use holdfast_lifecycle::ends::EndLog;
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::storage;
use holdfast_sandbox::wire::{
    ComponentEnd, EndCause, EndedApp, PartitionFill, Reply, WrittenPartition,
};
use holdfast_types::Millis;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Returns how full the partitions are that are written. One that is lost, or does not answer, is left out.
pub(super) fn fill() -> Vec<PartitionFill> {
    let partitions = [
        (WrittenPartition::State, STATE),
        (WrittenPartition::Apps, APPS),
        (WrittenPartition::Data, DATA),
    ];
    let fill = partitions.into_iter().filter_map(|(partition, place)| {
        let percent = storage::fill_percent(Path::new(place)).ok()??;
        Some(PartitionFill { partition, percent })
    });
    fill.collect()
}

impl Supervision<'_> {
    pub(super) fn record_end(&mut self, component: usize, cause: EndCause, ran_ms: Millis) {
        let (Some(ends), Some(supervised)) = (&mut self.ends, self.components.get_mut(component))
        else {
            return;
        };
        let left = std::mem::take(&mut supervised.left_at_end);
        let package = supervised.component.package.as_ref();
        let app = package.map(|package| {
            let [a, b, c, d, e, f, g, h, ..] = package.header.root_hash;
            EndedApp {
                id: package.header.component_id,
                version: package.header.version,
                package: [a, b, c, d, e, f, g, h],
            }
        });
        let seconds = |ms: Millis| u32::try_from(ms / 1000).unwrap_or(u32::MAX);
        let end = ComponentEnd {
            name: supervised.component.name.clone(),
            app,
            cause,
            ran_s: seconds(ran_ms),
            uptime_s: seconds(monotonic_ms()),
            count: 1,
            crash: None,
            output: None,
        };
        ends.push(end, left);
    }

    /// Hands on the notes of the earliest crash of the ends that were told last.
    pub(super) fn take_crash(&mut self) -> (Reply, Vec<OwnedFd>) {
        match self.ends.as_mut().and_then(EndLog::take_crash) {
            Some((crash, notes)) => (Reply::Crash(crash), vec![notes]),
            None => (Reply::NotFound, Vec::new()),
        }
    }

    /// Hands on what a component has written last that may have panicked, of the ends that were told last.
    pub(super) fn take_last_output(&mut self) -> Reply {
        let taken = self.ends.as_mut().and_then(EndLog::take_output);
        taken.map_or(Reply::NotFound, Reply::LastOutput)
    }

    /// Hands on what is recorded, and forgets it.
    pub(super) fn take_ends(&mut self) -> Reply {
        Reply::Ends(self.ends.as_mut().map(|ends| ends.take()).unwrap_or_default())
    }
}

//! What init tells, as records.

use holdfast_failure_reports::record::{
    App, Body, Boot, Component, End, Ended, Lost, LostWhy, Name, NoName, Outcome, Partition, Place,
    Reset, Storage, Update, Used,
};
use holdfast_sandbox::wire::{
    ComponentEnd, ComponentEnds, ComponentStatus, DeviceClaims, EndCause, PartitionFill,
    UpdateNews, UpdateOutcome, WrittenPartition,
};

/// Returns the record of the boot.
pub(crate) fn boot(claims: &DeviceClaims) -> Body {
    Body::Boot(Boot {
        boot_id: claims.boot_id,
        version: claims.version,
        slot: claims.slot,
        phase: claims.phase,
        reset: Reset::from_word(&claims.last_reset),
        fault: claims.kernel_fault.map(|offset| Place { build_id: None, offset }),
    })
}

fn component(end: &ComponentEnd) -> Result<Component, NoName> {
    let name = Name::try_from(end.name.clone())?;
    Ok(match &end.app {
        Some(app) => {
            Component::App(App { id: app.id, name, version: app.version, package: app.package })
        }
        None => Component::Service(name),
    })
}

pub(crate) fn end(cause: EndCause) -> End {
    match cause {
        EndCause::Exit(code) => End::Exit(code),
        EndCause::Signal(signal) => End::Signal(signal),
        EndCause::Watchdog => End::Watchdog,
        EndCause::NotReady => End::NotReady,
        EndCause::Memory => End::Memory,
        EndCause::Sandbox => End::Sandbox,
        EndCause::Verity => End::Verity,
    }
}

/// A record of what init has told, with the numbers of what its program has left, by which that is found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToldEnd {
    /// Seconds from the boot to it.
    pub(crate) uptime_s: u64,
    pub(crate) body: Body,
    /// Number of the end whose notes on a crash are its place.
    pub(crate) crash: Option<u32>,
    /// Number of the end whose last output may have a panic.
    pub(crate) output: Option<u32>,
}

/// Returns the records of ends.
pub(crate) fn ended(told: &ComponentEnds) -> Vec<ToldEnd> {
    let ends = told.ends.iter().filter_map(|told| {
        // A name that init has for a component is one of a manifest.
        let component = component(told).ok()?;
        let body = Body::Ended(Ended {
            component,
            end: end(told.cause),
            crash: None,
            panic: None,
            ran_s: told.ran_s,
            count: told.count,
        });
        let uptime_s = u64::from(told.uptime_s);
        Some(ToldEnd { uptime_s, body, crash: told.crash, output: told.output })
    });
    let mut ended: Vec<ToldEnd> = ends.collect();
    if told.lost > 0 {
        let uptime_s = ended.last().map_or(0, |end| end.uptime_s);
        let body = Body::Lost(Lost { why: LostWhy::Init, count: told.lost });
        ended.push(ToldEnd { uptime_s, body, crash: None, output: None });
    }
    ended
}

/// Returns the record of what has become of a release.
pub(crate) fn update(news: &UpdateNews) -> Body {
    let outcome = match news.outcome {
        UpdateOutcome::Committed => Outcome::Committed,
        UpdateOutcome::FellBack => Outcome::FellBack,
        UpdateOutcome::RefusedSignature => Outcome::RefusedSignature,
        UpdateOutcome::RefusedExpired => Outcome::RefusedExpired,
        UpdateOutcome::RefusedRollback => Outcome::RefusedRollback,
        UpdateOutcome::RefusedContent => Outcome::RefusedContent,
        UpdateOutcome::Failed => Outcome::Failed,
        UpdateOutcome::Declined => Outcome::Declined,
    };
    let UpdateNews { app, from, to, fetched_bytes, .. } = *news;
    Body::Update(Update { app, from, to, outcome, fetched_bytes })
}

/// Returns the records of how full partitions are.
pub(crate) fn storage(fill: &[PartitionFill]) -> Vec<Body> {
    let storage = fill.iter().map(|PartitionFill { partition, percent }| {
        let partition = match partition {
            WrittenPartition::State => Partition::State,
            WrittenPartition::Apps => Partition::Apps,
            WrittenPartition::Data => Partition::Data,
        };
        Body::Storage(Storage { partition, percent: (*percent).min(100) })
    });
    storage.collect()
}

/// Returns the records of what components have used, of services alone: init's status says no package of an app.
pub(crate) fn used(components: &[ComponentStatus]) -> Vec<Body> {
    let used = components.iter().filter_map(|status| {
        let name = Name::try_from(status.name.clone()).ok()?;
        Some(Body::Used(Used {
            component: Component::Service(name),
            memory_peak_kib: status.memory_peak_kib,
            restarts: status.restarts,
        }))
    });
    used.collect()
}

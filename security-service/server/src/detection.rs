//! Threat detection: what was stored since is read each minute, the rules are evaluated, and what they find is stored with its alerts.
//!
//! Of several instances at one database one does it, by a lease that each write demands. What it keeps in memory, it makes anew from the
//! last day's rows whenever it begins.

mod reading;

use holdfast_service_api::Service;
use holdfast_service_api::secret::{self, NoRandom};
use holdfast_service_domain::detection::finding::Detection;
use holdfast_service_domain::detection::fleet::GroupName;
use holdfast_service_domain::detection::register::{Change, FleetFinding};
use holdfast_service_domain::detection::watch::{Presence, Watch};
use holdfast_service_store::detection::lease::LEASE_S;
use holdfast_service_store::detection::threat::Taken;
use holdfast_service_store::{Scope, StoreError};
use holdfast_types::event::security_service::{
    DETECTION_BEHIND, DETECTION_FAILED, DETECTION_ROWS_DAMAGED, DETECTION_WINDOWS_FULL,
    THREAT_FOUND, THREATS_LEFT_OUT,
};
use holdfast_types::hex::hex;
use holdfast_types::{chain, escaped_chain};
use reading::Reader;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Seconds between two rounds, by the service's clock.
pub const EVERY_S: u64 = 60;
/// Pause after which the clock is looked at again.
const POLL: Duration = Duration::from_millis(250);
/// Seconds until the same is said again in the log.
const SAID_S: u64 = 60 * 60;
/// Seconds after which a baseline that has learned is stored. What it has learned since is learned again after a start.
const BASELINE_S: u64 = 10 * 60;
/// Seconds by which reading is late when that is said.
const BEHIND_S: u64 = 5 * 60;

/// What has become of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Another instance evaluates.
    Elsewhere,
    /// All that was stored is read and evaluated.
    Done,
    /// There is more to read than one round reads.
    Behind,
}

/// Something that is said at most once an hour.
#[derive(Debug, Clone, Copy, Default)]
struct Said(Option<u64>);

impl Said {
    /// True where it is to be said.
    fn is_due(&mut self, now: u64) -> bool {
        let is_due = self.0.is_none_or(|at| now < at || now.saturating_sub(at) >= SAID_S);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

/// What is known of a group's last round.
#[derive(Debug, Default)]
struct OfGroup {
    /// What was found and stored.
    taken: Vec<Detection>,
    /// True while a digest is owed.
    is_pending: bool,
    baseline_at: u64,
    failed: Said,
    full: Said,
}

/// A catalog that is watched.
#[derive(Debug)]
struct OfCatalog {
    scope: Scope,
    watch: Watch,
    reader: Reader,
    groups: BTreeMap<GroupName, OfGroup>,
    failed: Said,
    behind: Said,
    damaged: Said,
    full: Said,
    dropped: u64,
}

/// What evaluates the rules of all catalogs, while it holds the lease.
#[derive(Debug)]
pub struct Evaluator {
    service: Arc<Service>,
    holder: String,
    catalogs: Vec<OfCatalog>,
    renewed_at: u64,
}

impl Evaluator {
    /// Makes one with a name of its own.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn new(service: Arc<Service>) -> Result<Self, NoRandom> {
        let holder = hex(&secret::random::<16>()?);
        Ok(Self { service, holder, catalogs: Vec::new(), renewed_at: 0 })
    }

    /// Reads what was stored since the last round and evaluates the rules of each group. What fails in one catalog or group is said, and keeps no
    /// other from being evaluated.
    ///
    /// # Errors
    /// The database does not answer at all.
    pub async fn round(&mut self) -> Result<Round, StoreError> {
        let now = self.service.now();
        let Some(presence) = self.hold(now).await? else {
            // Its windows would be old before they are needed.
            self.catalogs.clear();
            return Ok(Round::Elsewhere);
        };
        let presence = presence.at(now);
        let scopes = self.service.store.scopes().await?;
        self.catalogs.retain(|of| scopes.contains(&of.scope) && !of.reader.is_ahead(now));
        for scope in scopes {
            if !self.catalogs.iter().any(|of| of.scope == scope) {
                self.catalogs.push(OfCatalog::begin(scope, presence, now));
            }
        }
        let mut is_behind = false;
        let mut catalogs = std::mem::take(&mut self.catalogs);
        for of in &mut catalogs {
            match self.catalog(of, presence, now).await {
                Ok(behind) => is_behind |= behind,
                Err(StoreError::NotHolder) => return Ok(Round::Elsewhere),
                Err(error) => {
                    if of.failed.is_due(now) {
                        let catalog = of.scope.catalog();
                        let cause = escaped_chain(&error);
                        eprintln!(
                            "catalog {catalog}: threats are not evaluated: {cause} {DETECTION_FAILED}"
                        );
                    }
                }
            }
        }
        self.catalogs = catalogs;
        let presence = Presence { evaluated_at: now, ..presence };
        match self.service.store.evaluated(self.holder.clone(), presence).await {
            Ok(()) if is_behind => Ok(Round::Behind),
            Ok(()) => Ok(Round::Done),
            Err(StoreError::NotHolder) => Ok(Round::Elsewhere),
            Err(error) => Err(error),
        }
    }

    async fn hold(&mut self, now: u64) -> Result<Option<Presence>, StoreError> {
        self.renewed_at = now;
        self.service.store.hold_lease(self.holder.clone(), now).await
    }

    /// Evaluates a catalog, and says whether there is more to read.
    async fn catalog(
        &mut self,
        of: &mut OfCatalog,
        presence: Presence,
        now: u64,
    ) -> Result<bool, StoreError> {
        let at = self.service.now();
        if at.saturating_sub(self.renewed_at) >= LEASE_S / 3 && self.hold(at).await?.is_none() {
            return Err(StoreError::NotHolder);
        }
        let store = &self.service.store;
        let is_behind = of.reader.read(store, of.scope, &mut of.watch, presence, now).await?;
        of.say(now);
        if !of.reader.is_made() {
            return Ok(true);
        }
        of.watch.set_thresholds(&store.thresholds(of.scope).await?);
        let groups = of.watch.groups();
        for group in &groups {
            self.group(of, group, now).await?;
        }
        of.groups.retain(|name, _| groups.contains(name));
        of.watch.forget_empty();
        Ok(is_behind)
    }

    /// Evaluates a group. Its own failure is said, and the next group's turn comes.
    async fn group(
        &self,
        of: &mut OfCatalog,
        group: &GroupName,
        now: u64,
    ) -> Result<(), StoreError> {
        let detections = of.watch.evaluate(group, now);
        let known = of.groups.entry(group.clone()).or_default();
        if detections != known.taken || known.is_pending {
            let store = &self.service.store;
            let (holder, name) = (self.holder.clone(), group.clone());
            match store.take_detections(of.scope, holder, name, detections.clone(), now).await {
                Ok(taken) => {
                    known.say(of.scope, group, &taken, now);
                    (known.taken, known.is_pending) = (detections, taken.is_pending);
                }
                Err(StoreError::NotHolder) => return Err(StoreError::NotHolder),
                Err(error) => known.failed(of.scope, group, &error, now),
            }
        }
        if now.saturating_sub(known.baseline_at) >= BASELINE_S {
            known.baseline_at = now;
            self.keep_baseline(of, group, now).await?;
        }
        Ok(())
    }

    async fn keep_baseline(
        &self,
        of: &mut OfCatalog,
        group: &GroupName,
        now: u64,
    ) -> Result<(), StoreError> {
        let until = of.reader.reports_until();
        let Some((baseline, until)) = of.watch.changed_baseline(group, until) else {
            return Ok(());
        };
        let store = &self.service.store;
        let (holder, name) = (self.holder.clone(), group.clone());
        let kept = store.keep_baseline(of.scope, holder, name, baseline, until).await;
        match kept {
            Err(StoreError::NotHolder) => Err(StoreError::NotHolder),
            Err(error) => {
                let known = of.groups.entry(group.clone()).or_default();
                known.failed(of.scope, group, &error, now);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Stores what baselines have learned, and gives the lease up.
    ///
    /// # Errors
    /// The database does not answer, or another instance evaluates.
    pub async fn end(mut self) -> Result<(), StoreError> {
        let now = self.service.now();
        for mut of in std::mem::take(&mut self.catalogs) {
            if of.reader.is_made() {
                for group in of.watch.groups() {
                    self.keep_baseline(&mut of, &group, now).await?;
                }
            }
        }
        self.service.store.end_lease(self.holder).await
    }
}

impl OfCatalog {
    fn begin(scope: Scope, presence: Presence, now: u64) -> Self {
        Self {
            scope,
            watch: Watch::begin(presence),
            reader: Reader::begin(presence, now),
            groups: BTreeMap::new(),
            failed: Said::default(),
            behind: Said::default(),
            damaged: Said::default(),
            full: Said::default(),
            dropped: 0,
        }
    }

    /// Says what was left out, and how late reading is.
    fn say(&mut self, now: u64) {
        let catalog = self.scope.catalog();
        let damaged = self.reader.take_damaged();
        if damaged > 0 && self.damaged.is_due(now) {
            eprintln!(
                "catalog {catalog}: {damaged} rows cannot be read, and are left out {DETECTION_ROWS_DAMAGED}"
            );
        }
        let late = self.reader.late(now);
        if late > BEHIND_S && self.behind.is_due(now) {
            eprintln!("catalog {catalog}: reports are read {late} s late {DETECTION_BEHIND}");
        }
        let dropped = self.watch.dropped();
        if dropped > self.dropped && self.full.is_due(now) {
            let more = dropped.saturating_sub(self.dropped);
            eprintln!(
                "catalog {catalog}: there was no room for {more} sightings {DETECTION_WINDOWS_FULL}"
            );
        }
        self.dropped = dropped;
    }
}

impl OfGroup {
    fn failed(&mut self, scope: Scope, group: &GroupName, error: &StoreError, now: u64) {
        if self.failed.is_due(now) {
            let (catalog, cause) = (scope.catalog(), escaped_chain(error));
            eprintln!(
                "catalog {catalog}, {group}: threats are not stored: {cause} {DETECTION_ROWS_DAMAGED}"
            );
        }
    }

    /// Says which findings are new, worse, or open again.
    fn say(&mut self, scope: Scope, group: &GroupName, taken: &Taken, now: u64) {
        let catalog = scope.catalog();
        for change in &taken.changes {
            let (number, what) = match change {
                Change::Opened(number) => (*number, "found"),
                Change::Reopened(number) => (*number, "goes on"),
                Change::Worsened(number) => (*number, "is worse"),
                Change::Grown(_) => continue,
                Change::Displaced(number) => {
                    eprintln!(
                        "catalog {catalog}, {group}: there are too many open threats: threat {number} made room for a worse one {THREATS_LEFT_OUT}"
                    );
                    continue;
                }
                Change::NoRoom => {
                    if self.full.is_due(now) {
                        eprintln!(
                            "catalog {catalog}, {group}: there are too many open threats {THREATS_LEFT_OUT}"
                        );
                    }
                    continue;
                }
            };
            let of = |finding: &&FleetFinding| finding.number == number;
            if let Some(FleetFinding { key, severity, evidence, .. }) =
                taken.findings.iter().find(of)
            {
                let (rule, about, devices) = (key.rule.word(), &key.about, evidence.count);
                let severity = u8::from(*severity);
                eprintln!(
                    "catalog {catalog}, {group}: threat {number} {what}: {rule}, severity {severity}, {about}, {devices} devices {THREAT_FOUND}"
                );
            }
        }
    }
}

/// Evaluates each minute until it is told to end, for the first time a minute after `since`.
pub(crate) async fn watch(service: Arc<Service>, since: u64, mut end: watch::Receiver<bool>) {
    let mut evaluator = match Evaluator::new(service.clone()) {
        Ok(evaluator) => evaluator,
        Err(error) => {
            eprintln!("threats are not evaluated: {} {DETECTION_FAILED}", chain(&error));
            return;
        }
    };
    // A service that has come back has devices to serve first.
    let (mut last, mut failed) = (Some(since), Said::default());
    loop {
        tokio::select! {
            _ = end.wait_for(|end| *end) => break,
            () = tokio::time::sleep(POLL) => {}
        }
        let now = service.now();
        // A clock that was set back does not stop it.
        if last.is_some_and(|last| now >= last && now.saturating_sub(last) < EVERY_S) {
            continue;
        }
        let round = tokio::select! {
            _ = end.wait_for(|end| *end) => break,
            round = evaluator.round() => round,
        };
        last = Some(now);
        match round {
            Ok(Round::Behind) => last = None,
            Ok(Round::Done | Round::Elsewhere) => {}
            Err(error) => {
                if failed.is_due(now) {
                    let cause = escaped_chain(&error);
                    eprintln!("threats are not evaluated: {cause} {DETECTION_FAILED}");
                }
            }
        }
    }
    match evaluator.end().await {
        Ok(()) | Err(StoreError::NotHolder) => {}
        Err(error) => {
            let cause = escaped_chain(&error);
            eprintln!(
                "what threat detection has learned is not stored: {cause} {DETECTION_FAILED}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_an_hour() {
        let mut said = Said::default();
        assert!(said.is_due(1000) && !said.is_due(1000) && !said.is_due(1000 + SAID_S - 1));
        assert!(said.is_due(1000 + SAID_S));
        assert!(said.is_due(5), "the clock was set back");
    }
}

//! Reading what rules look at: each kind of row in pages behind the last, as many pages a round as there may be.

use holdfast_service_domain::detection::baseline::{Baseline, HOUR_S};
use holdfast_service_domain::detection::observation::{Event, GRACE_S, OfDevice};
use holdfast_service_domain::detection::watch::{Presence, Watch, window_begins};
use holdfast_service_domain::detection::window::KEPT_HOURS;
use holdfast_service_store::detection::observed::{SeenDevice, TimeKey};
use holdfast_service_store::report::ReportKey;
use holdfast_service_store::{Scope, Store, StoreError};
use holdfast_types::Version;
use std::time::{Duration, Instant};

/// Seconds for which rows are left alone: a time is taken before its transaction is committed, and what is read is never read again.
const SETTLED_S: u64 = 30;
/// Seconds that the clock may be set back before a catalog is read anew.
const AHEAD_S: u64 = 5 * 60;
/// Pages of a catalog that a round reads.
const PAGES: u32 = 256;
/// Longest time for which a round reads of a catalog: a slow database must not cost the lease.
const LONGEST: Duration = Duration::from_secs(20);
/// Devices of a page, with their claims.
const DEVICES: u32 = 1000;
/// Batches of a page, of 64 KiB at most each.
const BATCHES: u32 = 128;
/// Rows of a page that are small.
const ROWS: u32 = 1000;

/// Where reading a catalog has come to.
#[derive(Debug)]
pub(super) struct Reader {
    /// Devices by id: all of them at first, and then a page a round, since a device that is moved or retired is not seen.
    scanned: String,
    is_scanned: bool,
    has_baselines: bool,
    seen: TimeKey,
    found: TimeKey,
    reports: ReportKey,
    /// Devices that were due until then and have not come are missed.
    missed_until: u64,
    failures: TimeKey,
    /// Until when reports were to be read at first, and until when they are.
    wanted_until: u64,
    read_until: u64,
    is_made: bool,
    damaged: u32,
}

/// The pages that a round may still read, and since when it reads.
struct Budget {
    pages: u32,
    since: Instant,
}

impl Budget {
    fn begin() -> Self {
        Self { pages: PAGES, since: Instant::now() }
    }

    /// True while there is one more.
    fn take(&mut self) -> bool {
        let has = self.pages > 0 && self.since.elapsed() < LONGEST;
        self.pages = self.pages.saturating_sub(1);
        has
    }
}

fn begins(at: u64) -> TimeKey {
    TimeKey { at, id: String::new() }
}

impl Reader {
    pub(super) fn begin(presence: Presence, now: u64) -> Self {
        let since = window_begins(now);
        let attended = now.saturating_sub(KEPT_HOURS.saturating_mul(HOUR_S));
        let mut due = attended.saturating_sub(GRACE_S);
        // Who was due while the service was away is owed since.
        if presence.away_since > 0 && presence.listening_since >= due {
            due = due.min(presence.away_since.saturating_sub(GRACE_S));
        }
        Self {
            scanned: String::new(),
            is_scanned: false,
            has_baselines: false,
            seen: begins(attended),
            found: begins(since),
            reports: ReportKey { received_at: since, ..ReportKey::default() },
            missed_until: due,
            failures: begins(now.saturating_sub(HOUR_S) / 60),
            wanted_until: now.saturating_sub(SETTLED_S),
            read_until: since,
            is_made: false,
            damaged: 0,
        }
    }

    /// True once all that was stored before it began is read.
    pub(super) fn is_made(&self) -> bool {
        self.is_made
    }

    /// Returns until when all reports are read, by when they have come.
    pub(super) fn reports_until(&self) -> u64 {
        self.read_until
    }

    /// Returns by how many seconds reading reports is late.
    pub(super) fn late(&self, now: u64) -> u64 {
        now.saturating_sub(SETTLED_S).saturating_sub(self.read_until)
    }

    /// True where it has read what is to come: the clock was set back since.
    pub(super) fn is_ahead(&self, now: u64) -> bool {
        self.read_until > now.saturating_add(AHEAD_S)
    }

    /// Returns the number of rows that could not be read since this was asked.
    pub(super) fn take_damaged(&mut self) -> u32 {
        std::mem::take(&mut self.damaged)
    }

    fn damaged(&mut self, rows: u32) {
        self.damaged = self.damaged.saturating_add(rows);
    }

    /// Reads what there is, and says whether there is more. Devices come first, since a record is one of what its device has attested.
    pub(super) async fn read(
        &mut self,
        store: &Store,
        scope: Scope,
        watch: &mut Watch,
        presence: Presence,
        now: u64,
    ) -> Result<bool, StoreError> {
        let (until, mut budget) = (now.saturating_sub(SETTLED_S), Budget::begin());
        if !self.has_baselines {
            self.baselines(store, scope, watch).await?;
        }
        self.scan(store, scope, watch, &mut budget).await?;
        if !self.is_scanned {
            return Ok(true);
        }
        let mut is_behind = self.check_ins(store, scope, watch, until, &mut budget).await?;
        watch.refresh();
        is_behind |= self.findings(store, scope, watch, until, &mut budget).await?;
        let more = self.reports(store, scope, watch, until, &mut budget).await?;
        is_behind |= more;
        self.missed(watch, presence, now);
        is_behind |= self.failures(store, scope, watch, until, &mut budget).await?;
        if !self.is_made && (!is_behind || self.read_until >= self.wanted_until) {
            self.is_made = true;
            watch.end_replay();
        }
        Ok(is_behind)
    }

    async fn baselines(
        &mut self,
        store: &Store,
        scope: Scope,
        watch: &mut Watch,
    ) -> Result<(), StoreError> {
        for (group, stored) in store.baselines(scope).await? {
            match stored {
                Ok((baseline, until)) => watch.put_baseline(&group, baseline, until),
                // What is usual is learned anew, and rules that need it wait until then.
                Err(_) => {
                    self.damaged(1);
                    watch.put_baseline(&group, Baseline::default(), 0);
                }
            }
        }
        self.has_baselines = true;
        Ok(())
    }

    /// Reads all devices at first, and then the next page of them.
    async fn scan(
        &mut self,
        store: &Store,
        scope: Scope,
        watch: &mut Watch,
        budget: &mut Budget,
    ) -> Result<(), StoreError> {
        while budget.take() {
            let page = store.devices_attested(scope, &self.scanned, DEVICES).await?;
            self.damaged(page.damaged);
            for device in page.items {
                put(watch, device);
            }
            let is_last = page.next.is_none();
            self.scanned = page.next.unwrap_or_default();
            if self.is_scanned {
                return Ok(());
            }
            if is_last {
                self.is_scanned = true;
                return Ok(());
            }
        }
        Ok(())
    }

    async fn check_ins(
        &mut self,
        store: &Store,
        scope: Scope,
        watch: &mut Watch,
        until: u64,
        budget: &mut Budget,
    ) -> Result<bool, StoreError> {
        while budget.take() {
            let page = store.devices_seen(scope, &self.seen, until, DEVICES).await?;
            self.damaged(page.damaged);
            for device in page.items {
                watch.checked_in(&device.group, device.device, os(&device), device.seen_at);
                put(watch, device);
            }
            if !advance(&mut self.seen, page.next, past(until)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn findings(
        &mut self,
        store: &Store,
        scope: Scope,
        watch: &mut Watch,
        until: u64,
        budget: &mut Budget,
    ) -> Result<bool, StoreError> {
        while budget.take() {
            let page = store.findings_noted(scope, &self.found, until, ROWS).await?;
            self.damaged(page.damaged);
            for found in page.items {
                let (at, device, os) = (found.at, found.device, Version::default());
                let event = Event::Found(found.finding);
                watch.observe(&found.group, OfDevice { at, device, os, event });
            }
            if !advance(&mut self.found, page.next, past(until)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn reports(
        &mut self,
        store: &Store,
        scope: Scope,
        watch: &mut Watch,
        until: u64,
        budget: &mut Budget,
    ) -> Result<bool, StoreError> {
        while budget.take() {
            let page = store.reported_batches(scope, &self.reports, until, BATCHES).await?;
            self.damaged(page.damaged);
            for batch in page.items {
                let (at, device, os) = (batch.at, batch.device, batch.os);
                for record in batch.records {
                    let event = Event::Recorded(Box::new(record));
                    watch.observe(&batch.group, OfDevice { at, device, os, event });
                }
            }
            match page.next {
                Some(next) => {
                    // Of the last second, there may be more.
                    let read = next.received_at.saturating_sub(1);
                    self.read_until = self.read_until.max(read);
                    self.reports = next;
                }
                None => {
                    self.read_until = self.read_until.max(until);
                    let received_at = past(until).at;
                    let after = ReportKey { received_at, ..ReportKey::default() };
                    self.reports = self.reports.clone().max(after);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Misses devices that were due and have not come. Whoever was due while the service was away is waited for since its return.
    fn missed(&mut self, watch: &mut Watch, presence: Presence, now: u64) {
        let until = now.saturating_sub(GRACE_S);
        if until >= presence.listening_since && until > self.missed_until {
            watch.missed(self.missed_until, until, presence.listening_since);
            self.missed_until = until;
        }
    }

    async fn failures(
        &mut self,
        store: &Store,
        scope: Scope,
        watch: &mut Watch,
        until: u64,
        budget: &mut Budget,
    ) -> Result<bool, StoreError> {
        while budget.take() {
            // A minute is counted once it is over.
            let page = store.failed_enrolments(scope, &self.failures, until / 60, ROWS).await?;
            self.damaged(page.damaged);
            for failed in page.items {
                let at = failed.minute.saturating_mul(60);
                watch.enrolment_failed(at, failed.network, failed.times);
            }
            match page.next {
                Some(next) => self.failures = next,
                None => {
                    let last = past((until / 60).saturating_sub(1));
                    self.failures = self.failures.clone().max(last);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// The place behind all rows of a second.
fn past(at: u64) -> TimeKey {
    begins(at.saturating_add(1))
}

fn os(device: &SeenDevice) -> Version {
    device.software.as_ref().map_or_else(Version::default, |software| software.os)
}

fn put(watch: &mut Watch, device: SeenDevice) {
    if device.is_enrolled {
        watch.fleet.put(device.device, &device.group, device.software, device.due);
    } else {
        watch.fleet.remove(&device.device);
    }
}

/// Sets where to read on: behind the page, or behind all of it. True where there is more.
fn advance(cursor: &mut TimeKey, next: Option<TimeKey>, end: TimeKey) -> bool {
    let there_is_more = next.is_some();
    *cursor = next.unwrap_or_else(|| cursor.clone().max(end));
    there_is_more
}

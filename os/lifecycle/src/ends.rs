//! How components have ended without being asked to, until whoever reports it has taken them.

use holdfast_sandbox::wire::{ComponentEnd, ComponentEnds, UpdateNews};
use holdfast_types::ReportLevel;

/// Most different ends that are kept: two of each component that a device may have.
pub const MAX_ENDS: usize = 32;
/// Most outcomes of releases that are kept: those of the OS and of each app, and some metadata.
pub const MAX_UPDATES: usize = 16;

/// Ends that nobody has taken yet. A component that ends again and again in the same way has one.
#[derive(Debug, Clone)]
pub struct EndLog {
    kept: ComponentEnds,
    /// It holds for the whole boot, and is told each time: an answer may be lost.
    owner_level: Option<ReportLevel>,
}

impl Default for EndLog {
    /// Begins the log of a boot.
    fn default() -> Self {
        let kept = ComponentEnds { is_first: true, ..ComponentEnds::default() };
        Self { kept, owner_level: None }
    }
}

impl EndLog {
    /// Adds an end.
    pub fn push(&mut self, end: ComponentEnd) {
        let ComponentEnds { ends, lost, .. } = &mut self.kept;
        let is_full = ends.len() >= MAX_ENDS;
        let known = ends.iter_mut().find(|known| {
            known.name == end.name && known.app == end.app && known.cause == end.cause
        });
        match known {
            Some(known) => known.count = known.count.saturating_add(end.count),
            None if is_full => *lost = lost.saturating_add(end.count),
            None => ends.push(end),
        }
    }

    /// Adds what has become of a release.
    pub fn push_update(&mut self, news: UpdateNews) {
        let ComponentEnds { updates, lost, .. } = &mut self.kept;
        if updates.contains(&news) {
            return;
        }
        if updates.len() >= MAX_UPDATES {
            *lost = lost.saturating_add(1);
            return;
        }
        updates.push(news);
    }

    /// The device's owner lets it report no more than this.
    pub fn set_owner_level(&mut self, level: ReportLevel) {
        self.owner_level = Some(level);
    }

    /// Takes what is kept, which is forgotten but for what the owner has said.
    pub fn take(&mut self) -> ComponentEnds {
        ComponentEnds { owner_level: self.owner_level, ..std::mem::take(&mut self.kept) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::wire::{EndCause, UpdateOutcome};
    use holdfast_types::Version;

    fn end(name: &str, cause: EndCause) -> ComponentEnd {
        let name = name.to_owned();
        ComponentEnd { name, app: None, cause, ran_s: 1, uptime_s: 2, count: 1 }
    }

    #[test]
    fn a_crash_loop_is_one_end_with_its_count() {
        let mut log = EndLog::default();
        for uptime_s in 0..1000 {
            log.push(ComponentEnd { uptime_s, ..end("camera", EndCause::Signal(11)) });
        }
        log.push(end("camera", EndCause::Watchdog));
        let taken = log.take();
        let counts: Vec<u32> = taken.ends.iter().map(|end| end.count).collect();
        assert_eq!((counts.as_slice(), taken.lost), (&[1000, 1][..], 0));
        assert_eq!(taken.ends[0].uptime_s, 0, "the first time");
        assert!(taken.is_first);
        assert_eq!(log.take(), ComponentEnds::default(), "it is forgotten");
    }

    #[test]
    fn outcomes_of_releases_are_bounded_and_what_the_owner_says_stays() {
        let mut log = EndLog::default();
        let news = |patch| UpdateNews {
            app: None,
            from: Version::default(),
            to: Version { patch, ..Version::default() },
            outcome: UpdateOutcome::Failed,
            fetched_bytes: 0,
        };
        for patch in [0, 0, 0].into_iter().chain(1..20) {
            log.push_update(news(patch));
        }
        log.set_owner_level(ReportLevel::Off);
        let taken = log.take();
        assert_eq!((taken.updates.len(), taken.lost), (MAX_UPDATES, 4));
        assert_eq!(taken.owner_level, Some(ReportLevel::Off));
        let again = log.take();
        assert_eq!((again.updates.len(), again.owner_level), (0, Some(ReportLevel::Off)));
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let mut log = EndLog::default();
        for code in 1..=255 {
            log.push(end("camera", EndCause::Exit(code)));
        }
        let taken = log.take();
        assert_eq!(taken.ends.len(), MAX_ENDS);
        assert_eq!(taken.lost, 255 - 32);
    }
}

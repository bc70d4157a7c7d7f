//! How components have ended without being asked to, until whoever reports it has taken them.

use holdfast_sandbox::wire::{ComponentEnd, ComponentEnds};

/// Most different ends that are kept: two of each component that a device may have.
pub const MAX_ENDS: usize = 32;

/// Ends that nobody has taken yet. A component that ends again and again in the same way has one.
#[derive(Debug, Clone)]
pub struct EndLog {
    kept: ComponentEnds,
}

impl Default for EndLog {
    /// Begins the log of a boot.
    fn default() -> Self {
        Self { kept: ComponentEnds { is_first: true, ..ComponentEnds::default() } }
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

    /// Takes what is kept, which is forgotten.
    pub fn take(&mut self) -> ComponentEnds {
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::wire::EndCause;

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

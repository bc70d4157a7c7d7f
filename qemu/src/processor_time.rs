//! How much of this machine's processors lay idle, and how much of them this process has used.
//! Source: proc_stat(5), proc_pid_stat(5).

use std::time::Duration;

/// Time of all processors since the machine started, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessorTime {
    idle: u64,
    all: u64,
}

impl ProcessorTime {
    /// The time so far; `None` where the kernel does not say.
    #[must_use]
    pub fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// Of `/proc/stat`, as proc_stat(5) has it.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // Time of guests, which follows, is in the first two already.
        let times = line.split_whitespace().take(8).map(|time| time.parse().unwrap_or(0));
        let times: Vec<u64> = times.collect();
        let idle = times.get(3)?.saturating_add(*times.get(4)?);
        Some(Self { idle, all: times.iter().fold(0, |sum, time| sum.saturating_add(*time)) })
    }

    /// The share of the time from `self` to `later` that was idle, in percent.
    #[must_use]
    pub fn idle_percent(self, later: Self) -> Option<f64> {
        // Ticks of a run are far below what a double counts exactly.
        let ticks = |ticks: u64| u32::try_from(ticks).map_or(f64::from(u32::MAX), f64::from);
        let all = later.all.saturating_sub(self.all);
        let idle = later.idle.saturating_sub(self.idle);
        (all > 0).then(|| ticks(idle) * 100.0 / ticks(all))
    }
}

/// The time of all processors that this process has used so far, with its children that have ended and been
/// waited for. `None` where the kernel does not say.
#[must_use]
pub fn used() -> Option<Duration> {
    let ticks = ticks_used(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
    let a_second = rustix::param::clock_ticks_per_second();
    let millis = ticks.saturating_mul(1000).checked_div(a_second)?;
    Some(Duration::from_millis(millis))
}

/// Of `/proc/self/stat`: the times in user and in kernel mode, of the process and of its children.
fn ticks_used(text: &str) -> Option<u64> {
    // The program's name may have anything in it, parentheses too.
    let (_, behind) = text.rsplit_once(") ")?;
    let times = behind.split_whitespace().skip(11).take(4);
    let times: Option<Vec<u64>> = times.map(|time| time.parse().ok()).collect();
    let times = times.filter(|times| times.len() == 4)?;
    Some(times.iter().fold(0, |sum, time| sum.saturating_add(*time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_that_of_all_processors_without_counting_guests_twice() {
        let earlier = ProcessorTime::parse("cpu  100 0 50 800 50 0 0 0 60 0\ncpu0 1 2 3 4 5 6\n");
        let later = ProcessorTime::parse("cpu  250 0 80 810 60 0 0 0 90 0\n").unwrap();
        let earlier = earlier.unwrap();
        assert_eq!(earlier, ProcessorTime { idle: 850, all: 1000 });
        assert_eq!(earlier.idle_percent(later), Some(10.0));
        assert_eq!(earlier.idle_percent(earlier), None);
    }

    #[test]
    fn the_time_that_a_process_used_is_its_own_and_its_childrens() {
        let text = "12 (a) R (b) S 1 12 12 0 -1 0 5 6 0 0 100 20 3000 400 20 0 1 0 99 1 2\n";
        assert_eq!(ticks_used(text), Some(3520));
        assert_eq!(ticks_used("12 (a) S 1 2 3"), None);
        assert!(used().is_some());
    }

    #[test]
    fn the_idle_share_is_what_waits_for_work_or_for_the_disk() {
        let time = |text| ProcessorTime::parse(text).unwrap();
        let earlier = time("cpu  10 0 10 100 20 0 0 0 0 0\ncpu0 1 2 3 4 5\n");
        let later = time("cpu  90 0 20 110 30 10 0 0 0 0\n");
        assert_eq!(earlier, ProcessorTime { idle: 120, all: 140 });
        assert_eq!(earlier.idle_percent(later), Some(20.0 * 100.0 / 120.0));
        assert_eq!(earlier.idle_percent(earlier), None);
    }
}

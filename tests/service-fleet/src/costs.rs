//! What was used: time of processors, and how long answers took.

use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time of processors that this process has used, in user space and in the kernel.
pub(crate) fn of_process() -> Duration {
    of(ClockId::ProcessCPUTime)
}

fn of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Time of processors that devices have used, which is none of the service's.
#[derive(Debug, Default)]
pub(crate) struct OfDevices(AtomicU64);

impl OfDevices {
    /// Does a device's work on this thread, and adds what it has used.
    pub(crate) fn count<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = of(ClockId::ThreadCPUTime);
        let done = work();
        let used = of(ClockId::ThreadCPUTime).saturating_sub(began);
        self.0.fetch_add(used.as_nanos().try_into().unwrap(), Ordering::Relaxed);
        done
    }

    pub(crate) fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Returns the value below which so many of a hundred lie; 0 where there is none.
pub(crate) fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    let at = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(at).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut values: Vec<u64> = (1..=200).rev().collect();
        assert_eq!((percentile(&mut values, 50), percentile(&mut values, 99)), (100, 198));
        assert_eq!((percentile(&mut [7], 99), percentile(&mut [], 99)), (7, 0));
    }
}

//! Which job starts next, and which shard has which: decisions of the runner, without its processes.

use crate::harness::suite::Needs;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

/// Seconds that a job is taken to need when no run has measured it.
const UNKNOWN_S: f64 = 20.0;
/// A job that uses less of a processor than this mostly waits for time to pass.
const MOSTLY_WAITS: f64 = 0.35;
/// Jobs that mostly wait and hold no processor use so much of one together at the most.
const MOST_BESIDE: f64 = 0.6;
/// A job that waits counts for so much at least: it has bursts, and its guest has memory.
const LEAST_SHARE: f64 = 0.1;

/// What a job took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Took {
    /// From its start to its end.
    pub(crate) seconds: f64,
    /// Of all processors, its guests' included.
    pub(crate) processor_seconds: f64,
}

impl Took {
    /// Both rounded to tenths.
    pub(crate) fn new(seconds: Duration, processor: Duration) -> Self {
        let tenths = |time: Duration| (time.as_secs_f64() * 10.0).round() / 10.0;
        Self { seconds: tenths(seconds), processor_seconds: tenths(processor) }
    }
}

/// What each job took, by its name.
pub(crate) type Times = BTreeMap<String, Took>;

/// Seconds that a job will take, as far as anybody knows.
pub(crate) fn expected(times: &Times, job: &str) -> f64 {
    times.get(job).map_or(UNKNOWN_S, |took| took.seconds)
}

/// Orders two jobs: those that run alone of their kind before all others, since they wait for each other; then
/// the longest first, so that none is left over at the end.
pub(crate) fn before(one: (Needs, f64), other: (Needs, f64)) -> Ordering {
    let alone = |needs: Needs| needs != Needs::Alone;
    alone(one.0).cmp(&alone(other.0)).then(other.1.total_cmp(&one.1))
}

/// What a job takes of the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Claim {
    pub(crate) needs: Needs,
    /// The part of a processor that it uses.
    share: f64,
}

impl Claim {
    /// By what earlier runs have measured; a job that nobody has measured uses a whole processor.
    pub(crate) fn new(times: &Times, job: &str, needs: Needs) -> Self {
        let measured = times.get(job).filter(|took| took.seconds > 1.0);
        let share = measured.map_or(1.0, |took| took.processor_seconds / took.seconds);
        Self { needs, share: share.max(LEAST_SHARE) }
    }

    fn mostly_waits(self) -> bool {
        self.share < MOSTLY_WAITS
    }
}

/// How a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// With a processor that it need not share.
    OnProcessor,
    /// Beside those, since it mostly waits.
    Beside,
}

/// The place of the waiting job that starts next beside those that run, and how it runs. `most` jobs have a
/// processor at the most.
pub(crate) fn next(
    waiting: &[Claim],
    running: &[(Claim, Turn)],
    most: usize,
) -> Option<(usize, Turn)> {
    let is_free = |needs: Needs| {
        needs == Needs::Light || !running.iter().any(|(claim, _)| claim.needs == needs)
    };
    let beside = running.iter().filter(|(_, turn)| *turn == Turn::Beside);
    let used: f64 = beside.clone().map(|(claim, _)| claim.share).sum();
    let on_processor = running.len().saturating_sub(beside.count());
    let find = |fits: &dyn Fn(&Claim) -> bool| {
        waiting.iter().position(|claim| is_free(claim.needs) && fits(claim))
    };
    if let Some(place) = find(&|claim| claim.mostly_waits() && used + claim.share <= MOST_BESIDE) {
        return Some((place, Turn::Beside));
    }
    if on_processor >= most {
        return None;
    }
    // A processor is no worse used by one that waits than by none.
    let place = find(&|claim| !claim.mostly_waits()).or_else(|| find(&|_| true))?;
    Some((place, Turn::OnProcessor))
}

/// The jobs of one of `of` shards, which together have every job once and take about the same time. Whoever
/// asks with the same names and times gets the same shards.
pub(crate) fn shard(jobs: &[(String, f64)], shard: usize, of: usize) -> Vec<String> {
    let mut sorted: Vec<_> = jobs.iter().collect();
    sorted.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    let mut loads: Vec<f64> = vec![0.0; of];
    let mut ours = Vec::new();
    for (name, seconds) in sorted {
        let lightest = loads.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        let Some(lightest) = lightest.map(|(place, _)| place) else { break };
        if let Some(load) = loads.get_mut(lightest) {
            *load += seconds;
        }
        if lightest == shard {
            ours.push(name.clone());
        }
    }
    ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use Needs::{Alone, Light, Peer};
    use Turn::{Beside, OnProcessor};

    const fn claim(needs: Needs, share: f64) -> Claim {
        Claim { needs, share }
    }

    const BUSY: Claim = claim(Light, 0.9);
    const WAITS: Claim = claim(Light, 0.25);

    /// Jobs that run on a processor each.
    fn on_processors(claims: &[Claim]) -> Vec<(Claim, Turn)> {
        claims.iter().map(|claim| (*claim, OnProcessor)).collect()
    }

    #[test]
    fn no_more_jobs_have_a_processor_than_there_are() {
        let peer = claim(Peer, 1.0);
        assert_eq!(next(&[BUSY], &on_processors(&[BUSY]), 2), Some((0, OnProcessor)));
        assert_eq!(next(&[BUSY], &on_processors(&[BUSY, peer]), 2), None);
        assert_eq!(next(&[], &[], 2), None);
    }

    #[test]
    fn one_of_those_that_cannot_share_runs_at_a_time() {
        for needs in [Peer, Alone] {
            let own = claim(needs, 1.0);
            assert_eq!(next(&[own, BUSY], &on_processors(&[own]), 2), Some((1, OnProcessor)));
            assert_eq!(next(&[own], &on_processors(&[own]), 2), None);
            assert_eq!(next(&[own], &on_processors(&[BUSY]), 2), Some((0, OnProcessor)));
            let waits = claim(needs, 0.1);
            assert_eq!(next(&[waits], &on_processors(&[own]), 2), None);
        }
    }

    #[test]
    fn jobs_that_mostly_wait_run_beside_those_with_a_processor() {
        let busy = on_processors(&[BUSY, BUSY]);
        assert_eq!(next(&[BUSY, WAITS], &busy, 2), Some((1, Beside)));
        let mut running = busy.clone();
        running.extend([(WAITS, Beside), (WAITS, Beside)]);
        assert_eq!(next(&[WAITS], &running, 2), None, "together they would use too much");
        assert_eq!(next(&[claim(Light, 0.1)], &running, 2), Some((0, Beside)));
        running.remove(0);
        assert_eq!(next(&[WAITS, BUSY], &running, 2), Some((1, OnProcessor)));
        assert_eq!(next(&[WAITS], &running, 2), Some((0, OnProcessor)), "none else wants it");
    }

    #[test]
    fn what_a_job_used_is_what_it_will_use() {
        let took = |seconds, processor_seconds| Took { seconds, processor_seconds };
        let times = Times::from([
            ("busy".to_owned(), took(10.0, 9.0)),
            ("waits".to_owned(), took(100.0, 20.0)),
            ("idle".to_owned(), took(100.0, 1.0)),
            ("short".to_owned(), took(0.5, 0.1)),
        ]);
        let share = |job: &str| Claim::new(&times, job, Light).share;
        assert_eq!(share("waits"), 0.2);
        assert_eq!(share("busy"), 0.9);
        assert_eq!(share("idle"), LEAST_SHARE);
        for unknown in ["short", "new"] {
            assert_eq!(share(unknown), 1.0, "{unknown}");
        }
    }

    #[test]
    fn jobs_that_run_alone_come_first_and_then_the_longest() {
        let mut jobs = vec![(Light, 3.0), (Peer, 9.0), (Alone, 1.0), (Light, 30.0)];
        jobs.sort_by(|one, other| before(*one, *other));
        assert_eq!(jobs, [(Alone, 1.0), (Light, 30.0), (Peer, 9.0), (Light, 3.0)]);
    }

    #[test]
    fn shards_have_every_job_once_and_about_the_same_time() {
        let seconds = [100.0, 40.0, 30.0, 20.0, 10.0, 10.0, 5.0];
        let jobs: Vec<_> =
            seconds.iter().enumerate().map(|(i, s)| (format!("job{i}"), *s)).collect();
        let shards: Vec<_> = (0..2).map(|k| shard(&jobs, k, 2)).collect();
        assert_eq!(shards[0], ["job0", "job5"]);
        assert_eq!(shards[1], ["job1", "job2", "job3", "job4", "job6"]);
        let mut reversed = jobs.clone();
        reversed.reverse();
        assert_eq!(shard(&reversed, 1, 2), shards[1]);
        assert_eq!(shard(&jobs, 0, 1).len(), jobs.len());
    }
}

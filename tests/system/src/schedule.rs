//! Which job starts next, and which shard has which: decisions of the runner, without its processes.

use crate::suite::Needs;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Seconds that a job is taken to need when no run has measured it.
const UNKNOWN_S: f64 = 20.0;

/// Seconds that each job took, by its name.
pub(crate) type Times = BTreeMap<String, f64>;

/// Seconds that a job will take, as far as anybody knows.
pub(crate) fn expected(times: &Times, job: &str) -> f64 {
    times.get(job).copied().unwrap_or(UNKNOWN_S)
}

/// Orders two jobs: those that run alone before all others, while the other stages still have work for the
/// processors that they leave idle; then the longest first, so that none is left over at the end.
pub(crate) fn before(one: (Needs, f64), other: (Needs, f64)) -> Ordering {
    let alone = |needs: Needs| needs != Needs::Alone;
    alone(one.0).cmp(&alone(other.0)).then(other.1.total_cmp(&one.1))
}

/// The place of the waiting job that starts next beside those that run, of which there are `most` at the most.
pub(crate) fn next(waiting: &[Needs], running: &[Needs], most: usize) -> Option<usize> {
    if running.len() >= most || running.contains(&Needs::Alone) {
        return None;
    }
    waiting.iter().position(|needs| match needs {
        Needs::Light => true,
        Needs::Peer => !running.contains(&Needs::Peer),
        Needs::Alone => running.is_empty(),
    })
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

    #[test]
    fn no_more_jobs_run_than_there_may_be() {
        assert_eq!(next(&[Light], &[Light], 2), Some(0));
        assert_eq!(next(&[Light], &[Light, Peer], 2), None);
        assert_eq!(next(&[], &[], 2), None);
    }

    #[test]
    fn one_counted_guest_with_a_peer_runs_at_a_time() {
        assert_eq!(next(&[Peer, Light], &[Peer], 2), Some(1));
        assert_eq!(next(&[Peer], &[Peer], 2), None);
        assert_eq!(next(&[Peer], &[Light], 2), Some(0));
    }

    #[test]
    fn nothing_runs_beside_a_job_that_runs_alone() {
        assert_eq!(next(&[Light], &[Alone], 2), None);
        assert_eq!(next(&[Alone, Light], &[Light], 2), Some(1));
        assert_eq!(next(&[Alone], &[], 2), Some(0));
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

//! A service that was away, and a fleet that comes back: each device tries by the product's schedule, all the while.

use crate::costs::percentile;
use crate::database::Database;
use crate::day::{devices, now, runtime};
use crate::device::Device;
use crate::service::{Came, Fleet};
use futures_util::StreamExt;
use futures_util::stream::iter;
use holdfast_evidence::schedule::{MOST_BACKOFF_MS, Outcome};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;
use std::sync::Arc;

/// Hours from the begin until the service goes away: each device has checked in by then.
const BEFORE_S: u64 = 37 * 60 * 60;
/// Requests that are under way at once.
const AT_ONCE: usize = 4096;
/// Longest wait of a device for the service that is back, in seconds: the highest ceiling of its pauses, and a minute.
const MOST_WAIT_S: u64 = MOST_BACKOFF_MS / 1000 + 60;

/// What has become of a herd.
#[derive(Debug, Serialize)]
pub(crate) struct Herd {
    devices: u32,
    outage_hours: u32,
    database: String,
    /// Attempts while the service was away, and requests that it was too busy for when it was back.
    attempts_in_vain: u64,
    busy: u64,
    served: u64,
    certified: u64,
    /// Seconds from the service's return until a device was served, by the fleet's clock.
    wait_s_p50: u64,
    wait_s_p99: u64,
    wait_s_most: u64,
    /// Most devices that came within one second.
    most_a_second: usize,
    /// Devices whose certificate had ended before they were served, and the longest time without one in minutes.
    had_none: u64,
    without_minutes_most: u64,
    answer_us_p50: u64,
    answer_us_p99: u64,
}

/// Devices by the second at which each comes next.
struct Waiting(BinaryHeap<Reverse<(u64, usize)>>);

impl Waiting {
    /// Returns the next second before `end`, and who comes then.
    fn next(&mut self, end: u64) -> Option<(u64, Vec<usize>)> {
        let Reverse((second, _)) = *self.0.peek()?;
        if second >= end {
            return None;
        }
        let mut who = Vec::new();
        while let Some(Reverse((at, number))) = self.0.peek().copied() {
            if at > second {
                break;
            }
            self.0.pop();
            who.push(number);
        }
        Some((second, who))
    }

    fn push(&mut self, second: u64, number: usize) {
        self.0.push(Reverse((second, number)));
    }
}

/// A number of a device that differs from time to time (SplitMix64).
fn random(number: usize, at: u64) -> u64 {
    let seed = (number as u64) ^ at.rotate_left(32);
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Has those who come at a second check in, and returns what became of each.
async fn serve(
    fleet: &Arc<Fleet>,
    all: &mut [Option<Device>],
    (at, who): (u64, Vec<usize>),
) -> Vec<(usize, Came)> {
    fleet.set_now(at);
    let coming = who.into_iter().map(|number| (number, all[number].take().unwrap()));
    let coming: Vec<_> = coming.collect();
    let mut check_ins = iter(coming)
        .map(|(number, mut device)| {
            let fleet = fleet.clone();
            tokio::spawn(async move {
                let came = fleet.check_in(&mut device, random(number, at), false).await;
                (number, device, came)
            })
        })
        .buffer_unordered(AT_ONCE);
    let mut became = Vec::new();
    while let Some(done) = check_ins.next().await {
        let (number, device, came) = done.unwrap();
        all[number] = Some(device);
        became.push((number, came));
    }
    became
}

/// Lets the service go away, and come back.
pub(crate) fn run(count: u32, outage_hours: u32, database: Database) -> Herd {
    let start = now();
    let all = devices(count, start);
    runtime().block_on(async {
        let fleet = Arc::new(Fleet::new(database, start).await);
        fleet.put(&all).await;
        let mut all: Vec<Option<Device>> = all.into_iter().map(Some).collect();
        let mut waiting = Waiting(BinaryHeap::new());
        for (number, device) in all.iter().enumerate() {
            waiting.push(device.as_ref().unwrap().due(start), number);
        }
        let away = start + BEFORE_S;
        let back = away + u64::from(outage_hours) * 3600;
        while let Some((at, who)) = waiting.next(away) {
            for (number, _) in serve(&fleet, &mut all, (at, who)).await {
                waiting.push(all[number].as_ref().unwrap().due(at), number);
            }
        }
        assert!(all.iter().flatten().all(|device| device.certificate_end > 0));
        let mut attempts_in_vain = 0;
        while let Some((at, who)) = waiting.next(back) {
            for number in who {
                let device = all[number].as_mut().unwrap();
                let failed = Outcome::Failed { retry_after_s: None, is_unknown: false };
                device.schedule.ended(failed, at * 1000, random(number, at));
                waiting.push(device.due(at).max(at + 1), number);
                attempts_in_vain += 1;
            }
        }
        let ends: Vec<u64> = all.iter().flatten().map(|device| device.certificate_end).collect();
        let (mut waits, mut answers, mut without) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (mut busy, mut most_a_second) = (0, 0);
        while waits.len() < all.len()
            && let Some((at, who)) = waiting.next(back + 2 * MOST_WAIT_S)
        {
            most_a_second = most_a_second.max(who.len());
            for (number, came) in serve(&fleet, &mut all, (at, who)).await {
                match came {
                    Came::Full { took } => {
                        waits.entry(number).or_insert_with(|| {
                            answers.push(took.as_micros().try_into().unwrap());
                            without.extend(at.checked_sub(ends[number]).filter(|late| *late > 0));
                            at - back
                        });
                    }
                    Came::Busy => {
                        busy += 1;
                    }
                }
                waiting.push(all[number].as_ref().unwrap().due(at).max(at + 1), number);
            }
        }
        let mut waits: Vec<u64> = waits.into_values().collect();
        let herd = Herd {
            devices: count,
            outage_hours,
            database: format!("{database:?}").to_lowercase(),
            attempts_in_vain,
            busy,
            served: waits.len() as u64,
            certified: fleet.certified(0).await,
            wait_s_p50: percentile(&mut waits, 50),
            wait_s_p99: percentile(&mut waits, 99),
            wait_s_most: percentile(&mut waits, 100),
            most_a_second,
            had_none: without.len() as u64,
            without_minutes_most: percentile(&mut without, 100).div_ceil(60),
            answer_us_p50: percentile(&mut answers, 50),
            answer_us_p99: percentile(&mut answers, 99),
        };
        fleet.end().await;
        herd
    })
}

impl Herd {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let Self { devices, outage_hours, database, .. } = self;
        let _ = writeln!(text, "{devices} devices on {database}, away for {outage_hours} hours");
        let _ = writeln!(text, "attempts in vain              {}", self.attempts_in_vain);
        let _ = writeln!(text, "served, certified             {}, {}", self.served, self.certified);
        let _ = writeln!(text, "told to come later            {}", self.busy);
        let (p50, p99, most) = (self.wait_s_p50, self.wait_s_p99, self.wait_s_most);
        let _ = writeln!(text, "wait, s: median, p99, most    {p50}, {p99}, {most}");
        let _ = writeln!(text, "most devices in one second    {}", self.most_a_second);
        let (had_none, most) = (self.had_none, self.without_minutes_most);
        let _ = writeln!(text, "without certificate meanwhile {had_none}, for {most} min at most");
        let (p50, p99) = (self.answer_us_p50, self.answer_us_p99);
        let _ = writeln!(text, "answer, µs: median, p99       {p50}, {p99}");
        text
    }

    /// Says which bound was missed.
    pub(crate) fn check(&self) -> Result<(), String> {
        let devices = u64::from(self.devices);
        if self.served != devices || self.certified != devices {
            return Err(format!(
                "{} of {devices} devices were served, and {} have certificates",
                self.served, self.certified
            ));
        }
        if self.wait_s_p99 > MOST_WAIT_S {
            return Err(format!(
                "one in a hundred waits for {} s, and at most {MOST_WAIT_S} s are promised",
                self.wait_s_p99
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_herd_after_26_hours_is_served_within_an_hour_and_each_device_is_certified_again() {
        let herd = run(200, 26, Database::Sqlite);
        assert_eq!(herd.check(), Ok(()), "{herd:?}");
        assert!(herd.attempts_in_vain > 200, "it was away: {herd:?}");
        // Certificates are good for 48 hours, and a device comes once in 24: who was due as the outage began has none for two hours.
        assert!(herd.had_none > 0 && herd.without_minutes_most <= 3 * 60, "{herd:?}");
        let late = Herd { wait_s_p99: 2 * MOST_WAIT_S, ..herd };
        assert!(late.check().is_err(), "the control");
    }
}

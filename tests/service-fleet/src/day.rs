//! A day on which each device checks in once, at its own second.

use crate::costs::{of_process, percentile};
use crate::database::Database;
use crate::device::Device;
use crate::service::{Came, Fleet};
use futures_util::StreamExt;
use futures_util::stream::iter;
use holdfast_evidence::schedule::{Outcome, Schedule};
use holdfast_service_domain::schedule::{CERTIFICATE_S, DAY_S, EVERY_S, next_s};
use hyper::Method;
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Check-ins that are under way at once.
const AT_ONCE: usize = 64;
/// Longest time that a million devices may take on two processors, in minutes.
const AIM_MINUTES: f64 = 15.0;

/// What devices do besides checking in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct More {
    pub(crate) reports: bool,
    pub(crate) deployment: bool,
}

/// What a day has cost.
#[derive(Debug, Serialize)]
pub(crate) struct Day {
    devices: u32,
    database: String,
    reports: bool,
    deployment: bool,
    is_optimized: bool,
    check_ins: u64,
    certified: u64,
    /// Times of processors: of the service for each device, and of both for all, shared by two processors.
    service_ms_a_device: f64,
    minutes_on_two_processors: f64,
    took_s: f64,
    answer_us_p50: u64,
    answer_us_p99: u64,
    /// Bytes of requests and answers without TLS and HTTP, and bytes by which the database has grown.
    bytes_a_device: f64,
    stored_a_device: f64,
}

/// Returns devices that have checked in the day before, each of which is due at its own second from 12 hours after `now` on.
pub(crate) fn devices(count: u32, now: u64) -> Vec<Device> {
    let half = count / 2;
    let make = |count: u32| -> Vec<Device> {
        (0..count)
            .map(|_| {
                let mut device = Device::new(Schedule::new(now * 1000, 0));
                let next_s = next_s(&device.id, now, EVERY_S.1);
                let outcome = Outcome::CheckedIn { next_s, is_on_trial: false };
                device.schedule.ended(outcome, now * 1000, 0);
                device
            })
            .collect()
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| make(half));
        let mut all = make(count - half);
        all.extend(first.join().unwrap());
        all
    })
}

pub(crate) fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

/// Has a release on its way to the group.
async fn deploy(fleet: &Fleet) {
    let release = json!({"boot": "b1".repeat(32), "version": "1.5.0", "index": 8});
    fleet.ask(Method::POST, "/releases", &release).await;
    let draft =
        json!({"product": "pump", "group": "field", "version": "1.5.0", "preset": "normal"});
    let made = fleet.ask(Method::POST, "/deployments", &draft).await;
    let path = format!("/deployments/{}/approve", made["id"].as_str().unwrap());
    fleet.ask(Method::POST, &path, &Value::Null).await;
}

/// Lets the day pass.
pub(crate) fn run(count: u32, database: Database, more: More) -> Day {
    let start = now();
    let mut all = devices(count, start);
    all.sort_by_key(|device| device.due(start));
    runtime().block_on(async {
        let fleet = Arc::new(Fleet::new(database, start).await);
        fleet.put(&all).await;
        if more.deployment {
            deploy(&fleet).await;
        }
        let (stored, used, began) = (fleet.stored(), of_process(), Instant::now());
        let (mut took, mut at, mut left) = (Vec::new(), start, all.into_iter().peekable());
        while left.peek().is_some() {
            at += 60;
            fleet.set_now(at);
            let mut due = Vec::new();
            while let Some(device) = left.next_if(|device| device.due(start) <= at) {
                due.push(device);
            }
            let check_ins = iter(due).map(|mut device| {
                let fleet = fleet.clone();
                tokio::spawn(async move {
                    let came = fleet.check_in(&mut device, 0, more.reports).await;
                    // Its own second, from then on.
                    let next = device.due(at) - at;
                    assert!((DAY_S / 2..=DAY_S + DAY_S / 2).contains(&next), "{next}");
                    came
                })
            });
            let mut check_ins = check_ins.buffer_unordered(AT_ONCE);
            while let Some(came) = check_ins.next().await {
                let Came::Full { took: answer } = came.unwrap() else { panic!("busy") };
                took.push(answer.as_micros().try_into().unwrap());
            }
        }
        let took_s = began.elapsed().as_secs_f64();
        let all_used = of_process().saturating_sub(used);
        let service_used = all_used.saturating_sub(fleet.of_devices.get());
        let per_device = |of: u64| of as f64 / f64::from(count);
        // Those of the first are 24 hours older than those of the last.
        let certified = fleet.certified(CERTIFICATE_S - DAY_S - 120).await;
        let day = Day {
            devices: count,
            database: format!("{database:?}").to_lowercase(),
            reports: more.reports,
            deployment: more.deployment,
            is_optimized: !cfg!(debug_assertions),
            check_ins: took.len() as u64,
            certified,
            service_ms_a_device: service_used.as_secs_f64() * 1000.0 / f64::from(count),
            minutes_on_two_processors: all_used.as_secs_f64() / 120.0,
            took_s,
            answer_us_p50: percentile(&mut took, 50),
            answer_us_p99: percentile(&mut took, 99),
            bytes_a_device: per_device(fleet.bytes()),
            stored_a_device: per_device(fleet.stored().saturating_sub(stored)),
        };
        fleet.end().await;
        day
    })
}

impl Day {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let more = [("reports", self.reports), ("a deployment", self.deployment)];
        let more: Vec<&str> =
            more.into_iter().filter_map(|(name, is_on)| is_on.then_some(name)).collect();
        let more =
            if more.is_empty() { String::new() } else { format!(", with {}", more.join(" and ")) };
        let _ = writeln!(text, "{} devices on {}{more}", self.devices, self.database);
        let _ = writeln!(text, "check-ins                     {}", self.check_ins);
        let _ = writeln!(text, "certified                     {}", self.certified);
        let _ = writeln!(text, "processor, ms a device        {:.3}", self.service_ms_a_device);
        let _ =
            writeln!(text, "minutes on two processors     {:.2}", self.minutes_on_two_processors);
        let _ = writeln!(text, "took, s                       {:.1}", self.took_s);
        let (p50, p99) = (self.answer_us_p50, self.answer_us_p99);
        let _ = writeln!(text, "answer, µs: median, p99       {p50}, {p99}");
        let _ = writeln!(text, "bytes of messages a device    {:.0}", self.bytes_a_device);
        let _ = writeln!(text, "bytes stored a device         {:.0}", self.stored_a_device);
        if !self.is_optimized {
            let _ = writeln!(text, "not optimized: times are of no use");
        }
        text
    }

    /// Says which bound was missed.
    pub(crate) fn check(&self) -> Result<(), String> {
        let devices = u64::from(self.devices);
        if self.check_ins != devices || self.certified != devices {
            return Err(format!(
                "{} of {devices} devices have checked in, and {} have certificates",
                self.check_ins, self.certified
            ));
        }
        let most = AIM_MINUTES * f64::from(self.devices) / 1_000_000.0;
        // Making the folder and the first of everything is a part of a small fleet's time.
        let is_judged = self.is_optimized && self.devices >= 100_000;
        if is_judged && self.minutes_on_two_processors > most {
            return Err(format!(
                "it took {:.1} minutes of two processors, more than {most:.1}",
                self.minutes_on_two_processors
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_of_a_day_is_served_once_and_certified_with_reports_and_a_deployment() {
        let more = More { reports: true, deployment: true };
        let day = run(300, Database::Sqlite, more);
        assert_eq!(day.check(), Ok(()), "{day:?}");
        assert!(day.bytes_a_device > 1000.0 && day.stored_a_device > 0.0, "{day:?}");
        let short = Day { certified: 299, ..day };
        assert!(short.check().is_err(), "the control");
    }
}

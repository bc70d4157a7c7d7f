//! What the network service tells of apps, as records of what is new since the last time.

use holdfast_failure_reports::record::{
    App, Body, Component, Name, Protocol, Refused, Traffic, Where,
};
use holdfast_networking::refused_traffic::{Place, RefusedGroup};
use holdfast_networking::status::{self, AppStatus, NetworkStatus};
use holdfast_sandbox::wire::ClaimedApp;
use holdfast_types::ComponentId;
use std::collections::BTreeMap;

/// Seconds between two records of an app's traffic.
const TRAFFIC_EVERY_S: u64 = 60 * 60;

/// The counters of one app at the last look.
#[derive(Debug, Clone, Default)]
struct Seen {
    groups: Vec<RefusedGroup>,
    traffic: status::Traffic,
}

/// The counters of all apps at the last look.
#[derive(Debug, Clone, Default)]
pub(crate) struct NetworkCounters {
    apps: BTreeMap<ComponentId, Seen>,
    traffic_at_s: u64,
}

impl NetworkCounters {
    /// Returns the records of what is new. `apps` are those that init has admitted.
    pub(crate) fn news(
        &mut self,
        status: &NetworkStatus,
        apps: &[ClaimedApp],
        uptime_s: u64,
    ) -> Vec<Body> {
        let traffic_is_due = uptime_s.saturating_sub(self.traffic_at_s) >= TRAFFIC_EVERY_S;
        if traffic_is_due {
            self.traffic_at_s = uptime_s;
        }
        let mut bodies = Vec::new();
        for told in &status.apps {
            // A service that reaches the network is none of these.
            let claimed = apps.iter().find(|app| app.id == told.component_id);
            let Some(component) = claimed.and_then(|claimed| component(told, claimed)) else {
                continue;
            };
            let seen = self.apps.entry(told.component_id).or_default();
            for group in &told.refused_groups {
                let count = group.count.saturating_sub(seen.count_of(group));
                if count > 0 {
                    bodies.push(refused(&component, group, count));
                }
            }
            seen.groups.clone_from(&told.refused_groups);
            if traffic_is_due && told.traffic != seen.traffic {
                bodies.push(Body::Traffic(Traffic {
                    component,
                    sent_bytes: since(told.traffic.sent_bytes, seen.traffic.sent_bytes),
                    received_bytes: since(told.traffic.received_bytes, seen.traffic.received_bytes),
                }));
                seen.traffic = told.traffic;
            }
        }
        bodies
    }
}

impl Seen {
    fn count_of(&self, like: &RefusedGroup) -> u32 {
        let known = self.groups.iter().find(|group| group.is_like(like));
        // A network service that was started again counts from 0.
        known.map_or(0, |known| if known.count > like.count { 0 } else { known.count })
    }
}

fn since(now: u64, before: u64) -> u64 {
    if now < before { now } else { now.saturating_sub(before) }
}

fn component(told: &AppStatus, claimed: &ClaimedApp) -> Option<Component> {
    let name = Name::try_from(told.name.clone()).ok()?;
    let [a, b, c, d, e, f, g, h, ..] = claimed.root_hash;
    let package = [a, b, c, d, e, f, g, h];
    Some(Component::App(App { id: claimed.id, name, version: claimed.version, package }))
}

fn refused(component: &Component, group: &RefusedGroup, count: u32) -> Body {
    let protocol = match group.protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        1 | 58 => Protocol::Icmp,
        _ => Protocol::Other,
    };
    let to = match group.place {
        Place::Public => Where::Public,
        Place::Private => Where::Private,
        Place::Link => Where::Link,
        Place::Multicast => Where::Multicast,
        Place::Device => Where::Device,
    };
    Body::Refused(Refused {
        component: component.clone(),
        protocol,
        port: group.port,
        to,
        count,
        addresses_log2: group.addresses_log2,
        is_granted_name: group.is_granted_name,
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        reason = "a panic is a failed test"
    )]
    use super::*;
    use holdfast_types::Version;

    const ID: ComponentId = ComponentId([7; 16]);

    fn claimed() -> ClaimedApp {
        ClaimedApp {
            id: ID,
            version: Version { major: 2, minor: 1, patch: 0 },
            rollback_index: 1,
            root_hash: [9; 32],
            catalog: None,
        }
    }

    fn status(count: u32, sent_bytes: u64) -> NetworkStatus {
        let group = RefusedGroup {
            protocol: 6,
            port: Some(23),
            place: Place::Public,
            is_granted_name: false,
            count,
            addresses_log2: 5,
        };
        let app = |name: &str, component_id| AppStatus {
            name: name.to_owned(),
            traffic: status::Traffic { sent_bytes, ..status::Traffic::default() },
            refused: 0,
            refusals: Vec::new(),
            component_id,
            refused_groups: vec![group],
        };
        let apps = vec![app("camera", ID), app("uplink", ComponentId([0; 16]))];
        NetworkStatus { apps, ..NetworkStatus::default() }
    }

    #[test]
    fn what_is_new_since_the_last_look_is_recorded_and_of_apps_alone() {
        let mut counters = NetworkCounters::default();
        let counts = |bodies: Vec<Body>| -> Vec<u32> {
            let count = |body| match body {
                Body::Refused(refused) => {
                    let Component::App(app) = &refused.component else { panic!("{refused:?}") };
                    assert_eq!((app.name.as_str(), app.package), ("camera", [9; 8]));
                    assert_eq!((refused.port, refused.to), (Some(23), Where::Public));
                    refused.count
                }
                body => panic!("{body:?}"),
            };
            bodies.into_iter().map(count).collect()
        };
        let mut look = |count| counts(counters.news(&status(count, 0), &[claimed()], 0));
        assert_eq!(look(5), [5]);
        assert_eq!(look(5), Vec::<u32>::new());
        assert_eq!(look(7), [2]);
        assert_eq!(look(3), [3], "the network service was started again");
    }

    #[test]
    fn traffic_is_recorded_once_an_hour() {
        let mut counters = NetworkCounters::default();
        let mut sent = |bytes, uptime_s| {
            let news = counters.news(&status(0, bytes), &[claimed()], uptime_s);
            news.into_iter().find_map(|body| match body {
                Body::Traffic(traffic) => Some(traffic.sent_bytes),
                _ => None,
            })
        };
        assert_eq!(sent(100, 60), None);
        assert_eq!(sent(150, 3600), Some(150));
        assert_eq!(sent(200, 3700), None);
        assert_eq!(sent(250, 7200), Some(100));
        assert_eq!(sent(250, 10_800), None, "nothing was sent");
    }
}

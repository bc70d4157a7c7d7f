//! Pools of the kernel that all components draw from: how large each must be so that nobody who takes all that its
//! plan allows leaves another with less than its own.
//!
//! What one component may take is limited elsewhere: by its control group, by its resource limits, and by the
//! firewall. A pool is the sum of those limits, and a reserve that no app can reach.

use crate::policy::{Network, Plan};

use crate::network::connections::{MAX_CONNECTIONS, MAX_INCOMING};

/// KiB of a page.
const PAGE_KIB: u64 = 4;
/// Processes and threads of the kernel, of init, and of its short-lived children.
const RESERVED_THREADS: u64 = 512;
/// Open files of init and of its short-lived children.
const RESERVED_FILES: u64 = 4096;
/// Connections that are closed and not yet gone, of the services of the device.
const RESERVED_ORPHANS: u64 = 256;
/// Neighbours of the device itself: the kernel's own limit.
const RESERVED_NEIGHBOURS: u64 = 1024;
/// Pages of sockets' memory for the services of the device.
const RESERVED_PAGES: u64 = 1024;

/// A setting of the kernel below `/proc/sys`, and its value.
pub type Setting = (&'static str, String);

/// Returns the kernel's pools of processes and open files: the sum of all limits, and a reserve.
#[must_use]
pub fn of_all<'plan>(plans: impl Iterator<Item = &'plan Plan> + Clone) -> Vec<Setting> {
    // The stub is one more process, with files of its own.
    let processes = |plan: &Plan| u64::from(plan.limits.processes).saturating_add(1);
    let files = |plan: &Plan| processes(plan).saturating_mul(plan.limits.open_files.into());
    vec![
        ("kernel/threads-max", sum(RESERVED_THREADS, plans.clone().map(processes)).to_string()),
        ("fs/file-max", sum(RESERVED_FILES, plans.map(files)).to_string()),
    ]
}

/// Returns the kernel's pools of the network: the sum for all components with veth pairs, and a reserve.
#[must_use]
pub fn of_network<'plan>(plans: impl Iterator<Item = &'plan Plan> + Clone) -> Vec<Setting> {
    let linked = plans.filter_map(|plan| match &plan.network {
        Network::Granted(grants) => Some((plan, grants)),
        Network::None | Network::System => None,
    });
    let grants = || linked.clone().map(|(_, grants)| grants);
    let connections = crate::network::connections::table_size(grants());
    // Sockets' memory is on the account of their group, so that no app has more than its limit.
    let pages = sum(
        RESERVED_PAGES,
        linked.clone().map(|(plan, _)| u64::from(plan.limits.memory_kib) / PAGE_KIB),
    );
    // Where the kernel begins to save, where it saves harder, and the most.
    let memory = format!("{} {} {pages}", pages / 2, pages.saturating_mul(3) / 4);
    let orphans = grants().map(|grants| {
        let incoming = if grants.serves() { MAX_INCOMING } else { 0 };
        u64::from(MAX_CONNECTIONS.saturating_add(incoming))
    });
    let neighbours = sum(RESERVED_NEIGHBOURS, grants().map(|_| MAX_CONNECTIONS.into())).to_string();
    vec![
        ("net/netfilter/nf_conntrack_max", connections.to_string()),
        ("net/ipv4/tcp_mem", memory.clone()),
        ("net/ipv4/udp_mem", memory),
        ("net/ipv4/tcp_max_orphans", sum(RESERVED_ORPHANS, orphans).to_string()),
        ("net/ipv4/neigh/default/gc_thresh3", neighbours.clone()),
        ("net/ipv6/neigh/default/gc_thresh3", neighbours),
    ]
}

fn sum(reserve: u64, shares: impl Iterator<Item = u64>) -> u64 {
    shares.fold(reserve, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]
    use super::*;
    use crate::policy::Plan;
    use crate::policy::tests::{connections, plan_of};
    use proptest::prelude::*;

    fn plan(processes: u32, files: u32, memory: u32, serves: bool) -> Plan {
        let ports = if serves { vec![80] } else { Vec::new() };
        plan_of(|manifest| {
            manifest.network.connections = connections();
            manifest.network.tcp_server_ports = ports;
            manifest.limits.processes = processes;
            manifest.limits.open_files = files;
            manifest.limits.memory_kib = memory;
        })
    }

    fn value(settings: &[Setting], name: &str) -> u64 {
        let (_, value) = settings.iter().find(|(found, _)| *found == name).unwrap();
        value.rsplit(' ').next().unwrap().parse().unwrap()
    }

    proptest! {
        /// Whatever all others take, what is left is at least one's own and the reserve.
        #[test]
        fn no_pool_is_smaller_than_all_shares_and_the_reserve(
            apps in proptest::collection::vec((1u32..=256, 8u32..=1024, 256u32..100_000, any::<bool>()), 0..64)
        ) {
            let plans: Vec<Plan> = apps.iter().map(|(p, f, m, s)| plan(*p, *f, *m, *s)).collect();
            let (all, network) = (of_all(plans.iter()), of_network(plans.iter()));
            let taken = |share: fn(&(u32, u32, u32, bool)) -> u64| apps.iter().map(share).sum::<u64>();
            prop_assert_eq!(
                value(&all, "kernel/threads-max"),
                RESERVED_THREADS + taken(|(processes, ..)| u64::from(*processes) + 1)
            );
            prop_assert!(
                value(&all, "fs/file-max")
                    >= RESERVED_FILES + taken(|(processes, files, ..)| u64::from(processes * files))
            );
            for pool in ["net/ipv4/tcp_mem", "net/ipv4/udp_mem"] {
                prop_assert!(
                    value(&network, pool) >= RESERVED_PAGES + taken(|(_, _, memory, _)| u64::from(memory / 4))
                );
            }
            let orphans = taken(|(.., serves)| if *serves { 192 } else { 128 });
            prop_assert!(value(&network, "net/ipv4/tcp_max_orphans") >= RESERVED_ORPHANS + orphans);
        }
    }

    #[test]
    fn the_table_of_connections_has_room_for_every_app_and_a_reserve() {
        let plans = [plan(1, 8, 1024, true), plan(1, 8, 1024, false)];
        let table =
            |plans: &[Plan]| value(&of_network(plans.iter()), "net/netfilter/nf_conntrack_max");
        assert_eq!(table(&[]), 512);
        let (serving, other) = (table(&plans[..1]) - 512, table(&plans[1..]) - 512);
        assert_eq!(table(&plans), 512 + serving + other);
        assert!(serving > other && other > u64::from(MAX_CONNECTIONS));
    }
}

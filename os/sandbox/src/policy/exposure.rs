//! The exposure score of a plan, in the terms of `systemd-analyze security`: each finding has an
//! identifier and a weight of that table (`analyze-security.c` of systemd 252), and a badness out of a
//! range. The score is the weighted badness on a scale of 0.0 (closed) to 10.0 (open).

use crate::app_manifest::UpdateAccess;
use crate::policy::system_calls::SystemCalls;
use crate::policy::{Network, Plan, Root, Source};

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// Identifier in systemd's table.
    pub id: &'static str,
    /// Weight in the sum.
    pub weight: u32,
    /// Badness, from 0 to `range`.
    pub badness: u32,
    /// The worst it could be.
    pub range: u32,
    /// The mechanism of this OS behind the finding.
    pub about: &'static str,
}

/// The property of a plan that a row of the table scores.
enum Check {
    /// The component has none of these capabilities.
    Capabilities(&'static [u8]),
    /// The component has its own root and namespaces.
    OwnRoot,
    /// Holds for every plan of this OS.
    Always,
    /// The component has no storage that outlives it.
    NoStorage,
    /// The component is handed no device node.
    NoDevices,
    /// The component has no socket to init or the update agent.
    NoRequests,
    /// The component's network namespace is empty.
    NoNetwork,
    /// The component has no network, or its own firewall.
    OwnNetwork,
    /// The component makes no netlink sockets.
    NoNetlink,
}

struct Row {
    id: &'static str,
    weight: u32,
    check: Check,
    about: &'static str,
}

const fn row(id: &'static str, weight: u32, check: Check, about: &'static str) -> Row {
    Row { id, weight, check, about }
}

const TABLE: &[Row] = &[
    row("PrivateNetwork=", 2500, Check::NoNetwork, "an empty network namespace of its own"),
    row("User=/DynamicUser=", 2000, Check::Always, "a uid of its own, never root"),
    row("CapabilityBoundingSet=~CAP_SYS_ADMIN", 1500, Check::Capabilities(&[21]), ""),
    row("CapabilityBoundingSet=~CAP_SET(UID|GID|PCAP)", 1500, Check::Capabilities(&[6, 7, 8]), ""),
    row("CapabilityBoundingSet=~CAP_SYS_PTRACE", 1500, Check::Capabilities(&[19]), ""),
    row("RestrictNamespaces=~user", 1500, Check::Always, "the kernel has no user namespaces"),
    row(
        "RestrictAddressFamilies=~AF_(INET|INET6)",
        1500,
        Check::NoNetwork,
        "seccomp: AF_UNIX alone",
    ),
    row(
        "CapabilityBoundingSet=~CAP_(CHOWN|FSETID|SETFCAP)",
        1000,
        Check::Capabilities(&[0, 4, 31]),
        "",
    ),
    row(
        "CapabilityBoundingSet=~CAP_(DAC_*|FOWNER|IPC_OWNER)",
        1000,
        Check::Capabilities(&[1, 2, 3, 15]),
        "",
    ),
    row("CapabilityBoundingSet=~CAP_NET_ADMIN", 1000, Check::Capabilities(&[12]), ""),
    row("CapabilityBoundingSet=~CAP_SYS_MODULE", 1000, Check::Capabilities(&[16]), ""),
    row("CapabilityBoundingSet=~CAP_SYS_RAWIO", 1000, Check::Capabilities(&[17]), ""),
    row("CapabilityBoundingSet=~CAP_SYS_TIME", 1000, Check::Capabilities(&[25]), ""),
    row("DeviceAllow=", 1000, Check::NoDevices, "no device node is handed over"),
    row("IPAddressDeny=", 1000, Check::OwnNetwork, "nothing but what is granted"),
    row("NoNewPrivileges=", 1000, Check::Always, "and locked securebits"),
    row("NotifyAccess=", 1000, Check::Always, "a notify socket of its own"),
    row("PrivateDevices=", 1000, Check::OwnRoot, "null, zero, full, random, urandom"),
    row("PrivateMounts=", 1000, Check::OwnRoot, "its own mount namespace"),
    row("PrivateTmp=", 1000, Check::OwnRoot, "its own /tmp, bounded"),
    row("PrivateUsers=", 1000, Check::Always, "no uid in it has a capability to lose"),
    row("ProtectClock=", 1000, Check::Always, "seccomp: no call sets a clock"),
    row("ProtectControlGroups=", 1000, Check::OwnRoot, "no cgroupfs"),
    row("ProtectHome=", 1000, Check::Always, "there are no homes"),
    row("ProtectKernelLogs=", 1000, Check::OwnRoot, "no kmsg, no syslog call"),
    row("ProtectKernelModules=", 1000, Check::Always, "the kernel has no modules"),
    row("ProtectKernelTunables=", 1000, Check::OwnRoot, "no /proc, no /sys"),
    row("ProtectProc=", 1000, Check::OwnRoot, "no /proc"),
    row("ProtectSystem=", 1000, Check::NoStorage, "nothing it writes outlives it"),
    row("RestrictAddressFamilies=~AF_PACKET", 1000, Check::Always, "not in the kernel"),
    row("RestrictSUIDSGID=", 1000, Check::Always, "every mount is nosuid"),
    row("SystemCallArchitectures=", 1000, Check::Always, "another architecture kills"),
    row("SystemCallFilter=~@clock", 1000, Check::Always, "not in the list"),
    row("SystemCallFilter=~@debug", 1000, Check::Always, "not in the list"),
    row("SystemCallFilter=~@module", 1000, Check::Always, "not in the list"),
    row("SystemCallFilter=~@mount", 1000, Check::Always, "not in the list"),
    row("SystemCallFilter=~@obsolete", 250, Check::Always, "not in the list"),
    row("SystemCallFilter=~@privileged", 700, Check::Always, "not in the list"),
    row("SystemCallFilter=~@raw-io", 1000, Check::Always, "not in the list"),
    row("SystemCallFilter=~@reboot", 1000, Check::Always, "not in the list"),
    row("SystemCallFilter=~@swap", 1000, Check::Always, "not in the list"),
    row("CapabilityBoundingSet=~CAP_AUDIT_*", 500, Check::Capabilities(&[29, 30, 37]), ""),
    row("CapabilityBoundingSet=~CAP_KILL", 500, Check::Capabilities(&[5]), ""),
    row("CapabilityBoundingSet=~CAP_MKNOD", 500, Check::Capabilities(&[27]), ""),
    row(
        "CapabilityBoundingSet=~CAP_NET_(BIND_SERVICE|BROADCAST|RAW)",
        500,
        Check::Capabilities(&[10, 11, 13]),
        "",
    ),
    row("CapabilityBoundingSet=~CAP_SYSLOG", 500, Check::Capabilities(&[34]), ""),
    row("CapabilityBoundingSet=~CAP_SYS_(NICE|RESOURCE)", 500, Check::Capabilities(&[23, 24]), ""),
    row("RestrictNamespaces=~mnt", 500, Check::Always, "seccomp: no CLONE_NEW* flag"),
    row("RestrictNamespaces=~net", 500, Check::Always, "seccomp: no CLONE_NEW* flag"),
    row("RestrictNamespaces=~pid", 500, Check::Always, "seccomp: no CLONE_NEW* flag"),
    row("RestrictRealtime=", 500, Check::Always, "no call, and a limit of 0"),
    row("SystemCallFilter=~@cpu-emulation", 250, Check::Always, "not in the list"),
    row("RootDirectory=/RootImage=", 200, Check::OwnRoot, "a fresh root"),
    row("SupplementaryGroups=", 200, Check::Always, "no group but its own"),
    row("AmbientCapabilities=", 500, Check::Capabilities(&[]), ""),
    row("RemoveIPC=", 100, Check::Always, "the kernel has no SysV IPC and no POSIX queues"),
    row("LockPersonality=", 100, Check::Always, "seccomp: no personality call"),
    row("MemoryDenyWriteExecute=", 100, Check::Always, "MDWE and seccomp"),
    row("UMask=", 100, Check::Always, "077"),
    row("CapabilityBoundingSet=~CAP_MAC_*", 100, Check::Capabilities(&[32, 33]), ""),
    row("CapabilityBoundingSet=~CAP_SYS_BOOT", 100, Check::Capabilities(&[22]), ""),
    row("Delegate=", 100, Check::Always, "no control group is handed over"),
    row("ProcSubset=", 10, Check::OwnRoot, "no /proc"),
    row("ProtectHostname=", 50, Check::Always, "its own, and no call sets one"),
    row("CapabilityBoundingSet=~CAP_LINUX_IMMUTABLE", 75, Check::Capabilities(&[9]), ""),
    row("CapabilityBoundingSet=~CAP_IPC_LOCK", 50, Check::Capabilities(&[14]), ""),
    row("CapabilityBoundingSet=~CAP_SYS_CHROOT", 50, Check::Capabilities(&[18]), ""),
    row("CapabilityBoundingSet=~CAP_BLOCK_SUSPEND", 25, Check::Capabilities(&[36]), ""),
    row("CapabilityBoundingSet=~CAP_LEASE", 25, Check::Capabilities(&[28]), ""),
    row("CapabilityBoundingSet=~CAP_SYS_PACCT", 25, Check::Capabilities(&[20]), ""),
    row("CapabilityBoundingSet=~CAP_SYS_TTY_CONFIG", 25, Check::Capabilities(&[26]), ""),
    row("CapabilityBoundingSet=~CAP_WAKE_ALARM", 25, Check::Capabilities(&[35]), ""),
    row("KeyringMode=", 1000, Check::Always, "the kernel has no keyrings"),
    row("RestrictAddressFamilies=~AF_NETLINK", 200, Check::NoNetlink, "seccomp: no AF_NETLINK"),
    row(
        "RestrictAddressFamilies=~AF_UNIX",
        25,
        Check::NoRequests,
        "no socket but its notify socket",
    ),
    row("CapabilityBoundingSet=~CAP_BPF", 25, Check::Capabilities(&[39]), ""),
    row("RestrictNamespaces=~ipc", 500, Check::Always, "the kernel has none"),
    row("RestrictNamespaces=~cgroup", 500, Check::Always, "seccomp: no namespace is made"),
    row("RestrictNamespaces=~uts", 100, Check::Always, "seccomp: no namespace is made"),
    row("RestrictAddressFamilies=~…", 1250, Check::Always, "seccomp: no other family"),
    row("SystemCallFilter=~@resources", 700, Check::Always, "not in the list"),
];

/// Every row of the table for a plan, the worst first.
#[must_use]
pub fn findings(plan: &Plan) -> Vec<Finding> {
    let own_root = matches!(plan.root, Root::Own(_));
    let stores = match &plan.root {
        Root::Own(mounts) => mounts.iter().any(|m| matches!(m.source, Source::Storage(_))),
        Root::System => true,
    };
    let mut findings: Vec<Finding> = TABLE
        .iter()
        .map(|row| {
            // Storage is a directory of the app's own: far from a writable system.
            let (badness, range) = match row.check {
                Check::Capabilities([]) => (u32::from(!plan.capabilities.is_empty()), 1),
                Check::Capabilities(numbers) => {
                    (u32::from(numbers.iter().any(|n| plan.capabilities.contains(n))), 1)
                }
                Check::OwnRoot => (u32::from(!own_root), 1),
                Check::Always => (0, 1),
                Check::NoStorage => match (own_root, stores) {
                    (true, false) => (0, 10),
                    (true, true) => (1, 10),
                    (false, _) => (10, 10),
                },
                Check::NoDevices => {
                    let none = plan.descriptors.is_empty() && plan.peripherals.is_empty();
                    (u32::from(!none), 1)
                }
                Check::NoRequests => {
                    let calls = plan.updates != UpdateAccess::None || plan.catalog.is_some();
                    let more = plan.requests.any() || calls;
                    (u32::from(more), 1)
                }
                Check::NoNetwork => (u32::from(plan.network != Network::None), 1),
                // systemd's half for a list of who may be reached.
                Check::OwnNetwork => match plan.network {
                    Network::None => (0, 2),
                    Network::Granted(_) => (1, 2),
                    Network::System => (2, 2),
                },
                Check::NoNetlink => {
                    (u32::from(plan.system_calls == SystemCalls::NetworkService), 1)
                }
            };
            let about = if row.about.is_empty() { "not in any of its sets" } else { row.about };
            Finding { id: row.id, weight: row.weight, badness, range, about }
        })
        .collect();
    findings.sort_by_key(|finding| {
        std::cmp::Reverse(u64::from(finding.badness).saturating_mul(u64::from(finding.weight)))
    });
    findings
}

/// The exposure, from 0.0 to 10.0, rounded to a tenth as systemd rounds it: up.
#[must_use]
pub fn score(findings: &[Finding]) -> f64 {
    let (mut bad, mut all) = (0u64, 0u64);
    for finding in findings {
        let weight = u64::from(finding.weight);
        let share = weight.saturating_mul(u64::from(finding.badness)).saturating_mul(10);
        let share = share.checked_div(u64::from(finding.range)).unwrap_or(share);
        bad = bad.saturating_add(share);
        all = all.saturating_add(weight);
    }
    let tenths = bad.saturating_mul(10).div_ceil(all.max(1));
    u32::try_from(tenths).map_or(10.0, |tenths| f64::from(tenths) / 10.0)
}

/// systemd's word for a score.
#[must_use]
pub fn rating(score: f64) -> &'static str {
    match score {
        s if s >= 9.0 => "UNSAFE",
        s if s >= 7.0 => "EXPOSED",
        s if s >= 5.0 => "MEDIUM",
        s if s >= 2.0 => "OK",
        s if s >= 0.1 => "SAFE",
        _ => "PERFECT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::{connections, plan_of};

    #[test]
    fn the_default_app_is_at_the_safest_end_and_storage_costs_little() {
        let default = plan_of(|_| {});
        assert_eq!(score(&findings(&default)), 0.0);
        assert_eq!(rating(0.0), "PERFECT");
        let storing = plan_of(|manifest| manifest.storage_kib = Some(8));
        let found = findings(&storing);
        assert_eq!(found[0].id, "ProtectSystem=", "the grant that costs comes first");
        let score = score(&found);
        assert!(score > 0.0 && score <= 0.1, "{score}");
        assert_eq!(rating(score), "SAFE");
    }

    #[test]
    fn an_app_on_the_network_is_safe_and_not_perfect() {
        let connected = plan_of(|manifest| manifest.network.connections = connections());
        let score = score(&findings(&connected));
        assert_eq!(rating(score), "SAFE", "{score}");
    }

    #[test]
    fn every_power_costs_what_its_row_weighs() {
        let plan = plan_of(|_| {});
        let with = |change: fn(&mut Plan)| {
            let mut plan = plan.clone();
            change(&mut plan);
            score(&findings(&plan))
        };
        let admin = with(|plan| plan.capabilities = vec![21]);
        let ptrace = with(|plan| plan.capabilities = vec![19, 21]);
        let system = with(|plan| plan.root = Root::System);
        assert!(admin > 0.0 && ptrace > admin && system > ptrace, "{admin} {ptrace} {system}");
        assert!(with(|plan| plan.descriptors = vec!["/dev/x".to_owned()]) > 0.0);
    }

    /// The rows about system calls say that none of a group is allowed; groups as in `systemd.exec`.
    #[test]
    fn no_call_of_a_group_that_counts_as_refused_is_allowed() {
        const GROUPS: &str = "swapon swapoff adjtimex clock_adjtime clock_adjtime64 clock_settime \
            clock_settime64 settimeofday modify_ldt lookup_dcookie perf_event_open pidfd_getfd ptrace \
            chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root \
            umount umount2 delete_module finit_module init_module iopl ioperm pciconfig_iobase \
            pciconfig_read pciconfig_write kexec_file_load kexec_load reboot acct bpf capset \
            fanotify_init fanotify_mark nfsservctl open_by_handle_at quotactl quotactl_fd \
            setdomainname setfsuid setfsuid32 setgroups setgroups32 sethostname setresuid \
            setresuid32 setreuid setreuid32 setuid setuid32 vhangup ioprio_set mbind migrate_pages \
            move_pages nice sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
            set_mempolicy set_mempolicy_home_node setpriority setrlimit uselib sysfs ustat bdflush";
        // No product has the debugger's.
        for set in SystemCalls::ALL.into_iter().filter(|set| *set != SystemCalls::Debugger) {
            let is_own = |name| set == SystemCalls::NetworkService && name == "capset";
            for rule in set.rules().into_iter().filter(|rule| !is_own(rule.name)) {
                assert!(!GROUPS.split_whitespace().any(|call| call == rule.name), "{}", rule.name);
            }
        }
    }

    #[test]
    fn no_row_is_there_twice_and_every_capability_is_in_one() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(!TABLE[..index].iter().any(|earlier| earlier.id == row.id), "{}", row.id);
        }
        for number in (0..=37u8).chain([39]) {
            let rows = TABLE.iter().filter(
                |row| matches!(row.check, Check::Capabilities(set) if set.contains(&number)),
            );
            assert_eq!(rows.count(), 1, "capability {number}");
        }
    }
}

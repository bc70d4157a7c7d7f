//! Seccomp policy: which system calls a component may make, as data.
//!
//! An allow list: what is not in it fails with EPERM. The image builder turns a set into BPF
//! programs, so that the device only applies bytes of its verified root. Arguments are 32 bits
//! wide on this processor, and every condition looks at one of them.

mod rule;
mod tables;

use crate::network::Network;
pub use rule::{Condition, Rule};
use rule::{call, when};
use serde::{Deserialize, Serialize};
use std::fmt;
use tables::{LOCAL, NETWORK_SERVICE_SOCKETS, NETWORKED_SOCKETS, PERIPHERAL_IOCTLS, SOCKETS, STUB};

/// A set of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemCalls {
    /// Programs, files, time, threads, and sockets on this device.
    Local,
    /// [`SystemCalls::Local`], and TCP and UDP sockets.
    Networked,
    /// [`SystemCalls::Networked`], and `listen`: connections that others begin.
    Serving,
    /// [`SystemCalls::Local`], and the requests of the peripherals that a board grants.
    Peripherals,
    /// [`SystemCalls::Networked`], and those requests.
    NetworkedPeripherals,
    /// [`SystemCalls::Serving`], and those requests.
    ServingPeripherals,
    /// [`SystemCalls::Local`], UDP, TCP without `listen`, and the kernel's settings of the network.
    NetworkService,
    /// [`SystemCalls::Local`], and tracing: the debug service, which development images alone can have.
    Debugger,
    /// The calls of the stub, PID 1 of an app's namespace, which reaps processes and reads notifications: it opens and
    /// executes nothing.
    Stub,
}

impl SystemCalls {
    /// Every set.
    pub const ALL: [Self; 9] = [
        Self::Local,
        Self::Networked,
        Self::Serving,
        Self::Peripherals,
        Self::NetworkedPeripherals,
        Self::ServingPeripherals,
        Self::NetworkService,
        Self::Debugger,
        Self::Stub,
    ];

    /// The set of an app with these grants. It listens where it has a TCP port at which it can be reached, and nowhere
    /// else: what waits to be accepted is on the account of nobody.
    #[must_use]
    pub fn of_app(network: &Network, peripherals: bool) -> Self {
        let (networked, serving) = match network {
            Network::Granted(grants) => (true, !grants.tcp_server_ports.is_empty()),
            Network::None | Network::System => (false, false),
        };
        match (networked, serving, peripherals) {
            (false, _, false) => Self::Local,
            (true, false, false) => Self::Networked,
            (true, true, false) => Self::Serving,
            (false, _, true) => Self::Peripherals,
            (true, false, true) => Self::NetworkedPeripherals,
            (true, true, true) => Self::ServingPeripherals,
        }
    }

    /// Returns the name of the set in file names and output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Networked => "networked",
            Self::Serving => "serving",
            Self::Peripherals => "peripherals",
            Self::NetworkedPeripherals => "networked-peripherals",
            Self::ServingPeripherals => "serving-peripherals",
            Self::NetworkService => "network-service",
            Self::Debugger => "debugger",
            Self::Stub => "stub",
        }
    }

    /// True when every call of this set is in `other`.
    #[must_use]
    pub fn is_within(self, other: Self) -> bool {
        // Of the sets of apps: TCP and UDP, listening, and peripherals.
        let grants = |set| match set {
            Self::Local => Some([false, false, false]),
            Self::Networked => Some([true, false, false]),
            Self::Serving => Some([true, true, false]),
            Self::Peripherals => Some([false, false, true]),
            Self::NetworkedPeripherals => Some([true, false, true]),
            Self::ServingPeripherals => Some([true, true, true]),
            Self::NetworkService | Self::Debugger | Self::Stub => None,
        };
        let within = match (grants(self), grants(other)) {
            (Some(ours), Some(theirs)) => {
                ours.iter().zip(theirs).all(|(ours, theirs)| !ours || theirs)
            }
            _ => false,
        };
        self == other || self == Self::Stub || within
    }

    /// The calls of the set.
    #[must_use]
    pub fn rules(self) -> Vec<Rule> {
        let sockets = match self {
            Self::Stub => return STUB.to_vec(),
            Self::Local | Self::Peripherals | Self::Debugger => SOCKETS,
            Self::Networked
            | Self::Serving
            | Self::NetworkedPeripherals
            | Self::ServingPeripherals => NETWORKED_SOCKETS,
            Self::NetworkService => NETWORK_SERVICE_SOCKETS,
        };
        let makes_processes =
            |rule: &&Rule| ["clone", "clone3", "fork", "vfork"].contains(&rule.name);
        LOCAL
            .iter()
            // The network service is one process for all its life.
            .filter(|rule| self != Self::NetworkService || !makes_processes(rule))
            .copied()
            .map(|rule| match (self, rule.name) {
                (
                    Self::Peripherals | Self::NetworkedPeripherals | Self::ServingPeripherals,
                    "ioctl",
                ) => when("ioctl", PERIPHERAL_IOCTLS),
                _ => rule,
            })
            .chain([when("socket", sockets)])
            .chain(
                matches!(self, Self::Serving | Self::ServingPeripherals).then_some(call("listen")),
            )
            // By which it empties the sets that would outlive its program.
            .chain((self == Self::NetworkService).then_some(call("capset")))
            .chain((self == Self::Debugger).then_some(call("ptrace")))
            .collect()
    }
}

impl fmt::Display for SystemCalls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} calls)", self.name(), self.rules().len())
    }
}

/// Calls that do not exist for any component (ENOSYS), so that a C library takes another way.
/// `clone3` hides its flags behind a pointer that a filter cannot follow.
pub const ABSENT: &[&str] = &["clone3"];
#[cfg(test)]
mod tests {
    use super::tables::{SO_PEERPIDFD, SOL_SOCKET};
    use super::*;

    #[test]
    fn no_call_is_listed_twice_and_what_the_stub_may_an_app_may() {
        for set in SystemCalls::ALL {
            let names: Vec<&str> = set.rules().iter().map(|rule| rule.name).collect();
            for (index, name) in names.iter().enumerate() {
                assert!(!names[..index].contains(name), "{name} is there twice");
            }
        }
        for rule in STUB {
            assert!(LOCAL.iter().any(|local| local.name == rule.name), "{}", rule.name);
        }
    }

    fn allows(rule: &Rule, arguments: [u32; 6]) -> bool {
        let holds = |c: &Condition| arguments[usize::from(c.argument)] & c.mask == c.value;
        rule.any_of.is_empty() || rule.any_of.iter().any(|all| all.iter().all(holds))
    }

    /// The rules for this call of every set that has one.
    fn rules_for(name: &str) -> Vec<Rule> {
        let rules = SystemCalls::ALL.into_iter().flat_map(SystemCalls::rules);
        rules.filter(|rule| rule.name == name).collect()
    }

    /// IP, sockets, TCP, UDP, IPv6, ICMPv6, raw sockets, netlink.
    const LEVELS: [u32; 8] = [0, 1, 6, 17, 41, 58, 255, 270];

    #[test]
    fn no_socket_yields_a_descriptor_of_the_process_at_its_other_end() {
        const SO_PASSPIDFD: u32 = 76;
        for rule in rules_for("getsockopt") {
            for level in LEVELS {
                for option in 0..128 {
                    let expected = (level, option) != (SOL_SOCKET, SO_PEERPIDFD);
                    assert_eq!(allows(&rule, [3, level, option, 0, 0, 0]), expected, "{option}");
                }
            }
        }
        for rule in rules_for("setsockopt") {
            assert!(!allows(&rule, [3, SOL_SOCKET, SO_PASSPIDFD, 0, 0, 0]));
        }
    }

    #[test]
    fn a_socket_takes_the_options_that_change_nothing_but_itself() {
        let allowed = [
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 25, 29,
            32, 35, 40, 63, 64, 66, 67,
        ];
        for rule in rules_for("setsockopt") {
            for level in LEVELS {
                for option in 0..0x1_0000 {
                    let expected = level != SOL_SOCKET || allowed.contains(&option);
                    assert_eq!(allows(&rule, [3, level, option, 0, 0, 0]), expected, "{option}");
                }
            }
            // SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF.
            for filter in [26, 50, 51, 52] {
                assert!(!allows(&rule, [3, SOL_SOCKET, filter, 0, 0, 0]), "{filter}");
            }
        }
    }

    #[test]
    fn a_process_changes_no_limit_and_makes_no_child_of_another() {
        const CLONE_PARENT: u32 = 0x8000;
        // CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID, DETACHED: a thread.
        const THREAD: u32 = 0x007d_0f00;
        for rule in rules_for("prlimit64") {
            assert!(allows(&rule, [0, 7, 0, 0, 0, 0]));
            assert!([1, 2, u32::MAX].iter().all(|of| !allows(&rule, [*of, 7, 0, 0, 0, 0])));
        }
        for rule in rules_for("clone") {
            assert!(allows(&rule, [17, 0, 0, 0, 0, 0]) && allows(&rule, [THREAD, 0, 0, 0, 0, 0]));
            assert!(!allows(&rule, [CLONE_PARENT | 17, 0, 0, 0, 0, 0]));
        }
        for name in ["setsockopt", "getsockopt", "prlimit64", "clone"] {
            assert!(!rules_for(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_set_within_another_has_no_call_that_the_other_lacks() {
        for set in SystemCalls::ALL {
            let names =
                |set: SystemCalls| -> Vec<&str> { set.rules().iter().map(|r| r.name).collect() };
            for other in SystemCalls::ALL.into_iter().filter(|other| set.is_within(*other)) {
                let theirs = names(other);
                for name in names(set) {
                    assert!(theirs.contains(&name), "{set}: {name} is not in {other}");
                }
            }
        }
        assert!(SystemCalls::Local.is_within(SystemCalls::ServingPeripherals));
        assert!(!SystemCalls::Serving.is_within(SystemCalls::NetworkedPeripherals));
    }

    #[test]
    fn an_app_listens_where_it_has_a_tcp_server_port_and_nowhere_else() {
        use crate::network::{Connection, Destination, NetworkGrants};
        use holdfast_types::ComponentId;
        let listens = |change: fn(&mut NetworkGrants)| {
            let mut grants = NetworkGrants::default();
            change(&mut grants);
            let network = Network::Granted(grants);
            let with = [false, true].map(|peripherals| {
                let set = SystemCalls::of_app(&network, peripherals);
                set.rules().iter().any(|rule| rule.name == "listen")
            });
            assert_eq!(with[0], with[1]);
            with[0]
        };
        assert!(listens(|grants| grants.tcp_server_ports = vec![80]));
        assert!(!listens(|grants| grants.udp_server_ports = vec![80]));
        // Nobody reaches an app without server ports, whoever names it.
        assert!(!listens(|grants| grants.applications = vec![ComponentId([1; 16])]));
        let anybody =
            || Destination::parse("example.com").into_iter().map(Connection::to).collect();
        let mut grants = NetworkGrants { connections: anybody(), ..NetworkGrants::default() };
        let set = SystemCalls::of_app(&Network::Granted(grants.clone()), false);
        assert!(!set.rules().iter().any(|rule| rule.name == "listen"));
        grants.tcp_server_ports = vec![80];
        assert!(set.is_within(SystemCalls::of_app(&Network::Granted(grants), false)));
        for set in [SystemCalls::Local, SystemCalls::NetworkService, SystemCalls::Debugger] {
            assert!(!set.rules().iter().any(|rule| rule.name == "listen"), "{set}");
        }
    }

    #[test]
    fn the_network_service_has_udp_tcp_and_netlink_and_no_other_sockets() {
        let rules = SystemCalls::NetworkService.rules();
        let socket = rules.iter().find(|rule| rule.name == "socket").unwrap();
        let mut allowed = Vec::new();
        for family in 0..64 {
            for kind in 0..16 {
                for protocol in [0, 1, 6, 12, 17, 58, 132, 136, 255, 262] {
                    if allows(socket, [family, kind, protocol, 0, 0, 0]) && family != 1 {
                        allowed.push((family, kind, protocol));
                    }
                }
            }
        }
        // AF_INET and AF_INET6, as stream with TCP and datagrams with UDP; AF_NETLINK, raw.
        let expected = [(2, 1, 6), (2, 2, 17), (10, 1, 6), (10, 2, 17), (16, 3, 0), (16, 3, 12)];
        assert_eq!(allowed, expected);
    }

    #[test]
    fn what_opens_the_kernel_is_in_no_set() {
        for forbidden in [
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "pidfd_getfd",
            "perf_event_open",
            "bpf",
            "userfaultfd",
            "io_uring_setup",
            "keyctl",
            "add_key",
            "request_key",
            "kexec_load",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "setns",
            "unshare",
            "memfd_create",
            "memfd_secret",
            "personality",
            "init_module",
            "finit_module",
            "reboot",
            "swapon",
            "syslog",
            "quotactl",
            "quotactl_fd",
            "settimeofday",
            "clock_settime",
            "clock_settime64",
            "adjtimex",
            "sethostname",
            "open_by_handle_at",
            "fanotify_init",
            "mknod",
            "mknodat",
            "setxattr",
            "fsopen",
            "open_tree",
            "move_mount",
            "mount_setattr",
            "shmget",
            "msgget",
            "semget",
            "mq_open",
            "pkey_mprotect",
            "remap_file_pages",
            "splice",
            "vmsplice",
            "tee",
            "execveat",
            "modify_ldt",
            "seccomp",
            "setuid32",
            "setresuid32",
            "setgroups32",
            "capset",
            "process_madvise",
            "kcmp",
            "pidfd_open",
            "acct",
        ] {
            for set in SystemCalls::ALL {
                // The first gives nothing that was not there; the second is in no production image.
                let own =
                    [(SystemCalls::NetworkService, "capset"), (SystemCalls::Debugger, "ptrace")];
                if own.contains(&(set, forbidden)) {
                    continue;
                }
                assert!(!set.rules().iter().any(|rule| rule.name == forbidden), "{forbidden}");
            }
        }
    }
}

//! Admission by resources: memory, storage and server ports of all components are added up and must fit the machine.
//!
//! The same rule is applied where an image is built, where an app is appended to one, and where a device takes a
//! package, so that what was built is started.

use crate::policy::{Mount, Network, Plan, Root, Source};

use crate::network::connections::{CONNECTION_BYTES, MAX_INCOMING};
use crate::network::{NetworkGrants, Protocol};
use thiserror::Error;

/// KiB that the kernel takes for its program and its tables before it counts the memory that it has. Beside them
/// are 32 bytes for each page, and as much again for what is sized by them.
const KERNEL_KIB: u64 = 12 * 1024;
const KERNEL_SHARE: u64 = 64;
/// KiB of what the kernel counts that are init's, and the kernel's for all of them.
const SYSTEM_KIB: u64 = 4 * 1024;
/// KiB of what one connection that nobody has accepted yet may have received: `net.ipv4.tcp_rmem` of an app's
/// namespace. It is on nobody's account.
const UNACCEPTED_KIB: u64 = 32;

/// The memory and storage of a machine that components can be promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// KiB of memory for all of them.
    pub memory_kib: u64,
    /// KiB of the partition that apps keep things on; `None` where there is none, which is said elsewhere.
    pub storage_kib: Option<u64>,
}

impl Machine {
    /// One with so many KiB of memory, all that is built in.
    #[must_use]
    pub fn with_memory(kib: u64) -> Self {
        let kernel = KERNEL_KIB.saturating_add(kib / KERNEL_SHARE);
        Self::running(kib.saturating_sub(kernel))
    }

    /// One whose kernel says that it has so many KiB (`MemTotal`).
    #[must_use]
    pub fn running(total_kib: u64) -> Self {
        Self { memory_kib: total_kib.saturating_sub(SYSTEM_KIB), storage_kib: None }
    }
}

/// A resource that an app asks for and that is already promised to other components.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Shortage {
    /// The limits of all are more memory than there is.
    #[error(
        "{asked} KiB of memory (Holdfast.Limits.MemoryKiB{}), but of the {all} KiB that the machine has for \
         components {left} are left; lower MemoryKiB here or of another app, or take a machine with more",
        kernels(*kernel)
    )]
    Memory {
        /// KiB that are asked for.
        asked: u64,
        /// KiB of them that the kernel needs for its connections.
        kernel: u64,
        /// KiB that are left.
        left: u64,
        /// KiB for all components.
        all: u64,
    },
    /// The storage of all is more than there is.
    #[error(
        "{asked} KiB of storage (Capabilities.MutableStorage.SizeKB), but {left} of {all} KiB are left; lower \
         SizeKB here or of another app, or make storage.data_mib of the image larger"
    )]
    Storage {
        /// KiB that are asked for.
        asked: u64,
        /// KiB that are left.
        left: u64,
        /// KiB for all apps.
        all: u64,
    },
    /// Another app has the port.
    #[error("{protocol} server port {port} ({}), which `{owner}` has", field(*protocol))]
    Port {
        /// Protocol of the port.
        protocol: Protocol,
        /// The port.
        port: u16,
        /// Name of the component that has it.
        owner: String,
    },
}

fn kernels(kib: u64) -> String {
    if kib == 0 { String::new() } else { format!(", and {kib} KiB for its connections") }
}

/// The capability that claims server ports of a protocol.
#[must_use]
pub fn field(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "Capabilities.AllowedTcpServerPorts",
        Protocol::Udp => "Capabilities.AllowedUdpServerPorts",
    }
}

/// KiB of memory that a component may cause to be taken, on its own account and on the kernel's.
#[must_use]
pub fn memory_kib(plan: &Plan) -> u64 {
    u64::from(plan.limits.memory_kib).saturating_add(kernel_kib(plan))
}

/// KiB of kernel memory that a component may cause to be taken for its connections.
fn kernel_kib(plan: &Plan) -> u64 {
    let Some(grants) = grants(plan) else {
        return 0;
    };
    let table = u64::from(crate::network::connections::table_share(grants))
        .saturating_mul(CONNECTION_BYTES.into());
    let waiting = if grants.tcp_server_ports.is_empty() { 0 } else { u64::from(MAX_INCOMING) };
    table.div_ceil(1024).saturating_add(waiting.saturating_mul(UNACCEPTED_KIB))
}

fn grants(plan: &Plan) -> Option<&NetworkGrants> {
    match &plan.network {
        Network::Granted(grants) => Some(grants),
        Network::None | Network::System => None,
    }
}

fn storage_kib(plan: &Plan) -> u64 {
    let of = |mount: &Mount| match mount.source {
        Source::Storage(kib) => u64::from(kib),
        _ => 0,
    };
    match &plan.root {
        Root::Own(mounts) => mounts.iter().map(of).fold(0, u64::saturating_add),
        Root::System => 0,
    }
}

/// Whether a machine that has promised these components, by name, what their plans say can promise one more.
///
/// # Errors
/// The resource that is short: a server port, storage, or memory.
pub fn admit<'a>(
    machine: Machine,
    earlier: impl Iterator<Item = (&'a str, &'a Plan)> + Clone,
    plan: &Plan,
) -> Result<(), Shortage> {
    for protocol in Protocol::ALL {
        for port in grants(plan).into_iter().flat_map(|grants| grants.server_ports(protocol)) {
            let has = |(_, other): &(&str, &Plan)| {
                grants(other).is_some_and(|theirs| theirs.server_ports(protocol).contains(port))
            };
            if let Some((owner, _)) = earlier.clone().find(has) {
                return Err(Shortage::Port { protocol, port: *port, owner: owner.to_owned() });
            }
        }
    }
    let left = |all: u64, of: fn(&Plan) -> u64| {
        let taken = earlier.clone().map(|(_, plan)| of(plan)).fold(0, u64::saturating_add);
        all.saturating_sub(taken)
    };
    if let (Some(all), asked @ 1..) = (machine.storage_kib, storage_kib(plan)) {
        let left = left(all, storage_kib);
        if asked > left {
            return Err(Shortage::Storage { asked, left, all });
        }
    }
    let (all, asked) = (machine.memory_kib, memory_kib(plan));
    let left = left(all, memory_kib);
    if asked > left {
        return Err(Shortage::Memory { asked, kernel: kernel_kib(plan), left, all });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::plan_of;
    use crate::policy::{ServiceGrants, service_plan};
    use proptest::prelude::*;

    fn plan(memory: u32, storage: u32, tcp: &[u16]) -> Plan {
        plan_of(|manifest| {
            manifest.storage_kib = Some(storage).filter(|kib| *kib > 0);
            manifest.network.tcp_server_ports = tcp.to_vec();
            manifest.limits.memory_kib = memory;
        })
    }

    #[test]
    fn what_is_asked_for_and_not_there_is_named_with_its_field_and_remedy() {
        let machine = Machine { memory_kib: 20_000, storage_kib: Some(100) };
        let one = plan(8192, 60, &[80]);
        let refused = |plan: &Plan| {
            admit(machine, [("one", &one)].into_iter(), plan).unwrap_err().to_string()
        };
        assert_eq!(admit(machine, [].into_iter(), &one), Ok(()));
        assert_eq!(admit(machine, [("one", &one)].into_iter(), &plan(8000, 40, &[])), Ok(()));
        let message = refused(&plan(256, 0, &[81, 80]));
        assert_eq!(
            message,
            "TCP server port 80 (Capabilities.AllowedTcpServerPorts), which `one` has"
        );
        let message = refused(&plan(256, 41, &[]));
        assert!(
            message.starts_with(
                "41 KiB of storage (Capabilities.MutableStorage.SizeKB), but 40 of 100"
            )
        );
        let message = refused(&plan(12_000, 0, &[]));
        assert!(
            message
                .starts_with("12000 KiB of memory (Holdfast.Limits.MemoryKiB), but of the 20000")
        );
        assert!(message.contains("lower MemoryKiB"), "{message}");
        let message = refused(&plan(12_000, 0, &[443]));
        assert!(message.contains("KiB for its connections"), "{message}");
    }

    #[test]
    fn what_was_built_for_a_machine_is_started_on_it() {
        // `MemTotal` of the kernel for QEMU's `virt`, by the memory that it was given.
        for (mib, total_kib) in [(32u64, 27_712u64), (64, 60_144)] {
            let (built, running) = (Machine::with_memory(mib * 1024), Machine::running(total_kib));
            assert!(built.memory_kib <= running.memory_kib, "{mib} MiB: {built:?} {running:?}");
        }
        assert_eq!(Machine::with_memory(64 * 1024).memory_kib, 48_128);
        assert_eq!(Machine::with_memory(8 * 1024).memory_kib, 0, "no machine of ours");
    }

    #[test]
    fn services_have_theirs_before_apps() {
        let service = service_plan(&ServiceGrants::none("/usr/lib/holdfast/services/a", "a"));
        let machine = Machine { memory_kib: 10_000, storage_kib: None };
        let refused = admit(machine, [("a", &service)].into_iter(), &plan(2000, 0, &[]));
        assert!(matches!(refused, Err(Shortage::Memory { left: 1808, .. })), "{refused:?}");
    }

    proptest! {
        /// Whatever is admitted one after the other, all of it fits, and no port is anybody's twice.
        #[test]
        fn what_is_admitted_fits_together(
            asked in proptest::collection::vec((256u32..20_000, 0u32..2000, 1u16..20), 0..20),
            memory in 0u64..200_000, storage in 0u64..10_000,
        ) {
            let machine = Machine { memory_kib: memory, storage_kib: Some(storage) };
            let mut admitted: Vec<Plan> = Vec::new();
            for (memory, storage, port) in asked {
                let next = plan(memory, storage, &[port]);
                if admit(machine, admitted.iter().map(|plan| ("x", plan)), &next).is_ok() {
                    admitted.push(next);
                }
            }
            let sum = |of: fn(&Plan) -> u64| admitted.iter().map(of).sum::<u64>();
            prop_assert!(sum(memory_kib) <= memory && sum(storage_kib) <= storage);
            let mut ports: Vec<u16> = admitted
                .iter()
                .filter_map(grants)
                .flat_map(|grants| grants.tcp_server_ports.clone())
                .collect();
            ports.sort_unstable();
            let all = ports.len();
            ports.dedup();
            prop_assert_eq!(ports.len(), all);
        }
    }
}

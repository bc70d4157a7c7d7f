//! Landlock: what of its file system a component may use, and how.
//!
//! Every right that Linux 6.12 knows (ABI 6) is handled, so what is not granted is denied; a kernel
//! that knows less is an error. Both scopes are on: no abstract socket and no signal reaches another
//! component. Of TCP its rules know exact ports alone, so they stand in front of the firewall where the
//! plan names such ports, and nowhere else.

use holdfast_sandbox::network::{Destination, Protocol};
use holdfast_sandbox::policy::{Mount, Network, Source};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::io::Errno;

const KERNEL: ABI = ABI::V6;

/// Restricts this process, for good, to what the mounts of its plan are for. Its root is in place.
pub(crate) fn restrict(mounts: &[Mount], network: &Network) -> Result<(), Errno> {
    // The crate's errors are texts, and the report pipe carries a number: that of what is most
    // likely, a kernel without Landlock or with an older one.
    apply(mounts, network).map_err(|_| Errno::OPNOTSUPP)
}

fn apply(mounts: &[Mount], network: &Network) -> Result<(), Box<dyn std::error::Error>> {
    let connects = connect_ports(network);
    let handled = match connects {
        Some(_) => AccessNet::BindTcp | AccessNet::ConnectTcp,
        None => AccessNet::BindTcp.into(),
    };
    let mut ruleset = Ruleset::default()
        // By itself the crate leaves out what a kernel does not know; here that is an error.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(KERNEL))?
        .handle_access(handled)?
        .scope(Scope::from_all(KERNEL))?
        .create()?;
    for mount in mounts {
        let rights = rights(&mount.source);
        // The kernel refuses a rule that grants nothing (ENOMSG in landlock_add_rule(2)).
        if !rights.is_empty() {
            ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(&mount.target)?, rights))?;
        }
    }
    for port in connects.unwrap_or_default() {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    for port in bind_ports(network) {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    let status = ruleset.restrict_self()?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err("landlock is not fully enforced".into());
    }
    Ok(())
}

/// TCP port of name servers.
const NAMES: u16 = 53;

/// TCP ports that may be connected to; `None` where they are not a short list. No app, and no service,
/// has TCP otherwise. Of the components with the system's network, the network service alone has a root of its own
/// and comes here: it asks name servers.
fn connect_ports(network: &Network) -> Option<Vec<u16>> {
    /// Rules that are worth having: what is longer is left to the firewall.
    const MOST: usize = 64;
    let grants = match network {
        Network::None => return Some(Vec::new()),
        Network::System => return Some(vec![NAMES]),
        Network::Granted(grants) => grants,
    };
    // What other apps serve does not stand in this one's plan, nor what an instance's port is.
    let unknown = |connection: &holdfast_sandbox::network::Connection| {
        connection.ports.is_empty() || matches!(connection.to, Destination::Service(_))
    };
    let mut ports = Vec::new();
    let by_tcp = || grants.connections.iter().filter(|c| c.protocols().contains(&Protocol::Tcp));
    if !grants.applications.is_empty() || by_tcp().any(unknown) {
        return None;
    }
    for range in by_tcp().flat_map(|connection| &connection.ports) {
        ports.extend((range.first..=range.last).take(MOST));
    }
    (ports.len() < MOST).then_some(ports)
}

/// TCP ports that may be bound: those it serves, and 0, by which a program leaves the choice to the
/// kernel.
fn bind_ports(network: &Network) -> Vec<u16> {
    match network {
        Network::Granted(grants) => grants.tcp_server_ports.iter().copied().chain([0]).collect(),
        Network::None | Network::System => Vec::new(),
    }
}

/// Returns the rights below a mount.
fn rights(source: &Source) -> BitFlags<AccessFs> {
    match source {
        Source::Package | Source::Directory(_) => {
            AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute
        }
        // Plain files, all in one place.
        Source::State | Source::AppStore => {
            AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::RemoveFile
                | AccessFs::MakeReg
        }
        Source::Temporary(_) | Source::Storage(_) => {
            AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::RemoveFile
                | AccessFs::RemoveDir
                | AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::MakeSym
                | AccessFs::MakeSock
                | AccessFs::MakeFifo
                | AccessFs::Refer
        }
        Source::Devices => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ReadDir,
        Source::Resolver => AccessFs::ReadFile | AccessFs::ReadDir,
        // As the kernel writes its notes with the rights of who crashes, it takes a file away and makes one; nobody reads it.
        Source::Crash => AccessFs::WriteFile | AccessFs::RemoveFile | AccessFs::MakeReg,
        // A socket is reached by its path, for which Linux 6.12 has no right.
        Source::Notify => BitFlags::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::network::{Connection, NetworkGrants, PortRange};

    #[test]
    fn tcp_is_by_exact_port_where_the_plan_says_so() {
        let granted = |ports: &[PortRange], to: &str| {
            let to = Destination::parse(to).into_iter();
            let connections =
                to.map(|to| Connection { ports: ports.to_vec(), ..Connection::to(to) }).collect();
            Network::Granted(NetworkGrants { connections, ..NetworkGrants::default() })
        };
        let range = PortRange { first: 80, last: 82 };
        assert_eq!(connect_ports(&Network::None), Some(vec![]));
        assert_eq!(connect_ports(&Network::System), Some(vec![53]), "name servers");
        assert_eq!(connect_ports(&granted(&[range], "a.example")), Some(vec![80, 81, 82]));
        assert_eq!(connect_ports(&granted(&[], "a.example")), None);
        assert_eq!(connect_ports(&granted(&[range], "_http._tcp.local")), None);
        let wide = PortRange { first: 1, last: 65_535 };
        assert_eq!(connect_ports(&granted(&[wide], "a.example")), None);
        assert_eq!(bind_ports(&granted(&[], "a.example")), [0]);
        assert!(bind_ports(&Network::None).is_empty() && bind_ports(&Network::System).is_empty());
    }

    #[test]
    fn no_place_is_writable_and_executable_and_none_takes_device_nodes() {
        for source in [
            Source::Package,
            Source::Directory("/usr".to_owned()),
            Source::Temporary(1),
            Source::Storage(1),
            Source::Devices,
            Source::Notify,
            Source::Resolver,
            Source::Crash,
        ] {
            let rights = rights(&source);
            assert_eq!(rights.contains(AccessFs::Execute), source.is_executable());
            assert!(!(rights.contains(AccessFs::Execute) && rights.contains(AccessFs::WriteFile)));
            assert!(!rights.intersects(AccessFs::MakeChar | AccessFs::MakeBlock));
            assert_eq!(rights.contains(AccessFs::MakeReg), source.is_writable());
        }
    }
}

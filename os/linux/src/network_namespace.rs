//! Network namespaces that last longer than the programs in them (network_namespaces(7)).

use crate::netlink::NetlinkSocket;
use crate::{PathError, sysctl};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Settings of a component's own network. What waits in a socket to be accepted is on the account of nobody, so that
/// little may: few connections, and little in each. Whoever has accepted one gets more room as it reads.
const SETTINGS: [(&str, &str); 5] = [
    // Every port may be bound: which of them the outside reaches is the firewall's to say.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/core/somaxconn", "16"),
    ("net/ipv4/tcp_max_syn_backlog", "64"),
    ("net/ipv4/tcp_rmem", "4096 32768 262144"),
    ("net/ipv4/tcp_max_tw_buckets", "128"),
];

const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace. It is gone when the last process has left it and this is dropped.
#[derive(Debug)]
pub struct NetworkNamespace {
    descriptor: OwnedFd,
}

/// A network namespace that could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The kernel refuses one.
    #[error("cannot make a network namespace")]
    Make(#[source] io::Error),
    /// The namespace cannot be entered.
    #[error("cannot enter a network namespace")]
    Enter(#[source] io::Error),
    /// No socket can be made in it.
    #[error("cannot make a netlink socket in a network namespace")]
    Socket(#[source] io::Error),
    /// A setting cannot be made in it.
    #[error(transparent)]
    Setting(#[from] PathError),
}

impl NetworkNamespace {
    /// Makes one with the settings of a component's own network.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn make() -> Result<Self, NamespaceError> {
        let home = current().map_err(NamespaceError::Enter)?;
        // Of this thread alone, which is the only one, and nothing but the network: descriptors stay as they are.
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| NamespaceError::Make(error.into()))?;
        let made = current().map_err(NamespaceError::Enter);
        // /proc/sys/net is that of whoever looks: these are settings of the new namespace.
        let set = SETTINGS.iter().try_for_each(|(name, value)| sysctl::set(name, value));
        go_home(home.as_fd());
        set?;
        Ok(Self { descriptor: made? })
    }

    /// Enters it, for good.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn enter(&self) -> Result<(), Errno> {
        move_into_link_name_space(self.descriptor.as_fd(), Some(LinkNameSpaceType::Network))
    }

    /// A socket for the devices and addresses in it, usable from anywhere.
    ///
    /// # Errors
    /// The namespace cannot be entered, or no descriptors are left.
    pub fn netlink(&self) -> Result<NetlinkSocket, NamespaceError> {
        let home = current().map_err(NamespaceError::Enter)?;
        self.enter().map_err(|error| NamespaceError::Enter(error.into()))?;
        // A socket stays in the namespace in which it was made (network_namespaces(7)).
        let socket = NetlinkSocket::route(0);
        go_home(home.as_fd());
        socket.map_err(NamespaceError::Socket)
    }
}

/// Goes back. A process that cannot is in the wrong place and must not go on: for PID 1 that ends in a
/// reboot.
fn go_home(home: BorrowedFd<'_>) {
    if move_into_link_name_space(home, Some(LinkNameSpaceType::Network)).is_err() {
        std::process::abort();
    }
}

fn current() -> io::Result<OwnedFd> {
    Ok(open(CURRENT, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

//! What init does for the network: settings that only it can make, and namespaces for apps. What
//! goes through is the network service's to say, and nothing does before it has.

use crate::start_error::StartError;
use holdfast_linux::network_namespace::NetworkNamespace;
use holdfast_linux::{PathError, file, mount, sysctl};
use holdfast_sandbox::network::address::{HOSTS_FILE, Veth};
use holdfast_sandbox::network::connections::ENDED_S;
use holdfast_sandbox::policy::{Plan, pools};
use std::path::{Path, PathBuf};

/// Directory of each networked app's resolver files; nobody but init can write there.
const RESOLVERS: &str = "/run/resolver";

/// Settings of the system's network, and what namespaces and devices that are made later start with
/// (kernel document `networking/ip-sysctl`). All of them exist in our kernel.
const SYSCTLS: [(&str, &str); 26] = [
    // Apps' packets pass through; which of them, the firewall says.
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/core/devconf_inherit_init_net", "1"),
    // Nobody's word about routes but that of an outer interface's own router.
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_source_route", "-1"),
    ("net/ipv6/conf/default/accept_source_route", "-1"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/conf/all/secure_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/default/accept_source_route", "0"),
    // An address is answered for where it is. Sources are the firewall's to check: a filter by
    // routes would drop the answers that give a device its first address.
    ("net/ipv4/conf/all/arp_ignore", "1"),
    ("net/ipv4/conf/all/arp_announce", "2"),
    ("net/ipv4/conf/all/drop_gratuitous_arp", "1"),
    // Whoever is refused learns it at once, each time: "destination unreachable" has no rate of its
    // own, and goes to apps alone.
    ("net/ipv4/icmp_ratemask", "6160"),
    ("net/ipv6/icmp/ratemask", "0,3-127"),
    // Hours instead of days until a silent connection is forgotten, and seconds until one that ends is. How many
    // there may be follows from what apps are granted.
    ("net/netfilter/nf_conntrack_tcp_timeout_established", "7440"),
    ("net/netfilter/nf_conntrack_tcp_timeout_fin_wait", "30"),
    // Fragments wait for their rest in one place for all apps and for everybody outside.
    ("net/ipv4/ipfrag_low_thresh", "196608"),
    ("net/ipv4/ipfrag_high_thresh", "262144"),
    ("net/netfilter/nf_conntrack_frag6_low_thresh", "196608"),
    ("net/netfilter/nf_conntrack_frag6_high_thresh", "262144"),
];

/// States in which a TCP connection has ended.
const ENDED: [&str; 2] = ["time_wait", "close"];

/// Makes the settings, before any device is switched on. What all components share has room for what each may have.
pub(crate) fn harden<'plan>(
    plans: impl Iterator<Item = &'plan Plan> + Clone,
) -> Result<(), PathError> {
    for (name, value) in SYSCTLS {
        sysctl::set(name, value)?;
    }
    for state in ENDED {
        let name = format!("net/netfilter/nf_conntrack_tcp_timeout_{state}");
        sysctl::set(&name, &ENDED_S.to_string())?;
    }
    for (name, value) in pools::of_network(plans) {
        sysctl::set(name, &value)?;
    }
    // 2: a router's word is taken although this device forwards packets itself (kernel document
    // `networking/ip-sysctl`).
    for device in sysctl::network_devices()? {
        sysctl::set(&format!("net/ipv6/conf/{device}/accept_ra"), "2")?;
    }
    Ok(())
}

/// Makes the network namespace of an app, and its resolver files.
pub(crate) fn prepare(name: &str, uid: u32) -> Result<NetworkNamespace, StartError> {
    let directory = resolver(name);
    mount::make_directory(Path::new(RESOLVERS))?;
    mount::make_directory(&directory)?;
    let veth = Veth::of(uid);
    file::publish(&directory.join("resolv.conf"), veth.resolver_file().as_bytes())?;
    file::publish(&directory.join("hosts"), HOSTS_FILE.as_bytes())?;
    Ok(NetworkNamespace::make()?)
}

/// Returns the directory of an app's resolver files.
pub(crate) fn resolver(name: &str) -> PathBuf {
    Path::new(RESOLVERS).join(name)
}

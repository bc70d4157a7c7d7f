//! The veth pairs of apps (veth(4)): one between the system and each app's network namespace.

use holdfast_linux::netlink::{NetlinkError, NetlinkSocket};
use holdfast_networking::route::{self, Device, Event};
use holdfast_networking::status::Traffic;
use holdfast_sandbox::network::NetworkedApp;
use holdfast_sandbox::network::address::{APP_DEVICE, Veth};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Loopback prefixes, which stand for whoever uses them.
const LOOPBACK_ADDRESSES: [(IpAddr, u8); 2] =
    [(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8), (IpAddr::V6(Ipv6Addr::LOCALHOST), 128)];

/// Reason for which an app has no veth pair.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VethError {
    #[error("cannot make the pair of devices")]
    Make(#[source] NetlinkError),
    #[error("cannot list the devices of its namespace")]
    List(#[source] NetlinkError),
    #[error("the pair was made without its device {0}")]
    Missing(String),
    #[error("cannot set addresses and routes of the pair")]
    Address(#[source] NetlinkError),
}

/// Removes the veth pairs that an earlier run of this service has left; the ends in the namespaces go with them.
pub(crate) fn remove_all(routes: &mut NetlinkSocket) -> Result<(), NetlinkError> {
    for device in devices(routes)? {
        if Veth::uid_of_device(&device.name).is_some() && device.kind.as_deref() == Some("veth") {
            routes.request(vec![route::delete_device(device.index)])?;
        }
    }
    Ok(())
}

/// Makes the veth pair of an app. `inside` is a netlink socket in the app's namespace. Its loopback device stays off:
/// what a program sends to itself passes no firewall, and is on the account of nobody until it is accepted.
pub(crate) fn set_up(
    app: &NetworkedApp,
    mut inside: NetlinkSocket,
    routes: &mut NetlinkSocket,
) -> Result<(), VethError> {
    let veth = app.veth();
    inside.request(vec![route::make_veth(veth, std::process::id())]).map_err(VethError::Make)?;
    let within = devices(&mut inside).map_err(VethError::List)?;
    let number = |devices: &[Device], name: &str| {
        devices.iter().find(|device| device.name == name).map(|device| device.index)
    };
    let system_end = number(&devices(routes).map_err(VethError::List)?, &veth.device())
        .ok_or_else(|| VethError::Missing(veth.device()))?;
    let app_end =
        number(&within, APP_DEVICE).ok_or_else(|| VethError::Missing(APP_DEVICE.to_owned()))?;
    let mut requests = vec![route::without_own_addresses(system_end), route::switch_on(system_end)];
    for (address, prefix) in route::veth_addresses(veth, false) {
        requests.push(route::add_veth_address(system_end, address, prefix));
    }
    routes.request(requests).map_err(VethError::Address)?;
    let mut requests = vec![route::without_own_addresses(app_end), route::switch_on(app_end)];
    for (address, prefix) in route::veth_addresses(veth, true) {
        requests.push(route::add_address(app_end, address, prefix));
    }
    for gateway in [IpAddr::V4(veth.system_v4()), IpAddr::V6(veth.system_v6())] {
        requests.push(route::default_route(app_end, gateway, 0));
    }
    // Without these, whoever connects to itself would wait for an answer from the other end of the pair.
    for (own, length) in LOOPBACK_ADDRESSES {
        requests.push(route::add_unreachable_route(own, length));
    }
    inside.request(requests).map_err(VethError::Address)
}

/// Returns the traffic over the veth pairs of apps, by uid.
pub(crate) fn traffic(routes: &mut NetlinkSocket) -> Result<BTreeMap<u32, Traffic>, NetlinkError> {
    let devices = devices(routes)?;
    let of_app = devices.iter().filter_map(|device| {
        // What the system's end receives, the app has sent.
        let [sent_packets, received_packets, sent_bytes, received_bytes] = device.traffic;
        let traffic = Traffic { sent_packets, sent_bytes, received_packets, received_bytes };
        Some((Veth::uid_of_device(&device.name)?, traffic))
    });
    Ok(of_app.collect())
}

/// Returns every device in the namespace of a netlink socket.
pub(crate) fn devices(routes: &mut NetlinkSocket) -> Result<Vec<Device>, NetlinkError> {
    let mut found = Vec::new();
    routes.dump(route::list_devices(), &mut |message| {
        if let Some(Event::Device(device)) = route::read(message) {
            found.push(device);
        }
    })?;
    Ok(found)
}

//! Gives `eth0` an address and nothing else: a network without namespaces, veth pairs and a firewall, which
//! `measure` compares ours with. QEMU's user network forwards to this address.

use holdfast_linux::netlink::NetlinkSocket;
use holdfast_networking::route::{self, Event};
use holdfast_test_apps::notify;
use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

const DEVICE: &str = "eth0";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 15);

fn main() -> Result<(), Box<dyn Error>> {
    let mut routes = NetlinkSocket::route(0)?;
    let mut index = None;
    routes.dump(route::list_devices(), &mut |message| match route::read(message) {
        Some(Event::Device(device)) if device.name == DEVICE => index = Some(device.index),
        _ => {}
    })?;
    let index = index.ok_or("there is no eth0")?;
    let address = route::add_address(index, ADDRESS.into(), 24);
    routes.request(vec![route::switch_on(index), address])?;
    println!("{DEVICE} has {ADDRESS}");
    notify("READY=1")?;
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

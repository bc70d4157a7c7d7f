//! The PROXY protocol on the port of devices: believed of listed addresses, and of nobody else.

use crate::device::{checked_in, software_device};
use crate::installation::Installation;
use holdfast_service_clients::{Client, Target};
use holdfast_service_domain::proxy::header;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The target, as seen through a balancer that says where the connection is from.
fn from(target: &Target, address: &str) -> Target {
    Target { before: header(address.parse().unwrap(), HERE), ..target.clone() }
}

/// True if a request over the connection is answered.
fn is_served(client: &mut Client) -> bool {
    client.ask("GET", "/", "", b"").status == 404
}

#[test]
fn a_listed_balancer_says_where_a_connection_is_from() {
    let mut service = Installation::with(|settings| {
        settings.device.proxies = vec![HERE];
        settings.device.most_per_address = 2;
    });
    service.device = from(&service.device, "192.0.2.1");
    let mut device = software_device(&service);
    checked_in(&device.check_in(&service.device));
    // Places are counted by who is behind the balancer, and not by the balancer.
    let direct = &service.device;
    let (first, second) = (from(direct, "192.0.2.7"), from(direct, "192.0.2.8"));
    let mut held: Vec<Client> = (0..2).map(|_| first.connect()).collect();
    assert!(held.iter_mut().all(is_served));
    assert!(first.try_connect().is_err(), "a third from one address");
    assert!(is_served(&mut second.connect()), "the control: another address");
    let (network, other) = (from(direct, "2001:db8::1"), from(direct, "2001:db8:0:1::1"));
    let held: Vec<Client> = (0..2).map(|_| network.connect()).collect();
    assert!(from(direct, "2001:db8::2").try_connect().is_err(), "a third from one /64");
    assert!(is_served(&mut other.connect()));
    drop(held);
}

#[test]
fn a_listed_balancer_without_a_header_is_closed() {
    let service = Installation::with(|settings| settings.device.proxies = vec![HERE]);
    let with = |before: Vec<u8>| Target { before, ..service.device.clone() }.try_connect();
    let good = header("192.0.2.7".parse().unwrap(), HERE);
    assert!(is_served(&mut with(good.clone()).unwrap()), "the control");
    let mut local = good.clone();
    local[12] = 0x20;
    assert!(is_served(&mut with(local).unwrap()), "a connection of the balancer's own");
    let mut datagrams = good.clone();
    datagrams[13] = 0x12;
    let text = b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n".to_vec();
    for bad in [Vec::new(), text, datagrams, good[..20].to_vec()] {
        with(bad).unwrap_err();
    }
}

/// Whoever is not listed and sends a header has said nothing that is TLS.
#[test]
fn a_header_from_an_address_that_is_not_listed_is_refused() {
    let other: IpAddr = "192.0.2.1".parse().unwrap();
    let services =
        [Installation::new(), Installation::with(|settings| settings.device.proxies = vec![other])];
    for service in services {
        assert!(is_served(&mut service.device.connect()), "the control");
        assert!(from(&service.device, "203.0.113.9").try_connect().is_err(), "a spoofed source");
        let mut stream = std::net::TcpStream::connect(service.device.address).unwrap();
        std::io::Write::write_all(&mut stream, &header("203.0.113.9".parse().unwrap(), HERE))
            .unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(!said.windows(4).any(|part| part == b"HTTP"), "{said:?}");
        // The port of management knows no balancers at all.
        from(&service.management, "203.0.113.9").try_connect().unwrap_err();
    }
}

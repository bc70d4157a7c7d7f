#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]

use super::*;
use crate::dhcp::lease::is_host;
use proptest::prelude::*;
use smoltcp::wire::DhcpOption;

const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

/// What a server could say.
#[derive(Clone)]
struct Said {
    kind: DhcpMessageType,
    transaction: u32,
    address: Ipv4Addr,
    server: Ipv4Addr,
    mask: Ipv4Addr,
    router: Ipv4Addr,
    seconds: u32,
}

impl Said {
    fn new(kind: DhcpMessageType, client: &Client) -> Self {
        Self {
            kind,
            transaction: client.transaction,
            address: ADDRESS,
            server: SERVER,
            mask: Ipv4Addr::new(255, 255, 255, 0),
            router: SERVER,
            seconds: 3600,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let time = [10, 0, 0, 3];
        let repr = DhcpRepr {
            message_type: self.kind,
            transaction_id: self.transaction,
            secs: 0,
            client_hardware_address: EthernetAddress(HARDWARE),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: self.address,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: Some(self.router),
            subnet_mask: Some(self.mask),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: true,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(self.server),
            parameter_request_list: None,
            dns_servers: Some([Ipv4Addr::new(10, 0, 0, 2)].into_iter().collect()),
            max_size: None,
            lease_duration: Some(self.seconds),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[DhcpOption { kind: 42, data: &time }],
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut DhcpPacket::new_unchecked(bytes.as_mut_slice())).unwrap();
        bytes
    }
}

/// The next thing that the client does by itself, and when.
fn next(client: &mut Client) -> (u64, Event) {
    for _ in 0..100 {
        let at = client.deadline().expect("it waits for nothing");
        let events = client.on_time(at);
        if let Some(event) = events.last() {
            return (at, event.clone());
        }
    }
    panic!("it does nothing: {client:?}")
}

fn sent(event: &Event) -> (Ipv4Addr, DhcpMessageType, Vec<u8>) {
    let Event::Send(to, bytes) = event else { panic!("it sends nothing: {event:?}") };
    let packet = DhcpPacket::new_checked(bytes.as_slice()).unwrap();
    let repr = DhcpRepr::parse(&packet).unwrap();
    (*to, repr.message_type, bytes.clone())
}

fn say(client: &mut Client, kind: DhcpMessageType, now: u64) -> Option<Event> {
    let bytes = Said::new(kind, client).bytes();
    client.on_message(&bytes, now).pop()
}

/// What becomes of an address that nobody answers for.
fn look(client: &mut Client, address: Ipv4Addr) -> Event {
    for _ in 0..LOOKS {
        let (at, event) = next(client);
        assert_eq!(event, Event::Look(address));
        if let Some(event) = client.on_neighbour(None, at).pop() {
            return event;
        }
    }
    panic!("it goes on looking: {client:?}")
}

/// A client that has got its lease at time 0.
fn bound() -> Client {
    let mut client = Client::new(HARDWARE, 7);
    client.link_up(0);
    let (_, event) = next(&mut client);
    assert_eq!(sent(&event).1, DhcpMessageType::Discover);
    let event = say(&mut client, DhcpMessageType::Offer, 0).unwrap();
    assert_eq!(sent(&event).1, DhcpMessageType::Request);
    assert_eq!(say(&mut client, DhcpMessageType::Ack, 0), Some(Event::Probe(ADDRESS)));
    let acquired = look(&mut client, ADDRESS);
    let Event::Acquired(lease) = acquired else { panic!("{acquired:?}") };
    assert_eq!((lease.address, lease.prefix, lease.gateway()), (ADDRESS, 24, Some(SERVER)));
    assert_eq!(lease.name_servers, [Ipv4Addr::new(10, 0, 0, 2)]);
    assert_eq!(lease.time_servers, [Ipv4Addr::new(10, 0, 0, 3)]);
    assert_eq!((lease.seconds, lease.renewal), (Some(3600), (1800, 3150)));
    client
}

#[test]
fn a_lease_is_acquired_renewed_rebound_and_lost() {
    let mut client = bound();
    let (at, event) = next(&mut client);
    assert_eq!((at, sent(&event).0), (1_800_000, SERVER), "renewed with its server");
    let mut rebound = false;
    let end = loop {
        match next(&mut client) {
            (at, Event::Send(to, _)) => {
                assert_eq!(to == Ipv4Addr::BROADCAST, at >= 3_150_000, "at {at}");
                rebound |= to == Ipv4Addr::BROADCAST;
            }
            (at, Event::Lost(_)) => break at,
            (_, event) => panic!("{event:?}"),
        }
    };
    assert!(rebound);
    assert_eq!(end, 3_600_000, "held exactly as long as it was granted");
    assert!(client.lease().is_none());
    let (_, event) = next(&mut client);
    assert_eq!(sent(&event).1, DhcpMessageType::Discover, "and looked for anew");
}

#[test]
fn a_renewed_lease_begins_anew() {
    let mut client = bound();
    let (at, _) = next(&mut client);
    assert!(matches!(say(&mut client, DhcpMessageType::Ack, at + 5), Some(Event::Acquired(_))));
    assert_eq!(client.deadline(), Some(at + 5 + 1_800_000));
}

#[test]
fn another_server_may_renew_only_what_all_were_asked_for() {
    let mut client = bound();
    let (at, _) = next(&mut client);
    let other = |client: &Client, kind| {
        let mut said = Said::new(kind, client);
        said.server = Ipv4Addr::new(10, 0, 0, 9);
        said.bytes()
    };
    for kind in [DhcpMessageType::Ack, DhcpMessageType::Nak] {
        let bytes = other(&client, kind);
        let events = client.on_message(&bytes, at);
        let refused =
            |event: &Event| matches!(event, Event::Rejected(DhcpRejected::OtherServer(_)));
        assert!(events.iter().all(refused), "while renewing: {events:?}");
    }
    let at = loop {
        if let (at, Event::Send(Ipv4Addr::BROADCAST, _)) = next(&mut client) {
            break at;
        }
    };
    let bytes = other(&client, DhcpMessageType::Ack);
    let renewed = client.on_message(&bytes, at).pop();
    assert!(matches!(renewed, Some(Event::Acquired(_))), "while rebinding");
}

#[test]
fn a_lease_that_is_taken_back_is_gone_at_once() {
    let mut client = bound();
    let (at, _) = next(&mut client);
    assert!(matches!(say(&mut client, DhcpMessageType::Nak, at), Some(Event::Lost(_))));
    assert!(client.lease().is_none());
}

#[test]
fn a_link_that_comes_back_is_asked_whether_the_lease_holds() {
    let mut client = bound();
    for flap in 0..100 {
        client.link_down();
        assert_eq!(client.on_time(flap), [], "nothing is sent into nowhere");
        client.link_up(flap);
        let (_, event) = next(&mut client);
        let (to, kind, _) = sent(&event);
        assert_eq!((to, kind), (Ipv4Addr::BROADCAST, DhcpMessageType::Request));
        assert!(client.lease().is_some());
    }
    assert!(matches!(say(&mut client, DhcpMessageType::Ack, 100), Some(Event::Acquired(_))));
    client.link_down();
    client.link_up(200);
    // Nobody answers: the lease is used for as long as it was granted, and no longer.
    let mut requests = 0;
    let lost = loop {
        match next(&mut client) {
            (at, Event::Lost(_)) => break at,
            (_, Event::Send(..)) => requests += 1,
            (_, event) => panic!("{event:?}"),
        }
    };
    assert_eq!(lost, 100 + 3_600_000);
    assert!(requests < 40, "{requests}");
}

#[test]
fn a_lease_runs_out_while_nothing_is_plugged_in() {
    let mut client = bound();
    client.link_down();
    assert_eq!(client.deadline(), Some(3_600_000));
    assert!(matches!(client.on_time(3_600_000).pop(), Some(Event::Lost(_))));
    assert_eq!(client.deadline(), None);
}

#[test]
fn lies_are_not_believed() {
    type Lie = fn(&mut Said);
    let lies: [(&str, &str, Lie); 10] = [
        ("another transaction", "", |said| said.transaction ^= 1),
        ("a lease of a second", "1 s", |said| said.seconds = 1),
        ("no time at all", "0 s", |said| said.seconds = 0),
        ("loopback", "127.0.0.1", |said| said.address = Ipv4Addr::LOCALHOST),
        ("multicast", "224.0.0.1", |said| said.address = Ipv4Addr::new(224, 0, 0, 1)),
        ("nobody", "0.0.0.0", |said| said.address = Ipv4Addr::UNSPECIFIED),
        ("the network itself", "10.0.0.0", |said| said.address = Ipv4Addr::new(10, 0, 0, 0)),
        ("its broadcast", "10.0.0.255", |said| said.address = Ipv4Addr::new(10, 0, 0, 255)),
        ("an app's", "198.18.0.1", |said| said.address = Ipv4Addr::new(198, 18, 0, 1)),
        ("holes", "255.0.255.0", |said| said.mask = Ipv4Addr::new(255, 0, 255, 0)),
    ];
    for (name, why, lie) in lies {
        let mut client = Client::new(HARDWARE, 7);
        client.link_up(0);
        next(&mut client);
        let mut said = Said::new(DhcpMessageType::Offer, &client);
        lie(&mut said);
        let events = client.on_message(&said.bytes(), 0);
        match events.as_slice() {
            // What is meant for somebody else is nobody's business.
            [] => assert_eq!(why, "", "{name}"),
            [Event::Rejected(rejected)] => {
                assert!(rejected.to_string().contains(why), "{rejected}");
            }
            _ => panic!("{name}: {events:?}"),
        }
        assert_eq!(client.on_message(&said.bytes(), 1), [], "it is said once");
    }
    let mut client = bound();
    let mut said = Said::new(DhcpMessageType::Ack, &client);
    said.address = Ipv4Addr::new(10, 0, 0, 66);
    next(&mut client);
    said.transaction = client.transaction;
    let events = client.on_message(&said.bytes(), 1_800_000);
    assert_eq!(events, [Event::Rejected(DhcpRejected::OtherAddress(said.address))]);
}

#[test]
fn nobody_is_said_not_to_answer_who_has_answered() {
    let mut client = Client::new(HARDWARE, 7);
    client.link_up(0);
    let mut silences = 0;
    for _ in 0..12 {
        let at = client.deadline().unwrap();
        silences += client.on_time(at).iter().filter(|e| **e == Event::Silence).count();
    }
    assert_eq!(silences, 1, "it is said once, and of silence");
    let mut client = Client::new(HARDWARE, 7);
    client.link_up(0);
    for _ in 0..12 {
        let at = client.deadline().unwrap();
        assert!(!client.on_time(at).contains(&Event::Silence));
        let mut said = Said::new(DhcpMessageType::Offer, &client);
        said.seconds = 1;
        client.on_message(&said.bytes(), at);
    }
}

/// The client until it looks for who has the address.
fn probing(client: &mut Client, address: Ipv4Addr) -> u64 {
    let (at, event) = next(client);
    assert_eq!(sent(&event).1, DhcpMessageType::Discover);
    for kind in [DhcpMessageType::Offer, DhcpMessageType::Ack] {
        let said = Said { address, ..Said::new(kind, client) };
        client.on_message(&said.bytes(), at);
    }
    let (at, event) = next(client);
    assert_eq!(event, Event::Look(address));
    at
}

#[test]
fn an_address_that_somebody_has_is_declined_and_never_used() {
    let mut client = Client::new(HARDWARE, 7);
    client.link_up(0);
    let holder = [2, 9, 9, 9, 9, 9];
    let mut before = 0;
    for _ in 0..9 {
        let at = probing(&mut client, ADDRESS);
        assert!(at >= before, "at {at}, and not before {before}");
        let events = client.on_neighbour(Some(holder), at);
        let [Event::Taken { address: ADDRESS, is_used: false, .. }, declined] = events.as_slice()
        else {
            panic!("{events:?}")
        };
        let (to, kind, bytes) = sent(declined);
        assert_eq!((to, kind), (Ipv4Addr::BROADCAST, DhcpMessageType::Decline));
        let packet = DhcpPacket::new_checked(bytes.as_slice()).unwrap();
        let repr = DhcpRepr::parse(&packet).unwrap();
        assert_eq!((repr.requested_ip, repr.server_identifier), (Some(ADDRESS), Some(SERVER)));
        assert_eq!(client.lease(), None);
        assert_eq!(say(&mut client, DhcpMessageType::Offer, at), None, "nobody asked for one");
        before = at + DECLINED_MS;
    }
    probing(&mut client, Ipv4Addr::new(10, 0, 0, 51));
    assert_eq!(
        client.on_neighbour(None, before),
        [],
        "one that nobody has is looked for twice more"
    );
}

#[test]
fn somebody_who_answers_for_every_address_keeps_none_of_them() {
    let mut client = Client::new(HARDWARE, 7);
    client.link_up(0);
    for last in 50..52 {
        let at = probing(&mut client, Ipv4Addr::new(10, 0, 0, last));
        let events = client.on_neighbour(Some([2, 9, 9, 9, 9, 9]), at);
        assert!(matches!(events[0], Event::Taken { is_used: false, .. }));
    }
    let at = probing(&mut client, ADDRESS.to_bits().wrapping_add(9).into());
    let events = client.on_neighbour(Some([2, 9, 9, 9, 9, 9]), at);
    assert!(matches!(events[..], [Event::Taken { is_used: true, .. }, Event::Acquired(_)]));
}

#[test]
fn a_server_that_never_grants_what_it_offers_is_asked_ever_more_seldom() {
    let mut client = Client::new(HARDWARE, 7);
    client.link_up(0);
    let (mut at, mut times) = (0, Vec::new());
    for _ in 0..9 {
        let event;
        (at, event) = next(&mut client);
        assert_eq!(sent(&event).1, DhcpMessageType::Discover);
        times.push(at);
        say(&mut client, DhcpMessageType::Offer, at).unwrap();
        let refused = say(&mut client, DhcpMessageType::Nak, at);
        let first = times.len() == 1;
        assert_eq!(refused.is_some(), first, "it is said once");
    }
    assert!(at >= 1000 * (1 + 2 + 4 + 8 + 16 + 32 + 64), "{times:?}");
}

#[test]
fn without_a_server_it_asks_ever_more_seldom() {
    let mut client = Client::new(HARDWARE, 7);
    client.link_up(0);
    let mut times = Vec::new();
    while times.len() < 12 {
        let (at, event) = next(&mut client);
        assert_eq!(sent(&event).1, DhcpMessageType::Discover);
        times.push(at);
    }
    let waits: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((3_000..=5_000).contains(&waits[0]), "{waits:?}");
    assert!(waits[5..].iter().all(|wait| (63_000..=65_000).contains(wait)), "{waits:?}");
}

#[test]
fn an_offer_that_is_not_kept_is_given_up() {
    let mut client = Client::new(HARDWARE, 7);
    client.link_up(0);
    next(&mut client);
    say(&mut client, DhcpMessageType::Offer, 0).unwrap();
    let kinds: Vec<DhcpMessageType> = (0..5).map(|_| sent(&next(&mut client).1).1).collect();
    assert_eq!(kinds[..3], [DhcpMessageType::Request; 3]);
    assert_eq!(kinds[3..], [DhcpMessageType::Discover; 2]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Answer::parse(&bytes).map(|answer| answer.lease(None));
    }

    #[test]
    fn a_changed_message_never_yields_an_unusable_lease(
        at in any::<prop::sample::Index>(), value in any::<u8>(), seconds in any::<u32>()
    ) {
        let mut client = Client::new(HARDWARE, 7);
        client.link_up(0);
        next(&mut client);
        let mut said = Said::new(DhcpMessageType::Offer, &client);
        said.seconds = seconds;
        let mut bytes = said.bytes();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let answer = Answer::parse(&bytes);
        if let Some((lease, _)) = answer.and_then(|answer| answer.lease(None).ok()) {
            prop_assert!(is_host(lease.address) && (8..=32).contains(&lease.prefix));
            prop_assert!(lease.routes.len() <= MAX_ROUTES);
            prop_assert!(lease.seconds.is_none_or(|seconds| seconds >= LEAST_LEASE_S));
            prop_assert!(lease.renewal.0 < lease.renewal.1);
            prop_assert!(lease.name_servers.len() <= MAX_SERVERS);
        }
    }

    /// Whatever a server says and whenever, the client never sends more often than every few
    /// seconds in the long run: no lease storm.
    #[test]
    fn no_server_makes_it_send_in_a_storm(
        script in proptest::collection::vec((0u8..4, 0u64..20_000, any::<u32>()), 1..60)
    ) {
        let mut client = Client::new(HARDWARE, 7);
        client.link_up(0);
        let (mut now, mut messages) = (0u64, 0u64);
        let count = |events: &[Event]| {
            u64::try_from(events.iter().filter(|e| matches!(e, Event::Send(..))).count()).unwrap()
        };
        for (kind, wait, seconds) in script {
            let end = now + wait;
            while let Some(at) = client.deadline().filter(|at| *at <= end) {
                now = now.max(at);
                messages += count(&client.on_time(now));
            }
            now = end;
            let kinds = [DhcpMessageType::Offer, DhcpMessageType::Ack, DhcpMessageType::Nak];
            if let Some(kind) = kinds.get(usize::from(kind)) {
                let mut said = Said::new(*kind, &client);
                said.seconds = seconds;
                messages += count(&client.on_message(&said.bytes(), now));
            }
        }
        // Each answer buys at most two messages; the rest is paced by time.
        prop_assert!(messages <= 4 + now / 2_000 + 120, "{} in {} ms", messages, now);
    }
}

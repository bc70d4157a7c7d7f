#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]

use super::*;
use holdfast_sandbox::network::{Connection, NetworkGrants};
use holdfast_types::ComponentId;
use proptest::prelude::*;
use simple_dns::TYPE;
use simple_dns::rdata::{A, CNAME, PTR, RData, SRV};

fn app(uid: u32, names: &[&str], friends: &[u8]) -> NetworkedApp {
    let id = u8::try_from(uid - 1000).unwrap();
    NetworkedApp {
        name: format!("app-{id}"),
        component_id: ComponentId([id; 16]),
        uid,
        grants: NetworkGrants {
            connections: names
                .iter()
                .map(|name| Connection::to(Destination::parse(name).unwrap()))
                .collect(),
            applications: friends.iter().map(|id| ComponentId([*id; 16])).collect(),
            ..NetworkGrants::default()
        },
    }
}

fn question(name: &str, kind: TYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(7);
    packet.questions.push(Question::new(
        Name::new(name).unwrap(),
        QTYPE::TYPE(kind),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().unwrap()
}

fn asked(name: &str, kind: TYPE) -> Asked {
    read_question(&question(name, kind)).unwrap()
}

fn decided(name: &str, kind: TYPE) -> Decision {
    let one = app(1001, &["example.com", "_http._tcp.local", "10.0.0.0/8", "box.local"], &[2]);
    let apps = [one.clone(), app(1002, &[], &[1]), app(1003, &[], &[])];
    let service = Destination::parse("_http._tcp.local").unwrap();
    let hosts = [Host { name: "printer.local".to_owned(), service, port: 9100 }];
    decide(&asked(name, kind), &one, &apps, &hosts)
}

fn status_of(bytes: &[u8]) -> (RCODE, usize) {
    let packet = Packet::parse(bytes).unwrap();
    assert_eq!(packet.id(), 7);
    (packet.rcode(), packet.answers.len())
}

#[test]
fn only_granted_names_of_address_types_are_asked_for() {
    for (name, kind, on_link) in [
        ("example.com", TYPE::A, false),
        ("EXAMPLE.com", TYPE::AAAA, false),
        ("box.local", TYPE::A, true),
        ("_http._tcp.local", TYPE::PTR, true),
        (r"My Printer._http._tcp.local", TYPE::SRV, true),
        (r"My Printer._http._tcp.local", TYPE::TXT, true),
        ("printer.local", TYPE::A, true),
    ] {
        let Decision::Ask(lookup) = decided(name, kind) else { panic!("{name} was refused") };
        assert_eq!(lookup.on_link, on_link, "{name}");
        assert_eq!(lookup.name, name.to_ascii_lowercase());
    }
    let refused = [
        ("example.org", TYPE::A, RCODE::NameError),
        ("secret.example.com", TYPE::A, RCODE::NameError),
        ("com", TYPE::A, RCODE::NameError),
        ("example.com", TYPE::TXT, RCODE::NoError),
        ("example.com", TYPE::NULL, RCODE::NoError),
        ("example.com", TYPE::MX, RCODE::NoError),
        ("_http._tcp.local", TYPE::TXT, RCODE::NameError),
        ("_ipp._tcp.local", TYPE::PTR, RCODE::NameError),
        ("other.local", TYPE::A, RCODE::NameError),
        ("printer.local", TYPE::TXT, RCODE::NameError),
        ("app-3.app.internal", TYPE::A, RCODE::NameError),
    ];
    for (name, kind, rcode) in refused {
        let Decision::Refuse(reply) = decided(name, kind) else { panic!("{name} was not refused") };
        assert_eq!(status_of(&reply), (rcode, 0), "{name}");
    }
}

#[test]
fn an_app_that_may_be_talked_to_has_a_name() {
    let Decision::Answer(reply) = decided("app-2.app.internal", TYPE::A) else { panic!("refused") };
    let packet = Packet::parse(&reply).unwrap();
    let RData::A(found) = &packet.answers[0].rdata else { panic!("{packet:?}") };
    assert_eq!(
        Ipv4Addr::from_bits(found.address),
        holdfast_sandbox::network::address::Veth::of(1002).app_v4()
    );
}

#[test]
fn a_question_that_is_not_exactly_one_is_none() {
    let good = question("example.com", TYPE::A);
    assert!(read_question(&good).is_some());
    let mut answer = good.clone();
    answer[2] |= 0x80;
    assert_eq!(read_question(&answer), None, "an answer");
    let mut two = Packet::parse(&good).unwrap();
    let again = two.questions[0].clone();
    two.questions.push(again);
    assert_eq!(read_question(&two.build_bytes_vec().unwrap()), None, "two questions");
    assert_eq!(read_question(&good[..good.len() - 1]), None, "cut short");
    assert_eq!(read_question(&[0; 513]), None, "too long");
}

#[test]
fn what_is_sent_holds_nothing_of_the_app_but_the_granted_name() {
    let plain = decided("example.com", TYPE::A);
    let shouted = decided("eXaMpLe.CoM", TYPE::A);
    let (Decision::Ask(plain), Decision::Ask(shouted)) = (plain, shouted) else {
        panic!("refused")
    };
    assert_eq!(plain.question(9, true), shouted.question(9, true), "case carries bits");
}

fn lookup(name: &str) -> Lookup {
    let grant = Destination::parse(name).unwrap();
    Lookup { grant, name: name.to_owned(), kind: Kind::A, on_link: false }
}

fn record(name: &str, ttl: u32, data: RData<'static>) -> ResourceRecord<'static> {
    ResourceRecord::new(Name::new(name).unwrap().into_owned(), CLASS::IN, ttl, data)
}

fn a(text: &str) -> RData<'static> {
    RData::A(A { address: text.parse::<Ipv4Addr>().unwrap().to_bits() })
}

fn cname(to: &str) -> RData<'static> {
    RData::CNAME(CNAME(Name::new(to).unwrap().into_owned()))
}

fn answered(name: &str, records: Vec<ResourceRecord<'static>>) -> Vec<u8> {
    let question = question(name, TYPE::A);
    let mut packet = Packet::parse(&question).unwrap().into_reply();
    packet.set_id(9);
    packet.set_flags(PacketFlag::RESPONSE);
    packet.answers = records;
    packet.build_bytes_vec().unwrap()
}

fn read(name: &str, records: Vec<ResourceRecord<'static>>) -> Outcome {
    read_with(&lookup(name), &answered(name, records)).unwrap().unwrap()
}

fn read_with(lookup: &Lookup, bytes: &[u8]) -> Option<Result<Outcome, Failure>> {
    lookup.read_answer(9, bytes, &Surroundings::default())
}

fn addresses(outcome: &Outcome) -> Vec<String> {
    outcome.records.iter().filter_map(Record::as_address).map(|a| a.to_string()).collect()
}

#[test]
fn aliases_are_followed_within_bounds() {
    let chain = |length: usize| {
        let mut records: Vec<_> = (0..length)
            .map(|i| {
                let owner = if i == 0 { "example.com".to_owned() } else { format!("n{i}.example") };
                record(&owner, 60, cname(&format!("n{}.example", i + 1)))
            })
            .collect();
        records.push(record(&format!("n{length}.example"), 60, a("203.0.113.9")));
        read_with(&lookup("example.com"), &answered("example.com", records)).unwrap()
    };
    for length in [1, 7, 8, 12, MAX_ALIASES] {
        assert_eq!(addresses(&chain(length).unwrap()), ["203.0.113.9"], "{length}");
    }
    // Beyond that it is an error, and not a name without addresses.
    assert_eq!(chain(MAX_ALIASES + 1), Err(Failure::LongChain));
    let circle = vec![
        record("example.com", 60, cname("b.example")),
        record("b.example", 60, cname("example.com")),
    ];
    assert_eq!(addresses(&read("example.com", circle)), Vec::<String>::new());
}

#[test]
fn records_of_other_names_are_not_handed_on() {
    let outcome = read(
        "example.com",
        vec![
            record("evil.example", 60, a("203.0.113.1")),
            record("example.com", 60, a("203.0.113.2")),
        ],
    );
    assert_eq!(addresses(&outcome), ["203.0.113.2"]);
}

#[test]
fn the_time_of_an_address_has_a_floor_and_a_ceiling() {
    for (said, holds) in [(0, 30), (29, 30), (600, 600), (86_400, 3600), (u32::MAX, 3600)] {
        let outcome = read("example.com", vec![record("example.com", said, a("203.0.113.2"))]);
        assert_eq!(outcome.records[0].ttl, holds);
    }
}

/// Where a device with these addresses is.
fn around(near: &[(&str, u8)]) -> Surroundings {
    let near = near.iter().map(|(text, length)| (text.parse().unwrap(), *length)).collect();
    Surroundings { near, translated: Vec::new() }
}

fn may_have(name: &str, address: &str, surroundings: &Surroundings) -> bool {
    lookup(name).may_have(address.parse().unwrap(), surroundings).is_ok()
}

#[test]
fn a_public_name_never_leads_to_somebody_near() {
    let nowhere = Surroundings::default();
    for private in [
        "127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.1.1",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let outcome = read("example.com", vec![record("example.com", 60, a(private))]);
        let forbidden: Vec<_> = outcome.forbidden.iter().map(|(address, _)| *address).collect();
        assert_eq!(forbidden, [private.parse::<IpAddr>().unwrap()]);
        assert!(outcome.records.is_empty(), "{private}");
    }
    for private in [
        "::1",
        "::",
        "fe80::1",
        "fec0::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "64:ff9b:1::1",
        "2002:a00:1::",
    ] {
        assert!(!may_have("example.com", private, &nowhere), "{private}");
    }
    assert!(may_have("example.com", "2001:db8::1", &nowhere));
    for local in ["nas.lan", "nas", "nas.local", "nas.home.arpa"] {
        assert!(may_have(local, "192.168.1.1", &nowhere), "{local}");
        for never in ["127.0.0.1", "198.18.0.1", "224.0.0.1", "::1"] {
            assert!(!may_have(local, never, &nowhere), "{local} {never}");
        }
    }
    // Neighbours with public IPv6 addresses are neighbours; who has a public IPv4 address is mostly a server.
    let here = around(&[("2001:db8:77::50", 64), ("203.0.113.50", 28)]);
    for (address, is_public) in [
        ("2001:db8:77::1", false),
        ("2001:db8:78::1", true),
        ("203.0.113.49", true),
        ("203.0.113.65", true),
    ] {
        assert_eq!(may_have("example.com", address, &here), is_public, "{address}");
    }
    assert!(may_have("nas.lan", "203.0.113.49", &here));
}

#[test]
fn behind_a_translator_a_name_leads_where_its_ipv4_address_may() {
    let mut here = around(&[("2001:db8:77::50", 64), ("10.0.0.5", 24)]);
    assert!(may_have("example.com", "64:ff9b::203.0.113.9", &here));
    assert!(!may_have("example.com", "64:ff9b::192.168.1.1", &here));
    // A network's own prefix is one of many, until it is known.
    assert!(may_have("example.com", "2001:db8:64::10.0.0.1", &here));
    for (prefix, length, private, public) in [
        ("2001:db8:64::", 96, "2001:db8:64::a00:1", "2001:db8:64::cb00:7109"),
        ("2001:db8:64::", 64, "2001:db8:64:0:a:0:100:0", "2001:db8:64:0:cb:71:900::"),
        ("2001:db8:64::", 48, "2001:db8:64:a00:0:100::", "2001:db8:64:cb00:71:900::"),
        ("2001:db8::", 32, "2001:db8:a00:1::", "2001:db8:cb00:7109::"),
    ] {
        here.translated = vec![(prefix.parse().unwrap(), length)];
        assert!(!may_have("example.com", private, &here), "{prefix}/{length}");
        assert!(may_have("example.com", public, &here), "{prefix}/{length}");
    }
}

#[test]
fn a_name_of_the_link_leads_to_the_link_and_nowhere_else() {
    let here = around(&[("10.77.0.50", 24), ("2001:db8:77::50", 64)]);
    let printer = Lookup { on_link: true, ..lookup("printer.local") };
    let instance = Lookup { name: "printer.example.com".to_owned(), ..printer.clone() };
    for (address, is_here) in [
        ("10.77.0.71", true),
        ("2001:db8:77::71", true),
        ("10.78.0.71", false),
        ("203.0.113.66", false),
        ("2001:db8:78::71", false),
        ("fd00::71", false),
        ("127.0.0.1", false),
    ] {
        for name in [&printer, &instance] {
            let found = name.may_have(address.parse().unwrap(), &here);
            assert_eq!(found.is_ok(), is_here, "{} {address}", name.name);
        }
        // What a neighbour says counts on the neighbour's link alone.
        let elsewhere = around(&[("172.16.0.5", 24)]);
        assert!(printer.may_have(address.parse().unwrap(), &elsewhere).is_err(), "{address}");
    }
}

#[test]
fn a_message_that_promises_more_records_than_it_has_is_read_as_far_as_it_is_needed() {
    let mut bytes = answered("example.com", vec![record("example.com", 60, a("203.0.113.2"))]);
    for count in [8, 10] {
        bytes[count + 1] = 3;
        let outcome = read_with(&lookup("example.com"), &bytes).unwrap().unwrap();
        assert_eq!(addresses(&outcome), ["203.0.113.2"]);
    }
    bytes[7] = 2;
    assert_eq!(read_with(&lookup("example.com"), &bytes), Some(Err(Failure::Malformed)));
}

#[test]
fn an_answer_that_is_cut_short_counts_for_what_it_has() {
    let truncated = |records: Vec<ResourceRecord<'static>>| {
        let mut bytes = answered("example.com", records);
        bytes[2] |= 0x02;
        read_with(&lookup("example.com"), &bytes).unwrap()
    };
    let some = truncated(vec![record("example.com", 60, a("203.0.113.2"))]);
    assert_eq!(addresses(&some.unwrap()), ["203.0.113.2"]);
    assert_eq!(truncated(Vec::new()), Err(Failure::Truncated));
}

#[test]
fn an_error_is_one_whether_or_not_it_repeats_the_question() {
    for (code, why) in [
        (1, Failure::Format),
        (2, Failure::Server),
        (4, Failure::NotImplemented),
        (5, Failure::Refused),
        (9, Failure::Other),
    ] {
        let mut bytes = answered("example.com", Vec::new());
        bytes[3] |= code;
        assert_eq!(read_with(&lookup("example.com"), &bytes), Some(Err(why)));
        let mut alone = bytes[..12].to_vec();
        alone[5] = 0;
        assert_eq!(read_with(&lookup("example.com"), &alone), Some(Err(why)), "12 bytes");
        alone[3] &= 0xf0;
        assert_eq!(read_with(&lookup("example.com"), &alone), None, "an answer to no question");
    }
}

#[test]
fn an_answer_to_something_else_is_ignored() {
    let bytes = answered("example.com", vec![record("example.com", 60, a("203.0.113.2"))]);
    assert!(read_with(&lookup("example.com"), &bytes).is_some());
    let here = Surroundings::default();
    assert_eq!(lookup("example.com").read_answer(8, &bytes, &here), None, "another id");
    assert_eq!(read_with(&lookup("example.org"), &bytes), None, "another name");
    let six = Lookup { kind: Kind::Aaaa, ..lookup("example.com") };
    assert_eq!(read_with(&six, &bytes), None, "another type");
    assert_eq!(read_with(&lookup("example.com"), &question("example.com", TYPE::A)), None);
}

#[test]
fn an_address_record_without_an_address_is_none() {
    let mut bytes = answered("example.com", vec![record("example.com", 60, a("203.0.113.2"))]);
    let length = bytes.len() - 5;
    assert_eq!(bytes[length..], [4, 203, 0, 113, 2]);
    bytes.truncate(length);
    bytes.push(0);
    let outcome = read_with(&lookup("example.com"), &bytes).unwrap().unwrap();
    assert_eq!(outcome.records, []);
}

#[test]
fn instances_lead_to_hosts_and_the_reply_fits_the_question() {
    let name = "my printer._http._tcp.local";
    let grant = Destination::parse("_http._tcp.local").unwrap();
    let find =
        Lookup { grant: grant.clone(), name: name.to_owned(), kind: Kind::Srv, on_link: true };
    let mut packet = Packet::new_reply(9);
    let target = Name::new("Printer.local").unwrap();
    let srv = RData::SRV(SRV { priority: 0, weight: 0, port: 631, target });
    packet.answers.push(record("My Printer._http._tcp.local", 120, srv.into_owned()));
    let outcome = read_with(&find, &packet.build_bytes_vec().unwrap()).unwrap().unwrap();
    let host = Host { name: "printer.local".to_owned(), service: grant.clone(), port: 631 };
    assert_eq!(outcome.records[0].as_host(&grant), Some(host));
    let asked = asked("My Printer._http._tcp.local", TYPE::SRV);
    let bytes = reply(&asked, Status::Known, &outcome.records);
    let reply = Packet::parse(&bytes).unwrap();
    assert_eq!(reply.answers.len(), 1);
    assert_eq!(reply.questions[0].qname.to_string(), "My Printer._http._tcp.local");
    let ptr = RData::PTR(PTR(Name::new("x._http._tcp.local").unwrap()));
    assert_eq!(ptr.type_code(), TYPE::PTR);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = read_question(&bytes);
        let _ = read_with(&lookup("example.com"), &bytes);
    }

    #[test]
    fn a_changed_answer_never_opens_what_it_must_not(
        at in any::<prop::sample::Index>(), value in any::<u8>()
    ) {
        let mut bytes = answered("example.com", vec![
            record("example.com", 60, cname("a.example")),
            record("a.example", 60, a("203.0.113.2")),
        ]);
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Some(Ok(outcome)) = read_with(&lookup("example.com"), &bytes) {
            for found in &outcome.records {
                prop_assert!((LEAST_TTL_S..=MOST_TTL_S).contains(&found.ttl));
                let address = found.as_address().unwrap();
                let here = Surroundings::default();
                prop_assert!(lookup("example.com").may_have(address, &here).is_ok());
            }
        }
    }

    #[test]
    fn a_reply_is_never_longer_than_a_question_may_be(name in "[a-z]{1,60}(\\.[a-z]{1,60}){1,3}") {
        let asked = asked(&name, TYPE::AAAA);
        let records = vec![Record::address("2001:db8::1".parse().unwrap(), 60); 20];
        let bytes = reply(&asked, Status::Known, &records);
        prop_assert!(!bytes.is_empty() && bytes.len() <= 512, "{}", bytes.len());
    }
}

#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]

use super::super::{Connection, NetworkGrants};
use super::*;
use crate::app_manifest::ComponentId;
use proptest::prelude::*;
use simple_dns::rdata::{CNAME, PTR, SRV};

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
    let hosts = [("printer.local".to_owned(), Destination::parse("_http._tcp.local").unwrap())];
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
    assert_eq!(Ipv4Addr::from_bits(found.address), super::super::address::Link::of(1002).app_v4());
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
    assert_eq!(plain.question(9), shouted.question(9), "case carries bits");
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
    lookup(name).read_answer(9, &answered(name, records)).unwrap()
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
        read("example.com", records)
    };
    assert_eq!(addresses(&chain(3)), ["203.0.113.9"]);
    assert_eq!(addresses(&chain(7)), ["203.0.113.9"]);
    assert_eq!(addresses(&chain(12)), Vec::<String>::new());
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

#[test]
fn a_public_name_never_leads_to_somebody_near() {
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
        assert_eq!(outcome.forbidden, [private.parse::<IpAddr>().unwrap()]);
        assert!(outcome.records.is_empty(), "{private}");
    }
    for private in [
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
    ] {
        assert!(!may_have("example.com", private.parse().unwrap()), "{private}");
    }
    assert!(may_have("example.com", "2001:db8::1".parse().unwrap()));
    for local in ["nas.lan", "nas", "nas.local", "nas.home.arpa"] {
        assert!(may_have(local, "192.168.1.1".parse().unwrap()), "{local}");
        for never in ["127.0.0.1", "198.18.0.1", "224.0.0.1", "::1"] {
            assert!(!may_have(local, never.parse().unwrap()), "{local} {never}");
        }
    }
}

#[test]
fn an_answer_to_something_else_is_ignored() {
    let bytes = answered("example.com", vec![record("example.com", 60, a("203.0.113.2"))]);
    assert!(lookup("example.com").read_answer(9, &bytes).is_some());
    assert_eq!(lookup("example.com").read_answer(8, &bytes), None, "another id");
    assert_eq!(lookup("example.org").read_answer(9, &bytes), None, "another name");
    let six = Lookup { kind: Kind::Aaaa, ..lookup("example.com") };
    assert_eq!(six.read_answer(9, &bytes), None, "another type");
    assert_eq!(lookup("example.com").read_answer(9, &question("example.com", TYPE::A)), None);
}

#[test]
fn an_address_record_without_an_address_is_none() {
    let mut bytes = answered("example.com", vec![record("example.com", 60, a("203.0.113.2"))]);
    let length = bytes.len() - 5;
    assert_eq!(bytes[length..], [4, 203, 0, 113, 2]);
    bytes.truncate(length);
    bytes.push(0);
    let outcome = lookup("example.com").read_answer(9, &bytes).unwrap();
    assert_eq!(outcome.records, []);
}

#[test]
fn instances_lead_to_hosts_and_the_reply_fits_the_question() {
    let name = "my printer._http._tcp.local";
    let grant = Destination::parse("_http._tcp.local").unwrap();
    let find = Lookup { grant, name: name.to_owned(), kind: Kind::Srv, on_link: true };
    let mut packet = Packet::new_reply(9);
    let target = Name::new("Printer.local").unwrap();
    let srv = RData::SRV(SRV { priority: 0, weight: 0, port: 631, target });
    packet.answers.push(record("My Printer._http._tcp.local", 120, srv.into_owned()));
    let outcome = find.read_answer(9, &packet.build_bytes_vec().unwrap()).unwrap();
    assert_eq!(outcome.records[0].as_host(), Some("printer.local".to_owned()));
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
        let _ = lookup("example.com").read_answer(9, &bytes);
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
        if let Some(outcome) = lookup("example.com").read_answer(9, &bytes) {
            for found in &outcome.records {
                prop_assert!((LEAST_TTL_S..=MOST_TTL_S).contains(&found.ttl));
                prop_assert!(found.as_address().is_some_and(|a| may_have("example.com", a)));
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

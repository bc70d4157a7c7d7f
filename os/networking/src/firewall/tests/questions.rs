//! Questions of the device to name servers, by UDP and over TCP.

use super::*;

#[test]
fn the_service_begins_tcp_connections_to_name_servers_and_nothing_else() {
    let apps = [app(1001, connecting(vec![to("example.com")]))];
    let kernel = Kernel::new(&apps);
    let question = Packet {
        from: String::new(),
        owner: Some(SERVICE),
        ..outward(1001, "203.0.113.53", resolution::PORT)
    };
    let v6 = Packet { destination: "2001:db8::53".parse().unwrap(), ..question.clone() };
    for packet in [&question, &v6] {
        assert_eq!(kernel.hook(Hook::Output, packet), End::Accept, "{packet:?}");
    }
    // To another port, as somebody else, to an app, with another protocol than TCP and UDP.
    for port in [22, 54, 80, 123, 443, 853, 5353] {
        let other = Packet { port, ..question.clone() };
        assert_eq!(kernel.hook(Hook::Output, &other), End::Drop, "{port}");
    }
    for owner in [Some(SERVICE + 1), Some(1001), None] {
        let other = Packet { owner, ..question.clone() };
        assert_eq!(kernel.hook(Hook::Output, &other), End::Drop, "{owner:?}");
    }
    let inward = Packet { to: Veth::of(1001).device(), ..question.clone() };
    assert_eq!(kernel.hook(Hook::Output, &inward), End::Drop);
    assert_eq!(kernel.hook(Hook::Output, &Packet { protocol: 132, ..question.clone() }), End::Drop);
    // Who sends from that port begins nothing here.
    let outside = Packet {
        from: "eth0".to_owned(),
        to: String::new(),
        source: question.destination,
        destination: "10.0.0.5".parse().unwrap(),
        from_port: resolution::PORT,
        port: 40_000,
        ..question
    };
    assert_eq!(kernel.hook(Hook::Input, &outside), End::Drop);
}

/// A question is over after two seconds; what the table holds of it must be gone soon after, whatever the server does.
#[test]
fn no_question_to_a_name_server_stays_in_the_table() {
    let rules = ruleset(&[], SERVICE, &[]);
    let output = rules.chains.iter().find(|chain| chain.base == Some(Hook::Output)).unwrap();
    for (protocol, states) in [(6, 1..=8), (17, 1..=2)] {
        let is_question = |rule: &&Rule| {
            rule.matches.contains(&Match::Protocol(protocol))
                && rule.matches.contains(&Match::Ports(PortRange::one(resolution::PORT)))
        };
        let mut questions = output.rules.iter().filter(is_question).map(|rule| &rule.action);
        let Some(Action::Timeouts(name)) = questions.next() else { panic!("{protocol}") };
        assert_eq!(questions.next(), Some(&Action::Accept), "{protocol}");
        let timeouts = rules.timeouts.iter().find(|timeouts| timeouts.name == *name).unwrap();
        assert_eq!(timeouts.protocol, protocol);
        for state in states {
            let seconds = timeouts.seconds.iter().find(|(of, _)| *of == state);
            assert!(seconds.is_some_and(|(_, seconds)| *seconds <= QUESTION_S), "{state}");
        }
    }
}

#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]

use super::*;
use crate::name_proxy::Kind;
use holdfast_sandbox::network::Destination;
use proptest::prelude::*;

mod over_tcp;

fn lookup() -> Lookup {
    let grant = Destination::parse("example.com").unwrap();
    Lookup { grant, name: "example.com".to_owned(), kind: Kind::A, on_link: false }
}

fn server(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], PORT))
}

/// An answer to a question, with a code and perhaps an address.
fn answer(question: &[u8], code: u8, with_address: bool) -> Vec<u8> {
    let mut bytes = question.to_vec();
    (bytes[2], bytes[3]) = (0x81, 0x80 | code);
    let end = bytes.len() - if bytes[11] == 1 { 11 } else { 0 };
    bytes.truncate(end);
    bytes[11] = 0;
    if with_address {
        bytes[7] = 1;
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 9]);
    }
    bytes
}

/// Plays servers until the question is over: what each says to a question, if anything, and whether with EDNS.
fn play(
    servers: &mut Servers,
    list: &[SocketAddr],
    start: u64,
    says: impl Fn(SocketAddr, bool) -> Option<(u8, bool)>,
) -> (Vec<(SocketAddr, u64)>, Option<Outcome>, Exchange) {
    let order = servers.in_order(list, start);
    let mut exchange = Exchange::new(1001, &order, start);
    let (mut asked, mut now) = (Vec::new(), start);
    loop {
        match exchange.next(&lookup(), servers, 7, now) {
            Step::Failed => return (asked, None, exchange),
            Step::Wait => now = exchange.deadline().max(now + 1),
            Step::Connect(..) | Step::Close => panic!("nothing was truncated: {exchange:?}"),
            Step::Ask(to, question) => {
                asked.push((to, now - start));
                let Some((code, with_address)) = says(to, question[11] == 1) else {
                    continue;
                };
                let bytes = answer(&question, code, with_address);
                let place = asked.len() - 1;
                let around = Surroundings::default();
                let outcome =
                    exchange.on_answer(&lookup(), (place, &bytes), &around, servers, now + 5);
                if outcome.is_some() {
                    return (asked, outcome, exchange);
                }
                now += 5;
            }
        }
        assert!(now <= start + 10_000, "it does not end: {exchange:?}");
    }
}

#[test]
fn a_server_that_says_nothing_is_left_for_the_next_and_asked_behind_it_after() {
    let mut servers = Servers::default();
    let list = [server(1), server(2)];
    let second = |to, _| (to == server(2)).then_some((0, true));
    let (asked, outcome, _) = play(&mut servers, &list, 0, second);
    assert!(outcome.is_some());
    assert_eq!(asked, [(server(1), 0), (server(2), 1_000)]);
    let (asked, ..) = play(&mut servers, &list, 2_000, second);
    assert_eq!(asked, [(server(2), 0)], "the one that answers is asked first");
    let (asked, ..) = play(&mut servers, &list, 70_000, second);
    assert_eq!(asked.len(), 2, "and the first one has another chance");
}

#[test]
fn a_server_that_says_an_error_is_left_at_once() {
    for (code, why) in [(2, Failure::Server), (5, Failure::Refused), (9, Failure::Other)] {
        let mut servers = Servers::default();
        let list = [server(1), server(2)];
        let says = |to, _| Some(if to == server(1) { (code, false) } else { (0, true) });
        let (asked, outcome, exchange) = play(&mut servers, &list, 0, says);
        assert!(outcome.is_some(), "{why}");
        assert_eq!(asked, [(server(1), 0), (server(2), 5)], "{why}");
        assert_eq!(exchange.failures().next(), Some((server(1), why)));
        // Where all of them say so, the question ends, and it was no silence.
        let (_, outcome, exchange) = play(&mut servers, &list, 0, |_, _| Some((code, false)));
        assert_eq!(outcome, None);
        assert!(!exchange.is_silence(), "{why}");
    }
}

#[test]
fn a_server_that_refuses_edns_is_asked_without_it_and_that_is_remembered() {
    for code in [1, 4] {
        let mut servers = Servers::default();
        let says = |_, edns| Some(if edns { (code, false) } else { (0, true) });
        let (asked, outcome, _) = play(&mut servers, &[server(1)], 0, says);
        assert!(outcome.is_some());
        assert_eq!(asked.len(), 2);
        let (asked, ..) = play(&mut servers, &[server(1)], 10, says);
        assert_eq!(asked.len(), 1, "it is not tried again each time");
    }
    // One that fails for EDNS, or says nothing to it, is asked without it as well.
    for answer in [Some((2, false)), None] {
        let says = |_, edns: bool| if edns { answer } else { Some((0, true)) };
        let (_, outcome, _) = play(&mut Servers::default(), &[server(1)], 0, says);
        assert!(outcome.is_some());
    }
}

#[test]
fn silence_of_all_ends_in_time_and_is_called_so() {
    for count in 1..=4 {
        let list: Vec<_> = (1..=count).map(server).collect();
        let (asked, outcome, exchange) = play(&mut Servers::default(), &list, 0, |_, _| None);
        assert_eq!((outcome, exchange.is_silence()), (None, true));
        for one in list {
            assert!(asked.iter().any(|(to, _)| *to == one), "{one} was not asked: {asked:?}");
        }
        assert!(asked.last().is_some_and(|(_, at)| *at < WITHIN_MS), "{asked:?}");
    }
    let (asked, ..) = play(&mut Servers::default(), &[server(1)], 0, |_, _| None);
    assert_eq!(asked.len(), 3, "a lost datagram is not the end");
}

#[test]
fn an_answer_that_comes_late_counts() {
    let mut servers = Servers::default();
    let mut exchange = Exchange::new(1001, &[server(1), server(2)], 0);
    let Step::Ask(_, first) = exchange.next(&lookup(), &mut servers, 7, 0) else { panic!() };
    assert!(matches!(exchange.next(&lookup(), &mut servers, 8, 1_000), Step::Ask(..)));
    let late = answer(&first, 0, true);
    let around = Surroundings::default();
    let outcome = exchange.on_answer(&lookup(), (0, &late), &around, &mut servers, 1_400);
    assert!(outcome.is_some());
    assert_eq!(servers.in_order(&[server(1), server(2)], 1_500)[0], server(1));
}

proptest! {
    /// Whatever servers say, a question ends, and buys no more than so many questions.
    #[test]
    fn no_server_makes_it_ask_in_a_storm(
        says in proptest::collection::vec((any::<bool>(), 0u8..12, any::<bool>()), 1..20),
        count in 1u8..=4
    ) {
        let list: Vec<_> = (1..=count).map(server).collect();
        let next = std::cell::Cell::new(0);
        let (asked, outcome, exchange) = play(&mut Servers::default(), &list, 0, |_, _| {
            let (speaks, code, with_address) = says[next.get() % says.len()];
            next.set(next.get() + 1);
            speaks.then_some((code, with_address))
        });
        prop_assert!(asked.len() <= 4 * usize::from(count), "{asked:?}");
        prop_assert!(outcome.is_some() || exchange.failures().count() == list.len());
    }
}

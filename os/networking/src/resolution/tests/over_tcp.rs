//! Answers that are truncated to nothing, and the questions over TCP that follow.

use super::*;
use holdfast_sandbox::network::connections::TCP_QUESTIONS;

/// What a server does with a question over TCP.
#[derive(Debug, Clone, Copy)]
enum Does {
    Nothing,
    Fails(Failure),
    Says(fn(&[u8]) -> Vec<u8>),
}

const ANSWERS: Does = Does::Says(|question| answer(question, 0, true));

fn truncated(question: &[u8]) -> Vec<u8> {
    let mut bytes = answer(question, 0, false);
    bytes[2] |= 0x02;
    bytes
}

/// The question in what is sent over TCP.
fn unframed(bytes: &[u8]) -> Vec<u8> {
    let question = Arriving::default().take(bytes).unwrap().unwrap().to_vec();
    assert_eq!(question.len() + 2, bytes.len());
    question
}

/// Plays servers that truncate what they say by UDP, or say nothing: who was asked over TCP, and when.
fn play_truncated(
    servers: &mut Servers,
    list: &[SocketAddr],
    truncates: impl Fn(SocketAddr) -> bool,
    does: impl Fn(SocketAddr) -> Does,
) -> (Vec<(SocketAddr, u64)>, Option<Outcome>, Exchange) {
    let order = servers.in_order(list, 0);
    let mut exchange = Exchange::new(1001, &order, 0);
    let (mut connected, mut sent, mut is_open, mut now) = (Vec::new(), 0, false, 0);
    let around = Surroundings::default();
    for id in 100.. {
        match exchange.next(&lookup(), servers, id, now) {
            Step::Failed => {
                assert!(!is_open && now < WITHIN_MS + 10, "at {now}: {exchange:?}");
                return (connected, None, exchange);
            }
            Step::Wait => now = exchange.deadline().max(now + 1),
            Step::Close => {
                assert!(is_open, "there is nothing to close: {exchange:?}");
                is_open = false;
            }
            Step::Ask(to, question) => {
                (sent, now) = (sent + 1, now + 5);
                if truncates(to) {
                    let bytes = truncated(&question);
                    let answer = (sent - 1, bytes.as_slice());
                    let outcome = exchange.on_answer(&lookup(), answer, &around, servers, now);
                    assert_eq!(outcome, None);
                }
            }
            Step::Connect(to, bytes) => {
                assert!(!is_open, "a second connection: {exchange:?}");
                let question = unframed(&bytes);
                assert_eq!((&question[..2], question[11]), (&id.to_be_bytes()[..], 0), "no EDNS");
                connected.push((to, now));
                now += 5;
                match does(to) {
                    Does::Nothing => is_open = true,
                    Does::Fails(why) => exchange.on_tcp_failure(why, servers, now),
                    Does::Says(says) => {
                        let bytes = says(&question);
                        let outcome =
                            exchange.on_tcp_answer(&lookup(), &bytes, &around, servers, now);
                        if outcome.is_some() {
                            return (connected, outcome, exchange);
                        }
                    }
                }
            }
        }
    }
    panic!("it does not end: {exchange:?}")
}

#[test]
fn a_name_that_all_servers_truncate_is_asked_for_over_tcp() {
    let list = [server(1), server(2)];
    let mut servers = Servers::default();
    let (connected, outcome, _) = play_truncated(&mut servers, &list, |_| true, |_| ANSWERS);
    let records = outcome.unwrap().records;
    assert_eq!(records[0].as_address(), Some([203, 0, 113, 9].into()));
    assert_eq!(connected, [(server(1), 5)], "the same server, at once");
    assert_eq!(servers.in_order(&list, 10), list);
}

#[test]
fn a_server_that_fails_over_tcp_is_left_for_the_next_with_the_reason() {
    let too_long = Arriving::default().take(&[0x10, 0x01]).unwrap_err();
    assert_eq!(too_long, Failure::TooLong);
    let cases: [(Does, Failure); 8] = [
        (Does::Fails(Failure::TcpRefused), Failure::TcpRefused),
        (Does::Fails(Failure::TcpClosed), Failure::TcpClosed),
        (Does::Fails(Failure::TcpUnreachable), Failure::TcpUnreachable),
        (Does::Fails(too_long), Failure::TooLong),
        (
            Does::Says(|question| {
                let mut bytes = answer(question, 0, true);
                bytes[1] ^= 1;
                bytes
            }),
            Failure::OtherQuestion,
        ),
        (
            Does::Says(|question| {
                let mut bytes = answer(question, 0, true);
                bytes[13] = b'x';
                bytes
            }),
            Failure::OtherQuestion,
        ),
        (Does::Says(|question| answer(question, 2, false)), Failure::Server),
        // It is not asked for a third time.
        (Does::Says(truncated), Failure::Truncated),
    ];
    let list = [server(1), server(2)];
    for (does, why) in cases {
        let mut servers = Servers::default();
        let first = |to| if to == server(1) { does } else { ANSWERS };
        let (connected, outcome, exchange) = play_truncated(&mut servers, &list, |_| true, first);
        assert!(outcome.is_some(), "{why}");
        assert_eq!(connected, [(server(1), 5), (server(2), 15)], "{why}");
        assert_eq!(exchange.failures().next(), Some((server(1), why)));
        // The next question meets the same only where it is of the name.
        let is_first = servers.in_order(&list, 100)[0] == server(1);
        assert_eq!(is_first, !why.is_for_every_name(), "{why}");
        // Where all of them do so, the question ends, and it was no silence.
        let (connected, outcome, exchange) =
            play_truncated(&mut Servers::default(), &list, |_| true, |_| does);
        assert_eq!((outcome, connected.len()), (None, 2), "{why}");
        assert!(exchange.failures().all(|(_, found)| found == why), "{exchange:?}");
        assert!(!exchange.is_silence(), "{why}");
    }
}

#[test]
fn a_server_that_is_silent_over_tcp_is_left_for_the_next_in_time() {
    let list = [server(1), server(2)];
    let first = |to| if to == server(1) { Does::Nothing } else { ANSWERS };
    let mut servers = Servers::default();
    let (connected, outcome, exchange) = play_truncated(&mut servers, &list, |_| true, first);
    assert!(outcome.is_some());
    assert_eq!(connected, [(server(1), 5), (server(2), 5 + TCP_WITHIN_MS + 5)]);
    assert_eq!(exchange.failures().next(), Some((server(1), Failure::TcpSilent)));
    let list = [1, 2, 3, 4].map(server);
    let (connected, outcome, exchange) =
        play_truncated(&mut Servers::default(), &list, |_| true, |_| Does::Nothing);
    assert_eq!((outcome, connected.len()), (None, 3), "the question has an end");
    assert!(!exchange.is_silence(), "they have said that it is too much");
}

#[test]
fn what_comes_by_udp_while_a_connection_is_open_counts_and_opens_no_other() {
    let mut servers = Servers::default();
    let mut exchange = Exchange::new(1001, &[server(1), server(2)], 0);
    let around = Surroundings::default();
    let asked = |step| match step {
        Step::Ask(_, question) => question,
        other => panic!("{other:?}"),
    };
    let first = asked(exchange.next(&lookup(), &mut servers, 7, 0));
    let second = asked(exchange.next(&lookup(), &mut servers, 8, 1_000));
    let bytes = truncated(&second);
    exchange.on_answer(&lookup(), (1, &bytes), &around, &mut servers, 1_100);
    assert!(matches!(exchange.next(&lookup(), &mut servers, 9, 1_100), Step::Connect(..)));
    // The first one truncates as well, late: it has to wait for the connection to the second.
    let bytes = truncated(&first);
    let mut other = exchange.clone();
    other.on_answer(&lookup(), (0, &bytes), &around, &mut servers, 1_200);
    assert_eq!(other.next(&lookup(), &mut servers, 10, 1_200), Step::Wait);
    assert_eq!(other.deadline(), 1_100 + TCP_WITHIN_MS);
    other.on_tcp_failure(Failure::TcpClosed, &mut servers, 1_300);
    let Step::Connect(to, _) = other.next(&lookup(), &mut servers, 11, 1_300) else { panic!() };
    assert_eq!(to, server(1));
    // Or it answers, late.
    let late = answer(&first, 0, true);
    let outcome = exchange.on_answer(&lookup(), (0, &late), &around, &mut servers, 1_200);
    assert!(outcome.is_some());
}

/// An exchange whose one server has truncated its answer, and the step after that.
fn begin(servers: &mut Servers, asker: u32, now: u64) -> (Exchange, Step) {
    let mut exchange = Exchange::new(asker, &[server(1)], now);
    let Step::Ask(_, question) = exchange.next(&lookup(), servers, 7, now) else { panic!() };
    let (bytes, around) = (truncated(&question), Surroundings::default());
    exchange.on_answer(&lookup(), (0, &bytes), &around, servers, now);
    let step = exchange.next(&lookup(), servers, 8, now);
    (exchange, step)
}

#[test]
fn two_questions_at_the_bound_wait_for_a_place_and_for_no_longer_than_a_connection() {
    let mut servers = Servers::default();
    for number in 0..TCP_QUESTIONS {
        let (_, step) = begin(&mut servers, 1001, 100 * u64::from(number));
        assert!(matches!(step, Step::Connect(..)), "{number}");
    }
    let (mut first, step) = begin(&mut servers, 1001, 500);
    assert_eq!((step, first.deadline()), (Step::Wait, TCP_WITHIN_MS));
    let (mut second, step) = begin(&mut servers, 1001, 500);
    assert_eq!((step, second.deadline()), (Step::Wait, TCP_WITHIN_MS));
    // Somebody else does not wait.
    assert!(matches!(begin(&mut servers, 1002, 500).1, Step::Connect(..)));
    // One place is free at this time, which the first one takes, and the second waits for the next.
    let step = first.next(&lookup(), &mut servers, 9, TCP_WITHIN_MS);
    assert!(matches!(step, Step::Connect(..)));
    assert_eq!(second.next(&lookup(), &mut servers, 9, TCP_WITHIN_MS), Step::Wait);
    assert_eq!(second.deadline(), 100 + TCP_WITHIN_MS);
    // Others are faster, until it has waited for as long as a connection lasts.
    for at in [100, 200, 300] {
        assert!(matches!(begin(&mut servers, 1001, at + TCP_WITHIN_MS).1, Step::Connect(..)));
    }
    assert_eq!(second.next(&lookup(), &mut servers, 9, 300 + TCP_WITHIN_MS), Step::Wait);
    assert_eq!(second.deadline(), 500 + TCP_WITHIN_MS);
    let step = second.next(&lookup(), &mut servers, 9, 500 + TCP_WITHIN_MS);
    assert_eq!(step, Step::Failed, "there is no other server");
    assert_eq!(second.failures().next(), Some((server(1), Failure::NoConnection)));
    assert!(!second.is_silence());
}

proptest! {
    /// Whatever servers do, a question ends in time, and buys one connection of each server at most, one after the
    /// other.
    #[test]
    fn no_server_makes_it_connect_in_a_storm(
        does in proptest::collection::vec((any::<bool>(), 0u8..6), 4),
        count in 1u8..=4
    ) {
        let list: Vec<_> = (1..=count).map(server).collect();
        let of = |to: SocketAddr| {
            let place = list.iter().position(|one| *one == to).unwrap();
            does[place]
        };
        let (connected, outcome, exchange) = play_truncated(
            &mut Servers::default(),
            &list,
            |to| of(to).0,
            |to| match of(to).1 {
                0 => Does::Nothing,
                1 => Does::Fails(Failure::TcpRefused),
                2 => Does::Fails(Failure::TooLong),
                3 => Does::Says(truncated),
                4 => Does::Says(|_| vec![0; 12]),
                _ => ANSWERS,
            },
        );
        let mut once: Vec<_> = connected.iter().map(|(to, _)| *to).collect();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), connected.len(), "{:?}", connected);
        prop_assert!(connected.iter().all(|(to, _)| of(*to).0), "{:?}", connected);
        prop_assert!(outcome.is_some() || exchange.failures().count() > 0);
    }
}

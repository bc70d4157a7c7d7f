use super::*;
use proptest::prelude::*;

const NONCE: [u8; 8] = *b"nonce-01";
const SHOWN_US: u64 = 1_790_000_000_000_000;
const AT: Instant = Instant { monotonic_us: 5_100_000, shown_us: SHOWN_US };
/// 100 ms before [`AT`].
const ASKED_US: u64 = 5_000_000;

fn stamp(us: u64) -> [u8; 8] {
    let seconds = (us / 1_000_000).wrapping_add(2_208_988_800) & 0xffff_ffff;
    let fraction = ((us % 1_000_000) << 32).div_ceil(1_000_000);
    (seconds << 32 | fraction).to_be_bytes()
}

/// An answer of a server that held the question for 20 ms and sent it back at `sent_us`.
fn answer(sent_us: u64) -> [u8; 48] {
    let mut message = [0; 48];
    message[0] = 0x24;
    message[1] = 2;
    message[24..32].copy_from_slice(&NONCE);
    message[32..40].copy_from_slice(&stamp(sent_us.saturating_sub(20_000)));
    message[40..].copy_from_slice(&stamp(sent_us));
    message
}

fn read_it(message: &[u8]) -> Option<Answer> {
    read(message, NONCE, ASKED_US, AT)
}

#[test]
fn an_answer_says_how_far_the_clock_is_behind() {
    // 100 ms there and back, of which the server had 20: it was sent 40 ms ago.
    for (sent, behind) in [
        (SHOWN_US - 40_000, 0),
        (SHOWN_US + 3_600_000_000, 3_600_040_000),
        (SHOWN_US - 86_400_000_000, -86_399_960_000),
        // Beyond 2036, where the counter of NTP has begun anew, and beyond 2045.
        (2_400_000_000_000_000, 2_400_000_000_000_000 - SHOWN_US.cast_signed() + 40_000),
    ] {
        assert_eq!(read_it(&answer(sent)), Some(Answer::Behind(behind, 40_000)), "{sent}");
    }
}

#[test]
fn a_clock_beyond_2036_reads_answers_of_its_own_time() {
    let shown_us = 2_240_000_000_000_000;
    let at = Instant { shown_us, ..AT };
    let behind = read(&answer(shown_us - 40_000), NONCE, ASKED_US, at);
    assert_eq!(behind, Some(Answer::Behind(0, 40_000)));
}

#[test]
fn what_is_no_answer_is_passed_over_and_what_is_of_no_use_has_a_reason() {
    let good = answer(SHOWN_US);
    assert!(read_it(&good).is_some());
    let with = |at: usize, byte: u8| {
        let mut message = good;
        message[at] = byte;
        message
    };
    for (wrong, why) in [
        (with(0, 0x23), "a question"),
        (with(0, 0x25), "a broadcast"),
        (with(0, 0x2c), "version 5"),
        (with(24, 0), "an answer to another question"),
    ] {
        assert_eq!(read_it(&wrong), None, "{why}");
    }
    let useless = |message: &[u8]| match read_it(message) {
        Some(Answer::Useless(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(useless(&with(0, 0xe4)), Reason::Unsynchronised, "a server without the time");
    assert_eq!(useless(&with(1, 16)), Reason::Unsynchronised, "a server without a source");
    assert_eq!(useless(&with(9, 17)), Reason::Far(17_000_000));
    assert_eq!(useless(&with(5, 40)), Reason::Far(20_000_000));
    let mut unknown = good;
    unknown[40..].fill(0);
    assert_eq!(useless(&unknown), Reason::Nonsense, "no time at all");
    let mut backwards = good;
    backwards[32..40].copy_from_slice(&stamp(SHOWN_US + 1_000_000));
    assert_eq!(useless(&backwards), Reason::Nonsense, "sent before it was received");
    let mut held = good;
    held[32..40].copy_from_slice(&stamp(SHOWN_US - 200_000));
    assert_eq!(useless(&held), Reason::Nonsense, "held longer than it was away");
    assert_eq!(read_it(good.get(..47).unwrap()), None, "cut short");
    let late = Instant { monotonic_us: ASKED_US + MOST_DELAY_US + 30_000, ..AT };
    let slow = read(&good, NONCE, ASKED_US, late);
    assert_eq!(slow, Some(Answer::Useless(Reason::Slow(MOST_DELAY_US + 10_000))));
    let before = read(&good, NONCE, AT.monotonic_us + 1, AT);
    assert_eq!(before, Some(Answer::Useless(Reason::Nonsense)), "before its question");
    let kiss = |code: &[u8]| {
        let mut message = with(1, 0);
        message[12..16].copy_from_slice(code);
        useless(&message)
    };
    assert_eq!((kiss(b"RATE"), kiss(b"INIT")), (Reason::Less, Reason::Less));
    assert_eq!((kiss(b"DENY"), kiss(b"RSTR")), (Reason::Never, Reason::Never));
    let said = Reason::Far(17_300_000).to_string();
    assert_eq!(said, "is 17.3 s from a clock, and at most 16.0 s are believed");
}

#[test]
fn a_coarse_server_is_believed_where_nobody_knows_better() {
    // It admits 10.2 s, as domain controllers do.
    let mut coarse = answer(SHOWN_US + 5_000_000);
    coarse[8..12].copy_from_slice(&[0, 10, 0x33, 0x33]);
    let Some(Answer::Behind(behind, doubt)) = read_it(&coarse) else { panic!() };
    assert!((10_239_000..10_241_000).contains(&doubt), "{doubt}");
    let alone = majority(&[(behind, doubt)]);
    assert!(matches!(alone, Outcome::Agreed { agree: 1, answered: 1, .. }), "{alone:?}");
    // A good one beside it is the one that counts.
    let both = majority(&[(behind, doubt), (700, 900)]);
    let agreed = Outcome::Agreed { behind_us: 700, doubt_us: 900, agree: 2, answered: 2 };
    assert_eq!(both, agreed);
}

#[test]
fn the_majority_is_believed_and_nobody_else() {
    let agreed = |behind_us, doubt_us, agree, answered| Outcome::Agreed {
        behind_us,
        doubt_us,
        agree,
        answered,
    };
    assert_eq!(majority(&[]), Outcome::Nobody);
    assert_eq!(majority(&[(7, 1000)]), agreed(7, 1000, 1, 1));
    // The surest of those that agree.
    assert_eq!(majority(&[(7_000, 90_000), (1_000, 10), (0, 400)]), agreed(1_000, 10, 3, 3));
    // One liar among three, wherever it stands and however sure it is.
    let liar = (18 * 31_536_000_000_000, 0);
    for at in 0..3 {
        let mut answers = vec![(500, 2_000), (900, 1_000)];
        answers.insert(at, liar);
        assert_eq!(majority(&answers), agreed(900, 1_000, 2, 3));
    }
    assert_eq!(majority(&[(0, 100), liar]), Outcome::Disagree(2));
    assert_eq!(majority(&[(0, 1), (0, 1), liar, liar]), Outcome::Disagree(4));
    // Two that do not agree with each other do not do so through a third that admits anything.
    assert_eq!(majority(&[(0, 1), (1_000_000, 600_000), (2_000_000, 1)]), Outcome::Disagree(3));
}

const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

/// A client that has asked two servers at [`ASKED_US`].
fn asking() -> Client {
    let mut client = Client::new();
    assert!(client.is_due(0));
    client.ask(&[(A, NONCE), (B, NONCE)], ASKED_US);
    assert!(!client.is_due(u64::MAX));
    client
}

#[test]
fn a_round_ends_with_its_last_answer_or_with_its_time() {
    let mut client = asking();
    client.on_message(A, &answer(SHOWN_US - 40_000), AT);
    assert_eq!(client.on_time(5_100), None, "one is missing");
    client.on_message(A, &answer(SHOWN_US), AT);
    client.on_message("10.0.0.3".parse().unwrap(), &answer(SHOWN_US), AT);
    assert_eq!(client.on_time(5_100), None, "the same once more, and a stranger");
    client.on_message(B, &answer(SHOWN_US - 40_000), AT);
    let agreed =
        |agree, answered| Some(Outcome::Agreed { behind_us: 0, doubt_us: 40_000, agree, answered });
    assert_eq!(client.on_time(5_100), agreed(2, 2));
    assert_eq!(client.deadline(), 5_100 + AGAIN_MS);
    client.confirm(5_100);
    assert_eq!(client.deadline(), 5_100 + CONFIRM_MS);

    let mut client = asking();
    client.on_message(B, &answer(SHOWN_US - 40_000), AT);
    assert_eq!(client.deadline(), 8_000);
    assert_eq!(client.on_time(8_000), agreed(1, 1));
    assert_eq!(client.heard(), [Heard { server: A, reason: None }], "who was silent is known");
}

#[test]
fn servers_that_do_not_answer_are_asked_ever_more_seldom_until_there_is_a_new_way() {
    let mut client = Client::new();
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..9 {
        client.ask(&[(A, NONCE)], now * 1000);
        now += ANSWER_WITHIN_MS;
        assert_eq!(client.on_time(now), Some(Outcome::Nobody));
        waits.push(client.deadline() - now);
        now = client.deadline();
    }
    assert_eq!(waits, [16, 32, 64, 128, 256, 512, 1024, 2048, 2048].map(|s| s * 1000));
    client.ask(&[(A, NONCE)], now * 1000);
    client.hurry(now);
    assert!(!client.is_due(now), "a round goes on");
    now += ANSWER_WITHIN_MS;
    client.on_time(now);
    client.hurry(now + 5);
    assert_eq!(client.deadline(), now + RETRY_MS, "servers are never pressed");
    client.hurry(now + RETRY_MS + 5);
    assert!(client.is_due(now + RETRY_MS + 5));
}

#[test]
fn a_server_that_asks_to_be_left_alone_is_and_the_others_are_not() {
    for (code, reason, rest) in
        [(b"RATE", Reason::Less, LESS_MS), (b"DENY", Reason::Never, NEVER_MS)]
    {
        let mut client = asking();
        let mut kiss = answer(SHOWN_US);
        kiss[1] = 0;
        kiss[12..16].copy_from_slice(code);
        client.on_message(A, &kiss, AT);
        client.on_message(B, &answer(SHOWN_US - 40_000), AT);
        assert!(matches!(client.on_time(5_100), Some(Outcome::Agreed { agree: 1, .. })));
        assert_eq!(client.heard(), [Heard { server: A, reason: Some(reason) }]);
        assert!(client.may_ask(B, 5_100));
        assert!(!client.may_ask(A, 5_100 + rest - 1));
        assert!(client.may_ask(A, 5_100 + rest));
    }
    // Servers that ask for it one after the other do not fill the memory.
    let mut client = Client::new();
    for last in 0..=255 {
        let server = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, last));
        client.ask(&[(server, NONCE)], ASKED_US);
        let mut kiss = answer(SHOWN_US);
        kiss[1] = 0;
        client.on_message(server, &kiss, AT);
        assert_eq!(client.on_time(5_100), Some(Outcome::Nobody));
    }
    assert!(client.resting.len() <= MAX_RESTING);
}

proptest! {
    #[test]
    fn arbitrary_answers_are_within_reach_of_the_clock_or_none(
        mut bytes in proptest::collection::vec(any::<u8>(), 40..60),
        monotonic_us in any::<u64>(),
        shown_us in any::<u64>(),
    ) {
        bytes[0] = 0x24;
        bytes.splice(24..32, NONCE);
        let at = Instant { monotonic_us, shown_us };
        if let Some(Answer::Behind(behind, doubt)) = read(&bytes, NONCE, 0, at) {
            prop_assert!(behind.unsigned_abs() <= (1u64 << 31) * 1_000_000 + 2_000_000);
            prop_assert!((0..=17_000_000).contains(&doubt));
        }
    }

    #[test]
    fn a_minority_never_moves_the_clock(
        liars in proptest::collection::vec((any::<i64>(), 0i64..2_000_000), 1..3),
        honest in proptest::collection::vec(-1000i64..1000, 3..4),
    ) {
        let right = honest.iter().map(|behind| (*behind, 1000));
        let answers: Vec<_> = liars.iter().copied().chain(right).collect();
        if let Outcome::Agreed { behind_us, .. } = majority(&answers) {
            // Whoever agrees with the honest ones is no further off than what it admits.
            prop_assert!(behind_us.unsigned_abs() <= 2_000_000 + 101_000);
        } else {
            prop_assert!(false, "{answers:?}");
        }
    }
}

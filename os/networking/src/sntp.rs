//! An SNTP client (RFC 5905, section 14) that believes the majority of several servers.
//!
//! An answer counts if it repeats the random number of its question, came within [`MOST_DELAY_US`] and is of a server
//! that says that it knows the time, however coarsely: the error that it admits is weighed against those of others.
//! None of this stops an attacker on the way: answers are not signed. What answers may do to the clock is decided by
//! `holdfast_lifecycle::clock`.
//!
//! A server that asks to be left alone is left alone, and the others are not. The client reports why an answer is of
//! no use; it reports no answer for silence alone.

use std::fmt;
use std::net::IpAddr;

/// UDP port of servers.
pub const PORT: u16 = 123;
/// Length of a message without extensions, in bytes; the client reads no more.
pub const MESSAGE_BYTES: usize = 48;
/// Most servers that are asked at once.
pub const MAX_SERVERS: usize = 4;
/// Longest time for the answers of a round, in milliseconds.
pub const ANSWER_WITHIN_MS: u64 = 3_000;
/// Time between rounds once the time is known, in milliseconds.
const AGAIN_MS: u64 = 2_048_000;
/// Time to the next round after one without a majority, in milliseconds: at first, and twice as long each time.
const RETRY_MS: u64 = 16_000;
/// Time to the round that confirms a time before init believes it, in milliseconds.
const CONFIRM_MS: u64 = holdfast_sandbox::clock::CONFIRM_AFTER_MS + 4_000;
/// Longest round trip of an answer, in microseconds: one that took longer says too little.
pub const MOST_DELAY_US: u64 = 2_000_000;
/// Largest distance from a reference clock at which a server is believed, in microseconds: beyond it, the server is
/// called unsynchronised (RFC 5905, `MAXDISP`). Domain controllers admit 10 seconds.
pub const MOST_DISTANCE_US: u64 = 16_000_000;
/// Time for which a server is left alone that asks to be asked less, in milliseconds, and for which one is that asks
/// not to be asked at all (RFC 5905, 7.4).
const LESS_MS: u64 = 2 * AGAIN_MS;
const NEVER_MS: u64 = 86_400_000;
/// Most servers that are remembered as left alone.
const MAX_RESTING: usize = 2 * MAX_SERVERS;
/// Difference between two correct servers beyond the errors that they admit, in microseconds.
const TOLERANCE_US: i64 = 100_000;
/// Seconds from 1900, where NTP counts from, to 1970.
const EPOCH_S: i64 = 2_208_988_800;

/// The client's clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// Microseconds of the monotonic clock.
    pub monotonic_us: u64,
    /// Microseconds since 1970 of the clock that is to be set.
    pub shown_us: u64,
}

/// Makes the question to a server, which says nothing of the device but a random number that comes back.
#[must_use]
pub fn question(nonce: [u8; 8]) -> [u8; MESSAGE_BYTES] {
    const VERSION_4_CLIENT: u8 = 0x23;
    let mut message = [0; MESSAGE_BYTES];
    message[0] = VERSION_4_CLIENT;
    message[40..].copy_from_slice(&nonce);
    message
}

/// The answer of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The clock is behind by the first number of microseconds, give or take the second.
    Behind(i64, i64),
    /// The answer is of no use, for this reason.
    Useless(Reason),
}

/// Reason for which a server's answer is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The server says that it does not know the time.
    Unsynchronised,
    /// The server admits to be so many microseconds from a reference clock.
    Far(u64),
    /// The answer took so many microseconds.
    Slow(u64),
    /// The times in the answer contradict each other.
    Nonsense,
    /// The server asks to be asked less (kiss code RATE, or an unknown one).
    Less,
    /// The server asks not to be asked (kiss codes DENY and RSTR).
    Never,
}

impl Reason {
    /// Returns the time for which the server is left alone, in milliseconds.
    fn rest_ms(self) -> Option<u64> {
        match self {
            Self::Less => Some(LESS_MS),
            Self::Never => Some(NEVER_MS),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsynchronised => formatter.write_str("does not know the time itself"),
            Self::Far(us) => write!(
                formatter,
                "is {} s from a clock, and at most {} s are believed",
                Seconds(*us),
                Seconds(MOST_DISTANCE_US)
            ),
            Self::Slow(us) => write!(
                formatter,
                "takes {} s to answer, and at most {} s are believed",
                Seconds(*us),
                Seconds(MOST_DELAY_US)
            ),
            Self::Nonsense => formatter.write_str("contradicts itself"),
            Self::Less => formatter.write_str("wants to be asked less"),
            Self::Never => formatter.write_str("wants not to be asked"),
        }
    }
}

/// Microseconds, as seconds with a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_add(50_000) / 100_000;
        write!(formatter, "{}.{}", tenths / 10, tenths % 10)
    }
}

/// Reads the answer to the question with this number, which was asked at `asked_us` of the monotonic clock; `None`
/// for a message that does not answer it.
#[must_use]
pub fn read(bytes: &[u8], nonce: [u8; 8], asked_us: u64, at: Instant) -> Option<Answer> {
    let message: &[u8; MESSAGE_BYTES] = bytes.first_chunk()?;
    let field = |from: usize| -> Option<[u8; 8]> { message.get(from..)?.first_chunk().copied() };
    let [first, stratum, ..] = *message;
    let (leap, version, mode) = (first >> 6, first >> 3 & 7, first & 7);
    if mode != 4 || !(1..=4).contains(&version) || field(24)? != nonce {
        return None;
    }
    if stratum == 0 {
        // What is not known may come to mean anything, and "less" harms nobody.
        let is_final = [b"DENY", b"RSTR"].iter().any(|code| message.get(12..16) == Some(&code[..]));
        return Some(Answer::Useless(if is_final { Reason::Never } else { Reason::Less }));
    }
    if leap == 3 || stratum > 15 {
        return Some(Answer::Useless(Reason::Unsynchronised));
    }
    Some(judge(message, asked_us, at).unwrap_or_else(Answer::Useless))
}

/// Judges the answer of a server that knows the time.
fn judge(message: &[u8; MESSAGE_BYTES], asked_us: u64, at: Instant) -> Result<Answer, Reason> {
    let field = |from: usize| -> Result<[u8; 8], Reason> {
        let chunk = message.get(from..).and_then(|rest| rest.first_chunk());
        chunk.copied().ok_or(Reason::Nonsense)
    };
    let [d0, d1, d2, d3, e0, e1, e2, e3] = field(4)?;
    let distance = (short_us([d0, d1, d2, d3]) / 2).saturating_add(short_us([e0, e1, e2, e3]));
    let stamp = |from| stamp_us(field(from)?, at.shown_us).ok_or(Reason::Nonsense);
    let (received, sent) = (stamp(32)?, stamp(40)?);
    let held = sent.checked_sub(received).and_then(|held| u64::try_from(held).ok());
    let whole = at.monotonic_us.checked_sub(asked_us);
    let delay = whole.zip(held).and_then(|(whole, held)| whole.checked_sub(held));
    let delay = delay.ok_or(Reason::Nonsense)?;
    if delay > MOST_DELAY_US {
        return Err(Reason::Slow(delay));
    }
    if distance > MOST_DISTANCE_US {
        return Err(Reason::Far(distance));
    }
    let signed = |number: u64| i64::try_from(number).map_err(|_| Reason::Nonsense);
    let back = signed(delay / 2)?;
    let behind = sent.checked_add(back).zip(Some(signed(at.shown_us)?));
    let behind =
        behind.and_then(|(sent, shown)| sent.checked_sub(shown)).ok_or(Reason::Nonsense)?;
    Ok(Answer::Behind(behind, back.saturating_add(signed(distance)?)))
}

/// Returns the microseconds of a 16.16 fixed-point number of seconds.
fn short_us(bytes: [u8; 4]) -> u64 {
    u64::from(u32::from_be_bytes(bytes)).saturating_mul(1_000_000) >> 16
}

/// Returns the microseconds since 1970 of an NTP timestamp, whose seconds since 1900 lack whole 2^32 of them: the
/// time nearest to `shown_us`. `None` for the timestamp that means "unknown".
fn stamp_us(stamp: [u8; 8], shown_us: u64) -> Option<i64> {
    let stamp = u64::from_be_bytes(stamp);
    if stamp == 0 {
        return None;
    }
    let seconds = u32::try_from(stamp >> 32).ok()?;
    let parts = i64::try_from((stamp & 0xffff_ffff).saturating_mul(1_000_000) >> 32).ok()?;
    let shown = i64::try_from(shown_us / 1_000_000).ok()?.checked_add(EPOCH_S)?;
    let low = u32::try_from(shown & 0xffff_ffff).ok()?;
    // The difference modulo 2^32, as the nearer of the two.
    let ahead = i64::from(seconds.wrapping_sub(low).cast_signed());
    let since_1970 = shown.checked_add(ahead)?.checked_sub(EPOCH_S)?;
    since_1970.checked_mul(1_000_000)?.checked_add(parts)
}

/// The outcome of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A majority of the servers that answered agrees on the time.
    Agreed {
        /// Microseconds by which the clock is behind; negative where it is ahead.
        behind_us: i64,
        /// Smallest error that one of them admits, in microseconds.
        doubt_us: i64,
        /// Number of servers that agree.
        agree: usize,
        /// Number of servers that have answered.
        answered: usize,
    },
    /// So many servers have answered, and no majority agrees.
    Disagree(usize),
    /// No server has said the time.
    Nobody,
}

/// A server of a round that has not said the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Address of the server.
    pub server: IpAddr,
    /// Reason for which its answer is of no use; `None` where it has not answered.
    pub reason: Option<Reason>,
}

/// Returns the outcome of answers, each with how much the clock is behind and by how much that may be off.
#[must_use]
pub fn majority(answers: &[(i64, i64)]) -> Outcome {
    let margin = |doubt: i64| doubt.saturating_add(TOLERANCE_US / 2);
    let agrees = |point: i64, (behind, doubt): (i64, i64)| {
        point >= behind.saturating_sub(margin(doubt))
            && point <= behind.saturating_add(margin(doubt))
    };
    // If any points are in most intervals, the lower end of one of these is one of them (Marzullo).
    let ends = answers.iter().map(|(behind, doubt)| behind.saturating_sub(margin(*doubt)));
    let together = |point: i64| answers.iter().filter(move |answer| agrees(point, **answer));
    let best = ends.max_by_key(|point| together(*point).count());
    let Some(best) = best else {
        return Outcome::Nobody;
    };
    let agree = together(best).count();
    let surest = together(best).min_by_key(|(_, doubt)| *doubt);
    match surest {
        Some((behind_us, doubt_us)) if agree > answers.len() / 2 => Outcome::Agreed {
            behind_us: *behind_us,
            doubt_us: *doubt_us,
            agree,
            answered: answers.len(),
        },
        _ => Outcome::Disagree(answers.len()),
    }
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    server: IpAddr,
    nonce: [u8; 8],
    at_us: u64,
    answer: Option<Answer>,
}

/// An SNTP client, which asks servers in rounds.
#[derive(Debug, Default)]
pub struct Client {
    /// Time at which the next round begins, in milliseconds of the monotonic clock; `None` while one goes on.
    due: Option<u64>,
    round: Vec<Asked>,
    /// Time at which the round ends even where an answer is missing, in milliseconds.
    until: u64,
    /// Time at which the last round ended, in milliseconds.
    ended: Option<u64>,
    /// Time to the round after the next one, where that has no result, in milliseconds.
    retry_ms: u64,
    /// Servers that are left alone, each until a time in milliseconds.
    resting: Vec<(IpAddr, u64)>,
    /// Servers of the last round that have not said the time.
    heard: Vec<Heard>,
}

impl Client {
    /// Makes a client that asks as soon as it may.
    #[must_use]
    pub fn new() -> Self {
        Self { due: Some(0), retry_ms: RETRY_MS, ..Self::default() }
    }

    /// True when a round is to begin.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    /// Returns the time at which there is something to do, in milliseconds of the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.due.unwrap_or(self.until)
    }

    /// Brings the next round forward, since servers may be reachable that were not: it begins at once, but no sooner
    /// than 16 seconds after the last.
    pub fn hurry(&mut self, now: u64) {
        self.retry_ms = RETRY_MS;
        let soon = self.ended.map_or(now, |ended| now.max(ended.saturating_add(RETRY_MS)));
        self.due = self.due.map(|due| due.min(soon));
    }

    /// True for a server that has not asked to be left alone.
    #[must_use]
    pub fn may_ask(&self, server: IpAddr, now: u64) -> bool {
        !self.resting.iter().any(|(resting, until)| *resting == server && now < *until)
    }

    /// Returns the servers of the last round that have not said the time, with their reasons.
    #[must_use]
    pub fn heard(&self) -> &[Heard] {
        &self.heard
    }

    /// Begins a round. The question to each server is made by [`question`] of its number.
    pub fn ask(&mut self, servers: &[(IpAddr, [u8; 8])], now_us: u64) {
        let asked = |(server, nonce): &(IpAddr, [u8; 8])| Asked {
            server: *server,
            nonce: *nonce,
            at_us: now_us,
            answer: None,
        };
        self.round = servers.iter().take(MAX_SERVERS).map(asked).collect();
        self.due = None;
        self.until = (now_us / 1000).saturating_add(ANSWER_WITHIN_MS);
    }

    /// Takes a message of a server.
    pub fn on_message(&mut self, from: IpAddr, bytes: &[u8], at: Instant) {
        for asked in self.round.iter_mut().filter(|a| a.server == from && a.answer.is_none()) {
            asked.answer = read(bytes, asked.nonce, asked.at_us, at);
        }
    }

    /// Returns the outcome of the round, once it is over.
    pub fn on_time(&mut self, now: u64) -> Option<Outcome> {
        let complete = self.round.iter().all(|asked| asked.answer.is_some());
        if self.due.is_some() || !(complete || now >= self.until) {
            return None;
        }
        let round = std::mem::take(&mut self.round);
        let times = round.iter().filter_map(|asked| match asked.answer {
            Some(Answer::Behind(behind, doubt)) => Some((behind, doubt)),
            _ => None,
        });
        let outcome = majority(&times.collect::<Vec<_>>());
        let heard = round.iter().filter_map(|asked| match asked.answer {
            Some(Answer::Behind(..)) => None,
            Some(Answer::Useless(why)) => Some(Heard { server: asked.server, reason: Some(why) }),
            None => Some(Heard { server: asked.server, reason: None }),
        });
        self.heard = heard.collect();
        self.resting.retain(|(_, until)| now < *until);
        for heard in &self.heard {
            if let Some(rest) = heard.reason.and_then(Reason::rest_ms)
                && self.resting.len() < MAX_RESTING
            {
                self.resting.push((heard.server, now.saturating_add(rest)));
            }
        }
        let wait = match outcome {
            Outcome::Agreed { .. } => AGAIN_MS,
            Outcome::Disagree(_) | Outcome::Nobody => self.retry_ms,
        };
        self.retry_ms = match outcome {
            Outcome::Agreed { .. } => RETRY_MS,
            _ => self.retry_ms.saturating_mul(2).min(AGAIN_MS),
        };
        self.due = Some(now.saturating_add(wait));
        self.ended = Some(now);
        Some(outcome)
    }

    /// Brings the next round forward, since init wants to have the time confirmed.
    pub fn confirm(&mut self, now: u64) {
        self.due = self.due.map(|due| due.min(now.saturating_add(CONFIRM_MS)));
    }
}

#[cfg(test)]
mod tests;

//! Bounds of connections: how many an app may have, and how large the kernel's table of them must be for all.
//!
//! The kernel has one table for the whole device. Nobody takes more of it than a share; the firewall enforces the
//! limits that stand here, and init sizes the table by their sum.

use crate::network::grants::NetworkGrants;

/// Connections to others that one app may have at once.
pub const MAX_CONNECTIONS: u32 = 128;
/// Connections that the outside may have to one app at once.
pub const MAX_INCOMING: u32 = 64;
/// Connections that one address outside may have to all apps at once.
pub const MAX_OF_ONE_ADDRESS: u32 = 16;
/// TCP connections to or from one app that begin in a second, in the long run, and at once: those that have ended
/// stay in the table for a while, and no limit counts them.
pub const BEGUN_PER_SECOND: u32 = 20;
/// TCP connections to or from one app that may begin at once.
pub const BEGUN_AT_ONCE: u32 = 64;
/// Seconds until a TCP connection that has ended is forgotten.
pub const ENDED_S: u32 = 5;
/// Seconds that the kernel may take to notice that a connection's time is over.
const NOTICED_WITHIN_S: u32 = 10;
/// Questions to name servers that stand in the table at once for one app: twenty a second, and as many that are
/// asked again, for [`QUESTION_S`] and as long as it takes to notice.
const QUESTIONS: u32 = 320;
/// Seconds until a question to a name server is forgotten.
pub const QUESTION_S: u32 = 5;
/// TCP connections to name servers that one app's questions may begin within [`TCP_QUESTION_S`], and so have at once.
pub const TCP_QUESTIONS: u32 = 4;
/// Seconds that a question over TCP may take, from the first packet of its connection to the last of its answer.
pub const TCP_QUESTION_S: u32 = 2;
/// Questions over TCP that stand in the table at once for one app: as many as begin while one lasts, is forgotten, and
/// that is noticed.
const TCP_QUESTIONS_COUNTED: u32 =
    TCP_QUESTIONS * (1 + (TCP_QUESTION_S + QUESTION_S + NOTICED_WITHIN_S) / TCP_QUESTION_S);
/// Connections that are kept for the services of the device, beyond the shares of all apps.
pub const RESERVE: u32 = 512;
/// Bytes of the kernel's memory that one connection takes, on the account of nobody.
pub const CONNECTION_BYTES: u32 = 320;

/// Connections that an app with these grants can have in the kernel's table, whatever it and the outside do.
#[must_use]
pub fn table_share(grants: &NetworkGrants) -> u32 {
    let ended = BEGUN_AT_ONCE
        .saturating_add(BEGUN_PER_SECOND.saturating_mul(ENDED_S.saturating_add(NOTICED_WITHIN_S)));
    let begun = if grants.connections.is_empty() && grants.applications.is_empty() {
        0
    } else {
        MAX_CONNECTIONS.saturating_add(ended)
    };
    let incoming = if grants.serves() { MAX_INCOMING.saturating_add(ended) } else { 0 };
    let questions =
        if grants.uses_names() { QUESTIONS.saturating_add(TCP_QUESTIONS_COUNTED) } else { 0 };
    begun.saturating_add(incoming).saturating_add(questions)
}

/// Connections that the kernel's table must have room for: everybody's share, and the reserve of the services.
#[must_use]
pub fn table_size<'grants>(all: impl Iterator<Item = &'grants NetworkGrants>) -> u32 {
    all.map(table_share).fold(RESERVE, u32::saturating_add)
}

//! Sessions of people who have signed in: how long they last, and what protects them from other sites.

use sha2::{Digest, Sha256};

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;

/// What a session is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A browser, which has it in a cookie.
    Browser,
    /// The command line, which has it in a file.
    CommandLine,
}

impl Client {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Browser, Self::CommandLine];

    /// Returns the word for it, as the database has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::CommandLine => "command-line",
        }
    }

    /// Reads the word for it.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|client| client.word() == word)
    }

    /// Returns the seconds for which a session that nobody uses lasts.
    #[must_use]
    pub const fn idle_s(self) -> u64 {
        match self {
            Self::Browser => HOUR_S,
            Self::CommandLine => 24 * HOUR_S,
        }
    }

    /// Returns the seconds after which a session ends however it is used: then the provider is asked again, and says whether the person is
    /// still there, and in which groups.
    #[must_use]
    pub const fn absolute_s(self) -> u64 {
        match self {
            Self::Browser => 12 * HOUR_S,
            Self::CommandLine => 7 * 24 * HOUR_S,
        }
    }
}

/// Seconds after which it is written again that a session was used.
pub const WRITTEN_EVERY_S: u64 = MINUTE_S;

/// When a session was begun and used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it was begun, in seconds since 1970.
    pub began_at: u64,
    /// When it was used last, in seconds since 1970.
    pub used_at: u64,
}

impl Times {
    /// Returns when the session ends if it is not used any more, in seconds since 1970.
    #[must_use]
    pub fn ends_at(&self, client: Client) -> u64 {
        let idle = self.used_at.saturating_add(client.idle_s());
        idle.min(self.began_at.saturating_add(client.absolute_s()))
    }

    /// True while it lasts. One that was used after `now` is of a clock that went back, and lasts no longer for it.
    #[must_use]
    pub fn is_live(&self, client: Client, now: u64) -> bool {
        now < self.ends_at(client)
    }
}

/// Returns what a request that changes something has to repeat in a header, where the session comes in a cookie: another site can have a
/// browser send the cookie, and cannot read this.
#[must_use]
pub fn csrf_token(session: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"holdfast-csrf-1\0");
    hash.update(session);
    let hash: [u8; 32] = hash.finalize().into();
    holdfast_types::hex::hex(&hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_when_it_is_idle_and_however_it_is_used() {
        for client in Client::ALL {
            let began_at = 1_000_000;
            let new = Times { began_at, used_at: began_at };
            assert!(new.is_live(client, began_at + client.idle_s() - 1), "{client:?}");
            assert!(!new.is_live(client, began_at + client.idle_s()), "{client:?}");
            let end = began_at + client.absolute_s();
            let used = Times { began_at, used_at: end - 1 };
            assert!(used.is_live(client, end - 1) && !used.is_live(client, end), "{client:?}");
            let future = Times { began_at, used_at: u64::MAX };
            assert!(!future.is_live(client, end), "a clock that went back");
            assert_eq!(Client::of_word(client.word()), Some(client));
        }
    }

    #[test]
    fn a_csrf_token_tells_nothing_of_its_session_and_is_no_others() {
        let token = csrf_token("hfs_a");
        assert_eq!(token, csrf_token("hfs_a"), "the control");
        assert_ne!(token, csrf_token("hfs_b"));
        assert_ne!(token, holdfast_types::hex::sha256(b"hfs_a"), "what the session is kept as");
    }
}

//! Sessions of people who look at pages: from a cookie to who it is and what he may do.
//!
//! A session begins with a management token and never outlives it: each request asks the database anew for the token's holder, so a token that
//! was removed, or has ended, ends its sessions. What is kept of both secrets is their hashes. Sessions lie in this process's memory; another way
//! to sign in has to bring what [`Sessions::begin`], [`Sessions::find`] and [`Sessions::end`] do, and nothing else here knows of tokens.

use holdfast_service_api::secret::{self, NoRandom, Secret};
use holdfast_service_api::{Refusal, Service};
use holdfast_service_domain::problem::Problem;
use holdfast_service_store::scope::Actor;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Name of the cookie. Browsers take one of this prefix from this host alone, over TLS, and for all of its paths.
pub(crate) const COOKIE: &str = "__Host-holdfast";
/// Seconds without a request after which a session ends.
const IDLE_S: u64 = 30 * 60;
/// Seconds after which a session ends, whatever is done in it.
const LONGEST_S: u64 = 12 * 60 * 60;
/// Sessions at once, of all and of one token; the one that was used longest ago makes room.
const MOST: usize = 1024;
const MOST_OF_TOKEN: usize = 16;

/// Who has signed in.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn {
    /// The holder of the token.
    pub(crate) actor: Actor,
    /// What each form of the session has, and no other site knows.
    pub(crate) form_token: String,
}

#[derive(Debug)]
struct Session {
    token_hash: String,
    began: u64,
    seen: u64,
}

impl Session {
    fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.seen) >= IDLE_S || now.saturating_sub(self.began) >= LONGEST_S
    }
}

/// The sessions of this process, by the hashes of their cookies.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

/// Returns the token of a session's forms. Whoever has the cookie can make it, and nobody who has it can make the cookie.
fn form_token(cookie: &str) -> String {
    secret::hash(&format!("form of {cookie}"))
}

impl Sessions {
    /// Begins a session by a token, and returns the cookie's value; nothing where the token is none.
    ///
    /// # Errors
    /// Those of the database, and where there are no random numbers.
    pub(crate) async fn begin(
        &self,
        service: &Service,
        token: &str,
    ) -> Result<Option<String>, Refusal> {
        let (token_hash, now) = (secret::hash(token), service.now());
        if service.store.actor(&token_hash, now).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.add(token_hash, now)?))
    }

    fn add(&self, token_hash: String, now: u64) -> Result<String, NoRandom> {
        let cookie = Secret::make("hfs")?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| !session.is_over(now));
        let of_token = all.values().filter(|session| session.token_hash == token_hash).count();
        if of_token >= MOST_OF_TOKEN || all.len() >= MOST {
            let is_full = all.len() >= MOST;
            let oldest = all
                .iter()
                .filter(|(_, session)| is_full || session.token_hash == token_hash)
                .min_by_key(|(_, session)| session.seen)
                .map(|(hash, _)| hash.clone());
            if let Some(oldest) = oldest {
                all.remove(&oldest);
            }
        }
        all.insert(cookie.hash(), Session { token_hash, began: now, seen: now });
        Ok(cookie.text().to_owned())
    }

    /// Returns who has signed in with a cookie, and notes that he is there.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn find(
        &self,
        service: &Service,
        cookie: &str,
    ) -> Result<Option<SignedIn>, Refusal> {
        let now = service.now();
        let Some(token_hash) = self.used(cookie, now) else { return Ok(None) };
        match service.store.actor(&token_hash, now).await? {
            Some(actor) => Ok(Some(SignedIn { actor, form_token: form_token(cookie) })),
            None => {
                self.end(cookie);
                Ok(None)
            }
        }
    }

    fn used(&self, cookie: &str, now: u64) -> Option<String> {
        let hash = secret::hash(cookie);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&hash)?.is_over(now) {
            all.remove(&hash);
            return None;
        }
        let session = all.get_mut(&hash)?;
        session.seen = session.seen.max(now);
        Some(session.token_hash.clone())
    }

    /// Ends a session.
    pub(crate) fn end(&self, cookie: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&secret::hash(cookie));
    }
}

/// Returns the holder of a token that was sent along, as tools do it.
///
/// # Errors
/// It is none, and those of the database.
pub(crate) async fn bearer(service: &Service, token: &str) -> Result<Actor, Refusal> {
    let actor = service.store.actor(&secret::hash(token), service.now()).await?;
    actor.ok_or_else(|| Problem::Unauthenticated.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_idleness_and_by_age() {
        let sessions = Sessions::default();
        let cookie = sessions.add("token".into(), 1000).unwrap();
        assert_eq!(sessions.used(&cookie, 1000 + IDLE_S - 1).as_deref(), Some("token"));
        assert_eq!(sessions.used("hfs_other", 1000), None);
        let mut now = 1000;
        while now + IDLE_S - 1 < 1000 + LONGEST_S {
            now += IDLE_S - 1;
            assert!(sessions.used(&cookie, now).is_some(), "{now}");
        }
        assert_eq!(sessions.used(&cookie, 1000 + LONGEST_S), None);
        let idle = sessions.add("token".into(), 1000).unwrap();
        assert_eq!(sessions.used(&idle, 1000 + IDLE_S), None);
        assert!(sessions.0.lock().unwrap().is_empty(), "what has ended takes no room");
        let ended = sessions.add("token".into(), 1000).unwrap();
        sessions.end(&ended);
        assert_eq!(sessions.used(&ended, 1000), None);
    }

    #[test]
    fn sessions_have_a_bound_for_each_token_and_for_all() {
        let sessions = Sessions::default();
        let first = sessions.add("other".into(), 1).unwrap();
        let cookies: Vec<String> =
            (0..20).map(|number| sessions.add("token".into(), 2 + number).unwrap()).collect();
        let there = |cookie: &String| sessions.used(cookie, 30).is_some();
        assert!(there(&first), "another token's session is not pushed out");
        assert_eq!(cookies.iter().filter(|cookie| there(cookie)).count(), MOST_OF_TOKEN);
        assert!(there(&cookies[19]) && !there(&cookies[0]));
        for number in 0..2000 {
            sessions.add(format!("token {number}"), 40).unwrap();
        }
        assert!(sessions.0.lock().unwrap().len() <= MOST);
    }

    #[test]
    fn a_cookie_is_kept_as_its_hash_and_its_forms_do_not_tell_it() {
        let sessions = Sessions::default();
        let cookie = sessions.add("token".into(), 1000).unwrap();
        assert!(cookie.starts_with("hfs_") && cookie.len() > 40);
        let kept = format!("{sessions:?}");
        assert!(!kept.contains(&cookie) && !kept.contains(&form_token(&cookie)), "{kept}");
        assert_ne!(form_token(&cookie), secret::hash(&cookie));
    }
}

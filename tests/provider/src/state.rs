//! What the provider remembers, and how it behaves.

use crate::jwt::{self, Key, Signing};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What the service is called at the provider.
pub const CLIENT_ID: &str = "holdfast";

/// Changes claims of an ID token before it is signed.
pub type Claims = Arc<dyn Fn(&mut Value) + Send + Sync>;
/// Returns the time, in seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How the provider misbehaves.
#[derive(Clone)]
pub struct Behaviour {
    /// How ID tokens are signed.
    pub signing: Signing,
    /// What is changed of their claims.
    pub claims: Claims,
    /// What is changed of the header.
    pub header: Claims,
    /// An ID token that is sent in place of a new one.
    pub replayed: Option<String>,
    /// What is answered in place of the metadata: a whole answer of HTTP.
    pub metadata: Option<String>,
    /// Whether the device code is to be asked for more slowly.
    pub slows_down: bool,
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour").field("signing", &self.signing).finish_non_exhaustive()
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            signing: Signing::Key,
            claims: Arc::new(|_| {}),
            header: Arc::new(|_| {}),
            replayed: None,
            metadata: None,
            slows_down: false,
        }
    }
}

/// Somebody who signs in.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The subject.
    pub subject: String,
    /// The name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
}

impl Subject {
    /// Makes one whose name is the subject.
    #[must_use]
    pub fn new(subject: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self { subject: subject.to_owned(), name: subject.to_owned(), groups }
    }
}

pub(crate) struct Code {
    pub(crate) nonce: String,
    pub(crate) challenge: String,
    pub(crate) redirect: String,
    pub(crate) subject: Subject,
}

pub(crate) struct State {
    pub(crate) behaviour: Behaviour,
    pub(crate) key: Key,
    pub(crate) codes: HashMap<String, Code>,
    /// Device codes by user codes, and who has signed in; `Err` where the person has refused.
    pub(crate) devices: HashMap<String, (String, Option<Result<Subject, ()>>)>,
    pub(crate) number: u64,
    pub(crate) last_token: Option<String>,
    /// Requests by path.
    pub(crate) requests: Vec<String>,
}

/// Returns the value of a parameter of a query or a form.
#[must_use]
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let pair = query.split('&').find_map(|pair| {
        let (own, value) = pair.split_once('=')?;
        (own == name).then_some(value)
    })?;
    let mut bytes = Vec::new();
    let mut rest = pair.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            }
            other => bytes.push(other),
        }
    }
    Some(String::from_utf8(bytes).unwrap())
}

pub(crate) fn id_token(
    state: &mut State,
    issuer: &str,
    subject: &Subject,
    nonce: Option<&str>,
    now: u64,
) -> String {
    let mut claims = json!({
        "iss": issuer, "sub": subject.subject, "aud": CLIENT_ID, "exp": now + 300, "iat": now,
        "name": subject.name, "groups": subject.groups,
    });
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    (state.behaviour.claims)(&mut claims);
    let Behaviour { signing, header, .. } = &state.behaviour;
    let token = jwt::sign(&state.key, *signing, &**header, &claims);
    state.last_token = Some(token.clone());
    token
}

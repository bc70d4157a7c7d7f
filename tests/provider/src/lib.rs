//! A provider of OpenID Connect on loopback, over TLS, for tests: authorization code with PKCE, device code (RFC 8628), ID tokens by ES256, and
//! whatever misbehaviour a test asks for.
//!
//! Whatever is not as it has to be is a panic, as in a test.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is linked into tests alone, where a panic is a failure with its place"
)]

mod jwt;
mod server;

pub use jwt::{Key, Signing};

use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

/// What the service is called at the provider.
pub const CLIENT_ID: &str = "holdfast";
/// Its secret there.
pub const CLIENT_SECRET: &str = "a secret of the client";

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

/// The provider.
pub struct Provider {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its issuer.
    pub issuer: String,
    /// Certificate of the authority that vouches for it, PEM.
    pub authority: String,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("issuer", &self.issuer).finish_non_exhaustive()
    }
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

impl Provider {
    /// Starts one on loopback. It runs until the test's process ends.
    #[must_use]
    pub fn start(clock: Clock) -> Self {
        let state = State {
            behaviour: Behaviour::default(),
            key: Key::make("key-1"),
            codes: HashMap::new(),
            devices: HashMap::new(),
            number: 0,
            last_token: None,
            requests: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let (address, authority) = server::start(state.clone(), clock);
        let issuer = format!("https://localhost:{}", address.port());
        Self { address, issuer, authority, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Has it misbehave, or behave again.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        let mut behaviour = Behaviour::default();
        change(&mut behaviour);
        self.state().behaviour = behaviour;
    }

    /// Has it sign by another key from now on, and forget the one before.
    pub fn rotate(&self, id: &str) {
        self.state().key = Key::make(id);
    }

    /// Returns the last ID token.
    #[must_use]
    pub fn last_token(&self) -> String {
        self.state().last_token.clone().unwrap()
    }

    /// Returns how often a path was asked for.
    #[must_use]
    pub fn asked(&self, path: &str) -> usize {
        self.state().requests.iter().filter(|asked| *asked == path).count()
    }

    /// Does what a browser does there: somebody signs in where the service has sent it, and the browser is sent back with what is returned, path and query.
    #[must_use]
    pub fn sign_in(&self, url: &str, subject: &Subject) -> String {
        let query = url.split_once('?').unwrap().1;
        let of = |name: &str| parameter(query, name).unwrap_or_else(|| panic!("{name}: {url}"));
        assert!(url.starts_with(&format!("{}/authorize?", self.issuer)), "{url}");
        assert_eq!((of("client_id").as_str(), of("response_type").as_str()), (CLIENT_ID, "code"));
        assert_eq!(of("code_challenge_method"), "S256");
        assert!(of("scope").split(' ').any(|scope| scope == "openid"), "{url}");
        let redirect = of("redirect_uri");
        let mut state = self.state();
        state.number += 1;
        let code = format!("code-{}", state.number);
        let challenge = of("code_challenge");
        let given = Code {
            nonce: of("nonce"),
            challenge,
            redirect: redirect.clone(),
            subject: subject.clone(),
        };
        state.codes.insert(code.clone(), given);
        let path = redirect.split_once("://").unwrap().1;
        let path = path.split_once('/').unwrap().1;
        format!("/{path}?code={code}&state={}", of("state"))
    }

    /// Has somebody sign in by a user code, or refuse.
    pub fn decide(&self, user_code: &str, decision: Option<Subject>) {
        let mut state = self.state();
        let device = state.devices.get_mut(user_code).expect("a user code that was given");
        device.1 = Some(decision.ok_or(()));
    }

    /// Returns an ID token as it would sign one now, by its behaviour.
    #[must_use]
    pub fn token(&self, subject: &Subject, nonce: Option<&str>, now: u64) -> String {
        let mut state = self.state();
        id_token(&mut state, &self.issuer, subject, nonce, now)
    }
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
    let token = jwt::sign(&state.key, &state.behaviour, &claims);
    state.last_token = Some(token.clone());
    token
}

//! The provider, as a test sees it: it is started, behaves or misbehaves, and people sign in there.

use crate::jwt::Key;
use crate::server;
use crate::state::{Behaviour, CLIENT_ID, Clock, Code, State, Subject, id_token, parameter};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

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

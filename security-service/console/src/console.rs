//! The console as handlers see it, and who asks.

use crate::ask::Ask;
use crate::attempts::Attempts;
use crate::failure::Failure;
use axum::Router;
use axum::http::{HeaderMap, header};
use holdfast_service_api::{Service, secret, session};
use holdfast_service_store::scope::Actor;
use std::sync::{Arc, Mutex};

/// Random bytes of what makes a form that is sent twice one change.
const KEY_BYTES: usize = 12;

/// What handlers share.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) service: Arc<Service>,
    pub(crate) management: Router,
    pub(crate) attempts: Mutex<Attempts>,
}

/// Who has signed in.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn {
    /// The person, or the holder of the token.
    pub(crate) actor: Actor,
    /// What each form of the session has, and no other site knows.
    pub(crate) form_token: String,
}

impl Console {
    /// Returns who asks: by a session, or, for tools, by a token. Whoever asks by a token has no forms.
    pub(crate) async fn who(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, Failure> {
        if let Some(header) = headers.get(header::AUTHORIZATION) {
            let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
            let actor = session::holder(&self.service, token.unwrap_or_default()).await?;
            return Ok(Some(SignedIn { actor, form_token: String::new() }));
        }
        let held = session::of_cookie(&self.service, headers).await?;
        Ok(held.map(|held| {
            let form_token = held.csrf_token();
            SignedIn { actor: held.session.actor, form_token }
        }))
    }

    /// Returns what asks the API in the place of somebody.
    pub(crate) fn ask(&self, who: &SignedIn, catalog: &str) -> Ask {
        Ask::new(self.management.clone(), who.actor.clone(), catalog.to_owned())
    }

    /// Returns a key for the forms of a page.
    pub(crate) fn key() -> Result<String, Failure> {
        let random = secret::random::<KEY_BYTES>();
        let random = random.map_err(|error| Failure::internal(&error.to_string()))?;
        Ok(format!("console-{}", holdfast_types::hex::hex(&random)))
    }
}

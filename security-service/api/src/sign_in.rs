//! What is remembered of a sign-in that is under way, and the session that it ends with. The service remembers nothing of it: whoever signs in keeps it,
//! sealed by the key encryption key, so that nobody fills the database by beginning.

use crate::refusal::Refusal;
use crate::service::Service;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_service_domain::disk::Write;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::session::Client;
use holdfast_service_sign_in::SignInError;
use holdfast_service_sign_in::provider::{Provider, SignedIn};
use holdfast_service_store::person::Person;
use holdfast_types::escaped_chain;
use holdfast_types::event::security_service::{PROVIDER_FAILED, SIGN_IN_REFUSED, SIGNED_IN};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Seconds for which a sign-in in a browser may take.
pub(crate) const SIGN_IN_S: u64 = 600;
/// Most seconds that a sign-in on the command line may take, whatever the provider says.
pub(crate) const MAX_DEVICE_S: u64 = 1800;
/// Longest sealed text in bytes.
const MAX_SEALED_BYTES: usize = 4096;

/// What is remembered of a sign-in in a browser.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UnderWay {
    pub(crate) provider: String,
    pub(crate) state: String,
    pub(crate) nonce: String,
    pub(crate) verifier: String,
    pub(crate) return_to: String,
    pub(crate) ends_at: u64,
}

/// What is remembered of a sign-in on the command line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DeviceUnderWay {
    pub(crate) provider: String,
    pub(crate) device_code: String,
    pub(crate) interval_s: u64,
    pub(crate) ends_at: u64,
}

/// Seals what somebody keeps for the service.
pub(crate) fn seal<T: Serialize>(
    service: &Service,
    purpose: &str,
    what: &T,
) -> Result<String, Refusal> {
    let internal =
        |error: &dyn std::error::Error| Refusal::new(Problem::Internal, error.to_string());
    let text = serde_json::to_vec(what).map_err(|error| internal(&error))?;
    let key = service.issuers.key_encryption_key();
    let sealed = key.wrap(purpose, &text).map_err(|error| internal(&error))?;
    Ok(URL_SAFE_NO_PAD.encode(sealed))
}

/// Opens what was sealed for this purpose. What was not is nothing.
pub(crate) fn open<T: DeserializeOwned>(service: &Service, purpose: &str, text: &str) -> Option<T> {
    if text.len() > MAX_SEALED_BYTES {
        return None;
    }
    let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
    let text = service.issuers.key_encryption_key().unwrap(purpose, &sealed).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns the refusal for an error of signing in. What the provider has said stands in the log.
pub(crate) fn refused(provider: &Provider, error: &SignInError) -> Refusal {
    let cause: String = escaped_chain(error).to_string().chars().take(600).collect();
    let name = provider.name();
    match error {
        SignInError::Ended(_) | SignInError::IdToken(_) | SignInError::Claim(_) => {
            eprintln!("sign-in by {name} refused: {cause} {SIGN_IN_REFUSED}");
            Refusal::new(Problem::SignInRefused, "begin again; the service's log says why")
        }
        _ => {
            eprintln!("provider {name} failed: {cause} {PROVIDER_FAILED}");
            Refusal::new(Problem::ProviderFailed, "the service's log says how")
        }
    }
}

/// A session that was begun.
pub(crate) struct BegunSession {
    pub(crate) secret: String,
    pub(crate) ends_at: u64,
}

/// Begins a session of whoever has signed in, if anybody has given him a role, and the disk has room for it.
pub(crate) async fn begin_session(
    service: &Service,
    signed_in: SignedIn,
    client: Client,
) -> Result<BegunSession, Refusal> {
    service.admit(Write::Other)?;
    let SignedIn { issuer, subject, name, groups } = signed_in;
    let person = Person { issuer, subject, name, groups };
    let id = person.id();
    let grants = service.store.grants_of(&person, &service.sign_in.standing).await?;
    if grants.is_empty() {
        eprintln!("sign-in of {id} refused: no role {SIGN_IN_REFUSED}");
        let who = format!("issuer {:?}, subject {:?}", person.issuer, person.subject);
        return Err(Refusal::new(Problem::NoRole, format!("an owner gives one to {who}")));
    }
    let secret = crate::session::make_secret()?;
    let now = service.now();
    service.store.begin_session(person, client, secret.hash(), now).await?;
    eprintln!("{id} has signed in {SIGNED_IN}");
    let ends_at = now.saturating_add(client.absolute_s());
    Ok(BegunSession { secret: secret.text().to_owned(), ends_at })
}

//! A provider of OpenID Connect: how a sign-in begins and ends there, and what is believed of the ID token that it ends with.

use crate::error::SignInError;
use crate::http::HttpClient;
use crate::kinds::{Id, Metadata, OidcClient, Tokens};
use holdfast_service_domain::person::{MAX_GROUPS, MAX_SUBJECT_BYTES};
use holdfast_service_domain::sign_in_settings::ProviderSettings;
use holdfast_types::chain;
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClientAuthMethod, CoreDeviceAuthorizationResponse,
    CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken,
    IssuerUrl, Nonce, NonceVerifier, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl,
    RequestTokenError, Scope, TokenResponse,
};
use serde_json::Value;
use std::fmt::{self, Display};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

/// How long metadata and keys are believed without being asked for again.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// Shortest time after which they are asked for again since a key was not among them.
const AGAIN: Duration = Duration::from_secs(60);
/// Most keys of a provider.
const MAX_KEYS: usize = 64;
/// Most bytes of a client's secret.
const MAX_SECRET_BYTES: usize = 1024;
/// Most seconds by which a token may be issued after now, by clocks that differ.
const SKEW_S: u64 = 300;
/// Most seconds since a token was issued.
const MAX_AGE_S: u64 = 600;
/// Signatures that are taken: those of keys that a provider has and nobody else. None is by a secret that two share.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Somebody who has signed in, as the provider says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The issuer.
    pub issuer: String,
    /// The subject, which is one person's at this issuer.
    pub subject: String,
    /// The name, as the person has chosen it.
    pub name: String,
    /// Groups of the claim that the settings name.
    pub groups: Vec<String>,
}

/// A sign-in that has begun in a browser.
#[derive(Debug)]
pub struct Begun {
    /// Where the browser goes.
    pub url: String,
    /// What the browser brings back.
    pub state: String,
    /// What the ID token must have.
    pub nonce: String,
    /// What the code is exchanged with (PKCE, RFC 7636).
    pub verifier: String,
}

/// A sign-in that has begun on the command line (RFC 8628).
#[derive(Debug)]
pub struct BegunDevice {
    /// Where the person goes, in whatever browser.
    pub url: String,
    /// The same with the code in it, where the provider offers that.
    pub complete_url: Option<String>,
    /// What the person types there.
    pub user_code: String,
    /// Seconds from one question to the next.
    pub interval_s: u64,
    /// Seconds until it ends.
    pub expires_in_s: u64,
    /// What the provider is asked with: a secret.
    pub device_code: String,
}

/// What has become of a sign-in on the command line.
#[derive(Debug)]
pub enum Polled {
    /// The person has not decided. Ask again after so many seconds.
    Pending(u64),
    /// The person has signed in.
    SignedIn(SignedIn),
}

struct Cached {
    metadata: Metadata,
    fetched_at: Instant,
}

/// A provider.
pub struct Provider {
    settings: ProviderSettings,
    issuer: IssuerUrl,
    secret: Option<ClientSecret>,
    redirect: RedirectUrl,
    http: HttpClient,
    cached: Mutex<Option<Cached>>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

impl Provider {
    /// Makes one of its settings. `redirect` is where the provider sends browsers back to.
    ///
    /// # Errors
    /// A setting cannot be used, or the secret not be read.
    pub fn new(
        folder: &Path,
        settings: ProviderSettings,
        redirect: String,
        http: HttpClient,
    ) -> Result<Self, SignInError> {
        let provider = settings.name.clone();
        let bad =
            |rule: &str| SignInError::Setting { provider: provider.clone(), rule: rule.to_owned() };
        let issuer = IssuerUrl::new(settings.issuer.clone());
        let issuer = issuer.map_err(|_| bad("issuer: must be a URL"))?;
        let redirect = RedirectUrl::new(redirect);
        let redirect = redirect.map_err(|_| bad("sign_in.url: must be a URL"))?;
        let secret = match &settings.client_secret {
            None => None,
            Some(path) => {
                let path = folder.join(path);
                let failed = |source: io::Error| SignInError::Secret {
                    provider: provider.clone(),
                    path: path.clone(),
                    source,
                };
                if std::fs::metadata(&path).map_err(failed)?.mode() & 0o077 != 0 {
                    return Err(bad(
                        "client_secret: the file can be read by others; run `chmod 600` on it",
                    ));
                }
                let text = std::fs::read_to_string(&path).map_err(failed)?;
                let text = text.trim();
                if text.is_empty() || text.len() > MAX_SECRET_BYTES {
                    return Err(bad("client_secret: the file must have the secret, on one line"));
                }
                Some(ClientSecret::new(text.to_owned()))
            }
        };
        Ok(Self { settings, issuer, secret, redirect, http, cached: Mutex::new(None) })
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Returns its issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Returns metadata and keys: those that were fetched, while they are no older than `most`.
    async fn metadata(&self, most: Duration) -> Result<Metadata, SignInError> {
        // Whoever comes meanwhile waits for the one that asks.
        let mut cached = self.cached.lock().await;
        if let Some(cached) = cached.as_ref().filter(|cached| cached.fetched_at.elapsed() < most) {
            return Ok(cached.metadata.clone());
        }
        let metadata = Metadata::discover_async(self.issuer.clone(), &self.http).await;
        let metadata = metadata.map_err(|error| SignInError::Discovery(chain(&error)))?;
        if metadata.jwks().keys().len() > MAX_KEYS {
            let rule = format!("it has more than {MAX_KEYS} keys");
            return Err(SignInError::Discovery(rule));
        }
        *cached = Some(Cached { metadata: metadata.clone(), fetched_at: Instant::now() });
        Ok(metadata)
    }

    fn client(&self, metadata: Metadata) -> OidcClient {
        let methods = metadata.token_endpoint_auth_methods_supported();
        let takes = |method| methods.is_none_or(|methods| methods.contains(&method));
        let by_body = !takes(CoreClientAuthMethod::ClientSecretBasic)
            && takes(CoreClientAuthMethod::ClientSecretPost);
        let id = ClientId::new(self.settings.client_id.clone());
        let client = OidcClient::from_provider_metadata(metadata, id, self.secret.clone());
        let kind = if by_body { AuthType::RequestBody } else { AuthType::BasicAuth };
        client.set_redirect_uri(self.redirect.clone()).set_auth_type(kind)
    }

    fn scopes(&self) -> impl Iterator<Item = Scope> + '_ {
        self.settings.scopes.iter().map(|scope| Scope::new(scope.clone()))
    }

    /// Begins a sign-in in a browser.
    ///
    /// # Errors
    /// The provider's metadata cannot be had.
    pub async fn begin(&self) -> Result<Begun, SignInError> {
        let client = self.client(self.metadata(KEPT).await?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let request = client.authorize_url(flow, CsrfToken::new_random, Nonce::new_random);
        let (url, state, nonce) =
            request.add_scopes(self.scopes()).set_pkce_challenge(challenge).url();
        Ok(Begun {
            url: url.to_string(),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
        })
    }

    /// Ends a sign-in in a browser: exchanges the code, and verifies the ID token at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// See [`SignInError`].
    pub async fn finish(
        &self,
        code: String,
        verifier: String,
        nonce: &str,
        now: u64,
    ) -> Result<SignedIn, SignInError> {
        let client = self.client(self.metadata(KEPT).await?);
        let request = client.exchange_code(AuthorizationCode::new(code));
        let request = request.map_err(|_| SignInError::NoEndpoint("token endpoint"))?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier));
        let tokens = request.request_async(&self.http).await.map_err(refused)?;
        self.verified(&tokens, &Nonce::new(nonce.to_owned()), now).await
    }

    /// Begins a sign-in on the command line.
    ///
    /// # Errors
    /// The provider's metadata cannot be had, or have no such endpoint.
    pub async fn begin_device(&self) -> Result<BegunDevice, SignInError> {
        let metadata = self.metadata(KEPT).await?;
        let endpoint = metadata.additional_metadata().device_authorization_endpoint.clone();
        let endpoint = endpoint.ok_or(SignInError::NoEndpoint("device authorization endpoint"))?;
        let client = self.client(metadata).set_device_authorization_url(endpoint);
        let request = client.exchange_device_code().add_scopes(self.scopes());
        let begun = request.request_async(&self.http).await;
        let begun: CoreDeviceAuthorizationResponse = begun.map_err(refused)?;
        let complete_url = begun.verification_uri_complete();
        Ok(BegunDevice {
            url: begun.verification_uri().to_string(),
            complete_url: complete_url.map(|url| url.secret().clone()),
            user_code: begun.user_code().secret().clone(),
            interval_s: begun.interval().as_secs(),
            expires_in_s: begun.expires_in().as_secs(),
            device_code: begun.device_code().secret().clone(),
        })
    }

    /// Asks once what has become of a sign-in on the command line.
    ///
    /// # Errors
    /// See [`SignInError`].
    pub async fn poll_device(
        &self,
        device_code: &str,
        interval_s: u64,
        now: u64,
    ) -> Result<Polled, SignInError> {
        let client = self.client(self.metadata(KEPT).await?);
        // What the provider has said when it began, as far as it is asked for now.
        let begun: CoreDeviceAuthorizationResponse = serde_json::from_value(serde_json::json!({
            "device_code": device_code, "user_code": "", "verification_uri": self.settings.issuer,
            "expires_in": 600, "interval": interval_s,
        }))
        .map_err(|error| SignInError::Refused(error.to_string()))?;
        let request = client.exchange_device_access_token(&begun);
        let request = request.map_err(|_| SignInError::NoEndpoint("token endpoint"))?;
        // The crate would go on asking; whoever waits asks again by himself.
        let (pending, mut waits) = mpsc::channel(1);
        let sleep = move |interval: Duration| {
            let _ = pending.try_send(interval.as_secs());
            std::future::pending()
        };
        let asked = request.request_async(&self.http, sleep, None);
        let tokens = tokio::select! {
            biased;
            Some(interval_s) = waits.recv() => return Ok(Polled::Pending(interval_s)),
            tokens = asked => tokens,
        };
        let tokens: Tokens = tokens.map_err(|error| match error {
            RequestTokenError::ServerResponse(answer) => SignInError::Ended(answer.to_string()),
            other => SignInError::Refused(chain(&other)),
        })?;
        // A device code has no nonce (RFC 8628); the token comes from the token endpoint over TLS, for a code that is good once.
        let signed_in = self.verified(&tokens, |_: Option<&Nonce>| Ok(()), now).await?;
        Ok(Polled::SignedIn(signed_in))
    }

    /// Verifies the ID token. A key that is not known may be a new one: then keys are asked for again, once a minute at most.
    async fn verified(
        &self,
        tokens: &Tokens,
        nonce: impl NonceVerifier + Copy,
        now: u64,
    ) -> Result<SignedIn, SignInError> {
        let id = tokens.id_token().ok_or(SignInError::NoIdToken)?;
        match self.claims(id, nonce, now, KEPT).await {
            Err(SignInError::IdToken(_)) => self.claims(id, nonce, now, AGAIN).await,
            verified => verified,
        }
    }

    async fn claims(
        &self,
        id: &Id,
        nonce: impl NonceVerifier,
        now: u64,
        most: Duration,
    ) -> Result<SignedIn, SignInError> {
        let client = self.client(self.metadata(most).await?);
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(now));
        let time = time.ok_or(SignInError::Claim("the time"))?;
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || time.into())
            .set_issue_time_verifier_fn(move |issued| {
                let issued = u64::try_from(issued.timestamp()).unwrap_or(0);
                if issued > now.saturating_add(SKEW_S) {
                    return Err("issued in the future".to_owned());
                }
                if issued < now.saturating_sub(MAX_AGE_S) {
                    return Err("issued too long ago".to_owned());
                }
                Ok(())
            });
        let claims = id.claims(&verifier, nonce);
        let claims =
            claims.map_err(|error: ClaimsVerificationError| SignInError::IdToken(chain(&error)))?;
        // The crate leaves this to whoever uses it (OpenID Connect Core, 3.1.3.7, 4 and 5).
        let party = claims.authorized_party().map(|party| party.as_str());
        if party.is_some_and(|party| party != self.settings.client_id) {
            return Err(SignInError::IdToken("azp is another client".to_owned()));
        }
        let subject = claims.subject().to_string();
        if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES {
            return Err(SignInError::Claim("sub"));
        }
        let name = claims.name().and_then(|name| name.get(None)).map(|name| name.to_string());
        let user = claims.preferred_username().map(|name| name.to_string());
        let name = name.or(user).unwrap_or_default();
        let groups = self.settings.groups_claim.as_ref();
        let groups = groups.and_then(|claim| claims.additional_claims().all.get(claim));
        let groups = groups.map_or(Ok(Vec::new()), groups_of)?;
        Ok(SignedIn { issuer: self.settings.issuer.clone(), subject, name, groups })
    }
}

/// Reads the claim of groups: a list of texts, or one text.
fn groups_of(claim: &Value) -> Result<Vec<String>, SignInError> {
    let too_large = SignInError::Claim("the claim of groups");
    let texts = match claim {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) if items.len() <= MAX_GROUPS => {
            items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Value::Array(_) => return Err(too_large),
        _ => Vec::new(),
    };
    if texts.iter().any(|text| text.len() > MAX_SUBJECT_BYTES) {
        return Err(too_large);
    }
    Ok(texts)
}

/// An answer of the provider's that is none of success.
fn refused<RE, T>(error: RequestTokenError<RE, T>) -> SignInError
where
    RE: std::error::Error + 'static,
    T: openidconnect::ErrorResponse + Display + 'static,
{
    match error {
        RequestTokenError::ServerResponse(answer) => SignInError::Refused(answer.to_string()),
        other => SignInError::Refused(chain(&other)),
    }
}

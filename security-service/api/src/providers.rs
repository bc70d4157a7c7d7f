//! The providers that people sign in by, of the settings, and who has a role for the whole service.

use crate::refusal::Refusal;
use holdfast_service_alerts::connect::Resolver;
use holdfast_service_alerts::trust::Trust;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::settings::Settings;
use holdfast_service_domain::sign_in_settings::{BadSignInSetting, StandingGrant};
use holdfast_service_sign_in::SignInError;
use holdfast_service_sign_in::http::HttpClient;
use holdfast_service_sign_in::provider::Provider;
use std::path::Path;
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Questions to providers at once; who comes beyond them is told to come later.
const ASKING: usize = 16;

/// Errors of the settings.
#[derive(Debug, Error)]
pub enum SignInSettingsError {
    /// A setting breaks a rule.
    #[error(transparent)]
    Rule(#[from] BadSignInSetting),
    /// A provider's settings cannot be used.
    #[error(transparent)]
    Provider(#[from] SignInError),
    /// The authorities that vouch for providers cannot be read.
    #[error("settings.toml: sign_in")]
    Authorities(#[from] holdfast_service_alerts::SettingError),
}

/// How people sign in.
#[derive(Debug)]
pub struct SignIn {
    providers: Vec<Provider>,
    /// Who has a role for the whole service.
    pub standing: Vec<StandingGrant>,
    asking: Semaphore,
}

impl SignIn {
    /// Makes it of the settings of a folder. Providers are asked when somebody signs in, so that the service starts while they are away.
    ///
    /// # Errors
    /// See [`SignInSettingsError`].
    pub fn of(
        folder: &Path,
        settings: &Settings,
        resolver: Resolver,
    ) -> Result<Self, SignInSettingsError> {
        let settings = &settings.sign_in;
        let standing = settings.standing_grants()?;
        let mut providers = Vec::new();
        if let Some(url) = settings.url.as_ref().filter(|_| !settings.providers.is_empty()) {
            let trust = Trust::read(folder, settings.authorities.as_deref())?;
            let http = HttpClient::new(resolver, trust.tls);
            for provider in &settings.providers {
                // Each has a way back of its own, so that none can pass its answer off as another's.
                let redirect = format!("{url}/v1/sign-in/{}/callback", provider.name);
                providers.push(Provider::new(folder, provider.clone(), redirect, http.clone())?);
            }
        }
        Ok(Self { providers, standing, asking: Semaphore::new(ASKING) })
    }

    /// Returns the providers.
    #[must_use]
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// Returns the provider of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn provider(&self, name: &str) -> Result<&Provider, Refusal> {
        let found = self.providers.iter().find(|provider| provider.name() == name);
        found.ok_or_else(|| Refusal::new(Problem::NotFound, "there is no provider of this name"))
    }

    /// Takes a place among those who ask providers.
    pub(crate) fn place(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.asking.try_acquire().map_err(|_| Problem::Busy.into())
    }
}

//! All sinks of an installation, as its settings have them.

use crate::connect::{Reach, Resolver};
use crate::error::SettingError;
use crate::mail::Mail;
use crate::otlp::Collector;
use crate::trust::Trust;
use crate::webhook::Webhooks;
use holdfast_service_domain::settings::AlertSettings;
use std::path::Path;

/// The sinks.
#[derive(Debug, Clone)]
pub struct Sinks {
    /// What sends webhooks, of whichever catalog.
    pub webhooks: Webhooks,
    /// Mail, where the settings have it.
    pub mail: Option<Mail>,
    /// A collector, where the settings have one.
    pub collector: Option<Collector>,
    /// True if somebody vouches for receivers: else nothing that is encrypted can be sent.
    pub has_authorities: bool,
}

impl Sinks {
    /// Sets them up; paths are of the folder.
    ///
    /// # Errors
    /// A setting is not as it has to be, or a file cannot be read.
    pub fn new(
        folder: &Path,
        settings: &AlertSettings,
        resolver: Resolver,
    ) -> Result<Self, SettingError> {
        let trust = Trust::read(folder, settings.authorities.as_deref())?;
        let mail = settings.mail.as_ref();
        let mail = mail.map(|mail| Mail::new(folder, mail, &trust)).transpose()?;
        let otlp = settings.otlp.as_ref();
        let collector = |otlp| Collector::new(folder, otlp, resolver.clone(), trust.clone());
        let collector = otlp.map(collector).transpose()?;
        let reach = Reach::Public { and: settings.private_receivers.clone() };
        let has_authorities = !trust.authorities.is_empty();
        let webhooks = Webhooks::new(resolver, reach, trust);
        Ok(Self { webhooks, mail, collector, has_authorities })
    }
}

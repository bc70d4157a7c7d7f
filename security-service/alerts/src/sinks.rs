//! All sinks of an installation, as its settings have them.

use crate::connect::{Reach, Resolver};
use crate::error::SettingError;
use crate::mail::Mail;
use crate::otlp::Collector;
use crate::trust::Trust;
use crate::webhook::Webhooks;
use holdfast_service_domain::settings::AlertSettings;
use std::path::Path;

impl Webhooks {
    /// Sets up what sends webhooks; paths are of the folder.
    ///
    /// # Errors
    /// The file of authorities cannot be read.
    pub fn of(
        folder: &Path,
        settings: &AlertSettings,
        resolver: Resolver,
    ) -> Result<Self, SettingError> {
        let trust = Trust::read(folder, settings.authorities.as_deref())?;
        Ok(Self::new(resolver, reach(settings), trust))
    }
}

/// Where webhooks may go.
fn reach(settings: &AlertSettings) -> Reach {
    Reach::Public { and: settings.private_receivers.clone() }
}

/// The sinks of an installation's own. What sends webhooks is the service's.
#[derive(Debug, Clone)]
pub struct Sinks {
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
        Ok(Self { mail, collector, has_authorities: !trust.authorities.is_empty() })
    }
}

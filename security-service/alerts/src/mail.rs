//! Mail by SMTP: plain text, over TLS, unless the server is this host itself.

use crate::error::{SettingError, SinkError};
use crate::message::Message;
use crate::trust::Trust;
use holdfast_service_domain::settings::{MailSecurity, MailSettings};
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, Tls, TlsParameters, TlsParametersBuilder,
};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Longest time for a mail.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Most receivers of a mail.
pub const MAX_RECEIVERS: usize = 32;

/// What sends mail.
#[derive(Clone)]
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    deadline: Duration,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail")
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl Mail {
    /// Sets it up as the settings have it; paths are of the folder.
    ///
    /// # Errors
    /// A setting is not as it has to be, or the file of credentials cannot be read.
    pub fn new(
        folder: &Path,
        settings: &MailSettings,
        trust: &Trust,
    ) -> Result<Self, SettingError> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.server);
        let builder = builder.port(settings.port).timeout(Some(DEADLINE));
        let mut builder = match settings.security {
            MailSecurity::Starttls => builder.tls(Tls::Required(tls(settings, trust)?)),
            MailSecurity::Tls => builder.tls(Tls::Wrapper(tls(settings, trust)?)),
            MailSecurity::None => {
                let is_loopback =
                    settings.server.parse().is_ok_and(|address: IpAddr| address.is_loopback());
                if !is_loopback {
                    let rule = "must be starttls or tls, as the server is no loopback address";
                    return Err(SettingError::Rule { setting: "mail.security", rule });
                }
                builder
            }
        };
        if let Some(file) = &settings.credentials {
            builder = builder.credentials(credentials(&folder.join(file))?);
        }
        if settings.to.is_empty() || settings.to.len() > MAX_RECEIVERS {
            let rule = "must name 1 to 32 receivers";
            return Err(SettingError::Rule { setting: "mail.to", rule });
        }
        let to = settings.to.iter().map(|text| mailbox("to", text)).collect::<Result<_, _>>()?;
        let from = mailbox("from", &settings.from)?;
        Ok(Self { transport: builder.build(), from, to, deadline: DEADLINE })
    }

    /// Returns it with another deadline.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Sends an alert. `alert` is its catalog and number, from which the message's id follows: one that comes twice has the same.
    ///
    /// # Errors
    /// See [`SinkError`].
    pub async fn send(&self, alert: &str, message: &Message) -> Result<(), SinkError> {
        let mut builder = lettre::Message::builder().from(self.from.clone());
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        let id = format!("<{alert}@holdfast.invalid>");
        // RFC 3834: no absence is answered to it.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let mail = builder
            .message_id(Some(id))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .subject(message.subject())
            .header(ContentType::TEXT_PLAIN)
            .body(message.text());
        let mail = mail.map_err(SinkError::Mail)?;
        let sent = tokio::time::timeout(self.deadline, self.transport.send(mail)).await;
        let sent = sent.map_err(|_| SinkError::Deadline(self.deadline.as_secs()))?;
        sent.map(|_| ()).map_err(SinkError::Smtp)
    }
}

fn mailbox(setting: &'static str, text: &str) -> Result<Mailbox, SettingError> {
    let address = text.parse::<Address>();
    let address = address.map_err(|source| SettingError::Mailbox {
        setting,
        text: text.to_owned(),
        source,
    })?;
    Ok(Mailbox::new(None, address))
}

fn tls(settings: &MailSettings, trust: &Trust) -> Result<TlsParameters, SettingError> {
    let mut builder: TlsParametersBuilder =
        TlsParameters::builder(settings.server.clone()).certificate_store(CertificateStore::None);
    for authority in &trust.authorities {
        // One that is none vouches for nobody.
        if let Ok(certificate) = Certificate::from_der(authority.to_vec()) {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build_rustls().map_err(SettingError::MailTls)
}

/// Reads the file of credentials: user and password, a line each. Nobody else may be able to read it.
fn credentials(path: &Path) -> Result<Credentials, SettingError> {
    let setting = "mail.credentials";
    let text = secret(setting, path)?;
    let mut lines = text.lines();
    match (lines.next(), lines.next(), lines.next()) {
        (Some(user), Some(password), None) if !user.is_empty() && !password.is_empty() => {
            Ok(Credentials::new(user.to_owned(), password.to_owned()))
        }
        _ => Err(SettingError::Rule { setting, rule: "must have two lines: user and password" }),
    }
}

/// Reads a secret, which nobody else may be able to read.
pub(crate) fn secret(setting: &'static str, path: &Path) -> Result<String, SettingError> {
    let failed = |source| SettingError::File { setting, path: path.to_owned(), source };
    if path.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(SettingError::OpenToOthers { setting, path: path.to_owned() });
    }
    std::fs::read_to_string(path).map_err(failed)
}

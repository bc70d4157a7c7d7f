//! `[sign_in]` of the settings: the providers of OpenID Connect by which people sign in, and who has a role for the whole service.

use crate::extent::{Extent, Grant};
use crate::name;
use crate::person::{MAX_SUBJECT_BYTES, PersonId};
use crate::role::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;
use thiserror::Error;

/// Most providers.
const MAX_PROVIDERS: usize = 8;
/// Most roles for the whole service.
const MAX_ROLES: usize = 64;
/// Most scopes of a provider.
const MAX_SCOPES: usize = 16;

/// How people sign in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignInSettings {
    /// URL of the port of management as browsers reach it, without a path: `https://service.example:8444`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// File of the authorities that vouch for providers, as PEM; the system's where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<PathBuf>,
    /// Providers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderSettings>,
    /// Who has a role for the whole service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<ServiceRole>,
}

/// A provider of OpenID Connect. Whoever has written the settings is believed about where it is: it may have a private address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderSettings {
    /// Its name here.
    pub name: String,
    /// Its issuer, exactly as its ID tokens have it.
    pub issuer: String,
    /// What the service is called there.
    pub client_id: String,
    /// File of the client's secret, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<PathBuf>,
    /// Scopes that are asked for beside `openid`.
    #[serde(default = "usual_scopes")]
    pub scopes: Vec<String>,
    /// The claim of ID tokens that names the person's groups, a list of texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
}

/// A role for the whole service, of a person or of a group of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRole {
    /// Name of the provider.
    pub provider: String,
    /// The person's subject there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The role.
    pub role: Role,
}

fn usual_scopes() -> Vec<String> {
    vec!["profile".to_owned()]
}

/// A setting breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("settings.toml: sign_in.{field}: {rule}")]
pub struct BadSignInSetting {
    /// The field.
    pub field: String,
    /// The rule.
    pub rule: String,
}

/// Whom a role is given to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A person, by the subject.
    Subject(String),
    /// Everybody in a group of the provider.
    Group(String),
}

impl Holder {
    /// Returns that of a subject or a group, of which one is said.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn of(subject: Option<String>, group: Option<String>) -> Result<Self, &'static str> {
        let holder = match (subject, group) {
            (Some(subject), None) => Self::Subject(subject),
            (None, Some(group)) => Self::Group(group),
            _ => return Err("give either `subject` or `group`"),
        };
        let text = holder.text();
        if text.is_empty() || text.len() > MAX_SUBJECT_BYTES || text.chars().any(char::is_control) {
            return Err("must have 1 to 255 bytes, without control characters");
        }
        Ok(holder)
    }

    /// Returns the subject, or the name of the group.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Subject(text) | Self::Group(text) => text,
        }
    }

    /// Returns the word for what it is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Subject(_) => "subject",
            Self::Group(_) => "group",
        }
    }
}

/// A role for the whole service, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingGrant {
    /// Issuer of the provider.
    pub issuer: String,
    /// Whose it is.
    pub holder: Holder,
    /// The role.
    pub role: Role,
}

impl StandingGrant {
    /// Returns what it gives to a person of an issuer in these groups.
    #[must_use]
    pub fn to(&self, issuer: &str, person: &PersonId, groups: &[String]) -> Option<Grant> {
        let is_holder = self.issuer == issuer
            && match &self.holder {
                Holder::Subject(subject) => PersonId::of_subject(issuer, subject) == *person,
                Holder::Group(group) => groups.contains(group),
            };
        is_holder.then_some(Grant { role: self.role, extent: Extent::Service })
    }
}

impl SignInSettings {
    /// True if nothing is set.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// Checks them, and returns the roles for the whole service.
    ///
    /// # Errors
    /// See [`BadSignInSetting`].
    pub fn standing_grants(&self) -> Result<Vec<StandingGrant>, BadSignInSetting> {
        let bad = |field: String, rule: &str| BadSignInSetting { field, rule: rule.to_owned() };
        if !self.providers.is_empty() && self.url.is_none() {
            let rule =
                "is missing: say how browsers reach management, as `https://service.example:8444`";
            return Err(bad("url".to_owned(), rule));
        }
        if let Some(url) = &self.url {
            let rest = url.strip_prefix("https://").unwrap_or_default();
            if rest.is_empty() || rest.contains(['/', '?', '#', '@']) || rest.contains(' ') {
                let rule = "must be `https:`, host and port, without a path";
                return Err(bad("url".to_owned(), rule));
            }
        }
        if self.providers.len() > MAX_PROVIDERS {
            return Err(bad("providers".to_owned(), "there may be 8 at most"));
        }
        let mut names = BTreeSet::new();
        for (index, provider) in self.providers.iter().enumerate() {
            let field = |name: &str| format!("providers[{index}].{name}");
            name::check(&provider.name).map_err(|rule| bad(field("name"), &rule.to_string()))?;
            if !names.insert(provider.name.as_str()) {
                return Err(bad(field("name"), "is another provider's as well"));
            }
            if !provider.issuer.starts_with("https://") {
                return Err(bad(field("issuer"), "must be an `https:` URL"));
            }
            if provider.client_id.is_empty() {
                return Err(bad(field("client_id"), "must not be empty"));
            }
            if provider.scopes.len() > MAX_SCOPES {
                return Err(bad(field("scopes"), "there may be 16 at most"));
            }
        }
        if self.roles.len() > MAX_ROLES {
            return Err(bad("roles".to_owned(), "there may be 64 at most"));
        }
        let grants = self.roles.iter().enumerate().map(|(index, of)| {
            let field = |name: &str| format!("roles[{index}].{name}");
            let provider = self.providers.iter().find(|provider| provider.name == of.provider);
            let provider =
                provider.ok_or_else(|| bad(field("provider"), "is the name of no provider"))?;
            let holder = Holder::of(of.subject.clone(), of.group.clone());
            let holder = holder.map_err(|rule| bad(field("subject"), rule))?;
            Ok(StandingGrant { issuer: provider.issuer.clone(), holder, role: of.role })
        });
        grants.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is changed in settings.
    type Change = fn(&mut SignInSettings);

    fn settings() -> SignInSettings {
        let text = "url = \"https://service.example:8444\"\n\
                    [[providers]]\nname = \"company\"\nissuer = \"https://id.example\"\n\
                    client_id = \"holdfast\"\ngroups_claim = \"groups\"\n\
                    [[roles]]\nprovider = \"company\"\ngroup = \"device-owners\"\nrole = \"owner\"\n";
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_role_for_the_service_is_its_holders_and_nobody_elses() {
        let grants = settings().standing_grants().unwrap();
        let person = PersonId::of_subject("https://id.example", "ines");
        let groups = |name: &str| vec![name.to_owned()];
        let given = grants[0].to("https://id.example", &person, &groups("device-owners"));
        let expected = Grant { role: Role::Owner, extent: Extent::Service };
        assert_eq!(given, Some(expected), "the control");
        assert_eq!(grants[0].to("https://id.example", &person, &groups("others")), None);
        let other = grants[0].to("https://other.example", &person, &groups("device-owners"));
        assert_eq!(other, None, "a group of this name of another provider");
        let mut direct = settings();
        direct.roles[0] = ServiceRole {
            subject: Some("ines".to_owned()),
            group: None,
            ..direct.roles[0].clone()
        };
        let direct = direct.standing_grants().unwrap();
        assert!(direct[0].to("https://id.example", &person, &[]).is_some());
        let ole = PersonId::of_subject("https://id.example", "ole");
        assert!(direct[0].to("https://id.example", &ole, &groups("ines")).is_none());
    }

    #[test]
    fn what_would_not_work_is_named_with_its_field() {
        let with = |change: fn(&mut SignInSettings)| {
            let mut changed = settings();
            change(&mut changed);
            changed.standing_grants().map_err(|error| error.field)
        };
        assert!(with(|_| {}).is_ok(), "the control");
        let refused: [(Change, &str); 9] = [
            (|s| s.url = None, "url"),
            (|s| s.url = Some("http://service.example".to_owned()), "url"),
            (|s| s.url = Some("https://service.example/console".to_owned()), "url"),
            (|s| s.providers[0].issuer = "http://id.example".to_owned(), "providers[0].issuer"),
            (|s| s.providers.push(s.providers[0].clone()), "providers[1].name"),
            (|s| s.providers[0].client_id.clear(), "providers[0].client_id"),
            (|s| s.roles[0].provider = "other".to_owned(), "roles[0].provider"),
            (|s| s.roles[0].subject = Some("ines".to_owned()), "roles[0].subject"),
            (|s| s.roles[0].group = Some(String::new()), "roles[0].subject"),
        ];
        for (change, field) in refused {
            assert_eq!(with(change).unwrap_err(), field);
        }
    }
}

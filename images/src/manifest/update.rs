//! `[update]` of an image manifest: the repositories, and when and how much a device fetches.

use crate::document::at_least_one;
use holdfast_release::RepositoryName;
use holdfast_release::config::Window;
use holdfast_release::feed::{Feed, MAX_FEEDS};
use holdfast_sandbox::network::{Connection, Destination, NetworkGrants, PortRange, Protocol};
use serde::Deserialize;
use std::path::PathBuf;

/// `[update]`: the sources of releases, and when and how they are fetched.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateSource {
    /// The repository of the OS.
    pub os: Option<RepositorySource>,
    /// The repository of the OEM's apps.
    pub oem: Option<RepositorySource>,
    /// Certificates of the authorities that may vouch for the servers: PEM files, relative to the manifest.
    /// This checkout's development authority when not given.
    #[serde(default, deserialize_with = "at_least_one")]
    pub authorities: Vec<PathBuf>,
    /// Seconds between two looks for releases.
    #[serde(default = "default_check_every_s")]
    pub check_every_s: u32,
    /// Seconds until the first look after a failure.
    #[serde(default = "default_retry_after_s")]
    pub retry_after_s: u32,
    /// When the device may reboot for an update, each day in UTC, such as `02:00-04:00`; at any time when not
    /// given.
    pub window: Option<String>,
    /// Most MiB that are fetched in a day.
    #[serde(default = "default_mib_a_day")]
    pub mib_a_day: u32,
    /// Most KiB that are fetched for one release: one that costs more waits for a card, or for a smaller step. As
    /// many as it takes when not given.
    pub kib_a_release: Option<u32>,
    /// The feeds that the device may follow: the Security Service says which, and the first is followed where no service does. `retail` alone
    /// when not given.
    #[serde(default = "default_feeds")]
    pub feeds: Vec<Feed>,
}

/// `[update.os]` or `[update.oem]`: one repository.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositorySource {
    /// An `https:` URL.
    pub url: String,
    /// Root metadata of the repository, relative to the manifest; one of this checkout's development key when not
    /// given.
    pub root: Option<PathBuf>,
}

fn default_check_every_s() -> u32 {
    3600
}

fn default_retry_after_s() -> u32 {
    60
}

fn default_mib_a_day() -> u32 {
    64
}

fn default_feeds() -> Vec<Feed> {
    vec![Feed::default()]
}

impl UpdateSource {
    /// Returns the repositories that are named.
    pub fn repositories(&self) -> impl Iterator<Item = (RepositoryName, &RepositorySource)> {
        let all = [(RepositoryName::Os, &self.os), (RepositoryName::Oem, &self.oem)];
        all.into_iter().filter_map(|(repository, source)| Some((repository, source.as_ref()?)))
    }

    /// Returns the network grants of `uplink`: the servers, and nobody else.
    ///
    /// # Errors
    /// The field below `update`, and what is wrong with it.
    pub fn grants(&self) -> Result<NetworkGrants, (String, &'static str)> {
        let mut grants = NetworkGrants::default();
        for (repository, source) in self.repositories() {
            let refused = |reason| (format!("{repository}.url"), reason);
            let reason =
                "must be such as \"https://updates.example.com/os\", without a slash at its end";
            let (to, port) = server(&source.url).ok_or_else(|| refused(reason))?;
            let connection =
                Connection { to, protocol: Some(Protocol::Tcp), ports: vec![PortRange::one(port)] };
            if !grants.connections.contains(&connection) {
                grants.connections.push(connection);
            }
        }
        Ok(grants)
    }

    pub(super) fn check(&self) -> Result<(), (String, &'static str)> {
        let refuse = |field: &str, reason| Err((field.to_owned(), reason));
        if self.repositories().next().is_none() {
            return refuse("os", "is missing, and so is update.oem; name one of them at least");
        }
        self.grants()?;
        if !(1..=7 * 86_400).contains(&self.check_every_s) {
            return refuse("check_every_s", "must be from 1 to 604800");
        }
        if !(1..=self.check_every_s).contains(&self.retry_after_s) {
            return refuse("retry_after_s", "must be from 1 to check_every_s");
        }
        if self.mib_a_day == 0 {
            return refuse("mib_a_day", "must be above 0");
        }
        if self.kib_a_release == Some(0) {
            return refuse("kib_a_release", "must be above 0");
        }
        let is_new = |(at, feed): (usize, &Feed)| !self.feeds.iter().take(at).any(|of| of == feed);
        let are_new = self.feeds.iter().enumerate().all(is_new);
        if !(1..=MAX_FEEDS).contains(&self.feeds.len()) || !are_new {
            return refuse("feeds", "must be 1 to 8 names, each once, such as [\"retail\"]");
        }
        if self.window.as_ref().is_some_and(|text| Window::parse(text).is_none()) {
            return refuse("window", "must be such as \"02:00-04:00\"");
        }
        Ok(())
    }
}

/// Returns host and port of an `https:` URL.
pub(super) fn server(url: &str) -> Option<(Destination, u16)> {
    let rest = url.strip_prefix("https://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, "a"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if !path.bytes().all(plain) || path.is_empty() || path.ends_with('/') {
        return None;
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => 443,
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
    };
    match Destination::parse(host)? {
        Destination::Service(_) => None,
        to => Some((to, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::{GOOD, load};

    #[test]
    fn a_server_is_reached_by_its_host_and_port_alone() {
        let parsed = |url: &str| server(url).map(|(to, port)| format!("{to} {port}"));
        assert_eq!(parsed("https://a.example.com/os").as_deref(), Some("a.example.com 443"));
        assert_eq!(parsed("https://a.example.com:8443").as_deref(), Some("a.example.com 8443"));
        assert_eq!(parsed("https://192.0.2.1:1/x/y").as_deref(), Some("192.0.2.1 1"));
        assert_eq!(parsed("https://[2001:db8::1]/os").as_deref(), Some("2001:db8::1 443"));
        for wrong in [
            "http://a.example.com/os",
            "https://",
            "https:///os",
            "https://a.example.com/os/",
            "https://a.example.com/",
            "https://a.example.com:0/os",
            "https://a.example.com:x/os",
            "https://user@a.example.com/os",
            "https://a.example.com/os?x",
            "https://a.example.com/os#x",
            "https://_http._tcp.local/os",
            "https://[2001:db8::1/os",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn updates_out_of_bounds_are_refused() {
        let with = |update: &str| load(&format!("{GOOD}\n[network]\n[update]\n{update}"));
        let os = "os = { url = \"https://a.example.com/os\" }";
        let update = with(os).unwrap().update.unwrap();
        assert!(update.grants().unwrap().connections.len() == 1);
        assert_eq!(update.feeds, [Feed::default()]);
        let both = with(&format!("{os}\nfeeds = [\"eval\", \"retail\"]")).unwrap().update.unwrap();
        assert_eq!(both.feeds.first().map(Feed::name), Some("eval"));
        for (update, expected) in [
            ("", "update.os: is missing"),
            ("os = { url = \"ftp://a\" }", "update.os.url: must be such as"),
            (&format!("{os}\ncheck_every_s = 0"), "update.check_every_s"),
            (&format!("{os}\nretry_after_s = 4000"), "update.retry_after_s"),
            (&format!("{os}\nmib_a_day = 0"), "update.mib_a_day"),
            (&format!("{os}\nwindow = \"2-4\""), "update.window"),
            (&format!("{os}\nkib_a_release = 0"), "update.kib_a_release"),
            (&format!("{os}\nfeeds = []"), "update.feeds: must be 1 to 8 names"),
            (&format!("{os}\nfeeds = [\"a\", \"a\"]"), "update.feeds: must be 1 to 8 names"),
            (&format!("{os}\nfeeds = [\"Eval\"]"), "must be 1 to 16 of a-z, 0-9 and `-`"),
        ] {
            let refused = with(update).expect_err("was accepted");
            assert!(refused.contains(expected), "{refused}");
        }
        let alone = load(&format!("{GOOD}\n[update]\n{os}")).expect_err("was accepted");
        assert!(alone.contains("update: needs the network"), "{alone}");
    }
}

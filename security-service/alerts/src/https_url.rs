//! URLs of receivers: HTTPS, a host, and nothing that would be somebody's password.

use hyper::Uri;
use thiserror::Error;

/// Longest URL in bytes.
pub const MAX_URL_BYTES: usize = 1024;

/// A text is no URL of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "must be an https: URL of at most {MAX_URL_BYTES} bytes, without user and fragment, such as https://alerts.example.com/holdfast"
)]
pub struct NoHttpsUrl;

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsUrl {
    /// Host and port, as the URL has them.
    pub authority: String,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub target: String,
}

impl HttpsUrl {
    /// Reads one.
    ///
    /// # Errors
    /// See [`NoHttpsUrl`].
    pub fn read(text: &str) -> Result<Self, NoHttpsUrl> {
        let (scheme, url) = read(text)?;
        if scheme == "https" { Ok(url) } else { Err(NoHttpsUrl) }
    }
}

/// Reads a URL of HTTP or HTTPS, and returns its scheme with it.
///
/// # Errors
/// See [`NoHttpsUrl`].
pub fn read(text: &str) -> Result<(String, HttpsUrl), NoHttpsUrl> {
    if text.len() > MAX_URL_BYTES || text.contains('#') {
        return Err(NoHttpsUrl);
    }
    let uri: Uri = text.parse().map_err(|_| NoHttpsUrl)?;
    let scheme = uri.scheme_str().ok_or(NoHttpsUrl)?.to_owned();
    let usual = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return Err(NoHttpsUrl),
    };
    let authority = uri.authority().ok_or(NoHttpsUrl)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(usual);
    // `host:` with no number, or one that is too large, is no port of ours.
    let names_port = authority.as_str().len() > authority.host().len();
    let is_named = !names_port || authority.port_u16().is_some();
    if authority.as_str().contains('@') || host.is_empty() || port == 0 || !is_named {
        return Err(NoHttpsUrl);
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let url = HttpsUrl {
        authority: authority.as_str().to_owned(),
        host: host.to_owned(),
        port,
        target: target.to_owned(),
    };
    Ok((scheme, url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_of_https_and_has_no_password() {
        let url = HttpsUrl::read("https://alerts.example.com/hook?key=1").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("alerts.example.com", 443));
        assert_eq!(url.target, "/hook?key=1");
        let url = HttpsUrl::read("https://[2620:fe::fe]:8443").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("2620:fe::fe", 8443));
        assert_eq!((url.authority.as_str(), url.target.as_str()), ("[2620:fe::fe]:8443", "/"));
        let long = format!("https://a.example/{}", "x".repeat(MAX_URL_BYTES));
        for bad in [
            "http://a.example/",
            "ftp://a.example/",
            "a.example",
            "/hook",
            "",
            "https://",
            "https:///hook",
            "https://user@a.example/",
            "https://user:password@a.example/",
            "https://a.example/#part",
            "https://a.example:0/",
            "https://a.example:99999/",
            "https://a.example/\r\nHost: b",
            "https://a example/",
            &long,
        ] {
            assert_eq!(HttpsUrl::read(bad), Err(NoHttpsUrl), "{bad}");
        }
    }
}

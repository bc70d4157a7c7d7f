//! Where a request comes from, as the browser says it: a form of another site changes nothing here.
//!
//! A browser says so by `Sec-Fetch-Site` (Fetch Metadata), which no page can set, and by `Origin`. Since pages have no referrer, the
//! second is `null` in forms of our own, and the first decides; a browser that does not have it has to name us by the second.

use axum::http::{HeaderMap, header};

/// True if a form was sent by a page of this very origin.
pub(crate) fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("malformed"));
    let is_one = |name: &str| headers.get_all(name).iter().count() <= 1;
    if !is_one("sec-fetch-site") || !is_one("origin") {
        return false;
    }
    let site = text("sec-fetch-site");
    let origin = text(header::ORIGIN.as_str()).filter(|origin| *origin != "null");
    let host = text(header::HOST.as_str()).unwrap_or_default();
    let is_ours = |origin: &str| {
        origin.strip_prefix("https://").is_some_and(|named| named.eq_ignore_ascii_case(host))
    };
    match (site, origin) {
        (Some("same-origin"), None) => true,
        (Some("same-origin") | None, Some(origin)) => is_ours(origin),
        (Some(_), _) | (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_form_of_another_site_is_none_of_ours() {
        for (site, origin, expected) in [
            ("same-origin", "null", true),
            ("same-origin", "https://s.example:8444", true),
            ("", "https://s.example:8444", true),
            ("same-origin", "", true),
            ("same-origin", "https://evil.example", false),
            ("same-origin", "http://s.example:8444", false),
            ("same-site", "https://s.example:8443", false),
            ("same-site", "null", false),
            ("cross-site", "https://evil.example", false),
            ("cross-site", "https://s.example:8444", false),
            ("none", "", false),
            ("", "https://s.example", false),
            ("", "null", false),
            ("", "", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("s.example:8444"));
            for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
                if !value.is_empty() {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            assert_eq!(is_own(&headers), expected, "{site} {origin}");
        }
        let mut twice = HeaderMap::new();
        twice.append("sec-fetch-site", HeaderValue::from_static("same-origin"));
        assert!(is_own(&twice), "the control");
        twice.append("sec-fetch-site", HeaderValue::from_static("cross-site"));
        assert!(!is_own(&twice));
    }
}

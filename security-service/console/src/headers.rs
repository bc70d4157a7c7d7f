//! Headers of every answer of the console: what a page may load, who may show it, and that nobody keeps it.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;

/// A page loads style, script and icon of this origin and nothing else: no text within it is a script, whatever it says.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types console";

/// Sets the headers of an answer. What may be kept has said so itself.
pub(crate) fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // The same path is a page or its document, and each person's is another.
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Authorization, Cookie"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    #[test]
    fn no_inline_script_or_style_and_no_frame_is_allowed() {
        assert!(!POLICY.contains("unsafe") && !POLICY.contains('*') && !POLICY.contains("data:"));
        let response = secured("page".into_response());
        let of = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert!(of("content-security-policy").contains("frame-ancestors 'none'"));
        assert_eq!(
            (of("cache-control"), of("x-content-type-options")),
            ("no-store".to_owned(), "nosniff".to_owned())
        );
    }
}

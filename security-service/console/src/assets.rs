//! Style, script and icon: in the program, each under a name that its content makes, so that it may be kept for ever.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_types::hex::sha256;
use std::sync::LazyLock;

/// Digits of the content's hash in a name.
const DIGITS: usize = 16;

struct Asset {
    name: String,
    kind: &'static str,
    content: &'static [u8],
}

impl Asset {
    fn new(stem: &str, ending: &str, kind: &'static str, content: &'static [u8]) -> Self {
        let digest = sha256(content);
        let digest = digest.get(..DIGITS).unwrap_or(&digest);
        Self { name: format!("{stem}-{digest}.{ending}"), kind, content }
    }

    fn path(&self) -> String {
        format!("/console/assets/{}", self.name)
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_bytes!("../assets/console.css");
    Asset::new("console", "css", "text/css; charset=utf-8", content)
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_bytes!("../assets/console.js");
    Asset::new("console", "js", "text/javascript; charset=utf-8", content)
});
static ICON: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("icon", "svg", "image/svg+xml", include_bytes!("../assets/icon.svg"))
});

fn all() -> [&'static Asset; 3] {
    [&STYLE, &SCRIPT, &ICON]
}

/// Returns the path of the style.
pub(crate) fn style() -> String {
    STYLE.path()
}

/// Returns the path of the script.
pub(crate) fn script() -> String {
    SCRIPT.path()
}

/// Returns the path of the icon.
pub(crate) fn icon() -> String {
    ICON.path()
}

/// Returns what has a name, with leave to keep it for ever.
pub(crate) fn named(name: &str) -> Response {
    let Some(asset) = all().into_iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut response = Body::from(asset.content).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    let keep = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, keep);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_its_content_and_others_are_none() {
        let path = style();
        let name = path.rsplit('/').next().unwrap();
        assert_eq!(named(name).status(), StatusCode::OK);
        assert_eq!(named("console.css").status(), StatusCode::NOT_FOUND);
        assert!(name.contains(&sha256(include_bytes!("../assets/console.css"))[..DIGITS]));
        assert_ne!(script(), icon());
    }

    /// What lies in pages of others' texts must not be a way to the network.
    #[test]
    fn style_and_script_ask_nobody_else() {
        for asset in all() {
            let text = String::from_utf8_lossy(asset.content);
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("://") && !elsewhere.contains("url("), "{}", asset.name);
            assert!(!text.contains("eval(") && !text.contains("innerHTML"), "{}", asset.name);
        }
    }
}

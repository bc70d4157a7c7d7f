//! The console of the Security Service: pages for people who would rather look than read, on the port of management.
//!
//! Pages are rendered here and work without a script. Each asks the management API in this process, in the place of whoever has signed in, and
//! is made of what that has answered: the console sees and does nothing that the API would not show and do for the same person. The same
//! documents are its JSON. Sessions are those of the API.

mod act;
mod action;
mod ask;
mod assets;
mod attempts;
mod chart;
mod confirm;
mod console;
mod failure;
mod frame;
mod headers;
mod mood;
mod origin;
mod page;
mod pages;
mod place;
mod rows;
mod serve;
mod sign_in;
mod text;
mod viewer;
mod visible;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use console::Console;
use holdfast_service_api::Service;
use std::sync::Arc;

/// Most bytes of a form.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// Returns the routes of the port of management with the console: its pages below `/console`, whither `/` leads, and everything else as
/// `management` has it.
pub fn router(service: Arc<Service>, management: Router) -> Router {
    let console =
        Console { service, management: management.clone(), attempts: std::sync::Mutex::default() };
    Router::new()
        .route("/", get(serve::first))
        .route("/console", get(serve::first))
        .route("/console/assets/{name}", get(serve::asset))
        .route("/console/sign-in", get(serve::sign_in_form).post(serve::sign_in))
        .route("/console/sign-out", post(serve::sign_out))
        .route("/console/{*path}", get(serve::page).post(serve::form))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(Arc::new(console))
        .fallback_service(management)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }

    /// What is never written cannot forge a line: whatever a browser sends, the console logs nothing.
    #[test]
    fn nothing_of_a_request_reaches_the_log() {
        let mut all = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        assert!(all.len() > 25, "{}", all.len());
        let words = ["print", "dbg"].map(|word| [word, "ln!("].concat());
        for (path, text) in all {
            assert!(words.iter().all(|word| !text.contains(word.as_str())), "{path}");
        }
    }

    /// The one text that is written as markup is a page's body, which a template has made.
    #[test]
    fn one_text_is_written_as_it_is() {
        let mut all = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("templates"), &mut all);
        let safe: usize = all.iter().map(|(_, text)| text.matches("|safe").count()).sum();
        assert_eq!(safe, 1);
    }
}

//! Where the keys of catalogs' roots are, by the settings: files of the folder, or a token.

use crate::error::ServerError;
use crate::folder::RootFiles;
use crate::settings::Settings;
#[cfg(not(feature = "pkcs11"))]
use crate::settings::Token;
#[cfg(feature = "pkcs11")]
use crate::token_roots::open_token;
use holdfast_service_api::issuers::Roots;
use std::path::Path;
use std::sync::Arc;

/// Returns where the settings say that they are.
///
/// # Errors
/// It is a token, and this program cannot use one.
pub fn open(folder: &Path, settings: &Settings) -> Result<Arc<dyn Roots>, ServerError> {
    match &settings.keys.token {
        Some(token) => open_token(folder, token),
        None => Ok(Arc::new(RootFiles(folder.join(&settings.keys.roots)))),
    }
}

#[cfg(not(feature = "pkcs11"))]
fn open_token(_: &Path, _: &Token) -> Result<Arc<dyn Roots>, ServerError> {
    Err(ServerError::WithoutTokens)
}

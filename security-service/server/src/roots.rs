//! Where the keys of catalogs' roots are, by the settings: files of the folder, or a token.

use crate::error::ServerError;
use crate::folder::RootFiles;
use crate::settings::{Settings, Token};
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

#[cfg(feature = "pkcs11")]
use in_token::open_token;

#[cfg(feature = "pkcs11")]
mod in_token {
    use super::{Arc, Path, Roots, ServerError, Token};
    use crate::folder;
    use holdfast_evidence::messages::CatalogId;
    use holdfast_service_issuing::root_key::RootKey;
    use holdfast_service_issuing::token::{self, TokenError};
    use holdfast_types::chain;
    use std::io;
    use std::path::PathBuf;
    use std::sync::{Mutex, PoisonError};

    /// Keys in a token, by the catalog's id in their label. The token is opened when it is needed, so that a service goes on while it
    /// is elsewhere.
    struct TokenRoots {
        module: PathBuf,
        label: String,
        pin: PathBuf,
        opened: Mutex<Option<token::Token>>,
    }

    impl TokenRoots {
        fn with<T>(
            &self,
            work: impl FnOnce(&token::Token) -> Result<T, TokenError>,
        ) -> io::Result<T> {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            let other = |error: &dyn std::error::Error| io::Error::other(chain(error));
            let token = match opened.take() {
                Some(token) => token,
                None => {
                    let pin = folder::read_secret(&self.pin).map_err(|error| other(&error))?;
                    let token = token::Token::open(&self.module, &self.label, &pin);
                    token.map_err(|error| other(&error))?
                }
            };
            // One that has failed is opened anew the next time.
            let done = work(&token).map_err(|error| other(&error))?;
            *opened = Some(token);
            Ok(done)
        }
    }

    impl Roots for TokenRoots {
        fn find(&self, catalog: &CatalogId) -> io::Result<Option<RootKey>> {
            self.with(|token| token.find(&label(catalog)))
        }

        fn make(&self, catalog: &CatalogId) -> io::Result<RootKey> {
            self.with(|token| token.make(&label(catalog)))
        }
    }

    fn label(catalog: &CatalogId) -> String {
        format!("holdfast {catalog} root")
    }

    pub(super) fn open_token(folder: &Path, of: &Token) -> Result<Arc<dyn Roots>, ServerError> {
        Ok(Arc::new(TokenRoots {
            module: folder.join(&of.module),
            label: of.label.clone(),
            pin: folder.join(&of.pin),
            opened: Mutex::new(None),
        }))
    }
}

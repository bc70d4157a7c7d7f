//! Keys of catalogs' roots in a token, by PKCS #11.

use crate::error::ServerError;
use crate::folder;
use crate::settings::Token;
use holdfast_evidence::messages::CatalogId;
use holdfast_service_api::issuers::Roots;
use holdfast_service_issuing::root_key::RootKey;
use holdfast_service_issuing::token::{self, TokenError};
use holdfast_types::chain;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Keys in a token, by the catalog's id in their label. The token is opened when it is needed, so that a service goes on while it
/// is elsewhere.
struct TokenRoots {
    module: PathBuf,
    label: String,
    pin: PathBuf,
    opened: Mutex<Option<token::Token>>,
}

impl TokenRoots {
    fn with<T>(&self, work: impl FnOnce(&token::Token) -> Result<T, TokenError>) -> io::Result<T> {
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

/// Returns the roots of a token, which is opened when one of them is needed.
pub(crate) fn open_token(folder: &Path, of: &Token) -> Result<Arc<dyn Roots>, ServerError> {
    Ok(Arc::new(TokenRoots {
        module: folder.join(&of.module),
        label: of.label.clone(),
        pin: folder.join(&of.pin),
        opened: Mutex::new(None),
    }))
}

//! Issuers of catalogs: opened from the store once, and renewed at half time where the root's key is at hand.

use holdfast_evidence::messages::CatalogId;
use holdfast_service_issuing::IssuingError;
use holdfast_service_issuing::authority::{Made, make_issuing_by, next_is_due};
use holdfast_service_issuing::issuer::LeafIssuer;
use holdfast_service_issuing::lint;
use holdfast_service_issuing::root_key::RootKey;
use holdfast_service_issuing::validity::Terms;
use holdfast_service_issuing::wrapping::KeyEncryptionKey;
use holdfast_service_store::audit::{self, Entry};
use holdfast_service_store::authority::{self, Authority, AuthorityKind};
use holdfast_service_store::{Scope, Store, StoreError};
use holdfast_types::chain;
use holdfast_types::event::security_service::{ISSUING_RENEWAL_FAILED, ISSUING_RENEWAL_WAITS};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// Seconds after which an issuer is looked at again while the next one cannot be made: the root's key is elsewhere.
const LOOK_AGAIN_S: u64 = 60 * 60;

/// Where keys of roots are, if they are at hand.
pub trait Roots: Send + Sync {
    /// Returns what signs as a catalog's root, or nothing where its key is kept elsewhere.
    ///
    /// # Errors
    /// It cannot be read or reached.
    fn find(&self, catalog: &CatalogId) -> io::Result<Option<RootKey>>;

    /// Makes the key of a new catalog's root, and keeps it before it is used.
    ///
    /// # Errors
    /// It cannot be made or written.
    fn make(&self, catalog: &CatalogId) -> io::Result<RootKey>;
}

/// Errors of issuers.
#[derive(Debug, Error)]
pub enum IssuersError {
    /// The store failed.
    #[error("cannot read or keep an issuing certificate")]
    Store(#[from] StoreError),
    /// A certificate cannot be made or used.
    #[error("an issuing certificate cannot be used")]
    Issuing(#[from] IssuingError),
    /// The key of the root failed.
    #[error("the key of the root cannot be read")]
    Root(#[source] io::Error),
    /// What is to be an issuing certificate cannot be read.
    #[error("the issuing certificate cannot be read")]
    Unreadable,
    /// There is no issuing certificate that is valid, and no key to make one with.
    #[error("the catalog has no issuing certificate, and the key of its root is not at hand")]
    None,
}

struct Held {
    issuer: Arc<LeafIssuer>,
    look_again_at: u64,
}

/// Issuers of catalogs.
pub struct Issuers {
    key: KeyEncryptionKey,
    roots: Arc<dyn Roots>,
    held: Mutex<HashMap<CatalogId, Held>>,
    opening: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Issuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issuers")
    }
}

impl Issuers {
    /// Makes them from the key that issuing keys are wrapped by.
    #[must_use]
    pub fn new(key: KeyEncryptionKey, roots: Arc<dyn Roots>) -> Self {
        let held = Mutex::new(HashMap::new());
        Self { key, roots, held, opening: tokio::sync::Mutex::new(()) }
    }

    /// Returns the key that secrets are wrapped by.
    pub(crate) fn key_encryption_key(&self) -> &KeyEncryptionKey {
        &self.key
    }

    /// Returns where keys of roots are.
    #[must_use]
    pub fn roots(&self) -> &dyn Roots {
        &*self.roots
    }

    /// Returns the row of an issuing certificate, its key wrapped.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn row(&self, catalog: &CatalogId, made: &Made) -> Result<Authority, IssuingError> {
        let purpose = purpose(catalog, &made.serial);
        let wrapped = self.key.wrap(&purpose, made.key.serialized_der())?;
        Ok(Authority {
            serial: made.serial.clone(),
            kind: AuthorityKind::Issuing,
            certificate: made.certificate.clone(),
            wrapped_key: Some(wrapped),
            not_before: made.not_before,
            not_after: made.not_after,
        })
    }

    fn held(&self, catalog: &CatalogId, now: u64) -> Option<Arc<LeafIssuer>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(catalog).filter(|held| now < held.look_again_at).map(|held| held.issuer.clone())
    }

    /// Returns the issuer of a catalog; one that is past half time is replaced first, if it can be.
    ///
    /// # Errors
    /// See [`IssuersError`].
    pub async fn of(
        &self,
        store: &Store,
        scope: Scope,
        now: u64,
    ) -> Result<Arc<LeafIssuer>, IssuersError> {
        let catalog = scope.catalog();
        if let Some(issuer) = self.held(&catalog, now) {
            return Ok(issuer);
        }
        let _one_at_a_time = self.opening.lock().await;
        if let Some(issuer) = self.held(&catalog, now) {
            return Ok(issuer);
        }
        let authorities = store.authorities(scope).await?;
        let issuing = authorities.iter().find(|row| row.kind == AuthorityKind::Issuing);
        let mut look_again_at = now.saturating_add(LOOK_AGAIN_S);
        let mut row = issuing.cloned();
        if next_is_due(issuing.map(|row| (row.not_before, row.not_after)), now) {
            match self.renew(store, scope, &authorities, now).await {
                Ok(Some(next)) => row = Some(next),
                Ok(None) => {}
                // What is there is used to its end; the log says each hour that it was not renewed.
                Err(error) if row.is_some() => {
                    let cause = chain(&error);
                    eprintln!(
                        "catalog {catalog}: cannot renew the issuing certificate: {cause} {ISSUING_RENEWAL_FAILED}"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        let row = row.filter(|row| now < row.not_after).ok_or(IssuersError::None)?;
        let half = row.not_after.saturating_sub(row.not_before) / 2;
        let half_at = row.not_before.saturating_add(half);
        if half_at > now {
            look_again_at = half_at;
        }
        let issuer = Arc::new(self.open(&catalog, &row)?);
        let held = Held { issuer: issuer.clone(), look_again_at };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(catalog, held);
        Ok(issuer)
    }

    /// Opens a row whose key was wrapped here.
    pub(crate) fn open(
        &self,
        catalog: &CatalogId,
        row: &Authority,
    ) -> Result<LeafIssuer, IssuersError> {
        let wrapped = row.wrapped_key.as_deref().ok_or(IssuersError::None)?;
        let key = self.key.unwrap(&purpose(catalog, &row.serial), wrapped)?;
        let certificate = row.certificate.clone();
        Ok(LeafIssuer::new(catalog, &row.serial, certificate, &key, row.not_after)?)
    }

    /// Makes the next issuing certificate and keeps it, where the root's key is at hand.
    async fn renew(
        &self,
        store: &Store,
        scope: Scope,
        authorities: &[Authority],
        now: u64,
    ) -> Result<Option<Authority>, IssuersError> {
        let catalog = scope.catalog();
        let root = authorities.iter().find(|row| row.kind == AuthorityKind::Root);
        let (Some(root), Some(key)) =
            (root, self.roots.find(&catalog).map_err(IssuersError::Root)?)
        else {
            eprintln!(
                "catalog {catalog}: the next issuing certificate waits for the key of the root {ISSUING_RENEWAL_WAITS}"
            );
            return Ok(None);
        };
        self.renew_by(store, scope, root, &key, now).await.map(Some)
    }

    /// Makes the next issuing certificate by what signs as the root, and has webpki read it.
    fn make(
        &self,
        catalog: &CatalogId,
        root: &Authority,
        key: &RootKey,
        now: u64,
    ) -> Result<Authority, IssuersError> {
        let made = make_issuing_by(catalog, key, now)?;
        let row = self.row(catalog, &made)?;
        lint::check(catalog, &self.open(catalog, &row)?, &root.certificate, now)?;
        Ok(row)
    }

    /// Makes the next issuing certificate and keeps it not; nothing where the root's key is elsewhere.
    ///
    /// # Errors
    /// See [`IssuersError`].
    pub(crate) async fn prepare(
        &self,
        store: &Store,
        scope: Scope,
        now: u64,
    ) -> Result<Option<Authority>, IssuersError> {
        let catalog = scope.catalog();
        let authorities = store.authorities(scope).await?;
        let root = authorities.iter().find(|row| row.kind == AuthorityKind::Root);
        let key = self.roots.find(&catalog).map_err(IssuersError::Root)?;
        let made = root.zip(key).map(|(root, key)| self.make(&catalog, root, &key, now));
        made.transpose()
    }

    /// Has the issuer of a catalog be looked at again, since there may be another.
    pub(crate) fn forget(&self, catalog: &CatalogId) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(catalog);
    }

    /// Wraps the key of a request until its certificate has come.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn wrap_requested(&self, catalog: &CatalogId, key: &[u8]) -> Result<Vec<u8>, IssuingError> {
        self.key.wrap(&purpose_of_request(catalog), key)
    }

    /// Unwraps the key of a request.
    ///
    /// # Errors
    /// It was wrapped by another key, or for another catalog.
    pub fn unwrap_requested(
        &self,
        catalog: &CatalogId,
        wrapped: &[u8],
    ) -> Result<Vec<u8>, IssuingError> {
        self.key.unwrap(&purpose_of_request(catalog), wrapped)
    }

    /// Takes an issuing certificate (DER) that whoever has the root's key has made of the key of a request (PKCS #8): has webpki read it
    /// from the root, and keeps it.
    ///
    /// # Errors
    /// It is of another key or root, has ended, or cannot be kept.
    pub async fn install(
        &self,
        store: &Store,
        scope: Scope,
        root: &Authority,
        (certificate, key): (&[u8], &[u8]),
        now: u64,
    ) -> Result<Authority, IssuersError> {
        let catalog = scope.catalog();
        let Terms { serial, not_before, not_after, .. } =
            Terms::of(certificate).ok_or(IssuersError::Unreadable)?;
        let wrapped_key = Some(self.key.wrap(&purpose(&catalog, &serial), key)?);
        let (kind, certificate) = (AuthorityKind::Issuing, certificate.to_vec());
        let row = Authority { serial, kind, certificate, wrapped_key, not_before, not_after };
        lint::check(&catalog, &self.open(&catalog, &row)?, &root.certificate, now)?;
        self.keep(store, scope, row, "ca-certificate.install", now).await
    }

    /// Makes the next issuing certificate by what signs as the root, has webpki read it, and keeps it.
    ///
    /// # Errors
    /// See [`IssuersError`].
    pub async fn renew_by(
        &self,
        store: &Store,
        scope: Scope,
        root: &Authority,
        key: &RootKey,
        now: u64,
    ) -> Result<Authority, IssuersError> {
        let row = self.make(&scope.catalog(), root, key, now)?;
        self.keep(store, scope, row, "ca-certificate.renew", now).await
    }

    /// Keeps an issuing certificate, with a row of the audit log.
    async fn keep(
        &self,
        store: &Store,
        scope: Scope,
        row: Authority,
        verb: &'static str,
        now: u64,
    ) -> Result<Authority, IssuersError> {
        let kept = row.clone();
        let object = row.serial.clone();
        let entry = Entry { who: "service".to_owned(), verb, object, digest: [0; 32], at: now };
        let write = store.write(move |connection| {
            Box::pin(async move {
                authority::add(connection, scope, kept).await?;
                audit::append(connection, scope, entry).await
            })
        });
        write.await?;
        Ok(row)
    }
}

/// What the key of a request is wrapped for.
fn purpose_of_request(catalog: &CatalogId) -> String {
    format!("request {catalog}")
}

/// What an issuing key is wrapped for.
fn purpose(catalog: &CatalogId, serial: &str) -> String {
    format!("issuing {catalog} {serial}")
}

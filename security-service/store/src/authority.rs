//! Certificates of a catalog's own authority: its root, and those that issue, with their wrapped keys.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use sqlx::any::AnyRow;

/// What a certificate of an authority is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityKind {
    /// The root that devices and relying parties hold.
    Root,
    /// One that issues certificates of devices.
    Issuing,
}

impl AuthorityKind {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Issuing => "issuing",
        }
    }
}

/// A certificate of an authority.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Kind of the authority: a root, or one that issues.
    pub kind: AuthorityKind,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// Its key, wrapped; none where the service does not have it.
    pub wrapped_key: Option<Vec<u8>>,
    /// Begin, in seconds since 1970.
    pub not_before: u64,
    /// End, in seconds since 1970.
    pub not_after: u64,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("serial", &self.serial).field("kind", &self.kind).finish()
    }
}

impl Store {
    /// Returns all certificates of the catalog's authority, those that end last first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn authorities(&self, scope: Scope) -> Result<Vec<Authority>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(authority),
            " FROM authority WHERE catalog = $1 ORDER BY not_after DESC, serial"
        );
        let rows = sqlx::query(query).bind(scope.key()).fetch_all(&mut *connection).await?;
        rows.iter().map(authority_of).collect()
    }
}

/// Adds a certificate of the catalog's authority.
///
/// # Errors
/// There is one with this serial number, or those of the database.
pub async fn add(
    connection: &mut Connection,
    scope: Scope,
    authority: Authority,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO authority
            (catalog, serial, kind, certificate, wrapped_key, not_before, not_after)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(authority.serial)
        .bind(authority.kind.word().to_owned())
        .bind(authority.certificate)
        .bind(authority.wrapped_key)
        .bind(stored(authority.not_before))
        .bind(stored(authority.not_after))
        .execute(connection)
        .await?;
    Ok(())
}

/// Returns the serial number of the certificate of a kind that ends last, where there is one.
///
/// # Errors
/// Those of the database.
pub async fn newest(
    connection: &mut Connection,
    scope: Scope,
    kind: AuthorityKind,
) -> Result<Option<String>, StoreError> {
    let query = "SELECT serial FROM authority WHERE catalog = $1 AND kind = $2
        ORDER BY not_after DESC, serial LIMIT 1";
    let query = sqlx::query(query).bind(scope.key()).bind(kind.word().to_owned());
    let row = query.fetch_optional(connection).await?;
    row.map(|row| columns::text(&row, "serial")).transpose()
}

fn authority_of(row: &AnyRow) -> Result<Authority, StoreError> {
    let kind = match columns::text(row, "kind")?.as_str() {
        "root" => AuthorityKind::Root,
        "issuing" => AuthorityKind::Issuing,
        _ => return Err(StoreError::Damaged("kind")),
    };
    Ok(Authority {
        serial: columns::text(row, "serial")?,
        kind,
        certificate: columns::bytes(row, "certificate")?,
        wrapped_key: columns::bytes_if_any(row, "wrapped_key")?,
        not_before: columns::number(row, "not_before")?,
        not_after: columns::number(row, "not_after")?,
    })
}

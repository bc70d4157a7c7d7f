//! Tokens, and the ticket of the first owner. Both are random, and kept as their hashes alone.

use crate::audit::{self, Entry};
use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::person::{must_be_owned, must_be_there};
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_service_domain::extent::Extent;
use holdfast_service_domain::person::PersonId;
use holdfast_service_domain::role::Role;
use holdfast_service_domain::sign_in_settings::StandingGrant;
use sqlx::any::AnyRow;

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the secret, in hexadecimal.
    pub hash: String,
    /// Its name, which the audit log has.
    pub name: String,
    /// Whose it is.
    pub person: PersonId,
    /// Its role.
    pub role: Role,
    /// How far it reaches.
    pub extent: Extent,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
    /// Its end, in seconds since 1970.
    pub ends_at: u64,
}

impl Store {
    /// Keeps a ticket of the first owner, unless there is a token already, and says whether it is kept. There is no account
    /// but that which it makes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn put_ticket(&self, hash: String, ends_at: u64) -> Result<bool, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let tokens = sqlx::query("SELECT hash FROM token LIMIT 1");
                if tokens.fetch_optional(&mut *connection).await?.is_some() {
                    return Ok(false);
                }
                sqlx::query("DELETE FROM ticket").execute(&mut *connection).await?;
                let insert = sqlx::query("INSERT INTO ticket (hash, ends_at) VALUES ($1, $2)");
                insert.bind(hash).bind(stored(ends_at)).execute(connection).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Takes the ticket of this hash, which is gone then, and makes a token of the whole service for it. False if there is
    /// no such ticket any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_ticket(&self, hash: String, token: Token) -> Result<bool, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let delete = "DELETE FROM ticket WHERE hash = $1 RETURNING ends_at";
                let ticket =
                    sqlx::query(delete).bind(hash).fetch_optional(&mut *connection).await?;
                let Some(ticket) = ticket else {
                    return Ok(false);
                };
                if columns::number(&ticket, "ends_at")? <= token.created_at {
                    return Ok(false);
                }
                insert(connection, token).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Returns the tokens of a catalog.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tokens(&self, scope: Scope) -> Result<Vec<Token>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(token),
            " FROM token WHERE catalog = $1 ORDER BY name, hash"
        );
        let rows = sqlx::query(query).bind(scope.key()).fetch_all(&mut *connection).await?;
        rows.iter().map(|row| token_of(row, scope)).collect()
    }

    /// Makes a token of a catalog.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn add_token(
        &self,
        scope: Scope,
        token: Token,
        entry: Entry,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                must_be_there(connection, scope, &token.extent).await?;
                insert(connection, token).await?;
                audit::append(connection, scope, entry).await
            })
        })
        .await
    }
}

/// Ends the tokens of this name.
///
/// # Errors
/// There is none, it is the last owner's, or those of the database.
pub async fn remove(
    connection: &mut Connection,
    scope: Scope,
    name: String,
    standing: &[StandingGrant],
    now: u64,
) -> Result<(), StoreError> {
    let lock = "UPDATE catalog SET revision = revision WHERE id = $1";
    sqlx::query(lock).bind(scope.key()).execute(&mut *connection).await?;
    let delete =
        sqlx::query("DELETE FROM token WHERE catalog = $1 AND name = $2 RETURNING role, product");
    let rows = delete.bind(scope.key()).bind(name).fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Err(StoreError::Missing("token"));
    }
    for row in &rows {
        let of_all = columns::text_if_any(row, "product")?.is_none();
        if of_all && columns::role(row)? == Role::Owner {
            must_be_owned(connection, scope, standing, now).await?;
        }
    }
    Ok(())
}

async fn insert(connection: &mut Connection, token: Token) -> Result<(), StoreError> {
    let insert =
        "INSERT INTO token (catalog, hash, name, role, created_at, ends_at, person, product, grp)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    sqlx::query(insert)
        .bind(token.extent.catalog().map(|catalog| catalog.to_string()))
        .bind(token.hash)
        .bind(token.name)
        .bind(token.role.word().to_owned())
        .bind(stored(token.created_at))
        .bind(stored(token.ends_at))
        .bind(token.person.text().to_owned())
        .bind(token.extent.product().map(str::to_owned))
        .bind(token.extent.group().map(str::to_owned))
        .execute(connection)
        .await?;
    Ok(())
}

fn token_of(row: &AnyRow, scope: Scope) -> Result<Token, StoreError> {
    Ok(Token {
        hash: columns::text(row, "hash")?,
        name: columns::text(row, "name")?,
        person: PersonId::stored(columns::text(row, "person")?),
        role: columns::role(row)?,
        extent: columns::extent(row, scope.catalog())?,
        created_at: columns::number(row, "created_at")?,
        ends_at: columns::number(row, "ends_at")?,
    })
}

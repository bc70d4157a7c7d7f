//! Migrations: tables are brought to the newest version that the program knows, and tables of newer versions are used where those say
//! that this program may.

use crate::error::StoreError;
use crate::kind::Kind;
use crate::schema::{VERSIONS, WITH_LEAST};
use sqlx::{AnyConnection, Executor, Row};

/// The statement that takes the lock under which PostgreSQL's tables are made: whoever comes second waits for the first.
const LOCK: &str =
    "SET LOCAL lock_timeout = '10min'; SELECT pg_advisory_xact_lock(4702111234474983745)";

/// Versions of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    /// The version that the database has; 0 where it has no tables.
    pub found: i64,
    /// The version that a program has to know to use them.
    pub least: i64,
    /// The newest version that this program knows.
    pub known: i64,
}

impl Tables {
    /// Refuses tables that this program cannot use.
    fn admit(self) -> Result<Self, StoreError> {
        if self.least > self.known {
            return Err(StoreError::Newer {
                found: self.found,
                least: self.least,
                known: self.known,
            });
        }
        Ok(self)
    }
}

/// Returns the newest version that this program knows.
pub(crate) fn known() -> i64 {
    VERSIONS.last().map_or(0, |version| version.number)
}

/// Looks at the tables of a database, and changes nothing.
pub(crate) async fn look(connection: &mut AnyConnection, kind: Kind) -> Result<Tables, StoreError> {
    let known = known();
    let query = match kind {
        Kind::Sqlite => "SELECT count(*) AS n FROM sqlite_master WHERE name = 'schema_version'",
        Kind::Postgres => {
            "SELECT count(*) AS n FROM pg_catalog.pg_class
            WHERE relname = 'schema_version' AND pg_catalog.pg_table_is_visible(oid)"
        }
    };
    let there: i64 = sqlx::query(query).fetch_one(&mut *connection).await?.try_get("n")?;
    if there == 0 {
        return Ok(Tables { found: 0, least: 0, known });
    }
    let query = "SELECT COALESCE(MAX(version), 0) AS version FROM schema_version";
    let found: i64 = sqlx::query(query).fetch_one(&mut *connection).await?.try_get("version")?;
    let mut least = 0;
    if found >= WITH_LEAST {
        let query = "SELECT COALESCE(MAX(least), 0) AS least FROM schema_version";
        least = sqlx::query(query).fetch_one(&mut *connection).await?.try_get("least")?;
    }
    Ok(Tables { found, least, known })
}

/// Brings the tables to the newest version that is known, in a transaction in which nobody else does, and returns what they were before.
/// Tables that are as new, or newer and for this program as well, are left alone, and no lock is taken for them.
pub(crate) async fn bring_up(
    connection: &mut AnyConnection,
    kind: Kind,
) -> Result<Tables, StoreError> {
    let before = look(connection, kind).await?.admit()?;
    if before.found >= before.known {
        return Ok(before);
    }
    let (begin, lock) = match kind {
        Kind::Sqlite => ("BEGIN IMMEDIATE", None),
        Kind::Postgres => ("BEGIN", Some(LOCK)),
    };
    connection.execute(sqlx::raw_sql(begin)).await?;
    if let Some(lock) = lock {
        connection.execute(sqlx::raw_sql(lock)).await?;
    }
    let table = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)";
    connection.execute(sqlx::raw_sql(table)).await?;
    // Whoever had the lock before may have done it.
    let found = look(connection, kind).await?.admit()?.found;
    for version in VERSIONS.iter().filter(|version| version.number > found) {
        let failed = |source| StoreError::Migrate { version: version.number, source };
        let (text, own) = match kind {
            Kind::Sqlite => (version.tables.to_owned(), version.sqlite),
            Kind::Postgres => (version.tables.replace(" BLOB", " BYTEA"), version.postgres),
        };
        // Both are texts of this program.
        let text = sqlx::raw_sql(sqlx::AssertSqlSafe(text));
        connection.execute(text).await.map_err(failed)?;
        if !own.is_empty() {
            connection.execute(sqlx::raw_sql(own)).await.map_err(failed)?;
        }
        let insert = if version.number < WITH_LEAST {
            sqlx::query("INSERT INTO schema_version (version) VALUES ($1)").bind(version.number)
        } else {
            let insert = "INSERT INTO schema_version (version, least) VALUES ($1, $2)";
            sqlx::query(insert).bind(version.number).bind(version.contracts.unwrap_or(0))
        };
        insert.execute(&mut *connection).await.map_err(failed)?;
    }
    connection.execute(sqlx::raw_sql("COMMIT")).await?;
    Ok(Tables { found, ..before })
}

//! The database: opened, brought to the newest version of the tables, read from a pool, and written through one door.

use crate::check_in_row::Row as CheckInRow;
use crate::error::StoreError;
use crate::latency::Latency;
use crate::moment::{Moment, Observer};
use crate::schema::VERSIONS;
use crate::step::{Connection, Step};
use crate::writer::{Work, Writer, in_transaction};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection as _, Executor, Row};
use std::any::Any;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Connections that read.
const READERS: u32 = 8;
/// Longest wait for a connection.
const ACQUIRE: Duration = Duration::from_secs(10);
/// Time for which a connection to PostgreSQL that was used is believed to be there; then it is asked before it is used again.
const TRUSTED: Duration = Duration::from_secs(1);
/// What each connection to SQLite begins with. Readers do not block the writer (WAL), what is committed is on the disk
/// (FULL), and another process, such as a backup, is waited for.
const SQLITE: &str =
    "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
/// Key of the lock under which PostgreSQL's tables are made.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(4702111234474983745)";

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: AnyPool,
    kind: Kind,
    writer: Writer,
    observer: Observer,
    latency: Latency,
}

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
}

impl Store {
    /// Opens the database of a URL (`sqlite:PATH` or `postgres://…`), makes it where SQLite has none, and brings its tables to
    /// the newest version.
    ///
    /// # Errors
    /// It cannot be opened, or was made by a newer program.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_observed(url, Observer::nobody()).await
    }

    /// Opens it as [`open`](Self::open) does, for an observer that is told of each [`Moment`].
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_observed(url: &str, observer: Observer) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let kind = match url.split_once(':') {
            Some(("sqlite", _)) => Kind::Sqlite,
            Some(("postgres" | "postgresql", _)) => Kind::Postgres,
            _ => return Err(StoreError::Url),
        };
        let mut url = url.to_owned();
        if kind == Kind::Sqlite && !url.contains('?') {
            url.push_str("?mode=rwc");
        }
        let options = AnyConnectOptions::from_str(&url).map_err(StoreError::Open)?;
        let options = options.disable_statement_logging();
        let mut first = options.connect().await.map_err(StoreError::Open)?;
        prepare(&mut first, kind).await.map_err(StoreError::Open)?;
        migrate(&mut first, kind).await?;
        let pool = AnyPoolOptions::new().max_connections(READERS).acquire_timeout(ACQUIRE);
        let pool = pool.after_connect(move |connection, _| Box::pin(prepare(connection, kind)));
        // A question before each use would cost as much as the use.
        let pool = pool.test_before_acquire(false).before_acquire(move |connection, of| {
            let is_asked = kind == Kind::Postgres && of.idle_for >= TRUSTED;
            Box::pin(async move {
                if is_asked {
                    connection.ping().await?;
                }
                Ok(true)
            })
        });
        let pool = pool.connect_with(options).await.map_err(StoreError::Open)?;
        let writer = match kind {
            Kind::Sqlite => Writer::start(first, observer.clone()),
            Kind::Postgres => Writer::start_of_check_ins(pool.clone(), observer.clone()),
        };
        Ok(Self { pool, kind, writer, observer, latency: Latency::default() })
    }

    /// Tells the observer of a moment.
    pub fn reached(&self, moment: Moment) {
        self.observer.reached(moment);
    }

    /// Returns how long writes took.
    #[must_use]
    pub fn latency(&self) -> &Latency {
        &self.latency
    }

    /// Returns the word for the database that it is on: `sqlite` or `postgresql`.
    #[must_use]
    pub fn database(&self) -> &'static str {
        match self.kind {
            Kind::Sqlite => "sqlite",
            Kind::Postgres => "postgresql",
        }
    }

    /// True if the database is SQLite's.
    pub(crate) fn is_sqlite(&self) -> bool {
        self.kind == Kind::Sqlite
    }

    /// Returns a connection to read from.
    ///
    /// # Errors
    /// There is none in time.
    pub(crate) async fn read(&self) -> Result<sqlx::pool::PoolConnection<sqlx::Any>, StoreError> {
        Ok(self.pool.acquire().await?)
    }

    /// Writes: runs the work in a transaction and returns what it returns once that is committed. Where the work fails,
    /// nothing of it is stored.
    ///
    /// # Errors
    /// Those of the work, and those of the database.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> Step<'c, T> + Send + 'static,
    {
        let began = Instant::now();
        let written = self.write_now(work).await;
        self.latency.add(began.elapsed());
        written
    }

    async fn write_now<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> Step<'c, T> + Send + 'static,
    {
        if self.kind == Kind::Postgres {
            return in_transaction(&self.pool, &self.observer, work).await;
        }
        let erased: Work = Box::new(move |connection| {
            let work = work(connection);
            Box::pin(async move {
                let done: Box<dyn Any + Send> = Box::new(work.await?);
                Ok(done)
            })
        });
        let done = self.writer.write(erased).await?;
        // The writer returns what the work has returned.
        done.downcast::<T>().map(|done| *done).map_err(|_| StoreError::Stopped)
    }

    /// Writes the row of a check-in, together with what others write, and returns once it is committed.
    pub(crate) async fn write_row(&self, row: CheckInRow) -> Result<(), StoreError> {
        let began = Instant::now();
        let written = self.writer.write_row(row).await;
        self.latency.add(began.elapsed());
        written
    }

    /// True if the database answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.read().await?;
        sqlx::query("SELECT count(*) FROM catalog").fetch_one(&mut *connection).await?;
        Ok(())
    }

    /// Waits until what was begun is committed, and closes the database.
    pub async fn close(self) {
        if self.kind == Kind::Sqlite {
            self.writer.end().await;
        }
        self.pool.close().await;
    }
}

async fn prepare(connection: &mut AnyConnection, kind: Kind) -> Result<(), sqlx::Error> {
    if kind == Kind::Sqlite {
        connection.execute(sqlx::raw_sql(SQLITE)).await?;
    }
    Ok(())
}

/// Brings the tables to the newest version, in a transaction in which nobody else does.
async fn migrate(connection: &mut AnyConnection, kind: Kind) -> Result<(), StoreError> {
    let (begin, lock) = match kind {
        Kind::Sqlite => ("BEGIN IMMEDIATE", None),
        Kind::Postgres => ("BEGIN", Some(MIGRATION_LOCK)),
    };
    connection.execute(sqlx::raw_sql(begin)).await?;
    if let Some(lock) = lock {
        connection.execute(sqlx::raw_sql(lock)).await?;
    }
    let table = "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)";
    connection.execute(sqlx::raw_sql(table)).await?;
    let found = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM schema_version");
    let found: i64 = found.fetch_one(&mut *connection).await?.try_get("version")?;
    let known = i64::try_from(VERSIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (version, tables) in (1..).zip(VERSIONS).filter(|(version, _)| *version > found) {
        let failed = |source| StoreError::Migrate { version, source };
        let (text, own) = match kind {
            Kind::Sqlite => (tables.tables.to_owned(), tables.sqlite),
            Kind::Postgres => (tables.tables.replace(" BLOB", " BYTEA"), tables.postgres),
        };
        // Both are texts of this program.
        let text = sqlx::raw_sql(sqlx::AssertSqlSafe(text));
        connection.execute(text).await.map_err(failed)?;
        if !own.is_empty() {
            connection.execute(sqlx::raw_sql(own)).await.map_err(failed)?;
        }
        let insert = sqlx::query("INSERT INTO schema_version (version) VALUES ($1)").bind(version);
        insert.execute(&mut *connection).await.map_err(failed)?;
    }
    connection.execute(sqlx::raw_sql("COMMIT")).await?;
    Ok(())
}

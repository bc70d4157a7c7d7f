//! The database: opened, brought to the newest version of the tables, read from a pool, and written through one door.

use crate::blobs::{Blobs, Changing};
use crate::check_in_row::Row as CheckInRow;
use crate::columns;
use crate::error::StoreError;
use crate::kind::Kind;
use crate::latency::Latency;
use crate::migration::{self, Tables};
use crate::moment::{Moment, Observer};
use crate::step::{Connection, Step};
use crate::writer::{Work, Writer, in_transaction};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection as _, Executor};
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
/// The statement that takes the lock under which instances at one PostgreSQL change files, until the connection's end.
const FILES_LOCK: &str =
    "BEGIN; SET LOCAL lock_timeout = '60s'; SET LOCAL idle_in_transaction_session_timeout = 0;
    SELECT pg_advisory_xact_lock(4702111234474983746)";

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: AnyPool,
    options: AnyConnectOptions,
    kind: Kind,
    writer: Writer,
    observer: Observer,
    latency: Latency,
}

impl Store {
    /// Opens the database of a URL (`sqlite:PATH` or `postgres://…`), makes it where SQLite has none, and brings its tables to
    /// the newest version.
    ///
    /// # Errors
    /// It cannot be opened, or its tables are not for this program.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_observed(url, Observer::nobody()).await
    }

    /// Opens it as [`open`](Self::open) does, for an observer that is told of each [`Moment`].
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_observed(url: &str, observer: Observer) -> Result<Self, StoreError> {
        Self::open_by(url, observer, true).await
    }

    async fn open_by(url: &str, observer: Observer, migrates: bool) -> Result<Self, StoreError> {
        let (options, kind) = options(url)?;
        let mut first = options.connect().await.map_err(StoreError::Open)?;
        prepare(&mut first, kind).await.map_err(StoreError::Open)?;
        if migrates {
            migration::bring_up(&mut first, kind).await?;
        }
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
        let pool = pool.connect_with(options.clone()).await.map_err(StoreError::Open)?;
        let writer = match kind {
            Kind::Sqlite => Writer::start(first, observer.clone()),
            Kind::Postgres => Writer::start_of_check_ins(pool.clone(), observer.clone()),
        };
        Ok(Self { pool, options, kind, writer, observer, latency: Latency::default() })
    }

    /// Brings the tables of a database to the newest version that is known, as [`open`](Self::open) does, and returns which they had before.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn migrate(url: &str) -> Result<Tables, StoreError> {
        let (options, kind) = options(url)?;
        let mut connection = options.connect().await.map_err(StoreError::Open)?;
        prepare(&mut connection, kind).await.map_err(StoreError::Open)?;
        let before = migration::bring_up(&mut connection, kind).await?;
        connection.close().await?;
        Ok(before)
    }

    /// True if the database of a URL has tables of this service. Nothing is changed; a file that is not there is made empty.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn has_tables(url: &str) -> Result<bool, StoreError> {
        let (options, kind) = options(url)?;
        let mut connection = options.connect().await.map_err(StoreError::Open)?;
        let tables = migration::look(&mut connection, kind).await?;
        connection.close().await?;
        Ok(tables.found > 0)
    }

    /// Returns which versions the tables have, and which this program knows.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tables(&self) -> Result<Tables, StoreError> {
        let mut connection = self.read().await?;
        migration::look(&mut connection, self.kind).await
    }

    /// Returns the database's name and version, as it says them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn engine(&self) -> Result<String, StoreError> {
        let (name, query) = match self.kind {
            Kind::Sqlite => ("SQLite", "SELECT sqlite_version() AS version"),
            Kind::Postgres => ("PostgreSQL", "SELECT current_setting('server_version') AS version"),
        };
        let mut connection = self.read().await?;
        let row = sqlx::query(query).fetch_one(&mut *connection).await?;
        Ok(format!("{name} {}", columns::text(&row, "version")?))
    }

    /// Opens it as [`open`](Self::open) does, and leaves tables of an earlier version as they are: for whoever only looks.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_as_it_is(url: &str) -> Result<Self, StoreError> {
        Self::open_by(url, Observer::nobody(), false).await
    }

    /// Returns the newest time that was stored of changes and check-ins, in seconds since 1970; 0 where there is none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn newest_time(&self) -> Result<u64, StoreError> {
        let mut connection = self.read().await?;
        let mut newest = 0;
        for query in [
            "SELECT COALESCE(MAX(at), 0) AS at FROM audit",
            "SELECT COALESCE(MAX(seen_at), 0) AS at FROM device",
        ] {
            let row = sqlx::query(query).fetch_one(&mut *connection).await?;
            newest = newest.max(columns::number(&row, "at")?);
        }
        Ok(newest)
    }

    /// Returns the time of the database's own clock, in seconds since 1970; none where it has this host's.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn database_time(&self) -> Result<Option<u64>, StoreError> {
        if self.is_sqlite() {
            return Ok(None);
        }
        let mut connection = self.read().await?;
        let query = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT) AS now";
        let row = sqlx::query(query).fetch_one(&mut *connection).await?;
        columns::number(&row, "now").map(Some)
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
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
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

    /// Waits until nobody else stores or removes files, in any instance at this database, and keeps others from it.
    ///
    /// # Errors
    /// Another instance has not ended within a minute, or those of the database.
    pub async fn change_files<'b>(&self, files: &'b Blobs) -> Result<Changing<'b>, StoreError> {
        files
            .change_with(async || {
                if self.kind == Kind::Sqlite {
                    return Ok(None);
                }
                let mut connection = self.options.connect().await.map_err(StoreError::Open)?;
                connection.execute(sqlx::raw_sql(FILES_LOCK)).await?;
                Ok(Some(connection))
            })
            .await
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

/// Reads a URL of a database.
fn options(url: &str) -> Result<(AnyConnectOptions, Kind), StoreError> {
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
    Ok((options.disable_statement_logging(), kind))
}

async fn prepare(connection: &mut AnyConnection, kind: Kind) -> Result<(), sqlx::Error> {
    if kind == Kind::Sqlite {
        connection.execute(sqlx::raw_sql(SQLITE)).await?;
    }
    Ok(())
}

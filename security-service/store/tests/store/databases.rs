//! Both databases, new for each check, and SQLite once more as a newer program has left it.

use holdfast_service_store::Store;
use holdfast_service_store::postgres_harness::Postgres;
use sqlx::{Connection, Executor, Row};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, Weak};
use tempfile::TempDir;

/// A database of a check's own.
pub(crate) struct Database {
    url: String,
    /// True until its first opening, where a newer program is to have changed the tables behind that.
    is_to_be_newer: AtomicBool,
    _directory: Option<TempDir>,
}

impl Database {
    pub(crate) async fn open(&self) -> Store {
        let store = Store::open(&self.url).await.unwrap();
        if !self.is_to_be_newer.swap(false, Ordering::SeqCst) {
            return store;
        }
        store.close().await;
        self.expand(0).await;
        Store::open(&self.url).await.unwrap()
    }

    /// Returns its URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Does what a newer program may do while this one runs: each table gets two columns more, there is one table more, and a version that is
    /// for programs that know `least`. Returns the version.
    pub(crate) async fn expand(&self, least: i64) -> i64 {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.url).await.unwrap();
        let query = if self.is_sqlite() {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        } else {
            "SELECT CAST(tablename AS TEXT) AS name FROM pg_tables WHERE schemaname = 'public'"
        };
        let rows = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
        let tables: Vec<String> = rows.iter().map(|row| row.get("name")).collect();
        assert!(tables.len() > 20, "{tables:?}");
        let query = "SELECT MAX(version) AS version FROM schema_version";
        let row = sqlx::query(query).fetch_one(&mut connection).await.unwrap();
        let version = row.get::<i64, _>("version") + 1;
        let mut statements = format!("BEGIN; CREATE TABLE of_version_{version} (id BIGINT);");
        for table in tables {
            statements.push_str(&format!(
                "ALTER TABLE {table} ADD COLUMN a_{version} TEXT;
                ALTER TABLE {table} ADD COLUMN b_{version} BIGINT NOT NULL DEFAULT 7;"
            ));
        }
        let row =
            format!("INSERT INTO schema_version (version, least) VALUES ({version}, {least})");
        statements.push_str(&format!("{row}; COMMIT;"));
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements));
        connection.execute(statements).await.unwrap();
        connection.close().await.unwrap();
        version
    }

    /// Executes a statement beside the store, as somebody with the database's password could.
    pub(crate) async fn execute(&self, statements: impl Into<String>) -> Result<(), sqlx::Error> {
        sqlx::any::install_default_drivers();
        let url =
            if self.is_sqlite() { format!("{}?mode=rwc", self.url) } else { self.url.clone() };
        let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
        // A test's own text.
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.into()));
        connection.execute(statements).await.map(|_| ())
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    pub(crate) async fn count(&self, query: impl Into<String>) -> i64 {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.url).await.unwrap();
        // A test's own text.
        let query = sqlx::query(sqlx::AssertSqlSafe(query.into()));
        query.fetch_one(&mut connection).await.unwrap().get("n")
    }
}

/// One PostgreSQL for the checks that run at once; it ends with the last of them.
fn postgres() -> std::sync::Arc<Postgres> {
    static RUNNING: LazyLock<Mutex<Weak<Postgres>>> = LazyLock::new(Mutex::default);
    let mut running = RUNNING.lock().unwrap();
    if let Some(postgres) = running.upgrade() {
        return postgres;
    }
    let postgres = std::sync::Arc::new(Postgres::start().unwrap());
    *running = std::sync::Arc::downgrade(&postgres);
    postgres
}

/// Runs a check on SQLite, on SQLite as a newer program has left it, and on PostgreSQL.
pub(crate) fn on_both(check: impl AsyncFn(&Database)) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    for is_to_be_newer in [false, true].map(AtomicBool::new) {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("service.db").display());
        runtime.block_on(check(&Database { url, is_to_be_newer, _directory: Some(directory) }));
    }
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let postgres = postgres();
    let name = format!("check{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let url = postgres.database(&name).unwrap();
    let is_to_be_newer = AtomicBool::new(false);
    runtime.block_on(check(&Database { url, is_to_be_newer, _directory: None }));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
}

//! Both databases, new for each check.

use holdfast_service_store::Store;
use holdfast_service_store::postgres_harness::Postgres;
use sqlx::{Connection, Executor, Row};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, Weak};
use tempfile::TempDir;

/// A database of a check's own.
pub(crate) struct Database {
    url: String,
    _directory: Option<TempDir>,
}

impl Database {
    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url).await.unwrap()
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

    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.url).await.unwrap();
        sqlx::query(query).fetch_one(&mut connection).await.unwrap().get("n")
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

/// Runs a check on SQLite, and then on PostgreSQL.
pub(crate) fn on_both(check: impl AsyncFn(&Database)) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("service.db").display());
    runtime.block_on(check(&Database { url, _directory: Some(directory) }));
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let postgres = postgres();
    let name = format!("check{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let url = postgres.database(&name).unwrap();
    runtime.block_on(check(&Database { url, _directory: None }));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
}

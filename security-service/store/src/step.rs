//! What work within a transaction is handed, and what it returns.

use crate::error::StoreError;
use sqlx::AnyConnection;
use std::future::Future;
use std::pin::Pin;

/// A connection to the database, within a transaction where something is written.
pub type Connection = AnyConnection;
/// A part of a transaction.
pub type Step<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

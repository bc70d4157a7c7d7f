//! Which database the service has.

use clap::ValueEnum;

/// The database that the service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Database {
    /// A file.
    Sqlite,
    /// A PostgreSQL that is started for it.
    Postgresql,
}

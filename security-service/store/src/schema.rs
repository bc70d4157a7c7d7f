//! The tables: versions of them, each as one text for both databases, and what only one of the two understands.

/// A version of the tables.
pub(crate) struct Version {
    /// For both, with `BLOB` for bytes.
    pub(crate) tables: &'static str,
    /// For SQLite alone.
    pub(crate) sqlite: &'static str,
    /// For PostgreSQL alone.
    pub(crate) postgres: &'static str,
}

/// Every version, from 1 on. What was released is never changed: what comes is a version of its own.
pub(crate) const VERSIONS: &[Version] = &[
    Version {
        tables: include_str!("schema/1.sql"),
        sqlite: include_str!("schema/1-sqlite.sql"),
        postgres: include_str!("schema/1-postgres.sql"),
    },
    Version { tables: include_str!("schema/2.sql"), sqlite: "", postgres: "" },
    Version { tables: include_str!("schema/3.sql"), sqlite: "", postgres: "" },
    Version { tables: include_str!("schema/4.sql"), sqlite: "", postgres: "" },
    Version { tables: include_str!("schema/5.sql"), sqlite: "", postgres: "" },
    Version { tables: include_str!("schema/6.sql"), sqlite: "", postgres: "" },
    Version { tables: include_str!("schema/7.sql"), sqlite: "", postgres: "" },
    Version { tables: include_str!("schema/8.sql"), sqlite: "", postgres: "" },
    Version { tables: include_str!("schema/9.sql"), sqlite: "", postgres: "" },
    Version { tables: include_str!("schema/11.sql"), sqlite: "", postgres: "" },
];

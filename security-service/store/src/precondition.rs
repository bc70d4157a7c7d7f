//! Preconditions of changes: that a row is still the one that the caller has seen, held until the change is committed.

use crate::columns::stored;
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use holdfast_evidence::messages::DeviceId;

/// A row that is changed by people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The catalog.
    Catalog,
    /// A group of a product.
    Group {
        /// The product.
        product: String,
        /// The group.
        group: String,
    },
    /// A device. Its check-ins count as changes, since they change what is shown of it.
    Device(DeviceId),
}

/// What a caller has seen of a row: any of these revisions, or that it is there at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The row is there (`If-Match: *`).
    Any,
    /// One of these revisions.
    Revisions(Vec<u64>),
}

/// What a change demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// Of which row.
    pub subject: Subject,
    /// As what it was seen.
    pub seen: Seen,
}

/// Demands, where a precondition is given, that a row is as it was seen, and locks it until the end of the transaction: nobody changes it
/// between.
///
/// # Errors
/// [`StoreError::Changed`] where it is another or gone, and those of the database.
pub async fn hold(
    connection: &mut Connection,
    scope: Scope,
    precondition: Option<&Precondition>,
) -> Result<(), StoreError> {
    let Some(Precondition { subject, seen }) = precondition else {
        return Ok(());
    };
    // An update that changes nothing takes the row's lock on PostgreSQL; SQLite has one writer.
    let update = match subject {
        Subject::Catalog => {
            "UPDATE catalog SET revision = revision
            WHERE id = $1 AND $2 = '' AND $3 = '' AND ($4 < 0 OR revision = $4)"
        }
        Subject::Group { .. } => {
            "UPDATE grp SET revision = revision
            WHERE catalog = $1 AND product = $2 AND name = $3 AND ($4 < 0 OR revision = $4)"
        }
        Subject::Device(_) => {
            "UPDATE device SET revision = revision
            WHERE catalog = $1 AND id = $2 AND $3 = '' AND ($4 < 0 OR revision = $4)"
        }
    };
    let (first, second) = match subject {
        Subject::Catalog => (String::new(), String::new()),
        Subject::Group { product, group } => (product.clone(), group.clone()),
        Subject::Device(id) => (id.to_string(), String::new()),
    };
    let revisions = match seen {
        Seen::Any => vec![-1],
        Seen::Revisions(revisions) => revisions.iter().map(|revision| stored(*revision)).collect(),
    };
    for revision in revisions {
        let update = sqlx::query(update).bind(scope.key()).bind(first.clone()).bind(second.clone());
        let held = update.bind(revision).execute(&mut *connection).await?;
        if held.rows_affected() == 1 {
            return Ok(());
        }
    }
    Err(StoreError::Changed)
}

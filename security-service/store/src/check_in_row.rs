//! Rows of check-ins, of which one statement writes many.

use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::step::Connection;
use holdfast_evidence::claims::Phase;
use holdfast_evidence::messages::{CatalogId, DeviceId};
use holdfast_service_domain::check_in::CheckInWrite;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe};
use std::collections::HashSet;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

/// The values that a check-in writes into the device's row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) catalog: CatalogId,
    pub(crate) id: DeviceId,
    pub(crate) write: CheckInWrite,
    pub(crate) claims: Vec<u8>,
}

/// Most rows of one statement.
pub(crate) const MOST: usize = 128;
/// Columns that are written, in the order of parameters.
const COLUMNS: usize = 17;
/// Up to so many rows, a statement is made for each number of them; above, for powers of two.
const EACH: usize = 16;

/// Writes a row.
pub(crate) async fn write_row(connection: &mut Connection, row: &Row) -> Result<(), StoreError> {
    let update = "UPDATE device SET receipt_newest = $4, receipt_returned = $5, clock_ms = $6,
            clock_resets = $7, clock_restarts = $8, clock_safe = $9, verdict = $10, version = $11,
            rollback_index = $12, phase = $13, claims = $14,
            certificate_end = COALESCE($15, certificate_end), next_at = COALESCE($16, next_at),
            seen_at = $17, revision = revision + 1
        WHERE catalog = $1 AND id = $2 AND revision = $3";
    let done = bind(sqlx::query(update), row).execute(connection).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Overtaken) }
}

/// Writes rows, and says of each whether it was the one that was decided on. An error is one of the database, and then nothing is
/// known of any.
pub(crate) async fn write_rows(
    connection: &mut Connection,
    rows: &[&Row],
) -> Result<Vec<bool>, StoreError> {
    let mut written = vec![false; rows.len()];
    let mut left: Vec<usize> = (0..rows.len()).collect();
    while !left.is_empty() {
        // A statement has one row of a device: of two, the second finds what the first has written.
        let mut devices = HashSet::new();
        let is_first =
            |at: &usize| rows.get(*at).is_some_and(|row| devices.insert((row.catalog.0, row.id.0)));
        let (now, later): (Vec<usize>, Vec<usize>) = left.into_iter().partition(is_first);
        let mut rest = &now[..];
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(size_of_statement(rest.len()));
            let of_part: Vec<&Row> = part.iter().filter_map(|at| rows.get(*at).copied()).collect();
            let done = write_at_once(connection, &of_part).await?;
            for (at, done) in part.iter().zip(done) {
                if let Some(place) = written.get_mut(*at) {
                    *place = done;
                }
            }
            rest = behind;
        }
        left = later;
    }
    Ok(written)
}

fn size_of_statement(rows: usize) -> usize {
    if rows <= EACH {
        return rows;
    }
    [MOST, 64, 32].into_iter().find(|size| *size <= rows).unwrap_or(EACH)
}

/// Writes rows of different devices by one statement.
async fn write_at_once(
    connection: &mut Connection,
    rows: &[&Row],
) -> Result<Vec<bool>, StoreError> {
    if let [row] = rows {
        return match write_row(connection, row).await {
            Ok(()) => Ok(vec![true]),
            Err(StoreError::Overtaken) => Ok(vec![false]),
            Err(error) => Err(error),
        };
    }
    // A text of this program.
    let mut query = sqlx::query(AssertSqlSafe(text(rows.len())));
    for row in rows {
        query = bind(query, row);
    }
    let mut written = HashSet::new();
    for row in query.fetch_all(connection).await? {
        written.insert((columns::text(&row, "catalog")?, columns::text(&row, "id")?));
    }
    let is_written = |row: &&Row| written.contains(&(row.catalog.to_string(), row.id.to_string()));
    Ok(rows.iter().map(is_written).collect())
}

/// The statement for so many rows.
fn text(rows: usize) -> Arc<str> {
    static TEXTS: [OnceLock<Arc<str>>; MOST + 1] = [const { OnceLock::new() }; MOST + 1];
    match TEXTS.get(rows) {
        Some(text) => text.get_or_init(|| make_text(rows)).clone(),
        None => make_text(rows),
    }
}

/// Columns of `VALUES` are called `column1` and so on by both databases.
fn make_text(rows: usize) -> Arc<str> {
    let mut text = "UPDATE device SET receipt_newest = v.column4, receipt_returned = v.column5,
            clock_ms = v.column6, clock_resets = v.column7, clock_restarts = v.column8,
            clock_safe = v.column9, verdict = v.column10, version = v.column11,
            rollback_index = v.column12, phase = v.column13, claims = v.column14,
            certificate_end = COALESCE(v.column15, certificate_end),
            next_at = COALESCE(v.column16, next_at),
            seen_at = v.column17, revision = revision + 1
        FROM (VALUES "
        .to_owned();
    for number in 0..rows.saturating_mul(COLUMNS) {
        let before = match number {
            0 => "($",
            _ if number.is_multiple_of(COLUMNS) => "), ($",
            _ => ", $",
        };
        // Writing to a text does not fail.
        let _ = write!(text, "{before}{}", number.saturating_add(1));
    }
    text.push_str(
        ")) AS v WHERE catalog = v.column1 AND id = v.column2 AND revision = v.column3
        RETURNING catalog, id",
    );
    text.into()
}

fn bind<'q>(query: Query<'q, Any, AnyArguments>, row: &Row) -> Query<'q, Any, AnyArguments> {
    let Row { catalog, id, write, claims } = row;
    let clock = write.clock;
    let phase = match write.phase {
        Phase::Committed => "committed",
        Phase::Staged => "staged",
        Phase::Trying => "trying",
        Phase::FallingBack => "falling-back",
    };
    query
        .bind(catalog.to_string())
        .bind(id.to_string())
        .bind(stored(write.revision))
        .bind(stored(write.receipts.newest))
        .bind(stored(write.receipts.returned))
        .bind(clock.map(|clock| stored(clock.clock_ms)))
        .bind(clock.map(|clock| i64::from(clock.reset_count)))
        .bind(clock.map(|clock| i64::from(clock.restart_count)))
        .bind(clock.map(|clock| i64::from(clock.safe)))
        .bind(write.verdict.to_owned())
        .bind(write.release.map(|release| release.version.to_string()))
        .bind(write.release.map(|release| stored(release.index)))
        .bind(phase.to_owned())
        .bind(claims.clone())
        .bind(write.certificate_end.map(stored))
        .bind(write.next_at.map(stored))
        .bind(stored(write.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_a_parameter_for_each_column_of_each_row() {
        let text = text(3);
        assert!(text.contains("VALUES ($1, $2, "), "{text}");
        assert!(text.contains(", $17), ($18, "), "{text}");
        assert!(text.contains(", $51)) AS v"), "{text}");
    }

    #[test]
    fn rows_are_written_by_few_kinds_of_statements() {
        let sizes: HashSet<usize> = (1..=10 * MOST).map(size_of_statement).collect();
        assert_eq!(sizes.len(), EACH + 3);
        assert!(sizes.iter().all(|size| *size <= MOST));
        assert_eq!(
            [1, 5, 16, 17, 40, 127, 128].map(size_of_statement),
            [1, 5, 16, 16, 32, 64, 128]
        );
    }
}

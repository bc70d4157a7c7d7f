//! From columns to the domain's types: what cannot be read there was not written by this program.

use crate::error::StoreError;
use holdfast_evidence::messages::{CatalogId, DeviceId};
use holdfast_failure_reports::Level;
use holdfast_release::feed::Feed;
use holdfast_service_domain::check_in::Rules;
use holdfast_service_domain::extent::Extent;
use holdfast_service_domain::grade::{Grade, Grades};
use holdfast_service_domain::role::Role;
use holdfast_types::Version;
use sqlx::Row;
use sqlx::any::AnyRow;

/// Names the columns of a table that this program reads, as text of a statement. No statement asks for all that a table has: a newer
/// program may have added some while this one runs, and PostgreSQL then refuses a statement whose columns are others than those it was
/// prepared with.
macro_rules! columns_of {
    (alert_delivery) => {
        "catalog, kind, name, number, failures, next_at, lease, lease_until, delivered, \
         given_up, dropped, delivered_at, failed_at, failure"
    };
    (authority) => {
        "catalog, serial, kind, certificate, wrapped_key, not_before, not_after"
    };
    (crash_group) => {
        "catalog, id, product, algorithm, component, name, failure, place, called_from, \
         first_version, last_version, first_at, last_at, events, devices, closed_version, \
         closed_at, regressed_at"
    };
    (crash_version) => {
        "catalog, crash, version, first_at, last_at, events, devices"
    };
    (deployment) => {
        "catalog, id, product, grp, component, version, plan, restart_window, deadline_s, \
         check_every_s, begins_at, progress, hold, cause, stage, since, drafted_by, \
         approved_by, production, resumed_at, began_at, frozen_devices, frozen_allowance, \
         frozen_last, slots, granted, committed, failed, silent, created_at, revision, \
         drafted_person, frozen_given, stage_granted, stage_committed, stage_failed, \
         stage_silent"
    };
    (device) => {
        "catalog, id, kind, state, product, grp, serial, board, claimed_grade, grade, \
         evidence_key, quarantined, receipt_newest, receipt_returned, clock_ms, \
         clock_resets, clock_restarts, clock_safe, verdict, version, rollback_index, \
         phase, claims, certificate_end, next_at, seen_at, created_at, revision"
    };
    (finding) => {
        "catalog, device, kind, opened_at, last_at, times, closed_at"
    };
    (maker) => {
        "catalog, fingerprint, certificate, grade, added_at"
    };
    (measurement) => {
        "catalog, pcr, boot, version, rollback_index, added_at, withdrawn_at, source, feed"
    };
    (pending_change) => {
        "catalog, number, kind, object, product, grp, request, digest, seen, requested_by, \
         requester, requested_at, ends_at, state, decided_by, decided_at"
    };
    (repository) => {
        "catalog, name, root, memory, targets, set_at, taken_at, served_at, revision"
    };
    (repository_file) => {
        "catalog, sha256, bytes, who, added_at"
    };
    (role_grant) => {
        "catalog, id, issuer, kind, subject, role, product, grp, granted_by, granted_at"
    };
    (symbols) => {
        "catalog, build_id, sha256, bytes, who, added_at"
    };
    (threat) => {
        "catalog, number, product, grp, rule, severity, closed_at, contained_at, \
         contained_by, finding"
    };
    (token) => {
        "catalog, hash, name, role, created_at, ends_at, person, product, grp"
    };
    (transfer) => {
        "catalog, device, to_catalog, root, epoch, ends_at, offered_by, offerer, approved_by, \
         voucher, sent_at, followed_at"
    };
    (webhook) => {
        "catalog, name, url, secret, who, created_at, tested_at"
    };
}
pub(crate) use columns_of;

pub(crate) fn text(row: &AnyRow, column: &'static str) -> Result<String, StoreError> {
    row.try_get(column).map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn text_if_any(
    row: &AnyRow,
    column: &'static str,
) -> Result<Option<String>, StoreError> {
    row.try_get(column).map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn bytes(row: &AnyRow, column: &'static str) -> Result<Vec<u8>, StoreError> {
    row.try_get(column).map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn bytes_if_any(
    row: &AnyRow,
    column: &'static str,
) -> Result<Option<Vec<u8>>, StoreError> {
    row.try_get(column).map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn digest(row: &AnyRow, column: &'static str) -> Result<[u8; 32], StoreError> {
    bytes(row, column)?.try_into().map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn number(row: &AnyRow, column: &'static str) -> Result<u64, StoreError> {
    let number: i64 = row.try_get(column).map_err(|_| StoreError::Damaged(column))?;
    u64::try_from(number).map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn number_if_any(row: &AnyRow, column: &'static str) -> Result<Option<u64>, StoreError> {
    let number: Option<i64> = row.try_get(column).map_err(|_| StoreError::Damaged(column))?;
    number.map(u64::try_from).transpose().map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn catalog(row: &AnyRow, column: &'static str) -> Result<CatalogId, StoreError> {
    CatalogId::parse(&text(row, column)?).ok_or(StoreError::Damaged(column))
}

pub(crate) fn device(row: &AnyRow, column: &'static str) -> Result<DeviceId, StoreError> {
    text(row, column)?.parse().map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn grade_if_any(
    row: &AnyRow,
    column: &'static str,
) -> Result<Option<Grade>, StoreError> {
    let word = text_if_any(row, column)?;
    word.map(|word| word.parse()).transpose().map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn grades_if_any(
    row: &AnyRow,
    column: &'static str,
) -> Result<Option<Grades>, StoreError> {
    let words = text_if_any(row, column)?;
    words.map(|words| words.parse()).transpose().map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn version(row: &AnyRow, column: &'static str) -> Result<Version, StoreError> {
    text(row, column)?.parse().map_err(|_| StoreError::Damaged(column))
}

/// The level of a group's reports; the usual one for a device that is in none.
pub(crate) fn level(row: &AnyRow) -> Result<Level, StoreError> {
    let word = text_if_any(row, "report_level")?;
    let level = word.map(|word| word.parse()).transpose();
    Ok(level.map_err(|_| StoreError::Damaged("report_level"))?.unwrap_or_default())
}

/// The rules for a device: those of its group, where they are not its catalog's.
pub(crate) fn rules(row: &AnyRow) -> Result<Rules, StoreError> {
    let of_catalog = grades_if_any(row, "grades")?.ok_or(StoreError::Damaged("grades"))?;
    Ok(Rules {
        least_index: number_if_any(row, "least_index")?.unwrap_or(0),
        grades: grades_if_any(row, "of_group")?.unwrap_or(of_catalog),
        reports: level(row)?,
    })
}

/// The feed of a row, where it has one.
pub(crate) fn feed_if_any(row: &AnyRow) -> Result<Option<Feed>, StoreError> {
    let name = text_if_any(row, "feed")?.filter(|name| !name.is_empty());
    name.map(|name| name.parse()).transpose().map_err(|_| StoreError::Damaged("feed"))
}

/// The role of a row.
pub(crate) fn role(row: &AnyRow) -> Result<Role, StoreError> {
    Role::of_word(&text(row, "role")?).ok_or(StoreError::Damaged("role"))
}

/// How far a row of a catalog reaches, which has a product and a group, or none.
pub(crate) fn extent(row: &AnyRow, catalog: CatalogId) -> Result<Extent, StoreError> {
    let (product, group) = (text_if_any(row, "product")?, text_if_any(row, "grp")?);
    Extent::of(catalog, product, group).map_err(|_| StoreError::Damaged("grp"))
}

/// A number as both databases have it. What is larger than they take has no meaning here: rollback indexes, milliseconds.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

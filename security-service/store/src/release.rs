//! Releases by what they measure, and makers of TPMs: reference values and endorsements.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_evidence::policy::{BootDigest, PcrDigest};
use holdfast_release::RepositoryName;
use holdfast_release::feed::Feed;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::measurement::{Release, Source};
use holdfast_types::hex::{hex, sha256, unhex};
use sqlx::any::AnyRow;

/// A release with what is known beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRow {
    /// The release.
    pub release: Release,
    /// Who says that it is one.
    pub source: Source,
    /// The feed whose devices it is for alone; none for those of every feed.
    pub feed: Option<Feed>,
}

/// An authority of a maker, as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakerRow {
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// The grade that it vouches for.
    pub grade: Grade,
}

impl Store {
    /// Returns the release that measures this.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn release(
        &self,
        scope: Scope,
        pcr: &PcrDigest,
    ) -> Result<Option<Release>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(measurement),
            " FROM measurement WHERE catalog = $1 AND pcr = $2"
        );
        let query = sqlx::query(query).bind(scope.key()).bind(hex(&pcr.0));
        query.fetch_optional(&mut *connection).await?.as_ref().map(release_of).transpose()
    }

    /// Returns releases by their digest of PCR 8 behind `after`, each with that digest in hexadecimal.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn releases(
        &self,
        scope: Scope,
        after: &str,
        most: u32,
    ) -> Result<Vec<(String, ReleaseRow)>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(measurement),
            " FROM measurement WHERE catalog = $1 AND pcr > $2 ORDER BY pcr LIMIT $3"
        );
        let query =
            sqlx::query(query).bind(scope.key()).bind(after.to_owned()).bind(i64::from(most));
        let rows = query.fetch_all(&mut *connection).await?;
        let row_of = |row: &AnyRow| {
            let source = Source::of_word(&columns::text(row, "source")?);
            let source = source.ok_or(StoreError::Damaged("source"))?;
            let (release, feed) = (release_of(row)?, columns::feed_if_any(row)?);
            Ok((columns::text(row, "pcr")?, ReleaseRow { release, source, feed }))
        };
        rows.iter().map(row_of).collect()
    }

    /// Returns all makers that the owner has listed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn makers(&self, scope: Scope) -> Result<Vec<MakerRow>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(maker),
            " FROM maker WHERE catalog = $1 ORDER BY fingerprint"
        );
        let rows = sqlx::query(query).bind(scope.key()).fetch_all(&mut *connection).await?;
        rows.iter().map(maker_of).collect()
    }
}

/// Adds a release by hand, which a catalog that trusts a root does not take. One that is there must be the same, and stays
/// withdrawn if it was.
///
/// # Errors
/// [`StoreError::SignedAlone`], there is another with this measurement, or those of the database.
pub async fn add(
    connection: &mut Connection,
    scope: Scope,
    release: Release,
    at: u64,
) -> Result<(), StoreError> {
    if trusts_a_root(connection, scope, RepositoryName::Os).await? {
        return Err(StoreError::SignedAlone);
    }
    put(connection, scope, (&release, None), Source::ByHand, at).await.map(|_| ())
}

/// Puts a release, and says whether the row is another than before. What is signed replaces what was typed by hand, and nothing
/// replaces what is signed. The feed is what was signed last.
pub(crate) async fn put(
    connection: &mut Connection,
    scope: Scope,
    (release, feed): (&Release, Option<&Feed>),
    source: Source,
    at: u64,
) -> Result<bool, StoreError> {
    let insert =
        "INSERT INTO measurement (catalog, pcr, boot, version, rollback_index, added_at, source, feed)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (catalog, pcr) DO NOTHING";
    let feed = feed.map_or_else(String::new, ToString::to_string);
    let pcr = hex(&release.pcr().0);
    let added = sqlx::query(insert)
        .bind(scope.key())
        .bind(pcr.clone())
        .bind(hex(&release.boot.0))
        .bind(release.version.to_string())
        .bind(stored(release.index))
        .bind(stored(at))
        .bind(source.word().to_owned())
        .bind(feed.clone())
        .execute(&mut *connection)
        .await?;
    if added.rows_affected() == 1 {
        return Ok(true);
    }
    if source == Source::Signed {
        let moved = "UPDATE measurement SET feed = $3
            WHERE catalog = $1 AND pcr = $2 AND feed <> $3";
        let moved = sqlx::query(moved).bind(scope.key()).bind(pcr.clone()).bind(feed);
        moved.execute(&mut *connection).await?;
        let update = "UPDATE measurement SET version = $3, rollback_index = $4, source = 'signed'
            WHERE catalog = $1 AND pcr = $2 AND source = 'by-hand'";
        let update = sqlx::query(update).bind(scope.key()).bind(pcr.clone());
        let update = update.bind(release.version.to_string()).bind(stored(release.index));
        if update.execute(&mut *connection).await?.rows_affected() == 1 {
            return Ok(true);
        }
    }
    let query = sqlx::query(concat!(
        "SELECT ",
        columns_of!(measurement),
        " FROM measurement WHERE catalog = $1 AND pcr = $2"
    ));
    let row = query.bind(scope.key()).bind(pcr).fetch_one(connection).await?;
    let known = release_of(&row)?;
    let same = (known.version, known.index) == (release.version, release.index);
    if same { Ok(false) } else { Err(StoreError::There("release")) }
}

/// Withdraws a release, or takes that back.
///
/// # Errors
/// There is no such release, or those of the database.
pub async fn set_withdrawn(
    connection: &mut Connection,
    scope: Scope,
    boot: &BootDigest,
    withdrawn_at: Option<u64>,
) -> Result<(), StoreError> {
    let update = "UPDATE measurement SET withdrawn_at = $3 WHERE catalog = $1 AND boot = $2";
    let update =
        sqlx::query(update).bind(scope.key()).bind(hex(&boot.0)).bind(withdrawn_at.map(stored));
    let rows = update.execute(connection).await?.rows_affected();
    if rows == 1 { Ok(()) } else { Err(StoreError::Missing("release")) }
}

/// Lists a maker, or changes the grade that it vouches for, and returns its fingerprint.
///
/// # Errors
/// Those of the database.
pub async fn put_maker(
    connection: &mut Connection,
    scope: Scope,
    certificate: Vec<u8>,
    grade: Grade,
    at: u64,
) -> Result<String, StoreError> {
    let fingerprint = sha256(&certificate);
    let insert = "INSERT INTO maker (catalog, fingerprint, certificate, grade, added_at)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (catalog, fingerprint) DO UPDATE SET grade = $4";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(fingerprint.clone())
        .bind(certificate)
        .bind(grade.word().to_owned())
        .bind(stored(at))
        .execute(connection)
        .await?;
    Ok(fingerprint)
}

pub(crate) fn release_of(row: &AnyRow) -> Result<Release, StoreError> {
    let boot = unhex(&columns::text(row, "boot")?).ok_or(StoreError::Damaged("boot"))?;
    Ok(Release {
        boot: BootDigest(boot),
        version: columns::version(row, "version")?,
        index: columns::number(row, "rollback_index")?,
        withdrawn: columns::number_if_any(row, "withdrawn_at")?.is_some(),
    })
}

fn maker_of(row: &AnyRow) -> Result<MakerRow, StoreError> {
    Ok(MakerRow {
        fingerprint: columns::text(row, "fingerprint")?,
        certificate: columns::bytes(row, "certificate")?,
        grade: columns::grade_if_any(row, "grade")?.ok_or(StoreError::Damaged("grade"))?,
    })
}

/// True if a root is trusted for this repository.
async fn trusts_a_root(
    connection: &mut Connection,
    scope: Scope,
    name: RepositoryName,
) -> Result<bool, StoreError> {
    let query = sqlx::query("SELECT catalog FROM repository WHERE catalog = $1 AND name = $2");
    let query = query.bind(scope.key()).bind(name.name().to_owned());
    Ok(query.fetch_optional(connection).await?.is_some())
}

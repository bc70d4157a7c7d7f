//! Enrolments under way, each good for one answer, and the write that ends one.

use crate::audit::{self, Entry};
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::retirement;
use crate::scope::Scope;
use crate::store::Store;
use crate::transfer;
use holdfast_evidence::messages::DeviceId;
use holdfast_service_domain::grade::Grade;
use holdfast_types::hex::sha256;

/// An enrolment that waits for its answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The device.
    pub device: DeviceId,
    /// `TPM2B_PUBLIC` of the attestation key.
    pub key: Vec<u8>,
    /// The secret of the credential.
    pub secret: Vec<u8>,
    /// The grade that it is to be enrolled with.
    pub grade: Grade,
    /// Its end, in seconds since 1970.
    pub ends_at: u64,
}

impl std::fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Enrolment").field("device", &self.device).finish_non_exhaustive()
    }
}

/// Most enrolments of one device that are under way. Keys are public, so a stranger who knows those of a claimed device can begin
/// as many as he likes: one more must not end the device's own, and they must not be without end.
pub const MAX_UNDER_WAY: u32 = 64;

impl Store {
    /// Keeps an enrolment below the hash of its number, in place of those that have ended, and of the device's oldest where it has
    /// [`MAX_UNDER_WAY`].
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin_enrolment(
        &self,
        scope: Scope,
        number: &[u8],
        enrolment: Enrolment,
        now: u64,
    ) -> Result<(), StoreError> {
        let number = sha256(number);
        self.write(move |connection| {
            Box::pin(async move {
                let ended = "DELETE FROM enrolment WHERE catalog = $1 AND ends_at <= $2";
                let ended = sqlx::query(ended).bind(scope.key()).bind(stored(now));
                ended.execute(&mut *connection).await?;
                let oldest =
                    "DELETE FROM enrolment WHERE catalog = $1 AND device = $2 AND number NOT IN (
                        SELECT number FROM enrolment WHERE catalog = $1 AND device = $2
                        ORDER BY ends_at DESC, number LIMIT $3)";
                sqlx::query(oldest)
                    .bind(scope.key())
                    .bind(enrolment.device.to_string())
                    .bind(i64::from(MAX_UNDER_WAY.saturating_sub(1)))
                    .execute(&mut *connection)
                    .await?;
                let insert = "INSERT INTO enrolment
                        (catalog, number, device, evidence_key, secret, grade, ends_at)
                    VALUES ($1, $2, $3, $4, $5, $6, $7)";
                sqlx::query(insert)
                    .bind(scope.key())
                    .bind(number)
                    .bind(enrolment.device.to_string())
                    .bind(enrolment.key)
                    .bind(enrolment.secret)
                    .bind(enrolment.grade.word().to_owned())
                    .bind(stored(enrolment.ends_at))
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Takes an enrolment, which is gone then: of all who come with one number, one gets it. Its number is random, and names the
    /// catalog.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_enrolment(
        &self,
        number: &[u8],
        now: u64,
    ) -> Result<Option<(Scope, Enrolment)>, StoreError> {
        let number = sha256(number);
        self.write(move |connection| {
            Box::pin(async move {
                let delete = "DELETE FROM enrolment WHERE number = $1
                    RETURNING catalog, device, evidence_key, secret, grade, ends_at";
                let row = sqlx::query(delete).bind(number).fetch_optional(connection).await?;
                let Some(row) = row else {
                    return Ok(None);
                };
                let scope = Scope::new(columns::catalog(&row, "catalog")?);
                let enrolment = Enrolment {
                    device: columns::device(&row, "device")?,
                    key: columns::bytes(&row, "evidence_key")?,
                    secret: columns::bytes(&row, "secret")?,
                    grade: columns::grade_if_any(&row, "grade")?
                        .ok_or(StoreError::Damaged("grade"))?,
                    ends_at: columns::number(&row, "ends_at")?,
                };
                Ok((enrolment.ends_at > now).then_some((scope, enrolment)))
            })
        })
        .await
    }

    /// Enrols a device with the key that its evidence is verified by. A device that is enrolled keeps its key.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] where the device's row is not one that may be enrolled with this key any more.
    pub async fn enrol(
        &self,
        scope: Scope,
        device: DeviceId,
        key: Vec<u8>,
        grade: Grade,
        at: u64,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let update = "UPDATE device SET state = 'enrolled', evidence_key = $3, grade = $4, seen_at = $5,
                        revision = revision + 1
                    WHERE catalog = $1 AND id = $2 AND state IN ('claimed', 'enrolled')
                        AND (evidence_key IS NULL OR evidence_key = $3)";
                let enrolled = sqlx::query(update)
                    .bind(scope.key())
                    .bind(device.to_string())
                    .bind(key)
                    .bind(grade.word().to_owned())
                    .bind(stored(at))
                    .execute(&mut *connection)
                    .await?;
                if enrolled.rows_affected() == 0 {
                    return Err(StoreError::Overtaken);
                }
                for giver in transfer::has_come(connection, scope, &device, at).await? {
                    retirement::retire(connection, giver, &device).await?;
                    let object = device.to_string();
                    let (who, verb) = (object.clone(), "device.transferred");
                    let entry = Entry { who, verb, object, digest: [0; 32], at };
                    audit::append(connection, giver, entry).await?;
                }
                let object = device.to_string();
                let verb = "device.enrol";
                let entry = Entry { who: object.clone(), verb, object, digest: [0; 32], at };
                audit::append(connection, scope, entry).await
            })
        })
        .await
    }
}

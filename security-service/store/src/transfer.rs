//! Transfers of devices to other catalogs, with the vouchers that devices follow.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::device::{self, Claim};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_evidence::messages::{CatalogId, DeviceId};
use holdfast_service_domain::device::State;
use holdfast_service_domain::person::{By, PersonId};
use holdfast_service_domain::transfer::{Transfer, TransferRefusal};
use sqlx::any::AnyRow;

/// A transfer that somebody offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The device.
    pub device: DeviceId,
    /// The catalog that it goes to.
    pub to: CatalogId,
    /// Certificate of that catalog's root, DER.
    pub root: Vec<u8>,
    /// End of the voucher, in seconds since 1970.
    pub ends_at: u64,
    /// Who offers it.
    pub by: By,
}

impl Store {
    /// Returns the transfer of a device.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn transfer(
        &self,
        scope: Scope,
        id: &DeviceId,
    ) -> Result<Option<Transfer>, StoreError> {
        let mut connection = self.read().await?;
        find(&mut connection, scope, id).await
    }

    /// Returns transfers by device behind `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn transfers(
        &self,
        scope: Scope,
        after: &str,
        most: u32,
    ) -> Result<Vec<(DeviceId, Transfer)>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(transfer),
            " FROM transfer WHERE catalog = $1 AND device > $2
            ORDER BY device LIMIT $3"
        );
        let query = sqlx::query(query).bind(scope.key()).bind(after.to_owned());
        let rows = query.bind(i64::from(most)).fetch_all(&mut *connection).await?;
        let read = |row| Ok((columns::device(row, "device")?, transfer_of(row)?));
        rows.iter().map(read).collect()
    }

    /// Returns the voucher that a device is to follow, if there is one, and notes that it was told.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tell_of_transfer(
        &self,
        scope: Scope,
        id: DeviceId,
        now: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let known = self.transfer(scope, &id).await?;
        let Some(Transfer { voucher: Some(voucher), ends_at, sent_at, .. }) = known else {
            return Ok(None);
        };
        if now >= ends_at {
            return Ok(None);
        }
        if sent_at.is_some() {
            return Ok(Some(voucher));
        }
        // Whoever withdraws it meanwhile has it before the device does, or is told that the device has it.
        self.write(move |connection| {
            Box::pin(async move {
                let update = "UPDATE transfer SET sent_at = COALESCE(sent_at, $3)
                    WHERE catalog = $1 AND device = $2 AND voucher = $4";
                let sent = sqlx::query(update)
                    .bind(scope.key())
                    .bind(id.to_string())
                    .bind(stored(now))
                    .bind(voucher.clone())
                    .execute(connection)
                    .await?;
                Ok((sent.rows_affected() == 1).then_some(voucher))
            })
        })
        .await
    }
}

async fn find(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
) -> Result<Option<Transfer>, StoreError> {
    let query = sqlx::query(concat!(
        "SELECT ",
        columns_of!(transfer),
        " FROM transfer WHERE catalog = $1 AND device = $2"
    ));
    let query = query.bind(scope.key()).bind(id.to_string());
    query.fetch_optional(connection).await?.as_ref().map(transfer_of).transpose()
}

/// Locks the transfer of a device until the end of the transaction, and returns it.
async fn lock(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
) -> Result<Transfer, StoreError> {
    let lock = concat!(
        "UPDATE transfer SET epoch = epoch WHERE catalog = $1 AND device = $2 RETURNING ",
        columns_of!(transfer)
    );
    let lock = sqlx::query(lock).bind(scope.key()).bind(id.to_string());
    let row = lock.fetch_optional(connection).await?;
    transfer_of(&row.ok_or(StoreError::Missing("transfer"))?)
}

/// Offers a device to another catalog.
///
/// # Errors
/// There is no such device, a transfer of it is under way, or those of the database.
pub async fn offer(
    connection: &mut Connection,
    scope: Scope,
    offer: Offer,
    now: u64,
) -> Result<(), StoreError> {
    if offer.to == scope.catalog() {
        return Err(TransferRefusal::SameCatalog.into());
    }
    // The device's row is locked: of two who offer it at once, the second sees the first.
    let lock = "UPDATE device SET revision = revision WHERE catalog = $1 AND id = $2
        AND state IN ('claimed', 'enrolled') RETURNING epoch";
    let lock = sqlx::query(lock).bind(scope.key()).bind(offer.device.to_string());
    let row = lock.fetch_optional(&mut *connection).await?.ok_or(StoreError::Missing("device"))?;
    let epoch = u32::try_from(columns::number(&row, "epoch")?);
    let epoch = epoch.map_err(|_| StoreError::Damaged("epoch"))?.saturating_add(1);
    if let Some(before) = find(connection, scope, &offer.device).await? {
        before.replace(now)?;
    }
    let Offer { device, to, root, ends_at, by } = offer;
    let insert =
        "INSERT INTO transfer (catalog, device, to_catalog, root, epoch, ends_at, offered_by,
            offerer)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (catalog, device) DO UPDATE SET to_catalog = $3, root = $4, epoch = $5,
            ends_at = $6, offered_by = $7, offerer = $8, approved_by = NULL, voucher = NULL, sent_at = NULL,
            followed_at = NULL";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(device.to_string())
        .bind(to.to_string())
        .bind(root)
        .bind(i64::from(epoch))
        .bind(stored(ends_at))
        .bind(by.name)
        .bind(by.person.text().to_owned())
        .execute(connection)
        .await?;
    Ok(())
}

/// Approves a transfer with its voucher, which must be of what was offered.
///
/// # Errors
/// There is none, it does not wait for this person's approval, another one was offered meanwhile, or those of the database.
pub async fn approve(
    connection: &mut Connection,
    scope: Scope,
    (id, seen): (&DeviceId, &Transfer),
    (by, voucher): (By, Vec<u8>),
    now: u64,
) -> Result<(), StoreError> {
    let offered = lock(connection, scope, id).await?;
    offered.approve(&by.person, now)?;
    if offered != *seen {
        return Err(StoreError::Changed);
    }
    let update = "UPDATE transfer SET approved_by = $3, voucher = $4
        WHERE catalog = $1 AND device = $2";
    let update = sqlx::query(update).bind(scope.key()).bind(id.to_string());
    update.bind(by.name).bind(voucher).execute(connection).await?;
    Ok(())
}

/// Withdraws a transfer that its device was not told of.
///
/// # Errors
/// There is none, the device was told, or those of the database.
pub async fn withdraw(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
    now: u64,
) -> Result<(), StoreError> {
    lock(connection, scope, id).await?.withdraw(now)?;
    let delete = sqlx::query("DELETE FROM transfer WHERE catalog = $1 AND device = $2");
    delete.bind(scope.key()).bind(id.to_string()).execute(connection).await?;
    Ok(())
}

/// Claims a device that another catalog gives, as the owner of this number, and returns its state afterwards.
///
/// # Errors
/// Those of [`device::claim`].
pub async fn accept(
    connection: &mut Connection,
    scope: Scope,
    claim: Claim,
    epoch: u32,
    now: u64,
) -> Result<State, StoreError> {
    let id = claim.device;
    let state = device::claim(connection, scope, claim, now).await?;
    // A device that comes back comes with another attestation key.
    let update = "UPDATE device SET epoch = $3, state = 'claimed', evidence_key = NULL
        WHERE catalog = $1 AND id = $2 AND epoch <> $3";
    let update = sqlx::query(update).bind(scope.key()).bind(id.to_string());
    let came = update.bind(i64::from(epoch)).execute(connection).await?.rows_affected() == 1;
    Ok(if came { State::Claimed } else { state })
}

/// Notes in catalogs of this service that have given a device to this one that it has come. Returns them: they retire it.
pub(crate) async fn has_come(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
    now: u64,
) -> Result<Vec<Scope>, StoreError> {
    let update = "UPDATE transfer SET followed_at = $3
        WHERE device = $1 AND to_catalog = $2 AND sent_at IS NOT NULL AND followed_at IS NULL
            AND epoch = (SELECT epoch FROM device d WHERE d.catalog = $2 AND d.id = $1)
        RETURNING catalog";
    let update = sqlx::query(update).bind(id.to_string()).bind(scope.key()).bind(stored(now));
    let rows = update.fetch_all(connection).await?;
    rows.iter().map(|row| columns::catalog(row, "catalog").map(Scope::new)).collect()
}

fn transfer_of(row: &AnyRow) -> Result<Transfer, StoreError> {
    let epoch = u32::try_from(columns::number(row, "epoch")?);
    Ok(Transfer {
        to: columns::catalog(row, "to_catalog")?,
        root: columns::bytes(row, "root")?,
        epoch: epoch.map_err(|_| StoreError::Damaged("epoch"))?,
        ends_at: columns::number(row, "ends_at")?,
        offered_by: columns::text(row, "offered_by")?,
        offerer: PersonId::stored(columns::text(row, "offerer")?),
        approved_by: columns::text_if_any(row, "approved_by")?,
        voucher: columns::bytes_if_any(row, "voucher")?,
        sent_at: columns::number_if_any(row, "sent_at")?,
        followed_at: columns::number_if_any(row, "followed_at")?,
    })
}

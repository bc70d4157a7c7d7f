//! Catalogs, products and groups.

use crate::audit::{self, Entry};
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::{Actor, Scope};
use crate::step::{Connection, Step};
use crate::store::Store;
use holdfast_evidence::messages::CatalogId;
use holdfast_failure_reports::Level;
use holdfast_release::feed::Feed;
use holdfast_service_domain::audit::BEGIN;
use holdfast_service_domain::check_in::Rules;
use holdfast_service_domain::grade::Grades;
use sqlx::any::AnyRow;
use std::collections::BTreeSet;

/// A catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// Its id.
    pub id: CatalogId,
    /// Its name.
    pub name: String,
    /// The grades that it takes, where a group does not say otherwise.
    pub grades: Grades,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
    /// How often it was changed.
    pub revision: u64,
}

/// A group of a product's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The product.
    pub product: String,
    /// Its name.
    pub name: String,
    /// The least rollback index that it takes.
    pub least_index: u64,
    /// The grades that it takes; none where the catalog's are.
    pub grades: Option<Grades>,
    /// How much its devices are to report; where it is written, none leaves it as it is.
    pub reports: Option<Level>,
    /// True if deployments need two people; where it is written, none leaves it as it is.
    pub is_production: Option<bool>,
    /// True if devices are given releases by deployments; where it is written, none leaves it as it is.
    pub is_update_on: Option<bool>,
    /// The feed that its devices follow, where their images allow it; where nobody has said one, devices follow the first of their images. Where it
    /// is written, it stays as it is where it is not said.
    pub feed: Option<Feed>,
    /// How often it was changed; of no effect where it is written.
    pub revision: u64,
}

impl Store {
    /// Makes a catalog, with `more` in the same transaction: what it cannot be without.
    ///
    /// # Errors
    /// There is one of this id or name, or those of the database and of `more`.
    pub async fn make_catalog(
        &self,
        catalog: Catalog,
        entry: Entry,
        more: impl for<'c> FnOnce(&'c mut Connection, Scope) -> Step<'c, ()> + Send + 'static,
    ) -> Result<Scope, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let scope = Scope::new(catalog.id);
                let insert =
                    "INSERT INTO catalog (id, name, grades, audit_number, audit_head, created_at)
                    VALUES ($1, $2, $3, 0, $4, $5) ON CONFLICT DO NOTHING";
                let made = sqlx::query(insert)
                    .bind(scope.key())
                    .bind(catalog.name)
                    .bind(catalog.grades.to_string())
                    .bind(BEGIN.to_vec())
                    .bind(stored(catalog.created_at))
                    .execute(&mut *connection)
                    .await?;
                if made.rows_affected() == 0 {
                    return Err(StoreError::There("catalog"));
                }
                more(connection, scope).await?;
                audit::append(connection, scope, entry).await?;
                Ok(scope)
            })
        })
        .await
    }

    /// Returns the catalogs that an actor may see, by id behind `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn catalogs(
        &self,
        actor: &Actor,
        after: &str,
        most: u32,
    ) -> Result<Vec<Catalog>, StoreError> {
        let mut connection = self.read().await?;
        let own: Option<BTreeSet<String>> =
            actor.grants.iter().map(|of| of.extent.catalog().map(|id| id.to_string())).collect();
        if let Some(own) = own {
            // Whoever has roles in some catalogs is asked for one at a time: they are few.
            let mut catalogs = Vec::new();
            let query = "SELECT id, name, grades, created_at, revision FROM catalog WHERE id = $1";
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            for id in own.into_iter().filter(|id| id.as_str() > after) {
                let row = sqlx::query(query).bind(id).fetch_optional(&mut *connection).await?;
                catalogs.extend(row.as_ref().map(catalog_of).transpose()?);
                if catalogs.len() >= most {
                    break;
                }
            }
            return Ok(catalogs);
        }
        let query = "SELECT id, name, grades, created_at, revision FROM catalog
            WHERE id > $1 ORDER BY id LIMIT $2";
        let query = sqlx::query(query).bind(after.to_owned()).bind(i64::from(most));
        query.fetch_all(&mut *connection).await?.iter().map(catalog_of).collect()
    }

    /// Returns a catalog.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn catalog(&self, scope: Scope) -> Result<Catalog, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT id, name, grades, created_at, revision FROM catalog WHERE id = $1";
        let row = sqlx::query(query).bind(scope.key()).fetch_optional(&mut *connection).await?;
        catalog_of(&row.ok_or(StoreError::Missing("catalog"))?)
    }

    /// Returns names of products behind `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn products(
        &self,
        scope: Scope,
        after: &str,
        most: u32,
    ) -> Result<Vec<String>, StoreError> {
        let mut connection = self.read().await?;
        let query =
            "SELECT name FROM product WHERE catalog = $1 AND name > $2 ORDER BY name LIMIT $3";
        let query =
            sqlx::query(query).bind(scope.key()).bind(after.to_owned()).bind(i64::from(most));
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| columns::text(row, "name")).collect()
    }

    /// Returns groups of a product behind the one named `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn groups(
        &self,
        scope: Scope,
        product: &str,
        after: &str,
        most: u32,
    ) -> Result<Vec<Group>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT product, name, least_index, grades, report_level, production,
            update_mode, feed, revision FROM grp
            WHERE catalog = $1 AND product = $2 AND name > $3 ORDER BY name LIMIT $4";
        let query = sqlx::query(query).bind(scope.key()).bind(product.to_owned());
        let query = query.bind(after.to_owned()).bind(i64::from(most));
        query.fetch_all(&mut *connection).await?.iter().map(group_of).collect()
    }

    /// Returns a group.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn group(
        &self,
        scope: Scope,
        product: &str,
        name: &str,
    ) -> Result<Option<Group>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT product, name, least_index, grades, report_level, production,
            update_mode, feed, revision FROM grp
            WHERE catalog = $1 AND product = $2 AND name = $3";
        let query = sqlx::query(query).bind(scope.key());
        let query = query.bind(product.to_owned()).bind(name.to_owned());
        query.fetch_optional(&mut *connection).await?.as_ref().map(group_of).transpose()
    }

    /// Returns the rules that hold for a device: its group's, where it has one, and the catalog's otherwise.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn rules(&self, scope: Scope, device: &str) -> Result<Rules, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT c.grades AS grades, g.grades AS of_group, g.least_index AS least_index,
            g.report_level AS report_level
            FROM catalog c
            LEFT JOIN device d ON d.catalog = c.id AND d.id = $2
            LEFT JOIN grp g ON g.catalog = d.catalog AND g.product = d.product AND g.name = d.grp
            WHERE c.id = $1";
        let query = sqlx::query(query).bind(scope.key()).bind(device.to_owned());
        let row = query.fetch_optional(&mut *connection).await?;
        let row = row.ok_or(StoreError::Missing("catalog"))?;
        columns::rules(&row)
    }
}

/// Sets the grades that a catalog takes.
///
/// # Errors
/// Those of the database.
pub async fn set_grades(
    connection: &mut Connection,
    scope: Scope,
    grades: Grades,
) -> Result<(), StoreError> {
    let update =
        sqlx::query("UPDATE catalog SET grades = $2, revision = revision + 1 WHERE id = $1");
    update.bind(scope.key()).bind(grades.to_string()).execute(connection).await?;
    Ok(())
}

/// Makes a product. One that is there stays as it is.
///
/// # Errors
/// Those of the database.
pub async fn put_product(
    connection: &mut Connection,
    scope: Scope,
    name: String,
    at: u64,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO product (catalog, name, created_at) VALUES ($1, $2, $3)
        ON CONFLICT (catalog, name) DO NOTHING";
    sqlx::query(insert).bind(scope.key()).bind(name).bind(stored(at)).execute(connection).await?;
    Ok(())
}

/// Makes a group. One that is there stays as it is.
///
/// # Errors
/// There is no such product, or those of the database.
pub async fn make_group(
    connection: &mut Connection,
    scope: Scope,
    group: Group,
    at: u64,
) -> Result<(), StoreError> {
    let query = "SELECT name FROM grp WHERE catalog = $1 AND product = $2 AND name = $3";
    let query = sqlx::query(query).bind(scope.key());
    let query = query.bind(group.product.clone()).bind(group.name.clone());
    if query.fetch_optional(&mut *connection).await?.is_some() {
        return Ok(());
    }
    put_group(connection, scope, group, at).await
}

/// Makes a group, or changes it.
///
/// # Errors
/// There is no such product, or those of the database.
pub async fn put_group(
    connection: &mut Connection,
    scope: Scope,
    group: Group,
    at: u64,
) -> Result<(), StoreError> {
    let product = "SELECT name FROM product WHERE catalog = $1 AND name = $2";
    let product = sqlx::query(product).bind(scope.key()).bind(group.product.clone());
    if product.fetch_optional(&mut *connection).await?.is_none() {
        return Err(StoreError::Missing("product"));
    }
    // Who does not know of reports or deployments does not switch them on again by what he writes.
    let put = "INSERT INTO grp
            (catalog, product, name, least_index, grades, created_at, report_level, production,
            update_mode, feed)
        VALUES ($1, $2, $3, $4, $5, $6, COALESCE($7, $8), COALESCE($9, 0), COALESCE($10, 'on'), $11)
        ON CONFLICT (catalog, product, name) DO UPDATE SET least_index = $4, grades = $5,
            report_level = COALESCE($7, grp.report_level),
            production = COALESCE($9, grp.production),
            update_mode = COALESCE($10, grp.update_mode), feed = COALESCE($11, grp.feed), revision = grp.revision + 1";
    sqlx::query(put)
        .bind(scope.key())
        .bind(group.product)
        .bind(group.name)
        .bind(stored(group.least_index))
        .bind(group.grades.map(|grades| grades.to_string()))
        .bind(stored(at))
        .bind(group.reports.map(|level| level.word().to_owned()))
        .bind(Level::default().word().to_owned())
        .bind(group.is_production.map(i64::from))
        .bind(group.is_update_on.map(|on| if on { "on" } else { "off" }.to_owned()))
        .bind(group.feed.map(|feed| feed.to_string()))
        .execute(connection)
        .await?;
    Ok(())
}

fn catalog_of(row: &AnyRow) -> Result<Catalog, StoreError> {
    let grades = columns::grades_if_any(row, "grades")?;
    Ok(Catalog {
        id: columns::catalog(row, "id")?,
        name: columns::text(row, "name")?,
        grades: grades.ok_or(StoreError::Damaged("grades"))?,
        created_at: columns::number(row, "created_at")?,
        revision: columns::number(row, "revision")?,
    })
}

fn group_of(row: &AnyRow) -> Result<Group, StoreError> {
    Ok(Group {
        product: columns::text(row, "product")?,
        name: columns::text(row, "name")?,
        least_index: columns::number(row, "least_index")?,
        grades: columns::grades_if_any(row, "grades")?,
        reports: Some(columns::level(row)?),
        is_production: Some(columns::number(row, "production")? > 0),
        is_update_on: Some(columns::text(row, "update_mode")? == "on"),
        feed: columns::feed_if_any(row)?,
        revision: columns::number(row, "revision")?,
    })
}

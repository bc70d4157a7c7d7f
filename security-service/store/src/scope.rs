//! The authoriser: it alone makes a [`Scope`], without which nothing of a catalog is read or written.

use crate::columns;
use crate::error::StoreError;
use crate::store::Store;
use holdfast_evidence::messages::CatalogId;
use holdfast_service_domain::extent::{Extent, Grant, may};
use holdfast_service_domain::person::{By, PersonId};
use holdfast_service_domain::role::{Need, Role};

/// The right to read and write one catalog's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    catalog: CatalogId,
}

impl Scope {
    pub(crate) fn new(catalog: CatalogId) -> Self {
        Self { catalog }
    }

    /// Returns the catalog.
    #[must_use]
    pub fn catalog(&self) -> CatalogId {
        self.catalog
    }

    pub(crate) fn key(&self) -> String {
        self.catalog.to_string()
    }
}

/// Somebody who asks: the holder of a token or of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Who it is, and what logs call him.
    pub by: By,
    /// What he may do, and where.
    pub grants: Vec<Grant>,
}

impl Actor {
    /// Returns one of the service's own program, who sees everything.
    #[must_use]
    pub fn of_program(name: &str) -> Self {
        let grants = vec![Grant { role: Role::Reader, extent: Extent::Service }];
        Self { by: By::named(name), grants }
    }

    /// True if the actor may do there what needs this.
    #[must_use]
    pub fn may(&self, need: Need, at: &Extent) -> bool {
        may(&self.grants, need, at)
    }

    /// True if the actor may do somewhere what needs this.
    #[must_use]
    pub fn may_somewhere(&self, need: Need) -> bool {
        self.grants.iter().any(|grant| grant.role.may(need))
    }

    /// True if the actor may do somewhere in the catalog what needs this.
    #[must_use]
    pub fn may_in(&self, need: Need, catalog: CatalogId) -> bool {
        let mut grants = self.grants.iter();
        grants.any(|grant| grant.role.may(need) && grant.extent.touches(catalog))
    }

    /// True if the catalog is there for the actor.
    #[must_use]
    pub fn knows(&self, catalog: CatalogId) -> bool {
        self.grants.iter().any(|grant| grant.extent.touches(catalog))
    }
}

impl Store {
    /// Returns the actor with the token of this hash, if it has not ended.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn actor(&self, hash: &str, now: u64) -> Result<Option<Actor>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT catalog, name, role, person, product, grp FROM token
            WHERE hash = $1 AND ends_at > $2";
        let query = sqlx::query(query).bind(hash.to_owned()).bind(columns::stored(now));
        let Some(row) = query.fetch_optional(&mut *connection).await? else {
            return Ok(None);
        };
        let extent = match columns::text_if_any(&row, "catalog")? {
            None => Extent::Service,
            Some(_) => columns::extent(&row, columns::catalog(&row, "catalog")?)?,
        };
        let by = By {
            name: columns::text(&row, "name")?,
            person: PersonId::stored(columns::text(&row, "person")?),
        };
        Ok(Some(Actor { by, grants: vec![Grant { role: columns::role(&row)?, extent }] }))
    }

    /// Returns the scope of a catalog for an actor. A catalog that is not the actor's is not there for him.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn scope_of(
        &self,
        actor: &Actor,
        catalog: CatalogId,
    ) -> Result<Option<Scope>, StoreError> {
        if !actor.knows(catalog) {
            return Ok(None);
        }
        self.scope_of_device(catalog).await
    }

    /// Returns the scopes of all catalogs, for work of the service's own that is done in each.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn scopes(&self) -> Result<Vec<Scope>, StoreError> {
        let mut connection = self.read().await?;
        let rows = sqlx::query("SELECT id FROM catalog ORDER BY id").fetch_all(&mut *connection);
        rows.await?.iter().map(|row| columns::catalog(row, "id").map(Scope::new)).collect()
    }

    /// Returns the scope of the catalog that a device names. The device port alone asks for it, and reads and writes no more
    /// than the row of the device whose key has signed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn scope_of_device(&self, catalog: CatalogId) -> Result<Option<Scope>, StoreError> {
        let mut connection = self.read().await?;
        let query = sqlx::query("SELECT id FROM catalog WHERE id = $1").bind(catalog.to_string());
        let row = query.fetch_optional(&mut *connection).await?;
        Ok(row.map(|_| Scope::new(catalog)))
    }
}

//! The authoriser: it alone makes a [`Scope`], without which nothing of a catalog is read or written.

use crate::columns;
use crate::error::StoreError;
use crate::store::Store;
use holdfast_evidence::messages::CatalogId;
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

/// The holder of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Name of the token.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its catalog; none for a token of the whole service.
    pub catalog: Option<CatalogId>,
}

impl Actor {
    /// True if the actor may do what needs this.
    #[must_use]
    pub fn may(&self, need: Need) -> bool {
        self.role.may(need)
    }
}

impl Store {
    /// Returns the actor with the token of this hash, if it has not ended.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn actor(&self, hash: &str, now: u64) -> Result<Option<Actor>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT catalog, name, role FROM token WHERE hash = $1 AND ends_at > $2";
        let query = sqlx::query(query).bind(hash.to_owned()).bind(columns::stored(now));
        let Some(row) = query.fetch_optional(&mut *connection).await? else {
            return Ok(None);
        };
        let role = Role::of_word(&columns::text(&row, "role")?);
        let catalog = columns::text_if_any(&row, "catalog")?;
        let catalog =
            catalog.map(|text| CatalogId::parse(&text).ok_or(StoreError::Damaged("catalog")));
        Ok(Some(Actor {
            name: columns::text(&row, "name")?,
            role: role.ok_or(StoreError::Damaged("role"))?,
            catalog: catalog.transpose()?,
        }))
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
        if actor.catalog.is_some_and(|own| own != catalog) {
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

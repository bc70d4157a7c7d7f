//! The authoriser: it alone makes a [`Scope`], without which nothing of a catalog is read or written.

use crate::columns;
use crate::error::StoreError;
use crate::store::Store;
use holdfast_evidence::messages::CatalogId;
use holdfast_service_domain::extent::{Extent, Grant, may};
use holdfast_service_domain::person::{By, PersonId};
use holdfast_service_domain::role::{Need, Role};
use std::collections::BTreeSet;

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

    /// Returns of which devices of a catalog the actor may see rows, for queries that leave out all others.
    #[must_use]
    pub fn sight(&self, catalog: CatalogId) -> Sight {
        let mut parts = BTreeSet::new();
        for grant in self.grants.iter().filter(|grant| grant.role.may(Need::See)) {
            match &grant.extent {
                Extent::Service => return Sight::All,
                Extent::Catalog(own) if *own == catalog => return Sight::All,
                Extent::Product(own, product) if *own == catalog => {
                    parts.insert((product.clone(), None));
                }
                Extent::Group(own, product, group) if *own == catalog => {
                    parts.insert((product.clone(), Some(group.clone())));
                }
                Extent::Catalog(_) | Extent::Product(..) | Extent::Group(..) => {}
            }
        }
        Sight::Parts(parts.into_iter().collect())
    }

    /// True if the catalog is there for the actor.
    #[must_use]
    pub fn knows(&self, catalog: CatalogId) -> bool {
        self.grants.iter().any(|grant| grant.extent.touches(catalog))
    }
}

/// Of which devices of a catalog somebody sees rows that name a device alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Of all, and of devices that are in no group or are not there any more.
    All,
    /// Of the devices that are now in these products, each whole or one group of it.
    Parts(Vec<(String, Option<String>)>),
}

impl Sight {
    /// Returns a condition on the rows of a table with the columns `catalog` and `device`, and what is bound to its parameters, of which the
    /// first has the number `first`. The condition has nothing of a name in it, and is no deeper for more products.
    pub(crate) fn condition(&self, table: &'static str, first: usize) -> (String, Vec<String>) {
        let Self::Parts(parts) = self else { return ("1 = 1".to_owned(), Vec::new()) };
        let (mut whole, mut groups, mut bound) = (Vec::new(), Vec::new(), Vec::new());
        let mut number = first;
        let mut next = |name: &String| {
            bound.push(name.clone());
            let parameter = format!("${number}");
            number = number.saturating_add(1);
            parameter
        };
        for (product, group) in parts {
            let product = next(product);
            match group {
                None => whole.push(product),
                Some(group) => groups.push(format!("({product}, {})", next(group))),
            }
        }
        let mut any = Vec::new();
        if !whole.is_empty() {
            any.push(format!("seen.product IN ({})", whole.join(", ")));
        }
        if !groups.is_empty() {
            any.push(format!("(seen.product, seen.grp) IN (VALUES {})", groups.join(", ")));
        }
        if any.is_empty() {
            return ("1 = 0".to_owned(), bound);
        }
        let condition = format!(
            "EXISTS (SELECT 1 FROM device seen WHERE seen.catalog = {table}.catalog
                AND seen.id = {table}.device AND ({}))",
            any.join(" OR ")
        );
        (condition, bound)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_sees_devices_where_his_roles_let_him_see() {
        let (here, there) = (CatalogId([1; 16]), CatalogId([2; 16]));
        let sight = |grants: &[(Role, Extent)]| {
            let grants = grants.iter().cloned();
            let grants = grants.map(|(role, extent)| Grant { role, extent }).collect();
            Actor { by: By::named("ines"), grants }.sight(here)
        };
        let product = |catalog, name: &str| Extent::Product(catalog, name.to_owned());
        let group = Extent::Group(here, "cam".to_owned(), "test".to_owned());
        assert_eq!(sight(&[(Role::Reader, Extent::Service)]), Sight::All);
        assert_eq!(sight(&[(Role::Reader, Extent::Catalog(here))]), Sight::All);
        // A role that sees nothing, and those of another catalog.
        let blind = [
            (Role::Factory, Extent::Catalog(here)),
            (Role::Owner, Extent::Catalog(there)),
            (Role::Owner, product(there, "pump")),
        ];
        assert_eq!(sight(&blind), Sight::Parts(Vec::new()));
        let parts = [
            (Role::Analyst, product(here, "pump")),
            (Role::Operator, product(here, "pump")),
            (Role::Reader, group),
        ];
        let expected =
            [("cam".to_owned(), Some("test".to_owned())), ("pump".to_owned(), None)].to_vec();
        assert_eq!(sight(&parts), Sight::Parts(expected));
    }
}

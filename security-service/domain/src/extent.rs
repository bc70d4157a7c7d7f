//! How far a role reaches: the whole service, a catalog, a product or a group of devices.

use crate::role::{Need, Role};
use holdfast_evidence::messages::CatalogId;
use std::fmt;

/// How far a role reaches, and what an operation is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extent {
    /// Every catalog, those that are made later as well.
    Service,
    /// A catalog.
    Catalog(CatalogId),
    /// A product of a catalog, with all its groups.
    Product(CatalogId, String),
    /// A group of a product.
    Group(CatalogId, String, String),
}

impl Extent {
    /// Returns that of a product or a group of it; the catalog's where neither is said.
    ///
    /// # Errors
    /// A group is said and no product.
    pub fn of(
        catalog: CatalogId,
        product: Option<String>,
        group: Option<String>,
    ) -> Result<Self, GroupWithoutProduct> {
        match (product, group) {
            (None, None) => Ok(Self::Catalog(catalog)),
            (Some(product), None) => Ok(Self::Product(catalog, product)),
            (Some(product), Some(group)) => Ok(Self::Group(catalog, product, group)),
            (None, Some(_)) => Err(GroupWithoutProduct),
        }
    }

    /// Returns the catalog; none where it is the whole service.
    #[must_use]
    pub fn catalog(&self) -> Option<CatalogId> {
        match self {
            Self::Service => None,
            Self::Catalog(catalog) | Self::Product(catalog, _) | Self::Group(catalog, _, _) => {
                Some(*catalog)
            }
        }
    }

    /// Returns the product, where it is one or a group of one.
    #[must_use]
    pub fn product(&self) -> Option<&str> {
        match self {
            Self::Service | Self::Catalog(_) => None,
            Self::Product(_, product) | Self::Group(_, product, _) => Some(product),
        }
    }

    /// Returns the group, where it is one.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Service | Self::Catalog(_) | Self::Product(..) => None,
            Self::Group(_, _, group) => Some(group),
        }
    }

    /// True if all of the other is in this one.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match self {
            Self::Service => true,
            Self::Catalog(catalog) => other.catalog() == Some(*catalog),
            Self::Product(catalog, product) => {
                other.catalog() == Some(*catalog) && other.product() == Some(product)
            }
            Self::Group(..) => self == other,
        }
    }

    /// True if it is of this catalog, or of all.
    #[must_use]
    pub fn touches(&self, catalog: CatalogId) -> bool {
        self.catalog().is_none_or(|own| own == catalog)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service => f.write_str("service"),
            Self::Catalog(_) => f.write_str("catalog"),
            Self::Product(_, product) => f.write_str(product),
            Self::Group(_, product, group) => write!(f, "{product}/{group}"),
        }
    }
}

/// A group was named without its product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("group: has no meaning without `product`")]
pub struct GroupWithoutProduct;

/// A role, and how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// How far it reaches.
    pub extent: Extent,
}

impl Grant {
    /// True if whoever has it may do there what needs this.
    #[must_use]
    pub fn may(&self, need: Need, at: &Extent) -> bool {
        self.role.may(need) && self.extent.contains(at)
    }
}

/// True if whoever has these may do there what needs this.
#[must_use]
pub fn may(grants: &[Grant], need: Need, at: &Extent) -> bool {
    grants.iter().any(|grant| grant.may(need, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: CatalogId = CatalogId([1; 16]);
    const THERE: CatalogId = CatalogId([2; 16]);

    fn product(catalog: CatalogId, name: &str) -> Extent {
        Extent::Product(catalog, name.to_owned())
    }

    fn group(catalog: CatalogId, product: &str, name: &str) -> Extent {
        Extent::Group(catalog, product.to_owned(), name.to_owned())
    }

    /// Extents from the largest to the smallest, and two others beside each.
    #[test]
    fn an_extent_contains_what_is_below_it_and_nothing_beside_it() {
        let line = [
            Extent::Service,
            Extent::Catalog(HERE),
            product(HERE, "pump"),
            group(HERE, "pump", "production"),
        ];
        for (large, one) in line.iter().enumerate() {
            for (small, other) in line.iter().enumerate() {
                assert_eq!(one.contains(other), large <= small, "{one} {other}");
            }
        }
        let beside = [
            Extent::Catalog(THERE),
            product(THERE, "pump"),
            group(THERE, "pump", "production"),
            product(HERE, "pumps"),
            group(HERE, "pump", "test"),
            group(HERE, "cam", "production"),
        ];
        for other in &beside {
            let contained = line.iter().filter(|one| one.contains(other)).count();
            let expected = match other {
                Extent::Group(HERE, product, _) if product == "pump" => 3,
                other if other.touches(HERE) => 2,
                _ => 1,
            };
            assert_eq!(contained, expected, "{other}");
        }
    }

    #[test]
    fn a_role_is_worth_something_where_it_reaches_alone() {
        let grants = [
            Grant { role: Role::Reader, extent: Extent::Catalog(HERE) },
            Grant { role: Role::Operator, extent: product(HERE, "pump") },
        ];
        assert!(may(&grants, Need::See, &product(HERE, "cam")));
        assert!(may(&grants, Need::Operate, &group(HERE, "pump", "test")));
        for at in [product(HERE, "cam"), Extent::Catalog(HERE), product(THERE, "pump")] {
            assert!(!may(&grants, Need::Operate, &at), "{at}");
        }
        assert!(!may(&[], Need::See, &Extent::Catalog(HERE)));
        assert_eq!(Extent::of(HERE, None, Some("a".to_owned())), Err(GroupWithoutProduct));
    }
}

//! Ids of catalogs, each of which is one owner's fleet.

use crate::ComponentId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The id of a catalog: a GUID, which is written in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CatalogId(pub [u8; 16]);

impl CatalogId {
    /// Reads a GUID of either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        ComponentId::parse(text).map(|id| Self(id.0))
    }
}

impl fmt::Display for CatalogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ComponentId(self.0).fmt(f)
    }
}

impl Serialize for CatalogId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for CatalogId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("must be a GUID"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding;

    #[test]
    fn a_catalogs_id_has_one_text_and_one_encoding() {
        let id = CatalogId::parse("25025D2C-66DA-4448-BAE1-AC26FCDD3627").unwrap();
        assert_eq!(id.to_string(), "25025d2c-66da-4448-bae1-ac26fcdd3627");
        let encoded = encoding::encode(&id).unwrap();
        assert_eq!(encoding::decode(&encoded), Ok(id));
        let upper = encoding::encode(&id.to_string().to_uppercase()).unwrap();
        assert_eq!(
            encoding::decode::<CatalogId>(&upper),
            Err(encoding::EncodingError::NotCanonical)
        );
        assert_eq!(CatalogId::parse("25025d2c"), None);
    }
}

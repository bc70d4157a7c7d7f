//! Orders of the owner to reset a device to its factory state.
//!
//! An order is a file of the `oem` repository whose path says what is erased; devices follow it from a card alone,
//! each order once.

use holdfast_types::encoding::{self, EncodingError};
use holdfast_types::hex::{hex, unhex};
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Bytes of an order: its digest, and which partitions.
const ORDER_BYTES: usize = 35;
/// Prefix of the path of an order in the `oem` repository.
const PATH: &str = "orders/reset-";

/// An error of decoding an order from a program's argument.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OrderError {
    /// The argument is no hexadecimal text of the length of an order.
    #[error("it is malformed")]
    Malformed,
    /// The bytes do not decode.
    #[error("it cannot be decoded")]
    Encoding(#[from] EncodingError),
}

/// The partitions that are erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Partitions {
    /// The state of init and the services: uids, trusted metadata, the seed. Floors outlive a reset.
    pub state: bool,
    /// The app packages: the device fetches them again.
    pub apps: bool,
    /// The storage of apps.
    pub data: bool,
}

impl Partitions {
    /// Each with its name, in the order in which they are erased.
    #[must_use]
    pub fn each(self) -> [(&'static str, bool); 3] {
        [("data", self.data), ("apps", self.apps), ("state", self.state)]
    }

    /// Reads names with `separator` between them. `None` for another name, one that is there twice, or none.
    #[must_use]
    pub fn parse(text: &str, separator: char) -> Option<Self> {
        let mut found = Self::default();
        for name in text.split(separator) {
            let place = match name {
                "state" => &mut found.state,
                "apps" => &mut found.apps,
                "data" => &mut found.data,
                _ => return None,
            };
            if std::mem::replace(place, true) {
                return None;
            }
        }
        Some(found)
    }
}

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.each().into_iter().filter(|(_, named)| *named);
        f.write_str(&named.map(|(name, _)| name).collect::<Vec<_>>().join("-"))
    }
}

/// An order of the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// By which it is known: the SHA-256 of its file.
    pub digest: [u8; 32],
    /// Partitions that are erased.
    pub partitions: Partitions,
}

impl Order {
    /// The path of an order that nobody has given before: `number` makes it another one.
    #[must_use]
    pub fn path(partitions: Partitions, number: u64) -> String {
        format!("{PATH}{partitions}.{number:016x}")
    }

    /// Encodes the order as an argument of a program.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn to_argument(&self) -> Result<String, EncodingError> {
        Ok(hex(&encoding::encode(self)?))
    }

    /// Reads it from an argument.
    ///
    /// # Errors
    /// The argument is none that [`to_argument`](Self::to_argument) has made.
    pub fn from_argument(argument: &str) -> Result<Self, OrderError> {
        let bytes = unhex::<ORDER_BYTES>(argument).ok_or(OrderError::Malformed)?;
        Ok(encoding::decode(&bytes)?)
    }

    /// The order that the file at `path` of a repository is, which has this SHA-256. A file with another name is none.
    #[must_use]
    pub fn at_path(path: &str, digest: [u8; 32]) -> Option<Self> {
        let (names, number) = path.strip_prefix(PATH)?.split_once('.')?;
        let is_number = number.len() == 16 && number.bytes().all(|b| b.is_ascii_hexdigit());
        let partitions = Partitions::parse(names, '-').filter(|_| is_number)?;
        Some(Self { digest, partitions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_file_with_its_name_and_nothing_else() {
        let all = Partitions { state: true, apps: true, data: true };
        let digest = [0x11; 32];
        assert_eq!(Order::path(all, 10), "orders/reset-data-apps-state.000000000000000a");
        for wrong in [
            "orders/reset-.000000000000000a",
            "orders/reset-data-data.000000000000000a",
            "orders/reset-root.000000000000000a",
            "orders/reset-data.0a",
        ] {
            assert_eq!(Order::at_path(wrong, digest), None, "{wrong}");
        }
        let found = Order::at_path(&Order::path(all, 10), digest);
        assert_eq!(found, Some(Order { digest, partitions: all }));
    }

    #[test]
    fn an_order_comes_through_an_argument() {
        let partitions = Partitions { state: true, apps: false, data: true };
        let order = Order { digest: [0xa5; 32], partitions };
        let argument = order.to_argument().unwrap();
        assert_eq!(Order::from_argument(&argument), Ok(order));
        for wrong in ["", "zz", &argument[2..], &argument.replace("a5", "5a")[..20]] {
            assert!(Order::from_argument(wrong).is_err(), "{wrong}");
        }
    }
}

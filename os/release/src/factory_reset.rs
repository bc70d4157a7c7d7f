//! Orders to reset a device, as targets of its `oem` repository.

use crate::client::{Client, ClientError, Trusted, Wanted};
use crate::metadata::Targets;
use holdfast_sandbox::reset_order::Order;
use thiserror::Error;

/// Returns the orders to reset among the targets. A file with another name is none.
pub fn orders(targets: &Targets) -> impl Iterator<Item = Order> {
    let files = targets.targets.iter();
    files.filter_map(|(path, target)| Order::at_path(path, target.sha256()?))
}

/// Errors of the search for an order on a card.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoOrder<E: std::error::Error + 'static> {
    /// A file of metadata cannot be read.
    #[error("its metadata cannot be read")]
    Read(#[source] E),
    /// The client refuses the metadata on the card.
    #[error("its metadata is not to be believed")]
    Refused(#[from] ClientError),
    /// The metadata is trusted, and has not this order.
    #[error("its metadata holds no such order")]
    Other,
}

/// Finds an order in the metadata of the `oem` repository on a card that the caller reads. Each file is verified from
/// the image's root, `image_root`, at `now` in seconds since 1970; nothing that a device has kept is trusted. `read`
/// returns a file of metadata by its name, `None` where there is none, and at most one byte more than is wanted.
///
/// # Errors
/// See [`NoOrder`].
pub fn find_order<E: std::error::Error + 'static>(
    order: &Order,
    image_root: &[u8],
    now: u64,
    mut read: impl FnMut(&Wanted) -> Result<Option<Vec<u8>>, E>,
) -> Result<(), NoOrder<E>> {
    let mut client = Client::begin(image_root, Trusted::default(), now)?;
    while let Some(wanted) = client.wants() {
        match read(&wanted).map_err(NoOrder::Read)? {
            Some(bytes) => client.take(bytes)?,
            None => client.mark_missing()?,
        }
    }
    let found = client.targets().is_some_and(|targets| orders(targets).any(|o| o == *order));
    if found { Ok(()) } else { Err(NoOrder::Other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Target;
    use holdfast_sandbox::reset_order::Partitions;
    use std::collections::BTreeMap;

    #[test]
    fn an_order_is_found_among_files_of_other_names() {
        let json = serde_json::json!({
            "_type": "targets", "spec_version": "1.0.0", "version": 1,
            "expires": "2030-01-01T00:00:00Z", "targets": {}
        });
        let mut targets: Targets = serde_json::from_value(json).unwrap();
        let all = Partitions { state: true, apps: true, data: true };
        for path in ["orders/reset-root.000000000000000a".to_owned(), Order::path(all, 10)] {
            let hashes = BTreeMap::from([("sha256".to_owned(), "11".repeat(32))]);
            targets.targets.insert(path, Target { length: 1, hashes, custom: None });
        }
        let found: Vec<_> = orders(&targets).collect();
        assert_eq!(found, [Order { digest: [0x11; 32], partitions: all }]);
    }
}

//! Which uid belongs to which app on this device, and how far back its packages may go.
//!
//! init keeps the table on the `state` partition. A uid is given once and never again: the files of
//! an app that is gone must not become another's. The bytes are hostile until proved: bounded,
//! closed by a digest, and refused when two apps share a uid or a uid is not an app's.

use holdfast_types::ComponentId;
use holdfast_types::encoding::{self, EncodingError};
use holdfast_types::uid::{FIRST_APP_UID, LAST_UID};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// File name of the table.
pub const FILE_NAME: &str = "identities";
/// Version of the encoding.
pub const FORMAT_VERSION: u16 = 1;
/// Most apps that a device remembers.
pub const MAX_APPS: usize = 1024;
/// Largest encoded table in bytes.
pub const MAX_ENCODED_BYTES: usize = 64 * 1024;
const DIGEST_BYTES: usize = 32;

/// One app that this device has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppUid {
    /// Which app.
    pub component_id: ComponentId,
    /// Its uid, gid and project id.
    pub uid: u32,
    /// Lowest rollback index that its packages may have.
    pub floor: u64,
}

/// All apps that this device has had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UidTable {
    format_version: u16,
    next_uid: u32,
    apps: Vec<AppUid>,
}

/// A table that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UidTableError {
    /// Longer than [`MAX_ENCODED_BYTES`], or too short for its digest.
    #[error("its length of {0} bytes is out of bounds")]
    Length(usize),
    /// The digest is another.
    #[error("its digest does not fit")]
    Digest,
    /// Not the bytes of a table.
    #[error("it cannot be decoded")]
    Malformed(#[from] EncodingError),
    /// Written by another version.
    #[error("it has format version {0}, not {FORMAT_VERSION}")]
    FormatVersion(u16),
    /// A uid that no app may have.
    #[error("uid {0} is not an app's")]
    ForeignUid(u32),
    /// A uid that would be given again.
    #[error("uid {0} is not given yet")]
    FutureUid(u32),
    /// Two apps with one uid.
    #[error("uid {0} belongs to two apps")]
    SharedUid(u32),
    /// One app twice.
    #[error("component {0} is there twice")]
    Twice(ComponentId),
    /// No room for another app.
    #[error("there is no room for another app")]
    Full,
}

impl Default for UidTable {
    fn default() -> Self {
        Self { format_version: FORMAT_VERSION, next_uid: FIRST_APP_UID, apps: Vec::new() }
    }
}

impl UidTable {
    /// The bytes to store.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, UidTableError> {
        let mut bytes = encoding::encode(self)?;
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        Ok(bytes)
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// See [`UidTableError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, UidTableError> {
        if bytes.len() > MAX_ENCODED_BYTES {
            return Err(UidTableError::Length(bytes.len()));
        }
        let Some((body, digest)) = bytes.split_last_chunk::<DIGEST_BYTES>() else {
            return Err(UidTableError::Length(bytes.len()));
        };
        if Sha256::digest(body)[..] != digest[..] {
            return Err(UidTableError::Digest);
        }
        let table: Self = encoding::decode(body)?;
        table.check()?;
        Ok(table)
    }

    fn check(&self) -> Result<(), UidTableError> {
        if self.format_version != FORMAT_VERSION {
            return Err(UidTableError::FormatVersion(self.format_version));
        }
        if self.apps.len() > MAX_APPS {
            return Err(UidTableError::Full);
        }
        for (index, app) in self.apps.iter().enumerate() {
            let earlier = self.apps.get(..index).unwrap_or_default();
            if !(FIRST_APP_UID..=LAST_UID).contains(&app.uid) {
                return Err(UidTableError::ForeignUid(app.uid));
            }
            if app.uid >= self.next_uid {
                return Err(UidTableError::FutureUid(app.uid));
            }
            if earlier.iter().any(|e| e.uid == app.uid) {
                return Err(UidTableError::SharedUid(app.uid));
            }
            if earlier.iter().any(|e| e.component_id == app.component_id) {
                return Err(UidTableError::Twice(app.component_id));
            }
        }
        Ok(())
    }

    /// Every app that has one.
    #[must_use]
    pub fn all(&self) -> &[AppUid] {
        &self.apps
    }

    /// Finds an app by its component id.
    #[must_use]
    pub fn find(&self, component_id: ComponentId) -> Option<&AppUid> {
        self.apps.iter().find(|app| app.component_id == component_id)
    }

    /// The app of an app, made where it has none. `own` is who owns its storage, if it has any: from before the table
    /// was lost, its files are that user's, and the app is that user again, unless another app is. Otherwise it gets a
    /// uid above every one that was given, and above those in `occupied`, which own files that this table knows nothing of.
    ///
    /// # Errors
    /// There is no uid or no room left.
    pub fn assign(
        &mut self,
        component_id: ComponentId,
        own: Option<u32>,
        occupied: &[u32],
    ) -> Result<AppUid, UidTableError> {
        if let Some(app) = self.find(component_id) {
            return Ok(*app);
        }
        let is_an_apps = |uid: &u32| (FIRST_APP_UID..=LAST_UID).contains(uid);
        let is_free = |uid: &u32| !self.apps.iter().any(|app| app.uid == *uid);
        let above = occupied
            .iter()
            .filter(|uid| is_an_apps(uid))
            .map(|uid| uid.saturating_add(1))
            .max()
            .unwrap_or(FIRST_APP_UID);
        let new = || self.next_uid.max(above).max(FIRST_APP_UID);
        let uid = own.filter(is_an_apps).filter(is_free).unwrap_or_else(new);
        if uid > LAST_UID || self.apps.len() >= MAX_APPS {
            return Err(UidTableError::Full);
        }
        let app = AppUid { component_id, uid, floor: 0 };
        self.apps.push(app);
        self.next_uid = self.next_uid.max(uid.saturating_add(1));
        Ok(app)
    }

    /// Raises the floor of an app; never lowers it. True when that changed the table.
    pub fn raise_floor(&mut self, component_id: ComponentId, index: u64) -> bool {
        let app = self.apps.iter_mut().find(|i| i.component_id == component_id);
        match app {
            Some(app) if app.floor < index => {
                app.floor = index;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u8) -> ComponentId {
        ComponentId([number; 16])
    }

    fn raw(next_uid: u32, apps: &[(u8, u32)]) -> Result<UidTable, UidTableError> {
        let apps = apps
            .iter()
            .map(|(number, uid)| AppUid { component_id: id(*number), uid: *uid, floor: 0 })
            .collect();
        let table = UidTable { format_version: FORMAT_VERSION, next_uid, apps };
        UidTable::decode(&table.encode().unwrap())
    }

    #[test]
    fn a_uid_is_given_once() {
        let mut table = UidTable::default();
        assert_eq!(table.assign(id(1), None, &[]).unwrap().uid, 1001);
        assert_eq!(table.assign(id(2), None, &[]).unwrap().uid, 1002);
        assert_eq!(table.assign(id(1), None, &[]).unwrap().uid, 1001, "the same app, the same uid");
        let table = UidTable::decode(&table.encode().unwrap()).unwrap();
        let mut fewer = UidTable { apps: Vec::new(), ..table };
        assert_eq!(
            fewer.assign(id(3), None, &[]).unwrap().uid,
            1003,
            "though nobody has the others now"
        );
    }

    #[test]
    fn apps_own_their_files_after_the_table_was_lost() {
        // What lies on the data partition: of three apps, of which the second comes first now.
        let occupied = [0, 1001, 1002, 1007];
        let mut table = UidTable::default();
        for (number, own) in [(2, 1002), (1, 1001), (7, 1007)] {
            assert_eq!(table.assign(id(number), Some(own), &occupied).unwrap().uid, own);
            assert_eq!(table.check(), Ok(()));
        }
        assert_eq!(table.assign(id(9), None, &occupied).unwrap().uid, 1008, "a new app");
        // Whose storage somebody else has by now, or owned by no app, gets a uid of its own.
        for (number, own, expected) in [(3, 1001, 1009), (4, 0, 1010), (5, 70_000, 1011)] {
            assert_eq!(table.assign(id(number), Some(own), &occupied).unwrap().uid, expected);
        }
        assert_eq!(UidTable::decode(&table.encode().unwrap()), Ok(table));
    }

    #[test]
    fn files_of_unknown_apps_keep_their_uids_to_themselves() {
        let mut table = UidTable::default();
        let occupied = [0, 100, 1007, 70_000];
        assert_eq!(table.assign(id(1), None, &occupied).unwrap().uid, 1008);
        let mut table = UidTable::default();
        assert_eq!(table.assign(id(1), None, &[LAST_UID]), Err(UidTableError::Full));
    }

    #[test]
    fn duplicate_low_foreign_and_future_uids_are_refused() {
        raw(1003, &[(1, 1001), (2, 1002)]).unwrap();
        assert_eq!(raw(1003, &[(1, 1001), (2, 1001)]), Err(UidTableError::SharedUid(1001)));
        assert_eq!(raw(1003, &[(1, 1001), (1, 1002)]), Err(UidTableError::Twice(id(1))));
        for foreign in [0, 100, 1000, 60_000, u32::MAX] {
            assert_eq!(raw(1003, &[(1, foreign)]), Err(UidTableError::ForeignUid(foreign)));
        }
        assert_eq!(raw(1001, &[(1, 1001)]), Err(UidTableError::FutureUid(1001)));
    }

    #[test]
    fn a_floor_only_rises() {
        let mut table = UidTable::default();
        table.assign(id(1), None, &[]).unwrap();
        assert!(table.raise_floor(id(1), 5));
        assert!(!table.raise_floor(id(1), 4) && !table.raise_floor(id(1), 5));
        assert!(!table.raise_floor(id(2), 9), "of an unknown app");
        assert_eq!(table.find(id(1)).unwrap().floor, 5);
    }

    #[test]
    fn every_damage_is_noticed() {
        let mut table = UidTable::default();
        table.assign(id(1), None, &[]).unwrap();
        let good = table.encode().unwrap();
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert!(UidTable::decode(&bytes).is_err(), "byte {at}");
            assert!(UidTable::decode(&good[..at]).is_err(), "cut at {at}");
        }
        UidTable::decode(&[&good[..], &[0]].concat()).unwrap_err();
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            prop_assert!(UidTable::decode(&bytes).is_err());
        }

        #[test]
        fn a_table_that_checks_out_gives_no_uid_twice(
            numbers in proptest::collection::vec(any::<u8>(), 1..40),
            owned in proptest::collection::vec(proptest::option::of(900u32..1100), 40),
            occupied in proptest::collection::vec(900u32..1100, 0..5),
        ) {
            let mut table = UidTable::default();
            for (number, own) in numbers.into_iter().zip(owned) {
                table.assign(id(number), own, &occupied).unwrap();
                prop_assert_eq!(table.check(), Ok(()));
            }
        }
    }
}

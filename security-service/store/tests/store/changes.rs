//! Preconditions, signed releases, and databases of an earlier version.

use crate::databases::{Database, on_both};
use crate::{BOOT, DEVICE, catalog, claim};
use holdfast_evidence::policy::BootDigest;
use holdfast_release::RepositoryName;
use holdfast_service_domain::grade::{Grade, Grades};
use holdfast_service_domain::measurement::{Release, Source};
use holdfast_service_store::precondition::{Precondition, Seen, Subject, hold};
use holdfast_service_store::release;
use holdfast_service_store::repository::{self, TakenWrite};
use holdfast_service_store::{Scope, Store, StoreError};
use holdfast_types::Version;

const OS: RepositoryName = RepositoryName::Os;

/// Sets grades if the catalog is as it was seen, after a pause in which others do the same.
async fn set_grades(store: &Store, scope: Scope, seen: Seen) -> Result<(), StoreError> {
    let precondition = Precondition { subject: Subject::Catalog, seen };
    let work = store.write(move |connection| {
        Box::pin(async move {
            hold(connection, scope, Some(&precondition)).await?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            catalog::set_grades(connection, scope, Grades::of(&[Grade::Software])).await
        })
    });
    work.await
}

/// On PostgreSQL, transactions run beside each other: the precondition holds until each of them ends.
#[test]
fn of_writers_that_have_seen_the_same_revision_one_writes() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let seen = store.catalog(scope).await.unwrap().revision;
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            writers
                .spawn(async move { set_grades(&store, scope, Seen::Revisions(vec![seen])).await });
        }
        let (mut written, mut refused) = (0, 0);
        while let Some(done) = writers.join_next().await {
            match done.unwrap() {
                Ok(()) => written += 1,
                Err(StoreError::Changed) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!((written, refused), (1, 7));
        assert_eq!(store.catalog(scope).await.unwrap().revision, seen + 1);
        set_grades(&store, scope, Seen::Any).await.unwrap();
        let device = Precondition { subject: Subject::Device(DEVICE), seen: Seen::Any };
        let absent = device.clone();
        let absent = store.write(move |connection| {
            Box::pin(async move { hold(connection, scope, Some(&absent)).await })
        });
        assert!(matches!(absent.await, Err(StoreError::Changed)), "nobody is there");
        claim(&store, scope, DEVICE).await;
        let there = store.write(move |connection| {
            Box::pin(async move { hold(connection, scope, Some(&device)).await })
        });
        there.await.unwrap();
        store.close().await;
    });
}

fn release(boot: BootDigest, patch: u32) -> Release {
    let version = Version { major: 1, minor: 4, patch };
    Release { boot, version, index: 7, withdrawn: false }
}

async fn take(
    store: &Store,
    scope: Scope,
    revision: u64,
    releases: Vec<Release>,
) -> Result<Vec<bool>, StoreError> {
    let releases = releases.into_iter().map(|release| (release, None)).collect();
    let write =
        TakenWrite { repository: OS, revision, memory: vec![7; 9], targets: 3, releases, at: 2000 };
    let work = store.write(move |connection| {
        Box::pin(async move { repository::take_signed(connection, scope, write).await })
    });
    work.await
}

async fn add(store: &Store, scope: Scope, one: Release) -> Result<(), StoreError> {
    let work = store.write(move |connection| {
        Box::pin(async move { release::add(connection, scope, one, 1000).await })
    });
    work.await
}

#[test]
fn signed_releases_are_written_whole_and_by_the_root_that_they_were_verified_from() {
    on_both(async |database| {
        let store = database.open().await;
        let (scope, other) = (catalog(&store, 1).await, catalog(&store, 2).await);
        add(&store, scope, release(BOOT, 9)).await.unwrap();
        assert!(store.repository(scope, OS).await.unwrap().is_none());
        let set = store.write(move |connection| {
            Box::pin(
                async move { repository::set_root(connection, scope, OS, vec![5; 5], 1500).await },
            )
        });
        set.await.unwrap();
        let root = store.repository(scope, OS).await.unwrap().unwrap();
        assert_eq!((&root.known.root[..], &root.known.memory[..]), (&[5; 5][..], &[][..]));
        assert!(store.repository(other, OS).await.unwrap().is_none(), "of another catalog");
        let by_hand = add(&store, scope, release(BootDigest([1; 32]), 0)).await;
        assert!(matches!(by_hand, Err(StoreError::SignedAlone)));
        add(&store, other, release(BootDigest([1; 32]), 0)).await.unwrap();
        let both = vec![release(BOOT, 0), release(BootDigest([2; 32]), 1)];
        let stale = take(&store, scope, root.revision + 1, both.clone()).await;
        assert!(matches!(stale, Err(StoreError::Overtaken)));
        assert_eq!(store.releases(scope, "", 10).await.unwrap().len(), 1, "nothing was written");
        assert_eq!(take(&store, scope, root.revision, both.clone()).await.unwrap(), [true, true]);
        let rows = store.releases(scope, "", 10).await.unwrap();
        assert!(rows.iter().all(|(_, row)| row.source == Source::Signed), "{rows:?}");
        let root = store.repository(scope, OS).await.unwrap().unwrap();
        assert_eq!(
            (root.known.memory, root.targets, root.taken_at),
            (vec![7; 9], Some(3), Some(2000))
        );
        // The same again is nothing new, and what is signed is not replaced by another that is signed.
        assert_eq!(take(&store, scope, root.revision, both).await.unwrap(), [false, false]);
        let another = vec![release(BootDigest([3; 32]), 2), release(BOOT, 1)];
        let another = take(&store, scope, root.revision + 1, another).await;
        assert!(matches!(another, Err(StoreError::There("release"))));
        assert_eq!(store.releases(scope, "", 10).await.unwrap().len(), 2, "all of it or nothing");
        store.close().await;
    });
}

/// What a program of version 1 has left: tables, a catalog, a group and a release.
async fn version_1(database: &Database) {
    let tables = include_str!("../../src/schema/1.sql");
    let rows = "CREATE TABLE schema_version (version BIGINT NOT NULL);
        INSERT INTO schema_version (version) VALUES (1);
        INSERT INTO catalog (id, name, grades, audit_number, audit_head, created_at)
        VALUES ('01010101-0101-0101-0101-010101010101', 'old', 'software', 0, X, 1);
        INSERT INTO product (catalog, name, created_at)
        VALUES ('01010101-0101-0101-0101-010101010101', 'pump', 1);
        INSERT INTO grp (catalog, product, name, least_index, grades, created_at)
        VALUES ('01010101-0101-0101-0101-010101010101', 'pump', 'old', 3, NULL, 1);
        INSERT INTO measurement (catalog, pcr, boot, version, rollback_index, added_at)
        VALUES ('01010101-0101-0101-0101-010101010101', 'aa', 'BOOT', '1.4.0', 7, 1);";
    let zeros = "00".repeat(32);
    let (tables, head) = if database.is_sqlite() {
        (tables.to_owned(), format!("x'{zeros}'"))
    } else {
        (tables.replace(" BLOB", " BYTEA"), format!("decode('{zeros}', 'hex')"))
    };
    let rows = rows.replace(", X,", &format!(", {head},")).replace("'BOOT'", &format!("'{zeros}'"));
    database.execute(format!("{tables}\n{rows}")).await.unwrap();
}

#[test]
fn a_database_of_version_1_is_brought_to_the_newest_with_all_that_it_has() {
    on_both(async |database| {
        version_1(database).await;
        let store = database.open().await;
        let id = "01010101-0101-0101-0101-010101010101";
        let id = holdfast_evidence::messages::CatalogId::parse(id).unwrap();
        let scope = store.scope_of_device(id).await.unwrap().unwrap();
        let catalog = store.catalog(scope).await.unwrap();
        assert_eq!((catalog.name.as_str(), catalog.revision), ("old", 0));
        let group = store.group(scope, "pump", "old").await.unwrap().unwrap();
        assert_eq!((group.least_index, group.revision), (3, 0));
        let rows = store.releases(scope, "", 10).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].1.source, Source::ByHand, "nobody had signed it");
        store.close().await;
        // A second start finds nothing to do.
        database.open().await.close().await;
    });
}

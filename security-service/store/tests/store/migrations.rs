//! Migrations while programs run: of this version and of the one before.

use crate::databases::on_both;
use crate::{BOOT, DEVICE, catalog, check_in, claim, entry, write};
use holdfast_release::RepositoryName;
use holdfast_service_domain::device::Finding;
use holdfast_service_domain::measurement::Release;
use holdfast_service_store::change::Answer;
use holdfast_service_store::detection::threat::Wanted;
use holdfast_service_store::device::FindingKey;
use holdfast_service_store::scope::Sight;
use holdfast_service_store::wanted::WantedDevices;
use holdfast_service_store::{Scope, Store, StoreError, catalog as rows, release};
use holdfast_types::Version;

/// Reads every list and row that a program reads while devices and people ask, and writes what they have it write.
async fn use_all(store: &Store, scope: Scope, revision: u64) {
    let found = vec![Finding::MeasurementUnknown];
    write(store, scope, check_in(revision, "measurement-unknown", found)).await.unwrap();
    let shown = store.device(scope, &DEVICE).await.unwrap().unwrap();
    assert_eq!(shown.device.revision, revision + 1);
    let wanted = WantedDevices::default();
    assert_eq!(store.wanted_devices(scope, &wanted, "", 10).await.unwrap().len(), 1);
    assert_eq!(store.rules(scope, &DEVICE.to_string()).await.unwrap().least_index, 0);
    assert_eq!(
        store.findings(scope, &Sight::All, true, &FindingKey::default(), 10).await.unwrap().len(),
        1
    );
    assert!(store.release(scope, &known().pcr()).await.unwrap().is_some());
    assert_eq!(store.authorities(scope).await.unwrap().len(), 0);
    assert_eq!(store.symbols(scope, "", 10).await.unwrap(), []);
    assert_eq!(store.held_files(scope, "", 10).await.unwrap(), []);
    assert_eq!(store.repository(scope, RepositoryName::Os).await.unwrap(), None);
    assert_eq!(store.threats(scope, &Wanted::default(), 0, 10).await.unwrap().len(), 0);
    assert_eq!(store.webhooks(scope).await.unwrap().len(), 0);
    assert_eq!(store.tokens(scope).await.unwrap().len(), 0);
    assert_eq!(store.deployments(scope, "", 10).await.unwrap().len(), 0);
    assert_eq!(store.transfers(scope, "", 10).await.unwrap(), []);
    assert_eq!(store.transfer(scope, &DEVICE).await.unwrap(), None);
    assert_eq!(store.crashes(scope, true, "", 10).await.unwrap().len(), 0);
    let name = format!("pump-{revision}");
    let change = store.change(scope, entry("product.put", 1), Some(name.clone()), {
        move |connection, scope| {
            Box::pin(async move {
                rows::put_product(connection, scope, name, 1000).await?;
                Ok(Answer { status: 200, body: String::new() })
            })
        }
    });
    change.await.unwrap();
    store.verify_audit(scope).await.unwrap().unwrap();
    let presence = store.hold_lease("one".to_owned(), 1000).await.unwrap().unwrap();
    store.evaluated("one".to_owned(), presence).await.unwrap();
    store.ping().await.unwrap();
}

fn known() -> Release {
    let version = Version { major: 1, minor: 0, patch: 0 };
    Release { boot: BOOT, version, index: 7, withdrawn: false }
}

#[test]
fn a_newer_program_may_change_the_tables_while_this_one_runs() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        claim(&store, scope, DEVICE).await;
        let add = store.write(move |connection| {
            Box::pin(async move { release::add(connection, scope, known(), 1000).await })
        });
        add.await.unwrap();
        use_all(&store, scope, 0).await;
        use_all(&store, scope, 1).await;
        // The connections of the running program are those from before.
        let version = database.expand(0).await;
        use_all(&store, scope, 2).await;
        use_all(&store, scope, 3).await;
        let tables = store.tables().await.unwrap();
        assert!(tables.found == version && tables.known < version, "{tables:?}");
        // It can be started anew, and makes nothing of the tables.
        store.close().await;
        let store = database.open().await;
        use_all(&store, scope, 4).await;
        assert_eq!(store.tables().await.unwrap(), tables);
        // The next removes what this program uses, and says so: a program that runs is not stopped by that, and none is started.
        let next = database.expand(version).await;
        let refused = Store::open(database.url()).await.unwrap_err();
        let StoreError::Newer { found, least, known } = refused else { panic!("{refused:?}") };
        assert_eq!((found, least, known), (next, version, tables.known));
        assert!(matches!(Store::migrate(database.url()).await, Err(StoreError::Newer { .. })));
        store.close().await;
    });
}

#[test]
fn of_two_that_make_the_tables_at_once_one_waits() {
    on_both(async |database| {
        let url = if database.is_sqlite() {
            format!("{}-twice", database.url())
        } else {
            database.url().to_owned()
        };
        let racers: Vec<_> = (0..6)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move { Store::migrate(&url).await.unwrap() })
            })
            .collect();
        let (mut made, mut newest) = (0, 0);
        for racer in racers {
            let before = racer.await.unwrap();
            newest = before.known;
            made += u32::from(before.found == 0);
        }
        assert_eq!(made, 1, "the others have found what it has made");
        let store = Store::open(&url).await.unwrap();
        assert_eq!(store.tables().await.unwrap().found, newest);
        assert!(!store.engine().await.unwrap().ends_with(' '));
        store.close().await;
    });
}

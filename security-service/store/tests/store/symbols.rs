//! Symbols of programs, and names that were made of them.

use crate::{catalog, on_both};
use holdfast_service_domain::symbols::{BuildId, Frames};
use holdfast_service_store::symbols::{self, SymbolsRow};
use holdfast_service_store::{Scope, Store, StoreError};

fn row(build_id: &BuildId, content: u8) -> SymbolsRow {
    SymbolsRow {
        build_id: build_id.clone(),
        digest: [content; 32],
        bytes: 100,
        who: "ole".to_owned(),
        added_at: 1000,
    }
}

async fn add(store: &Store, scope: Scope, row: SymbolsRow) -> Result<bool, StoreError> {
    let work = store.write(move |connection| {
        Box::pin(async move { symbols::add(connection, scope, row).await })
    });
    work.await
}

#[test]
fn symbols_of_a_build_are_never_replaced_and_are_their_catalogs_own() {
    on_both(async |database| {
        let store = database.open().await;
        let (own, other) = (catalog(&store, 1).await, catalog(&store, 2).await);
        let build: BuildId = "00a1b2c3d4e5f607".parse().unwrap();
        assert!(add(&store, own, row(&build, 1)).await.unwrap(), "they are new");
        assert!(!add(&store, own, row(&build, 1)).await.unwrap(), "they are there");
        let replaced = add(&store, own, row(&build, 2)).await;
        assert!(matches!(replaced, Err(StoreError::There("program"))), "{replaced:?}");
        assert_eq!(store.symbols_of(own, &build).await.unwrap(), Some(row(&build, 1)));
        assert_eq!(store.symbols_of(other, &build).await.unwrap(), None);
        assert_eq!(store.symbols(own, "", 10).await.unwrap(), [row(&build, 1)]);
        assert_eq!(store.symbols(own, &build.to_string(), 10).await.unwrap(), []);
        // The file is the other catalog's as well, until neither has it.
        add(&store, other, row(&build, 1)).await.unwrap();
        for (scope, is_named) in [(own, true), (other, false)] {
            let build = build.clone();
            let work = store.write(move |connection| {
                Box::pin(async move { symbols::remove(connection, scope, &build).await })
            });
            work.await.unwrap();
            assert_eq!(store.is_named_by_symbols(&[1; 32]).await.unwrap(), is_named);
        }
        store.close().await;
    });
}

#[test]
fn names_are_kept_for_a_crash_storm_and_within_a_bound() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let build: BuildId = "00a1b2c3d4e5f607".parse().unwrap();
        let frames = |name: &str| Frames { function: name.to_owned(), outer: "main".to_owned() };
        let keep =
            async |names| store.keep_symbol_names(scope, build.clone(), names).await.unwrap();
        keep(vec![(1, None)]).await;
        let known =
            async |addresses: &[u64]| store.symbol_names(scope, &build, addresses).await.unwrap();
        assert!(known(&[1]).await.is_empty(), "there are no symbols of it");
        add(&store, scope, row(&build, 1)).await.unwrap();
        let far = u64::MAX - 1;
        keep(vec![(1, Some(frames("run"))), (far, Some(frames("far"))), (3, None)]).await;
        let expected = [(1, Some(frames("run"))), (3, None), (far, Some(frames("far")))];
        assert_eq!(known(&[1, 2, 3, far]).await.into_iter().collect::<Vec<_>>(), expected);
        // Whoever asks for any address that comes to his mind does not fill the disk.
        for block in 1..5u64 {
            keep((0..1024).map(|low| (block << 16 | low, None)).collect()).await;
        }
        assert!(known(&[1, far, 0x1_0000]).await.is_empty());
        assert_eq!(known(&[0x4_0000]).await.len(), 1);
        store.close().await;
    });
}

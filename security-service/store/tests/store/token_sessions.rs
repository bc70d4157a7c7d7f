//! Sessions that a management token has begun in a browser.

use crate::databases::on_both;
use crate::{catalog, entry};
use holdfast_service_domain::extent::Extent;
use holdfast_service_domain::person::PersonId;
use holdfast_service_domain::role::Role;
use holdfast_service_domain::session::Client;
use holdfast_service_store::token::{self, Token};
use holdfast_service_store::{Scope, Store};

/// When the tokens of the tests end.
const END: u64 = 10_000_000;

async fn add(store: &Store, scope: Scope, hash: &str) {
    let token = Token {
        hash: hash.to_owned(),
        name: format!("name of {hash}"),
        person: PersonId::named(hash),
        role: Role::Reader,
        extent: Extent::Catalog(scope.catalog()),
        created_at: 0,
        ends_at: END,
    };
    store.add_token(scope, token, entry("token.create", 0)).await.unwrap();
}

async fn begin(store: &Store, token: &str, hash: &str, now: u64) -> bool {
    store.begin_session_of_token(token.to_owned(), hash.to_owned(), None, now).await.unwrap()
}

async fn is_there(store: &Store, hash: &str, now: u64) -> bool {
    store.session(hash, &[], now).await.unwrap().is_some()
}

#[test]
fn a_token_s_session_ends_by_idleness_by_age_and_with_the_token() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        add(&store, scope, "one").await;
        add(&store, scope, "two").await;
        assert!(!begin(&store, "none", "s0", 1000).await, "no token of this hash");
        assert!(!is_there(&store, "s0", 1000).await);
        assert!(begin(&store, "one", "s1", 1000).await);
        let actor = store.session("s1", &[], 1000).await.unwrap().unwrap().actor;
        assert_eq!(actor.by.name, "name of one");
        let (idle, longest) = (Client::Browser.idle_s(), Client::Browser.absolute_s());
        let mut now = 1000;
        while now + idle - 1 < 1000 + longest {
            now += idle - 1;
            assert!(is_there(&store, "s1", now).await, "{now}");
        }
        assert!(!is_there(&store, "s1", 1000 + longest).await);
        begin(&store, "one", "s2", 2000).await;
        assert!(is_there(&store, "s2", 2000 + idle - 1).await, "the control");
        begin(&store, "one", "s3", 2000).await;
        assert!(!is_there(&store, "s3", 2000 + idle).await);
        begin(&store, "two", "s4", 3000).await;
        assert!(is_there(&store, "s4", 3001).await, "the control");
        let remove = store.write(move |connection| {
            Box::pin(async move {
                token::remove(connection, scope, "name of two".to_owned(), &[], 3002).await
            })
        });
        remove.await.unwrap();
        assert!(!is_there(&store, "s4", 3003).await);
        begin(&store, "one", "s5", END - 2).await;
        assert!(is_there(&store, "s5", END - 1).await, "the control");
        assert!(!is_there(&store, "s5", END).await);
        store.close().await;
    });
}

#[test]
fn a_token_s_sessions_are_few_and_a_new_one_takes_the_place_of_the_browser_s_old_one() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        add(&store, scope, "one").await;
        add(&store, scope, "other").await;
        begin(&store, "other", "others", 1000).await;
        for number in 0..20 {
            assert!(begin(&store, "one", &format!("s{number:02}"), 1000 + number).await);
        }
        let mut live = Vec::new();
        for number in 0..20 {
            if is_there(&store, &format!("s{number:02}"), 1030).await {
                live.push(number);
            }
        }
        assert_eq!(live, (4..20).collect::<Vec<_>>());
        assert!(is_there(&store, "others", 1030).await, "another token's is not pushed out");
        let before = Some("s19".to_owned());
        let (token, new) = ("one".to_owned(), "new".to_owned());
        store.begin_session_of_token(token, new, before, 1031).await.unwrap();
        assert!(is_there(&store, "new", 1032).await);
        assert!(!is_there(&store, "s19", 1032).await);
        assert!(is_there(&store, "s18", 1032).await, "the control");
        store.end_session("new".to_owned()).await.unwrap();
        assert!(!is_there(&store, "new", 1033).await);
        store.close().await;
    });
}

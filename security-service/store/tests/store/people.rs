//! Persons, sessions, roles, changes that wait, and checkpoints.

use crate::databases::on_both;
use crate::{catalog, entry};
use holdfast_service_domain::approval::{Decision, Kind, Refusal, digest};
use holdfast_service_domain::checkpoint::Checkpoint;
use holdfast_service_domain::extent::{Extent, Grant};
use holdfast_service_domain::person::{By, PersonId};
use holdfast_service_domain::role::{Need, Role};
use holdfast_service_domain::session::Client;
use holdfast_service_domain::sign_in_settings::{Holder, StandingGrant};
use holdfast_service_store::approval::{self, Ask, PendingRow};
use holdfast_service_store::catalog::{Group, put_group, put_product};
use holdfast_service_store::person::{self, Person, RoleGrant};
use holdfast_service_store::token::{self, Token};
use holdfast_service_store::{Scope, Store, StoreError};

const ISSUER: &str = "https://id.example";

fn person(subject: &str, groups: &[&str]) -> Person {
    Person {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        name: subject.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    }
}

fn given(id: &str, holder: Holder, role: Role, extent: Extent) -> RoleGrant {
    RoleGrant {
        id: id.to_owned(),
        issuer: ISSUER.to_owned(),
        holder,
        grant: Grant { role, extent },
        granted_by: "ole".to_owned(),
        granted_at: 1000,
    }
}

fn subject(name: &str) -> Holder {
    Holder::Subject(name.to_owned())
}

async fn give(store: &Store, scope: Scope, given: RoleGrant) -> Result<(), StoreError> {
    let work = store.write(move |connection| {
        Box::pin(async move { person::give(connection, scope, given).await })
    });
    work.await
}

async fn take_away(store: &Store, scope: Scope, id: &'static str) -> Result<(), StoreError> {
    let work = store.write(move |connection| {
        Box::pin(async move { person::take_away(connection, scope, id, &[], 1000).await })
    });
    work.await
}

async fn products(store: &Store, scope: Scope) {
    let work = store.write(move |connection| {
        Box::pin(async move {
            put_product(connection, scope, "pump".to_owned(), 1000).await?;
            let group = Group {
                product: "pump".to_owned(),
                name: "test".to_owned(),
                least_index: 0,
                grades: None,
                reports: None,
                is_production: None,
                is_update_on: None,
                feed: None,
                revision: 0,
            };
            put_group(connection, scope, group, 1000).await
        })
    });
    work.await.unwrap();
}

#[test]
fn a_session_is_its_persons_with_roles_as_they_are_now() {
    on_both(async |database| {
        let store = database.open().await;
        let (scope, other) = (catalog(&store, 1).await, catalog(&store, 2).await);
        products(&store, scope).await;
        let here = Extent::Catalog(scope.catalog());
        let in_group = Extent::Group(scope.catalog(), "pump".to_owned(), "test".to_owned());
        give(&store, scope, given("r1", subject("ines"), Role::Reader, here.clone()))
            .await
            .unwrap();
        let team = Holder::Group("team".to_owned());
        give(&store, scope, given("r2", team, Role::Operator, in_group.clone())).await.unwrap();
        let there = Extent::Catalog(other.catalog());
        give(&store, other, given("r1", subject("ada"), Role::Owner, there)).await.unwrap();
        let ines = person("ines", &["team", "others"]);
        store.begin_session(ines.clone(), Client::Browser, "h1".to_owned(), 1000).await.unwrap();
        let session = async |hash: &str, now| store.session(hash, &[], now).await.unwrap();
        let found = session("h1", 1100).await.unwrap();
        assert_eq!(found.actor.by.person, ines.id());
        let expected = [
            Grant { role: Role::Reader, extent: here },
            Grant { role: Role::Operator, extent: in_group },
        ];
        assert_eq!(found.actor.grants, expected);
        assert!(session("h2", 1100).await.is_none());
        take_away(&store, scope, "r2").await.unwrap();
        assert_eq!(session("h1", 1200).await.unwrap().actor.grants.len(), 1);
        let idle = 1200 + Client::Browser.idle_s();
        assert!(session("h1", idle - 1).await.is_some(), "the control");
        assert!(session("h1", idle * 3).await.is_none());
        for number in 0..20 {
            let hash = format!("n{number:02}");
            store.begin_session(ines.clone(), Client::Browser, hash, 2000 + number).await.unwrap();
        }
        assert!(session("n19", 2100).await.is_some());
        assert!(session("n03", 2100).await.is_none(), "a person has 16 at most");
        store.end_session("n19".to_owned()).await.unwrap();
        assert!(session("n19", 2100).await.is_none());
        store.close().await;
    });
}

#[test]
fn the_last_owner_of_a_catalog_stays_when_two_are_removed_at_once() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let here = Extent::Catalog(scope.catalog());
        for (id, name) in [("r1", "ada"), ("r2", "ole")] {
            give(&store, scope, given(id, subject(name), Role::Owner, here.clone())).await.unwrap();
        }
        let (one, two) = (store.clone(), store.clone());
        let first = tokio::spawn(async move { take_away(&one, scope, "r1").await });
        let second = tokio::spawn(async move { take_away(&two, scope, "r2").await });
        let done = [first.await.unwrap(), second.await.unwrap()];
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
        assert!(done.iter().any(|done| matches!(done, Err(StoreError::LastOwner))), "{done:?}");
        let left = store.role_grants(scope, "", 10).await.unwrap();
        assert_eq!(left.len(), 1);
        let same = given("r3", left[0].holder.clone(), Role::Owner, here.clone());
        let there = give(&store, scope, same).await;
        assert!(matches!(there, Err(StoreError::There("role"))), "{there:?}");
        let nowhere = Extent::Product(scope.catalog(), "none".to_owned());
        let missing = give(&store, scope, given("r4", subject("eve"), Role::Reader, nowhere)).await;
        assert!(matches!(missing, Err(StoreError::Missing("product"))), "{missing:?}");
        let none = store.write(move |connection| {
            Box::pin(
                async move { token::remove(connection, scope, "none".to_owned(), &[], 1000).await },
            )
        });
        assert!(matches!(none.await, Err(StoreError::Missing("token"))));
        store.close().await;
    });
}

#[test]
fn persons_are_counted_by_tokens_roles_and_groups_and_once_each() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let here = Extent::Catalog(scope.catalog());
        let who = async |standing: &[StandingGrant], now| {
            store.persons_who_may(scope, Need::Own, &here, standing, now).await.unwrap()
        };
        assert!(who(&[], 1000).await.is_empty());
        let ines = person("ines", &["owners"]);
        for (name, owner) in
            [("one", ines.id()), ("two", ines.id()), ("three", PersonId::named("ole"))]
        {
            let token = Token {
                hash: name.to_owned(),
                name: name.to_owned(),
                person: owner,
                role: Role::Owner,
                extent: here.clone(),
                created_at: 1000,
                ends_at: 5000,
            };
            store.add_token(scope, token, entry("token.create", 0)).await.unwrap();
        }
        assert_eq!(who(&[], 1000).await, [ines.id(), PersonId::named("ole")].into());
        assert!(who(&[], 5000).await.is_empty(), "tokens have ended");
        give(&store, scope, given("r1", subject("ines"), Role::Owner, here.clone())).await.unwrap();
        give(&store, scope, given("r2", subject("ada"), Role::Reader, here.clone())).await.unwrap();
        assert_eq!(who(&[], 5000).await, [ines.id()].into());
        let holder = Holder::Group("owners".to_owned());
        let standing = [StandingGrant { issuer: ISSUER.to_owned(), holder, role: Role::Owner }];
        let eve = person("eve", &["owners"]);
        assert_eq!(who(&standing, 5000).await, [ines.id()].into(), "eve has never been seen");
        store.begin_session(eve.clone(), Client::Browser, "h".to_owned(), 5000).await.unwrap();
        assert_eq!(who(&standing, 5000).await, [ines.id(), eve.id()].into());
        assert_eq!(who(&[], 5000).await, [ines.id()].into());
        store.close().await;
    });
}

fn asked(scope: Scope, index: u64, by: &str, at: u64) -> Ask {
    let (kind, object) = (Kind::LeastIndex, "pump/test".to_owned());
    let request = format!("{{\"least_index\":{index}}}");
    Ask {
        kind,
        digest: digest(kind, &object, &request),
        object,
        extent: Extent::Group(scope.catalog(), "pump".to_owned(), "test".to_owned()),
        request,
        seen: "1".to_owned(),
        by: By { name: by.to_owned(), person: person(by, &[]).id() },
        at,
        ends_at: at + 100,
    }
}

async fn ask(store: &Store, ask: Ask, scope: Scope) -> Result<PendingRow, StoreError> {
    let work = store.write(move |connection| {
        Box::pin(async move { approval::ask(connection, scope, ask).await })
    });
    work.await
}

async fn approve(
    store: &Store,
    scope: Scope,
    number: u64,
    by: &'static str,
    now: u64,
) -> Result<PendingRow, StoreError> {
    let by = By { name: by.to_owned(), person: person(by, &[]).id() };
    let work = store.write(move |connection| {
        Box::pin(async move {
            let decision = Decision::Approve;
            approval::decide(connection, scope, number, decision, &by, &[], now).await
        })
    });
    work.await
}

#[test]
fn of_two_who_approve_at_once_one_does() {
    on_both(async |database| {
        let store = database.open().await;
        let (scope, other) = (catalog(&store, 1).await, catalog(&store, 2).await);
        products(&store, scope).await;
        let here = Extent::Catalog(scope.catalog());
        for (id, name) in [("r1", "ole"), ("r2", "ines"), ("r3", "ada")] {
            let given = given(id, subject(name), Role::Operator, here.clone());
            give(&store, scope, given).await.unwrap();
        }
        let row = ask(&store, asked(scope, 7, "ole", 1000), scope).await.unwrap();
        assert_eq!(row.number, 1);
        let same = ask(&store, asked(scope, 7, "ole", 1001), scope).await.unwrap();
        assert_eq!(same.number, 1, "what is the same waits once");
        assert_eq!(ask(&store, asked(scope, 8, "ole", 1001), scope).await.unwrap().number, 2);
        assert_eq!(store.pending_changes(scope, false, 0, 10, 1001).await.unwrap().len(), 2);
        assert!(store.pending_changes(other, true, 0, 10, 1001).await.unwrap().is_empty());
        let own = approve(&store, scope, 1, "ole", 1002).await;
        assert!(matches!(own, Err(StoreError::Approval(Refusal::SamePerson))), "{own:?}");
        let (one, two) = (store.clone(), store.clone());
        let first = tokio::spawn(async move { approve(&one, scope, 1, "ines", 1002).await });
        let second = tokio::spawn(async move { approve(&two, scope, 1, "ada", 1002).await });
        let done = [first.await.unwrap(), second.await.unwrap()];
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
        let late = approve(&store, scope, 2, "ines", 1101).await;
        assert!(matches!(late, Err(StoreError::Approval(Refusal::Ended))), "{late:?}");
        assert!(store.pending_changes(scope, false, 0, 10, 1101).await.unwrap().is_empty());
        let third = ask(&store, asked(scope, 9, "ole", 1200), scope).await.unwrap();
        take_away(&store, scope, "r1").await.unwrap();
        let lost = approve(&store, scope, third.number, "ines", 1201).await;
        assert!(matches!(lost, Err(StoreError::Approval(Refusal::RequesterLost))), "{lost:?}");
        let none = approve(&store, other, 1, "ines", 1002).await;
        assert!(matches!(none, Err(StoreError::Missing("change"))), "of another catalog");
        store.close().await;
    });
}

#[test]
fn checkpoints_of_a_catalog_are_kept_by_their_rows() {
    on_both(async |database| {
        let store = database.open().await;
        let (scope, other) = (catalog(&store, 1).await, catalog(&store, 2).await);
        let state = store.audit_state(scope, 2000).await.unwrap();
        assert_eq!((state.size, state.at), (1, 2000));
        let keep = async |size, document: &str| {
            let checkpoint = Checkpoint { size, ..state };
            store.keep_checkpoint(scope, checkpoint, document.to_owned()).await.unwrap();
        };
        keep(1, "one").await;
        keep(1, "another").await;
        keep(5, "five").await;
        let found = async |scope, size| store.checkpoint(scope, size).await.unwrap();
        assert_eq!(found(scope, None).await, Some((5, "five".to_owned())));
        assert_eq!(found(scope, Some(1)).await, Some((1, "one".to_owned())), "the first stays");
        assert_eq!(found(scope, Some(2)).await, None);
        assert_eq!(found(other, None).await, None);
        store.close().await;
    });
}

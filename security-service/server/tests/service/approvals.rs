//! Changes that need two people, over the API: who may decide, once, in time, and about what was seen.

use crate::people::{Browser, People};
use holdfast_service_clients::Answer;
use holdfast_test_provider::Subject;
use serde_json::{Value, json};
use std::thread;

const DAY_S: u64 = 24 * 60 * 60;
const GROUP: &str = "/products/pump/groups/production";

struct Scene {
    people: People,
    ole: Browser,
    ines: Browser,
}

/// A catalog with two operators and a group that is marked `production`.
fn scene(role: &str) -> Scene {
    let people = People::new();
    people.service.done("PUT", "/products/pump", &Value::Null);
    people.service.done("PUT", GROUP, &json!({ "production": true, "least_index": 1 }));
    for subject in ["ole", "ines"] {
        // Each owner beside the first needs the others' approval: the first is alone until then.
        let given = people.grant(json!({ "subject": subject, "role": "operator" }));
        assert_eq!(given.status, 200, "{given:?}");
    }
    if role == "owner" {
        people.grant(json!({ "subject": "ole", "role": "owner" }));
        let ole = people.sign_in(&Subject::new("ole", &[]));
        let given = people.grant(json!({ "subject": "ines", "role": "owner" }));
        assert_eq!(given.status, 202, "{given:?}");
        approved(&people, &ole, &given);
    }
    let ole = people.sign_in(&Subject::new("ole", &[]));
    let ines = people.sign_in(&Subject::new("ines", &[]));
    Scene { people, ole, ines }
}

fn of(waiting: &Answer) -> (String, Value) {
    assert_eq!(waiting.status, 202, "{waiting:?}");
    let waiting = waiting.json();
    assert_eq!(waiting["state"], "waiting", "{waiting}");
    (format!("/approvals/{}", waiting["approval"]), json!({ "digest": waiting["digest"] }))
}

fn approve(people: &People, by: &Browser, waiting: &Answer) -> Answer {
    let (path, digest) = of(waiting);
    people.ask(by, "POST", &format!("{path}/approve"), &digest)
}

fn approved(people: &People, by: &Browser, waiting: &Answer) {
    let answer = approve(people, by, waiting);
    assert_eq!(
        (answer.status, answer.json()["state"].as_str()),
        (200, Some("approved")),
        "{answer:?}"
    );
}

impl Scene {
    fn ask_index(&self, by: &Browser, index: u64) -> Answer {
        self.people.ask(by, "PUT", GROUP, &json!({ "least_index": index }))
    }

    fn index(&self) -> u64 {
        self.people.service.done("GET", GROUP, &Value::Null)["least_index"].as_u64().unwrap()
    }
}

#[test]
fn a_change_that_needs_two_people_is_made_once_another_person_approves_it() {
    let scene = scene("operator");
    let waiting = scene.ask_index(&scene.ole, 7);
    let (path, digest) = of(&waiting);
    assert_eq!(scene.index(), 1, "nothing has changed yet");
    let own = approve(&scene.people, &scene.ole, &waiting);
    assert_eq!((own.status, own.problem().as_str()), (409, "approval-refused"));
    // Two sessions of one person are one person.
    let again = scene.people.sign_in(&Subject::new("ole", &[]));
    assert_eq!(approve(&scene.people, &again, &waiting).status, 409);
    let unseen = json!({ "digest": "0".repeat(64) });
    let refused = scene.people.ask(&scene.ines, "POST", &format!("{path}/approve"), &unseen);
    assert_eq!(refused.status, 400, "of what was seen, and nothing else");
    let shown = scene.people.ask(&scene.ines, "GET", &path, &Value::Null).json();
    assert_eq!(shown["request"]["least_index"], 7, "{shown}");
    approved(&scene.people, &scene.ines, &waiting);
    assert_eq!(scene.index(), 7);
    let twice = scene.people.ask(&scene.ines, "POST", &format!("{path}/approve"), &digest);
    assert_eq!((twice.status, twice.problem().as_str()), (409, "approval-refused"));
    let rows = scene.people.service.done("GET", "/audit?limit=1000", &Value::Null);
    let last = rows["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["verb"], "approval.approve");
    assert!(last["who"].as_str().unwrap().starts_with("ines [p"), "{last}");
    let object = last["object"].as_str().unwrap();
    assert!(object.contains("pump/production, asked for by ole [p"), "{last}");
    // What needs no second person is done at once.
    let grades = json!({ "least_index": 7, "grades": ["hardware"] });
    assert_eq!(scene.people.ask(&scene.ole, "PUT", GROUP, &grades).status, 200, "the control");
}

#[test]
fn two_tokens_of_one_person_are_one_person() {
    let scene = scene("owner");
    let new = |name: &str| json!({ "name": name, "role": "owner", "days": 1 });
    let token = |of: &Browser, name: &str| {
        let made = scene.people.ask(of, "POST", "/tokens", &new(name)).json();
        made["token"].as_str().unwrap().to_owned()
    };
    let service = &scene.people.service;
    let (one, two, hers) =
        (token(&scene.ole, "one"), token(&scene.ole, "two"), token(&scene.ines, "three"));
    let waiting = service.ask_as(&one, "PUT", GROUP, &json!({ "least_index": 3 }));
    let (path, digest) = of(&waiting);
    let approve =
        |token: &str| service.ask_as(token, "POST", &format!("{path}/approve"), &digest).status;
    assert_eq!(approve(&two), 409);
    assert_eq!(self::approve(&scene.people, &scene.ole, &waiting).status, 409, "nor his session");
    assert_eq!(approve(&hers), 200, "the control");
    // A deployment is drafted and approved by persons as well.
    let draft = json!({
        "product": "pump", "group": "production", "version": "1.4.0", "preset": "fast",
    });
    let made = service.ask_as(&one, "POST", "/deployments", &draft).json();
    let path = format!("/deployments/{}/approve", made["id"].as_str().unwrap());
    let approve = |token: &str| service.ask_as(token, "POST", &path, &Value::Null).status;
    assert_eq!((approve(&one), approve(&two)), (409, 409));
    assert_eq!(approve(&hers), 200, "the control");
}

#[test]
fn a_change_of_the_object_between_request_and_approval_is_found() {
    let scene = scene("operator");
    let waiting = scene.ask_index(&scene.ole, 7);
    let first = json!({ "least_index": 1, "reports": "off" });
    assert_eq!(scene.people.ask(&scene.ines, "PUT", GROUP, &first).status, 200);
    let refused = approve(&scene.people, &scene.ines, &waiting);
    assert_eq!((refused.status, refused.problem().as_str()), (409, "approval-refused"));
    assert!(refused.json()["detail"].as_str().unwrap().contains("has changed"), "{refused:?}");
    assert_eq!(scene.index(), 1);
    let (path, _) = of(&waiting);
    let back = scene.people.ask(&scene.ole, "POST", &format!("{path}/reject"), &Value::Null);
    assert_eq!(back.status, 200, "whoever has asked takes it back");
    approved(&scene.people, &scene.ines, &scene.ask_index(&scene.ole, 7));
    assert_eq!(scene.index(), 7, "the control");
}

#[test]
fn a_change_ends_that_nobody_decides_about_or_whose_asker_may_no_longer() {
    let scene = scene("operator");
    let waiting = scene.ask_index(&scene.ole, 7);
    scene.people.service.pass(7 * DAY_S);
    let ines = scene.people.sign_in(&Subject::new("ines", &[]));
    let ole = scene.people.sign_in(&Subject::new("ole", &[]));
    assert_eq!(approve(&scene.people, &ines, &waiting).problem(), "approval-refused");
    let listed = scene.people.ask(&ines, "GET", "/approvals", &Value::Null).json();
    assert_eq!(listed["items"], json!([]));
    let all = scene.people.ask(&ines, "GET", "/approvals?state=all", &Value::Null).json();
    assert_eq!(all["items"][0]["state"], "ended");
    let waiting = scene.ask_index(&ole, 7);
    let roles = scene.people.service.done("GET", "/roles", &Value::Null);
    let roles = roles["items"].as_array().unwrap();
    let of_ole = roles.iter().find(|role| role["subject"] == "ole").unwrap();
    let path = format!("/roles/{}/revoke", of_ole["id"].as_str().unwrap());
    scene.people.service.done("POST", &path, &Value::Null);
    let lost = approve(&scene.people, &ines, &waiting);
    assert_eq!(lost.problem(), "approval-refused", "{lost:?}");
    assert_eq!(scene.index(), 1);
}

#[test]
fn a_change_that_is_rejected_is_not_made_and_a_stranger_decides_nothing() {
    let scene = scene("operator");
    scene.people.grant(json!({ "subject": "rita", "role": "reader" }));
    let rita = scene.people.sign_in(&Subject::new("rita", &[]));
    let waiting = scene.ask_index(&scene.ole, 7);
    let (path, _) = of(&waiting);
    assert_eq!(approve(&scene.people, &rita, &waiting).status, 403);
    let reject =
        |by: &Browser| scene.people.ask(by, "POST", &format!("{path}/reject"), &Value::Null).status;
    assert_eq!(reject(&rita), 403);
    assert_eq!(reject(&scene.ines), 200, "the control");
    assert_eq!(approve(&scene.people, &scene.ines, &waiting).problem(), "approval-refused");
    assert_eq!(scene.index(), 1);
}

#[test]
fn of_many_approvals_at_once_one_is_carried_out() {
    let scene = scene("operator");
    let waiting = scene.ask_index(&scene.ole, 7);
    let revision = |scene: &Scene| {
        let group = scene.people.service.ask("GET", GROUP, &Value::Null);
        group.header("etag").unwrap()
    };
    let before = revision(&scene);
    let statuses: Vec<u16> = thread::scope(|threads| {
        let asked: Vec<_> = (0..8)
            .map(|_| threads.spawn(|| approve(&scene.people, &scene.ines, &waiting).status))
            .collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
    assert_ne!(revision(&scene), before);
    let same = (scene.ask_index(&scene.ole, 9), scene.ask_index(&scene.ole, 9));
    assert_eq!(of(&same.0).0, of(&same.1).0, "what is the same waits once");
}

#[test]
fn the_production_mark_the_authority_and_owners_need_a_second_owner() {
    let scene = scene("owner");
    let service = &scene.people.service;
    let unmarked = json!({ "least_index": 1, "production": false });
    let waiting = scene.people.ask(&scene.ole, "PUT", GROUP, &unmarked);
    assert_eq!(service.done("GET", GROUP, &Value::Null)["production"], true);
    approved(&scene.people, &scene.ines, &waiting);
    assert_eq!(service.done("GET", GROUP, &Value::Null)["production"], false);
    let issuing = || {
        let list = service.done("GET", "/ca-certificates", &Value::Null);
        let list = list["items"].as_array().unwrap().clone();
        list.iter().filter(|one| one["kind"] == "issuing").count()
    };
    let renew = || scene.people.ask(&scene.ole, "POST", "/ca-certificates/renew", &Value::Null);
    let before = issuing();
    let waiting = renew();
    assert_eq!(issuing(), before);
    approved(&scene.people, &scene.ines, &waiting);
    assert_eq!(issuing(), before + 1);
    let new = json!({ "provider": "company", "subject": "eve", "role": "owner" });
    let waiting = scene.people.ask(&scene.ole, "POST", "/roles", &new);
    assert_eq!(waiting.status, 202, "{waiting:?}");
    approved(&scene.people, &scene.ines, &waiting);
    let eve = scene.people.sign_in(&Subject::new("eve", &[]));
    assert_eq!(scene.people.ask(&eve, "GET", "/roles", &Value::Null).status, 200);
    let roles = service.done("GET", "/roles", &Value::Null);
    let roles = roles["items"].as_array().unwrap();
    let id = |subject: &str| {
        let mut roles = roles.iter();
        let of = roles.find(|role| role["subject"] == subject && role["role"] == "owner");
        of.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let path = |subject: &str| format!("/roles/{}/revoke", id(subject));
    // Otherwise one owner could remove the others, and be alone then.
    let waiting = scene.people.ask(&eve, "POST", &path("ines"), &Value::Null);
    assert_eq!(scene.people.ask(&scene.ines, "GET", "/roles", &Value::Null).status, 200);
    approved(&scene.people, &scene.ole, &waiting);
    let ines = scene.people.ask(&scene.ines, "GET", "/roles", &Value::Null);
    assert_eq!(ines.status, 403, "she is an operator still");
    let own = scene.people.ask(&eve, "POST", &path("eve"), &Value::Null);
    assert_eq!(own.status, 200, "one's own role is given back at once");
}

//! Every operation of the OpenAPI document with every role, without a token, with one that has ended, with one of another product, and with one of another
//! catalog: the verdict is the one that the table of needs says.

use crate::installation::Installation;
use holdfast_evidence::messages::DeviceId;
use holdfast_service_api::management::{NEEDS, OperationNeed, Reach, Who};
use holdfast_service_clients::Answer;
use holdfast_service_domain::device::Finding;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::role::{Need, Role};
use holdfast_types::hex::hex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Actions of a deployment, with what each needs.
const ACTIONS: [(&str, Need); 5] = [
    ("approve", Need::Approve),
    ("resume", Need::Release),
    ("pause", Need::Operate),
    ("halt", Need::Operate),
    ("withdraw", Need::Operate),
];

/// What somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// He is not told that he may not.
    Allowed,
    /// 401.
    Unauthenticated,
    /// 403.
    Forbidden,
    /// 404: it is not there for him.
    Missing,
}

fn verdict(answer: &Answer, what: &str) -> Verdict {
    assert!(answer.status < 500, "{what}: {answer:?}");
    match answer.status {
        401 => Verdict::Unauthenticated,
        403 => Verdict::Forbidden,
        404 => Verdict::Missing,
        _ => Verdict::Allowed,
    }
}

struct Scene {
    service: Installation,
    device: String,
    deployment: String,
}

fn token(service: &Installation, new: &Value) -> String {
    service.done("POST", "/tokens", new)["token"].as_str().unwrap().to_owned()
}

fn scene() -> Scene {
    let service = Installation::new();
    for product in ["pump", "cam"] {
        service.done("PUT", &format!("/products/{product}"), &Value::Null);
        let group = format!("/products/{product}/groups/test");
        service.done("PUT", &group, &json!({ "least_index": 0 }));
    }
    let device = hex(&[0xde; 32]);
    let place = json!({ "product": "pump", "group": "test" });
    let claim = json!({ "devices": [{ "device": device, "grade": "hardware", "place": place }] });
    service.done("POST", "/claims", &claim);
    let new = json!({ "product": "pump", "group": "test", "version": "1.4.0", "preset": "fast" });
    let made = service.done("POST", "/deployments", &new);
    let deployment = made["id"].as_str().unwrap().to_owned();
    let replica = service.replica();
    service.block_on(async {
        let scope = replica.store.scope_of_device(service.catalog).await.unwrap().unwrap();
        let (id, finding) = (DeviceId([0xde; 32]), Finding::DebugBuild);
        replica.store.note_finding(scope, id, finding, service.now()).await.unwrap();
    });
    Scene { service, device, deployment }
}

impl Scene {
    /// Paths of an operation, each with its body and what its action needs.
    fn requests(&self, operation: &str) -> Vec<(String, String, Value, Option<Need>)> {
        let (method, path) = operation.split_once(' ').unwrap();
        let crash = "0".repeat(32);
        let group = if path.contains("/crashes/") { crash.as_str() } else { "test" };
        let catalog = self.service.catalog.to_string();
        let digest = "0".repeat(64);
        let values = [
            ("catalog", catalog.as_str()),
            ("product", "pump"),
            ("group", group),
            ("device", &self.device),
            ("deployment", &self.deployment),
            ("repository", "os"),
            ("boot", &digest),
            ("sha256", &digest),
            ("build_id", "00a1b2c3d4e5f607"),
            ("number", "1"),
            ("name", "nobody"),
            ("role", "r000000000000"),
            ("approval", "1"),
            ("ticket", "first_none"),
            ("provider", "company"),
        ];
        let mut filled = path.to_owned();
        for (name, value) in values {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        let body = self.body(operation);
        if !filled.contains("{action}") {
            assert!(!filled.contains('{'), "{filled} has a parameter that the test does not know");
            return vec![(method.to_owned(), filled, body, None)];
        }
        let of = |(action, need): (&str, Need)| {
            (method.to_owned(), filled.replace("{action}", action), Value::Null, Some(need))
        };
        ACTIONS.map(of).to_vec()
    }

    /// A body that is good enough to be judged by who sends it.
    fn body(&self, operation: &str) -> Value {
        let place = json!({ "product": "pump", "group": "test" });
        let bodies: BTreeMap<&str, Value> = [
            ("/claims", json!({ "devices": [{ "device": self.device, "grade": "hardware" }] })),
            (
                "/deployments",
                json!({ "product": "pump", "group": "test", "version": "1.4.0", "preset": "fast" }),
            ),
            ("/move", place),
            ("/findings/close", json!({ "device": self.device, "kind": "debug-build" })),
            ("/threats/{number}/close", json!({ "reason": "a drill" })),
            ("/thresholds", json!({ "thresholds": {} })),
            ("/makers", json!({ "certificate": "", "grade": "hardware" })),
            ("/metadata", json!({ "metadata": {} })),
            ("/root", json!({ "root": "{}" })),
            ("/exports", json!({ "manifest": "0".repeat(64) })),
            ("/webhooks", json!({ "name": "ops", "url": "http://a.example/" })),
            ("/tokens", json!({ "name": "a", "role": "reader", "days": 1 })),
            ("/roles", json!({ "provider": "none", "subject": "s", "role": "reader" })),
            ("/transfer", json!({ "to": "", "root": "", "days": 1 })),
            ("/transfer/approve", Value::Null),
            ("/transfers/accept", json!({ "voucher": "", "grade": "hardware" })),
            ("/approve", json!({ "digest": "" })),
            ("/poll", json!({ "handle": "" })),
            ("/groups/{group}", json!({})),
            ("/releases", json!({ "boot": "1".repeat(64), "version": "1.0.0", "index": 1 })),
        ]
        .into();
        let (method, path) = operation.split_once(' ').unwrap();
        let found = bodies.into_iter().find(|(end, _)| path.ends_with(end));
        found.filter(|_| method != "GET").map_or(Value::Null, |(_, body)| body)
    }

    fn ask(&self, token: Option<&str>, (method, path, body): (&str, &str, &Value)) -> Answer {
        let headers = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let management = &self.service.management;
        management.ask(method, path, &headers.unwrap_or_default(), body.as_bytes())
    }
}

/// True if a role has what an operation needs.
fn has(role: Role, need: &OperationNeed, of_action: Option<Need>) -> bool {
    match (need.who, of_action) {
        (Who::Role(needs), _) => needs.iter().any(|need| role.may(*need)),
        (Who::Action, Some(need)) => role.may(need),
        (who, _) => panic!("{who:?} is no need of a role"),
    }
}

fn is_allowed(is_allowed: bool) -> Verdict {
    if is_allowed { Verdict::Allowed } else { Verdict::Forbidden }
}

#[test]
fn every_operation_judges_every_role_token_product_and_catalog_as_the_table_says() {
    let scene = scene();
    let service = &scene.service;
    let new = |role: Role, product: Option<&str>| {
        let name = format!("{}-{}", role.word(), product.unwrap_or("all"));
        let mut new = json!({ "name": name, "role": role.word(), "days": 30 });
        if let Some(product) = product {
            new["product"] = json!(product);
        }
        token(service, &new)
    };
    let tokens = Role::ALL
        .map(|role| (role, new(role, None), new(role, Some("cam")), new(role, Some("pump"))));
    let short = json!({ "name": "short", "role": "owner", "days": 1 });
    let ended = token(service, &short);
    let headers = format!("Authorization: Bearer {}\r\n", service.token);
    let made = service.management.ask("POST", "/v1/catalogs", &headers, br#"{"name":"other"}"#);
    let other = made.json()["id"].as_str().unwrap().to_owned();
    let body = br#"{"name":"ole","role":"owner","days":30}"#;
    let made =
        service.management.ask("POST", &format!("/v1/catalogs/{other}/tokens"), &headers, body);
    let foreign = made.json()["token"].as_str().unwrap().to_owned();
    service.pass(2 * 24 * 60 * 60);
    // What ends the device or the tokens comes last.
    let (last, first): (Vec<&OperationNeed>, Vec<&OperationNeed>) =
        NEEDS.iter().partition(|need| need.operation.ends_with("/retire"));
    for need in first.into_iter().chain(last) {
        for (method, path, body, of_action) in scene.requests(need.operation) {
            let what = format!("{method} {path}");
            let ask = |token: Option<&str>| {
                let answer = scene.ask(token, (&method, &path, &body));
                (verdict(&answer, &what), answer)
            };
            let strangers = [None, Some("hft_none"), Some("hfs_none"), Some(ended.as_str())];
            match need.who {
                Who::Anybody => {
                    let (expected, _) = ask(None);
                    assert_ne!(expected, Verdict::Unauthenticated, "{what}");
                    for (_, token, _, _) in &tokens {
                        assert_eq!(
                            ask(Some(token)).0,
                            expected,
                            "{what}: nobody is asked who he is"
                        );
                    }
                    continue;
                }
                Who::Session => {
                    let all = tokens.iter().map(|(_, token, _, _)| Some(token.as_str()));
                    for token in all.chain(strangers) {
                        assert_eq!(ask(token).0, Verdict::Unauthenticated, "{what}");
                    }
                    continue;
                }
                Who::Role(_) | Who::Action => {}
            }
            for stranger in strangers {
                assert_eq!(ask(stranger).0, Verdict::Unauthenticated, "{what} as {stranger:?}");
            }
            let (of_foreign, answer) = ask(Some(&foreign));
            match need.reach {
                Reach::Service => assert_eq!(of_foreign, Verdict::Forbidden, "{what}"),
                Reach::Anywhere => assert_eq!(of_foreign, Verdict::Allowed, "{what}"),
                Reach::Filtered if !path.contains(&service.catalog.to_string()) => {
                    let ids = answer.json()["items"].as_array().unwrap().clone();
                    assert!(ids.iter().all(|item| item["id"] == other.as_str()), "{ids:?}");
                }
                _ => {
                    let problem = answer.problem();
                    assert_eq!(
                        (of_foreign, problem.as_str()),
                        (Verdict::Missing, "unknown-catalog"),
                        "{what}"
                    );
                }
            }
            for (role, of_all, of_cam, of_pump) in &tokens {
                let has = has(*role, need, of_action);
                let sees = role.may(Need::See);
                let is_named = |token: &str| {
                    let (verdict, _) = ask(Some(token));
                    if verdict == Verdict::Missing { Verdict::Allowed } else { verdict }
                };
                // Of what is not there, whoever may ask is told so.
                let expected = is_allowed(has && need.reach != Reach::Service);
                assert_eq!(is_named(of_all), expected, "{what} as {role:?}");
                let expected = match need.reach {
                    _ if !has => Verdict::Forbidden,
                    Reach::Service | Reach::Catalog | Reach::Named => Verdict::Forbidden,
                    Reach::Row => Verdict::Missing,
                    Reach::Common | Reach::Filtered | Reach::Anywhere | Reach::None => {
                        Verdict::Allowed
                    }
                };
                let found = ask(Some(of_cam)).0;
                // What is common may not be there yet.
                let found = match (need.reach, found) {
                    (Reach::Common, Verdict::Missing) => Verdict::Allowed,
                    (_, found) => found,
                };
                assert_eq!(found, expected, "{what} as {role:?} of another product");
                if need.reach == Reach::Filtered && path.contains("/catalogs/") {
                    let (_, answer) = ask(Some(of_cam));
                    let text = String::from_utf8(answer.body).unwrap();
                    let is_of_pump = text.contains("pump") || text.contains(&scene.device);
                    assert!(!is_of_pump, "{what} as {role:?} of cam: {text}");
                }
                if need.operation.ends_with("/findings") && sees {
                    let text = String::from_utf8(ask(Some(of_pump)).1.body).unwrap();
                    assert!(text.contains(&scene.device), "{what} as {role:?} of pump: {text}");
                }
                let is_of_pump = path.contains("/pump")
                    || path.contains(&scene.device)
                    || path.contains(&scene.deployment);
                if is_of_pump {
                    let found = is_named(of_pump);
                    assert_eq!(found, is_allowed(has), "{what} as {role:?} of pump, sees: {sees}");
                }
            }
        }
    }
    let rows = service.done("POST", "/audit/verify", &Value::Null);
    assert_eq!(rows["broken"], Value::Null);
}

#[test]
fn the_table_of_needs_has_each_operation_of_the_document_and_no_other() {
    let service = Installation::new();
    service.claim(&hex(&[0xde; 32]), Grade::Hardware);
    let document = service.management.ask("GET", "/openapi.json", "", b"").json();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let known: BTreeSet<String> = NEEDS.iter().map(|need| need.operation.to_owned()).collect();
    assert_eq!(documented, known);
    assert_eq!(known.len(), NEEDS.len(), "a row for each");
}

//! People: signing in by a provider that misbehaves, sessions, and roles.

use crate::installation::Installation;
use holdfast_service_clients::Answer;
use holdfast_service_domain::role::Role;
use holdfast_service_domain::sign_in_settings::{ProviderSettings, ServiceRole};
use holdfast_test_provider::{CLIENT_ID, CLIENT_SECRET, Clock, Provider, Signing, Subject};
use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

const HOUR_S: u64 = 60 * 60;

/// A service with a provider.
pub(crate) struct People {
    pub(crate) service: Installation,
    pub(crate) provider: Provider,
    _files: TempDir,
}

/// A browser, which has cookies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Browser {
    pub(crate) cookies: String,
    pub(crate) csrf_token: String,
}

/// Returns the value of a cookie that an answer sets, with its attributes.
fn set_cookie(answer: &Answer, name: &str) -> Option<String> {
    answer.headers.lines().find_map(|line| {
        let value = line.strip_prefix("set-cookie: ")?;
        value.starts_with(&format!("{name}=")).then(|| value.to_owned())
    })
}

fn pair(cookie: &str) -> String {
    cookie.split(';').next().unwrap().to_owned()
}

impl People {
    pub(crate) fn new() -> Self {
        let clock: Arc<OnceLock<Clock>> = Arc::default();
        let of_provider = clock.clone();
        let provider = Provider::start(Arc::new(move || of_provider.get().unwrap()()));
        let files = tempfile::tempdir().unwrap();
        let (secret, authority) = (files.path().join("secret"), files.path().join("provider.pem"));
        std::fs::write(&secret, CLIENT_SECRET).unwrap();
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&authority, &provider.authority).unwrap();
        let service = Installation::with(|settings| {
            settings.sign_in.url = Some("https://service.example:8444".to_owned());
            settings.sign_in.authorities = Some(authority);
            settings.sign_in.providers = vec![ProviderSettings {
                name: "company".to_owned(),
                issuer: provider.issuer.clone(),
                client_id: CLIENT_ID.to_owned(),
                client_secret: Some(secret),
                scopes: vec!["profile".to_owned()],
                groups_claim: Some("groups".to_owned()),
            }];
            settings.sign_in.roles = vec![ServiceRole {
                provider: "company".to_owned(),
                subject: None,
                group: Some("auditors".to_owned()),
                role: Role::Auditor,
            }];
        });
        assert!(clock.set(service.clock()).is_ok());
        Self { service, provider, _files: files }
    }

    pub(crate) fn grant(&self, new: Value) -> Answer {
        let mut new = new;
        new["provider"] = json!("company");
        self.service.ask("POST", "/roles", &new)
    }

    fn get(&self, path: &str, cookies: &str) -> Answer {
        let headers = format!("Cookie: {cookies}\r\n");
        self.service.management.ask("GET", path, &headers, b"")
    }

    /// Begins a sign-in, and returns the provider's URL and the cookie.
    fn begin(&self) -> (String, String) {
        let path = "/v1/sign-in/company/begin?return_to=/devices";
        let begun = self.service.management.ask("GET", path, "", b"");
        assert_eq!(begun.status, 303, "{begun:?}");
        let cookie = set_cookie(&begun, "__Host-holdfast-sign-in").unwrap();
        for part in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        (begun.header("location").unwrap(), pair(&cookie))
    }

    /// Signs somebody in, and returns what the service answers at the end.
    fn end(&self, subject: &Subject) -> Answer {
        let (url, cookie) = self.begin();
        self.get(&self.provider.sign_in(&url, subject), &cookie)
    }

    pub(crate) fn sign_in(&self, subject: &Subject) -> Browser {
        let ended = self.end(subject);
        assert_eq!(ended.status, 200, "{ended:?}");
        let cookie = set_cookie(&ended, "__Host-holdfast-session").unwrap();
        let mut browser = Browser { cookies: pair(&cookie), csrf_token: String::new() };
        let session = self.get("/v1/session", &browser.cookies).json();
        browser.csrf_token = session["csrf_token"].as_str().unwrap().to_owned();
        browser
    }

    /// Asks for something below the catalog from a browser.
    pub(crate) fn ask(&self, of: &Browser, method: &str, path: &str, body: &Value) -> Answer {
        let headers = format!("Cookie: {}\r\nX-CSRF-Token: {}\r\n", of.cookies, of.csrf_token);
        let path = format!("/v1/catalogs/{}{path}", self.service.catalog);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.service.management.ask(method, &path, &headers, body.as_bytes())
    }
}

#[test]
fn a_person_signs_in_with_a_browser_and_signs_out() {
    let people = People::new();
    people.grant(json!({ "subject": "ines", "role": "operator" }));
    let ended = people.end(&Subject::new("ines", &[]));
    assert_eq!(ended.status, 200, "{ended:?}");
    let page = String::from_utf8(ended.body.clone()).unwrap();
    // A redirect would not bring the session's cookie, which is `Strict`.
    assert!(page.contains("content=\"0;url=/devices\"") && ended.header("location").is_none());
    let cookie = set_cookie(&ended, "__Host-holdfast-session").unwrap();
    for part in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(set_cookie(&ended, "__Host-holdfast-sign-in").unwrap().contains("Max-Age=0"));
    let browser = people.sign_in(&Subject::new("ines", &[]));
    let session = people.get("/v1/session", &browser.cookies).json();
    assert!(session["name"].as_str().unwrap().starts_with("ines [p"), "{session}");
    assert_eq!(session["roles"][0]["role"], "operator");
    assert_eq!(people.ask(&browser, "GET", "/devices", &Value::Null).status, 200);
    let secret = browser.cookies.split_once('=').unwrap().1.to_owned();
    let stored = std::fs::read(people.service.folder.join("service.db")).unwrap();
    let log = std::fs::read(people.service.folder.join("service.db-wal")).unwrap_or_default();
    for bytes in [stored, log] {
        let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_there, "the database has hashes of sessions alone");
    }
    let as_bearer = people.service.ask_as(&secret, "GET", "/devices", &Value::Null);
    assert_eq!(as_bearer.status, 401, "a browser's session is good in a browser alone");
    let headers =
        format!("Cookie: {}\r\nX-CSRF-Token: {}\r\n", browser.cookies, browser.csrf_token);
    let out = people.service.management.ask("POST", "/v1/session/end", &headers, b"");
    assert_eq!(out.status, 200, "{out:?}");
    assert!(set_cookie(&out, "__Host-holdfast-session").unwrap().contains("Max-Age=0"));
    assert_eq!(people.ask(&browser, "GET", "/devices", &Value::Null).status, 401);
}

#[test]
fn where_the_disk_is_full_nobody_signs_in_and_whoever_has_may_sign_out() {
    let people = People::new();
    people.grant(json!({ "subject": "ines", "role": "reader" }));
    let ines = Subject::new("ines", &[]);
    let browser = people.sign_in(&ines);
    let post = |path: &str, body: Value| {
        people.service.management.ask("POST", path, "", body.to_string().as_bytes())
    };
    people.service.set_free_percent(4);
    let refused = people.end(&ines);
    assert_eq!((refused.status, refused.problem().as_str()), (507, "disk-full"), "{refused:?}");
    assert!(set_cookie(&refused, "__Host-holdfast-session").is_none());
    let begun = post("/v1/sign-in/company/device", Value::Null).json();
    people.provider.decide(begun["user_code"].as_str().unwrap(), Some(ines.clone()));
    let polled = post("/v1/sign-in/company/device/poll", json!({ "handle": begun["handle"] }));
    assert_eq!((polled.status, polled.problem().as_str()), (507, "disk-full"), "{polled:?}");
    let headers =
        format!("Cookie: {}\r\nX-CSRF-Token: {}\r\n", browser.cookies, browser.csrf_token);
    let out = people.service.management.ask("POST", "/v1/session/end", &headers, b"");
    assert_eq!(out.status, 200, "{out:?}");
    people.service.set_free_percent(50);
    assert_eq!(people.get("/v1/session", &browser.cookies).status, 401);
    assert_eq!(people.end(&ines).status, 200, "the control");
}

#[test]
fn another_site_changes_nothing_by_a_session() {
    let people = People::new();
    people.grant(json!({ "subject": "ines", "role": "operator" }));
    let browser = people.sign_in(&Subject::new("ines", &[]));
    let other = people.sign_in(&Subject::new("ines", &[]));
    let product = |csrf_token: &str| {
        let of = Browser { csrf_token: csrf_token.to_owned(), ..browser.clone() };
        people.ask(&of, "PUT", "/products/pump", &Value::Null)
    };
    assert_eq!(product(&browser.csrf_token).status, 200, "the control");
    for forged in ["", "0", other.csrf_token.as_str()] {
        let refused = product(forged);
        assert_eq!((refused.status, refused.problem().as_str()), (403, "csrf-token-missing"));
    }
    let path = format!("/v1/catalogs/{}/products/pump", people.service.catalog);
    let cookie = format!("Cookie: {}\r\n", browser.cookies);
    let refused = people.service.management.ask("PUT", &path, &cookie, b"");
    assert_eq!(refused.problem(), "csrf-token-missing");
    let two = format!("Cookie: {}; {}\r\n", browser.cookies, other.cookies);
    assert_eq!(people.service.management.ask("GET", "/v1/session", &two, b"").status, 401);
    let out = people.service.management.ask("POST", "/v1/session/end", &cookie, b"");
    assert_eq!(out.problem(), "csrf-token-missing", "another site does not sign her out");
}

#[test]
fn a_sign_in_ends_in_the_browser_that_began_it_alone_and_once() {
    let people = People::new();
    people.grant(json!({ "subject": "ines", "role": "reader" }));
    let ines = Subject::new("ines", &[]);
    let refused = |path: &str, cookie: &str| {
        let answer = people.get(path, cookie);
        assert_eq!((answer.status, answer.problem().as_str()), (403, "sign-in-refused"), "{path}");
        assert_eq!(set_cookie(&answer, "__Host-holdfast-session"), None);
    };
    let (url, cookie) = people.begin();
    let back = people.provider.sign_in(&url, &ines);
    refused(&back, "");
    refused(&back, "__Host-holdfast-sign-in=AAAA");
    let (_, of_other) = people.begin();
    refused(&back, &of_other);
    refused(&back.replace("state=", "state=x"), &cookie);
    refused("/v1/sign-in/company/callback?error=access_denied", &cookie);
    refused(&format!("{back}&iss=https://other.example"), &cookie);
    assert_eq!(people.get(&back, &cookie).status, 200, "the control");
    let again = people.get(&back, &cookie);
    assert_ne!(again.status, 200, "a code is good once");
    let (url, cookie) = people.begin();
    let back = people.provider.sign_in(&url, &ines);
    people.service.pass(601);
    refused(&back, &cookie);
    assert_eq!(people.get("/v1/sign-in/other/callback?code=a&state=b", &cookie).status, 404);
    for elsewhere in ["//other.example", "https://other.example", "/%5Cother.example"] {
        let path = format!("/v1/sign-in/company/begin?return_to={elsewhere}");
        assert_eq!(people.service.management.ask("GET", &path, "", b"").status, 400, "{elsewhere}");
    }
}

#[test]
fn a_session_ends_when_it_is_idle_and_after_half_a_day_of_use() {
    let people = People::new();
    people.grant(json!({ "subject": "ines", "role": "reader" }));
    let ines = Subject::new("ines", &[]);
    let see = |browser: &Browser| people.ask(browser, "GET", "/devices", &Value::Null).status;
    let idle = people.sign_in(&ines);
    people.service.pass(HOUR_S - 1);
    assert_eq!(see(&idle), 200, "the control");
    people.service.pass(HOUR_S);
    assert_eq!(see(&idle), 401);
    let used = people.sign_in(&ines);
    for _ in 0..15 {
        people.service.pass(HOUR_S * 3 / 4);
        assert_eq!(see(&used), 200);
    }
    people.service.pass(HOUR_S * 3 / 4);
    assert_eq!(see(&used), 401, "half a day is over, however it is used");
}

#[test]
fn an_id_token_that_is_forged_begins_no_session() {
    let people = People::new();
    people.grant(json!({ "subject": "ines", "role": "owner" }));
    let ines = Subject::new("ines", &[]);
    assert_eq!(people.end(&ines).status, 200, "the control");
    for signing in [Signing::None, Signing::OtherKey, Signing::PublicKeyAsSecret] {
        people.provider.behave(|behaviour| behaviour.signing = signing);
        let refused = people.end(&ines);
        assert!(matches!(refused.status, 403 | 502), "{signing:?}: {refused:?}");
        assert_eq!(set_cookie(&refused, "__Host-holdfast-session"), None);
    }
}

#[test]
fn who_has_no_role_has_no_session_and_is_told_by_which_subject_to_be_given_one() {
    let people = People::new();
    let ines = Subject::new("ines-7", &["pump-team"]);
    let refused = people.end(&ines);
    assert_eq!((refused.status, refused.problem().as_str()), (403, "no-role"));
    assert!(refused.json()["detail"].as_str().unwrap().contains("\"ines-7\""));
    people.service.done("PUT", "/products/pump", &Value::Null);
    people.service.done("PUT", "/products/cam", &Value::Null);
    let given = json!({ "claimed_group": "pump-team", "role": "operator", "product": "pump" });
    let given = people.grant(given);
    assert_eq!(given.status, 200, "{given:?}");
    let browser = people.sign_in(&ines);
    let put = |path: &str| people.ask(&browser, "PUT", path, &json!({})).status;
    assert_eq!(put("/products/pump/groups/test"), 200, "the control");
    assert_eq!(put("/products/cam/groups/test"), 403);
    let products = people.ask(&browser, "GET", "/products", &Value::Null).json();
    assert_eq!(products["items"], json!(["pump"]), "what is another's is left out");
    let id = given.json()["id"].as_str().unwrap().to_owned();
    people.service.done("POST", &format!("/roles/{id}/revoke"), &Value::Null);
    assert_eq!(put("/products/pump/groups/test"), 404, "a role that was taken away ends at once");
    let auditor = people.sign_in(&Subject::new("ada", &["auditors"]));
    assert_eq!(people.ask(&auditor, "GET", "/audit", &Value::Null).status, 200, "of the settings");
    assert_eq!(people.ask(&auditor, "GET", "/tokens", &Value::Null).status, 403);
}

#[test]
fn nobody_grants_more_than_he_has_and_the_last_owner_stays() {
    let people = People::new();
    for product in ["pump", "cam"] {
        people.service.done("PUT", &format!("/products/{product}"), &Value::Null);
    }
    people.grant(json!({ "subject": "olga", "role": "owner", "product": "pump" }));
    people.grant(json!({ "subject": "otto", "role": "operator" }));
    let olga = people.sign_in(&Subject::new("olga", &[]));
    let otto = people.sign_in(&Subject::new("otto", &[]));
    let grant = |of: &Browser, place: Value| {
        let mut new = json!({ "provider": "company", "subject": "eve", "role": "reader" });
        new.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
        people.ask(of, "POST", "/roles", &new).status
    };
    assert_eq!(grant(&olga, json!({ "product": "pump" })), 200, "the control");
    assert_eq!(grant(&olga, json!({ "product": "cam" })), 403);
    assert_eq!(grant(&olga, json!({})), 403);
    assert_eq!(grant(&otto, json!({ "product": "pump" })), 403, "an operator grants nothing");
    let token = |of: &Browser, product: Option<&str>| {
        let new = json!({ "name": "t", "role": "owner", "days": 90, "product": product });
        people.ask(of, "POST", "/tokens", &new)
    };
    let made = token(&olga, Some("pump"));
    assert_eq!(made.status, 200, "the control");
    assert_eq!((token(&olga, None).status, token(&olga, Some("cam")).status), (403, 403));
    let secret = made.json()["token"].as_str().unwrap().to_owned();
    let widened = json!({ "name": "u", "role": "owner", "days": 90 });
    assert_eq!(people.service.ask_as(&secret, "POST", "/tokens", &widened).status, 403);
    let long = json!({ "name": "t", "role": "reader", "days": 91, "product": "pump" });
    assert_eq!(people.ask(&olga, "POST", "/tokens", &long).status, 400);
    let person = json!({ "name": "t", "role": "reader", "days": 1, "person": "eve" });
    let refused = people.service.ask("POST", "/tokens", &person);
    assert_eq!(refused.status, 400, "where people sign in, a token is its maker's");
    // The first owner's token ends, and with it the last that owns the whole catalog beside her.
    people.grant(json!({ "subject": "ada", "role": "owner" }));
    let ada = people.sign_in(&Subject::new("ada", &[]));
    let roles = people.ask(&ada, "GET", "/roles", &Value::Null).json();
    let of_ada = roles["items"].as_array().unwrap().iter();
    let of_ada = of_ada.clone().find(|role| role["subject"] == "ada").unwrap();
    let path = format!("/roles/{}/revoke", of_ada["id"].as_str().unwrap());
    people.service.pass(91 * 24 * HOUR_S);
    let ada = people.sign_in(&Subject::new("ada", &[]));
    let refused = people.ask(&ada, "POST", &path, &Value::Null);
    assert_eq!((refused.status, refused.problem().as_str()), (409, "last-owner"));
    let given = json!({ "provider": "company", "claimed_group": "owners", "role": "owner" });
    assert_eq!(people.ask(&ada, "POST", "/roles", &given).status, 200);
    assert_eq!(people.ask(&ada, "POST", &path, &Value::Null).status, 200, "the control");
}

#[test]
fn a_person_signs_in_from_the_command_line_with_a_code() {
    let people = People::new();
    people.grant(json!({ "subject": "ines", "role": "reader" }));
    let post = |path: &str, body: Value| {
        people.service.management.ask("POST", path, "", body.to_string().as_bytes())
    };
    let begun = post("/v1/sign-in/company/device", Value::Null).json();
    assert!(begun.get("device_code").is_none(), "it is sealed: {begun}");
    let handle = begun["handle"].as_str().unwrap().to_owned();
    let poll = |handle: &str| post("/v1/sign-in/company/device/poll", json!({ "handle": handle }));
    assert_eq!(poll(&handle).json()["pending"], true);
    assert_eq!(poll("AAAA").status, 400, "a handle of nobody's");
    let code = begun["user_code"].as_str().unwrap();
    people.provider.decide(code, Some(Subject::new("ines", &[])));
    let token = poll(&handle).json()["token"].as_str().unwrap().to_owned();
    assert_eq!(people.service.ask_as(&token, "GET", "/devices", &Value::Null).status, 200);
    assert_ne!(poll(&handle).status, 200, "a code is good once");
    let cookie = format!("__Host-holdfast-session={token}");
    assert_eq!(people.get("/v1/session", &cookie).status, 401, "it is no browser's");
    people.service.pass(8 * 24 * HOUR_S);
    assert_eq!(people.service.ask_as(&token, "GET", "/devices", &Value::Null).status, 401);
    let late = post("/v1/sign-in/company/device", Value::Null).json();
    people.service.pass(601);
    assert_eq!(poll(late["handle"].as_str().unwrap()).problem(), "sign-in-refused");
}

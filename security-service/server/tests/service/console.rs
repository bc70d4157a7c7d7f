//! The console over real TLS: each page as each role, its twin in JSON, sessions, forms, and what somebody else's site can do.

use crate::console_fleet::{self, Names, device};
use crate::installation::Installation;
use holdfast_service_clients::Answer;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const OWN: &str = "Sec-Fetch-Site: same-origin\r\n";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A browser that has no script and keeps one cookie.
pub(crate) struct Visitor<'a> {
    service: &'a Installation,
    cookie: String,
}

impl<'a> Visitor<'a> {
    pub(crate) fn new(service: &'a Installation, token: &str) -> Self {
        let answer = sign_in(service, token, "", OWN);
        assert_eq!((answer.status, answer.header("location").as_deref()), (303, Some("/console")));
        let cookie = answer.header("set-cookie").unwrap();
        for attribute in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(cookie.contains(attribute), "{cookie}");
        }
        let cookie = cookie.split(';').next().unwrap().to_owned();
        assert!(cookie.starts_with("__Host-holdfast-session=hfs_"), "{cookie}");
        Self { service, cookie }
    }

    fn get(&self, path: &str) -> Answer {
        let headers = format!("Cookie: {}\r\nAccept: text/html\r\n", self.cookie);
        self.service.management.ask("GET", path, &headers, b"")
    }

    fn page(&self, place: &str) -> String {
        let answer = self.get(&self.path(place));
        assert_eq!(answer.status, 200, "{place}: {answer:?}");
        String::from_utf8(answer.body).unwrap()
    }

    fn path(&self, place: &str) -> String {
        format!("/console/{}/{place}", self.service.catalog)
    }

    fn post(&self, path: &str, headers: &str, fields: &[(&str, &str)]) -> Answer {
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let headers = format!("Cookie: {}\r\n{FORM}{headers}", self.cookie);
        self.service.management.ask("POST", path, &headers, body.join("&").as_bytes())
    }

    /// A value that the forms of a page have.
    fn field(&self, place: &str, name: &str) -> String {
        let page = self.page(place);
        let begin = format!("name=\"{name}\" value=\"");
        let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{place} has no {name}"));
        rest.split('"').next().unwrap().to_owned()
    }

    /// Sends a form of a page, as its button does.
    fn act(&self, place: &str, action: &str, of: &str, more: &[(&str, &str)]) -> Answer {
        let (token, key) = (self.field(place, "form_token"), self.field(place, "key"));
        let mut fields = vec![("form_token", token.as_str()), ("key", key.as_str()), ("of", of)];
        fields.extend(more);
        self.post(&self.path(&format!("act/{action}")), OWN, &fields)
    }
}

fn sign_in(service: &Installation, token: &str, next: &str, headers: &str) -> Answer {
    let body = format!("token={}&next={}", encoded(token), encoded(next));
    let headers = format!("{FORM}{headers}");
    service.management.ask("POST", "/console/sign-in", &headers, body.as_bytes())
}

fn token(service: &Installation, role: &str) -> String {
    let made = service.done("POST", "/tokens", &json!({"name": role, "role": role, "days": 30}));
    made["token"].as_str().unwrap().to_owned()
}

/// Every page, and who may see it: owner, operator, analyst, reader, auditor, factory.
pub(crate) fn places() -> Vec<(String, [bool; 6])> {
    let see = [true, true, true, true, true, false];
    let crash = "{crash}";
    let mut places: Vec<(String, [bool; 6])> = [
        "fleet",
        "devices",
        "groups",
        "groups/pump/production",
        "deployments",
        "deployments/d41",
        "releases",
        "crashes",
        crash,
        "threats",
        "threats/1",
        "findings",
        "ca-certificates",
        "health",
    ]
    .map(|place| (place.to_owned(), see))
    .into();
    places.push((format!("devices/{}", device(0)), see));
    places.push(("people".to_owned(), [true, false, false, false, false, false]));
    places.push(("alerts".to_owned(), [true, true, false, false, false, false]));
    places.push(("audit".to_owned(), [true, false, false, false, true, false]));
    places
        .push(("confirm/threat-contain?of=1".to_owned(), [true, true, false, false, false, false]));
    places
}

/// The id of a crash group with a function's name.
pub(crate) fn crash_of(service: &Installation) -> String {
    let crashes = service.done("GET", "/crashes?order=newest", &Value::Null);
    let crashes = crashes["items"].as_array().unwrap().clone();
    let most = crashes.into_iter().max_by_key(|crash| crash["devices"].as_u64()).unwrap();
    most["group"].as_str().unwrap().to_owned()
}

/// Texts and numbers of a document that a page shows as they are.
fn shown_texts(document: &Value, found: &mut BTreeSet<String>) {
    match document {
        Value::Array(items) => items.iter().for_each(|item| shown_texts(item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text)
                        if ["version", "rule", "verb", "grade", "why_not", "url", "database"]
                            .contains(&name.as_str()) =>
                    {
                        found.insert(text.to_owned());
                    }
                    _ => shown_texts(value, found),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn each_page_is_for_the_roles_that_may_see_it_and_is_its_document() {
    let mut service = Installation::new();
    let roles = ["owner", "operator", "analyst", "reader", "auditor", "factory"];
    let tokens = roles.map(|role| token(&service, role));
    console_fleet::fill(&mut service, &Names::ordinary());
    let crash = format!("crashes/{}", crash_of(&service));
    for (index, token) in tokens.iter().enumerate() {
        let visitor = Visitor::new(&service, token);
        for (place, allowed) in places() {
            let place = place.replace("{crash}", &crash);
            let path = visitor.path(&place);
            let expected = if allowed[index] { 200 } else { 403 };
            let html = visitor.get(&path);
            assert_eq!(html.status, expected, "{place} as {}: {html:?}", roles[index]);
            for (name, value) in [
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("cross-origin-opener-policy", "same-origin"),
            ] {
                assert_eq!(html.header(name).as_deref(), Some(value), "{place}");
            }
            let policy = html.header("content-security-policy").unwrap();
            assert!(
                policy.contains("default-src 'none'")
                    && policy.contains("frame-ancestors 'none'")
                    && !policy.contains("unsafe"),
                "{policy}"
            );
            let html = String::from_utf8(html.body).unwrap();
            assert!(
                !html.contains(" style=")
                    && !html.contains("<script>")
                    && !html.contains(" onclick"),
                "{place}"
            );
            // The twin: by its path, by what is accepted, and for a tool with a token.
            let (by_path, query) = path
                .split_once('?')
                .map_or((path.clone(), ""), |(path, query)| (path.to_owned(), query));
            let by_path = format!("{by_path}.json?{query}");
            let cookie = format!("Cookie: {}\r\n", visitor.cookie);
            let twin = service.management.ask("GET", &by_path, &cookie, b"");
            assert_eq!(twin.status, expected, "{by_path} as {}", roles[index]);
            if !allowed[index] {
                assert_eq!(twin.problem(), "forbidden");
                continue;
            }
            let accepted = service.management.ask(
                "GET",
                &path,
                &format!("{cookie}Accept: application/json\r\n"),
                b"",
            );
            assert_eq!(accepted.header("content-type").as_deref(), Some("application/json"));
            let bearer = format!("Authorization: Bearer {token}\r\n");
            let of_tool = service.management.ask("GET", &by_path, &bearer, b"");
            assert_eq!((accepted.json(), of_tool.json()), (twin.json(), twin.json()), "{place}");
            let mut texts = BTreeSet::new();
            shown_texts(&twin.json(), &mut texts);
            for text in texts {
                let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                assert!(html.contains(&escaped), "{place} as {} lacks {text}", roles[index]);
            }
        }
    }
}

#[test]
fn a_page_and_the_api_say_the_same() {
    let mut service = Installation::new();
    console_fleet::fill(&mut service, &Names::ordinary());
    let owner = Visitor::new(&service, &service.token);
    let twin = |place: &str| {
        let path = format!("/console/{}/{place}.json", service.catalog);
        let headers = format!("Authorization: Bearer {}\r\n", service.token);
        service.management.ask("GET", &path, &headers, b"").json()
    };
    let api = |path: &str| service.done("GET", path, &Value::Null);
    assert_eq!(twin("fleet")["overview"]["standings"], api("/overview")["standings"]);
    assert_eq!(twin("threats")["threats"]["items"], api("/threats")["items"]);
    assert_eq!(twin("findings")["findings"]["items"], api("/findings")["items"]);
    let id = device(0).to_string();
    assert_eq!(twin(&format!("devices/{id}"))["timeline"], api(&format!("/devices/{id}/timeline")));
    let standings = api("/overview")["standings"].as_array().unwrap().clone();
    let fleet = owner.page("fleet");
    for standing in &standings {
        let (name, devices) =
            (standing["name"].as_str().unwrap(), standing["devices"].as_u64().unwrap());
        assert!(devices > 0, "the control: {standing}");
        let listed = api(&format!("/devices?standing={name}&limit=1000"));
        assert_eq!(listed["items"].as_array().unwrap().len() as u64, devices, "{name}");
        assert!(fleet.contains(&format!("<b>{devices}</b>")), "{standing}");
    }
    // The third stage: what it has given has become something, and a reason is told for all others.
    let deployment = twin("deployments/d41");
    let of = |name: &str| deployment["deployment"][name].as_u64().unwrap();
    assert_eq!((of("stage"), of("failed")), (3, 2), "{deployment}");
    assert!(of("committed") > 20 && of("granted") > of("committed"), "{deployment}");
    let reasons = deployment["reasons"]["reasons"].as_array().unwrap().iter();
    let waiting: u64 = reasons.map(|reason| reason["devices"].as_u64().unwrap()).sum();
    assert_eq!(
        waiting + deployment["reasons"]["there"].as_u64().unwrap(),
        u64::from(console_fleet::DEVICES)
    );
    // A list is paged by its cursor, without gap and twice nothing.
    let (mut path, mut seen) = (format!("/console/{}/devices", service.catalog), Vec::new());
    loop {
        let page = String::from_utf8(owner.get(&path).body).unwrap();
        let ids = page.split("devices/").skip(1).filter_map(|rest| rest.get(..64));
        seen.extend(
            ids.filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit())).map(str::to_owned),
        );
        match page
            .split("href=\"")
            .find(|rest| rest.contains("rel=\"next\"") && rest.starts_with("/console"))
        {
            Some(next) => path = next.split('"').next().unwrap().replace("&amp;", "&"),
            None => break,
        }
    }
    let unique: BTreeSet<&String> = seen.iter().collect();
    let all = usize::from(console_fleet::DEVICES) + 13;
    assert_eq!((seen.len(), unique.len()), (all, all));
}

#[test]
fn a_button_does_what_the_api_does_in_the_name_of_who_has_signed_in() {
    let mut service = Installation::new();
    let operator = token(&service, "operator");
    let reader = token(&service, "reader");
    console_fleet::fill(&mut service, &Names::ordinary());
    let visitor = Visitor::new(&service, &operator);
    let id = device(7).to_string();
    let place = format!("devices/{id}");
    // Nothing dangerous is done before a page has said what will happen.
    let asked = visitor.act("findings", "device-quarantine", &id, &[]);
    let confirm = asked.header("location").unwrap();
    assert_eq!((asked.status, service.device(&id)["quarantined"].as_bool()), (303, Some(false)));
    let page = String::from_utf8(visitor.get(&confirm).body).unwrap();
    assert!(page.contains("updates alone") && page.contains("Cancel"), "{page}");
    let confirm = format!("confirm/device-quarantine?of={id}");
    let done = visitor.act(&confirm, "device-quarantine", &id, &[("confirmed", "yes")]);
    let back = done.header("location").unwrap();
    assert_eq!(back, visitor.path(&format!("{place}?done=device-quarantine")));
    assert!(service.device(&id)["quarantined"].as_bool().unwrap());
    assert!(visitor.get(&back).body.windows(11).any(|part| part == b"quarantined"));
    // A form that is sent twice is one change.
    let (form_token, key) =
        (visitor.field("findings", "form_token"), visitor.field("findings", "key"));
    let fields = [("form_token", form_token.as_str()), ("key", &key), ("of", "d41")];
    let path = visitor.path("act/deployment-pause");
    assert_eq!([(); 2].map(|()| visitor.post(&path, OWN, &fields).status), [303, 303]);
    assert_eq!(service.done("GET", "/deployments/d41", &Value::Null)["state"], "paused");
    let contained =
        visitor.act("confirm/threat-contain?of=1", "threat-contain", "1", &[("confirmed", "yes")]);
    assert_eq!(contained.status, 303, "{contained:?}");
    assert_eq!(service.done("GET", "/threats/1", &Value::Null)["contained_by"], "operator");
    let closed = visitor.act("threats/2", "threat-close", "2", &[("reason", "a drill")]);
    assert_eq!(closed.status, 303, "{closed:?}");
    let again = visitor.act("threats/1", "threat-close", "2", &[("reason", "twice")]);
    assert_eq!(again.status, 404, "{again:?}");
    // The audit log has each once, and by whom.
    let log = service.done("GET", "/audit?order=newest&limit=1000", &Value::Null);
    let of = |verb: &str| {
        let rows = log["items"].as_array().unwrap().iter();
        rows.filter(|row| row["verb"] == verb && row["who"] == "operator").count()
    };
    for verb in ["device.quarantine", "deployment.pause", "threat.contain", "threat.close"] {
        assert_eq!(of(verb), 1, "{verb}");
    }
    let owner = Visitor::new(&service, &service.token);
    let verified = owner.act("audit", "audit-verify", "", &[]);
    assert!(String::from_utf8(verified.body).unwrap().contains("whole"));
    // Whoever may only see has no buttons, and none that he makes up does anything.
    let reader = Visitor::new(&service, &reader);
    let page = reader.page(&place);
    assert!(!page.contains("/act/") && !page.contains("/confirm/"), "{page}");
    let mut fields = vec![("of", id.as_str()), ("confirmed", "yes")];
    let made_up = reader.page("fleet");
    let form_token = made_up.split("name=\"form_token\" value=\"").nth(1).unwrap();
    fields.push(("form_token", form_token.split('"').next().unwrap()));
    let refused = reader.post(&reader.path("act/device-end-quarantine"), OWN, &fields);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(service.device(&id)["quarantined"].as_bool().unwrap());
}

#[test]
fn no_other_site_acts_in_a_session_or_begins_one() {
    let service = Installation::new();
    let device = "de".repeat(32);
    service.claim(&device, holdfast_service_domain::grade::Grade::Hardware);
    let visitor = Visitor::new(&service, &service.token);
    let token = visitor.field(&format!("confirm/device-retire?of={device}"), "form_token");
    let path = visitor.path("act/device-retire");
    let fields = [("form_token", token.as_str()), ("of", &device), ("confirmed", "yes")];
    let foreign = [
        "",
        "Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: https://service.example:8443\r\n",
        "Origin: null\r\n",
    ];
    for headers in foreign {
        assert_eq!(visitor.post(&path, headers, &fields).status, 403, "{headers}");
        assert_eq!(sign_in(&service, &service.token, "", headers).status, 403, "{headers}");
    }
    // Of this site, without what its forms have, or with what another session's have.
    let other = Visitor::new(&service, &service.token);
    let others = other.field(&format!("confirm/device-retire?of={device}"), "form_token");
    assert_ne!(token, others);
    for wrong in ["", others.as_str(), "x"] {
        let fields = [("form_token", wrong), ("of", &device), ("confirmed", "yes")];
        assert_eq!(visitor.post(&path, OWN, &fields).status, 403, "{wrong}");
    }
    // A token that a tool sends along has no forms.
    let bearer = format!("Authorization: Bearer {}\r\n{FORM}{OWN}", service.token);
    let body = format!("of={device}&confirmed=yes&form_token=");
    assert_eq!(service.management.ask("POST", &path, &bearer, body.as_bytes()).status, 403);
    assert_eq!(service.device(&device)["state"], "claimed");
    let by_origin = visitor.post(&path, "Origin: https://service.example\r\n", &fields);
    assert_eq!(by_origin.status, 303, "the control: {by_origin:?}");
    assert_eq!(service.device(&device)["state"], "retired");
}

#[test]
fn a_session_ends_with_its_time_its_token_and_by_its_button() {
    let service = Installation::new();
    let reader = token(&service, "reader");
    let path = format!("/console/{}/fleet", service.catalog);
    let stranger = service.management.ask("GET", &path, "", b"");
    let location = stranger.header("location").unwrap();
    assert_eq!(
        (stranger.status, location.as_str()),
        (303, format!("/console/sign-in?next={}", encoded(&path)).as_str())
    );
    let twin = service.management.ask("GET", &format!("{path}.json"), "", b"");
    assert_eq!((twin.status, twin.problem().as_str()), (401, "unauthenticated"));
    let next = sign_in(&service, &reader, &path, OWN);
    assert_eq!(next.header("location").as_deref(), Some(path.as_str()));
    let idle = Visitor::new(&service, &reader);
    assert_eq!(idle.get(&path).status, 200, "the control");
    service.pass(60 * 60);
    assert_eq!(idle.get(&path).status, 303);
    let signed_out = Visitor::new(&service, &reader);
    let form_token = signed_out.field("fleet", "form_token");
    let out = signed_out.post("/console/sign-out", OWN, &[("form_token", &form_token)]);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(signed_out.get(&path).status, 303);
    let removed = Visitor::new(&service, &reader);
    assert_eq!(removed.get(&path).status, 200, "the control");
    service.done("POST", "/tokens/reader/remove", &Value::Null);
    assert_eq!(removed.get(&path).status, 303, "a session does not outlive its token");
    // Another catalog's pages are not there.
    let owner = Visitor::new(&service, &service.token);
    let other = owner.get("/console/25025d2c-66da-4448-bae1-ac26fcdd3627/fleet");
    assert_eq!(other.status, 404);
    assert_eq!(owner.get("/").header("location"), Some(path));
    assert_eq!(owner.get("/healthz").status, 200, "the API is where it was");
}

#[test]
fn a_session_that_a_token_began_goes_on_after_a_restart_of_the_service() {
    let mut service = Installation::new();
    let cookie = Visitor::new(&service, &service.token).cookie;
    service.restart();
    let visitor = Visitor { service: &service, cookie };
    assert!(visitor.page("fleet").contains("Sign out"));
    let form_token = visitor.field("fleet", "form_token");
    let out = visitor.post("/console/sign-out", OWN, &[("form_token", &form_token)]);
    assert_eq!(out.status, 303, "a form of the page before is one of it now: {out:?}");
    assert_eq!(visitor.get(&visitor.path("fleet")).status, 303);
}

#[test]
fn who_tries_tokens_waits_and_what_is_too_large_is_not_read() {
    let service = Installation::new();
    for _ in 0..10 {
        assert_eq!(sign_in(&service, "hft_none", "", OWN).status, 401);
    }
    let waits = sign_in(&service, &service.token, "", OWN);
    assert_eq!((waits.status, waits.header("retry-after").as_deref()), (429, Some("300")));
    service.pass(300);
    let owner = Visitor::new(&service, &service.token);
    let large = "x".repeat(17 * 1024);
    let answer = owner.post("/console/sign-out", OWN, &[("form_token", &large)]);
    assert_eq!(answer.status, 413, "{answer:?}");
    for path in [
        "/console/assets/console.css",
        "/console/c/nothing",
        "/console/c/devices/..%2f..",
        "/console/c/fleet?a=1&a=2",
    ] {
        let status = owner.get(path).status;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    // Style and script are kept for ever, under names that their content makes.
    let page = owner.page("fleet");
    for ending in [".css", ".js", ".svg"] {
        let path = page
            .split('"')
            .find(|text| text.starts_with("/console/assets/") && text.ends_with(ending));
        let asset = service.management.ask("GET", path.unwrap(), "", b"");
        assert!(asset.header("cache-control").unwrap().contains("immutable"), "{asset:?}");
    }
}

#[test]
fn an_empty_service_says_the_next_command_on_each_page() {
    let service = Installation::new();
    let owner = Visitor::new(&service, &service.token);
    for (place, command) in [
        ("fleet", "holdfast device claim"),
        ("devices", "holdfast device claim"),
        ("groups", "holdfast product create"),
        ("deployments", "holdfast deployment create"),
        ("crashes", "holdfast symbols upload"),
        ("threats", "cargo run --package holdfast-fleet"),
        ("findings", "holdfast finding list"),
        ("alerts", "holdfast webhook add"),
        ("people", "holdfast token create"),
        ("releases", "holdfast release trust"),
        ("ca-certificates", "holdfast ca-certificate download"),
    ] {
        let page = owner.page(place);
        assert!(page.contains(command), "{place}: {page}");
    }
}

//! Roles, approvals, signing in with a code, and the audit log outside of the service.

use crate::installation::{Installation, assert_said, text};
use holdfast_test_provider::{CLIENT_ID, CLIENT_SECRET, Provider, Subject};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// A service whose people sign in by a provider, and whose first owner has logged in.
struct People {
    installation: Installation,
    provider: Provider,
    _files: TempDir,
}

impl People {
    fn new() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let provider = Provider::start(Arc::new(now));
        let files = tempfile::tempdir().unwrap();
        let (secret, authority) = (files.path().join("secret"), files.path().join("provider.pem"));
        fs::write(&secret, CLIENT_SECRET).unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        fs::write(&authority, &provider.authority).unwrap();
        let settings = format!(
            "[sign_in]\nurl = \"https://127.0.0.1:8444\"\nauthorities = {authority:?}\n\
             [[sign_in.providers]]\nname = \"company\"\nissuer = {:?}\nclient_id = {CLIENT_ID:?}\n\
             client_secret = {secret:?}\n",
            provider.issuer
        );
        let installation = Installation::with_settings(&settings);
        let ticket = installation.first_owner();
        let output = installation.run_with(&installation.login(&[]), &ticket);
        assert!(output.status.success(), "{}", text(&output.stderr));
        Self { installation, provider, _files: files }
    }

    /// Begins `login` without a token, with the session of another user, and returns it with the code that it prints.
    fn login(&self, name: &str) -> (Child, String) {
        let url = self.installation.url.clone();
        let login = self.installation.login(&[&url]);
        let mut command = self.installation.command(&login);
        command.env("HOLDFAST_CONFIG", self.installation.at(name));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let code = loop {
            let Some(Ok(line)) = lines.next() else { panic!("no code: {said:?}") };
            if let Some(code) = line.strip_prefix("and type ") {
                break code.to_owned();
            }
            said.push(line);
        };
        assert_eq!(said, [format!("go to {}/activate", self.provider.issuer)]);
        // The command writes on, and would end if nobody read it.
        std::thread::spawn(move || lines.for_each(drop));
        (child, code)
    }

    fn run(&self, name: &str, arguments: &[&str]) -> std::process::Output {
        let mut command = self.installation.command(arguments);
        command.env("HOLDFAST_CONFIG", self.installation.at(name)).output().unwrap()
    }
}

#[test]
fn login_without_a_token_prints_a_code_and_keeps_the_session_once_somebody_has_signed_in() {
    let people = People::new();
    let installation = &people.installation;
    let grant = ["role", "grant", "reader", "--provider", "company", "--subject", "ines"];
    let granted = installation.json(&grant);
    let (mut child, code) = people.login("ines");
    people.provider.decide(&code, Some(Subject::new("ines", &[])));
    assert!(child.wait().unwrap().success());
    let file = installation.at("ines/session.json");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let listed = people.run("ines", &["product", "list"]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    let made = people.run("ines", &["product", "create", "pump"]);
    assert_said(&made, 1, &["403 forbidden", "role grant"]);
    let session: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let secret = session["token"].as_str().unwrap().to_owned();
    let out = people.run("ines", &["logout"]);
    assert_eq!(text(&out.stdout), "logged out; the session has ended\n");
    let token = installation.at("old.token");
    fs::write(&token, &secret).unwrap();
    fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
    let again = ["--token-file", token.to_str().unwrap(), installation.url.as_str()];
    let again = installation.command(&installation.login(&again)).output().unwrap();
    assert_said(&again, 1, &["401 unauthenticated"]);
    let (mut refused, code) = people.login("eve");
    people.provider.decide(&code, None);
    assert!(!refused.wait().unwrap().success());
    assert!(!installation.at("eve/session.json").exists());
    let id = granted["id"].as_str().unwrap();
    assert_eq!(installation.items(&["role", "list"])[0]["subject"], "ines");
    installation.succeeds(&["role", "revoke", id]);
    assert!(installation.items(&["role", "list"]).is_empty());
}

#[test]
fn a_change_waits_for_the_second_person_who_looks_at_it_and_approves() {
    let installation = Installation::owned();
    installation.succeeds(&["product", "create", "pump"]);
    let group = ["production", "--product", "pump"];
    let make = [&["device-group", "create"][..], &group, &["--production", "yes"]].concat();
    installation.succeeds(&make);
    let update = |index: &'static str| {
        [&["device-group", "update"][..], &group, &["--least-index", index]].concat()
    };
    let alone = installation.succeeds(&update("2"));
    assert!(alone.starts_with("group pump/production"), "nobody else could approve it: {alone}");
    let create =
        ["token", "create", "ines", "--role", "operator", "--days", "1", "--person", "ines"];
    installation.succeeds(&[&create[..], &["--output", "ines.token"]].concat());
    let token = installation.at("ines.token").display().to_string();
    let ines = installation.with_token(&token);
    let waits = installation.succeeds(&update("7"));
    assert!(waits.contains("waits for a second person") && waits.contains("approval approve 1"));
    let listed = installation.items(&["approval", "list"]);
    assert_eq!((listed.len(), listed[0]["kind"].as_str()), (1, Some("least-index")));
    installation.fails(
        1,
        &["approval", "approve", "1"],
        &["409 approval-refused", "somebody else"],
    );
    let shown = ines.succeeds(&["approval", "show", "1"]);
    assert!(shown.contains("\"least_index\":7") && shown.contains("first-owner"), "{shown}");
    let approved = ines.succeeds(&["approval", "approve", "1"]);
    assert!(approved.ends_with("change 1 was approved, and is done\n"), "{approved}");
    let groups = installation.items(&["device-group", "list", "--product", "pump"]);
    assert_eq!(groups[0]["least_index"], 7);
    installation.succeeds(&update("9"));
    installation.succeeds(&["approval", "reject", "2"]);
    assert!(installation.items(&["approval", "list"]).is_empty());
    assert_eq!(installation.items(&["approval", "list", "--all"]).len(), 2);
}

#[test]
fn an_exported_log_is_followed_past_checkpoints_without_the_service() {
    let mut installation = Installation::owned();
    installation.succeeds(&["ca-certificate", "download", "--output", "catalog.pem"]);
    for (product, checkpoint) in [("pump", "monday.json"), ("cam", "tuesday.json")] {
        installation.succeeds(&["product", "create", product]);
        installation.succeeds(&["audit", "checkpoint", "--now", "--output", checkpoint]);
    }
    installation.succeeds(&["product", "create", "fan"]);
    installation.succeeds(&["audit", "export", "--output", "audit.jsonl"]);
    installation.end();
    let verify = |log: &'static str| {
        let checkpoints = ["--checkpoint", "monday.json", "--checkpoint", "tuesday.json"];
        [&["audit", "verify", "--log", log, "--root", "catalog.pem"][..], &checkpoints].concat()
    };
    let said = installation.succeeds(&verify("audit.jsonl"));
    assert!(said.contains("rows are a chain, past 2 checkpoints"), "{said}");
    let text = fs::read_to_string(installation.at("audit.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let rows = lines.len() - 1;
    let write = |name: &str, lines: &[String]| {
        fs::write(installation.at(name), lines.join("\n") + "\n").unwrap();
    };
    let owned: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let mut rewritten = owned.clone();
    let last = rewritten.last_mut().unwrap();
    *last = last.replace("fan", "van");
    write("rewritten.jsonl", &rewritten);
    installation.fails(1, &verify("rewritten.jsonl"), &[&format!("row {rows} is not the one")]);
    write("cut.jsonl", &owned[..owned.len() - 2]);
    installation.fails(1, &verify("cut.jsonl"), &[&format!("row {} is missing", rows - 1)]);
    write("gap.jsonl", &[&owned[..2], &owned[3..]].concat());
    installation.fails(1, &verify("gap.jsonl"), &["row 2 is not the one"]);
    let monday = fs::read_to_string(installation.at("monday.json")).unwrap();
    let forged = monday.replace("\"size\":", "\"size\":1");
    fs::write(installation.at("monday.json"), forged).unwrap();
    installation.fails(1, &verify("audit.jsonl"), &["monday.json", "signature is not good"]);
    fs::write(installation.at("monday.json"), "{}").unwrap();
    installation.fails(1, &verify("audit.jsonl"), &["monday.json", "is no checkpoint"]);
    let plain = ["audit", "verify", "--log", "audit.jsonl"];
    installation.succeeds(&plain);
    fs::write(installation.at("audit.jsonl"), "no log").unwrap();
    installation.fails(1, &plain, &["audit.jsonl: is no audit log"]);
}

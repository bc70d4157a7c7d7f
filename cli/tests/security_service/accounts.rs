//! `login` and `logout`: tickets, tokens, and whom they are shown to.

use crate::installation::{Installation, assert_said, text};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

fn secret(installation: &Installation) -> String {
    let session = fs::read(installation.at("config/session.json")).unwrap();
    let session: serde_json::Value = serde_json::from_slice(&session).unwrap();
    session["token"].as_str().unwrap().to_owned()
}

#[test]
fn the_first_owner_logs_in_once_by_what_the_service_has_printed() {
    let installation = Installation::new();
    let ticket = installation.first_owner();
    let output = installation.run_with(&installation.login(&[]), &ticket);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&format!("logged in to {}", installation.url)), "{said}");
    let file = installation.at("config/session.json");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let token = secret(&installation);
    assert!(token.len() > 32 && !said.contains(&token), "no secret is printed");
    let catalogs = installation.items(&["catalog", "list"]);
    assert_eq!(catalogs[0]["id"], installation.catalog.as_str());
    // Once: and the session that is there stays.
    let again = installation.run_with(&installation.login(&[]), &ticket);
    assert_said(&again, 1, &["the ticket was used", "holdfast-service first-owner"]);
    assert_eq!(secret(&installation), token);
    installation.succeeds(&["logout"]);
    assert!(!file.exists());
    assert_eq!(installation.succeeds(&["logout"]), "nobody is logged in\n");
    installation.fails(2, &["catalog", "list"], &["nobody is logged in", "session.json", "login"]);
}

#[test]
fn the_url_of_the_first_owners_token_may_be_given() {
    let installation = Installation::new();
    let said = installation.first_owner();
    let url = said.split_whitespace().last().unwrap();
    let login = installation.login(&[url, "--catalog", "pumps", "--json"]);
    let printed: serde_json::Value = serde_json::from_str(&installation.succeeds(&login)).unwrap();
    assert_eq!(printed["service"], installation.url.as_str());
    assert_eq!(printed["catalog"], installation.catalog.as_str());
    assert!(printed["ends_at"].as_u64().unwrap() > 1_700_000_000);
    for wrong in ["/v1/catalogs", "/v1/first-owner/"] {
        let login = installation.login(&[&format!("{}{wrong}", installation.url)]);
        installation.fails(1, &login, &["must be the https: URL of host and port"]);
    }
    let plain = installation.url.replace("https", "http");
    installation.fails(1, &installation.login(&[&plain]), &["must be the https: URL"]);
}

#[test]
fn a_token_comes_from_a_file_or_standard_input_and_never_from_an_argument() {
    let installation = Installation::owned();
    let file = installation.token("reader-1", "reader");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let token = text(&fs::read(&file).unwrap());
    // Authorities are known from the session before, and a token that others can read is none.
    let by_file = ["login", &installation.url, "--token-file", &file];
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    installation.fails(1, &by_file, &["reader-1.token: can be read by others; run `chmod 600`"]);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    installation.succeeds(&by_file);
    assert_eq!(secret(&installation), token.trim());
    let output = installation.run_with(&["login", &installation.url], &token);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = installation.run_with(&["login", &installation.url], "two words");
    assert_said(&output, 1, &["standard input", "is no token"]);
    let output = installation.run_with(&["login", &installation.url], "hft_wrong");
    assert_said(&output, 1, &["401 unauthenticated", "get another"]);
    assert_eq!(secret(&installation), token.trim(), "the session that is there stays");
    let output = installation.run_with(&installation.login(&[]), "no URL");
    assert_said(&output, 1, &["standard input: has no URL of a first owner's token"]);
    let help = installation.succeeds(&["login", "--help"]);
    assert!(!help.contains("--token ") && help.contains("--token-file"), "{help}");
    installation.fails(2, &["login", &installation.url, "--token", "hft_1"], &["--token"]);
}

#[test]
fn a_service_that_other_authorities_vouch_for_gets_no_ticket() {
    let (installation, other) = (Installation::new(), Installation::new());
    let ticket = installation.first_owner();
    let mut login = installation.login(&[]);
    *login.last_mut().unwrap() = other.authorities();
    let refused = installation.run_with(&login, &ticket);
    assert_said(&refused, 1, &["its certificate is refused", "authorities.pem"]);
    assert!(!installation.at("config/session.json").exists());
    // Nor does one that its certificate does not name.
    let elsewhere = ticket.replace("127.0.0.1", "localhost");
    let refused = installation.run_with(&installation.login(&[]), &elsewhere);
    assert_said(&refused, 1, &["its certificate is refused", "one of the service's names"]);
    fs::write(installation.at("none.pem"), "text").unwrap();
    *login.last_mut().unwrap() = installation.at("none.pem").display().to_string();
    assert_said(&installation.run_with(&login, &ticket), 1, &["has no certificate"]);
    let without = installation.run_with(&["login"], &ticket);
    assert_said(&without, 2, &["--authorities: is missing", "authorities.pem"]);
    // The control: the ticket was shown to nobody else.
    let output = installation.run_with(&installation.login(&[]), &ticket);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_token_that_has_ended_is_refused_with_what_to_do() {
    let installation = Installation::owned();
    let token = installation.token("short", "reader");
    let reader = installation.with_token(&token);
    reader.succeeds(&["device", "list"]);
    // No test waits for a day: the end is moved in the database.
    let script = "import sqlite3, sys\n\
                  database = sqlite3.connect(sys.argv[1], timeout=60)\n\
                  ended = database.execute(\"UPDATE token SET ends_at = 1 WHERE name = 'short'\")\n\
                  assert ended.rowcount == 1\n\
                  database.commit()\n";
    let database = installation.folder.join("service.db");
    let edited = Command::new("python3").arg("-c").arg(script).arg(database).output().unwrap();
    assert!(edited.status.success(), "{}", text(&edited.stderr));
    let remedy = ["401 unauthenticated", "the token has ended or was removed", "`login`"];
    reader.fails(1, &["device", "list"], &remedy);
    // The control: the owner's is another.
    installation.succeeds(&["device", "list"]);
    let token = installation.token("removed", "reader");
    let reader = installation.with_token(&token);
    reader.succeeds(&["device", "list"]);
    installation.succeeds(&["token", "remove", "removed"]);
    reader.fails(1, &["device", "list"], &remedy);
}

#[test]
fn a_session_is_kept_where_the_variables_say() {
    let installation = Installation::owned();
    let run = |variables: &[(&str, &str)]| {
        let mut command = installation.command(&["catalog", "list"]);
        command.env_remove("HOLDFAST_CONFIG").env_remove("XDG_CONFIG_HOME").env_remove("HOME");
        for (name, value) in variables {
            command.env(name, installation.at(value));
        }
        command.output().unwrap()
    };
    let directory = |name: &str| {
        fs::create_dir_all(installation.at(name)).unwrap();
        fs::copy(
            installation.at("config/session.json"),
            installation.at(name).join("session.json"),
        )
        .unwrap();
    };
    directory("xdg/holdfast");
    directory("home/.config/holdfast");
    for variables in [
        &[("HOLDFAST_CONFIG", "config"), ("HOME", "nowhere")][..],
        &[("XDG_CONFIG_HOME", "xdg"), ("HOME", "nowhere")],
        &[("HOME", "home")],
    ] {
        let output = run(variables);
        assert!(output.status.success(), "{variables:?}: {}", text(&output.stderr));
    }
    assert_said(
        &run(&[("HOME", "nowhere")]),
        2,
        &["nobody is logged in", "nowhere/.config/holdfast"],
    );
    assert_said(&run(&[]), 2, &["HOME is not set; set it, or HOLDFAST_CONFIG"]);
    fs::set_permissions(installation.at("config/session.json"), Permissions::from_mode(0o604))
        .unwrap();
    assert_said(&run(&[("HOLDFAST_CONFIG", "config")]), 1, &["can be read by others"]);
}

#[test]
fn a_service_that_does_not_run_is_said_so() {
    let mut installation = Installation::owned();
    installation.end();
    let parts = ["does not answer", "`holdfast-service run` starts the service"];
    installation.fails(1, &["device", "list"], &parts);
}

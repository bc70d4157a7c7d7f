//! `service doctor`: what is wrong with an installation.

use crate::installation::{Installation, text};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_doctor_says_what_is_wrong_with_an_installation() {
    let installation = Installation::owned();
    let said = installation.succeeds(&["service", "doctor", "service"]);
    assert!(
        said.lines().count() > 3 && said.lines().all(|line| line.starts_with("good ")),
        "{said}"
    );
    let all = installation.items(&["service", "doctor", "service"]);
    assert!(all.iter().all(|finding| finding["kind"] == "good"), "{all:?}");
    let key = installation.folder.join("service-root.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let output = installation.command(&["service", "doctor", "service"]).output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let wrong = "wrong  no certificate for the service: ";
    assert!(
        said.contains(wrong) && said.contains("can be read by others; run `chmod 600`"),
        "{said}"
    );
    assert!(text(&output.stderr).contains("something is wrong"), "{}", text(&output.stderr));
    let output =
        installation.command(&["service", "doctor", "service", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = found["items"].as_array().unwrap();
    assert_eq!(found.iter().filter(|finding| finding["kind"] == "wrong").count(), 1, "{found:?}");
    installation.fails(1, &["service", "doctor", "nowhere"], &["nowhere: is no directory", "init"]);
    fs::create_dir(installation.at("empty")).unwrap();
    let output = installation.command(&["service", "doctor", "empty"]).output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("wrong ") && said.contains("settings.toml"), "{said}");
}

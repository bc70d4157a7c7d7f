//! Catalogs, products, groups, releases, certificates, makers, findings, tokens and the audit log.

use crate::installation::Installation;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

#[test]
fn catalogs_are_made_shown_and_changed() {
    let installation = Installation::owned();
    let shown = installation.json(&["catalog", "show"]);
    assert_eq!((&shown["id"], &shown["name"]), (&json!(installation.catalog), &json!("pumps")));
    let made = installation.json(&["catalog", "create", "valves", "--grades", "hardware"]);
    assert_eq!((&made["name"], &made["grades"]), (&json!("valves"), &json!(["hardware"])));
    let usual = installation.json(&["catalog", "create", "lamps"]);
    assert_eq!(usual["grades"], json!(["software", "hardware", "hardware-verified"]));
    let list = installation.succeeds(&["catalog", "list"]);
    for name in ["pumps", "valves", "lamps"] {
        assert!(list.contains(name), "{list}");
    }
    // By id and by name; with several, one has to be named.
    let id = made["id"].as_str().unwrap();
    for catalog in [id, "valves"] {
        assert_eq!(installation.json(&["catalog", "show", "--catalog", catalog])["id"], id);
    }
    installation.fails(1, &["catalog", "show"], &["--catalog: is missing", "pumps", "valves"]);
    let grades = ["catalog", "update", "--catalog", "valves", "--grades", "hardware,software"];
    assert_eq!(installation.json(&grades)["done"], true);
    let shown = installation.json(&["catalog", "show", "--catalog", "valves"]);
    assert_eq!(shown["grades"], json!(["software", "hardware"]));
    let text = installation.succeeds(&["catalog", "show", "--catalog", "valves"]);
    assert!(text.contains("name     valves\n") && text.contains("software,hardware"), "{text}");
    installation.fails(1, &["catalog", "create", "valves"], &["409 conflict"]);
    installation.fails(1, &["catalog", "create", "Valves"], &["400 malformed", "name: "]);
}

#[test]
fn products_and_groups_are_made_shown_and_changed() {
    let installation = Installation::owned();
    assert_eq!(installation.items(&["product", "list"]), Vec::<Value>::new());
    assert_eq!(installation.json(&["product", "create", "pump"])["done"], true);
    installation.succeeds(&["product", "create", "pump"]);
    assert_eq!(installation.items(&["product", "list"]), [json!("pump")]);
    assert_eq!(installation.succeeds(&["product", "list"]), "PRODUCT\npump\n");
    let of_pump = |verb: &'static str, group: &'static str, more: &[&'static str]| {
        [&["device-group", verb, group, "--product", "pump"], more].concat()
    };
    installation.succeeds(&of_pump("create", "eval", &[]));
    let create = of_pump("create", "production", &["--least-index", "3", "--grades", "hardware"]);
    installation.succeeds(&create);
    installation.fails(1, &create, &["has a group production already", "device-group update"]);
    let show = of_pump("show", "production", &[]);
    let group = json!({"name": "production", "least_index": 3, "grades": ["hardware"],
        "reports": "health", "production": false, "update": "on", "feed": null});
    assert_eq!(installation.json(&show), group);
    // What is not said stays as it was.
    installation.succeeds(&of_pump("update", "production", &["--least-index", "7"]));
    assert_eq!(installation.json(&show)["least_index"], 7);
    assert_eq!(installation.json(&show)["grades"], json!(["hardware"]));
    installation.succeeds(&of_pump("update", "production", &["--grades", "catalog"]));
    assert_eq!(installation.json(&show)["least_index"], 7);
    assert_eq!(installation.json(&show)["grades"], Value::Null);
    installation.succeeds(&of_pump("update", "production", &["--reports", "off"]));
    assert_eq!(installation.json(&show)["reports"], "off");
    assert_eq!(installation.json(&show)["least_index"], 7);
    installation.succeeds(&of_pump("update", "production", &["--least-index", "8"]));
    assert_eq!(installation.json(&show)["reports"], "off", "it is not switched on by that");
    let level = of_pump("update", "production", &["--reports", "all"]);
    installation.fails(1, &level, &["400 malformed"]);
    let groups = installation.items(&["device-group", "list", "--product", "pump"]);
    assert_eq!(groups.len(), 2);
    assert_eq!(installation.items(&["product", "show", "pump"]), groups);
    let none = ["product pump has no group spare", "device-group create"];
    installation.fails(1, &of_pump("show", "spare", &[]), &none);
    installation.fails(1, &of_pump("update", "spare", &["--least-index", "1"]), &none);
    let nothing = of_pump("update", "production", &[]);
    let fields = "give --least-index, --grades, --reports, --production, --update or --feed";
    installation.fails(1, &nothing, &[fields]);
    let grade = of_pump("update", "production", &["--grades", "hard"]);
    installation.fails(1, &grade, &["400 malformed"]);
}

#[test]
fn releases_are_added_listed_withdrawn_and_restored() {
    let installation = Installation::owned();
    let boot = "8d".repeat(32);
    let add = ["release", "add", "--boot", &boot, "--version", "1.4.0", "--index", "7"];
    installation.succeeds(&add);
    // The same again is the same; another of this digest is refused.
    assert_eq!(installation.items(&add).len(), 1);
    let other = ["release", "add", "--boot", &boot, "--version", "1.4.1", "--index", "7"];
    installation.fails(1, &other, &["release 1.4.1, boot digest 8d8d", "409 conflict"]);
    let list = || installation.items(&["release", "list"]).remove(0);
    assert_eq!(list()["boot"], boot);
    assert_eq!((&list()["version"], &list()["index"]), (&json!("1.4.0"), &json!(7)));
    installation.succeeds(&["release", "withdraw", &boot]);
    assert_eq!(list()["withdrawn"], true);
    let text = installation.succeeds(&["release", "list"]);
    assert!(text.contains("1.4.0    7      yes        8d8d"), "{text}");
    assert_eq!(installation.json(&["release", "restore", &boot])["done"], true);
    assert_eq!(list()["withdrawn"], false);
    installation.fails(1, &["release", "withdraw", &"00".repeat(32)], &["404 not-found"]);
    installation.fails(2, &["release", "add", "--boot", &boot], &["--version"]);
    installation.fails(2, &["release", "add"], &["required arguments", "<DIRECTORY"]);
    installation.fails(1, &["release", "add", "nowhere"], &["nowhere"]);
}

#[test]
fn certificates_of_the_authority_are_listed_shown_and_written() {
    let installation = Installation::owned();
    let kinds: Vec<Value> = installation
        .items(&["ca-certificate", "list"])
        .iter()
        .map(|certificate| certificate["kind"].clone())
        .collect();
    assert!(kinds.contains(&json!("root")) && kinds.contains(&json!("issuing")), "{kinds:?}");
    installation.succeeds(&["ca-certificate", "download", "--output", "catalog.pem"]);
    let root = installation.folder.join(format!("catalog-{}.pem", installation.catalog));
    assert_eq!(fs::read(installation.at("catalog.pem")).unwrap(), fs::read(&root).unwrap());
    let root = installation.json(&["ca-certificate", "show"]);
    let serial = root["serial"].as_str().unwrap();
    let shown = installation.succeeds(&["ca-certificate", "show", serial]);
    assert!(shown.contains("kind    root\n") && shown.contains("BEGIN CERTIFICATE"), "{shown}");
    let list = installation.items(&["ca-certificate", "list"]);
    let issuing = list.iter().find(|certificate| certificate["kind"] == "issuing").unwrap();
    let serial = issuing["serial"].as_str().unwrap();
    let download = ["ca-certificate", "download", serial, "--output", "/dev/stdout"];
    assert_eq!(installation.succeeds(&download), issuing["pem"].as_str().unwrap());
    installation.fails(
        1,
        &["ca-certificate", "show", "00"],
        &["there is no certificate 00", "ca-certificate list"],
    );
}

#[test]
fn makers_are_listed_by_their_certificates() {
    let installation = Installation::owned();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-subj", "/CN=Maker", "-days", "30", "-keyout", "maker.key", "-out", "maker.pem"])
        .current_dir(installation.directory.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let added = installation.json(&["maker", "add", "maker.pem", "--grade", "hardware"]);
    assert_eq!(added["grade"], "hardware");
    installation.succeeds(&["maker", "add", "maker.pem", "--grade", "hardware-verified"]);
    let makers = installation.items(&["maker", "list"]);
    assert_eq!(makers.len(), 1);
    assert_eq!(makers[0]["fingerprint"], added["fingerprint"]);
    assert_eq!(makers[0]["grade"], "hardware-verified");
    fs::write(installation.at("text"), "text").unwrap();
    let none = ["maker", "add", "text", "--grade", "hardware"];
    installation.fails(1, &none, &["text: has no block BEGIN CERTIFICATE"]);
}

#[test]
fn tokens_are_made_listed_and_removed() {
    let installation = Installation::owned();
    let create = ["token", "create", "line-3", "--role", "factory", "--days", "30", "--output"];
    let made = installation.json(&[&create[..], &["line-3.token"]].concat());
    assert!(made.get("token").is_none(), "what is in the file is not printed: {made}");
    assert!(made["ends_at"].as_u64().unwrap() > 1_700_000_000);
    let printed = installation.succeeds(&[&create[..], &["-"]].concat());
    assert!(printed.starts_with("hft") && printed.lines().count() == 1, "{printed}");
    let made = installation.json(&[&create[..], &["-"]].concat());
    assert!(made["token"].as_str().unwrap().starts_with("hft"));
    let tokens = installation.items(&["token", "list"]);
    assert_eq!(tokens.len(), 3);
    assert!(tokens.iter().all(|token| token["role"] == "factory" && token.get("token").is_none()));
    installation.succeeds(&["token", "remove", "line-3"]);
    assert_eq!(installation.items(&["token", "list"]).len(), 0);
    installation.fails(1, &["token", "remove", "line-3"], &["404 not-found"]);
    let days = ["token", "create", "a", "--role", "reader", "--days", "91", "--output", "-"];
    installation.fails(1, &days, &["400 malformed", "days: must be 1 to 90"]);
}

#[test]
fn the_audit_log_is_shown_and_followed() {
    let installation = Installation::owned();
    installation.succeeds(&["product", "create", "pump"]);
    let rows = installation.items(&["audit", "show"]);
    let last = rows.last().unwrap();
    assert_eq!((&last["verb"], &last["object"]), (&json!("product.put"), &json!("pump")));
    assert_eq!(last["who"], "first-owner");
    let verdict = installation.json(&["audit", "verify"]);
    assert_eq!(verdict["rows"].as_u64(), Some(u64::try_from(rows.len()).unwrap()));
    assert_eq!(verdict["broken"], Value::Null);
    let text = installation.succeeds(&["audit", "verify"]);
    assert_eq!(text, format!("{} rows are a chain\n", rows.len()));
}

#[test]
fn crash_groups_are_listed_shown_closed_and_exported() {
    let installation = Installation::owned();
    assert_eq!(installation.items(&["crash", "list"]), Vec::<Value>::new());
    assert_eq!(installation.items(&["crash", "list", "--closed"]), Vec::<Value>::new());
    let none = "0".repeat(32);
    for verb in ["show", "close", "reopen"] {
        installation.fails(1, &["crash", verb, &none], &["404 not-found"]);
        installation.fails(1, &["crash", verb, "../devices"], &["404 not-found"]);
    }
    let head = "Device ID,Event Type,Event Class,Event Category,Event Count,Description,Start Time,End Time";
    assert_eq!(installation.succeeds(&["crash", "export", "--csv"]).trim_end(), head);
    installation.succeeds(&["crash", "export", "--output", "reports.csv"]);
    let written = fs::read_to_string(installation.at("reports.csv")).unwrap();
    assert_eq!(written, format!("{head}\r\n"));
    assert_eq!(installation.json(&["crash", "export"]), json!({"items": []}));
    let logs = installation.succeeds(&["crash", "export", "--format", "otlp"]);
    assert_eq!(logs, "{\"resourceLogs\":[]}\n", "a request of logs a line");
    assert_eq!(installation.succeeds(&["crash", "export", "--format", "csv"]).trim_end(), head);
    installation.fails(2, &["crash", "export", "--format", "xml"], &["otlp"]);
}

#[test]
fn webhooks_are_added_listed_tested_and_removed() {
    let installation = Installation::owned();
    let add = ["webhook", "add", "ops", "https://alerts.invalid/hook", "--output"];
    let made = installation.json(&[&add[..], &["ops.secret"]].concat());
    assert!(made.get("secret").is_none(), "what is in the file is not printed: {made}");
    let secret = fs::read_to_string(installation.at("ops.secret")).unwrap();
    assert!(secret.starts_with("hws_") && secret.lines().count() == 1, "{secret}");
    installation.fails(1, &[&add[..], &["-"]].concat(), &["409 conflict"]);
    let text = installation.succeeds(&["webhook", "list"]);
    assert!(text.contains("ops   https://alerts.invalid/hook  0"), "{text}");
    assert!(!text.contains(secret.trim()), "the secret is told once");
    installation.fails(1, &["webhook", "test", "ops"], &["no public address"]);
    let plain = ["webhook", "add", "b", "http://alerts.invalid/", "--output", "-"];
    installation.fails(1, &plain, &["400 malformed", "must be an https: URL"]);
    installation.succeeds(&["webhook", "remove", "ops"]);
    assert_eq!(installation.items(&["webhook", "list"]).len(), 0);
    installation.fails(1, &["webhook", "remove", "ops"], &["404 not-found"]);
}

#[test]
fn findings_are_listed_and_closed() {
    let installation = Installation::owned();
    assert_eq!(installation.items(&["finding", "list"]), Vec::<Value>::new());
    assert_eq!(installation.items(&["finding", "list", "--closed"]), Vec::<Value>::new());
    let close = ["finding", "close", &"ab".repeat(32), "other"];
    installation.fails(1, &close, &["400 malformed", "kind: is no kind of finding"]);
}

/// What rules find is the service's own tests' matter: here is how it is asked for, and how thresholds are set.
#[test]
fn threats_are_listed_and_their_thresholds_set() {
    let installation = Installation::owned();
    assert_eq!(installation.items(&["threat", "list"]), Vec::<Value>::new());
    let of_pump = ["threat", "list", "--closed", "--product", "pump", "--group", "eval"];
    assert_eq!(installation.items(&of_pump), Vec::<Value>::new());
    for verb in ["show", "contain", "release"] {
        installation.fails(1, &["threat", verb, "7"], &["404 not-found"]);
    }
    installation.fails(1, &["threat", "close", "7", "--reason", "a drill"], &["404 not-found"]);
    installation.fails(
        1,
        &["threat", "close", "7", "--reason", ""],
        &["400 malformed", "reason: "],
    );
    installation.fails(2, &["threat", "close", "7"], &["--reason"]);
    installation.succeeds(&["product", "create", "pump"]);
    installation.succeeds(&["device-group", "create", "eval", "--product", "pump"]);
    let thresholds = |more: &[&'static str]| {
        let of_group = ["threat", "thresholds", "--product", "pump", "--group", "eval"];
        [&of_group, more].concat()
    };
    let set = thresholds(&["--set", "outbreak_devices=5", "--set", "flood_mib=20"]);
    assert_eq!(installation.json(&set)["done"], true);
    let values = |arguments: &[&str]| {
        let items = installation.items(arguments);
        let is_set = items.into_iter().filter(|item| item["is_set"] == true);
        is_set.map(|item| (item["name"].clone(), item["value"].clone())).collect::<Vec<_>>()
    };
    let five = (json!("outbreak_devices"), json!(5));
    assert_eq!(values(&thresholds(&[])), [five.clone(), (json!("flood_mib"), json!(20))]);
    installation.succeeds(&thresholds(&["--set", "flood_mib=default"]));
    assert_eq!(values(&thresholds(&[])), [five]);
    assert_eq!(values(&["threat", "thresholds"]), [], "of devices in no group");
    let bounds = "outbreak_devices: 1 is not within 2 and 1000";
    let wrong = thresholds(&["--set", "outbreak_devices=1"]);
    installation.fails(1, &wrong, &["400 malformed", bounds]);
    installation.fails(1, &thresholds(&["--set", "outbreak"]), &["--set: ", "NAME=VALUE"]);
    installation.fails(2, &["threat", "thresholds", "--product", "pump"], &["--group"]);
}

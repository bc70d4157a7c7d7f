//! What a role may not do, catalogs that are not there, and answers that are none of the service's.

use crate::installation::{Installation, id};
use std::io::{Read, Write};
use std::net::TcpListener;

#[test]
fn a_role_may_do_its_own_and_is_refused_the_rest() {
    let installation = Installation::owned();
    let device = id(1);
    let claim = ["device", "claim", &device, "--grade", "hardware"];
    let refused = ["403 forbidden", "the role may not do this, or not here", "token create"];
    let factory = installation.with_token(&installation.token("factory-1", "factory"));
    factory.succeeds(&claim);
    for command in [
        &["device", "list"][..],
        &["device", "show", &device],
        &["device", "quarantine", &device],
        &["product", "create", "pump"],
        &["token", "list"],
    ] {
        factory.fails(1, command, &refused);
    }
    let reader = installation.with_token(&installation.token("reader-1", "reader"));
    for command in [&["device", "list"][..], &["release", "list"], &["ca-certificate", "list"]] {
        reader.succeeds(command);
    }
    for command in [&claim[..], &["product", "create", "pump"], &["audit", "show"]] {
        reader.fails(1, command, &refused);
    }
    let auditor = installation.with_token(&installation.token("auditor-1", "auditor"));
    auditor.succeeds(&["audit", "verify"]);
    auditor.fails(1, &["device", "retire", &device], &refused);
    let operator = installation.with_token(&installation.token("operator-1", "operator"));
    operator.succeeds(&["device", "quarantine", &device]);
    operator.fails(1, &["token", "list"], &refused);
    // A token of a catalog makes no catalogs, whatever its role is.
    let owner = installation.with_token(&installation.token("owner-2", "owner"));
    owner.succeeds(&["token", "list"]);
    owner.fails(1, &["catalog", "create", "valves"], &refused);
}

#[test]
fn a_catalog_that_is_not_there_is_refused_and_so_is_another_owners() {
    let installation = Installation::owned();
    let nowhere = "25025d2c-66da-4448-bae1-ac26fcdd3627";
    let unknown = ["404 unknown-catalog", "`catalog list` has those that the token may see"];
    installation.fails(1, &["device", "list", "--catalog", nowhere], &unknown);
    let named = ["there is no catalog `valves` that this token may see; there are: pumps"];
    installation.fails(1, &["device", "list", "--catalog", "valves"], &named);
    let reader = installation.with_token(&installation.token("reader-1", "reader"));
    installation.succeeds(&["catalog", "create", "valves"]);
    let valves = installation.json(&["catalog", "show", "--catalog", "valves"]);
    reader.fails(1, &["device", "list", "--catalog", valves["id"].as_str().unwrap()], &unknown);
    reader.fails(1, &["device", "list", "--catalog", "valves"], &named);
    // The control: the owner of the service sees both.
    installation.succeeds(&["device", "list", "--catalog", "valves"]);
}

#[test]
fn whoever_speaks_no_tls_gets_no_token() {
    let installation = Installation::owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        let mut bytes = vec![0; 4096];
        let length = stream.read(&mut bytes).unwrap();
        bytes[..length].to_vec()
    });
    let token = installation.token("reader-1", "reader");
    let url = format!("https://127.0.0.1:{port}");
    let login =
        ["login", &url, "--authorities", &installation.authorities(), "--token-file", &token];
    installation.fails(1, &login, &["does not answer"]);
    let heard = heard.join().unwrap();
    let secret = std::fs::read(&token).unwrap();
    assert_eq!(heard.first(), Some(&22), "a TLS handshake");
    assert!(!heard.windows(8).any(|part| part == &secret[..8]), "the token was sent");
}

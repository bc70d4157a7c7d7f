//! Checkpoints of the audit log: signed, served to whoever asks, and believed rather than the database.

use crate::installation::Installation;
use holdfast_service_domain::audit::Row;
use holdfast_service_domain::checkpoint::{
    Checkpoint, CheckpointError, Fault, Follower, SignedCheckpoint,
};
use holdfast_types::hex::unhex;
use serde_json::{Value, json};

fn made(service: &Installation) -> SignedCheckpoint {
    let made = service.ask("POST", "/audit/checkpoint", &Value::Null);
    assert_eq!(made.status, 200, "{made:?}");
    SignedCheckpoint::read(&made.body).unwrap()
}

fn rows(service: &Installation) -> Vec<(Row, [u8; 32])> {
    let rows = service.done("GET", "/audit?limit=1000", &Value::Null);
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let row = |row: &Value| {
        let of = Row {
            number: row["number"].as_u64().unwrap(),
            at: row["at"].as_u64().unwrap(),
            who: text(row, "who"),
            verb: text(row, "verb"),
            object: text(row, "object"),
            digest: unhex(&text(row, "digest")).unwrap(),
        };
        (of, unhex(&text(row, "hash")).unwrap())
    };
    rows["items"].as_array().unwrap().iter().map(row).collect()
}

fn followed(service: &Installation, kept: Vec<Checkpoint>) -> Result<u64, Fault> {
    let mut follower = Follower::begin(service.catalog, kept)?;
    for (row, stored) in rows(service) {
        follower.follow(&row, stored)?;
    }
    follower.end().map(|(rows, _)| rows)
}

fn product(service: &Installation, name: &str) {
    service.done("PUT", &format!("/products/{name}"), &Value::Null);
}

#[test]
fn a_checkpoint_is_the_catalogs_and_of_this_log() {
    let service = Installation::new();
    let first = made(&service);
    let checkpoint = first.verify(&service.root).unwrap();
    assert_eq!(checkpoint.size, rows(&service).len() as u64);
    assert_eq!(made(&service), first, "of as many rows there is one");
    product(&service, "pump");
    service.pass(3600);
    let second = made(&service);
    let kept = vec![checkpoint, second.verify(&service.root).unwrap()];
    product(&service, "cam");
    let all = rows(&service).len() as u64;
    assert_eq!(followed(&service, kept), Ok(all), "the control");
    let verify = |change: &dyn Fn(&mut SignedCheckpoint)| {
        let mut changed = second.clone();
        change(&mut changed);
        changed.verify(&service.root)
    };
    verify(&|_| {}).expect("the control");
    let other = first.clone();
    let changes: [&dyn Fn(&mut SignedCheckpoint); 6] = [
        &|changed| changed.size += 1,
        &|changed| changed.at += 1,
        &|changed| changed.head = other.head.clone(),
        &|changed| changed.signature = other.signature.clone(),
        &|changed| changed.certificates = other.certificates.clone(),
        &|changed| changed.catalog = "00000000-0000-0000-0000-000000000001".to_owned(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert!(verify(change).is_err(), "change {number}");
    }
    let stranger = Installation::new();
    let refused = second.verify(&stranger.root);
    assert!(matches!(refused, Err(CheckpointError::Certificate(_))), "{refused:?}");
}

#[test]
fn a_devices_certificate_signs_no_checkpoint() {
    let service = Installation::new();
    let mut device = crate::device::software_device(&service);
    let answer = crate::device::checked_in(&device.check_in(&service.device));
    let chain = &answer.certificates[0].chain;
    let checkpoint = made(&service).verify(&service.root).expect("the control");
    let forged = SignedCheckpoint::new(&checkpoint, [&chain[0].0, &chain[1].0], &[0; 70]);
    let refused = forged.verify(&service.root);
    assert!(matches!(refused, Err(CheckpointError::Certificate(_))), "{refused:?}");
}

#[test]
fn a_checkpoint_is_served_to_whoever_mirrors_the_repositories() {
    let service = Installation::new();
    let path = |file: &str| format!("/repositories/{}/audit/{file}", service.catalog);
    assert_eq!(service.device.ask("GET", &path("checkpoint.json"), "", b"").status, 404);
    let signed = made(&service);
    for file in ["checkpoint.json".to_owned(), format!("{}.json", signed.size)] {
        let served = service.device.ask("GET", &path(&file), "", b"");
        assert_eq!(served.status, 200, "{file}");
        assert_eq!(SignedCheckpoint::read(&served.body).unwrap(), signed, "{file}");
    }
    for file in ["0.json", "x.json", "1", "..", "-1.json"] {
        assert_eq!(service.device.ask("GET", &path(file), "", b"").status, 404, "{file}");
    }
    let shown = service.done("GET", "/audit/checkpoint", &Value::Null);
    assert_eq!(shown, json!(signed));
}

/// Whoever has the database can rewrite the log with all of its hashes, and the service then finds no fault.
#[test]
fn a_log_that_was_rewritten_in_the_database_is_found_by_a_checkpoint_that_was_kept() {
    let mut service = Installation::new();
    for name in ["a", "b", "c"] {
        product(&service, name);
    }
    let early = made(&service).verify(&service.root).unwrap();
    product(&service, "d");
    let late = made(&service).verify(&service.root).unwrap();
    assert!(followed(&service, vec![early, late]).is_ok(), "the control");
    service.stop();
    let mut chain = Vec::new();
    let mut last = holdfast_service_domain::audit::BEGIN;
    // The last row is rewritten, and the chain made anew.
    service.begin();
    for (mut row, _) in rows(&service) {
        if row.number == late.size {
            row.who = "somebody".to_owned();
        }
        last = row.hash(&service.catalog, &last);
        chain.push((row, last));
    }
    service.stop();
    let url = format!("sqlite:{}", service.folder.join("service.db").display());
    let catalog = service.catalog.to_string();
    service.block_on(async {
        sqlx::any::install_default_drivers();
        use sqlx::Connection;
        let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
        let drop = "DROP TRIGGER audit_is_not_changed";
        sqlx::query(drop).execute(&mut connection).await.unwrap();
        for (row, hash) in &chain {
            let update = "UPDATE audit SET who = $1, hash = $2 WHERE catalog = $3 AND number = $4";
            let update = sqlx::query(update).bind(row.who.clone()).bind(hash.to_vec());
            let update = update.bind(catalog.clone()).bind(i64::try_from(row.number).unwrap());
            update.execute(&mut connection).await.unwrap();
        }
        let update = sqlx::query("UPDATE catalog SET audit_head = $1 WHERE id = $2");
        update.bind(last.to_vec()).bind(catalog.clone()).execute(&mut connection).await.unwrap();
    });
    service.begin();
    let verdict = service.done("POST", "/audit/verify", &Value::Null);
    assert_eq!(verdict["broken"], Value::Null, "by itself it is a chain");
    let found = followed(&service, vec![early, late]);
    let first = early.size + 1;
    assert_eq!(found, Err(Fault::Forked { row: late.size, first, at: late.at }));
}

#[test]
fn an_export_is_a_row_of_the_audit_log_that_a_checkpoint_vouches_for() {
    let service = Installation::new();
    let manifest = "5a".repeat(32);
    let record = |manifest: &str| {
        let headers = format!("Authorization: Bearer {}\r\nIdempotency-Key: a\r\n", service.token);
        let path = format!("/v1/catalogs/{}/exports", service.catalog);
        let body = json!({ "manifest": manifest }).to_string();
        service.management.ask("POST", &path, &headers, body.as_bytes())
    };
    for bad in ["", "5a", &"5A".repeat(32), &"5g".repeat(32), &"5a".repeat(33)] {
        let refused = record(bad);
        assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"), "{bad}");
    }
    // An answer that was lost is asked for again.
    for _ in 0..2 {
        assert_eq!(record(&manifest).status, 200);
    }
    let rows = service.done("GET", "/audit?limit=1000", &Value::Null);
    let rows = rows["items"].as_array().unwrap().clone();
    let exports: Vec<&Value> = rows.iter().filter(|row| row["verb"] == "results.export").collect();
    assert_eq!(exports.len(), 1, "{rows:?}");
    assert_eq!(exports[0]["object"], json!(manifest));
    let checkpoint = service.done("POST", "/audit/checkpoint", &Value::Null);
    assert!(checkpoint["size"].as_u64() >= exports[0]["number"].as_u64());
}

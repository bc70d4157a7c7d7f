//! Symbols: taken under the build id that they have, listed, and removed.

use crate::installation::Installation;
use holdfast_service::run::open_with;
use holdfast_service_api::symbolizer::{Limits, SymbolizerError, Worker, WorkerError};
use holdfast_service_clients::Answer;
use holdfast_service_domain::symbols::BuildId;
use holdfast_service_store::moment::Observer;
use object::read::{File, Object, ObjectSymbol};
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A program with symbols, as this host's compiler makes it, and its build id.
pub(crate) fn program(directory: &Path, source: &str, more: &[&str]) -> (Vec<u8>, String) {
    let path = directory.join("program.c");
    std::fs::write(&path, source).unwrap();
    let output = directory.join("program");
    let mut command = Command::new("cc");
    command.args(["-g", "-O1", "-no-pie", "-Wl,--build-id=sha1"]).args(more);
    let status = command.arg("-o").arg(&output).arg(&path).status().unwrap();
    assert!(status.success());
    let bytes = std::fs::read(output).unwrap();
    let id = File::parse(&*bytes).unwrap().build_id().unwrap().unwrap();
    let id = holdfast_types::hex::hex(id);
    (bytes, id)
}

fn put(service: &Installation, id: &str, body: &[u8]) -> Answer {
    let headers = format!("Authorization: Bearer {}\r\n", service.token);
    let path = format!("/v1/catalogs/{}/symbols/{id}", service.catalog);
    service.management.ask("PUT", &path, &headers, body)
}

fn files(service: &Installation) -> usize {
    std::fs::read_dir(service.folder.join("symbols")).unwrap().count()
}

#[test]
fn symbols_are_taken_under_their_own_build_id_alone() {
    let service = Installation::new();
    let scratch = tempfile::tempdir().unwrap();
    let source = "int main(void) { return 0; }";
    let (file, id) = program(scratch.path(), source, &[]);
    let first = put(&service, &id, &file);
    assert_eq!((first.status, &first.json()["new"]), (200, &Value::Bool(true)), "{first:?}");
    let again = put(&service, &id, &file);
    assert_eq!((again.status, &again.json()["new"]), (200, &Value::Bool(false)));
    let shown = service.done("GET", &format!("/symbols/{id}"), &Value::Null);
    assert_eq!(shown["bytes"], file.len());
    assert_eq!(service.done("GET", "/symbols", &Value::Null)["items"][0], shown);
    // Another's, none, and a part of one.
    let other = "00".repeat(20);
    let (stripped, stripped_id) = program(scratch.path(), source, &["-s"]);
    for (id, body) in
        [(&other, &file[..]), (&other, b"text"), (&id, &file[..100]), (&stripped_id, &stripped)]
    {
        let refused = put(&service, id, body);
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (422, "symbols-refused"),
            "{refused:?}"
        );
    }
    let malformed = put(&service, "..%2F..%2Fpasswd", &file);
    assert_eq!((malformed.status, malformed.problem().as_str()), (400, "malformed"));
    // Others of the same build id: with one byte more, which nothing reads.
    let mut forged = file.clone();
    forged.push(0);
    assert_eq!(put(&service, &id, &forged).status, 409);
    assert_eq!(files(&service), 1, "nothing is left of what was refused");
    let rows = service.done("GET", "/audit", &Value::Null);
    let rows = rows["items"].as_array().unwrap().iter().filter(|row| row["verb"] == "symbols.put");
    assert!(rows.clone().all(|row| row["object"] == id.as_str()));
    assert_eq!(rows.count(), 2);
    service.done("POST", &format!("/symbols/{id}/remove"), &Value::Null);
    assert_eq!(
        (files(&service), service.ask("GET", &format!("/symbols/{id}"), &Value::Null).status),
        (0, 404)
    );
}

#[test]
fn a_file_beyond_the_bound_is_refused_and_leaves_nothing() {
    let service = Installation::new();
    let id = "00".repeat(20);
    // Its length is said, and nobody has to send it to be refused.
    let mut client = service.management.connect();
    let head = format!(
        "PUT /v1/catalogs/{}/symbols/{id} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {}\r\n\r\n",
        service.catalog,
        service.token,
        64 * 1024 * 1024 + 1
    );
    client.stream.write_all(head.as_bytes()).unwrap();
    let refused = client.answer();
    assert_eq!((refused.status, refused.problem().as_str()), (413, "too-large"));
    assert_eq!(files(&service), 0);
    assert_eq!(put(&service, &id, &vec![0; 1024]).status, 422, "the control: it is read");
}

/// A worker that writes down each time that it is started.
fn counted(scratch: &Path, program: &Path) -> Worker {
    let script = scratch.join("counted-worker");
    let (log, program) = (scratch.join("starts"), program.display());
    let text = format!("#!/bin/sh\necho one >> {}\nexec {program} \"$@\"\n", log.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    Worker::new(script, Limits::default())
}

fn starts(scratch: &Path) -> usize {
    std::fs::read_to_string(scratch.join("starts")).map_or(0, |text| text.lines().count())
}

#[test]
fn a_crash_storm_costs_one_worker_and_one_that_fails_harms_nobody() {
    let service = Installation::new();
    let scratch = tempfile::tempdir().unwrap();
    let source = "int run(int n) { return n * 3; } int main(void) { return run(0); }";
    let (file, id) = program(scratch.path(), source, &[]);
    assert_eq!(put(&service, &id, &file).status, 200);
    let address = |name: &str| {
        let elf = File::parse(&*file).unwrap();
        let found = elf.symbols().find(|symbol| symbol.name() == Ok(name));
        found.unwrap().address()
    };
    let (run, main) = (address("run"), address("main"));
    let build_id: BuildId = id.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let open = |worker: Worker| {
        let clock = holdfast_service::run::system_clock();
        let opened =
            open_with(&service.folder, &service.settings, clock, Observer::nobody(), worker);
        let opened = runtime.block_on(opened).unwrap();
        let scope = runtime.block_on(opened.store.scope_of_device(service.catalog)).unwrap();
        (opened, scope.unwrap())
    };
    // A worker that ends without an answer: an error, and then nobody asks it again for a while.
    let (broken, scope) = open(counted(scratch.path(), Path::new("/bin/false")));
    let ask = || runtime.block_on(broken.function_names(scope, &build_id, &[run]));
    assert!(matches!(ask(), Err(SymbolizerError::Worker(WorkerError::Status(1)))));
    assert!(matches!(ask(), Err(SymbolizerError::FailedBefore)));
    assert_eq!(starts(scratch.path()), 1);
    let unknown: BuildId = "00a1b2c3d4e5f607".parse().unwrap();
    let unknown = runtime.block_on(broken.function_names(scope, &unknown, &[run]));
    assert!(matches!(unknown, Err(SymbolizerError::NoSymbols)));
    let many = runtime.block_on(broken.function_names(scope, &build_id, &[run; 257]));
    assert!(matches!(many, Err(SymbolizerError::TooMany)));
    std::fs::remove_file(scratch.path().join("starts")).unwrap();
    // A hundred at once, of the same two places.
    let (opened, scope) =
        open(counted(scratch.path(), Path::new(env!("CARGO_BIN_EXE_holdfast-service"))));
    let all: Vec<_> = (0..100)
        .map(|_| {
            let (opened, build_id) = (opened.clone(), build_id.clone());
            runtime.spawn(async move {
                opened.function_names(scope, &build_id, &[run, main, run, 8]).await.unwrap()
            })
        })
        .collect();
    for one in all {
        let frames = runtime.block_on(one).unwrap();
        let names = frames.iter().map(|frames| frames.as_ref().map(|f| f.function.as_str()));
        assert_eq!(names.collect::<Vec<_>>(), [Some("run"), Some("main"), Some("run"), None]);
    }
    assert_eq!(starts(scratch.path()), 1);
    // What was removed has no names any more.
    service.done("POST", &format!("/symbols/{id}/remove"), &Value::Null);
    let removed = runtime.block_on(opened.function_names(scope, &build_id, &[run]));
    assert!(matches!(removed, Err(SymbolizerError::NoSymbols)), "{removed:?}");
    for opened in [broken, opened] {
        runtime.block_on(opened.store.clone().close());
    }
}

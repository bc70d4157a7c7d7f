//! Files in a bucket, against an object store of S3's interface.

use crate::databases::on_both;
use holdfast_s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use holdfast_service_store::blobs::bucket::{Bucket, Credentials, Place};
use holdfast_service_store::blobs::{BlobError, Blobs};
use holdfast_types::hex::hex;
use rustls::RootCertStore;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn bucket(server: &S3Server, secret: &str) -> Bucket {
    let place = Place {
        endpoint: Some(server.endpoint()),
        region: "us-east-1".to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: "pumps".to_owned(),
        is_without_tls: true,
    };
    let credentials = Credentials {
        access_key: ACCESS_KEY.to_owned(),
        secret_key: secret.to_owned(),
        session_token: None,
    };
    Bucket::new(place, credentials, RootCertStore::empty()).unwrap()
}

fn blobs(server: &S3Server, directory: &Path) -> Blobs {
    Blobs::open_in(bucket(server, SECRET_KEY), "releases", directory, 64 * MIB).unwrap()
}

async fn keep(blobs: &Blobs, content: &[u8]) -> Result<[u8; 32], BlobError> {
    let mut draft = blobs.begin(64 * MIB).await?;
    for part in content.chunks(100_000) {
        draft.write(part).await?;
    }
    let written = draft.finish().await?;
    let digest = written.digest;
    let changing = blobs.change_alone().await;
    blobs.keep(&changing, written).await.map(|()| digest)
}

async fn read(blobs: &Blobs, digest: &[u8; 32]) -> Result<Option<Vec<u8>>, BlobError> {
    let Some(mut file) = blobs.read(digest).await? else { return Ok(None) };
    let mut content = Vec::new();
    file.read_to_end(&mut content).unwrap();
    Ok(Some(content))
}

fn run(work: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(work);
}

#[test]
fn what_one_instance_has_stored_in_a_bucket_another_reads() {
    let server = S3Server::start();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(async {
        let (one, other) = (blobs(&server, one.path()), blobs(&server, other.path()));
        // One request, and an upload of three parts.
        let large: Vec<u8> = (0..20 * MIB).map(|at| (at % 251) as u8).collect();
        for content in [b"pump".as_slice(), &large] {
            let digest = keep(&one, content).await.unwrap();
            assert!(server.object("pumps/releases").join(hex(&digest)).is_file());
            assert_eq!(read(&other, &digest).await.unwrap().as_deref(), Some(content));
            assert!(other.is_stored(&digest).await.unwrap());
            // What is here of it may go at any time.
            std::fs::remove_file(other.path(&digest)).unwrap();
            assert_eq!(read(&other, &digest).await.unwrap().as_deref(), Some(content));
        }
        let stored = one.stored(None, 10).await.unwrap();
        assert_eq!(stored.len(), 2);
        assert_eq!(one.stored(Some(stored[0].0), 10).await.unwrap(), stored[1..]);
        let changing = other.change_alone().await;
        other.try_round_trip(&changing).await.unwrap();
        other.remove(&changing, &stored[0].0).await.unwrap();
        other.remove(&changing, &stored[0].0).await.expect("it is gone already");
        assert_eq!(server.objects("pumps/releases"), [hex(&stored[1].0)]);
        assert!(!one.is_stored(&stored[0].0).await.unwrap());
    });
}

#[test]
fn what_the_object_store_changes_is_refused() {
    let server = S3Server::start();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(async {
        let (one, other) = (blobs(&server, one.path()), blobs(&server, other.path()));
        let digest = keep(&one, b"a release").await.unwrap();
        let object = server.object("pumps/releases").join(hex(&digest));
        let good = std::fs::read(&object).unwrap();
        for bad in [b"a reLease".to_vec(), b"a release and more".to_vec(), b"a rel".to_vec()] {
            std::fs::write(&object, &bad).unwrap();
            let refused = read(&other, &digest).await.unwrap_err();
            assert!(matches!(refused, BlobError::Changed { .. }), "{refused:?}");
            assert!(!other.path(&digest).exists(), "nothing of it is kept");
        }
        // A file that is too large is not even fetched.
        let sparse = std::fs::File::create(&object).unwrap();
        sparse.set_len(300 * MIB).unwrap();
        assert!(matches!(read(&other, &digest).await, Err(BlobError::Changed { .. })));
        std::fs::write(&object, good).unwrap();
        assert_eq!(read(&other, &digest).await.unwrap().as_deref(), Some(b"a release".as_slice()));
        assert_eq!(std::fs::read_dir(other.path(&digest).parent().unwrap()).unwrap().count(), 1);
    });
}

#[test]
fn an_object_store_that_refuses_or_is_away_is_an_error_that_has_no_secret() {
    let server = S3Server::start();
    let directory = tempfile::tempdir().unwrap();
    run(async {
        let wrong = bucket(&server, "not-the-secret");
        let wrong = Blobs::open_in(wrong, "releases", directory.path(), MIB).unwrap();
        let refused = keep(&wrong, b"pump").await.unwrap_err();
        let said = format!("{refused:?} {}", holdfast_types::chain(&refused));
        assert!(matches!(refused, BlobError::Bucket { what: "put", .. }), "{said}");
        assert!(!said.contains("not-the-secret") && !format!("{wrong:?}").contains("secret"));
        assert!(server.objects("pumps/releases").is_empty());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left");
        keep(&blobs(&server, directory.path()), b"pump").await.expect("the control");
        // It goes away.
        let blobs = blobs(&server, directory.path());
        let digest = holdfast_types::hex::unhex(&server.objects("pumps/releases")[0]).unwrap();
        assert!(read(&blobs, &digest).await.unwrap().is_some());
        std::fs::remove_file(blobs.path(&digest)).unwrap();
        drop(server);
        let began = Instant::now();
        assert!(matches!(read(&blobs, &digest).await, Err(BlobError::Bucket { .. })));
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    });
}

/// Whoever changes files keeps all others away, of whichever instance.
#[test]
fn of_two_instances_one_changes_files_at_a_time() {
    on_both(async |database| {
        if database.is_sqlite() {
            // It has one instance.
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (database.open().await, database.open().await);
        let open = || Blobs::open(directory.path()).unwrap();
        let (files, same) = (open(), open());
        let changing = one.change_files(&files).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(300), other.change_files(&same));
        assert!(waits.await.is_err(), "the other waits");
        drop(changing);
        let turn = tokio::time::timeout(Duration::from_secs(20), other.change_files(&same)).await;
        turn.expect("its turn").unwrap();
    });
}

//! An object store of S3's interface for tests, by the crate `s3s-fs`: it is started in the test's own process, listens on loopback, checks
//! signatures (AWS Signature Version 4), and keeps each object as a file of a directory of the test's own, where a test can look at it and
//! change it as whoever owns the object store could.
//!
//! Whatever is not as it has to be is a panic, as in a test.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "it is linked into tests alone, where a panic is a failure with its place"
)]

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};

/// Id of the one access key that it takes.
pub const ACCESS_KEY: &str = "AKIAHOLDFASTTEST";
/// Its secret.
pub const SECRET_KEY: &str = "a-secret-of-the-test-alone";
/// The bucket that is there.
pub const BUCKET: &str = "holdfast";

/// The object store. It ends with this value.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    directory: TempDir,
    runtime: Option<Runtime>,
}

impl S3Server {
    /// Starts one with an empty bucket.
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let mut runtime = RuntimeBuilder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(directory.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = runtime.block_on(listener).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, service));
        Self { address, directory, runtime: Some(runtime) }
    }

    /// Returns its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the file of an object.
    #[must_use]
    pub fn object(&self, name: &str) -> PathBuf {
        self.directory.path().join(BUCKET).join(name)
    }

    /// Returns the names of the objects below a name, in order.
    #[must_use]
    pub fn objects(&self, below: &str) -> Vec<String> {
        let mut names = names(&self.object(below));
        names.sort();
        names
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // A test may be within a runtime of its own, which must not wait for another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = directory.read_dir() else { return Vec::new() };
    let files = entries.map(Result::unwrap).filter(|entry| entry.path().is_file());
    files.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

async fn serve(listener: TcpListener, service: S3Service) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let service = service.clone();
        tokio::spawn(async move {
            let connection = Builder::new(TokioExecutor::new());
            // Who goes away is nobody's matter.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

//! A bucket of an object store of S3's interface: objects by their names, put whole or not at all.

use super::error::{BlobError, file};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use holdfast_types::hex::unhex;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::path::Path as Name;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use thiserror::Error;
use tokio::io::AsyncReadExt;

/// Bytes of a part of an object: what is in memory of it at once. S3 demands 5 MiB of each but the last.
const PART_BYTES: usize = 8 << 20;
/// Longest time for a connection, and from one part of an answer to the next.
const CONNECT: Duration = Duration::from_secs(5);
const READ: Duration = Duration::from_secs(30);
/// Times that a request is repeated where the object store says that it is busy or away, and how long at most.
const RETRIES: usize = 3;
const RETRY: Duration = Duration::from_secs(20);

/// Why a bucket cannot be used.
#[derive(Debug, Error)]
pub enum BucketError {
    /// TLS cannot be set up.
    #[error("TLS to the object store cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The client cannot be made.
    #[error("a client of the object store cannot be made")]
    Client(#[from] reqwest::Error),
    /// Something of it is no part of an address.
    #[error("the object store cannot be addressed")]
    Address(#[source] Box<object_store::Error>),
}

/// Who asks an object store.
#[derive(Clone)]
pub struct Credentials {
    /// Id of the access key.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: String,
    /// Token of a session, where the key is good for one alone.
    pub session_token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

/// Where a bucket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// URL of the object store; that of Amazon's for the region where there is none.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: String,
    /// Name of the bucket.
    pub bucket: String,
    /// What names of objects begin with; nothing where it is empty.
    pub prefix: String,
    /// True if the endpoint may be one without TLS.
    pub is_without_tls: bool,
}

/// A bucket.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<AmazonS3>,
    prefix: String,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// An object that is being fetched.
pub(super) struct Object {
    /// Bytes that it is said to have.
    pub(super) bytes: u64,
    name: Name,
    parts: BoxStream<'static, object_store::Result<Bytes>>,
}

impl Object {
    /// Returns the next part, until there is none.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BlobError> {
        let next = self.parts.next().await.transpose();
        next.map_err(|source| failed("read", &self.name, source))
    }
}

/// Makes connections as the rest of the service does: by authorities that are passed in, and by no proxy that the environment names.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

fn failed(what: &'static str, name: &Name, source: object_store::Error) -> BlobError {
    BlobError::Bucket { what, name: name.to_string(), source: Box::new(source) }
}

impl Bucket {
    /// Returns a bucket. Nothing is asked of it yet.
    ///
    /// # Errors
    /// See [`BucketError`].
    pub fn new(
        place: Place,
        credentials: Credentials,
        authorities: RootCertStore,
    ) -> Result<Self, BucketError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider);
        let tls = tls.with_safe_default_protocol_versions()?;
        let tls = tls.with_root_certificates(authorities).with_no_client_auth();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
        let client = client.redirect(reqwest::redirect::Policy::none());
        let client = client.connect_timeout(CONNECT).read_timeout(READ).build()?;
        let Place { endpoint, region, bucket, prefix, is_without_tls } = place;
        let retry =
            RetryConfig { max_retries: RETRIES, retry_timeout: RETRY, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_access_key_id(credentials.access_key)
            .with_secret_access_key(credentials.secret_key)
            .with_allow_http(is_without_tls)
            .with_retry(retry)
            .with_http_connector(Connector(client));
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(token) = credentials.session_token {
            builder = builder.with_token(token);
        }
        let store = builder.build().map_err(|error| BucketError::Address(Box::new(error)))?;
        Ok(Self { store: Arc::new(store), prefix })
    }

    /// Returns the name of an object of a kind.
    pub(super) fn name(&self, kind: &str, name: &str) -> Name {
        Name::from(format!("{}/{kind}/{name}", self.prefix))
    }

    /// Puts the content of a file under a name: it is there as a whole, or as before.
    pub(super) async fn put(&self, name: &Name, from: &Path, bytes: u64) -> Result<(), BlobError> {
        let mut content = tokio::fs::File::open(from).await.map_err(file("read", from))?;
        let first = part(&mut content).await.map_err(file("read", from))?;
        if u64::try_from(first.len()).is_ok_and(|length| length == bytes) {
            let put = self.store.put(name, PutPayload::from(first)).await;
            return put.map(drop).map_err(|source| failed("put", name, source));
        }
        let upload = self.store.put_multipart(name).await;
        let mut upload = upload.map_err(|source| failed("put", name, source))?;
        let mut next = first;
        let sent = loop {
            if next.is_empty() {
                break upload.complete().await.map(drop);
            }
            if let Err(error) = upload.put_part(PutPayload::from(next)).await {
                break Err(error);
            }
            next = match part(&mut content).await {
                Ok(next) => next,
                Err(source) => {
                    let _ = upload.abort().await;
                    return Err(file("read", from)(source));
                }
            };
        };
        if sent.is_err() {
            // What is not aborted now ends by the bucket's own rules.
            let _ = upload.abort().await;
        }
        sent.map_err(|source| failed("put", name, source))
    }

    /// Begins to fetch an object; `None` where there is none.
    pub(super) async fn get(&self, name: &Name) -> Result<Option<Object>, BlobError> {
        match self.store.get(name).await {
            Ok(found) => {
                let bytes = found.meta.size;
                Ok(Some(Object { bytes, name: name.clone(), parts: found.into_stream() }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed("read", name, source)),
        }
    }

    /// True if there is such an object.
    pub(super) async fn has(&self, name: &Name) -> Result<bool, BlobError> {
        match self.store.head(name).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(failed("ask for", name, source)),
        }
    }

    /// Removes an object, if it is there.
    pub(super) async fn remove(&self, name: &Name) -> Result<(), BlobError> {
        match self.store.delete(name).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(failed("remove", name, source)),
        }
    }

    /// Returns names of objects of a kind behind one, without what they begin with, and the times at which they were put: at most so many.
    pub(super) async fn list(
        &self,
        kind: &str,
        after: Option<Name>,
        most: usize,
    ) -> Result<Vec<(String, SystemTime)>, BlobError> {
        let below = Name::from(format!("{}/{kind}", self.prefix));
        let mut listed = match &after {
            Some(after) => self.store.list_with_offset(Some(&below), after),
            None => self.store.list(Some(&below)),
        };
        let mut names = Vec::new();
        while let Some(object) = listed.next().await {
            let object = object.map_err(|source| failed("list", &below, source))?;
            // Whatever else lies there is not ours.
            let name = object.location.filename().filter(|name| unhex::<32>(name).is_some());
            let stored = SystemTime::from(object.last_modified);
            names.extend(name.map(|name| (name.to_owned(), stored)));
            if names.len() >= most {
                break;
            }
        }
        Ok(names)
    }
}

/// Reads the next part of a file; nothing at its end.
async fn part(content: &mut tokio::fs::File) -> io::Result<Vec<u8>> {
    let most = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
    let mut part = Vec::new();
    content.take(most).read_to_end(&mut part).await?;
    Ok(part)
}

//! Errors of the program.

use holdfast_service_issuing::IssuingError;
use holdfast_service_store::StoreError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// Errors of the program.
#[derive(Debug, Error)]
pub enum ServerError {
    /// A file or directory failed.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The settings cannot be read.
    #[error("{}: is not as settings have to be", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The cause, with the line.
        #[source]
        source: toml::de::Error,
    },
    /// The settings cannot be written.
    #[error("the settings cannot be written")]
    WriteSettings(#[from] toml::ser::Error),
    /// The folder is in use already.
    #[error("{}: is there already; `init` makes a new folder", .0.display())]
    There(PathBuf),
    /// A file that is to be made is there already.
    #[error("{}: is there already, and is not overwritten", .0.display())]
    FileThere(PathBuf),
    /// A file's name is no text.
    #[error("{}: its name is no UTF-8 text; rename it or take it out of the folder", .0.display())]
    NameIsNoText(PathBuf),
    /// A file is larger than any of a service's folder.
    #[error("{}: is no file of a service's folder; move it out of it", .0.display())]
    NotOfTheFolder(PathBuf),
    /// The settings name a file that a backup cannot have, and that is not on this host either.
    #[error(
        "{field} names {}, which is not on this host: put it there, and restore again", .path.display()
    )]
    FileOfSettings {
        /// The field of the settings.
        field: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The settings name a file in a directory of the folder that no backup has.
    #[error(
        "{field} names {}, which no backup has: move it into the folder itself, and set {field} to its name", .path.display()
    )]
    FileNotKept {
        /// The field of the settings.
        field: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Another key lies where the settings have the key encryption key.
    #[error(
        "keys.key_encryption_key names {}, which is there and another key: move it away, and restore again", .0.display()
    )]
    OtherKey(PathBuf),
    /// A file is no backup that this program can read.
    #[error("{}: is no backup of a version that this program knows", .0.display())]
    BackupFormat(PathBuf),
    /// An entry of a backup is missing, or has a name that leads out of the folder.
    #[error("the backup has no entry `{0}`, or one that leads out of the folder")]
    BackupName(String),
    /// A backup lacks rows that were there when it was made.
    #[error("catalog {0}: the backup lacks rows of the audit log that its manifest names")]
    BackupLacks(String),
    /// The audit log of a catalog is not what was written.
    #[error("catalog {catalog}: the audit log is no whole chain; see `holdfast-service doctor`")]
    Audit {
        /// The catalog.
        catalog: String,
        /// Where it breaks.
        #[source]
        broken: holdfast_service_domain::audit::Broken,
    },
    /// A program of PostgreSQL cannot be run.
    #[error(
        "cannot run {program}: install PostgreSQL's programs, on Debian the package postgresql-client"
    )]
    Program {
        /// Its name.
        program: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program of PostgreSQL has failed, and said why itself.
    #[error("{program} ended with {status}")]
    ProgramFailed {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The URL of the database is none that PostgreSQL's programs can be given.
    #[error("database.url: must be as `postgres://user@host/database`")]
    DatabaseUrl,
    /// The database that a backup is to be restored into is in use.
    #[error(
        "the database has tables of a service already: make an empty one, and name it with --database"
    )]
    DatabaseThere,
    /// A backup is of another kind of database than is named.
    #[error("the backup is of {0}: --database must name one of that kind")]
    OtherDatabase(&'static str),
    /// A secret can be read by others.
    #[error("{}: can be read by others; run `chmod 600`", .0.display())]
    OpenToOthers(PathBuf),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// Symbols or files of releases failed.
    #[error("symbols or files of releases failed")]
    Files(#[from] holdfast_service_store::blobs::BlobError),
    /// The object store cannot be used.
    #[error("the object store cannot be used")]
    ObjectStore(#[from] holdfast_service_store::blobs::bucket::BucketError),
    /// A setting of the object store is none.
    #[error("object_store.{setting}: {rule}")]
    ObjectStoreSetting {
        /// Which.
        setting: &'static str,
        /// What holds for it.
        rule: &'static str,
    },
    /// The symbol worker failed.
    #[error("the symbol worker failed")]
    Worker(#[from] crate::worker::WorkerError),
    /// A certificate or key failed.
    #[error("a certificate or key failed")]
    Issuing(#[from] IssuingError),
    /// Whoever made the catalog was refused.
    #[error("cannot make the catalog: {0}")]
    Catalog(String),
    /// The settings name a token, which this program cannot use.
    #[cfg(not(feature = "pkcs11"))]
    #[error(
        "keys.token: this program was built without the feature `pkcs11`; build it with `--features pkcs11`"
    )]
    WithoutTokens,
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// A file has no certificate or key.
    #[error("{}: has no {what} as PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// An address cannot be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The program cannot run.
    #[error("cannot start")]
    Start(#[source] io::Error),
    /// A sink of alerts cannot be set up.
    #[error("alerts cannot be set up")]
    Alerts(#[from] holdfast_service_alerts::SettingError),
    /// The settings of signing in cannot be used.
    #[error("nobody can sign in")]
    SignIn(#[from] holdfast_service_api::providers::SignInSettingsError),
    /// There are no random numbers.
    #[error("there are no random numbers")]
    Random,
    /// There is an owner already.
    #[error("there is a token already: whoever has one makes others")]
    Owned,
    /// The key of a root cannot be read or reached.
    #[error("the key of the root cannot be read")]
    Root(#[source] io::Error),
    /// The key of a root is elsewhere.
    #[error("catalog {0}: the key of its root is not here; name its file with --root-key")]
    NoRootKey(String),
    /// A request for an issuing certificate is none.
    #[error("{}", path.display())]
    Request {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: IssuingError,
    },
    /// A file that somebody has brought is too long.
    #[error("{}: has more than {most} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        most: u64,
    },
    /// A certificate is not that of the catalog's root.
    #[error("{}: is not the certificate of the root of the catalog {catalog}; `ca-certificate download` writes that", path.display())]
    OtherRoot {
        /// The file.
        path: PathBuf,
        /// The catalog.
        catalog: String,
    },
    /// No request waits for its certificate.
    #[error(
        "catalog {0}: no request waits for a certificate; `holdfast-service request` makes one"
    )]
    NoRequestWaits(String),
    /// An issuing certificate is refused.
    #[error("{}: is not what this service has asked for", path.display())]
    Install {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<holdfast_service_api::issuers::IssuersError>,
    },
    /// A catalog named in a command is not there.
    #[error("there is no catalog {0}")]
    NoCatalog(String),
    /// An issuing certificate cannot be made.
    #[error("cannot make an issuing certificate")]
    Issuers(#[from] holdfast_service_api::issuers::IssuersError),
}

/// Wraps an error of a file.
pub(crate) fn file(
    what: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> ServerError {
    let path = path.into();
    move |source| ServerError::File { what, path, source }
}

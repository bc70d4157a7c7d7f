//! Backups: one file with a snapshot of the database, the files of symbols, and the files of the folder, each of which is wrapped by
//! the key encryption key. That key is the one thing that is not in it: it has to be kept elsewhere, or the backup would open itself.
//!
//! A device's receipt that is newer than the backup is taken by the restored service as its own, so devices go on as if nothing had
//! been; what people changed since is gone.

use crate::error::{ServerError, file};
use crate::files::{self, Files};
use crate::folder;
use crate::postgres_tools;
use crate::run;
use crate::settings::{self, Settings};
use holdfast_evidence::messages::CatalogId;
use holdfast_service_api::service::{Clock, Service};
use holdfast_service_issuing::wrapping::KeyEncryptionKey;
use holdfast_service_store::backup::{self, Entry};
use holdfast_service_store::scope::Actor;
use holdfast_service_store::{Scope, Store};
use holdfast_types::hex::hex;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// More alerts than a service tells between two backups.
const MAX_LOST_ALERTS: u64 = 1_000_000;
/// Version of what a backup consists of; one of PostgreSQL has a dump of it.
const FORMAT: u32 = 3;
/// The versions before, which are read as well: without files of symbols, and of SQLite alone.
const READ: [u32; 3] = [1, 2, FORMAT];
/// Name of the entry that says what the backup is.
const MANIFEST: &str = "manifest";
/// Catalogs that are read at once.
const PAGE: u32 = 100;
/// Largest file of a folder that goes into a backup: settings, keys and certificates have some KiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub format: u32,
    /// When it was made, in seconds since 1970.
    pub made_at: u64,
    /// Version of the program that has made it.
    pub program: String,
    /// The catalogs, with the ends of their audit logs.
    pub catalogs: Vec<Head>,
}

/// The end of a catalog's audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Id of the catalog.
    pub catalog: String,
    /// Rows of its audit log that were a whole chain before the backup was made.
    pub rows: u64,
    /// Hash of the last of them, in hexadecimal.
    pub hash: String,
}

/// Backs the service of a folder up into a new file. The service may run meanwhile.
///
/// # Errors
/// The file is there, a chain of the audit log is broken, or something cannot be read or written.
pub async fn back_up(
    folder: &Path,
    file_path: &Path,
    clock: Clock,
) -> Result<Manifest, ServerError> {
    if file_path.exists() {
        return Err(ServerError::FileThere(file_path.to_owned()));
    }
    let settings = settings::load(folder)?;
    for (field, path) in settings.files() {
        if is_lost(path, &settings) {
            return Err(ServerError::FileNotKept { field, path: folder.join(path) });
        }
    }
    let made_at = clock();
    let service = run::open(folder, &settings, clock).await?;
    let program = env!("CARGO_PKG_VERSION").to_owned();
    let catalogs = heads(&service).await?;
    let manifest = Manifest { format: FORMAT, made_at, program, catalogs };
    let key = folder::key_encryption_key(&folder.join(&settings.keys.key_encryption_key))?;
    let mut entries = vec![sealed(&key, MANIFEST, toml::to_string(&manifest)?.as_bytes())?];
    for name in names(folder, &settings)? {
        let path = folder.join(&name);
        let content = fs::read(&path).map_err(file("read", &path))?;
        entries.push(sealed(&key, &format!("file {name}"), &content)?);
    }
    // It appears under its name once it is whole.
    let partial = with_ending(file_path, ".partial");
    let _ = fs::remove_file(&partial);
    let empty = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
    empty.map_err(file("write", &partial))?;
    let files = &service.symbolizer.files;
    let written = if service.store.is_sqlite() {
        service.store.back_up(&partial, entries, files).await.map_err(ServerError::from)
    } else {
        dump(&service, &settings.database_url(folder), &partial, entries).await
    };
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written?;
    service.store.clone().close().await;
    let sync = |path: &Path| File::open(path).and_then(|opened| opened.sync_all());
    sync(&partial).map_err(file("write", &partial))?;
    fs::rename(&partial, file_path).map_err(file("write", file_path))?;
    let directory = file_path.parent().filter(|path| !path.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    sync(directory).map_err(file("write", directory))?;
    Ok(manifest)
}

/// Writes a dump of PostgreSQL into the file of a backup. It is whole if `pg_dump` ends well, and none is kept otherwise.
async fn dump(
    service: &Service,
    url: &str,
    path: &Path,
    entries: Vec<Entry>,
) -> Result<u32, ServerError> {
    let mut dumping = postgres_tools::dump(url)?;
    let output = dumping.stdout.take().ok_or(ServerError::DatabaseUrl)?;
    let files = &service.symbolizer.files;
    let count = service.store.back_up_dump(path, entries, files, output).await?;
    postgres_tools::end("pg_dump", dumping).await?;
    Ok(count)
}

/// Makes a new folder of a backup, by the key encryption key that its files are wrapped by. The database is the one that the settings of the
/// backup name, or `database` in its place.
///
/// # Errors
/// The folder or the tables are there, the file is no backup or damaged, the key is another, or the settings name a file that is missing:
/// nothing was made then. Where the disk or the database fails, what was made is left, so that it can be looked at.
pub async fn restore(
    backup_path: &Path,
    folder: &Path,
    key: &KeyEncryptionKey,
    database: Option<&str>,
    clock: Clock,
) -> Result<Manifest, ServerError> {
    if folder.exists() {
        return Err(ServerError::There(folder.to_owned()));
    }
    if !backup_path.is_file() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(file("read", backup_path)(missing));
    }
    let entries = backup::entries(backup_path).await?;
    let manifest = opened(key, &entries, MANIFEST)?;
    let manifest: Manifest = String::from_utf8(manifest)
        .ok()
        .and_then(|text| toml::from_str(&text).ok())
        .filter(|manifest: &Manifest| READ.contains(&manifest.format))
        .ok_or_else(|| ServerError::BackupFormat(backup_path.to_owned()))?;
    let of_settings = opened(key, &entries, &format!("file {}", settings::FILE))?;
    let text = String::from_utf8_lossy(&of_settings).into_owned();
    let path = PathBuf::from(settings::FILE);
    let mut settings =
        Settings::read(&text).map_err(|source| ServerError::Settings { path, source })?;
    if let Some(url) = database {
        url.clone_into(&mut settings.database.url);
    }
    // Everything that can be wrong is looked at before anything is written: what is half there would have to be cleared away first.
    let mut kept = checked_files(key, &entries, &settings)?;
    let key_path = key_to_write(key, folder, &settings)?;
    files::check(&settings)?;
    let url = settings.database_url(folder);
    let is_dump = backup::has_dump(backup_path).await?;
    let of_sqlite = url.strip_prefix("sqlite:").map(PathBuf::from);
    match (is_dump, &of_sqlite) {
        (true, Some(_)) => return Err(ServerError::OtherDatabase("PostgreSQL")),
        (false, None) => return Err(ServerError::OtherDatabase("SQLite")),
        (false, Some(path)) if path.exists() => return Err(ServerError::FileThere(path.clone())),
        (false, Some(path)) => must_have_directory(path, folder)?,
        (true, None) if Store::has_tables(&url).await? => return Err(ServerError::DatabaseThere),
        (true, None) => postgres_tools::must_restore().await?,
    }
    if database.is_some() {
        for (_, content) in kept.iter_mut().filter(|(name, _)| *name == Path::new(settings::FILE)) {
            *content = settings.to_text()?.into_bytes();
        }
    }
    folder::make_directory(folder)?;
    folder::make_directory(&folder.join(&settings.keys.roots))?;
    for (name, content) in &kept {
        let path = folder.join(name);
        folder::write_secret(&path, content).map_err(file("write", path))?;
    }
    if let Some(path) = key_path {
        folder::write_secret(&path, key.to_text()).map_err(file("write", path))?;
    }
    let blobs = Files::open(folder, &settings)?.symbols;
    backup::restore_blobs(backup_path, &blobs).await?;
    match of_sqlite {
        Some(database) => {
            fs::copy(backup_path, &database).map_err(file("write", &database))?;
            backup::strip(&database).await?;
        }
        None => {
            let mut restoring = postgres_tools::restore(&url)?;
            let input = restoring.stdin.take().ok_or(ServerError::DatabaseUrl)?;
            let written = backup::write_dump(backup_path, input).await;
            // Where it has ended early, its own words say more than that nobody has read.
            postgres_tools::end("pg_restore", restoring).await?;
            written?;
        }
    }
    let service = run::open(folder, &settings, clock).await?;
    // A backup of before has no files of symbols: whoever has the programs brings them again.
    service.store.forget_missing_symbols(&blobs).await?;
    // None has the files of releases: whoever has published them has them served again.
    service.store.forget_release_files().await?;
    service.store.leave_out_alert_numbers(MAX_LOST_ALERTS).await?;
    // Each chain is followed to its end, and has the rows that the manifest names: what came between the two is behind them.
    heads(&service).await?;
    for head in &manifest.catalogs {
        let scope = match CatalogId::parse(&head.catalog) {
            Some(catalog) => service.store.scope_of_device(catalog).await?,
            None => None,
        };
        let lacks = || ServerError::BackupLacks(head.catalog.clone());
        let hash = hash_of_row(&service, scope.ok_or_else(lacks)?, head.rows).await?;
        if hash != head.hash {
            return Err(lacks());
        }
    }
    service.store.clone().close().await;
    Ok(manifest)
}

/// Returns the hash of a catalog's audit log up to a row, in hexadecimal; none where it has no such row.
async fn hash_of_row(service: &Service, scope: Scope, row: u64) -> Result<String, ServerError> {
    let rows = service.store.audit_rows(scope, row.saturating_sub(1), 1).await?;
    Ok(rows.first().map(|(_, hash)| hex(hash)).unwrap_or_default())
}

/// Follows the audit log of each catalog, and returns its end.
async fn heads(service: &Service) -> Result<Vec<Head>, ServerError> {
    let actor = Actor::of_program("backup");
    let (mut heads, mut after) = (Vec::new(), String::new());
    loop {
        let catalogs = service.store.catalogs(&actor, &after, PAGE).await?;
        let Some(last) = catalogs.last() else { return Ok(heads) };
        after = last.id.to_string();
        for catalog in &catalogs {
            let Some(scope) = service.store.scope_of(&actor, catalog.id).await? else { continue };
            let id = catalog.id.to_string();
            let rows = service.store.verify_audit(scope).await?;
            let rows = rows.map_err(|broken| ServerError::Audit { catalog: id.clone(), broken })?;
            let hash = hash_of_row(service, scope, rows).await?;
            heads.push(Head { catalog: id, rows, hash });
        }
    }
}

/// Names of the folder's files that go into a backup: all but the database and the key encryption key.
fn names(folder: &Path, settings: &Settings) -> Result<Vec<String>, ServerError> {
    let url = settings.database_url(folder);
    let database = url.strip_prefix("sqlite:").map(PathBuf::from).unwrap_or_default();
    let is_database = |path: &Path| {
        let beside = ["-wal", "-shm", "-journal"].map(|ending| with_ending(&database, ending));
        path == database || beside.iter().any(|other| path == other)
    };
    let key = folder.join(&settings.keys.key_encryption_key);
    let mut names = Vec::new();
    for directory in [folder.to_owned(), folder.join(&settings.keys.roots)] {
        for entry in fs::read_dir(&directory).map_err(file("read", &directory))? {
            let path = entry.map_err(file("read", &directory))?.path();
            let metadata = path.metadata().map_err(file("read", &path))?;
            if !metadata.is_file() || is_database(&path) || path == key {
                continue;
            }
            if metadata.len() > MAX_FILE_BYTES {
                return Err(ServerError::NotOfTheFolder(path));
            }
            let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
            names.push(name.ok_or(ServerError::NameIsNoText(path.clone()))?.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Opens the files of a backup, and checks that the settings name no other that is missing.
fn checked_files<'e>(
    key: &KeyEncryptionKey,
    entries: &'e [Entry],
    settings: &Settings,
) -> Result<Vec<(&'e Path, Vec<u8>)>, ServerError> {
    let mut files = Vec::new();
    for entry in entries {
        let Some(name) = entry.name.strip_prefix("file ") else { continue };
        files.push((checked(name, settings)?, opened(key, entries, &entry.name)?));
    }
    for (field, path) in settings.files() {
        let is_kept = files.iter().any(|(name, _)| *name == path);
        // What `tls` names may be kept elsewhere, as the keys of roots may: it is needed once the service runs.
        let may_be_missing = field.starts_with("tls.") && !is_lost(path, settings);
        if path.is_absolute() {
            if !path.is_file() {
                return Err(ServerError::FileOfSettings { field, path: path.to_owned() });
            }
        } else if !is_kept && !may_be_missing {
            return Err(ServerError::FileNotKept { field, path: path.to_owned() });
        }
    }
    Ok(files)
}

/// True for a file in a directory of the folder that is not in a backup.
fn is_lost(path: &Path, settings: &Settings) -> bool {
    let is_name = path.to_str().is_some_and(|name| checked(name, settings).is_ok());
    !path.is_absolute() && !is_name
}

/// Returns where the key encryption key is to be written; nowhere where it is in the environment, or lies there already.
fn key_to_write(
    key: &KeyEncryptionKey,
    folder: &Path,
    settings: &Settings,
) -> Result<Option<PathBuf>, ServerError> {
    if std::env::var_os(folder::KEY_VARIABLE).is_some() {
        return Ok(None);
    }
    let path = folder.join(&settings.keys.key_encryption_key);
    if !path.exists() {
        must_have_directory(&path, folder)?;
        return Ok(Some(path));
    }
    let text = folder::read_secret(&path)?;
    if text.trim() == key.to_text().trim() { Ok(None) } else { Err(ServerError::OtherKey(path)) }
}

/// A file outside of the folder lies in a directory that is there.
fn must_have_directory(path: &Path, folder: &Path) -> Result<(), ServerError> {
    let directory = path.parent().unwrap_or(folder);
    if directory == folder || directory.is_dir() {
        return Ok(());
    }
    let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
    Err(file("write into", directory)(missing))
}

/// A name of a backup's entry, which lies in the folder or in that of the roots.
fn checked<'n>(name: &'n str, settings: &Settings) -> Result<&'n Path, ServerError> {
    let path = Path::new(name);
    let is_plain = |path: &Path| {
        let mut parts = path.components();
        let first = matches!(parts.next(), Some(std::path::Component::Normal(_)));
        first && parts.next().is_none()
    };
    let in_roots = path.strip_prefix(&settings.keys.roots).is_ok_and(is_plain);
    if is_plain(path) || in_roots {
        Ok(path)
    } else {
        Err(ServerError::BackupName(name.to_owned()))
    }
}

fn sealed(key: &KeyEncryptionKey, name: &str, content: &[u8]) -> Result<Entry, ServerError> {
    let content = key.wrap(&purpose(name), content)?;
    Ok(Entry { name: name.to_owned(), content })
}

fn opened(key: &KeyEncryptionKey, entries: &[Entry], name: &str) -> Result<Vec<u8>, ServerError> {
    let entry = entries.iter().find(|entry| entry.name == name);
    let entry = entry.ok_or_else(|| ServerError::BackupName(name.to_owned()))?;
    Ok(key.unwrap(&purpose(name), &entry.content)?)
}

/// What an entry is wrapped for.
fn purpose(name: &str) -> String {
    format!("backup {name}")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_refused() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings::new(any, any, Vec::new(), "sqlite:service.db".to_owned());
        for good in ["settings.toml", "roots/a.key"] {
            assert_eq!(checked(good, &settings).unwrap(), Path::new(good));
        }
        for bad in ["../a", "/etc/passwd", "roots/../../a", "other/a", "roots/a/b", "", "."] {
            assert!(checked(bad, &settings).is_err(), "{bad}");
        }
    }
}

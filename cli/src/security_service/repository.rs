//! Repositories that the Security Service serves to devices: their files are sent, and then the metadata that name them.

use super::in_catalog::{self, CatalogArgs, InCatalog};
use super::release;
use super::repository_name::{Name, NameArgs};
use super::session;
use super::shown::{self, cell, items};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use holdfast_builder::workspace;
use holdfast_release::RepositoryName;
use holdfast_repository::Repository;
use holdfast_types::hex::{hex, sha256};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Most bytes of a file that the service takes.
const MAX_BYTES: usize = 256 << 20;

/// Arguments of `release serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "The service verifies the metadata as a device does, from the root that the catalog trusts (`release trust`), and \
                  serves them with the files that they name. It signs nothing, and a device believes it no more than any other server. Only \
                  files that the service does not hold yet are sent.\n\n\
                  Example: holdfast release serve target/updates/os"
)]
pub struct ServeArgs {
    /// Directory of the repository.
    directory: PathBuf,
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of a publication about the service that serves it.
#[derive(Debug, Args)]
pub(crate) struct ToArgs {
    /// Have the Security Service at this URL, which is logged in to, serve the repository to devices from then on.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Which of a device's repositories it is. Without it: what the directory is called, `os` or `oem`.
    #[arg(long, value_enum, requires = "to")]
    repository: Option<Name>,
}

impl ToArgs {
    /// Looks whether the service can be reached, before anything is signed.
    ///
    /// # Errors
    /// Another service is logged in to, or the repository has no name.
    pub(crate) fn check(&self, directory: &Path) -> Result<()> {
        let Some(to) = &self.to else { return Ok(()) };
        let session = session::load()?;
        let known = session.service.trim_end_matches('/');
        ensure!(
            known == to.trim_end_matches('/'),
            "--to: {to} is not logged in to, but {known} is; log in with `login {to}`"
        );
        NameArgs::new(self.repository).of(directory).map(|_| ())
    }

    /// Has the service serve what was published.
    ///
    /// # Errors
    /// The service refuses it, or cannot be reached.
    pub(crate) fn serve(&self, directory: &Path, catalog: Option<&String>) -> Result<()> {
        if self.to.is_none() {
            return Ok(());
        }
        let name = NameArgs::new(self.repository).of(directory)?;
        let args = CatalogArgs { catalog: catalog.cloned(), json: false };
        let answer = serve_directory(&in_catalog::open(&args)?, directory, name)?;
        say(&answer, name);
        Ok(())
    }
}

fn say(answer: &Value, name: RepositoryName) {
    let (files, targets) = (cell(answer, "sent"), cell(answer, "targets"));
    println!("served: {name}, targets {targets}; {files} files were sent");
    release::say_ignored(answer);
}

/// Has the service serve a repository.
pub(crate) fn serve(args: &ServeArgs) -> Result<()> {
    let name = args.name.of(&args.directory)?;
    let answer = serve_directory(&in_catalog::open(&args.catalog)?, &args.directory, name)?;
    if args.catalog.json {
        return shown::json(&answer);
    }
    say(&answer, name);
    Ok(())
}

/// Sends the files of a repository that the service does not hold, and then its metadata. Returns the service's answer, with the number of
/// files that were sent.
fn serve_directory(catalog: &InCatalog, directory: &Path, name: RepositoryName) -> Result<Value> {
    let repository = Repository::open(directory)?;
    // Asked before anything is sent, which may be much.
    match catalog.get(&["repositories", name.name()]) {
        Ok(_) => {}
        Err(error) if error.refused_for() == Some("not-found") => bail!(
            "{}: the catalog trusts no root of the repository {name}; an owner sets one by `release trust`",
            directory.display()
        ),
        Err(error) => return Err(error.into()),
    }
    let mut files = BTreeMap::new();
    for (path, target) in repository.targets() {
        if let Some((digest, place)) = target.sha256().zip(target.place(&path)) {
            files.insert(hex(&digest), directory.join(place));
        }
    }
    let list = catalog.list(&["release-files"], &[])?;
    let held: BTreeSet<String> = items(&list).iter().map(|item| cell(item, "sha256")).collect();
    let missing: Vec<_> = files.iter().filter(|(digest, _)| !held.contains(*digest)).collect();
    for (number, (digest, path)) in (1..).zip(&missing) {
        let bytes = workspace::read(path)?;
        let length = bytes.len();
        ensure!(
            length <= MAX_BYTES,
            "{}: has {length} bytes, and {MAX_BYTES} are taken",
            path.display()
        );
        ensure!(
            sha256(&bytes) == **digest,
            "{}: is not what the targets name; `release verify` says what is wrong",
            path.display()
        );
        eprintln!(
            "sending file {number} of {}: {} ({length} bytes)",
            missing.len(),
            path.display()
        );
        let sent = catalog.put_bytes(&["release-files", digest], bytes);
        sent.with_context(|| path.display().to_string())?;
    }
    let body = json!({ "metadata": release::metadata(directory, &repository)?, "serve": true });
    let answer = catalog.post(&["repositories", name.name(), "metadata"], &body);
    let mut answer = answer.with_context(|| directory.display().to_string())?;
    if let Some(members) = answer.as_object_mut() {
        members.insert("sent".to_owned(), json!(missing.len()));
    }
    Ok(answer)
}

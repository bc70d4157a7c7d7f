//! What the service knows of releases: the digests that devices measure, and which of them were withdrawn.

use super::in_catalog::{self, CatalogArgs, InCatalog};
use super::repository_name::NameArgs;
use super::shown;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use holdfast_builder::failure::HostLacks;
use holdfast_builder::workspace;
use holdfast_release::RepositoryName;
use holdfast_release::metadata::Role;
use holdfast_repository::{Repository, of_image};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Arguments of `release add`.
#[derive(Debug, Args)]
#[command(
    after_help = "Devices that run a release which the service does not know get no certificate. A release is what the boot \
                  loader measures, with version and rollback index: an image has that, and so have the signed targets of a repository \
                  that `release publish` has made. Where the catalog trusts a root of releases (`release trust`), the service \
                  is sent the repository's signed metadata and verifies them itself.\n\n\
                  Example: holdfast release add target/updates/os\n\
                  Example: holdfast release add --image target/holdfast/pump.img"
)]
pub struct AddArgs {
    /// Directory of a repository, whose releases of the OS are added.
    #[arg(required_unless_present_any = ["images", "boot"])]
    directory: Option<PathBuf>,
    /// Image whose slot is added; may be given several times.
    #[arg(long = "image", value_name = "IMG", conflicts_with = "directory")]
    images: Vec<PathBuf>,
    /// Digest that the boot loader extends PCR 8 with, as `release show` and `image show` say it.
    #[arg(
        long, value_name = "DIGEST", conflicts_with_all = ["directory", "images"],
        requires_all = ["release_version", "index"]
    )]
    boot: Option<String>,
    /// Version of the release with this digest.
    #[arg(id = "release_version", long = "version", value_name = "VERSION", requires = "boot")]
    version: Option<String>,
    /// Rollback index of the release with this digest.
    #[arg(long, value_name = "N", requires = "boot")]
    index: Option<u64>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `release trust`.
#[derive(Debug, Args)]
#[command(
    after_help = "From then on the service takes releases from metadata that lead back to this root, and none by hand.\n\n\
                  Example: holdfast release trust target/updates/os\n\
                  Example: holdfast release trust target/updates/oem/metadata/1.root.json --repository oem"
)]
pub struct TrustArgs {
    /// Directory of the repository, whose newest root is trusted; or the file of a root. Where the service is to serve devices, take the
    /// oldest root that their images have: they follow the others from it one by one.
    root: PathBuf,
    #[command(flatten)]
    name: NameArgs,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `release list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast release list")]
pub struct ListArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `release withdraw`.
#[derive(Debug, Args)]
#[command(
    after_help = "Devices that run it get certificates for updates alone, until they run another.\n\n\
                  Example: holdfast release withdraw DIGEST"
)]
pub struct WithdrawArgs {
    #[command(flatten)]
    release: DigestArgs,
}

/// Arguments of `release restore`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast release restore DIGEST")]
pub struct RestoreArgs {
    #[command(flatten)]
    release: DigestArgs,
}

/// A release of a catalog.
#[derive(Debug, Args)]
pub(crate) struct DigestArgs {
    /// Digest that the boot loader extends PCR 8 with, as `release list` says it.
    boot: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// A release as the service is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Digest of the FIT, in hexadecimal.
    pub(crate) boot: String,
    /// Version.
    pub(crate) version: String,
    /// Rollback index.
    pub(crate) index: u64,
}

/// Tells the service of a release. One that it knows already stays as it is.
///
/// # Errors
/// Another release of this digest is known, or the service refuses.
pub(crate) fn tell(catalog: &InCatalog, release: &Measured) -> Result<Value> {
    let Measured { boot, version, index } = release;
    let body = json!({ "boot": boot, "version": version, "index": index });
    catalog
        .post(&["releases"], &body)
        .with_context(|| format!("release {version}, boot digest {boot}"))
}

/// Returns the releases that the arguments name; `repository` is what their directory has.
fn releases(args: &AddArgs, repository: Option<&Repository>) -> Result<Vec<Measured>> {
    if let Some(boot) = &args.boot {
        let (version, index) = args.version.as_ref().zip(args.index).ok_or_else(|| {
            HostLacks("--boot: needs --version and --index of the release as well".to_owned())
        })?;
        return Ok(vec![Measured { boot: boot.clone(), version: version.clone(), index }]);
    }
    let mut found = Vec::new();
    for image in &args.images {
        let release = of_image(image)?.release;
        ensure!(!release.boot_digest.is_empty(), "{}: has no boot digest", image.display());
        let (boot, version) = (release.boot_digest, release.version.to_string());
        found.push(Measured { boot, version, index: release.rollback_index });
    }
    if let Some((directory, repository)) = args.directory.as_ref().zip(repository) {
        for (_, target) in repository.targets() {
            // Releases of apps have none: apps are in the claims, and a package's signature says whose they are.
            let measured = target.custom.filter(|release| !release.boot_digest.is_empty());
            found.extend(measured.map(|release| Measured {
                boot: release.boot_digest,
                version: release.version.to_string(),
                index: release.rollback_index,
            }));
        }
        ensure!(
            !found.is_empty(),
            "{}: has no release of the OS with a boot digest; `release publish --image` makes one",
            directory.display()
        );
    }
    if found.is_empty() {
        bail!("no release is named");
    }
    Ok(found)
}

/// Returns the texts of a repository's metadata, by the names of their files.
pub(crate) fn metadata(
    directory: &Path,
    repository: &Repository,
) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for path in repository.metadata_files() {
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        files.insert(name, workspace::read_text(&directory.join(&path))?);
    }
    Ok(files)
}

/// True if the catalog takes releases from signed metadata alone.
fn trusts_a_root(catalog: &InCatalog) -> Result<bool> {
    match catalog.get(&["repositories", RepositoryName::Os.name()]) {
        Ok(_) => Ok(true),
        Err(error) if error.refused_for() == Some("not-found") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Has the service take what a repository's signed metadata name.
fn add_signed(
    args: &AddArgs,
    catalog: &InCatalog,
    directory: &Path,
    repository: &Repository,
) -> Result<()> {
    let body = json!({ "metadata": metadata(directory, repository)? });
    let answer = catalog.post(&["repositories", RepositoryName::Os.name(), "metadata"], &body);
    let answer = answer.with_context(|| directory.display().to_string())?;
    if args.catalog.json {
        return shown::json(&answer);
    }
    let of = |member: &str| answer.get(member).and_then(Value::as_array).cloned();
    for release in of("releases").unwrap_or_default() {
        let [version, index, boot] = ["version", "index", "boot"].map(|m| shown::cell(&release, m));
        println!("release {version}, rollback index {index}: {boot}");
    }
    say_ignored(&answer);
    Ok(())
}

/// Says which releases of the OS the service cannot attest, and why.
pub(crate) fn say_ignored(answer: &Value) {
    let ignored = answer.get("ignored").and_then(Value::as_array).into_iter().flatten();
    for ignored in ignored {
        let [path, reason] = ["path", "reason"].map(|m| shown::cell(ignored, m));
        eprintln!("{path} is not taken: it {reason}");
    }
}

/// Adds releases.
pub(crate) fn add(args: &AddArgs) -> Result<()> {
    let repository = args.directory.as_deref().map(Repository::open).transpose()?;
    let releases = releases(args, repository.as_ref())?;
    let catalog = in_catalog::open(&args.catalog)?;
    if let Some((directory, repository)) = args.directory.as_ref().zip(repository.as_ref())
        && trusts_a_root(&catalog)?
    {
        return add_signed(args, &catalog, directory, repository);
    }
    let mut answers = Vec::new();
    for release in &releases {
        answers.push(tell(&catalog, release)?);
        if !args.catalog.json {
            let Measured { boot, version, index } = release;
            println!("release {version}, rollback index {index}: {boot}");
        }
    }
    if args.catalog.json { shown::json(&json!({ "items": answers })) } else { Ok(()) }
}

/// Sets the root of releases that the catalog trusts.
pub(crate) fn trust(args: &TrustArgs) -> Result<()> {
    let path = if args.root.is_dir() {
        let version = Repository::open(&args.root)?.root().common.version;
        args.root.join("metadata").join(Role::Root.file(version))
    } else {
        args.root.clone()
    };
    let name = if args.root.is_dir() {
        args.name.of(&args.root)?
    } else {
        // The directory of a root's file is `metadata` in the repository's.
        args.name.of(args.root.parent().and_then(Path::parent).unwrap_or(&args.root))?
    };
    let body = json!({ "root": workspace::read_text(&path)? });
    let answer =
        in_catalog::open(&args.catalog)?.put(&["repositories", name.name(), "root"], &body);
    let answer = answer.with_context(|| path.display().to_string())?;
    let sentence = format!("releases are taken from what {} vouches for", path.display());
    shown::done(&answer, args.catalog.json, &sentence)
}

/// Lists releases.
pub(crate) fn list(args: &ListArgs) -> Result<()> {
    let list = in_catalog::open(&args.catalog)?.list(&["releases"], &[])?;
    let columns = [
        ("VERSION", "version"),
        ("INDEX", "index"),
        ("WITHDRAWN", "withdrawn"),
        ("DIGEST", "boot"),
    ];
    shown::list(&list, args.catalog.json, &columns)
}

/// Withdraws a release.
pub(crate) fn withdraw(args: &WithdrawArgs) -> Result<()> {
    change(&args.release, "withdraw", "is withdrawn")
}

/// Takes the withdrawal of a release back.
pub(crate) fn restore(args: &RestoreArgs) -> Result<()> {
    change(&args.release, "restore", "is good again")
}

fn change(args: &DigestArgs, verb: &str, done: &str) -> Result<()> {
    let DigestArgs { boot, catalog } = args;
    let answer = in_catalog::open(catalog)?.post(&["releases", boot, verb], &Value::Null)?;
    shown::done(&answer, catalog.json, &format!("{boot} {done}"))
}

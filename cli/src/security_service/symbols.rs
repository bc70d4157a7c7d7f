//! `symbols`: programs with their symbols, by which the service names the functions in which programs have failed.

use super::in_catalog::{self, CatalogArgs, InCatalog};
use super::shown::{self, cell, items};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use holdfast_builder::workspace;
use holdfast_types::hex::hex;
use object::read::{File, Object};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Commands about symbols.
#[derive(Debug, Subcommand)]
pub enum SymbolsCommand {
    /// Give the Security Service programs with their symbols.
    Upload(UploadArgs),
    /// List the programs that the Security Service has symbols of.
    List(ListArgs),
    /// Have the Security Service forget the symbols of a program.
    Remove(RemoveArgs),
}

/// Arguments of `symbols upload`.
#[derive(Debug, Args)]
#[command(
    after_help = "A program is known by the build id that its linker has written, and is sent once. `image build` keeps the \
                  programs of an image in IMAGE.symbols beside it, and `release publish --upload-symbols` sends them \
                  with a release.\n\nExample: holdfast symbols upload target/holdfast/pump.symbols"
)]
pub struct UploadArgs {
    /// Directory of programs with their symbols, or one program.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `symbols list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast symbols list --json")]
pub struct ListArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `symbols remove`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast symbols remove BUILD-ID")]
pub struct RemoveArgs {
    /// The program's build id, as `symbols list` says it.
    build_id: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of a release about the symbols of its programs.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// Give the Security Service that is logged in to the programs' symbols, before anything is published.
    #[arg(long)]
    upload_symbols: bool,
    /// Directory of programs with their symbols, where they are not in IMAGE.symbols beside an image and in apps.symbols beside
    /// a package; may be given several times.
    #[arg(long = "symbols", value_name = "DIR", requires = "upload_symbols")]
    directories: Vec<PathBuf>,
    /// Id or name of the catalog that gets the symbols, or whose devices are served.
    #[arg(long, value_name = "CATALOG")]
    catalog: Option<String>,
}

impl ReleaseArgs {
    /// Returns the catalog that was named.
    pub(crate) fn catalog(&self) -> Option<&String> {
        self.catalog.as_ref()
    }

    /// Uploads the symbols of what is released, if that was asked for.
    ///
    /// # Errors
    /// There are none, or the service refuses them.
    pub(crate) fn upload(&self, images: &[PathBuf], apps: &[PathBuf]) -> Result<()> {
        if !self.upload_symbols {
            return Ok(());
        }
        let of_images = images.iter().map(|image| image.with_extension("symbols"));
        let of_apps = apps.iter().map(|package| package.with_file_name("apps.symbols"));
        let usual: BTreeSet<PathBuf> = of_images.chain(of_apps).collect();
        let usual: Vec<PathBuf> = usual.into_iter().collect();
        let directories = if self.directories.is_empty() { &usual } else { &self.directories };
        if directories.is_empty() {
            bail!(
                "--upload-symbols: name what is published with --image or --app, or symbols with --symbols"
            );
        }
        if let Some(missing) = directories.iter().find(|path| !path.is_dir()) {
            bail!(
                "{}: there are no symbols; name the directory that has them with --symbols",
                missing.display()
            );
        }
        let args = CatalogArgs { catalog: self.catalog.clone(), json: false };
        let programs = programs(directories)?;
        upload(&in_catalog::open(&args)?, programs).map(|uploaded| uploaded.print())
    }
}

/// Programs with symbols by their build ids, and those that have none.
#[derive(Debug, Default)]
struct Programs {
    by_build_id: BTreeMap<String, PathBuf>,
    unknown: Vec<PathBuf>,
}

/// What became of programs.
#[derive(Debug)]
struct Uploaded {
    items: Vec<Value>,
    unknown: Vec<PathBuf>,
}

impl Uploaded {
    fn new_ones(&self) -> usize {
        self.items.iter().filter(|item| item.get("new") == Some(&Value::Bool(true))).count()
    }

    fn print(&self) {
        for path in &self.unknown {
            eprintln!("{}: has no build id, and is not sent", path.display());
        }
        println!("symbols of {} programs, {} of them new", self.items.len(), self.new_ones());
    }
}

/// Finds the programs of directories, or programs that are named themselves. One that lies there under several names is one.
fn programs(paths: &[PathBuf]) -> Result<Programs> {
    let mut found = Programs::default();
    for path in paths {
        let mut files = Vec::new();
        if path.is_dir() {
            let entries =
                path.read_dir().with_context(|| format!("cannot list {}", path.display()))?;
            files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
            files.sort();
        } else {
            files.push(path.clone());
        }
        for file in files {
            match build_id(&file)? {
                Some(id) => drop(found.by_build_id.entry(id).or_insert(file)),
                None => found.unknown.push(file),
            }
        }
    }
    ensure!(
        !found.by_build_id.is_empty(),
        "no program with a build id is there; programs are linked with `--build-id`"
    );
    Ok(found)
}

/// Returns the build id of a program, in hexadecimal.
fn build_id(path: &Path) -> Result<Option<String>> {
    let bytes = workspace::read(path)?;
    let file = File::parse(&*bytes).ok();
    Ok(file.and_then(|file| file.build_id().ok().flatten().map(hex)))
}

/// Most bytes of a program that the service takes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Sends the programs that the service does not have yet.
fn upload(catalog: &InCatalog, programs: Programs) -> Result<Uploaded> {
    let list = catalog.list(&["symbols"], &[])?;
    let known: BTreeSet<String> = items(&list).iter().map(|item| cell(item, "build_id")).collect();
    let mut sent = Vec::new();
    for (id, path) in programs.by_build_id {
        let is_new = if known.contains(&id) {
            false
        } else {
            let bytes = workspace::read(&path)?;
            ensure!(
                bytes.len() <= MAX_BYTES,
                "{}: has {} bytes, and {MAX_BYTES} are taken; leave out debug information",
                path.display(),
                bytes.len()
            );
            let answer = catalog.put_bytes(&["symbols", &id], bytes);
            let answer = answer.with_context(|| path.display().to_string())?;
            answer.get("new") == Some(&Value::Bool(true))
        };
        let program = path.file_name().map(|name| name.to_string_lossy().into_owned());
        sent.push(json!({ "program": program, "build_id": id, "new": is_new }));
    }
    Ok(Uploaded { items: sent, unknown: programs.unknown })
}

pub(crate) fn run(command: &SymbolsCommand) -> Result<()> {
    match command {
        SymbolsCommand::Upload(args) => {
            let programs = programs(&args.paths)?;
            let uploaded = upload(&in_catalog::open(&args.catalog)?, programs)?;
            if args.catalog.json {
                return shown::json(&json!({ "items": uploaded.items }));
            }
            uploaded.print();
            Ok(())
        }
        SymbolsCommand::List(args) => {
            let list = in_catalog::open(&args.catalog)?.list(&["symbols"], &[])?;
            let columns = [
                ("BUILD ID", "build_id"),
                ("BYTES", "bytes"),
                ("ADDED", "added_at"),
                ("BY", "added_by"),
            ];
            shown::list(&list, args.catalog.json, &columns)
        }
        SymbolsCommand::Remove(args) => {
            let path = ["symbols", &args.build_id, "remove"];
            let answer = in_catalog::open(&args.catalog)?.post(&path, &Value::Null)?;
            let sentence = format!("the symbols of {} are forgotten", args.build_id);
            shown::done(&answer, args.catalog.json, &sentence)
        }
    }
}

//! `app build`, `app pack`, `app sign` and `app show`.

use crate::invocation::Invocation;
use anyhow::{Context, Error, Result, anyhow, bail};
use clap::Args;
use holdfast_builder::failure::HostLacks;
use holdfast_builder::image::ImageBuilder;
use holdfast_builder::output;
use holdfast_builder::workspace;
use holdfast_images::app::{self, App};
use holdfast_images::destination;
use holdfast_images::foreign_root;
use holdfast_images::hex;
use holdfast_images::key::{PrivateKey, PublicKey};
use holdfast_images::package::{self, PackError};
use holdfast_images::root::EntryKind;
use holdfast_sandbox::app_manifest;
use holdfast_sandbox::package::SIGNATURE_BYTES;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Arguments of `app build`.
#[derive(Debug, Args)]
#[command(
    after_help = "Compiles a Cargo package, or the C files in src/, for the device. An app without \
                  either brings its program below root/.\n\n\
                  Example: holdfast app build examples/hello\n\
                  Example: holdfast app build examples/mqtt --output target/mqtt"
)]
pub struct BuildArgs {
    /// App directory.
    directory: PathBuf,
    /// Make an app directory here of what was built: its manifest can be changed for a site, and nothing is compiled for it.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Arguments of `app pack`.
#[derive(Debug, Args)]
#[command(
    after_help = "With --root, nothing is compiled: the program is the one that lies at EntryPoint below that \
                  directory (as Buildroot's target/), and the loader and libraries that it needs come with it. The app \
                  sees all files below /app. What lies in root/ of the app directory is taken as well, and instead of a file from there.\n\n\
                  Example: holdfast app pack examples/hello --output hello.package\n         \
                  holdfast app pack apps/meter --root output/target --with usr/share/meter --output meter.package"
)]
pub struct PackArgs {
    /// App directory.
    directory: PathBuf,
    /// Root file system of another system that the app's files come from.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File or directory below that root which the app needs as well; may be given several times.
    #[arg(long, value_name = "PATH", requires = "root")]
    with: Vec<PathBuf>,
    /// Path to write the package to.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Product that it is for; any when not given.
    #[arg(long, default_value = "")]
    product: String,
    /// Board that it is for; any when not given.
    #[arg(long, default_value = "")]
    board: String,
}

/// Arguments of `app sign`.
#[derive(Debug, Args)]
#[command(
    after_help = "With a key at hand: --key oem.pem. With a key kept elsewhere: write the bytes to \
                  sign with --public oem.pub.pem --emit-bytes FILE, sign them there (Ed25519), and \
                  come back with --public oem.pub.pem --signature FILE.\n\n\
                  Example: holdfast app sign hello.package --key oem.pem"
)]
pub struct SignArgs {
    /// The package; it is signed in place.
    package: PathBuf,
    /// Private key.
    #[arg(long, value_name = "PEM", conflicts_with = "public")]
    key: Option<PathBuf>,
    /// Public key of a key kept elsewhere.
    #[arg(long, value_name = "PEM")]
    public: Option<PathBuf>,
    /// Write the bytes to sign to this file.
    #[arg(long, value_name = "FILE", requires = "public", conflicts_with = "signature")]
    emit_bytes: Option<PathBuf>,
    /// A signature of 64 bytes made elsewhere.
    #[arg(long, value_name = "FILE", requires = "public")]
    signature: Option<PathBuf>,
}

/// Arguments of `app show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast app show hello.package --key oem.pub.pem")]
pub struct ShowArgs {
    /// A package.
    package: PathBuf,
    /// Public keys that may have signed it; without any, the signature is not checked.
    #[arg(long = "key", value_name = "PEM")]
    keys: Vec<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Reason for which an app is built in a checkout, for the error without one.
const COMPILES: &str =
    "an app is compiled as a checkout says, with its toolchain and the profile of its programs";

pub(crate) fn build(invocation: &Invocation, args: &BuildArgs) -> Result<()> {
    let workspace = invocation.workspace(COMPILES)?;
    if let Some(output) = &args.output {
        app::refuse_output(&args.directory, output)?;
        if output.exists() {
            bail!("{}: is there already; name a directory that is made", output.display());
        }
    }
    let app = ImageBuilder::new(&workspace, false, false)?.app(&args.directory)?;
    for (path, file) in &app.files {
        println!("{:>9}  /{path}", file.bytes.len());
    }
    args.output.as_ref().map_or(Ok(()), |output| write_directory(&app, output))
}

/// Writes what an app consists of as a directory without sources.
fn write_directory(app: &App, directory: &Path) -> Result<()> {
    workspace::write(&directory.join(app_manifest::FILE_NAME), &app.manifest_text)?;
    let root = directory.join("root");
    for (name, file) in &app.files {
        let path = root.join(name);
        workspace::write(&path, &file.bytes)?;
        if file.executable {
            fs::set_permissions(&path, Permissions::from_mode(0o755))
                .with_context(|| format!("cannot make {} executable", path.display()))?;
        }
    }
    for (name, target) in &app.links {
        let path = root.join(name);
        workspace::make_directory(path.parent().unwrap_or(&root))?;
        symlink(target, &path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

pub(crate) fn pack(invocation: &Invocation, args: &PackArgs) -> Result<()> {
    // Cheap mistakes are said before a compiler is fetched and run.
    if !args.board.is_empty() {
        invocation.boards()?.of_option(&args.board)?;
    }
    destination::check(&args.output)?;
    app::refuse_output(&args.directory, &args.output)?;
    let app = match &args.root {
        Some(root) => {
            destination::refuse_inside(&args.output, [root.as_path()])?;
            foreign_root::load(&args.directory, root, &args.with)?
        }
        None => {
            let workspace = invocation.workspace(COMPILES)?;
            workspace.refuse_tracked(&args.output)?;
            ImageBuilder::new(&workspace, false, false)?.app(&args.directory)?
        }
    };
    let bytes = package::pack(&app, &args.product, &args.board)?;
    workspace::write(&args.output, &bytes)?;
    let output = args.output.display();
    output::written(&args.output, format_args!("{output}: {} bytes, not signed", bytes.len()));
    Ok(())
}

pub(crate) fn sign(args: &SignArgs) -> Result<()> {
    // It is read, and then written.
    destination::check_file(&args.package)?;
    let mut bytes = workspace::read(&args.package)?;
    let named = |error: PackError| Error::from(error).context(args.package.display().to_string());
    let public = match (&args.key, &args.public) {
        (Some(key), _) => {
            let key = PrivateKey::load(key)?;
            package::sign(&mut bytes, &key).map_err(named)?;
            key.public()
        }
        (None, Some(public)) => {
            let (file, public) = (public, PublicKey::load(public)?);
            if let Some(emit) = &args.emit_bytes {
                destination::refuse_inputs(emit, [args.package.as_path(), file])?;
                let message = package::bytes_to_sign(&bytes, &public).map_err(named)?;
                workspace::write(emit, message)?;
                let (to, length) = (emit.display(), message.len());
                output::written(emit, format_args!("{to}: {length} bytes to sign"));
                return Ok(());
            }
            let path = args.signature.as_ref().ok_or_else(|| {
                HostLacks("--public needs --emit-bytes or --signature beside it".to_owned())
            })?;
            let signature = workspace::read(path)?;
            let length = signature.len();
            let signature: [u8; SIGNATURE_BYTES] = signature.try_into().map_err(|_| {
                anyhow!("{}: has {length} bytes; a signature has 64", path.display())
            })?;
            package::attach(&mut bytes, &public, &signature).map_err(named)?;
            public
        }
        (None, None) => {
            return Err(HostLacks("name a key with --key or --public".to_owned()).into());
        }
    };
    workspace::write(&args.package, bytes)?;
    println!("{}: signed by {}", args.package.display(), public.id());
    Ok(())
}

pub(crate) fn show(args: &ShowArgs) -> Result<()> {
    let bytes = workspace::read(&args.package)?;
    let named = |error: PackError| Error::from(error).context(args.package.display().to_string());
    let package = package::read(&bytes).map_err(named)?;
    let header = &package.header;
    let keys = args.keys.iter().map(|path| PublicKey::load(path)).collect::<Result<Vec<_>, _>>()?;
    let signature = if keys.is_empty() {
        if header.key_id.0 == [0; 32] { "none" } else { "not checked" }
    } else {
        package::verify(&bytes, header, &keys).map_err(named)?;
        "good"
    };
    if args.json {
        let json = serde_json::json!({
            "name": package.manifest.name,
            "component_id": header.component_id.to_string(),
            "version": header.version.to_string(),
            "rollback_index": header.rollback_index,
            "least_os_version": header.least_os.to_string(),
            "product": header.product.as_str(),
            "board": header.board.as_str(),
            "key_id": header.key_id.to_string(),
            "signature": signature,
            "root_hash": hex(&header.root_hash),
            "bytes": bytes.len(),
            "files": package.entries,
        });
        println!("{}", serde_json::to_string_pretty(&json).context("cannot write JSON")?);
        return Ok(());
    }
    let any = |name: &str| if name.is_empty() { "any".to_owned() } else { name.to_owned() };
    println!("name            {}", package.manifest.name);
    println!("component id    {}", header.component_id);
    println!("version         {}", header.version);
    println!("rollback index  {}", header.rollback_index);
    println!("least OS        {}", header.least_os);
    println!("product         {}", any(header.product.as_str()));
    println!("board           {}", any(header.board.as_str()));
    println!("signature       {signature}");
    if header.key_id.0 != [0; 32] {
        println!("key             {}", header.key_id);
    }
    println!("root hash       {}", hex(&header.root_hash));
    println!("bytes           {}", bytes.len());
    for entry in &package.entries {
        let mark = match &entry.kind {
            EntryKind::Link(target) => format!(" -> {target}"),
            EntryKind::Directory => "/".to_owned(),
            _ => String::new(),
        };
        println!("{:04o} {:>9}  {}{mark}", entry.mode, entry.size, entry.path);
    }
    Ok(())
}

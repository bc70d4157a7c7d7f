//! `release`: repositories of releases, what the Security Service knows of them, and `key rotate`.
//!
//! Whatever is signed can be signed elsewhere: the metadata waits as a draft in the repository until it
//! has its signatures.

use crate::invocation::Invocation;
use crate::security_service::release as known;
use crate::security_service::{repository, symbols};
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use holdfast_builder::development_keys;
use holdfast_builder::failure::HostLacks;
use holdfast_builder::key_pair;
use holdfast_builder::output;
use holdfast_builder::workspace;
use holdfast_images::destination;
use holdfast_images::key::{PrivateKey, PublicKey};
use holdfast_release::RepositoryName;
use holdfast_release::feed::Feed;
use holdfast_release::metadata::{Role, Root, Targets};
use holdfast_repository::{
    Draft, Lifetimes, Released, Repository, Roles, of_image, of_package, remove_release,
};
use holdfast_sandbox::reset_order::{Order, Partitions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Commands about releases: repositories of them, and what the Security Service knows.
#[derive(Debug, Subcommand)]
pub enum ReleaseCommand {
    /// Make a repository.
    New(NewArgs),
    /// Offer images and app packages to devices.
    Publish(PublishArgs),
    /// Add a signature that was made elsewhere to what waits for it.
    Sign(SignArgs),
    /// Sign what expires first anew: a device believes nothing that has expired.
    Refresh(RefreshArgs),
    /// Say what a repository offers.
    Show(ShowArgs),
    /// Look at a repository as a device does, and at every file of it.
    Verify(VerifyArgs),
    /// Put repositories into one file, for a card that is carried to devices without a network.
    Bundle(BundleArgs),
    /// Tell the Security Service of releases: it knows devices by what they measure.
    Add(known::AddArgs),
    /// Have the Security Service take releases from signed metadata alone.
    Trust(known::TrustArgs),
    /// Have the Security Service serve a repository to devices.
    Serve(repository::ServeArgs),
    /// List the releases that the Security Service knows.
    List(known::ListArgs),
    /// Have devices that run a release get certificates for updates alone.
    Withdraw(known::WithdrawArgs),
    /// Take the withdrawal of a release back.
    Restore(known::RestoreArgs),
}

/// The keys of each role. One `--key` for all when none is named: this checkout's development key.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// Public key that signs who the others are: PEM; may be given several times.
    #[arg(long = "root", value_name = "PEM")]
    root: Vec<PathBuf>,
    /// Threshold: so many of those keys must sign.
    #[arg(long, value_name = "N", default_value_t = 1)]
    root_threshold: usize,
    /// Public key that signs what is released; may be given several times.
    #[arg(long = "targets", value_name = "PEM")]
    targets: Vec<PathBuf>,
    /// Threshold: so many of those keys must sign.
    #[arg(long, value_name = "N", default_value_t = 1)]
    targets_threshold: usize,
    /// Public key that signs each publication (snapshot and timestamp), on the machine that publishes.
    #[arg(long = "online", value_name = "PEM")]
    online: Vec<PathBuf>,
}

/// Private keys at hand, and what is signed without them.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Private key at hand; may be given several times. This checkout's development key when none is.
    #[arg(long = "key", value_name = "PEM")]
    keys: Vec<PathBuf>,
    /// Put the metadata aside as a draft and write the bytes to sign to this file; nothing changes for
    /// devices.
    #[arg(long, value_name = "FILE", conflicts_with = "draft")]
    emit_bytes: Option<PathBuf>,
    /// Go on with the draft that was put aside.
    #[arg(long)]
    draft: bool,
    /// All that is signed now holds for so many days at least. Devices whose clocks were led ahead by a signed mistake
    /// take nothing else.
    #[arg(long, value_name = "N")]
    days: Option<u16>,
}

/// Arguments of `release new`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without keys, the repository is a development one. With them, the root is signed by --key, \
                  or elsewhere: --emit-bytes root.bytes; sign those bytes (Ed25519; `openssl pkeyutl -sign \
                  -rawin`); `release sign`; and come back with --draft.\n\n\
                  Example: holdfast release new target/updates/os"
)]
pub struct NewArgs {
    /// Directory of the repository.
    directory: PathBuf,
    #[command(flatten)]
    roles: RoleArgs,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Arguments of `release publish`.
#[derive(Debug, Args)]
#[command(
    after_help = "A release takes the place of an earlier one of the same component, product, board and feed. What is \
                  published was verified first, by the code that devices have.\n\n\
                  Example: holdfast release publish target/updates/os --image target/holdfast/fleet.img\n\
                  Example: holdfast release publish target/updates/os --image target/holdfast/fleet.img --upload-symbols --to \
                  https://service.example:8444"
)]
pub struct PublishArgs {
    /// Directory of the repository.
    directory: PathBuf,
    /// Image whose slot is released; may be given several times.
    #[arg(long = "image", value_name = "IMG")]
    images: Vec<PathBuf>,
    /// App package that is released; may be given several times.
    #[arg(long = "app", value_name = "PACKAGE")]
    apps: Vec<PathBuf>,
    /// Feed whose devices alone the images and packages are for, such as `eval`: those whose image manifest names it under `[update]`, and whose
    /// group follows it. For devices of every feed when not given.
    #[arg(long, value_name = "NAME")]
    feed: Option<Feed>,
    /// Order devices that find this repository on a card to erase these partitions, some of `state`, `apps` and `data`.
    /// No server can: take it out again with `--remove` when the card is written.
    #[arg(long, value_name = "NAME,NAME", value_parser = partitions)]
    reset: Option<Partitions>,
    /// Path of a release or an order that is offered no longer; may be given several times.
    #[arg(long = "remove", value_name = "PATH")]
    removed: Vec<String>,
    #[command(flatten)]
    to: repository::ToArgs,
    #[command(flatten)]
    symbols: symbols::ReleaseArgs,
    #[command(flatten)]
    keys: KeyArgs,
}

/// Arguments of `key rotate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Names all keys of the next root: those that are not named are out from then on. It is signed by \
                  the keys of the present root and by its own; what is published is signed anew by the online \
                  key.\n\n\
                  Example: holdfast key rotate target/updates/os --root new-root.pub.pem --targets \
                  targets.pub.pem --online online.pub.pem --key root.pem --key new-root.pem --key online.pem"
)]
pub struct RotateArgs {
    /// Directory of the repository.
    directory: PathBuf,
    #[command(flatten)]
    roles: RoleArgs,
    #[command(flatten)]
    keys: KeyArgs,
}

/// A role's metadata that waits for signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Waiting {
    /// Root metadata: the keys of all roles.
    Root,
    /// Targets metadata: the releases.
    Targets,
}

/// Arguments of `release sign`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: holdfast release sign target/updates/os --draft targets --public targets.pub.pem \
                  --signature targets.signature"
)]
pub struct SignArgs {
    /// Directory of the repository.
    directory: PathBuf,
    /// The role's draft that is signed.
    #[arg(long, value_enum)]
    draft: Waiting,
    /// Public key of who has signed.
    #[arg(long, value_name = "PEM")]
    public: PathBuf,
    /// The signature: 64 bytes.
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
}

/// Arguments of `release refresh`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast release refresh target/updates/os --key online.pem")]
pub struct RefreshArgs {
    /// Directory of the repository.
    directory: PathBuf,
    /// Private key at hand; may be given several times. This checkout's development key when none is.
    #[arg(long = "key", value_name = "PEM")]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    to: repository::ToArgs,
    /// Days for which the metadata that is signed now holds at least. Devices whose clocks were led ahead by a signed
    /// mistake take
    /// nothing else.
    #[arg(long, value_name = "N")]
    days: Option<u16>,
}

/// Arguments of `release show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast release show target/updates/os")]
pub struct ShowArgs {
    /// Directory of the repository.
    directory: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `release verify`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast release verify target/updates/os --root os.root.json")]
pub struct VerifyArgs {
    /// Directory of the repository.
    directory: PathBuf,
    /// The root that the device's image brings; the repository's first one when not given.
    #[arg(long, value_name = "JSON")]
    root: Option<PathBuf>,
}

/// Arguments of `release bundle`.
#[derive(Debug, Args)]
#[command(
    after_help = "Write the file to a card or stick as it is (`dd`), without a partition table. A device looks at it when \
                  it is plugged in or switched on, and believes it as little as it believes a server.\n\n\
                  Example: holdfast release bundle --os target/updates/os --output card.img"
)]
pub struct BundleArgs {
    /// Repository of the OS.
    #[arg(long, value_name = "DIR", required_unless_present = "oem")]
    os: Option<PathBuf>,
    /// Repository of the OEM's apps.
    #[arg(long, value_name = "DIR")]
    oem: Option<PathBuf>,
    /// Path to write the bundle to.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(invocation: &Invocation, command: &ReleaseCommand) -> Result<()> {
    match command {
        ReleaseCommand::New(args) => new(invocation, args),
        ReleaseCommand::Publish(args) => publish(invocation, args),
        ReleaseCommand::Sign(args) => sign(args),
        ReleaseCommand::Refresh(args) => refresh(invocation, args),
        ReleaseCommand::Show(args) => show(args),
        ReleaseCommand::Verify(args) => verify(args),
        ReleaseCommand::Bundle(args) => bundle(args),
        ReleaseCommand::Add(args) => known::add(args),
        ReleaseCommand::List(args) => known::list(args),
        ReleaseCommand::Serve(args) => repository::serve(args),
        ReleaseCommand::Trust(args) => known::trust(args),
        ReleaseCommand::Withdraw(args) => known::withdraw(args),
        ReleaseCommand::Restore(args) => known::restore(args),
    }
}

/// Seconds since 1970.
fn now() -> Result<u64> {
    Ok(std::time::UNIX_EPOCH
        .elapsed()
        .context("this host's clock shows a time before 1970")?
        .as_secs())
}

/// The usual lifetimes, none of them shorter than so many days.
fn lifetimes(days: Option<u16>) -> Lifetimes {
    Lifetimes::default().at_least(u64::from(days.unwrap_or_default()).saturating_mul(86_400))
}

impl RoleArgs {
    fn roles(&self, invocation: &Invocation) -> Result<Roles> {
        let named = [(&self.root, "root"), (&self.targets, "targets"), (&self.online, "online")];
        if named.iter().all(|(keys, _)| keys.is_empty()) {
            let key = development_key(invocation, "--root, --targets and --online")?.public();
            return Ok(development_keys::one_key_roles(key));
        }
        if let Some((_, role)) = named.iter().find(|(keys, _)| keys.is_empty()) {
            let missing =
                format!("--{role}: name the keys of all of --root, --targets and --online");
            return Err(HostLacks(missing).into());
        }
        let load = |paths: &[PathBuf]| -> Result<Vec<PublicKey>> {
            paths.iter().map(|path| Ok(PublicKey::load(path)?)).collect()
        };
        let online = load(&self.online)?;
        let keys = [
            (Role::Root, (load(&self.root)?, self.root_threshold)),
            (Role::Targets, (load(&self.targets)?, self.targets_threshold)),
            (Role::Snapshot, (online.clone(), 1)),
            (Role::Timestamp, (online, 1)),
        ];
        Ok(Roles { keys: keys.into() })
    }
}

/// The key that stands for those that were not named with `options`.
fn development_key(invocation: &Invocation, options: &str) -> Result<PrivateKey> {
    let why =
        format!("name keys with {options}: without, the development key of a checkout is taken");
    development_keys::release(&invocation.workspace(&why)?)
}

fn load_keys(invocation: &Invocation, paths: &[PathBuf]) -> Result<Vec<PrivateKey>> {
    if paths.is_empty() {
        return Ok(vec![development_key(invocation, "--key")?]);
    }
    paths.iter().map(|path| Ok(PrivateKey::load(path)?)).collect()
}

impl KeyArgs {
    /// None, where a draft is put aside without a key named: it is signed elsewhere alone.
    fn load(&self, invocation: &Invocation) -> Result<Vec<PrivateKey>> {
        if self.emit_bytes.is_some() && self.keys.is_empty() {
            return Ok(Vec::new());
        }
        load_keys(invocation, &self.keys)
    }
}

fn draft_file(directory: &Path, waiting: Waiting) -> PathBuf {
    directory.join("drafts").join(match waiting {
        Waiting::Root => "root.json",
        Waiting::Targets => "targets.json",
    })
}

fn read_draft(directory: &Path, waiting: Waiting) -> Result<Draft> {
    let path = draft_file(directory, waiting);
    ensure!(path.is_file(), "{}: nothing waits there; write it with --emit-bytes", path.display());
    let bytes = workspace::read(&path)?;
    let draft = match waiting {
        Waiting::Root => Draft::read::<Root>(&bytes),
        Waiting::Targets => Draft::read::<Targets>(&bytes),
    };
    draft.with_context(|| path.display().to_string())
}

/// Puts a draft aside. `None` where it is to be used now.
fn put_aside(
    args: &KeyArgs,
    directory: &Path,
    waiting: Waiting,
    draft: &Draft,
) -> Result<Option<()>> {
    let Some(file) = &args.emit_bytes else {
        return Ok(None);
    };
    let path = draft_file(directory, waiting);
    destination::refuse_inputs(file, args.keys.iter().map(PathBuf::as_path))?;
    // Whatever the umask is, a server gets to what will be in it.
    destination::make_readable_directory(directory)?;
    workspace::write(&path, draft.to_bytes()?)?;
    destination::refuse_inputs(file, [path.as_path()])?;
    workspace::write(file, draft.bytes_to_sign())?;
    output::written(file, format_args!("{}: waits for its signatures", path.display()));
    let (to, length) = (file.display(), draft.bytes_to_sign().len());
    output::written(file, format_args!("{to}: {length} bytes to sign"));
    Ok(Some(()))
}

fn forget_draft(directory: &Path, waiting: Waiting) -> Result<()> {
    let path = draft_file(directory, waiting);
    if path.exists() {
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// The draft that was put aside, or a new one.
fn prepare(
    args: &KeyArgs,
    directory: &Path,
    waiting: Waiting,
    make: impl FnOnce() -> Result<Draft>,
) -> Result<Draft> {
    if args.draft { read_draft(directory, waiting) } else { make() }
}

fn new(invocation: &Invocation, args: &NewArgs) -> Result<()> {
    let keys = args.keys.load(invocation)?;
    let lifetime = lifetimes(args.keys.days).root;
    let mut draft = prepare(&args.keys, &args.directory, Waiting::Root, || {
        Ok(Repository::first_root(&args.roles.roles(invocation)?, lifetime, now()?)?)
    })?;
    Repository::sign_first_root(&mut draft, &keys)?;
    if put_aside(&args.keys, &args.directory, Waiting::Root, &draft)?.is_some() {
        return Ok(());
    }
    Repository::create(&args.directory, &draft)?;
    forget_draft(&args.directory, Waiting::Root)?;
    let root = args.directory.join("metadata/1.root.json");
    println!("{}", args.directory.display());
    println!(
        "name {} under [update] in an image manifest, unless it is a development one",
        root.display()
    );
    Ok(())
}

fn publish(invocation: &Invocation, args: &PublishArgs) -> Result<()> {
    let keys = args.keys.load(invocation)?;
    let mut repository = Repository::open(&args.directory)?;
    let nothing = args.images.is_empty()
        && args.apps.is_empty()
        && args.removed.is_empty()
        && args.reset.is_none();
    if nothing && !args.keys.draft {
        return Err(HostLacks(
            "name what to publish, with --image, --app, --reset or --remove".to_owned(),
        )
        .into());
    }
    args.to.check(&args.directory)?;
    args.symbols.upload(&args.images, &args.apps)?;
    let lifetimes = lifetimes(args.keys.days);
    let mut draft = prepare(&args.keys, &args.directory, Waiting::Targets, || {
        let mut files = repository.targets();
        for path in &args.removed {
            if !remove_release(&mut files, path) {
                bail!("{path}: is not offered; `release show` says what is");
            }
        }
        let images = args.images.iter().map(|image| of_image(image));
        for released in images.chain(args.apps.iter().map(|package| of_package(package))) {
            let released: Released = released?;
            let released = match &args.feed {
                Some(feed) => released.in_feed(feed.clone()),
                None => released,
            };
            let delta = repository.add_release(&mut files, &released)?;
            let Released { path, bytes, release } = &released;
            match delta {
                Some(delta) => println!(
                    "{path}: version {}, {} bytes; {delta} for devices that run what it takes the place of",
                    release.version,
                    bytes.len()
                ),
                None => println!("{path}: version {}, {} bytes", release.version, bytes.len()),
            }
        }
        if let Some(partitions) = args.reset {
            // Another order than all before.
            let number = u64::from_le_bytes(key_pair::random()?);
            let path = Order::path(partitions, number);
            let target = repository.add_order(&path)?;
            println!("{path}: a card with it resets devices");
            files.insert(path, target);
        }
        Ok(repository.next_targets(files, lifetimes.targets, now()?)?)
    })?;
    repository.sign(Role::Targets, &mut draft, &keys);
    if put_aside(&args.keys, &args.directory, Waiting::Targets, &draft)?.is_some() {
        return Ok(());
    }
    repository.publish(&draft, &keys, lifetimes, now()?)?;
    forget_draft(&args.directory, Waiting::Targets)?;
    println!("published: {}", args.directory.display());
    args.to.serve(&args.directory, args.symbols.catalog())
}

fn partitions(text: &str) -> Result<Partitions, String> {
    let parsed = Partitions::parse(text, ',');
    parsed.ok_or_else(|| "must be some of state, apps and data, such as state,data".to_owned())
}

fn sign(args: &SignArgs) -> Result<()> {
    let mut draft = read_draft(&args.directory, args.draft)?;
    let public = PublicKey::load(&args.public)?;
    let bytes = workspace::read(&args.signature)?;
    let length = bytes.len();
    let signature: [u8; 64] = bytes.try_into().map_err(|_| {
        anyhow!("{}: has {length} bytes; a signature has 64", args.signature.display())
    })?;
    draft.attach(&public, &signature).with_context(|| args.signature.display().to_string())?;
    let path = draft_file(&args.directory, args.draft);
    workspace::write(&path, draft.to_bytes()?)?;
    println!("{}: signed by {}", path.display(), public.id());
    Ok(())
}

pub(crate) fn rotate(invocation: &Invocation, args: &RotateArgs) -> Result<()> {
    let keys = args.keys.load(invocation)?;
    let mut repository = Repository::open(&args.directory)?;
    let lifetimes = lifetimes(args.keys.days);
    let mut draft = prepare(&args.keys, &args.directory, Waiting::Root, || {
        Ok(repository.next_root(&args.roles.roles(invocation)?, lifetimes.root, now()?)?)
    })?;
    repository.sign_next_root(&mut draft, &keys)?;
    if put_aside(&args.keys, &args.directory, Waiting::Root, &draft)?.is_some() {
        return Ok(());
    }
    repository.rotate(&draft, &keys, lifetimes, now()?)?;
    forget_draft(&args.directory, Waiting::Root)?;
    println!("{}: root {}", args.directory.display(), repository.root().common.version);
    Ok(())
}

fn refresh(invocation: &Invocation, args: &RefreshArgs) -> Result<()> {
    let keys = load_keys(invocation, &args.keys)?;
    let mut repository = Repository::open(&args.directory)?;
    args.to.check(&args.directory)?;
    repository.refresh(&keys, lifetimes(args.days), now()?)?;
    for (role, expires) in repository.expires() {
        println!("{role} holds until {expires}");
    }
    args.to.serve(&args.directory, None)
}

fn show(args: &ShowArgs) -> Result<()> {
    let repository = Repository::open(&args.directory)?;
    let root = repository.root();
    let expires: BTreeMap<String, String> =
        repository.expires().into_iter().map(|(role, at)| (role.to_string(), at)).collect();
    if args.json {
        let roles: BTreeMap<&str, _> = root
            .roles
            .iter()
            .map(|(role, of)| {
                (role.name(), serde_json::json!({ "keys": of.keyids, "threshold": of.threshold }))
            })
            .collect();
        let json = serde_json::json!({
            "root_version": root.common.version, "roles": roles, "expires": expires,
            "targets": repository.targets(),
        });
        println!("{}", serde_json::to_string_pretty(&json).context("cannot write JSON")?);
        return Ok(());
    }
    println!("root {}", root.common.version);
    for (role, of) in &root.roles {
        let ids: Vec<&str> = of.keyids.iter().map(|id| id.get(..16).unwrap_or(id)).collect();
        let until = expires.get(role.name()).map_or("not signed yet", String::as_str);
        println!("{:<10} {} of {}, until {until}", role.name(), of.threshold, ids.join(" "));
    }
    for (path, target) in repository.targets() {
        let Some(release) = target.custom else {
            println!("{path}: {} bytes", target.length);
            continue;
        };
        println!(
            "{path}: {} {}, rollback index {}, {} bytes, product {:?}, board {:?}",
            release.subject,
            release.version,
            release.rollback_index,
            target.length,
            release.product,
            release.board
        );
        if let Some(feed) = &release.feed {
            println!("{path}: for devices of the feed {feed} alone");
        }
        if !release.boot_digest.is_empty() {
            println!("{path}: boot digest {}", release.boot_digest);
        }
    }
    Ok(())
}

fn verify(args: &VerifyArgs) -> Result<()> {
    let first = args.directory.join("metadata/1.root.json");
    let root = workspace::read(args.root.as_ref().unwrap_or(&first))?;
    let targets = Repository::verify(&args.directory, &root, now()?)?;
    println!("{}: a device takes it", args.directory.display());
    for (path, target) in &targets.targets {
        let version = target.custom.as_ref().map(|release| release.version.to_string());
        println!("{path}: {}", version.unwrap_or_else(|| format!("{} bytes", target.length)));
    }
    println!("targets {} until {}", targets.common.version, targets.common.expires);
    Ok(())
}

fn bundle(args: &BundleArgs) -> Result<()> {
    let named = [(RepositoryName::Os, &args.os), (RepositoryName::Oem, &args.oem)];
    let repositories: Vec<_> =
        named.into_iter().filter_map(|(name, path)| Some((name, path.clone()?))).collect();
    holdfast_repository::bundle(&repositories, &args.output)?;
    output::written(&args.output, format_args!("{}", args.output.display()));
    Ok(())
}

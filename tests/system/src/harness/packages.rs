//! Packages of apps in images, changed and signed anew.

use crate::harness::partitions::{edited, on_partition, put};
use crate::harness::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use holdfast_images::key::PrivateKey;
use holdfast_images::root::Root;
use holdfast_images::verity;
use holdfast_sandbox::component;
use holdfast_sandbox::package::{HEADER_BYTES, Header};
use holdfast_types::ComponentId;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The component id of examples/hello.
const HELLO: &str = "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11";

pub(crate) fn hello() -> Result<ComponentId> {
    ComponentId::parse(HELLO).context("no component id")
}

/// The package of an app in an image.
pub(crate) fn package_of(image: &Path, app: ComponentId) -> Result<Vec<u8>> {
    let name = component::Stored::Current.file(app);
    on_partition(image, "apps", |path| {
        let request = format!("cat /{name}");
        let output = Command::new("/sbin/debugfs").args(["-R", &request]).arg(path).output()?;
        ensure!(output.stdout.starts_with(b"HOLDFAPP"), "no package in {}", image.display());
        Ok(output.stdout)
    })
}

/// A copy of an image with another package of hello.
pub(crate) fn with_package(
    image: &Path,
    change: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<Scratch> {
    with_package_of(image, hello()?, change)
}

/// A copy of an image with another package of an app.
fn with_package_of(
    image: &Path,
    app: ComponentId,
    change: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<Scratch> {
    let name = component::Stored::Current.file(app);
    edited(image, "apps", |path| {
        let request = format!("cat /{name}");
        let output = Command::new("/sbin/debugfs").args(["-R", &request]).arg(path).output()?;
        let mut bytes = output.stdout;
        ensure!(bytes.starts_with(b"HOLDFAPP"), "no package in {}", image.display());
        change(&mut bytes)?;
        put(path, &name, &bytes)
    })
}

/// A copy of an image in which the files of an app are others, signed anew with the development key of
/// this checkout.
pub(crate) fn with_files_of(
    image: &Path,
    app: ComponentId,
    change: impl FnOnce(&mut Root),
) -> Result<Scratch> {
    with_package_of(image, app, |bytes| {
        let header = Header::parse(bytes, u64::try_from(bytes.len())?)?;
        *bytes = repacked(bytes, header, change)?;
        Ok(())
    })
}

/// A package with other files, signed anew; `header` says what else it is.
pub(crate) fn repacked(
    package: &[u8],
    mut header: Header,
    change: impl FnOnce(&mut Root),
) -> Result<Vec<u8>> {
    let length = usize::try_from(header.data_bytes)?;
    let data = package.get(HEADER_BYTES..).and_then(|rest| rest.get(..length));
    let mut files = Root::read(data.context("short")?)?;
    change(&mut files);
    let data = files.to_erofs()?;
    let verity = verity::hash_with_salt(&data, header.salt).context("no data")?;
    header.data_bytes = u64::try_from(data.len())?;
    header.root_hash = verity.root_hash;
    let mut bytes = [vec![0; HEADER_BYTES], data, verity.tree].concat();
    sign(&mut bytes, header)?;
    Ok(bytes)
}

/// Puts this header in front of a package, signed with the development key of this checkout.
pub(crate) fn sign(package: &mut [u8], mut header: Header) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let keys = std::env::var_os("HOLDFAST_KEYS").map(PathBuf::from);
    let keys = keys.unwrap_or_else(|| root.join("images/keys/development"));
    let key = PrivateKey::load(&keys.join("app.pem"))?;
    header.key_id = key.public().id();
    let signed = header.encode(&key.sign(&header.signed_bytes()));
    package.get_mut(..HEADER_BYTES).context("short")?.copy_from_slice(&signed[..]);
    Ok(())
}

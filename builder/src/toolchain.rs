//! The cross toolchain: a Rust compiler with the sources of its own std, and Zig's C toolchain as
//! linker and C runtime.
//!
//! std is always built here, with `RUST_LIBC_UNSTABLE_MUSL_V1_2_3`: no prebuilt std for 32-bit
//! musl has 64-bit time, and a device that is to run for ten years would meet the year 2038.

use crate::failure::HostLacks;
use crate::pins::{self, Pin, Pins};
use crate::progress::Step;
use crate::workspace::{self, Workspace};
use crate::{host, process};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Rust's name of the device.
pub const TARGET: &str = "armv7-unknown-linux-musleabihf";
/// Name of a compiler that another build system brings; it is not pinned here.
const GIVEN: &str = "rust-given";
/// Zig's name of the device.
const ZIG_TARGET: &str = "arm-linux-musleabihf";
/// Zig's name of the processor, the same as that of [`RUST_FLAGS`](crate::device_build::RUST_FLAGS).
const ZIG_CPU: &str = "cortex_a8";
/// Pins of the two possible compilers.
const RUSTUP: &str = "rust-rustup";
const DEBIAN: &str = "rust-debian";
/// The first Rust whose std can be built with 64-bit time for 32-bit musl: its `libc` is 0.2.183.
/// Older ones ignore the switch, which the test `time_goes_on_beyond_2038` would find out.
const FLOOR: [u32; 2] = [1, 96];
/// Time to wait for rustup to bring the sources of std.
const RUSTUP_WITHIN: Duration = Duration::from_secs(180);

/// A Rust compiler with the sources of its std, both of one release.
#[derive(Debug, Clone)]
pub struct Rust {
    /// Name of its pin.
    pub name: &'static str,
    /// The compiler.
    pub rustc: PathBuf,
    /// The cargo of the same version.
    pub cargo: PathBuf,
    /// Directory with the sources of std.
    pub library: PathBuf,
    /// Version and hash.
    pub pin: Pin,
}

/// All it takes to build programs for the device.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// The compiler.
    pub rust: Rust,
    /// Linker for rustc: Zig's C compiler behind a wrapper.
    pub linker: PathBuf,
    /// Zig's directory, with the sources of the C runtime.
    pub zig: PathBuf,
    /// Directory in which Zig keeps the C runtimes that it has built.
    pub zig_cache: PathBuf,
}

impl Toolchain {
    /// Chooses and prepares the toolchain, and says which it is.
    pub(crate) fn prepare(workspace: &Workspace, pins: &Pins, locked: bool) -> Result<Self> {
        host::ensure(&[host::TOOLCHAIN])?;
        let rust = choose_rust(workspace)?;
        pins::accept(pins, rust.name, &rust.pin, locked)?;
        eprintln!("Rust for the device: {} ({})", rust.pin.version, rust.rustc.display());
        let zig = prepare_zig(workspace, pins::pin(pins, pins::ZIG)?)?;
        let (zig_cache, linker) =
            (workspace.cache.join("zig-cache"), workspace.cache.join("toolchain/zig-cc"));
        let wrapper = format!(
            "#!/bin/sh\n# Written by holdfast. rustc names a target that Zig's clang does not \
             know; Zig is told its own.\nfor argument; do\n  shift\n  case \"$argument\" in \
             --target=*) ;; *) set -- \"$@\" \"$argument\" ;; esac\ndone\n\
             exec {} cc -target {ZIG_TARGET} -mcpu={ZIG_CPU} \"$@\"\n",
            process::shell_word(&zig.display().to_string())
        );
        if fs::read_to_string(&linker).ok().as_deref() != Some(&wrapper) {
            workspace::write(&linker, wrapper)?;
            fs::set_permissions(&linker, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("cannot make {} executable", linker.display()))?;
        }
        let zig = zig.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { rust, linker, zig, zig_cache })
    }
}

/// The compilers that are on this host, by the names of their pins.
///
/// # Errors
/// A compiler that is there does not answer, or cannot be read.
pub fn installed(workspace: &Workspace) -> Result<Vec<(String, Pin)>> {
    let found = [rustup_rust(workspace)?, debian_rust(workspace)?];
    Ok(found.into_iter().flatten().map(|rust| (rust.name.to_owned(), rust.pin)).collect())
}

/// rustup's compiler where the sources of its std are there or can be had, Debian's otherwise.
/// `HOLDFAST_RUST` (`rustup` or `debian`) chooses by hand.
fn choose_rust(workspace: &Workspace) -> Result<Rust> {
    let wish = std::env::var("HOLDFAST_RUST").unwrap_or_default();
    if !["", "rustup", "debian"].contains(&wish.as_str()) {
        bail!(HostLacks("HOLDFAST_RUST: must be `rustup` or `debian`, or not set".to_owned()));
    }
    if wish != "debian" {
        if let Some(rust) = rustup_rust(workspace)? {
            return Ok(rust);
        }
        if add_std_sources(workspace)
            && let Some(rust) = rustup_rust(workspace)?
        {
            return Ok(rust);
        }
        if wish == "rustup" {
            bail!(HostLacks(
                "rustup has no Rust from 1.96 on with the sources of its std; \
                 run `rustup update` and `rustup component add rust-src`"
                    .to_owned()
            ));
        }
    }
    host::ensure(&[host::DEBIAN_RUST])?;
    debian_rust(workspace)?.ok_or_else(|| {
        HostLacks("Debian's rustc-web, cargo-web and rust-web-src do not fit together".to_owned())
            .into()
    })
}

fn rustup_rust(workspace: &Workspace) -> Result<Option<Rust>> {
    if !host::exists("rustup") {
        return Ok(None);
    }
    let which = |program: &str| {
        let output = process::output(Command::new("rustup").args(["which", program]))?;
        Ok::<_, anyhow::Error>(PathBuf::from(output.trim()))
    };
    let (Ok(rustc), Ok(cargo)) = (which("rustc"), which("cargo")) else {
        return Ok(None);
    };
    rust(workspace, RUSTUP, rustc, cargo)
}

fn debian_rust(workspace: &Workspace) -> Result<Option<Rust>> {
    rust(workspace, DEBIAN, "/usr/bin/rustc".into(), "/usr/bin/cargo".into())
}

/// The compiler of another build system; `None` where it or the sources of its std are not there, or it is too old.
pub(crate) fn given_rust(
    workspace: &Workspace,
    rustc: &Path,
    cargo: &Path,
) -> Result<Option<Rust>> {
    rust(workspace, GIVEN, rustc.to_owned(), cargo.to_owned())
}

/// The compiler with its version and hashes, `None` where it or the sources of its std are not
/// there, or it is older than [`FLOOR`].
fn rust(
    workspace: &Workspace,
    name: &'static str,
    rustc: PathBuf,
    cargo: PathBuf,
) -> Result<Option<Rust>> {
    if !rustc.is_file() || !cargo.is_file() {
        return Ok(None);
    }
    let sysroot = process::output(Command::new(&rustc).args(["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(sysroot.trim());
    let library = sysroot.join("lib/rustlib/src/rust/library");
    if !library.join("Cargo.lock").is_file() {
        return Ok(None);
    }
    let version = process::output(Command::new(&rustc).arg("--version"))?.trim().to_owned();
    if version_numbers(&version) < FLOOR.to_vec() {
        return Ok(None);
    }
    let sha256 = hash_rust(workspace, &sysroot, &library, &version)?;
    Ok(Some(Rust { name, rustc, cargo, library, pin: Pin { version, sha256 } }))
}

/// The first two numbers of a version.
fn version_numbers(text: &str) -> Vec<u32> {
    let version = text.split(' ').find(|w| w.starts_with(|c: char| c.is_ascii_digit()));
    version.unwrap_or_default().split('.').take(2).filter_map(|part| part.parse().ok()).collect()
}

/// SHA-256 over the compiler's library and the sources of std. Remembered by the library's path,
/// length and time, since it takes a second.
fn hash_rust(
    workspace: &Workspace,
    sysroot: &Path,
    library: &Path,
    version: &str,
) -> Result<String> {
    let compiler = compiler_library(sysroot)?;
    let metadata = fs::metadata(&compiler)
        .with_context(|| format!("cannot examine {}", compiler.display()))?;
    let modified = metadata.modified().ok().and_then(|m| m.elapsed().ok().map(|_| m));
    let state = format!("{} {} {modified:?} {version}", compiler.display(), metadata.len());
    let key = holdfast_images::hex(&holdfast_images::sha256(&[state.as_bytes()]));
    let remembered = workspace.cache.join(format!("toolchain/rust-{key}"));
    if let Ok(hash) = fs::read_to_string(&remembered) {
        return Ok(hash);
    }
    let step = Step::begin("hashing the Rust compiler and the sources of its std");
    let parts = [workspace::sha256_file(&compiler)?, workspace::sha256_tree(library)?];
    let hash = holdfast_images::hex(&holdfast_images::sha256(&[parts.concat().as_bytes()]));
    workspace::write(&remembered, &hash)?;
    step.done("hashed");
    Ok(hash)
}

/// `librustc_driver-*.so`, which is the compiler; `rustc` itself only calls it.
fn compiler_library(sysroot: &Path) -> Result<PathBuf> {
    for directory in [sysroot.join("lib"), sysroot.join("lib/x86_64-linux-gnu")] {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                name.starts_with("librustc_driver-") && name.ends_with(".so")
            })
            .collect();
        found.sort();
        if let Some(library) = found.into_iter().next() {
            return Ok(library);
        }
    }
    bail!("there is no librustc_driver below {}", sysroot.display())
}

/// Asks rustup for the sources of std. A refusal is remembered for the toolchain at hand.
fn add_std_sources(workspace: &Workspace) -> bool {
    if !host::exists("rustup") {
        return false;
    }
    let version = process::output(Command::new("rustc").arg("--version")).unwrap_or_default();
    let refused = workspace.cache.join("toolchain/rustup-has-no-rust-src");
    let too_old = version_numbers(&version) < FLOOR.to_vec();
    if too_old || fs::read_to_string(&refused).is_ok_and(|before| before == version) {
        return false;
    }
    let step = Step::begin("asking rustup for the sources of std");
    let child = Command::new("rustup")
        .args(["component", "add", "rust-src"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let added = child.is_ok_and(|mut child| {
        let deadline = Instant::now().checked_add(RUSTUP_WITHIN);
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return status.success();
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    step.done(if added { "they are there" } else { "not to be had; Debian's Rust serves" });
    if !added {
        // Only saves the next question.
        let _ = workspace::write(&refused, version);
    }
    added
}

fn pip() -> Result<Command> {
    let pip = || {
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
        command
    };
    if process::output(pip().arg("--version")).is_err() {
        host::ensure(&[&[host::Need { what: "/usr/bin/pip3", package: "python3-pip" }]])?;
    }
    Ok(pip())
}

/// Zig of the pinned version, in a directory of its own, installed only with the pinned hash.
fn prepare_zig(workspace: &Workspace, pin: &Pin) -> Result<PathBuf> {
    let short = pin.sha256.get(..16).unwrap_or(&pin.sha256);
    let directory = workspace.cache.join(format!("zig-{}-{short}", pin.version));
    let zig = directory.join("ziglang/zig");
    if zig.is_file() {
        return Ok(zig);
    }
    let _lock = workspace.lock("zig")?;
    if zig.is_file() {
        return Ok(zig);
    }
    let mut step = Step::begin(format!("Zig {}", pin.version));
    let scratch = tempfile::Builder::new()
        .prefix(".unfinished-zig-")
        .tempdir_in(&workspace.cache)
        .context("cannot make a directory")?;
    let requirements = scratch.path().join("requirements.txt");
    let requirement = format!("ziglang=={} --hash=sha256:{}\n", pin.version, pin.sha256);
    workspace::write(&requirements, requirement)?;
    let target = scratch.path().join("zig");
    let mut command = pip()?;
    command
        .args(["install", "--require-hashes", "--no-deps", "--no-compile", "--only-binary=:all:"])
        .arg("--target")
        .arg(&target)
        .arg("-r")
        .arg(&requirements);
    process::follow(&mut command, &mut step)
        .context("the pinned Zig cannot be installed; is the network there?")?;
    fs::rename(&target, &directory)
        .with_context(|| format!("cannot put {} in place", directory.display()))?;
    step.done("installed");
    Ok(zig)
}

/// The newest Zig that the package index offers, for `sources update`.
///
/// # Errors
/// The package index cannot be reached, or has none for this host.
pub fn offered_zig(workspace: &Workspace) -> Result<Pin> {
    let scratch = tempfile::tempdir_in(&workspace.cache).context("cannot make a directory")?;
    let mut command = pip()?;
    command.args(["download", "--no-deps", "--only-binary=:all:", "--dest"]).arg(scratch.path());
    process::output(command.arg("ziglang"))?;
    let entries = fs::read_dir(scratch.path()).context("cannot list what was downloaded")?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(version) = name.strip_prefix("ziglang-").and_then(|n| n.split('-').next()) {
            let sha256 = workspace::sha256_file(&entry.path())?;
            return Ok(Pin { version: version.to_owned(), sha256 });
        }
    }
    bail!("the package index offers no wheel of ziglang for this host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(version_numbers("rustc 1.96.0 (ac68faa20 2026-05-25)"), [1, 96]);
        assert!(version_numbers("rustc 1.100.0") > version_numbers("1.95"));
        assert!(version_numbers("rustc 1.85.1") < version_numbers("1.95"));
    }
}

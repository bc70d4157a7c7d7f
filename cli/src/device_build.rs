//! Building programs for the device: one package at a time, so that what else is built can never
//! change its bytes.

use crate::process;
use crate::progress::Step;
use crate::toolchain::{TARGET, Toolchain};
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds packages with one toolchain.
#[derive(Debug)]
pub(crate) struct DeviceBuilder<'a> {
    workspace: &'a Workspace,
    toolchain: Toolchain,
    /// The settings of `[profile.device]`, for packages outside the workspace.
    profile: Vec<String>,
}

/// How much the symbols of a program say. Its instructions are the same, a few bytes further on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DebugInfo {
    /// As `[profile.device]` has it: the line of every instruction.
    Lines,
    /// Variables and types too, for a debugger.
    Full,
}

impl<'a> DeviceBuilder<'a> {
    pub(crate) fn new(workspace: &'a Workspace, toolchain: Toolchain) -> Result<Self> {
        let path = workspace.root.join("Cargo.toml");
        let table: toml::Table = toml::from_str(&workspace::read_text(&path)?)
            .with_context(|| path.display().to_string())?;
        let profile = table
            .get("profile")
            .and_then(|profiles| profiles.get("device")?.as_table())
            .with_context(|| format!("{}: profile.device is missing", path.display()))?
            .iter()
            // What is set for single packages is about ours; cargo reads it where they are built.
            .filter(|(_, value)| !value.is_table())
            .map(|(key, value)| format!("profile.device.{key}={value}"))
            .collect();
        Ok(Self { workspace, toolchain, profile })
    }

    /// The compilers.
    pub(crate) fn toolchain(&self) -> &Toolchain {
        &self.toolchain
    }

    /// Builds the package in `directory` and returns its programs by name, with symbols. They stay
    /// there until a package with a program of the same name is built.
    pub(crate) fn build(
        &self,
        directory: &Path,
        package: &str,
        debug_info: DebugInfo,
    ) -> Result<BTreeMap<String, PathBuf>> {
        let mut step = Step::begin(format!("building {package} for the device"));
        let rust = &self.toolchain.rust;
        let key = holdfast_images::hex(&holdfast_images::sha256(&[rust.pin.sha256.as_bytes()]));
        let target_directory =
            self.workspace.root.join("target/device").join(key.get(..12).unwrap_or(&key));
        let mut command = Command::new(&rust.cargo);
        command
            .current_dir(directory)
            .args(["build", "--quiet", "--message-format=json-render-diagnostics"])
            .args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"])
            .args(["--profile", "device", "--target", TARGET])
            .arg("--target-dir")
            .arg(target_directory);
        for setting in &self.profile {
            command.arg("--config").arg(setting);
        }
        if debug_info == DebugInfo::Full {
            command.args(["--config", "profile.device.debug=\"full\""]);
        }
        command
            .args(["--package", package])
            .env("RUSTC", &rust.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUST_LIBC_UNSTABLE_MUSL_V1_2_3", "1")
            .env("CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_LINKER", &self.toolchain.linker)
            // For what crates have in C; `cc` looks for these.
            .env("CC_armv7_unknown_linux_musleabihf", &self.toolchain.linker)
            .env("AR_armv7_unknown_linux_musleabihf", "arm-linux-gnueabihf-ar")
            .env("CFLAGS_armv7_unknown_linux_musleabihf", self.c_flags())
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags().join("\u{1f}"))
            .env("ZIG_GLOBAL_CACHE_DIR", &self.toolchain.zig_cache)
            .env("ZIG_LOCAL_CACHE_DIR", &self.toolchain.zig_cache)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        // Set by the cargo that runs this program, and not meant for the device.
        for name in
            ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO", "CARGO_BUILD_TARGET", "RUSTC_WRAPPER"]
        {
            command.env_remove(name);
        }
        self.workspace.share_jobs(&mut command);
        let output =
            command.output().with_context(|| format!("cannot run {}", rust.cargo.display()))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("{package} in {} does not build:\n{}", directory.display(), complaint.trim());
        }
        let programs = executables(&String::from_utf8_lossy(&output.stdout));
        step.line(package);
        step.done("built");
        Ok(programs)
    }

    /// Compiles the C files in `src/` of a directory to one static program with symbols; `None`
    /// where there are none.
    pub(crate) fn build_c(&self, directory: &Path) -> Result<Option<PathBuf>> {
        let entries = fs::read_dir(directory.join("src")).into_iter().flatten().flatten();
        let mut sources: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
            .collect();
        if sources.is_empty() {
            return Ok(None);
        }
        sources.sort();
        let place = fs::canonicalize(directory)
            .with_context(|| format!("cannot find {}", directory.display()))?;
        let name = place.file_name().map_or("app".into(), |name| name.to_string_lossy());
        let mut step = Step::begin(format!("building {name} for the device"));
        let key =
            holdfast_images::hex(&holdfast_images::sha256(&[place.as_os_str().as_encoded_bytes()]));
        let output =
            self.workspace.root.join("target/device/c").join(key.get(..12).unwrap_or(&key));
        workspace::make_directory(&output)?;
        let program = output.join(&*name);
        let mut command = Command::new(&self.toolchain.linker);
        command
            .args(["-std=c17", "-Wall", "-Wextra", "-Os", "-g", "-static"])
            .args(["-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-D_TIME_BITS=64"])
            .args(["-Wl,-z,noexecstack", "-Wl,-z,relro,-z,now", "-Wl,--build-id=none"])
            .arg(format!("-ffile-prefix-map={}=/app", place.display()))
            .arg("-o")
            .arg(&program)
            .args(&sources)
            .env("ZIG_GLOBAL_CACHE_DIR", &self.toolchain.zig_cache)
            .env("ZIG_LOCAL_CACHE_DIR", &self.toolchain.zig_cache);
        process::output(&mut command)
            .with_context(|| format!("{} does not build", directory.display()))?;
        step.line(&name);
        step.done("built");
        Ok(Some(program))
    }

    /// Directories of this host, and what stands for them in programs: the same bytes wherever they are
    /// built.
    fn places(&self) -> Vec<(PathBuf, &'static str)> {
        let cargo_home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
        let library = self.toolchain.rust.library.clone();
        let real_library = fs::canonicalize(&library).unwrap_or_else(|_| library.clone());
        let places = [
            (Some(self.workspace.root.clone()), "/holdfast"),
            (cargo_home, "/cargo"),
            (Some(library), "/rust/library"),
            (Some(real_library), "/rust/library"),
        ];
        places.into_iter().filter_map(|(place, name)| Some((place?, name))).collect()
    }

    fn flags(&self) -> Vec<String> {
        let mut flags =
            vec!["-Clink-self-contained=no".to_owned(), "-Ctarget-cpu=cortex-a7".to_owned()];
        for (place, name) in self.places() {
            flags.push(format!("--remap-path-prefix={}={name}", place.display()));
        }
        flags
    }

    fn c_flags(&self) -> String {
        let mut flags = "-Os -fstack-protector-strong -D_TIME_BITS=64".to_owned();
        for (place, name) in self.places() {
            flags.push_str(&format!(" -ffile-prefix-map={}={name}", place.display()));
        }
        flags
    }
}

/// The programs in cargo's messages, by the names of their targets.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| {
            let program = message.get("executable")?.as_str()?.to_owned();
            let name = message.get("target")?.get("name")?.as_str()?.to_owned();
            Some((name, PathBuf::from(program)))
        })
        .collect()
}

/// The bytes of a program without its symbols; the program with them is kept in `symbols`.
pub(crate) fn strip(program: &Path, symbols: &Path) -> Result<Vec<u8>> {
    workspace::make_directory(symbols)?;
    let name = program.file_name().with_context(|| format!("{} is no file", program.display()))?;
    let kept = symbols.join(name);
    // Replaced whole: a debugger, or a test beside this build, may be reading the former one.
    let context = || format!("cannot write {}", kept.display());
    let copy = tempfile::NamedTempFile::new_in(symbols).with_context(context)?;
    fs::copy(program, copy.path()).with_context(context)?;
    copy.persist(&kept).with_context(context)?;
    let stripped = tempfile::NamedTempFile::new_in(symbols).context("cannot make a file")?;
    process::output(
        Command::new("arm-linux-gnueabihf-strip")
            .args(["--strip-all", "--enable-deterministic-archives", "-o"])
            .arg(stripped.path())
            .arg(program),
    )?;
    workspace::read(stripped.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"x"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"init"},"executable":"/t/init"}
{"reason":"build-finished","success":true}"#;
        let found = executables(messages);
        assert_eq!(found, BTreeMap::from([("init".to_owned(), PathBuf::from("/t/init"))]));
    }
}

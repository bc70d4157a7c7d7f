//! Building programs for the device: one package at a time, so that what else is built can never
//! change its bytes. Those of the checkout are cached by everything that goes into them.

mod build_id;
mod c_app;
mod c_library;
mod cache;
mod inputs;
mod package;
mod relevant;
mod symbols;

use crate::pins::Pin;
use crate::process;
use crate::progress::Step;
use crate::toolchain::{TARGET, Toolchain};
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail};
use inputs::{Inputs, Workspaces, cargo_home};
pub use package::{Package, cargo_package};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
pub use symbols::strip;
pub(crate) use symbols::{STRIP, keep_symbols, strip_symbols};

/// Changes with the way programs are built here, so that no older one is taken for a new one.
const RECIPE: &str = "1";

/// Options of cargo: std is built along, for size.
pub(crate) const CARGO_OPTIONS: [&str; 6] = [
    "-Zbuild-std=std,panic_abort",
    "-Zbuild-std-features=optimize_for_size",
    "--profile",
    "device",
    "--target",
    TARGET,
];
/// Flags of the Rust compiler. Thumb-2 code is a quarter smaller. Nobody unwinds: a panic aborts, and addresses are
/// looked up on a host. The processor is the least of all boards', that of the BeagleBone Black, which has no instruction
/// for division and none that multiplies and adds at once: a package runs on every board, whoever has built it.
pub(crate) const RUST_FLAGS: [&str; 4] = [
    "-Clink-self-contained=no",
    "-Ctarget-cpu=cortex-a8",
    "-Ctarget-feature=+thumb-mode",
    "-Cforce-unwind-tables=no",
];
/// The Rust compiler's flag by which the linker leaves room for a build id, which is made when a program is stripped.
pub(crate) fn build_id_flag() -> String {
    format!("-Clink-arg={}", build_id::ROOM)
}

/// Flags of the C compiler, for what crates have in C.
pub(crate) const C_FLAGS: &str = "-Os -mthumb -fstack-protector-strong -D_TIME_BITS=64";
/// Variables by which std is built with 64-bit time, on a stable compiler.
pub(crate) const CARGO_ENVIRONMENT: [(&str, &str); 2] =
    [("RUSTC_BOOTSTRAP", "1"), ("RUST_LIBC_UNSTABLE_MUSL_V1_2_3", "1")];

/// Variables that change what cargo builds for this host, or where, and are not meant for the device.
pub const FOR_THE_HOST: [&str; 7] = [
    "CARGO",
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_TARGET",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Builds packages with one toolchain.
#[derive(Debug)]
pub struct DeviceBuilder<'a> {
    workspace: &'a Workspace,
    toolchain: Toolchain,
    /// Pin of the toolchain's Zig.
    zig: Pin,
    workspaces: Workspaces,
    /// The settings of `[profile.device]`, for packages outside the workspace.
    profile: Vec<String>,
}

/// The detail of a program's debug information. Its instructions are the same, a few bytes further on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugInfo {
    /// The line of every instruction, as `[profile.device]` has it.
    Lines,
    /// Variables and types too, for a debugger.
    Full,
}

impl<'a> DeviceBuilder<'a> {
    /// A builder with this toolchain, whose Zig is `zig`.
    pub(crate) fn new(workspace: &'a Workspace, toolchain: Toolchain, zig: &Pin) -> Result<Self> {
        let path = workspace.root.join("Cargo.toml");
        let table: toml::Table = workspace::read_toml(&path)?;
        let profile = table
            .get("profile")
            .and_then(|profiles| profiles.get("device")?.as_table())
            .with_context(|| format!("{}: profile.device is missing", path.display()))?
            .iter()
            // What is set for single packages is about ours; cargo reads it where they are built.
            .filter(|(_, value)| !value.is_table())
            .map(|(key, value)| format!("profile.device.{key}={value}"))
            .collect();
        let (zig, workspaces) = (zig.clone(), Workspaces::default());
        Ok(Self { workspace, toolchain, zig, workspaces, profile })
    }

    /// The compilers.
    pub fn toolchain(&self) -> &Toolchain {
        &self.toolchain
    }

    /// Builds a package, or finds it in the cache, and returns its programs by name, with symbols. They stay there
    /// until a package with a program of the same name is built.
    ///
    /// # Errors
    /// The package does not build; what the compiler says is in the message.
    pub fn build(
        &self,
        package: &Package,
        debug_info: DebugInfo,
    ) -> Result<BTreeMap<String, PathBuf>> {
        let settings = self.settings(package, debug_info)?;
        self.cached(&package.directory, &package.name, &settings, || {
            self.build_with_cargo(package, debug_info)
        })
    }

    /// Finds the programs of a package in the cache, or builds them and keeps them there. `settings` is what
    /// they depend on beside the files of the checkout and the compiler.
    ///
    /// # Errors
    /// As `build`, or the cache cannot be used.
    pub fn cached(
        &self,
        directory: &Path,
        package: &str,
        settings: &[String],
        build: impl FnOnce() -> Result<BTreeMap<String, PathBuf>>,
    ) -> Result<BTreeMap<String, PathBuf>> {
        let inputs = self.inputs(directory, package, settings)?;
        if let Some(inputs) = &inputs
            && let Some(programs) = cache::find(self.workspace, &inputs.key)
        {
            return Ok(programs);
        }
        let _lock = self.workspace.lock_device_builds()?;
        let programs = build()?;
        // Where a file was changed meanwhile, nobody knows which of the two was built.
        let Some(inputs) = inputs.filter(|before| {
            let after = self.inputs(directory, package, settings);
            after.is_ok_and(|after| after.as_ref() == Some(before))
        }) else {
            return Ok(programs);
        };
        if let Some(stray) = inputs.stray(&programs)? {
            let stray = stray.display();
            eprintln!("{package}: not cached, since {stray} is in no package that it depends on");
            return Ok(programs);
        }
        cache::keep(self.workspace, &inputs.key, &programs)
    }

    /// Everything that goes into the programs of a package; `None` where they cannot be cached.
    fn inputs(
        &self,
        directory: &Path,
        package: &str,
        settings: &[String],
    ) -> Result<Option<Inputs>> {
        let checkout = &self.workspace.root;
        // Cargo names files by where they really are, and no flag maps that.
        if fs::canonicalize(checkout).ok().as_ref() != Some(checkout) {
            return Ok(None);
        }
        let rust = &self.toolchain.rust;
        let compiler = [RECIPE, &rust.pin.version, &rust.pin.sha256].map(str::to_owned);
        let settings = [compiler.as_slice(), settings].concat();
        self.workspaces.inputs(rust, checkout, directory, package, &settings)
    }

    /// The settings that a program for the device depends on beside its sources and the compiler.
    fn settings(&self, package: &Package, debug_info: DebugInfo) -> Result<Vec<String>> {
        let linker = workspace::read_text(&self.toolchain.linker)?;
        let mut settings = vec![
            self.zig.version.clone(),
            self.zig.sha256.clone(),
            linker.replace(&self.toolchain.zig.display().to_string(), "/zig"),
        ];
        settings.extend(self.arguments(package, debug_info));
        // The same in every checkout, as it is in programs.
        let stand_ins = self.places().into_iter().map(|(_, name)| (name.into(), name)).collect();
        for (name, value) in environment(stand_ins) {
            settings.extend([name.to_owned(), value]);
        }
        Ok(settings)
    }

    fn build_with_cargo(
        &self,
        package: &Package,
        debug_info: DebugInfo,
    ) -> Result<BTreeMap<String, PathBuf>> {
        let (directory, name) = (&package.directory, &package.name);
        let mut step = Step::begin(format!("building {name} for the device"));
        let rust = &self.toolchain.rust;
        let key = holdfast_images::hex(&holdfast_images::sha256(&[rust.pin.sha256.as_bytes()]));
        let target_directory =
            self.workspace.root.join("target/device").join(key.get(..12).unwrap_or(&key));
        let mut command = Command::new(&rust.cargo);
        command
            .current_dir(directory)
            .args(self.arguments(package, debug_info))
            .arg("--target-dir")
            .arg(target_directory)
            .envs(environment(self.places()))
            .env("RUSTC", &rust.rustc)
            .env("CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_LINKER", &self.toolchain.linker)
            // For what crates have in C; `cc` looks for it.
            .env("CC_armv7_unknown_linux_musleabihf", &self.toolchain.linker)
            .env("ZIG_GLOBAL_CACHE_DIR", &self.toolchain.zig_cache)
            .env("ZIG_LOCAL_CACHE_DIR", &self.toolchain.zig_cache)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        for name in FOR_THE_HOST {
            command.env_remove(name);
        }
        self.workspace.share_jobs(&mut command);
        let output =
            command.output().with_context(|| format!("cannot run {}", rust.cargo.display()))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{name} in {} does not build:\n{}", directory.display(), complaint.trim());
        }
        let programs = executables(&String::from_utf8_lossy(&output.stdout));
        step.show_line(name);
        step.done("built");
        warn(&complaint);
        Ok(programs)
    }

    /// Arguments by which cargo builds a package.
    fn arguments(&self, package: &Package, debug_info: DebugInfo) -> Vec<String> {
        let mut arguments = vec!["build", "--quiet", "--message-format=json-render-diagnostics"];
        arguments.extend(CARGO_OPTIONS);
        for setting in &self.profile {
            arguments.extend(["--config", setting]);
        }
        if debug_info == DebugInfo::Full {
            arguments.extend(["--config", "profile.device.debug=\"full\""]);
        }
        arguments.extend(["--package", &package.name]);
        let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        arguments.extend(package.feature_arguments());
        arguments
    }

    /// Compiles the C files below `src/` of a directory to one static program with symbols; `None`
    /// where there are none.
    pub(crate) fn build_c(&self, directory: &Path) -> Result<Option<PathBuf>> {
        let Some(sources) = c_app::Sources::find(directory)? else {
            return Ok(None);
        };
        let library = self.library_for(&sources)?;
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
            .args(c_app::FLAGS)
            .arg(format!("-ffile-prefix-map={}=/app", place.display()))
            .args(sources.include_directories().iter().map(|path| format!("-I{}", path.display())))
            .args(library.iter().map(|library| format!("-I{}", library.include.display())))
            .arg("-o")
            .arg(&program)
            .args(&sources.files)
            .args(
                library
                    .iter()
                    .flat_map(|library| [library.archive.as_path(), Path::new("-lunwind")]),
            )
            .env("ZIG_GLOBAL_CACHE_DIR", &self.toolchain.zig_cache)
            .env("ZIG_LOCAL_CACHE_DIR", &self.toolchain.zig_cache)
            .stdin(Stdio::null());
        let compiled = command
            .output()
            .with_context(|| format!("cannot run {}", self.toolchain.linker.display()))?;
        let complaint = String::from_utf8_lossy(&compiled.stderr);
        if !compiled.status.success() {
            bail!("{} does not build:\n{}", directory.display(), complaint.trim());
        }
        step.show_line(&name);
        step.done("built");
        warn(&complaint);
        Ok(Some(program))
    }

    /// Directories of this host, and what stands for them in programs: the same bytes wherever they are
    /// built.
    fn places(&self) -> Vec<(PathBuf, &'static str)> {
        let library = self.toolchain.rust.library.clone();
        let real_library = fs::canonicalize(&library).unwrap_or_else(|_| library.clone());
        let places = [
            (Some(self.workspace.root.clone()), "/holdfast"),
            (cargo_home(), "/cargo"),
            (Some(library), "/rust/library"),
            (Some(real_library), "/rust/library"),
        ];
        places.into_iter().filter_map(|(place, name)| Some((place?, name))).collect()
    }
}

/// Shows what a compiler has said of a program that it has built: its warnings. That Thumb mode is no stable feature is
/// said of every program, and is known.
fn warn(complaint: &str) {
    let known = "warning: unstable feature specified for `-Ctarget-feature`: `thumb-mode`";
    for paragraph in complaint.split("\n\n").filter(|text| !text.trim_start().starts_with(known)) {
        if !paragraph.trim().is_empty() {
            eprintln!("{}", paragraph.trim_end());
        }
    }
}

/// The variables with which cargo builds for the device, with `places` for the directories of this host.
fn environment(places: Vec<(PathBuf, &'static str)>) -> [(&'static str, String); 6] {
    let mut flags: Vec<String> = RUST_FLAGS.map(str::to_owned).into();
    flags.push(build_id_flag());
    let mut c_flags = C_FLAGS.to_owned();
    for (place, name) in places {
        flags.push(format!("--remap-path-prefix={}={name}", place.display()));
        let map = format!("-ffile-prefix-map={}={name}", place.display());
        c_flags.push_str(&format!(" {}", process::shell_word(&map)));
    }
    let [bootstrap, wide_time] = CARGO_ENVIRONMENT.map(|(name, value)| (name, value.to_owned()));
    [
        bootstrap,
        wide_time,
        ("AR_armv7_unknown_linux_musleabihf", "arm-linux-gnueabihf-ar".to_owned()),
        ("CFLAGS_armv7_unknown_linux_musleabihf", c_flags),
        // `cc` takes them apart as a shell does, and not at every blank.
        ("CC_SHELL_ESCAPED_FLAGS", "1".to_owned()),
        ("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")),
    ]
}

/// The programs in cargo's messages, by the names of their targets, and libraries for C by the names of their files.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| {
            if let Some(program) = message.get("executable")?.as_str() {
                let name = message.get("target")?.get("name")?.as_str()?.to_owned();
                return Some((name, PathBuf::from(program)));
            }
            let mut files = message.get("filenames")?.as_array()?.iter().filter_map(Value::as_str);
            let archive = PathBuf::from(files.find(|file| file.ends_with(".a"))?);
            Some((archive.file_name()?.to_str()?.to_owned(), archive))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::Rust;

    /// A checkout with the app `app`, which needs the library `needed`, and for its tests the library `tested`.
    struct Checkout {
        _scratch: tempfile::TempDir,
        workspace: Workspace,
        toolchain: Toolchain,
    }

    impl Checkout {
        fn new(place: &str) -> Self {
            let scratch = tempfile::tempdir().unwrap();
            let root = fs::canonicalize(scratch.path()).unwrap().join(place);
            let cache = scratch.path().join("cache");
            let rust = Rust {
                name: "rust-test",
                rustc: "rustc".into(),
                cargo: env!("CARGO").into(),
                library: root.join("library"),
                pin: Pin { version: "1".to_owned(), sha256: "1".to_owned() },
            };
            let toolchain = Toolchain {
                rust,
                linker: cache.join("zig-cc"),
                zig: cache.join("zig"),
                zig_cache: cache.join("zig-cache"),
            };
            let wrapper = format!("exec {}/zig cc", toolchain.zig.display());
            workspace::write(&toolchain.linker, wrapper).unwrap();
            let checkout = Self {
                _scratch: scratch,
                workspace: Workspace { root, cache, jobs: None },
                toolchain,
            };
            let package = |name: &str, more: &str| {
                let text = format!("[package]\nname = \"{name}\"\nedition = \"2024\"\n{more}");
                checkout.write(&format!("{name}/Cargo.toml"), &text);
                checkout.write(&format!("{name}/src/lib.rs"), "//! A library.\n");
            };
            checkout.write(
                "Cargo.toml",
                "[workspace]\nmembers = [\"app\"]\n[profile.device]\nopt-level = 1\n",
            );
            checkout.write("Cargo.lock", "version = 4\n");
            package("needed", "");
            package("tested", "");
            package(
                "app",
                "[dependencies]\nneeded.path = \"../needed\"\n\
                 [dev-dependencies]\ntested.path = \"../tested\"\n",
            );
            checkout
        }

        fn write(&self, file: &str, text: &str) {
            workspace::write(&self.workspace.root.join(file), text).unwrap();
        }

        fn inputs_with(
            &self,
            zig: &str,
            debug_info: DebugInfo,
            features: &[&str],
        ) -> Option<Inputs> {
            let zig = Pin { version: zig.to_owned(), sha256: "1".to_owned() };
            let builder =
                DeviceBuilder::new(&self.workspace, self.toolchain.clone(), &zig).unwrap();
            let directory = self.workspace.root.join("app");
            let features = features.iter().map(|feature| (*feature).to_owned()).collect();
            let package = Package { features, ..Package::new(&directory, "app") };
            let settings = builder.settings(&package, debug_info).unwrap();
            builder.inputs(&directory, "app", &settings).unwrap()
        }

        fn key(&self) -> Option<String> {
            self.inputs_with("1", DebugInfo::Lines, &[]).map(|inputs| inputs.key)
        }
    }

    #[test]
    fn a_key_changes_with_everything_that_goes_in() {
        let mut checkout = Checkout::new("checkout");
        let mut seen = vec![checkout.key().unwrap()];
        let mut expect_new = |checkout: &Checkout, what: &str| {
            let key = checkout.key().unwrap();
            assert!(!seen.contains(&key), "{what}");
            seen.push(key);
        };
        for file in ["app/src/main.rs", "app/notes/page", "needed/src/lib.rs", "Cargo.lock"] {
            checkout.write(file, "version = 4\n\n");
            expect_new(&checkout, file);
        }
        fs::rename(
            checkout.workspace.root.join("app/notes/page"),
            checkout.workspace.root.join("app/notes/another"),
        )
        .unwrap();
        expect_new(&checkout, "the name of a file");
        checkout.write(".cargo/config.toml", "[profile.device]\nlto = true\n");
        expect_new(&checkout, "cargo's configuration");
        checkout.write(
            "Cargo.toml",
            "[workspace]\nmembers = [\"app\"]\n[profile.device]\nopt-level = 2\n",
        );
        expect_new(&checkout, "the profile");
        checkout.toolchain.rust.pin.sha256 = "2".to_owned();
        expect_new(&checkout, "the compiler");
        workspace::write(&checkout.toolchain.linker, "exec zig cc -g").unwrap();
        expect_new(&checkout, "the linker");
        for (zig, debug_info, features) in [
            ("1", DebugInfo::Full, &[][..]),
            ("2", DebugInfo::Lines, &[]),
            ("1", DebugInfo::Lines, &["a"]),
            ("1", DebugInfo::Lines, &["a", "b"]),
        ] {
            let key = checkout.inputs_with(zig, debug_info, features).unwrap().key;
            assert!(!seen.contains(&key), "Zig {zig}, {debug_info:?}, features {features:?}");
            seen.push(key);
        }
    }

    #[test]
    fn a_key_is_the_same_in_every_checkout_whatever_was_built_there() {
        let (one, other) = (Checkout::new("one"), Checkout::new("another place"));
        assert_eq!(one.key().unwrap(), other.key().unwrap());
        other.write("app/target/CACHEDIR.TAG", "");
        other.write("app/target/debug/app", "built");
        other.write("tested/src/lib.rs", "//! No program has this.\n");
        assert_eq!(one.key().unwrap(), other.key().unwrap());
    }

    #[test]
    fn what_cannot_be_told_has_no_key() {
        let outside = Checkout::new("outside");
        outside.write("../elsewhere/Cargo.toml", "[package]\nname = \"elsewhere\"\n");
        outside.write("../elsewhere/src/lib.rs", "");
        outside.write(
            "app/Cargo.toml",
            "[package]\nname = \"app\"\n[dependencies]\nelsewhere.path = \"../../elsewhere\"\n",
        );
        let runs = Checkout::new("runs");
        runs.write("needed/build.rs", "fn main() {}\n");
        let linked = Checkout::new("linked");
        let link = linked.workspace.root.join("needed/src/link.rs");
        std::os::unix::fs::symlink("/etc/hostname", link).unwrap();
        let unlocked = Checkout::new("unlocked");
        fs::remove_file(unlocked.workspace.root.join("Cargo.lock")).unwrap();
        let broken = Checkout::new("broken");
        broken.write("app/Cargo.toml", "[package");
        for checkout in [outside, runs, linked, unlocked, broken] {
            assert_eq!(checkout.key(), None, "{}", checkout.workspace.root.display());
        }
    }

    #[test]
    fn flags_map_the_directories_of_this_host() {
        let variables = BTreeMap::from(environment(vec![("/home/me".into(), "/holdfast")]));
        assert!(
            variables["CARGO_ENCODED_RUSTFLAGS"]
                .ends_with("--remap-path-prefix=/home/me=/holdfast")
        );
        assert!(
            variables["CFLAGS_armv7_unknown_linux_musleabihf"]
                .ends_with(" -ffile-prefix-map=/home/me=/holdfast")
        );
    }

    #[test]
    fn a_flag_stays_one_word_whatever_a_directory_is_called() {
        let place = PathBuf::from("/home/me/mein Holdfast \u{fc}'s");
        let variables = BTreeMap::from(environment(vec![(place, "/holdfast")]));
        assert_eq!(variables["CC_SHELL_ESCAPED_FLAGS"], "1");
        let flags = &variables["CFLAGS_armv7_unknown_linux_musleabihf"];
        let script = format!("for flag in {flags}; do echo \"$flag\"; done");
        let words = process::output(Command::new("sh").args(["-c", &script])).unwrap();
        let last = words.lines().last();
        assert_eq!(last, Some("-ffile-prefix-map=/home/me/mein Holdfast \u{fc}'s=/holdfast"));
    }

    #[test]
    fn programs_are_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"x"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"init"},"executable":"/t/init"}
{"reason":"build-finished","success":true}"#;
        let found = executables(messages);
        assert_eq!(found, BTreeMap::from([("init".to_owned(), PathBuf::from("/t/init"))]));
    }
}

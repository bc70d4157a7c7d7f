//! Apps that link dynamically, built as their authors would elsewhere: with Debian's compiler and
//! libc for ARM, the loader and the libraries in the package. One is in C, one in Rust.

use super::test_run::TestRun;
use anyhow::{Context, Result};
use holdfast_builder::device_build::{DeviceBuilder, FOR_THE_HOST};
use holdfast_builder::progress::Step;
use holdfast_builder::{host, process, workspace};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const COMPILER: &str = "arm-linux-gnueabihf-gcc";
/// Libraries of Debian's libc for ARM.
const LIBRARIES: &str = "/usr/arm-linux-gnueabihf/lib";
/// Rust's name of a device with that libc.
const TARGET: &str = "armv7-unknown-linux-gnueabihf";

/// Makes the directories of both apps anew, in `directory`: `dynamic` and `dynamic-rust`.
pub(super) fn build(
    test_run: &TestRun,
    devices: &DeviceBuilder<'_>,
    directory: &Path,
) -> Result<Vec<PathBuf>> {
    host::ensure(&[host::KERNEL, host::DEBIAN_LIBC])?;
    let step = Step::begin("building dynamic apps".to_owned());
    let apps = vec![in_c(test_run, directory)?, in_rust(test_run, devices, directory)?];
    step.done("built");
    Ok(apps)
}

fn in_c(test_run: &TestRun, directory: &Path) -> Result<PathBuf> {
    let source = test_run.workspace.root.join("tests/apps/dynamic");
    let manifest = workspace::read_text(&source.join("app_manifest.json"))?;
    let app = app_directory(&directory.join("dynamic"), &manifest, &[])?;
    let compile = |output: &Path, arguments: &[&str]| {
        let mut command = Command::new(COMPILER);
        command.args(["-std=c17", "-Wall", "-Wextra", "-Os", "-s", "-Wl,-z,noexecstack"]);
        command.current_dir(&source).args(arguments).arg("-o").arg(output);
        process::output(&mut command)
    };
    let library = app.join("root/lib/libgreeting.so");
    compile(&library, &["-shared", "-fPIC", "-Wl,-soname,libgreeting.so", "library.c"])?;
    compile(&app.join("root/bin/app"), &["program.c", &library.to_string_lossy()])?;
    Ok(app)
}

/// The program of `examples/hello` for another target. Nothing else has one with a prebuilt std.
fn in_rust(test_run: &TestRun, devices: &DeviceBuilder<'_>, directory: &Path) -> Result<PathBuf> {
    let root = &test_run.workspace.root;
    let manifest = workspace::read_text(&root.join("examples/hello/app_manifest.json"))?
        .replace("\"hello\"", "\"dynamic-rust\"")
        .replace("c2b0a6f8", "c2b0a6f9");
    let app = app_directory(&directory.join("dynamic-rust"), &manifest, &["libgcc_s.so.1"])?;
    let arguments = [
        "build",
        "--quiet",
        "--release",
        "--package",
        "hello",
        "--target",
        TARGET,
        "-Zbuild-std=std,panic_abort",
    ];
    let mut settings: Vec<String> = arguments.map(str::to_owned).to_vec();
    settings.push(process::output(Command::new(COMPILER).arg("--version"))?);
    for file in ["crt1.o", "libc.so.6", "libgcc_s.so.1"] {
        settings.push(workspace::sha256_file(&Path::new(LIBRARIES).join(file))?);
    }
    let built = devices.cached(root, "hello", &settings, || {
        let rust = &devices.toolchain().rust;
        let target_directory = root.join("target/device/dynamic");
        let mut command = Command::new(&rust.cargo);
        command
            .current_dir(root)
            .args(arguments)
            .arg("--target-dir")
            .arg(&target_directory)
            .env("RUSTC", &rust.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER", COMPILER);
        for name in FOR_THE_HOST {
            command.env_remove(name);
        }
        test_run.workspace.share_jobs(&mut command);
        process::output(&mut command)?;
        let program = target_directory.join(TARGET).join("release/hello");
        Ok(BTreeMap::from([("hello".to_owned(), program)]))
    })?;
    let program = built.get("hello").context("hello was not built")?;
    copy(program, &app.join("root/bin/app"))?;
    Ok(app)
}

/// A directory with a manifest, the loader, libc and `more` libraries.
fn app_directory(directory: &Path, manifest: &str, more: &[&str]) -> Result<PathBuf> {
    // What an older build has left is no part of this one.
    let _ = fs::remove_dir_all(directory);
    let lib = directory.join("root/lib");
    workspace::make_directory(&lib)?;
    workspace::make_directory(&directory.join("root/bin"))?;
    workspace::write(&directory.join("app_manifest.json"), manifest)?;
    for name in ["ld-linux-armhf.so.3", "libc.so.6"].iter().chain(more) {
        copy(&Path::new(LIBRARIES).join(name), &lib.join(name))?;
    }
    Ok(directory.to_owned())
}

/// With its mode: the kernel executes programs and loaders.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

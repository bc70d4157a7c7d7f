//! An OEM's way: a tree and a package of his own, an app of what Buildroot has built, an image manifest that names it,
//! and what he may get wrong in that.

use super::{Buildroot, Checks, DEFAULT_BOARD, OEM_TREE, symbols};
use anyhow::{Context, Result, ensure};
use holdfast_builder::process;
use holdfast_builder::workspace;
use holdfast_images::{show, verify};
use holdfast_qemu::machine::Machine;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The app's name, and its directory in that tree.
const APP: &str = "meter";
const APP_DIRECTORY: &str = "meter-app";
/// A file of Buildroot's target directory that the app needs beside its program and libraries.
const DATA: &str = "usr/share/meter";
/// The app's program with its symbols, below the output directory, and without them.
const LINKED: &str = "build/meter-1.0.0/meter";
const STRIPPED: &str = "target/usr/bin/meter";
/// What the app prints in a guest.
const LINE: &str = "meter: reading 3 kWh";
/// Memory of the guest in MiB.
const MEMORY_MIB: u32 = 64;
/// Time in which the app has printed that.
const BOOT: Duration = Duration::from_secs(120);

impl Buildroot {
    /// What an OEM does with the output of the first build.
    pub(super) fn check_oem(&self, checks: &mut Checks<'_>) {
        let oem = match Oem::new(self, &self.output.join("first").join(DEFAULT_BOARD)) {
            Ok(oem) => oem,
            Err(error) => return checks.check("an_oem_makes_a_key", Err(error)),
        };
        checks.check("an_oems_program_keeps_its_build_id", oem.build_id_is_kept());
        checks.check("an_app_of_an_oems_package_runs", oem.app_runs());
        for (mistake, result) in oem.refusals() {
            checks.check(&format!("an_image_with_{mistake}_ends_with_a_sentence"), result);
        }
    }
}

/// What an OEM has made for his app.
struct Oem<'a> {
    buildroot: &'a Buildroot,
    /// The output directory in which the package was built.
    output: PathBuf,
    /// Where the app's package, its key and image manifests lie.
    place: PathBuf,
}

impl<'a> Oem<'a> {
    /// Makes a key, and packs and signs the app from what the build in `output` has in its target directory.
    fn new(buildroot: &'a Buildroot, output: &Path) -> Result<Self> {
        let place = buildroot.output.join("oem");
        if place.is_dir() {
            fs::remove_dir_all(&place)
                .with_context(|| format!("cannot remove {}", place.display()))?;
        }
        workspace::make_directory(&place)?;
        let oem = Self { buildroot, output: output.to_owned(), place };
        let key = oem.place.join("oem.pem");
        oem.tool(&["key", "new", "--for", "app", "--output"], &[&key])?;
        Ok(oem)
    }

    fn tool(&self, words: &[&str], paths: &[&Path]) -> Result<()> {
        let mut command = Command::new(&self.buildroot.host_tool);
        process::output(command.args(words).args(paths)).map(drop)
    }

    /// Packs and signs the app for a board, or for any where it is empty.
    fn package(&self, board: &str) -> Result<PathBuf> {
        let package = self.place.join(format!("meter{board}.package"));
        let mut command = Command::new(&self.buildroot.host_tool);
        command
            .args(["app", "pack"])
            .arg(self.buildroot.external.join(OEM_TREE).join(APP_DIRECTORY));
        command.arg("--root").arg(self.output.join("target")).args(["--with", DATA]);
        command.args(["--board", board, "--output"]).arg(&package);
        process::output(&mut command)?;
        self.tool(&["app", "sign", "--key"], &[&self.place.join("oem.pem"), &package])?;
        Ok(package)
    }

    /// Writes an image manifest with the app, whose signer is `key`.
    fn manifest(&self, package: &Path, key: &str) -> Result<PathBuf> {
        let text = format!(
            "schema = 1\nname = \"{APP}\"\nversion = \"1.0.0\"\nboard = \"{DEFAULT_BOARD}\"\nmemory_mib = {MEMORY_MIB}\n\n\
             [[app]]\npath = {package:?}\n\n[trust]\napp_keys = [\"{key}\"]\n\n\
             [slots]\nboot_mib = 8\nroot_mib = 8\n\n[storage]\nstate_mib = 8\napps_mib = 16\ndata_mib = 16\n"
        );
        let path = self.place.join(format!("{key}.toml"));
        workspace::write(&path, text)?;
        Ok(path)
    }

    fn configure(&self, manifest: &Path) -> Result<()> {
        let line = format!("BR2_HOLDFAST_IMAGE=\"{}\"", manifest.display());
        self.buildroot.reconfigure(&self.output, &line)
    }

    /// The package's program has in the target directory the build id of the one with symbols that Buildroot has linked.
    fn build_id_is_kept(&self) -> Result<()> {
        let id = |place: &str| {
            let program = workspace::read(&self.output.join(place))?;
            symbols::build_id(&program)
        };
        let (linked, stripped) = (id(LINKED)?, id(STRIPPED)?);
        ensure!(!linked.is_empty(), "{LINKED}: has no build id");
        ensure!(linked == stripped, "{STRIPPED}: has another build id than {LINKED}");
        Ok(())
    }

    /// The app runs in an image whose manifest the configuration names.
    fn app_runs(&self) -> Result<()> {
        let package = self.package("")?;
        self.configure(&self.manifest(&package, "oem.pub.pem")?)?;
        process::output(&mut self.buildroot.make(&self.output))?;
        let image = self.output.join("images/meter.img");
        let chain = verify::verify(&image, None, Some(DEFAULT_BOARD))?;
        ensure!(chain.is_sound(), "the boot loader would not start it");
        // The package's files are in the app, and not in the root.
        let shown = show::show(&image)?;
        let strays: Vec<&String> =
            shown.files.iter().map(|file| &file.path).filter(|path| path.contains(APP)).collect();
        ensure!(strays.is_empty(), "the root has {strays:?}");
        let mut guest = Machine::new(&image, MEMORY_MIB).start(None)?;
        guest.wait(LINE, BOOT)?;
        Ok(())
    }

    /// Each mistake by its name, with whether the build ended as it must.
    fn refusals(&self) -> Vec<(&'static str, Result<()>)> {
        vec![
            (
                "an_app_for_another_board",
                self.refused("orangepi-pc", "oem.pub.pem", "is for board"),
            ),
            ("a_missing_key", self.refused("", "lost.pub.pem", "lost.pub.pem")),
            ("an_unknown_signer", self.unknown_signer()),
        ]
    }

    fn refused(&self, board: &str, key: &str, sentence: &str) -> Result<()> {
        let package = self.package(board)?;
        self.configure(&self.manifest(&package, key)?)?;
        self.buildroot.ends_with(&self.output, sentence)
    }

    fn unknown_signer(&self) -> Result<()> {
        let other = self.place.join("other.pem");
        self.tool(&["key", "new", "--for", "app", "--output"], &[&other])?;
        self.refused("", "other.pub.pem", "is signed by another key")
    }
}

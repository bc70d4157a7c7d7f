//! Building images from their manifests, with everything that goes into them.

mod bill;
mod device_programs;
pub mod parts;
pub mod programs;
mod provenance;

use crate::development_keys;
use crate::device_build::{DeviceBuilder, Package, cargo_package};
use crate::kernel::{self, Kernel, Purpose};
use crate::pins::{self, Pins};
use crate::toolchain::{Rust, Toolchain};
use crate::u_boot::UBoot;
use crate::workspace::{self, Workspace};
use crate::{host, u_boot};
use anyhow::{Context, Result, anyhow, bail};
use bill::Libc;
use holdfast_images::app;
use holdfast_images::board::Board;
use holdfast_images::boards::Boards;
use holdfast_images::boot::{BootKey, BootSigningKey};
use holdfast_images::boot_loader;
use holdfast_images::build::{self, Development, Inputs, ServiceInputs, Sizes, UpdateInputs};
use holdfast_images::destination;
use holdfast_images::key::PublicKey;
use holdfast_images::manifest::{ImageManifest, SecurityServiceSource, UpdateSource};
use holdfast_images::own_services;
use holdfast_images::service::Service;
use holdfast_qemu::machine;
use parts::Parts;
use provenance::{Compilers, Provenance};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The image that commands use when none is named.
pub const DEFAULT_MANIFEST: &str = "images/hello.toml";

/// An image on disk.
#[derive(Debug, Clone)]
pub struct Built {
    /// Path of the image.
    pub path: PathBuf,
    /// Directory of the programs with their symbols.
    pub symbols: PathBuf,
    /// The manifest that the image was built from.
    pub manifest: ImageManifest,
    /// Memory of the device, in MiB.
    pub memory_mib: u32,
    /// Sizes of the image's parts.
    pub sizes: Sizes,
}

/// Tools that images are built with; made once, used for any number of images.
#[derive(Debug)]
pub struct ImageBuilder<'a> {
    workspace: &'a Workspace,
    pins: Pins,
    /// None where nothing is compiled: what is needed then comes built.
    devices: Option<DeviceBuilder<'a>>,
    /// Parts built by another build system, which are taken instead of building them.
    parts: Option<Parts>,
    locked: bool,
    production: bool,
    /// The app that waits for a debugger.
    debugged: Option<String>,
    /// Memory of the machine, instead of the manifest's.
    memory_mib: Option<u32>,
    /// The service that devices check in with, instead of the manifest's.
    service: Option<SecurityServiceSource>,
}

impl<'a> ImageBuilder<'a> {
    /// The tools of this host; `locked` refuses sources that are not the pinned ones, `production` that and what
    /// belongs to development.
    ///
    /// # Errors
    /// The host lacks something that cannot be installed, or a source is not the pinned one and must be.
    pub fn new(workspace: &'a Workspace, locked: bool, production: bool) -> Result<Self> {
        host::ensure(&[host::IMAGE, host::TOOLCHAIN, host::KERNEL])?;
        let pins = pins::load(workspace)?;
        let locked = locked || production;
        let toolchain = Toolchain::prepare(workspace, &pins, locked)?;
        let devices = DeviceBuilder::new(workspace, toolchain, pins::pin(&pins, pins::ZIG)?)?;
        Ok(Self { devices: Some(devices), ..Self::with(workspace, pins, locked, production) })
    }

    /// A builder that compiles nothing: kernel, boot loader and all programs were built elsewhere. `locked` and
    /// `production` are as for [`new`](Self::new).
    ///
    /// # Errors
    /// The host lacks something that cannot be installed, or the pins cannot be read.
    pub fn of_parts(
        workspace: &'a Workspace,
        parts: Parts,
        locked: bool,
        production: bool,
    ) -> Result<Self> {
        host::ensure(&[host::IMAGE])?;
        let pins = pins::load(workspace)?;
        let builder = Self::with(workspace, pins, locked || production, production);
        Ok(Self { parts: Some(parts), ..builder })
    }

    fn with(workspace: &'a Workspace, pins: Pins, locked: bool, production: bool) -> Self {
        Self {
            workspace,
            pins,
            devices: None,
            parts: None,
            locked,
            production,
            debugged: None,
            memory_mib: None,
            service: None,
        }
    }

    /// From now on, takes kernel, boot loader and those programs that are there from parts that were built
    /// elsewhere, and builds the others.
    pub fn take_parts(&mut self, parts: Option<Parts>) {
        self.parts = parts;
    }

    /// Sets the app that waits for a debugger in the images that are built from now on.
    pub fn set_debugged(&mut self, app: Option<&str>) {
        self.debugged = app.map(str::to_owned);
    }

    /// Sets the memory in MiB of the machine for which images are built from now on: boot loader and kernel are told,
    /// and do not
    /// find out by themselves.
    pub fn set_memory_mib(&mut self, mib: Option<u32>) {
        self.memory_mib = mib;
    }

    /// Sets the service that devices of the images check in with which are built from now on, instead of the manifest's. An
    /// image without a network gets one, whose addresses the network gives.
    pub fn set_service(&mut self, service: Option<SecurityServiceSource>) {
        self.service = service;
    }

    /// Returns the usual place of the image of a manifest, for its board or for another one.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn usual_path(&self, board: Option<&str>, manifest: &ImageManifest) -> Result<PathBuf> {
        let mut directory = self.workspace.output()?;
        // Only another board than the manifest's has a directory of its own.
        directory.extend(board.filter(|board| **board != manifest.board));
        let mark = if self.debugged.is_some() { "-debug" } else { "" };
        Ok(directory.join(format!("{}{mark}.img", manifest.name)))
    }

    /// Builds the image of a manifest with further apps, to `output` or its usual place.
    ///
    /// # Errors
    /// Whatever keeps the image from being built; the message names the file and the field.
    pub fn build(
        &self,
        manifest_path: &Path,
        more_apps: &[PathBuf],
        output: Option<&Path>,
    ) -> Result<Built> {
        self.build_for(None, manifest_path, more_apps, output)
    }

    /// Builds an image as [`build`](Self::build) does, for another board than the manifest's where one is given; its
    /// usual place
    /// is then below a directory of the board's name.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_for(
        &self,
        board: Option<&str>,
        manifest_path: &Path,
        more_apps: &[PathBuf],
        output: Option<&Path>,
    ) -> Result<Built> {
        let mut manifest = ImageManifest::load(manifest_path)?;
        let usual = self.usual_path(board, &manifest)?;
        let directory = usual.parent().context("the image has no directory")?.to_owned();
        let boards = self.workspace.root.join("images/boards");
        let board = match board.filter(|board| **board != manifest.board) {
            Some(name) => {
                let board = Boards::Directory(boards).of_option(name)?;
                name.clone_into(&mut manifest.board);
                board
            }
            None => Board::load(&boards, &manifest.board, manifest_path)?,
        };
        manifest.memory_mib = self.memory_mib.unwrap_or(manifest.memory_mib);
        let memory_mib = board
            .memory_for(manifest.memory_mib)
            .map_err(|reason| anyhow!("{}: memory_mib: {reason}", manifest_path.display()))?;
        if let Some(service) = &self.service {
            manifest.network.get_or_insert_default();
            manifest.set_service(service.clone())?;
        }
        let file = usual.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(app) = &self.debugged {
            if board.test_line.is_none() {
                bail!(
                    "board {}: has no test_line, over which an app could be debugged",
                    board.name
                );
            }
            manifest.debugged = Some(app.clone());
        }
        let app_paths: Vec<PathBuf> =
            manifest.app_paths().chain(more_apps.iter().cloned()).collect();
        let path = output.map_or(usual, Path::to_owned);
        // Cheap mistakes are said before expensive work begins.
        build::check_output(&path)?;
        self.refuse_output(&path, &manifest, &app_paths)?;
        if self.production {
            build::refuse_app_directories(&manifest, &app_paths)?;
        }
        let directories: Vec<PathBuf> =
            app_paths.iter().filter(|p| !p.is_file()).cloned().collect();
        app::check_together(&directories, &board.offered())?;
        if let Some(parts) = &self.parts {
            let wanted = programs::table(self.workspace, &manifest, more_apps)?;
            parts.check_programs(&wanted, self.devices.is_none())?;
        }
        let mut app_keys = manifest
            .app_key_paths()
            .map(|path| PublicKey::load(&path))
            .collect::<Result<Vec<_>, _>>()?;
        workspace::make_directory(&directory)?;
        // Beside an image of what was built elsewhere: nothing of it is in this checkout.
        let symbols = match (&self.parts, output) {
            (Some(_), Some(output)) => output.with_extension("symbols"),
            _ => directory.join(format!("{file}.symbols")),
        };
        let own = own_services::load_all(&self.workspace.root.join("services"))?;
        let services = own_services::of_image(&own, &manifest, !app_paths.is_empty());
        let programs = self.build_services(&services, &symbols)?;
        let mut apps = Vec::new();
        for path in app_paths {
            let package = if path.is_file() {
                workspace::read(&path)?
            } else {
                self.package_app(&path, &symbols)?
            };
            apps.push((path, package));
        }
        if !directories.is_empty() {
            app_keys.push(development_keys::app(self.workspace)?.public());
        }
        let update = match &manifest.update {
            Some(source) => Some(self.update_inputs(&manifest, source)?),
            None => None,
        };
        let service = match &manifest.service {
            Some(source) => Some(service_inputs(&manifest, source)?),
            None => None,
        };
        let init = self.build_init(&symbols)?;
        let (kernel, boot_loader) = self.kernel_and_boot_loader(&board)?;
        let (boot_keys, boot_signer) = self.boot_keys(&manifest)?;
        // A machine of QEMU makes its own.
        let device_tree = match &kernel.device_tree {
            Some(path) => workspace::read(path)?,
            None => machine::device_tree(manifest.memory_mib)?,
        };
        let read = |path: &Option<PathBuf>| path.as_ref().map(|p| workspace::read(p)).transpose();
        let u_boot = workspace::read(&boot_loader.image)?;
        let first_stage = read(&boot_loader.first_stage)?;
        let spare = boot_loader.spare.as_ref().map(|spare| workspace::read(&spare.image));
        let spare_first_stage = spare.transpose()?;
        let control_tree = read(&boot_loader.device_tree)?;
        let (rust, libc) = self.rust_and_libc()?;
        let compilers = Compilers {
            rust: &rust,
            zig: match self.parts {
                Some(_) => None,
                None => Some(pins::pin(&self.pins, pins::ZIG)?),
            },
            built_by: self.parts.as_ref().map(|parts| parts.built_by.as_str()),
        };
        let provenance =
            Provenance::of(self.workspace, &manifest, (&kernel, &boot_loader), compilers)?;
        let inputs = Inputs {
            manifest: &manifest,
            board: &board,
            memory_mib,
            kernel: &workspace::read(&kernel.image)?,
            device_tree: &device_tree,
            u_boot: boot_loader::UBoot {
                image: &u_boot,
                first_stage: first_stage.as_deref(),
                spare_first_stage: spare_first_stage.as_deref(),
                device_tree: control_tree.as_deref().unwrap_or(&device_tree),
            },
            boot_keys,
            boot_signer,
            init,
            services: services.iter().zip(programs).collect(),
            update,
            service,
            apps,
            app_keys,
            build_time: self.workspace.build_time()?,
            provenance: provenance.to_json()?,
            production: self.production,
        };
        let sizes = build::build(&inputs, &path)?;
        provenance.write_beside(&path, sizes)?;
        bill::write(
            &path,
            &manifest,
            &bill::Parts {
                kernel: &kernel,
                kernel_source: &match &self.parts {
                    Some(parts) => parts.kernel_source().to_owned(),
                    None => kernel::source::unpack(self.workspace, &kernel.source)?,
                },
                boot_loader: &boot_loader,
                boot_loader_source: &boot_loader.tree,
                rust: &rust,
                libc: &libc,
                packages: &self.packages(&services, &directories)?,
                project: self.sources(),
            },
        )?;
        Ok(Built { path, symbols, sizes, memory_mib, manifest: manifest.clone() })
    }

    /// Kernel and boot loader of a board: those that were built elsewhere, or built here.
    fn kernel_and_boot_loader(&self, board: &Board) -> Result<(Kernel, UBoot)> {
        let Self { workspace, pins, locked, .. } = self;
        if let Some(parts) = &self.parts {
            parts.check_board(board)?;
            let kernel = parts.kernel(workspace, board, pins, *locked)?;
            return Ok((kernel, parts.boot_loader(workspace, board, pins, *locked)?));
        }
        let kernel = kernel::build(workspace, board, pins, *locked, Purpose::Image)?;
        Ok((kernel, u_boot::build(workspace, board, pins, *locked)?))
    }

    /// Returns the Rust and the C runtime that the programs were compiled with.
    fn rust_and_libc(&self) -> Result<(Rust, Libc)> {
        if let Some(parts) = &self.parts {
            return Ok((parts.rust(self.workspace)?, parts.libc()?));
        }
        let toolchain = self.devices()?.toolchain();
        let libc = Libc::of_zig(pins::pin(&self.pins, pins::ZIG)?, &toolchain.zig);
        Ok((toolchain.rust.clone(), libc))
    }

    /// Returns the directory in which cargo finds the packages of this checkout.
    fn sources(&self) -> &Path {
        self.parts.as_ref().map_or(&self.workspace.root, Parts::sources)
    }

    /// A directory of this checkout as it is among its sources; another one as it is.
    fn among_sources(&self, directory: &Path) -> PathBuf {
        let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        match real.strip_prefix(&self.workspace.root) {
            Ok(inside) if self.parts.is_some() => self.sources().join(inside),
            _ => directory.to_owned(),
        }
    }

    /// A program that was built elsewhere, by its path below the root of a device, without its symbols, which are kept
    /// in `symbols` under `name`. Where nothing is built here, it has to be there.
    fn given(&self, path: &str, name: &str, symbols: &Path) -> Result<Option<Vec<u8>>> {
        let Some(parts) = &self.parts else { return Ok(None) };
        match (parts.program(path), &self.devices) {
            (None, None) => Err(parts.no_program(path)),
            (None, Some(_)) => {
                eprintln!(
                    "NOTE: {path}: is not among the parts that were built elsewhere; building it here"
                );
                Ok(None)
            }
            (Some(program), _) => parts.strip(&program, name, symbols).map(Some),
        }
    }

    /// Refuses an output that is, or would lie among, what the image is made from; its boot loader lies beside it.
    fn refuse_output(
        &self,
        output: &Path,
        manifest: &ImageManifest,
        apps: &[PathBuf],
    ) -> Result<()> {
        let mut read = vec![manifest.path.clone()];
        read.extend(manifest.app_key_paths());
        read.extend(manifest.boot_key_paths().into_iter().flatten());
        if let Some(update) = &manifest.update {
            let roots = update.repositories().filter_map(|(_, source)| source.root.as_ref());
            read.extend(roots.chain(&update.authorities).map(|path| manifest.beside(path)));
        }
        if let Some(service) = &manifest.service {
            let root = std::iter::once(&service.catalog_root);
            read.extend(root.chain(&service.authorities).map(|path| manifest.beside(path)));
        }
        read.extend(apps.iter().cloned());
        for written in [output, &build::rom_path(output)] {
            destination::refuse_inputs(written, read.iter().map(PathBuf::as_path))?;
            for app in apps.iter().filter(|path| path.is_dir()) {
                app::refuse_output(app, written)?;
            }
            self.workspace.refuse_tracked(written)?;
        }
        Ok(())
    }

    /// Returns the packages of all programs in an image, each with the directory that cargo builds it in.
    fn packages(&self, services: &[Service], apps: &[PathBuf]) -> Result<BTreeSet<Package>> {
        let mut packages = BTreeSet::from([self.package(programs::INIT_PACKAGE)]);
        packages.extend(services.iter().map(|service| self.service_package(service, services)));
        for app in apps.iter().filter(|app| app.join("Cargo.toml").is_file()) {
            packages.insert(Package::new(&self.among_sources(app), &cargo_package(app)?));
        }
        Ok(packages)
    }

    /// Returns a package of this checkout.
    fn package(&self, name: &str) -> Package {
        Package::new(self.sources(), name)
    }

    /// Returns the package of one of an image's services, with the features of all services that are in it.
    fn service_package(&self, service: &Service, services: &[Service]) -> Package {
        let features = own_services::features_of(&service.package, services);
        Package { features, ..self.package(&service.package) }
    }

    /// Returns the roots and authorities that the update agents trust.
    fn update_inputs(
        &self,
        manifest: &ImageManifest,
        source: &UpdateSource,
    ) -> Result<UpdateInputs> {
        let mut development = None;
        let mut roots = Vec::new();
        for (repository, source) in source.repositories() {
            let root = match &source.root {
                Some(path) => workspace::read(&manifest.beside(path))?,
                None => {
                    development = Some(Development {
                        field: format!("update.{repository}.root"),
                        what: "a development root of releases",
                        remedy: "name the root of a repository that `release new` has made with \
                                 keys of your own",
                    });
                    development_keys::root_of_releases(self.workspace)?
                }
            };
            roots.push((repository, root));
        }
        let mut authorities = Vec::new();
        for path in &source.authorities {
            let path = manifest.beside(path);
            authorities.extend(certificates(&workspace::read(&path)?, &path)?);
        }
        if authorities.is_empty() {
            development = Some(Development {
                field: "update.authorities".to_owned(),
                what: "the development authority for servers",
                remedy: "name the certificates of the authorities that vouch for your servers",
            });
            let authority = development_keys::authority(self.workspace)?;
            authorities.extend(certificates(authority.certificate.as_bytes(), &manifest.path)?);
        }
        Ok(UpdateInputs { roots, authorities, development })
    }

    /// Returns the keys of the boot loader, and the one that signs where it is at hand: a product's slot is
    /// signed by `image sign`.
    fn boot_keys(
        &self,
        manifest: &ImageManifest,
    ) -> Result<([BootKey; 3], Option<BootSigningKey>)> {
        match manifest.boot_key_paths() {
            Some([current, next, recovery]) => {
                let load = |path: PathBuf| BootKey::load(&path);
                Ok(([load(current)?, load(next)?, load(recovery)?], None))
            }
            None => {
                let keys = development_keys::boot(self.workspace)?;
                let publics = keys.each_ref().map(BootSigningKey::public);
                let [current, ..] = keys;
                Ok((publics, Some(current)))
            }
        }
    }

    /// Returns the builder of programs for the device.
    ///
    /// # Errors
    /// Nothing is compiled here.
    pub fn devices(&self) -> Result<&DeviceBuilder<'a>> {
        self.devices.as_ref().context("nothing is compiled where parts are put together")
    }

    /// Returns the pinned sources.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }
}

/// Returns the certificates by which the device knows its service and its catalog.
fn service_inputs(
    manifest: &ImageManifest,
    source: &SecurityServiceSource,
) -> Result<ServiceInputs> {
    let mut authorities = Vec::new();
    for path in &source.authorities {
        let path = manifest.beside(path);
        authorities.extend(certificates(&workspace::read(&path)?, &path)?);
    }
    let path = manifest.beside(&source.catalog_root);
    let roots = certificates(&workspace::read(&path)?, &path)?;
    let [catalog_root]: [Vec<u8>; 1] = roots.try_into().map_err(|roots: Vec<_>| {
        let count = roots.len();
        anyhow!(
            "{}: has {count} certificates; leave the catalog's root in it alone",
            path.display()
        )
    })?;
    Ok(ServiceInputs { authorities, catalog_root })
}

/// Returns the certificates of a PEM file, in DER.
fn certificates(pem: &[u8], path: &Path) -> Result<Vec<Vec<u8>>> {
    let all = CertificateDer::pem_slice_iter(pem).map(|certificate| Ok(certificate?.to_vec()));
    let all: Vec<_> = all
        .collect::<Result<_, pem::Error>>()
        .with_context(|| format!("{}: is no PEM file", path.display()))?;
    if all.is_empty() {
        bail!("{}: has no certificate; it must have a block BEGIN CERTIFICATE", path.display());
    }
    Ok(all)
}

//! Programs of an image, built for the device: PID 1, the services, and apps.

use super::{ImageBuilder, programs};
use crate::development_keys;
use crate::device_build::{self, DebugInfo, Package, STRIP, cargo_package};
use anyhow::{Context, Result, bail};
use holdfast_images::app::{self, App};
use holdfast_images::package;
use holdfast_images::service::Service;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl ImageBuilder<'_> {
    /// Returns the stripped programs of the services, in their order. The program that several services share is
    /// stripped once. It is kept with its symbols under the name of each service, by which the kernel's log knows it
    /// on the device.
    pub(super) fn build_services(
        &self,
        services: &[Service],
        symbols: &Path,
    ) -> Result<Vec<Vec<u8>>> {
        let mut packages: BTreeMap<&str, BTreeMap<String, PathBuf>> = BTreeMap::new();
        let mut stripped: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
        let mut programs = Vec::new();
        for service in services {
            if let Some(program) =
                self.given(&service.program_path(), service.name.as_ref(), symbols)?
            {
                programs.push(program);
                continue;
            }
            let built = match packages.get(service.package.as_str()) {
                Some(built) => built,
                None => {
                    let package = Package {
                        directory: self.workspace.root.clone(),
                        ..self.service_package(service, services)
                    };
                    let built = self.devices()?.build(&package, DebugInfo::Lines)?;
                    packages.entry(&service.package).or_insert(built)
                }
            };
            let program = built.get(&service.binary).with_context(|| {
                let there = built.keys().cloned().collect::<Vec<_>>().join(", ");
                service.no_binary(&there)
            })?;
            let bytes = match stripped.get(program) {
                Some(bytes) => bytes,
                None => {
                    let bytes = device_build::strip_symbols(Path::new(STRIP), program)?;
                    stripped.entry(program.clone()).or_insert(bytes)
                }
            };
            device_build::keep_symbols(program, bytes, service.name.as_ref(), symbols)?;
            programs.push(bytes.clone());
        }
        Ok(programs)
    }

    pub(super) fn build_init(&self, symbols: &Path) -> Result<Vec<u8>> {
        if let Some(program) = self.given(programs::INIT, programs::INIT_BINARY, symbols)? {
            return Ok(program);
        }
        let (package, program) = (programs::INIT_PACKAGE, programs::INIT_BINARY);
        let whole = Package::new(&self.workspace.root, package);
        let programs = self.devices()?.build(&whole, DebugInfo::Lines)?;
        let path = programs
            .get(program)
            .with_context(|| format!("package {package} has no program `{program}`"))?;
        device_build::strip(path, symbols)
    }

    /// Packs an app directory and signs the package with this checkout's development key.
    pub(super) fn package_app(&self, directory: &Path, symbols: &Path) -> Result<Vec<u8>> {
        let app = self.build_app(directory, symbols)?;
        let mut bytes = package::pack(&app, "", "")?;
        package::sign(&mut bytes, &development_keys::app(self.workspace)?)?;
        Ok(bytes)
    }

    /// Loads an app, and builds its program from source where there is any.
    fn build_app(&self, directory: &Path, symbols: &Path) -> Result<App> {
        let cargo = directory.join("Cargo.toml");
        if !cargo.is_file() {
            if self.devices.is_none() && !directory.join("root").is_dir() {
                bail!(
                    "{}: is built from C, and nothing is compiled where parts are put together; pack it with \
                     `app pack` and name the package, or put its program below root/",
                    directory.display()
                );
            }
            let program = match &self.devices {
                Some(devices) => devices.build_c(directory)?,
                None => None,
            };
            let program =
                program.map(|program| device_build::strip(&program, symbols)).transpose()?;
            return Ok(app::load(directory, program)?);
        }
        // A debugger wants the symbols of what it sees.
        if (self.debugged.is_none() || self.devices.is_none())
            && let Some(program) = self.given(
                &programs::app_path(directory)?,
                &programs::app_binary(directory)?,
                symbols,
            )?
        {
            return Ok(app::load(directory, Some(program))?);
        }
        let package = cargo_package(directory)?;
        let debug_info = if self.debugged.is_some() { DebugInfo::Full } else { DebugInfo::Lines };
        let programs = self.devices()?.build(&Package::new(directory, &package), debug_info)?;
        let mut found = programs.iter();
        let (Some((_, program)), None) = (found.next(), found.next()) else {
            bail!(
                "{}: an app has one program, but this package has {}",
                cargo.display(),
                programs.len()
            );
        };
        let program = device_build::strip(program, symbols)?;
        Ok(app::load(directory, Some(program))?)
    }

    /// Loads and checks an app, and builds its program where it comes as source.
    ///
    /// # Errors
    /// The app's manifest or files are refused, or its program does not build.
    pub fn app(&self, directory: &Path) -> Result<App> {
        app::load_manifest(directory)?;
        let symbols = self.workspace.output()?.join("apps.symbols");
        self.build_app(directory, &symbols)
    }

    /// Returns the stripped program of an app that is built from source.
    ///
    /// # Errors
    /// As [`app`](Self::app).
    pub fn app_program(&self, directory: &Path) -> Result<Vec<u8>> {
        let app = self.app(directory)?;
        let entry = app.manifest.entry_point.trim_start_matches('/');
        let program = app.files.get(entry).context("the app has no program")?;
        Ok(program.bytes.clone())
    }
}

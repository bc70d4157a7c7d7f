//! System tests on real images in QEMU.
//!
//! `cargo holdfast test` builds the images and calls this program; it says so when it is started
//! by hand without them. Checks that need the same guest share one boot. The output has one line
//! for each check and ends like any test runner's.

mod attacks;
mod boot;
mod contents;
mod hostile;
mod integrity;
mod packages;
mod suite;
mod supervision;
#[cfg(test)]
mod threat_model;

use crate::suite::Suite;
use std::path::PathBuf;
use std::process::ExitCode;

/// Where `cargo holdfast test` has put what is tested.
#[derive(Debug, Clone)]
pub(crate) struct Artefacts {
    /// Images by their manifests' names.
    pub(crate) images: PathBuf,
    /// Stripped programs of the test apps.
    pub(crate) programs: PathBuf,
}

impl Artefacts {
    pub(crate) fn image(&self, name: &str) -> PathBuf {
        self.images.join(format!("{name}.img"))
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(images), Some(programs)) = (arguments.next(), arguments.next()) else {
        eprintln!("the system tests need images and programs; run `cargo holdfast test`");
        return ExitCode::from(2);
    };
    let filter = arguments.next().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
    let artefacts = Artefacts { images, programs };
    let mut suite = Suite::new(filter);
    contents::run(&mut suite, &artefacts);
    boot::run(&mut suite, &artefacts);
    packages::run(&mut suite, &artefacts);
    supervision::run(&mut suite, &artefacts);
    hostile::run(&mut suite, &artefacts);
    integrity::run(&mut suite, &artefacts);
    suite.finish()
}

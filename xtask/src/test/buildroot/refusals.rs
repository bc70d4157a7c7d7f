//! What a user may get wrong: each mistake ends Buildroot's build with a sentence of ours and not with a trace.

use super::{Buildroot, DEFAULT_BOARD};
use anyhow::{Context, Result, ensure};
use holdfast_builder::workspace;
use std::path::Path;

/// What somebody may set, and what is then said before anything is built.
const MISTAKES: [(&str, &str, &str); 8] = [
    ("busybox", "BR2_PACKAGE_BUSYBOX=y", "BusyBox is switched on"),
    (
        "another_c_library",
        "BR2_TOOLCHAIN_BUILDROOT_GLIBC=y",
        "the toolchain is not one for ARM with musl",
    ),
    (
        "no_cxx",
        "# BR2_TOOLCHAIN_BUILDROOT_CXX is not set",
        "the toolchain has no C++, which Buildroot wants for Rust with musl",
    ),
    ("another_init", "BR2_INIT_BUSYBOX=y", "PID 1 is holdfast-init and nothing else"),
    ("accounts", "BR2_ROOTFS_USERS_TABLES=\"users.txt\"", "BR2_ROOTFS_USERS_TABLES names accounts"),
    ("an_unknown_board", "BR2_HOLDFAST_BOARD=\"toaster\"", "there is no board `toaster`"),
    (
        "no_image_manifest",
        "BR2_HOLDFAST_IMAGE=\"/nowhere.toml\"",
        "there is no image manifest `/nowhere.toml`",
    ),
    ("no_app", "BR2_HOLDFAST_APPS=\"/nowhere\"", "there is no app `/nowhere`"),
];

impl Buildroot {
    /// Each mistake by its name, with whether the build ended as it must.
    pub(super) fn refusals(&self) -> Vec<(&'static str, Result<()>)> {
        let refused = |(name, line, sentence): (&'static str, &str, &str)| {
            let output = self.configured_with(DEFAULT_BOARD, &format!("refused/{name}"), line);
            (name, output.and_then(|output| self.ends_with(&output, sentence)))
        };
        MISTAKES.map(refused).into()
    }

    /// Fails unless `make` ends by an error whose line has `Holdfast: ` or the host tool's name in front of
    /// `sentence`.
    pub(super) fn ends_with(&self, output: &Path, sentence: &str) -> Result<()> {
        let ended = self.make(output).output().context("cannot run make")?;
        let complaint = String::from_utf8_lossy(&ended.stderr);
        ensure!(!ended.status.success(), "was built, where this had to be said: {sentence}");
        ensure!(!complaint.contains("panicked"), "ended with a trace:\n{}", complaint.trim());
        ensure!(
            complaint.lines().any(|line| line.contains(sentence)),
            "did not say `{sentence}`, but:\n{}",
            complaint.trim()
        );
        Ok(())
    }

    /// Puts a line behind the configuration of `output`.
    pub(super) fn reconfigure(&self, output: &Path, line: &str) -> Result<()> {
        let config = output.join(".config");
        let before = workspace::read_text(&config)?;
        workspace::write(&config, format!("{before}{line}\n"))?;
        self.old_config(output)
    }
}

//! Arguments that several commands have.

use clap::Args;
use std::path::PathBuf;

/// Options for how strictly sources must be the pinned ones.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct SourceArgs {
    /// Refuse any source that is not the one pinned in sources.lock.
    #[arg(long)]
    pub(crate) locked: bool,
}

/// Options that choose the image and the apps in it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImageArgs {
    /// Image manifest.
    #[arg(long = "image", value_name = "TOML")]
    pub(crate) manifest: Option<PathBuf>,
    /// Board to build for, instead of the manifest's.
    #[arg(long)]
    pub(crate) board: Option<String>,
    /// App directory or signed app package to add to the image; may be given several times.
    #[arg(long = "app", value_name = "DIR|PACKAGE")]
    pub(crate) apps: Vec<PathBuf>,
    /// App of the image that waits for a debugger (GDB), on the board's line for tests.
    #[arg(long, value_name = "APP")]
    pub(crate) debug: Option<String>,
}

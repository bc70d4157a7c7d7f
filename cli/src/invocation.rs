//! How the tool was started, and where a command finds what it needs therefore.

use anyhow::Result;
use clap::Args;
use holdfast_builder::workspace::{self, Workspace};
use holdfast_images::boards::Boards;
use std::path::PathBuf;

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Checkout of Holdfast to work with, instead of the one around the working directory.
    #[arg(long, value_name = "DIR", global = true)]
    pub checkout: Option<PathBuf>,
}

/// How the tool was started.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// What somebody types to start it: `holdfast`, or `cargo holdfast` in a checkout.
    pub program: &'static str,
    /// What was said for whichever command it is.
    pub options: Options,
}

impl Invocation {
    /// The checkout, which the command cannot do without. `why` says so in words that a sentence can begin with, as
    /// "`image build` builds from the sources of Holdfast".
    ///
    /// # Errors
    /// There is none; the message begins with `why` and says how to name one.
    pub fn workspace(&self, why: &str) -> Result<Workspace> {
        Workspace::find(self.options.checkout.as_deref(), why)
    }

    /// The root of the checkout, for commands that do without one as well.
    ///
    /// # Errors
    /// `--checkout` names what is none.
    pub fn checkout(&self) -> Result<Option<PathBuf>> {
        workspace::checkout(self.options.checkout.as_deref())
    }

    /// The boards of the checkout, or outside one those that this program was built with.
    ///
    /// # Errors
    /// As [`checkout`](Self::checkout).
    pub(crate) fn boards(&self) -> Result<Boards> {
        Ok(match self.checkout()? {
            Some(root) => Boards::Directory(root.join("images/boards")),
            None => Boards::BuiltIn,
        })
    }
}

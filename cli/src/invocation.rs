//! The invocation of the tool: name and options, from which commands find the checkout and its boards.

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

/// The invocation of the tool.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The words that start the tool: `holdfast`, or `cargo holdfast` in a checkout.
    pub program: &'static str,
    /// Options that every command has.
    pub options: Options,
}

impl Invocation {
    /// Returns the checkout, which the command cannot do without. `why` says so in words that a sentence can begin
    /// with, as
    /// "`image build` builds from the sources of Holdfast".
    ///
    /// # Errors
    /// There is no checkout; the message begins with `why` and says how to name one.
    pub fn workspace(&self, why: &str) -> Result<Workspace> {
        Workspace::find(self.options.checkout.as_deref(), why)
    }

    /// Returns the root of the checkout, for commands that do without one as well.
    ///
    /// # Errors
    /// `--checkout` names a directory that is no checkout.
    pub fn checkout(&self) -> Result<Option<PathBuf>> {
        workspace::checkout(self.options.checkout.as_deref())
    }

    /// Returns the boards of the checkout, or outside one those that this program was built with.
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

//! Arguments of this program, as `cargo holdfast test` gives them.

use clap::{Parser, ValueEnum};
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;

/// Checks on real images. `cargo holdfast test` builds the images and calls this.
#[derive(Debug, Parser)]
#[command(after_help = "Example: cargo holdfast test the_image_boots")]
pub(crate) struct Arguments {
    /// Directory of the images.
    #[arg(long)]
    pub(crate) images: PathBuf,
    /// Directory of the test apps' programs.
    #[arg(long)]
    pub(crate) programs: PathBuf,
    /// Directory of the checkout's development keys.
    #[arg(long)]
    pub(crate) keys: PathBuf,
    /// The board that the images are for.
    #[arg(long)]
    pub(crate) board: String,
    /// `usual`, or `full` for every count that the project names.
    #[arg(long)]
    pub(crate) effort: EffortName,
    /// Jobs that run side by side.
    #[arg(long, default_value_t = NonZero::<usize>::MIN)]
    pub(crate) jobs: NonZero<usize>,
    /// Run one of several parts of the checks, such as 1/4.
    #[arg(long, value_name = "K/N")]
    pub(crate) shard: Option<Shard>,
    /// Print the names of the checks, and run none.
    #[arg(long)]
    pub(crate) list: bool,
    /// Write the results as JUnit XML.
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Where the seconds of each job are kept from one run to the next.
    #[arg(long, value_name = "FILE")]
    pub(crate) times: Option<PathBuf>,
    /// Run the checks of this job in this process; the names that follow are whole.
    #[arg(long, hide = true, requires = "report")]
    pub(crate) job: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) report: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub(crate) consoles: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub(crate) io_uring: bool,
    /// Parts of the names of the checks to run; all where none is given.
    pub(crate) filters: Vec<String>,
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EffortName {
    Usual,
    Full,
}

/// One of several parts of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 0.
    pub(crate) place: usize,
    pub(crate) of: usize,
}

impl FromStr for Shard {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a shard is K/N with K from 1 to N";
        let (place, of) = text.split_once('/').ok_or(FORM)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| FORM);
        let (place, of) = (number(place)?, number(of)?);
        match place.checked_sub(1) {
            Some(place) if place < of => Ok(Self { place, of }),
            _ => Err(FORM),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_one_of_several() {
        assert_eq!("2/4".parse(), Ok(Shard { place: 1, of: 4 }));
        for wrong in ["", "1", "0/4", "5/4", "a/4", "1/0", "-1/4"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}

//! Sources of boards: a checkout, or those that this library was built with.

use crate::board::Board;
use crate::manifest::ManifestError;
use std::path::PathBuf;

/// Names and contents of `images/boards/*.toml`, as they were when this library was built (`build.rs`).
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

/// A source of boards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boards {
    /// The files of a directory, as of a checkout's `images/boards`.
    Directory(PathBuf),
    /// The boards that this library was built with, for tools that run without a checkout.
    BuiltIn,
}

impl Boards {
    /// Returns the board that the option `--board` names.
    ///
    /// # Errors
    /// There is no such board (the message lists those there are), or its file is broken.
    pub fn of_option(&self, name: &str) -> Result<Board, ManifestError> {
        match self {
            Self::Directory(directory) => {
                Board::find(directory, name).map_err(ManifestError::NoBoard)?
            }
            Self::BuiltIn => match BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
                Some((_, text)) => {
                    Board::parse(format!("images/boards/{name}.toml").into(), text, name)
                }
                None => {
                    let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                    Err(ManifestError::NoBoard(format!(
                        "there is no board `{name}`; boards are: {}; one of your own is a file in a checkout \
                         of Holdfast, which --checkout names",
                        names.join(", ")
                    )))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board;
    use std::path::Path;

    #[test]
    fn every_board_of_the_tree_is_built_in_as_it_is() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        let built_in: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        assert_eq!(built_in, board::names(&directory));
        for name in built_in {
            let found = Boards::BuiltIn.of_option(name).unwrap();
            let in_tree = Boards::Directory(directory.clone()).of_option(name).unwrap();
            assert_eq!(format!("{found:?}"), format!("{in_tree:?}"));
        }
    }

    #[test]
    fn a_board_that_is_not_built_in_is_refused_with_those_that_are() {
        for boards in [
            Boards::BuiltIn,
            Boards::Directory(Path::new(env!("CARGO_MANIFEST_DIR")).join("boards")),
        ] {
            let message = boards.of_option("toaster").unwrap_err().to_string();
            let start = "--board: there is no board `toaster`; boards are: beaglebone-black, ";
            assert!(message.starts_with(start), "{message}");
            assert_eq!(message.contains("--checkout"), boards == Boards::BuiltIn, "{message}");
        }
    }
}

//! Documents that people write: read within bounds, and what is wrong with them said once.

use crate::FileError;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest image manifest, and longest file of a board, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most characters of a line that are shown.
const MAX_EXCERPT: usize = 72;
/// Most characters of what a parser says.
const MAX_MESSAGE: usize = 600;

/// An error of reading a document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A directory, a device or a pipe.
    #[error("{}: is no regular file; write the document into one", .0.display())]
    NotRegular(PathBuf),
    /// Longer than any document of its kind.
    #[error("{}: is longer than {most} bytes", path.display())]
    TooLong {
        /// The document.
        path: PathBuf,
        /// The most that is read.
        most: usize,
    },
}

/// Reads the document at `path`, of at most `most` bytes. No more than that is read, and a device or a pipe is
/// not even opened.
///
/// # Errors
/// See [`DocumentError`].
pub fn read(path: &Path, most: usize) -> Result<Vec<u8>, DocumentError> {
    let found = fs::metadata(path).map_err(FileError::at("read", path))?;
    if !found.is_file() {
        return Err(DocumentError::NotRegular(path.to_owned()));
    }
    let file = File::open(path).map_err(FileError::at("read", path))?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(FileError::at("read", path))?;
    if bytes.len() > most {
        return Err(DocumentError::TooLong { path: path.to_owned(), most });
    }
    Ok(bytes)
}

/// Returns the message for `text`, which the parser has refused with `error`: the place, the reason, and the line as
/// far as it can be shown.
pub(crate) fn complaint(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim();
    let too_deep = ["recursion limit", "cannot recurse further"];
    let reason = if too_deep.iter().any(|start| message.starts_with(start)) {
        "tables and arrays are nested too deeply (recursion limit)".to_owned()
    } else {
        shortened(message)
    };
    let Some(span) = error.span() else { return reason };
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.split('\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let line: Vec<char> = text
        .split('\n')
        .nth(number.saturating_sub(1))
        .unwrap_or_default()
        .trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    // A window around the place, where the line is longer.
    let first = match line.len() > MAX_EXCERPT {
        true => column.saturating_sub(MAX_EXCERPT / 2),
        false => 0,
    };
    let excerpt: String = line.iter().skip(first).take(MAX_EXCERPT).collect();
    let left_out = if first > 0 { "…" } else { "" };
    let right_out = if line.len() > first.saturating_add(MAX_EXCERPT) { "…" } else { "" };
    let gutter = " ".repeat(number.to_string().len());
    let indent = " ".repeat(column.saturating_sub(first).saturating_add(left_out.chars().count()));
    let place = format!("line {number}, column {}", column.saturating_add(1));
    format!(
        "{place}: {reason}\n{gutter} |\n{number} | {left_out}{excerpt}{right_out}\n{gutter} | {indent}^"
    )
}

/// A message without its middle where it is long: parsers repeat what they have read.
fn shortened(message: &str) -> String {
    let length = message.chars().count();
    if length <= MAX_MESSAGE {
        return message.to_owned();
    }
    let start: String = message.chars().take(MAX_MESSAGE / 2).collect();
    let end: String = message.chars().skip(length.saturating_sub(MAX_MESSAGE / 2)).collect();
    format!("{start} … {end}")
}

/// Reads a list that has a default when it is left out. Empty, it would have to mean nothing, and is refused.
pub(crate) fn at_least_one<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(deserializer)?;
    if list.is_empty() {
        return Err(D::Error::custom(
            "must have at least one entry; leave the field out for what stands in its place otherwise",
        ));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn said(text: &str) -> String {
        complaint(text, &toml::from_str::<toml::Table>(text).unwrap_err())
    }

    #[test]
    fn a_fault_is_said_once_with_its_place_and_its_line() {
        let message = said("a = 1\nb = \n");
        let mut lines = message.lines();
        assert!(lines.next().unwrap().starts_with("line 2, column 5: "), "{message}");
        assert_eq!(lines.collect::<Vec<_>>(), ["  |", "2 | b =", "  |     ^"]);
    }

    #[test]
    fn long_lines_and_deep_nests_are_said_briefly() {
        for text in [
            format!("a = \"{}\nb = 1\n", "x".repeat(60_000)),
            format!("{} = 1\n{0} = 2\n", "k".repeat(60_000)),
            format!("a = {}\n", "[".repeat(30_000)),
            format!("{}b = 1\n", "a.".repeat(30_000)),
        ] {
            let message = said(&text);
            assert!(message.chars().count() < 1000, "{} characters", message.len());
        }
        let message = said(&format!("a = {}\n", "[".repeat(30_000)));
        assert_eq!(message.matches("recursion limit").count(), 1, "{message}");
    }

    #[test]
    fn no_more_is_read_than_a_document_may_have() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("most"), [b' '; 10]).unwrap();
        assert_eq!(read(&at("most"), 10).unwrap().len(), 10);
        let error = read(&at("most"), 9).unwrap_err().to_string();
        assert!(error.ends_with("most: is longer than 9 bytes"), "{error}");
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        for path in [at("pipe"), "/dev/zero".into(), directory.path().to_owned()] {
            let error = read(&path, 10).unwrap_err().to_string();
            assert!(error.contains(": is no regular file; "), "{error}");
        }
        assert!(matches!(read(&at("none"), 10), Err(DocumentError::File(_))));
    }
}

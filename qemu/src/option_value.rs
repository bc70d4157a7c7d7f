//! Values of QEMU's options, in which a comma has a meaning.

use std::path::Path;

/// A path as the value of one of QEMU's options.
pub(crate) fn value(path: &Path) -> String {
    doubled(&path.display().to_string())
}

/// A single comma would end the option.
pub(crate) fn doubled(text: &str) -> String {
    text.replace(',', ",,")
}

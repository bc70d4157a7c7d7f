//! `app_manifest.json`: what an app is.
//!
//! Field names and meaning are those of Azure Sphere's application manifest, schema version 1.
//! This OS version grants no capability yet, so `Capabilities` must be there and empty.

use crate::component::is_clean_absolute;
use serde::Deserialize;
use thiserror::Error;

/// File name of the manifest in an app's directory.
pub const FILE_NAME: &str = "app_manifest.json";
/// Longest manifest in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// A checked app manifest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AppManifest {
    /// Always 1.
    pub schema_version: u32,
    /// The app's name, also its component name.
    pub name: String,
    /// A GUID, fixed for the life of the app.
    pub component_id: String,
    /// Absolute path of the program in the app's own files.
    pub entry_point: String,
    /// Arguments for the program.
    #[serde(default)]
    pub cmd_args: Vec<String>,
    /// What the app is granted: nothing, so far.
    pub capabilities: Capabilities,
}

/// The grants of an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {}

/// Why a manifest was refused: the field and the remedy.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{field}: {reason}")]
pub struct AppManifestError {
    /// The offending field.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl AppManifest {
    /// Checks every value; call it on what a JSON parser returned.
    ///
    /// # Errors
    /// The first field whose value is out of bounds.
    pub fn check(&self) -> Result<(), AppManifestError> {
        let refuse =
            |field, reason: &str| Err(AppManifestError { field, reason: reason.to_owned() });
        if self.schema_version != 1 {
            return refuse("SchemaVersion", "must be 1");
        }
        if let Err(reason) = crate::component::check_name(&self.name) {
            return refuse("Name", reason);
        }
        if !is_guid(&self.component_id) {
            return refuse(
                "ComponentId",
                "must be a GUID such as 25025d2c-66da-4448-bae1-ac26fcdd3627",
            );
        }
        if !is_clean_absolute(&self.entry_point) {
            return refuse(
                "EntryPoint",
                "must be an absolute path without `.` or `..`, such as /bin/app",
            );
        }
        if self.cmd_args.len() > 64 || self.cmd_args.iter().any(|arg| arg.contains('\0')) {
            return refuse("CmdArgs", "must be at most 64 strings without NUL");
        }
        Ok(())
    }
}

/// True for 8-4-4-4-12 hexadecimal digits.
#[must_use]
pub fn is_guid(text: &str) -> bool {
    let lengths = [8usize, 4, 4, 4, 12];
    let mut parts = text.split('-');
    lengths.iter().all(|len| {
        parts.next().is_some_and(|p| p.len() == *len && p.bytes().all(|b| b.is_ascii_hexdigit()))
    }) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> AppManifest {
        AppManifest {
            schema_version: 1,
            name: "hello".to_owned(),
            component_id: "25025d2c-66da-4448-bae1-ac26fcdd3627".to_owned(),
            entry_point: "/bin/app".to_owned(),
            cmd_args: Vec::new(),
            capabilities: Capabilities::default(),
        }
    }

    #[test]
    fn each_bad_value_names_its_field() {
        let bad = |change: fn(&mut AppManifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            manifest.check().map_err(|error| error.field)
        };
        assert_eq!(bad(|_| {}), Ok(()));
        assert_eq!(bad(|m| m.schema_version = 2), Err("SchemaVersion"));
        assert_eq!(bad(|m| m.name = "Hello World".to_owned()), Err("Name"));
        assert_eq!(bad(|m| m.component_id = "1234".to_owned()), Err("ComponentId"));
        assert_eq!(bad(|m| m.entry_point = "bin/app".to_owned()), Err("EntryPoint"));
        assert_eq!(bad(|m| m.entry_point = "/bin/../x".to_owned()), Err("EntryPoint"));
        assert_eq!(bad(|m| m.cmd_args = vec!["a\0b".to_owned()]), Err("CmdArgs"));
    }

    #[test]
    fn guids_have_five_groups_of_hexadecimal_digits() {
        assert!(is_guid("25025D2C-66DA-4448-BAE1-AC26FCDD3627"));
        assert!(!is_guid("25025d2c-66da-4448-bae1-ac26fcdd362"));
        assert!(!is_guid("25025d2c-66da-4448-bae1-ac26fcdd3627-"));
        assert!(!is_guid("25025d2g-66da-4448-bae1-ac26fcdd3627"));
    }
}

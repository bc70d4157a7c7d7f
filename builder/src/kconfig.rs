//! Configurations of Kconfig's kind: the kernel's and U-Boot's.

use crate::workspace;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;

/// The fragments `NAME.config` of a directory, one behind the other.
pub(crate) fn merged_fragments(directory: &Path, names: &[String]) -> Result<String> {
    let mut merged = String::new();
    for name in names {
        merged.push_str(&workspace::read_text(&directory.join(format!("{name}.config")))?);
        merged.push('\n');
    }
    Ok(merged)
}

/// Options and values of a configuration or fragment; `n` for those that are not set.
pub fn options(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            match line.strip_prefix("# ") {
                Some(comment) => Some((comment.strip_suffix(" is not set")?, "n")),
                None => line.split_once('='),
            }
        })
        .filter(|(name, _)| name.starts_with("CONFIG_"))
        .collect()
}

/// The value of an option by its name without `CONFIG_`; `n` where it is not set.
pub fn value<'a>(have: &BTreeMap<&str, &'a str>, name: &str) -> &'a str {
    have.get(format!("CONFIG_{name}").as_str()).copied().unwrap_or("n")
}

/// Returns the options that the fragments ask for and the configuration does not have.
pub(crate) fn lost_options(fragments: &str, config: &str) -> Vec<String> {
    let have = options(config);
    options(fragments)
        .into_iter()
        .filter_map(|(name, wanted)| {
            let found = have.get(name).copied().unwrap_or("n");
            (found != wanted).then(|| format!("{name}: wanted {wanted}, found {found}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_did_not_survive_is_named_with_both_values() {
        let fragments =
            "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x\"\n# a comment\nCONFIG_D=y\n";
        let config = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=\"x\"\n";
        assert_eq!(
            lost_options(fragments, config),
            ["CONFIG_B: wanted n, found y", "CONFIG_D: wanted y, found n"]
        );
    }
}

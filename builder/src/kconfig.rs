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

/// Beginnings of the options by which Kconfig notes what the host has beside the compiler: Rust, pahole, and a C
/// library to link programs with. No kernel of ours has anything of it.
const OF_THE_HOST: [&str; 4] =
    ["CONFIG_CC_CAN_LINK", "CONFIG_PAHOLE_", "CONFIG_RUSTC_", "CONFIG_RUST_IS_AVAILABLE"];

/// A configuration without what it says of the host, so that it is the same on every host with this compiler.
pub(crate) fn without_host(config: &str) -> String {
    let mut kept = String::with_capacity(config.len());
    for line in config.lines() {
        let option = line.trim_start_matches("# ");
        if !OF_THE_HOST.iter().any(|beginning| option.starts_with(beginning)) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
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
    fn a_configuration_is_the_same_on_hosts_with_and_without_rust_and_a_c_library() {
        let with = "CONFIG_GCC_VERSION=120200\nCONFIG_RUSTC_VERSION=109500\nCONFIG_RUSTC_LLVM_VERSION=220102\n\
                    CONFIG_RUSTC_HAS_UNNECESSARY_TRANSMUTES=y\nCONFIG_RUST_IS_AVAILABLE=y\nCONFIG_CC_CAN_LINK=y\n\
                    CONFIG_CC_CAN_LINK_STATIC=y\nCONFIG_PAHOLE_VERSION=124\n# CONFIG_RUST is not set\n";
        let without = "CONFIG_GCC_VERSION=120200\nCONFIG_RUSTC_VERSION=0\nCONFIG_RUSTC_LLVM_VERSION=0\n\
                       # CONFIG_CC_CAN_LINK is not set\nCONFIG_PAHOLE_VERSION=0\n# CONFIG_RUST is not set\n";
        assert_eq!(without_host(with), without_host(without));
        assert_eq!(without_host(with), "CONFIG_GCC_VERSION=120200\n# CONFIG_RUST is not set\n");
    }

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

//! What kernel-hardening-checker would have in a kernel's configuration, except where `docs/security/kernel.md` says why
//! not.

use anyhow::{Result, bail};
use holdfast_builder::kconfig::{options, value};
use holdfast_builder::workspace::{self, Workspace};
use std::collections::{BTreeMap, BTreeSet};

/// The document that says why an option is not as the checker would have it.
const DOCUMENT: &str = "docs/security/kernel.md";
/// The checker's options.
const CHECKER: &str = "kernel-config/hardening-checker.toml";

/// One option that kernel-hardening-checker looks at.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// `y`, `n`, the value itself, `*WORD,WORD*` for a list that must have these, or `CONFIG_NAME` for the value of
    /// another option.
    value: String,
    /// Each is a list of `NAME=VALUE`; where all of one hold, the option does not matter.
    #[serde(default)]
    unless: Vec<Vec<String>>,
}

impl Wanted {
    fn holds(&self, name: &str, have: &BTreeMap<&str, &str>) -> bool {
        let found = value(have, name);
        let direct = if let Some(words) = self.value.strip_prefix('*') {
            let parts: Vec<&str> = found.trim_matches('"').split(',').collect();
            words.trim_end_matches('*').split(',').all(|word| parts.contains(&word))
        } else if let Some(other) = self.value.strip_prefix("CONFIG_") {
            found == value(have, other)
        } else {
            found == self.value
        };
        let is = |text: &String| text.split_once('=').is_some_and(|(n, v)| value(have, n) == v);
        direct || self.unless.iter().any(|all| all.iter().all(is))
    }
}

/// What kernel-hardening-checker looks at, as kept in the tree.
#[derive(Debug)]
pub(super) struct HardeningChecker(BTreeMap<String, Wanted>);

impl HardeningChecker {
    /// Reads the list of a checkout.
    pub(super) fn load(workspace: &Workspace) -> Result<Self> {
        Ok(Self(workspace::read_toml(&workspace.root.join(CHECKER))?))
    }

    /// How many options it looks at.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The options that a configuration has otherwise than the checker would.
    pub(super) fn differing(&self, config: &str) -> BTreeSet<String> {
        let have = options(config);
        let differs = self.0.iter().filter(|(name, wanted)| !wanted.holds(name, &have));
        differs.map(|(name, _)| name.clone()).collect()
    }
}

/// Fails when `docs/security/kernel.md` lacks the reason for an option that differs, or has one for an option
/// that does not differ in any board's kernel.
pub(super) fn check_reasons(workspace: &Workspace, differing: &BTreeSet<String>) -> Result<()> {
    let text = workspace::read_text(&workspace.root.join(DOCUMENT))?;
    compare_reasons(&text, differing)
}

fn compare_reasons(document: &str, differing: &BTreeSet<String>) -> Result<()> {
    let given = reasons(document);
    let lacking: Vec<&String> = differing.iter().filter(|name| !given.contains(*name)).collect();
    let idle: Vec<&String> = given.iter().filter(|name| !differing.contains(*name)).collect();
    if lacking.is_empty() && idle.is_empty() {
        return Ok(());
    }
    bail!(
        "{DOCUMENT}: kernel-hardening-checker would have these otherwise, and there is no row that says why they \
         are not: {lacking:?}; these rows are of options that are as it would have them: {idle:?}"
    )
}

/// The options that have a row in the document's table, with something in its last column.
fn reasons(document: &str) -> BTreeSet<String> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim().strip_prefix('|')?.split('|').map(str::trim).collect();
        let [option, _wanted, _here, why, ""] = cells.as_slice() else {
            return None;
        };
        let name = option.strip_prefix('`')?.strip_suffix('`')?;
        let is_option = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (is_option && !why.is_empty()).then(|| name.to_owned())
    };
    document.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_holds_by_its_value_or_by_what_makes_it_idle() {
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_LSM=\"landlock,yama\"\n\
                      CONFIG_BITS=15\nCONFIG_BITS_MAX=15\n";
        let checker = |text: &str| HardeningChecker(toml::from_str(text).unwrap());
        let differing =
            |text: &str| checker(text).differing(config).into_iter().collect::<Vec<_>>();
        let good = "A.value = 'y'\nB.value = 'n'\nC.value = 'n'\nLSM.value = '*yama,landlock*'\n\
                    BITS.value = 'CONFIG_BITS_MAX'\n";
        assert_eq!(differing(good), Vec::<String>::new());
        assert_eq!(
            differing("A.value = 'n'\nB.value = 'y'\nLSM.value = '*yama,am*'"),
            ["A", "B", "LSM"]
        );
        let unless = |conditions: &str| {
            differing(&format!("D = {{ value = 'y', unless = [{conditions}] }}"))
        };
        assert_eq!(unless("['A=n'], ['A=y', 'B=n']"), Vec::<String>::new());
        assert_eq!(unless("['A=y', 'B=y']"), ["D"]);
    }

    #[test]
    fn each_difference_has_one_row_and_each_row_a_difference() {
        let document = "| option | wanted | here | why |\n| --- | --- | --- | --- |\n\
                        | `A` | y | n | It costs. |\n| `B` | y | n | |\n| `0001-x.patch` | why |\n";
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        compare_reasons(document, &set(&["A"])).unwrap();
        let error = compare_reasons(document, &set(&["B"])).unwrap_err().to_string();
        assert!(error.contains("they are not: [\"B\"]"), "{error}");
        assert!(error.ends_with("would have them: [\"A\"]"), "{error}");
    }
}

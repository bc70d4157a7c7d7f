//! What a finished configuration must hold: `kernel-config/required.toml`, and what kernel-hardening-checker would
//! have, except where `docs/security/kernel.md` says why not.

use crate::kconfig::options;
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The document that says why an option is not as the checker would have it.
const DOCUMENT: &str = "docs/security/kernel.md";
/// The checker's options.
const CHECKER: &str = "kernel-config/hardening-checker.toml";

/// One rule of `required.toml`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Required {
    /// `y`, `n`, or the value itself.
    pub value: String,
    /// Why it must be so.
    pub why: String,
}

/// `kernel-config/required.toml`.
pub fn required(workspace: &Workspace) -> Result<BTreeMap<String, Required>> {
    let path = workspace.root.join("kernel-config/required.toml");
    toml::from_str(&workspace::read_text(&path)?).with_context(|| path.display().to_string())
}

/// Fails when a configuration breaks a rule of `required.toml`.
pub fn check_required(workspace: &Workspace, config: &str) -> Result<()> {
    let have = options(config);
    let broken: Vec<String> = required(workspace)?
        .into_iter()
        .filter_map(|(name, rule)| {
            let found = value(&have, &name);
            (found != rule.value).then(|| {
                format!("CONFIG_{name}: must be {}, is {found} ({})", rule.value, rule.why)
            })
        })
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    bail!("kernel-config/required.toml does not hold:\n  {}", broken.join("\n  "))
}

/// The value of an option; `n` where it is not set.
fn value<'a>(have: &BTreeMap<&str, &'a str>, name: &str) -> &'a str {
    have.get(format!("CONFIG_{name}").as_str()).copied().unwrap_or("n")
}

/// The names of all options that the Kconfig files of a kernel's source declare for ARM.
pub(crate) fn declared(tree: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut left = vec![tree.to_owned()];
    while let Some(directory) = left.pop() {
        let list = || format!("cannot list {}", directory.display());
        for entry in fs::read_dir(&directory).with_context(list)? {
            let entry = entry.with_context(list)?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().with_context(list)?;
            let is_foreign = match directory.strip_prefix(tree) {
                Ok(at) if at == Path::new("") => name == "Documentation" || name == "tools",
                Ok(at) if at == Path::new("arch") => name != "arm" && name != "Kconfig",
                Ok(at) if at == Path::new("scripts") => name == "kconfig",
                _ => false,
            };
            if is_foreign {
                continue;
            }
            if kind.is_dir() {
                left.push(path);
            } else if name.to_string_lossy().starts_with("Kconfig") {
                let text = String::from_utf8_lossy(&workspace::read(&path)?).into_owned();
                names.extend(text.lines().filter_map(declaration).map(str::to_owned));
            }
        }
    }
    Ok(names)
}

/// The option that a line of a Kconfig file declares.
fn declaration(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let keyword = words.next()?;
    let name = words.next()?;
    (matches!(keyword, "config" | "menuconfig") && words.next().is_none()).then_some(name)
}

/// Fails when fragments or rules name what is no option: it would never be missed.
pub(crate) fn check_names(
    workspace: &Workspace,
    fragments: &str,
    declared: &BTreeSet<String>,
) -> Result<()> {
    let rules = required(workspace)?;
    let asked = options(fragments);
    let asked = asked.keys().map(|name| ("the fragments", name.trim_start_matches("CONFIG_")));
    let ruled = rules.keys().map(|name| ("required.toml", name.as_str()));
    let unknown: Vec<String> = asked
        .chain(ruled)
        .filter(|(_, name)| !declared.contains(*name))
        .map(|(place, name)| format!("{name} (in {place})"))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    bail!(
        "kernel-config: this source of the kernel has no such option, so that asking for it changes nothing; take \
         it out, or name what has taken its place:\n  {}",
        unknown.join("\n  ")
    )
}

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
pub struct HardeningChecker(BTreeMap<String, Wanted>);

impl HardeningChecker {
    pub fn load(workspace: &Workspace) -> Result<Self> {
        let path = workspace.root.join(CHECKER);
        let table = toml::from_str(&workspace::read_text(&path)?)
            .with_context(|| path.display().to_string())?;
        Ok(Self(table))
    }

    /// How many options it looks at.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The options that a configuration has otherwise than the checker would.
    pub fn differing(&self, config: &str) -> BTreeSet<String> {
        let have = options(config);
        let differs = self.0.iter().filter(|(name, wanted)| !wanted.holds(name, &have));
        differs.map(|(name, _)| name.clone()).collect()
    }
}

/// Fails when `docs/security/kernel.md` lacks the reason for an option that differs, or has one for an option
/// that does not differ in any board's kernel.
pub fn check_reasons(workspace: &Workspace, differing: &BTreeSet<String>) -> Result<()> {
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
    fn only_what_kconfig_declares_is_an_option() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            workspace::write(&directory.path().join(path), text).unwrap();
        };
        write("init/Kconfig", "config A\n\tbool\n\nmenuconfig B\n  config C\n# config D\n");
        write("lib/Kconfig.debug", "config E\n\thelp\n\t  Words of a config that is none.\n");
        write("arch/arm/Kconfig", "config F\n");
        write("arch/x86/Kconfig", "config G\n");
        write("arch/Kconfig", "config H\n");
        write("scripts/kconfig/tests/Kconfig", "config I\n");
        write("init/main.c", "config J\n");
        let names: Vec<String> = declared(directory.path()).unwrap().into_iter().collect();
        assert_eq!(names, ["A", "B", "C", "E", "F", "H"]);
    }

    #[test]
    fn a_name_that_is_no_option_is_refused_wherever_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        let rules = directory.path().join("kernel-config/required.toml");
        workspace::write(&rules, "OLD = { value = \"n\", why = \"gone\" }\n").unwrap();
        let workspace = Workspace { root: directory.path().into(), cache: "/".into(), jobs: None };
        let fragments = "CONFIG_A=y\n# CONFIG_GONE is not set\n";
        let declared = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        check_names(&workspace, fragments, &declared(&["A", "GONE", "OLD"])).unwrap();
        let error = check_names(&workspace, fragments, &declared(&["A"])).unwrap_err().to_string();
        assert!(error.contains("GONE (in the fragments)\n  OLD (in required.toml)"), "{error}");
    }

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

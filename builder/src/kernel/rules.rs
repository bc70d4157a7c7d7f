//! Rules that a finished configuration must keep: `kernel-config/required.toml`.

use crate::kconfig::{options, value};
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// One rule of `required.toml`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Required {
    /// `y`, `n`, or the value itself.
    pub value: String,
    /// Reason for the rule.
    pub why: String,
}

/// `kernel-config/required.toml`.
///
/// # Errors
/// The file is missing, or is no TOML of rules.
pub fn required(workspace: &Workspace) -> Result<BTreeMap<String, Required>> {
    let path = workspace.root.join("kernel-config/required.toml");
    workspace::read_toml(&path)
}

/// Fails when a configuration breaks a rule of `required.toml`.
///
/// # Errors
/// One does not hold; the message says which, and why it must.
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
}

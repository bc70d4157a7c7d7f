//! What of a workspace's `Cargo.lock` and root manifest goes into one package's programs: what other packages of the
//! workspace need beside it changes none of its bytes.

use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// Tables and keys of `[workspace]` that are about other packages than those that a manifest names.
const OF_MEMBERS: [&str; 3] = ["members", "default-members", "exclude"];

/// What a package reaches, by the `Cargo.lock` of its workspace.
#[derive(Debug)]
pub(super) struct Relevant {
    /// The lock's entries of the package and of everything that it reaches, one after the other by name and version; all of
    /// the lock where it has no entry of the package. Dependencies of tests are among them, since a lock does not tell
    /// them from others.
    pub(super) lock: String,
    /// Names of the packages with these entries; `None` where the whole lock counts.
    reached: Option<BTreeSet<String>>,
}

impl Relevant {
    /// What `package` reaches by this lock.
    pub(super) fn of(lock: &str, package: &str) -> Self {
        match entries(lock, package) {
            Some((lock, reached)) => Self { lock, reached: Some(reached) },
            None => Self { lock: lock.to_owned(), reached: None },
        }
    }

    /// Returns a root manifest without its members and without those dependencies that the package does not reach; all
    /// of it where the whole lock counts, or it is no TOML.
    pub(super) fn of_manifest(&self, manifest: &str) -> String {
        let Some(reached) = &self.reached else { return manifest.to_owned() };
        let Ok(mut table) = manifest.parse::<Table>() else { return manifest.to_owned() };
        if let Some(workspace) = table.get_mut("workspace").and_then(Value::as_table_mut) {
            for key in OF_MEMBERS {
                workspace.remove(key);
            }
            if let Some(all) = workspace.get_mut("dependencies").and_then(Value::as_table_mut) {
                // A dependency may be called otherwise than its package.
                all.retain(|key, value| {
                    let renamed = value.get("package").and_then(Value::as_str);
                    reached.contains(renamed.unwrap_or(key))
                });
            }
        }
        table.to_string()
    }
}

/// The entries of a package and of what it reaches, and the names of all of these.
fn entries(lock: &str, package: &str) -> Option<(String, BTreeSet<String>)> {
    let lock: Table = lock.parse().ok()?;
    let mut known: BTreeMap<(&str, &str), Vec<&Table>> = BTreeMap::new();
    for entry in lock.get("package")?.as_array()? {
        let entry = entry.as_table()?;
        let name = entry.get("name")?.as_str()?;
        known.entry((name, entry.get("version")?.as_str()?)).or_default().push(entry);
    }
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut left: Vec<(&str, Option<&str>)> = vec![(package, None)];
    while let Some((name, version)) = left.pop() {
        let named = known.range((name, "")..).take_while(|((found, _), _)| *found == name);
        let fitting =
            named.filter(|((_, found), _)| version.is_none_or(|version| version == *found));
        let mut is_there = false;
        for (key, entries) in fitting {
            is_there = true;
            if !seen.insert(*key) {
                continue;
            }
            for entry in entries {
                let needs = entry.get("dependencies").and_then(Value::as_array);
                for need in needs.into_iter().flatten() {
                    // `NAME`, `NAME VERSION` or `NAME VERSION (SOURCE)`, as much as it takes to tell it from others.
                    let mut words = need.as_str()?.split(' ');
                    left.push((words.next()?, words.next()));
                }
            }
        }
        if !is_there {
            return None;
        }
    }
    let mut text = lock.get("version").map(ToString::to_string).unwrap_or_default();
    for key in &seen {
        for entry in known.get(key).into_iter().flatten() {
            text.push('\n');
            text.push_str(&entry.to_string());
        }
    }
    Some((text, seen.into_iter().map(|(name, _)| name.to_owned()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"version = 4

[[package]]
name = "app"
version = "0.1.0"
dependencies = ["needed", "twice 2.0.0"]

[[package]]
name = "needed"
version = "1.0.0"
source = "registry"
checksum = "aa"

[[package]]
name = "other"
version = "0.1.0"
dependencies = ["twice 1.0.0"]

[[package]]
name = "twice"
version = "1.0.0"
checksum = "bb"

[[package]]
name = "twice"
version = "2.0.0"
checksum = "cc"
"#;
    fn of_lock(lock: &str, package: &str) -> String {
        Relevant::of(lock, package).lock
    }

    fn of_manifest(manifest: &str, lock: &str, package: &str) -> String {
        Relevant::of(lock, package).of_manifest(manifest)
    }

    const MANIFEST: &str = r#"[workspace]
members = ["app", "other"]

[workspace.dependencies]
needed = "=1.0.0"
second = { version = "=2.0.0", package = "twice" }
unrelated = "=3.0.0"

[profile.device]
lto = true
"#;

    #[test]
    fn what_a_package_reaches_counts_and_nothing_else() {
        let own = of_lock(LOCK, "app");
        for (of_others, replacement) in [
            ("checksum = \"bb\"", "checksum = \"dd\""),
            ("dependencies = [\"twice 1.0.0\"]", "dependencies = []"),
        ] {
            let changed = LOCK.replace(of_others, replacement);
            assert_ne!(changed, LOCK);
            assert_eq!(of_lock(&changed, "app"), own, "{of_others}");
            assert_ne!(of_lock(&changed, "other"), of_lock(LOCK, "other"), "{of_others}");
        }
        for of_own in ["checksum = \"aa\"", "checksum = \"cc\"", "version = 4"] {
            assert_ne!(of_lock(&LOCK.replace(of_own, ""), "app"), own, "{of_own}");
        }
    }

    #[test]
    fn a_root_manifest_counts_without_members_and_without_what_is_not_reached() {
        let own = of_manifest(MANIFEST, LOCK, "app");
        let same = MANIFEST.replace(", \"other\"", "").replace("=3.0.0", "=4.0.0");
        assert_ne!(same, MANIFEST);
        assert_eq!(of_manifest(&same, LOCK, "app"), own);
        for of_own in ["=1.0.0", "=2.0.0", "true"] {
            let changed = MANIFEST.replace(of_own, "9");
            assert_ne!(of_manifest(&changed, LOCK, "app"), own, "{of_own}");
        }
    }

    #[test]
    fn a_lock_without_the_package_counts_whole() {
        assert_eq!(of_lock(LOCK, "unknown"), LOCK);
        assert_eq!(of_lock("no lock", "app"), "no lock");
        let cut = LOCK.replace("name = \"needed\"", "name = \"renamed\"");
        assert_eq!(of_lock(&cut, "app"), cut);
        assert_eq!(of_manifest(MANIFEST, LOCK, "unknown"), MANIFEST);
    }
}

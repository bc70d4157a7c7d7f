//! Where unit tests of a name are, by the sources alone: building every test program to ask it takes minutes.

use anyhow::{Context, Result};
use holdfast_builder::workspace;
use std::path::Path;

/// True if a source below a package's directory has a function whose name has one of the filters in it, or its path has, as the path of
/// a test's module would. Packages within the directory are others.
pub(super) fn has_function(directory: &Path, filters: &[String]) -> Result<bool> {
    // A path of modules: `spool::tests::a_torn_tail`.
    let last = |filter: &String| filter.rsplit("::").next().unwrap_or_default().to_owned();
    let filters: Vec<String> = filters.iter().map(last).collect();
    search(directory, true, &filters)
}

fn search(directory: &Path, is_root: bool, filters: &[String]) -> Result<bool> {
    if !is_root && directory.join("Cargo.toml").is_file() {
        return Ok(false);
    }
    let list = || format!("cannot list {}", directory.display());
    for entry in directory.read_dir().with_context(list)? {
        let path = entry.with_context(list)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !path.is_symlink() {
            let is_hidden = name.starts_with('.') || name == "target";
            if !is_hidden && search(&path, false, filters)? {
                return Ok(true);
            }
        } else if let Some(module) = name.strip_suffix(".rs")
            && (filters.iter().any(|filter| module.contains(filter))
                || has(&workspace::read_text(&path)?, filters))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True if a source has such a function, or a module of its own file with such a name.
fn has(source: &str, filters: &[String]) -> bool {
    let names = source.split("fn ").skip(1).chain(source.split("mod ").skip(1));
    names.into_iter().any(|rest| {
        let is_of_name = |character: char| character.is_alphanumeric() || character == '_';
        let name = rest.split(|character| !is_of_name(character)).next().unwrap_or_default();
        filters.iter().any(|filter| name.contains(filter.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_and_modules_are_found_by_a_part_of_their_names() {
        let source = "mod tests {\n    #[test]\n    fn a_torn_tail_is_cut() {}\n}\n";
        let has = |filter: &str| has(source, &[filter.to_owned()]);
        for there in ["a_torn_tail_is_cut", "torn", "tests"] {
            assert!(has(there), "{there}");
        }
        for missing in ["a_torn_tail_is_cut_twice", "test]", "other"] {
            assert!(!has(missing), "{missing}");
        }
    }

    #[test]
    fn packages_are_found_by_the_paths_of_tests_and_those_within_are_others() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = |filter: &str| has_function(directory, &[filter.to_owned()]).unwrap();
        assert!(found("test::names::tests::packages_are_found_by_the_paths_of_tests"));
        assert!(!found(&["no", "test", "has", "this", "name"].join("_")));
        let root = directory.parent().unwrap();
        let below = search(root, false, &["packages_are_found".to_owned()]).unwrap();
        assert!(!below, "the root is a package");
    }
}

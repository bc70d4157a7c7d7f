//! No module imports what imports it: every file can be read, tested and moved with what lies below it.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A path of names, from the crate's root: of a module or of something in one.
type Names = Vec<String>;

/// Modules of one crate, by their paths from its root, with what each has written but for tests and comments.
struct Crate {
    modules: BTreeMap<Names, String>,
    /// What a module has of another one by `pub use`, by its name there.
    exported: BTreeMap<(Names, String), Names>,
}

fn names(path: &str) -> Names {
    path.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Every `.rs` file below a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The module that a file below `src` is.
fn module_of(file: &Path, src: &Path) -> Names {
    let relative = file.strip_prefix(src).unwrap().with_extension("");
    let mut names: Names = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if names.last().is_some_and(|last| last == "mod") {
        names.pop();
    }
    if names == ["lib"] || names == ["main"] { Vec::new() } else { names }
}

/// Source without tests in it, comments and what stands in strings.
fn bare(source: &str) -> String {
    let mut text = source.to_owned();
    let tests = Regex::new(r"(?m)^#\[cfg\(test\)\]\n(?:pub(?:\([a-z]+\))? )?mod \w+ \{\n").unwrap();
    while let Some(found) = tests.find(&text) {
        let rest = text.get(found.end() - 1..).unwrap();
        let end = rest.find("\n}\n").map_or(text.len(), |end| found.end() + end + 2);
        text.replace_range(found.start()..end, "");
    }
    let text = Regex::new(r"//[^\n]*").unwrap().replace_all(&text, "");
    Regex::new(r#"(?s)"(?:[^"\\]|\\.)*""#).unwrap().replace_all(&text, "\"\"").into_owned()
}

/// The parts of a list in braces that commas separate.
fn parts(list: &str) -> Vec<String> {
    let (mut depth, mut found) = (0, vec![String::new()]);
    for letter in list.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        found.last_mut().unwrap().push(letter);
    }
    found
}

/// Everything that a tree of `use` names, each with the name it has here.
fn leaves(tree: &str, prefix: &[String], found: &mut Vec<(Names, String)>) {
    let tree = tree.trim();
    if let Some((head, list)) = tree.split_once('{') {
        let prefix = [prefix, &names(head)].concat();
        let list = list.rsplit_once('}').map_or(list, |(list, _)| list);
        parts(list).iter().for_each(|part| leaves(part, &prefix, found));
    } else if !tree.is_empty() {
        let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path = [prefix, &names(path)].concat();
        let alias = if alias.is_empty() { path.last().unwrap() } else { alias.trim() };
        found.push((path.clone(), alias.to_owned()));
    }
}

/// A path that a module has written, from the crate's root; `None` for one of another crate.
fn from_root(module: &Names, path: &[String], modules: &BTreeSet<Names>) -> Option<Names> {
    match path.first()?.as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            let up = module.get(..module.len().checked_sub(ups)?)?;
            Some([up, &path[ups..]].concat())
        }
        first => {
            let child = [module.as_slice(), &[first.to_owned()]].concat();
            modules.contains(&child).then(|| [module, path].concat())
        }
    }
}

impl Crate {
    /// Reads the crate whose source lies in `src`, with what each of its modules names.
    fn read(src: &Path) -> (Self, BTreeMap<Names, Vec<Names>>) {
        let mut files = Vec::new();
        sources(src, &mut files);
        let mut modules: BTreeMap<Names, String> = BTreeMap::new();
        let mut tests = BTreeSet::new();
        let declared =
            Regex::new(r"(?m)^#\[cfg\(test\)\]\n(?:pub(?:\([a-z]+\))? )?mod (\w+);").unwrap();
        for file in files {
            let (module, text) = (module_of(&file, src), fs::read_to_string(&file).unwrap());
            for test in declared.captures_iter(&text) {
                tests.insert([module.as_slice(), &[test[1].to_owned()]].concat());
            }
            modules.entry(module).or_default().push_str(&bare(&text));
        }
        modules.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        let known: BTreeSet<Names> = modules.keys().cloned().collect();
        let statement = Regex::new(r"(?ms)^[ \t]*(pub(?:\([a-z]+\))? )?use ([^;]*);").unwrap();
        let path = Regex::new(r"(?:^|[^\w:])((?:crate|super|self|[a-z_]\w*)(?:::\w+)+)").unwrap();
        let (mut exported, mut used) = (BTreeMap::new(), BTreeMap::new());
        for (module, text) in &modules {
            let mut named = Vec::new();
            for found in statement.captures_iter(text) {
                let mut all = Vec::new();
                leaves(&found[2], &[], &mut all);
                for (path, alias) in all {
                    let Some(path) = from_root(module, &path, &known) else { continue };
                    if found.get(1).is_some() {
                        exported.insert((module.clone(), alias), path);
                    } else {
                        named.push(path);
                    }
                }
            }
            let rest = statement.replace_all(text, "");
            named.extend(
                path.captures_iter(&rest)
                    .filter_map(|found| from_root(module, &names(&found[1]), &known)),
            );
            used.insert(module.clone(), named);
        }
        (Self { modules, exported }, used)
    }

    /// The module in which what a path names is written.
    fn written_in(&self, path: &[String], depth: u8) -> Option<Names> {
        let module = (0..=path.len())
            .rev()
            .map(|length| path[..length].to_vec())
            .find(|module| self.modules.contains_key(module))?;
        let rest = &path[module.len()..];
        let exported =
            rest.first().and_then(|name| self.exported.get(&(module.clone(), name.clone())));
        match exported {
            Some(from) if depth < 8 => {
                self.written_in(&[from, &rest[1..]].concat(), depth + 1).or(Some(module))
            }
            _ => Some(module),
        }
    }
}

/// Modules that `from` reaches, itself only where it reaches itself.
fn reached(from: &Names, imports: &BTreeMap<Names, BTreeSet<Names>>) -> BTreeSet<Names> {
    let (mut found, mut next) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = next.pop() {
        for import in &imports[&module] {
            if found.insert(import.clone()) {
                next.push(import.clone());
            }
        }
    }
    found
}

#[test]
fn no_module_imports_what_imports_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    let mut circles = BTreeSet::new();
    for member in members.split('"').skip(1).step_by(2) {
        let src = root.join(member).join("src");
        if !src.is_dir() {
            continue;
        }
        let (read, used) = Crate::read(&src);
        let imports: BTreeMap<Names, BTreeSet<Names>> = used
            .iter()
            .map(|(module, named)| {
                let imports = named.iter().filter_map(|path| read.written_in(path, 0));
                (module.clone(), imports.filter(|import| import != module).collect())
            })
            .collect();
        let all: BTreeMap<&Names, BTreeSet<Names>> =
            imports.keys().map(|module| (module, reached(module, &imports))).collect();
        for (module, reaches) in &all {
            if reaches.contains(*module) {
                let circle = reaches.iter().filter(|other| all[other].contains(*module));
                let circle: Vec<String> =
                    circle
                        .map(|names| {
                            if names.is_empty() { "the root".to_owned() } else { names.join("::") }
                        })
                        .collect();
                circles.insert(format!("{member}: {}", circle.join(", ")));
            }
        }
    }
    assert!(circles.is_empty(), "modules that import each other:\n{circles:#?}");
}

#[test]
fn a_path_leads_to_the_module_in_which_it_is_written() {
    let module =
        |names: &[&str]| -> Names { names.iter().map(|name| (*name).to_owned()).collect() };
    let modules = [&["a"][..], &["a", "b"], &["c"]].map(|m| (module(m), String::new()));
    let exported = BTreeMap::from([((module(&["a"]), "X".to_owned()), module(&["a", "b", "X"]))]);
    let read = Crate { modules: modules.into(), exported };
    let known: BTreeSet<Names> = read.modules.keys().cloned().collect();
    let written = |from: &[&str], path: &str| {
        from_root(&module(from), &names(path), &known).and_then(|path| read.written_in(&path, 0))
    };
    assert_eq!(written(&["c"], "crate::a::X"), Some(module(&["a", "b"])));
    assert_eq!(written(&["a", "b"], "super::Y"), Some(module(&["a"])));
    assert_eq!(written(&["a"], "b::Z"), Some(module(&["a", "b"])));
    assert_eq!(written(&["a"], "std::io"), None);
    let tests = "use a;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\nfn b() {} // c::d\n";
    assert_eq!(bare(tests), "use a;\nfn b() {} \n");
}

//! C sources of an app's directory, and the message where something else lies there.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of the compiler. POSIX and the usual extensions are there without a feature macro, as in the compilers that
/// apps come from.
pub(super) const FLAGS: [&str; 11] = [
    "-std=gnu17",
    "-Wall",
    "-Wextra",
    "-Os",
    "-g",
    "-static",
    "-fstack-protector-strong",
    "-D_FORTIFY_SOURCE=2",
    "-D_TIME_BITS=64",
    "-Wl,-z,noexecstack,-z,relro,-z,now",
    super::build_id::ROOM,
];
/// Endings of what the compiler is given: C, and assembler.
const COMPILED: [&str; 3] = ["c", "s", "S"];
/// Endings of C++, which is not compiled here.
const CPP: [&str; 5] = ["cpp", "cc", "cxx", "c++", "C"];
/// Directories of an app in which sources are nobody's mistake.
const NOT_SEARCHED: [&str; 3] = ["root", "target", "build"];
/// Deeper than this lie no sources of an app.
const MOST_LEVELS: usize = 16;

/// The C files of an app.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sources {
    /// In the order of their paths.
    pub(super) files: Vec<PathBuf>,
    directory: PathBuf,
}

impl Sources {
    /// Finds the C files below `src/` of an app's directory; `None` where the app brings its program in `root/`.
    ///
    /// # Errors
    /// There are sources that nothing here compiles; or there is nothing in `src/`, nor in `root/`, and sources
    /// elsewhere.
    pub(super) fn find(directory: &Path) -> Result<Option<Self>> {
        let source = directory.join("src");
        let found = if source.is_dir() { below(&source, &|_| true)? } else { Vec::new() };
        let ends = |path: &Path, endings: &[&str]| {
            path.extension().is_some_and(|own| endings.iter().any(|ending| own == *ending))
        };
        if let Some(path) = found.iter().find(|path| ends(path, &CPP)) {
            bail!(
                "{}: is C++, and only C is compiled here; build the program with a tool of your own \
                 (`zig c++ -target arm-linux-musleabihf -mcpu=cortex_a8 -static`), put it below root/ where \
                 EntryPoint names it, and rename src/",
                path.display()
            );
        }
        let files: Vec<PathBuf> = found.into_iter().filter(|path| ends(path, &COMPILED)).collect();
        if !files.is_empty() {
            return Ok(Some(Self { files, directory: directory.to_owned() }));
        }
        if directory.join("root").is_dir() || !directory.is_dir() {
            return Ok(None);
        }
        let searched = |name: &str| !NOT_SEARCHED.contains(&name);
        let is_source = |path: &PathBuf| ends(path, &["c"]) || ends(path, &CPP);
        let stray = below(directory, &searched)?.into_iter().find(is_source);
        match stray {
            Some(path) => bail!(
                "{}: is not below {}, where the sources of an app are; move it there",
                path.display(),
                source.display()
            ),
            None => Ok(None),
        }
    }

    /// True if a source or a header of the app includes the header of this name.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(super) fn includes(&self, header: &str) -> Result<bool> {
        let headers = ["src", "include"].map(|name| self.directory.join(name));
        let mut files = self.files.clone();
        for directory in headers.iter().filter(|path| path.is_dir()) {
            let found = below(directory, &|_| true)?.into_iter();
            files.extend(found.filter(|path| path.extension().is_some_and(|own| own == "h")));
        }
        let names = [format!("<{header}>"), format!("\"{header}\"")];
        let is_it = |line: &str| {
            let directive = line.trim_start().strip_prefix('#').map(str::trim_start);
            let name = directive.and_then(|rest| rest.strip_prefix("include")).map(str::trim_start);
            name.is_some_and(|name| names.iter().any(|wanted| name.starts_with(wanted)))
        };
        for file in files {
            let text =
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            if String::from_utf8_lossy(&text).lines().any(is_it) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The directories in which headers are looked for: `src/`, and `include/` where there is one.
    pub(super) fn include_directories(&self) -> Vec<PathBuf> {
        let all = ["src", "include"].map(|name| self.directory.join(name));
        all.into_iter().filter(|path| path.is_dir()).collect()
    }
}

/// All files below a directory, sorted; of directories, those whose name is `searched`.
fn below(directory: &Path, searched: &dyn Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut pending = vec![(directory.to_owned(), 0usize)];
    while let Some((next, level)) = pending.pop() {
        let list = || format!("cannot list {}", next.display());
        for entry in fs::read_dir(&next).with_context(list)? {
            let path = entry.with_context(list)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // Editors keep notes of their own beside a file.
            if name.starts_with('.') {
                continue;
            }
            // A link to a directory is followed, but not round for ever.
            if !path.is_dir() {
                files.insert(path.clone());
            } else if level >= MOST_LEVELS {
                bail!("{}: lies too deep, or a link leads round", path.display());
            } else if searched(name) {
                pending.push((path, level.saturating_add(1)));
            }
        }
    }
    Ok(files.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(files: &[&str]) -> tempfile::TempDir {
        let scratch = tempfile::tempdir().unwrap();
        for file in files {
            let path = scratch.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        scratch
    }

    fn refusal(files: &[&str]) -> String {
        Sources::find(app(files).path()).unwrap_err().to_string()
    }

    #[test]
    fn sources_in_subdirectories_are_compiled_with_the_others() {
        let scratch = app(&[
            "src/main.c",
            "src/drivers/gauge.c",
            "src/drivers/gauge.h",
            "src/.#main.c",
            "include/x.h",
        ]);
        let sources = Sources::find(scratch.path()).unwrap().unwrap();
        let at = |path: &str| scratch.path().join(path);
        assert_eq!(sources.files, [at("src/drivers/gauge.c"), at("src/main.c")]);
        assert_eq!(sources.include_directories(), [at("src"), at("include")]);
    }

    #[test]
    fn sources_that_are_not_compiled_are_named_with_the_remedy() {
        let said = refusal(&["src/main.c", "src/deep/er/valve.cpp"]);
        assert!(said.contains("src/deep/er/valve.cpp: is C++, and only C is compiled"), "{said}");
        // As apps of Azure Sphere have it.
        let said = refusal(&["main.c", "CMakeLists.txt"]);
        assert!(
            said.contains("main.c: is not below ") && said.ends_with("move it there"),
            "{said}"
        );
    }

    #[test]
    fn a_header_is_included_by_a_line_of_its_own() {
        for (text, included) in [
            ("#include <x.h>\n", true),
            ("int a;\n  # include \"x.h\" // mine\n", true),
            ("/* #include <x.h> would do */\n#include <y/x.h>\n#include <x.hpp>\n", false),
        ] {
            let scratch = app(&["src/main.c", "include/own.h"]);
            for file in ["src/main.c", "include/own.h"] {
                fs::write(scratch.path().join(file), text).unwrap();
                let sources = Sources::find(scratch.path()).unwrap().unwrap();
                assert_eq!(sources.includes("x.h").unwrap(), included, "{file}: {text}");
                fs::write(scratch.path().join(file), "").unwrap();
            }
        }
    }

    #[test]
    fn an_app_that_brings_its_program_has_no_sources() {
        for files in [&["root/bin/app"][..], &["root/bin/app", "main.c"], &["app_manifest.json"]] {
            assert_eq!(Sources::find(app(files).path()).unwrap(), None, "{files:?}");
        }
        let scratch = app(&["src/main.c"]);
        std::os::unix::fs::symlink("..", scratch.path().join("src/round")).unwrap();
        Sources::find(scratch.path()).unwrap_err();
    }
}

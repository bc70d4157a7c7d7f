//! Puts the files of `boards/` into the library, for tools that run without a checkout.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    // A directory that is named stands for the files in it, those to come included.
    println!("cargo::rerun-if-changed=boards");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    let rows: String = files
        .iter()
        .filter_map(|path| Some((path.file_stem()?.to_str()?, path.file_name()?.to_str()?)))
        // Cargo compiles this anew where the directory of the package is another.
        .map(|(name, file)| {
            let path =
                format!("concat!(env!(\"CARGO_MANIFEST_DIR\"), {:?})", format!("/boards/{file}"));
            format!("    ({name:?}, include_str!({path})),\n")
        })
        .collect();
    let output = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
    fs::write(Path::new(&output).join("boards.rs"), format!("&[\n{rows}]\n"))
}

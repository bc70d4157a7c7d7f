//! What Buildroot says of sources and licences, beside what the image's bill of materials says.

use super::Buildroot;
use anyhow::{Context, Result, ensure};
use holdfast_builder::process;
use holdfast_builder::workspace;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// The package of Buildroot and the component of the bill that are one thing, and its licence as Buildroot has it.
const PAIRS: [(&str, &str, &str); 2] =
    [("linux", "linux", "GPL-2.0"), ("uboot", "u-boot", "GPL-2.0+")];
/// Components of the bill beside crates that are no package of the target in Buildroot: its toolchain's.
const OF_THE_TOOLCHAIN: [&str; 2] = ["musl", "rust-std"];

/// A row of `manifest.csv`.
struct Row<'a> {
    licence: &'a str,
    archive: &'a str,
}

/// The row of a package: name, version, licence, its files, archive, site and dependencies, in quotation marks.
fn row<'a>(manifest: &'a str, package: &str) -> Result<Row<'a>> {
    let line = manifest.lines().find(|line| line.starts_with(&format!("\"{package}\",\"")));
    let line = line.with_context(|| format!("manifest.csv has no {package}"))?;
    let fields: Vec<&str> = line.trim_matches('"').split("\",\"").collect();
    let [_, _, licence, _, archive, ..] = fields.as_slice() else {
        anyhow::bail!("manifest.csv: {line}: has too few fields");
    };
    Ok(Row { licence, archive })
}

impl Buildroot {
    /// What Buildroot says of licences and sources is what the bill of materials says, and nothing of ours is
    /// complained of.
    pub(super) fn legal_info(&self, output: &Path, image: &Path) -> Result<()> {
        process::output(self.make(output).arg("legal-info"))?;
        let directory = output.join("legal-info");
        let manifest = workspace::read_text(&directory.join("manifest.csv"))?;
        let bill = workspace::read_text(&image.with_extension("cdx.json"))?;
        let bill: Value = serde_json::from_str(&bill).context("the bill is no JSON")?;
        let components = bill.get("components").and_then(Value::as_array);
        let components = components.context("the bill has no components")?;
        let text = |of: &Value, name: &str| {
            of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        for (package, name, licence) in PAIRS {
            let row = row(&manifest, package)?;
            ensure!(row.licence == licence, "manifest.csv: {package}: licence {}", row.licence);
            let component = components.iter().find(|component| text(component, "name") == name);
            let component = component.with_context(|| format!("the bill has no {name}"))?;
            let sources = directory.join(format!("sources/{package}-custom"));
            same_source(component, &sources, &row, package)?;
        }
        for component in components {
            let (name, purl) = (text(component, "name"), text(component, "purl"));
            let known = PAIRS.iter().any(|(_, component, _)| *component == name)
                || OF_THE_TOOLCHAIN.contains(&name.as_str());
            ensure!(known || purl.starts_with("pkg:cargo/"), "{name}: is in the bill alone");
        }
        let complaints = workspace::read_text(&directory.join("README"))?;
        let ours = |line: &&str| {
            line.starts_with("WARNING: ")
                && ["holdfast", "linux", "uboot"].iter().any(|name| line.contains(name))
        };
        let complaints: Vec<&str> = complaints.lines().filter(ours).collect();
        ensure!(complaints.is_empty(), "legal-info complains:\n{}", complaints.join("\n"));
        Ok(())
    }
}

/// Fails unless Buildroot has saved the source that the bill names, with the patches that it names.
fn same_source(component: &Value, sources: &Path, row: &Row<'_>, package: &str) -> Result<()> {
    let digest = component.pointer("/hashes/0/content").and_then(Value::as_str);
    let version = component.get("version").and_then(Value::as_str).unwrap_or_default();
    let saved = sources.join(row.archive);
    let here = workspace::sha256_file(&saved)?;
    // The bill has the hash of Debian's source package of U-Boot; the archive is made of that, and named so.
    ensure!(
        digest == Some(here.as_str()) || row.archive.contains(version),
        "{package}: {}: is not what the bill names, {version} with SHA-256 {digest:?}",
        saved.display()
    );
    let patches = component.pointer("/pedigree/patches").and_then(Value::as_array);
    let list = || format!("cannot list {}", sources.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(sources).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            found.push(workspace::read_text(&path)?);
        }
    }
    let texts = patches.into_iter().flatten();
    let texts: Vec<&str> = texts
        .filter_map(|patch| patch.pointer("/diff/text/content").and_then(Value::as_str))
        .collect();
    ensure!(
        found.len() == texts.len() && found.iter().all(|patch| texts.contains(&patch.as_str())),
        "{package}: {}: has {} patches that are not the bill's {}",
        sources.display(),
        found.len(),
        texts.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_manifest_is_found_by_its_package() {
        let manifest = "\"PACKAGE\",\"VERSION\",\"LICENSE\",\"LICENSE FILES\",\"SOURCE ARCHIVE\",\"SOURCE SITE\",\"DEPENDENCIES WITH LICENSES\"\n\
                        \"linux-headers\",\"custom\",\"x\",\"\",\"y\",\"\",\"\"\n\
                        \"linux\",\"custom\",\"GPL-2.0\",\"COPYING\",\"linux-source.tar.xz\",\"file:///usr/src\",\"a [b]\"\n";
        let found = row(manifest, "linux").unwrap();
        assert_eq!((found.licence, found.archive), ("GPL-2.0", "linux-source.tar.xz"));
        assert!(row(manifest, "uboot").is_err());
        assert!(row("\"uboot\",\"custom\"\n", "uboot").is_err());
    }
}

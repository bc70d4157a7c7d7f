//! The bill of materials of an image (CycloneDX 1.5, JSON) and the licences of what is in it, both beside the
//! image.
//!
//! Source: CycloneDX v1.5 JSON reference, and the package URL specification.

use crate::device_build::Package;
use crate::kernel::Kernel;
use crate::pins::Pin;
use crate::process;
use crate::toolchain::{Rust, TARGET};
use crate::u_boot::UBoot;
use crate::workspace;
use anyhow::{Context, Result};
use holdfast_images::manifest::ImageManifest;
use holdfast_images::{derived_uuid, hex, sha256, uuid_text};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Beginnings of the names of files that are licences.
const LICENCE_FILES: [&str; 6] =
    ["licen", "copying", "copyright", "notice", "unlicense", "authors"];

/// One thing that is in an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    name: String,
    version: String,
    kind: &'static str,
    /// Package URL.
    purl: String,
    /// SPDX expression; none where nobody says.
    licence: Option<String>,
    /// SHA-256 of its source; none for what is in this repository.
    sha256: Option<String>,
    /// Paths of the licence's texts.
    texts: Vec<PathBuf>,
    /// The patches to its source: each has its reason and its difference.
    patches: Vec<String>,
}

/// Parts of an image besides its crates.
pub(super) struct Parts<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) kernel_source: &'a Path,
    pub(super) boot_loader: &'a UBoot,
    pub(super) boot_loader_source: &'a Path,
    pub(super) rust: &'a Rust,
    pub(super) libc: &'a Libc,
    /// Packages of the programs in it.
    pub(super) packages: &'a BTreeSet<Package>,
    /// The project's own root, whose licence files stand for its crates.
    pub(super) project: &'a Path,
}

/// The C runtime in the programs.
#[derive(Debug, Clone)]
pub(super) struct Libc {
    pub(super) version: String,
    /// SHA-256 of its source, where somebody knows it.
    pub(super) sha256: Option<String>,
    /// Package URL.
    pub(super) purl: String,
    /// Files with the text of its licence.
    pub(super) texts: Vec<PathBuf>,
}

impl Libc {
    /// The one in a release of Zig, which has its source in its own tree, so that its hash is the source's.
    pub(super) fn of_zig(zig: &Pin, directory: &Path) -> Self {
        Self {
            version: zig.version.clone(),
            sha256: Some(zig.sha256.clone()),
            purl: format!("pkg:pypi/ziglang@{}#lib/libc/musl", percent_encoded(&zig.version)),
            texts: vec![directory.join("lib/libc/musl/COPYRIGHT")],
        }
    }
}

/// Writes `IMAGE.cdx.json` and `IMAGE.licences.txt`.
pub(super) fn write(image: &Path, manifest: &ImageManifest, parts: &Parts<'_>) -> Result<()> {
    let mut items = system(parts)?;
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut directories: BTreeMap<&Path, Vec<&Package>> = BTreeMap::new();
    for package in parts.packages {
        directories.entry(&package.directory).or_default().push(package);
    }
    for (directory, packages) in directories {
        crates(parts, directory, &packages, &mut items, &mut edges)
            .with_context(|| format!("{}: what it is made of", directory.display()))?;
    }
    let bill = bill(manifest, &items, &edges);
    let text = serde_json::to_string_pretty(&bill).context("cannot write JSON")?;
    workspace::write(&image.with_extension("cdx.json"), format!("{text}\n"))?;
    workspace::write(&image.with_extension("licences.txt"), licences(&items)?)
}

/// Kernel, boot loader and C runtime.
fn system(parts: &Parts<'_>) -> Result<BTreeSet<Item>> {
    let item = |name: &str, pin: &Pin, kind, purl: String, licence: &str, texts| Item {
        name: name.to_owned(),
        version: pin.version.clone(),
        kind,
        purl,
        licence: Some(licence.to_owned()),
        sha256: Some(pin.sha256.clone()),
        texts,
        patches: Vec::new(),
    };
    let of_debian = |name: &str, pin: &Pin| {
        format!("pkg:deb/debian/{name}@{}?arch=source", percent_encoded(&pin.version))
    };
    let Parts { kernel, boot_loader, libc, .. } = parts;
    let rust = &parts.rust.pin;
    let licences = |source: &Path, names: &[&str]| -> Vec<PathBuf> {
        names.iter().map(|name| source.join(name)).collect()
    };
    let patches = kernel.patches.iter().map(|patch| patch.text.clone()).collect();
    let linux = Item {
        patches,
        ..item(
            "linux",
            &kernel.source,
            "operating-system",
            of_debian("linux", &kernel.source),
            "GPL-2.0-only WITH Linux-syscall-note",
            licences(
                parts.kernel_source,
                &[
                    "COPYING",
                    "LICENSES/preferred/GPL-2.0",
                    "LICENSES/exceptions/Linux-syscall-note",
                ],
            ),
        )
    };
    Ok(BTreeSet::from([
        linux,
        item(
            "u-boot",
            &boot_loader.source,
            "firmware",
            of_debian("u-boot", &boot_loader.source),
            "GPL-2.0-or-later",
            licences(parts.boot_loader_source, &["Licenses/README", "Licenses/gpl-2.0.txt"]),
        ),
        Item {
            name: "musl".to_owned(),
            version: libc.version.clone(),
            kind: "library",
            purl: libc.purl.clone(),
            licence: Some("MIT".to_owned()),
            sha256: libc.sha256.clone(),
            texts: libc.texts.clone(),
            patches: Vec::new(),
        },
        item(
            "rust-std",
            rust,
            "library",
            format!("pkg:generic/rust-std@{}", percent_encoded(&rust.version)),
            "MIT OR Apache-2.0",
            licences(parts.project, &["LICENSE-MIT", "LICENSE-APACHE"]),
        ),
    ]))
}

/// The crates that the programs of `packages` are made of, as cargo resolves them for the device.
fn crates(
    parts: &Parts<'_>,
    directory: &Path,
    packages: &[&Package],
    items: &mut BTreeSet<Item>,
    edges: &mut BTreeMap<String, BTreeSet<String>>,
) -> Result<()> {
    let rust = parts.rust;
    let mut command = Command::new(&rust.cargo);
    command
        .current_dir(directory)
        .args(["metadata", "--format-version=1", "--filter-platform", TARGET])
        .args(packages.iter().flat_map(|package| package.feature_arguments()))
        .env("RUSTC", &rust.rustc);
    let metadata: Value =
        serde_json::from_str(&process::output(&mut command)?).context("cargo printed no JSON")?;
    let text = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let list = |value: &Value, path: &str| -> Vec<Value> {
        value.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let checksums = checksums(Path::new(&text(&metadata, "workspace_root")))?;
    let by_id: BTreeMap<String, Value> =
        list(&metadata, "/packages").into_iter().map(|p| (text(&p, "id"), p)).collect();
    let needs: BTreeMap<String, Vec<String>> = list(&metadata, "/resolve/nodes")
        .iter()
        .map(|node| {
            // What only a build or a test needs is not in the program.
            let is_normal = |dep: &&Value| {
                list(dep, "/dep_kinds")
                    .iter()
                    .any(|kind| kind.get("kind").is_none_or(Value::is_null))
            };
            let deps = list(node, "/deps");
            (text(node, "id"), deps.iter().filter(is_normal).map(|d| text(d, "pkg")).collect())
        })
        .collect();
    let purl = |package: &Value| {
        format!(
            "pkg:cargo/{}@{}",
            text(package, "name"),
            percent_encoded(&text(package, "version"))
        )
    };
    let roots = by_id.iter().filter(|(_, p)| {
        let name = text(p, "name");
        packages.iter().any(|package| package.name == name)
            && p.get("source").is_none_or(Value::is_null)
    });
    let mut left: Vec<String> = roots.map(|(id, _)| id.clone()).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = left.pop() {
        let Some(package) = by_id.get(&id).filter(|_| seen.insert(id.clone())) else { continue };
        let below = needs.get(&id).cloned().unwrap_or_default();
        let names = below.iter().filter_map(|id| by_id.get(id)).map(purl);
        edges.entry(purl(package)).or_default().extend(names);
        left.extend(below);
        let (name, version) = (text(package, "name"), text(package, "version"));
        let manifest = PathBuf::from(text(package, "manifest_path"));
        let home = manifest.parent().unwrap_or(Path::new("."));
        let texts = if home.starts_with(parts.project) {
            ["LICENSE-MIT", "LICENSE-APACHE"].map(|name| parts.project.join(name)).to_vec()
        } else {
            licence_files(home)
        };
        items.insert(Item {
            sha256: checksums.get(&(name.clone(), version.clone())).cloned(),
            purl: purl(package),
            // An older way to write OR.
            licence: package.get("license").and_then(Value::as_str).map(|l| l.replace('/', " OR ")),
            kind: "library",
            texts,
            patches: Vec::new(),
            name,
            version,
        });
    }
    Ok(())
}

/// The hashes in a workspace's Cargo.lock, by name and version.
fn checksums(root: &Path) -> Result<BTreeMap<(String, String), String>> {
    let path = root.join("Cargo.lock");
    let lock: toml::Table = workspace::read_toml(&path)?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let field = |package: &toml::Value, name: &str| Some(package.get(name)?.as_str()?.to_owned());
    let entry = |package: &toml::Value| {
        let key = (field(package, "name")?, field(package, "version")?);
        Some((key, field(package, "checksum")?))
    };
    Ok(packages.into_iter().flatten().filter_map(entry).collect())
}

fn licence_files(home: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            LICENCE_FILES.iter().any(|begin| name.starts_with(begin))
        })
        .collect();
    files.sort();
    files
}

fn bill(
    manifest: &ImageManifest,
    items: &BTreeSet<Item>,
    edges: &BTreeMap<String, BTreeSet<String>>,
) -> Value {
    let components: Vec<Value> = items
        .iter()
        .map(|item| {
            let fields = [
                ("type", Some(json!(item.kind))),
                ("bom-ref", Some(json!(item.purl))),
                ("name", Some(json!(item.name))),
                ("version", Some(json!(item.version))),
                ("purl", Some(json!(item.purl))),
                (
                    "hashes",
                    item.sha256
                        .as_ref()
                        .map(|digest| json!([{ "alg": "SHA-256", "content": digest }])),
                ),
                ("licenses", item.licence.as_ref().map(|l| json!([{ "expression": l }]))),
                ("pedigree", pedigree(&item.patches)),
            ];
            let there = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
            let component: BTreeMap<&str, Value> = there.collect();
            json!(component)
        })
        .collect();
    let of_image = format!("{}-{}@{}", manifest.name, manifest.board, manifest.version);
    let top: BTreeSet<&String> = items.iter().map(|item| &item.purl).collect();
    let mut dependencies = vec![json!({ "ref": of_image, "dependsOn": top })];
    dependencies.extend(edges.iter().map(|(of, on)| json!({ "ref": of, "dependsOn": on })));
    let content = serde_json::to_vec(&components).unwrap_or_default();
    let serial = uuid_text(&derived_uuid(&[b"bill", of_image.as_bytes(), &content]));
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{serial}"),
        "version": 1,
        "metadata": {
            "component": {
                "type": "firmware",
                "bom-ref": of_image,
                "name": manifest.name,
                "version": manifest.version,
            },
        },
        "components": components,
        "dependencies": dependencies,
    })
}

/// Returns the `pedigree` of a component: the patches for which it is another than its package URL names.
fn pedigree(patches: &[String]) -> Option<Value> {
    let patch = |text: &String| {
        let diff = json!({ "text": { "contentType": "text/x-diff", "content": text } });
        json!({ "type": "unofficial", "diff": diff })
    };
    let patches: Vec<Value> = patches.iter().map(patch).collect();
    (!patches.is_empty()).then(|| json!({ "patches": patches }))
}

/// Each text once, with the names of all that it is the licence of.
fn licences(items: &BTreeSet<Item>) -> Result<String> {
    let mut texts: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut without = Vec::new();
    for item in items {
        let name = format!("{} {}", item.name, item.version);
        if item.texts.is_empty() {
            without.push(format!("{name}: {}", item.licence.as_deref().unwrap_or("nothing said")));
        }
        for path in &item.texts {
            let bytes = workspace::read(path)?;
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            let digest = hex(&sha256(&[text.as_bytes()]));
            texts.entry(digest).or_insert_with(|| (text, BTreeSet::new())).1.insert(name.clone());
        }
    }
    let mut all = String::from("The licences of what is in this image.\n");
    if !without.is_empty() {
        all.push_str("\nThese come without a text of their own; the licences that they name:\n");
        for line in without {
            all.push_str(&format!("  {line}\n"));
        }
    }
    let mut ordered: Vec<_> = texts.into_values().collect();
    ordered.sort_by(|(_, one), (_, other)| one.cmp(other));
    for (text, names) in ordered {
        let names: Vec<String> = names.into_iter().collect();
        all.push_str(&format!("\n{}\n{}\n\n{text}\n", "=".repeat(72), names.join("\n")));
    }
    Ok(all)
}

/// Encodes a text for a package URL: everything but letters, digits and `.-_~` by its bytes in percent form.
pub(super) fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, texts: Vec<PathBuf>) -> Item {
        Item {
            name: name.to_owned(),
            version: "1.0.0+x".to_owned(),
            kind: "library",
            purl: format!("pkg:cargo/{name}@{}", percent_encoded("1.0.0+x")),
            licence: Some("MIT".to_owned()),
            sha256: None,
            texts,
            patches: Vec::new(),
        }
    }

    #[test]
    fn a_text_stands_once_with_all_names_and_its_absence_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let text = |name: &str| {
            let path = directory.path().join(name);
            fs::write(&path, "Do as you like.\n").unwrap();
            path
        };
        let (one, other) = (text("LICENSE"), text("COPYING"));
        assert_eq!(licence_files(directory.path()), [other.clone(), one.clone()]);
        let items =
            BTreeSet::from([item("a", vec![one]), item("b", vec![other]), item("c", vec![])]);
        let all = licences(&items).unwrap();
        assert_eq!(all.matches("Do as you like.").count(), 1, "{all}");
        assert!(all.contains("a 1.0.0+x\nb 1.0.0+x\n"), "{all}");
        assert!(all.contains("  c 1.0.0+x: MIT\n"), "{all}");
    }

    #[test]
    fn a_patched_component_carries_its_patches() {
        let patched = Item { patches: vec!["Why.\n--- a/x".to_owned()], ..item("a", vec![]) };
        let hello = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/hello.toml");
        let manifest = ImageManifest::load(&hello).unwrap();
        let bill = bill(&manifest, &BTreeSet::from([patched, item("b", vec![])]), &BTreeMap::new());
        let text = |path: &str| bill.pointer(path).and_then(Value::as_str);
        let diff = "/components/0/pedigree/patches/0/diff/text/content";
        assert_eq!(text(diff), Some("Why.\n--- a/x"), "{bill:#}");
        assert_eq!(bill.pointer("/components/1/pedigree"), None);
    }

    #[test]
    fn versions_are_encoded_in_package_urls() {
        assert_eq!(percent_encoded("2023.01+dfsg-2~x"), "2023.01%2Bdfsg-2~x");
        assert_eq!(item("a", vec![]).purl, "pkg:cargo/a@1.0.0%2Bx");
    }
}

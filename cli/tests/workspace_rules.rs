//! Rules of the house that no compiler checks.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Packages of the workspace with the workspace's packages that each depends on.
fn packages() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: Vec<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let ours = dependencies
                .iter()
                .map(|dependency| dependency["name"].as_str().unwrap())
                .filter(|name| names.contains(name))
                .map(str::to_owned)
                .collect();
            (package["name"].as_str().unwrap().to_owned(), ours)
        })
        .collect()
}

/// The crates of decisions, which programs of a host link as they need them.
const DECISIONS: [&str; 9] = [
    "holdfast-evidence",
    "holdfast-failure-reports",
    "holdfast-lifecycle",
    "holdfast-manifest",
    "holdfast-netlink",
    "holdfast-networking",
    "holdfast-release",
    "holdfast-sandbox",
    "holdfast-types",
];

/// Those, and more.
fn with(more: &[&'static str]) -> Vec<&'static str> {
    [&DECISIONS, more].concat()
}

/// Names of every crate that is linked into a package's program for the device.
fn closure(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--package",
            package,
            "--edges=normal,no-proc-macro",
            "--prefix=none",
        ])
        .args(["--target=armv7-unknown-linux-musleabihf", "--format={p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<String> =
        text.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    names
}

/// Compares what is linked into a program with a list. A crate that comes needs a reason here; one that goes, goes from
/// the list.
fn is_linked(package: &str, expected: &[&str]) {
    let linked = closure(package);
    let others: Vec<&String> = linked.iter().filter(|name| !name.starts_with("holdfast")).collect();
    assert!(others == expected, "{package} links:\n{others:#?}");
}

#[test]
fn pid_1_links_these_crates_and_no_parser_of_what_others_write() {
    let linked = [
        "bitflags",
        "block-buffer",
        "cfg-if",
        "cobs",
        "const-oid",
        "crc",
        "crc-catalog",
        "crypto-common",
        "curve25519-dalek",
        "digest",
        "ed25519",
        "ed25519-dalek",
        "enumflags2",
        "hybrid-array",
        "landlock",
        "libc",
        "linux-raw-sys",
        "memoffset",
        "nix",
        "postcard",
        "rustix",
        "seccompiler",
        "serde",
        "serde_core",
        "sha2",
        "signature",
        "subtle",
        "thiserror",
        "typenum",
    ];
    is_linked("holdfast-init", &linked);
    // Nor does it come by one of our own.
    let parsers = [
        "serde_json",
        "smoltcp",
        "simple-dns",
        "object",
        "miniz_oxide",
        "time",
        "regex",
        "toml",
        "holdfast-manifest",
        "holdfast-release",
        "holdfast-networking",
    ];
    let all = closure("holdfast-init");
    assert!(parsers.iter().all(|parser| !all.iter().any(|linked| linked == parser)), "{all:?}");
}

#[test]
fn admission_links_these_crates() {
    is_linked(
        "holdfast-admission",
        &[
            "adler2",
            "block-buffer",
            "cfg-if",
            "cobs",
            "const-oid",
            "crypto-common",
            "curve25519-dalek",
            "deranged",
            "digest",
            "ed25519",
            "ed25519-dalek",
            "hybrid-array",
            "itoa",
            "memchr",
            "miniz_oxide",
            "num-conv",
            "object",
            "postcard",
            "powerfmt",
            "serde",
            "serde_core",
            "serde_json",
            "sha2",
            "signature",
            "subtle",
            "thiserror",
            "time",
            "time-core",
            "typenum",
            "zmij",
        ],
    );
}

#[test]
fn uplink_links_these_crates() {
    is_linked(
        "holdfast-uplink",
        &[
            "adler2",
            "base64",
            "bitflags",
            "block-buffer",
            "bytes",
            "cfg-if",
            "cobs",
            "const-oid",
            "crc",
            "crc-catalog",
            "crypto-common",
            "curve25519-dalek",
            "deranged",
            "digest",
            "ed25519",
            "ed25519-dalek",
            "enumflags2",
            "getrandom",
            "http",
            "httparse",
            "hybrid-array",
            "itoa",
            "landlock",
            "libc",
            "linux-raw-sys",
            "log",
            "memchr",
            "memoffset",
            "miniz_oxide",
            "nix",
            "num-conv",
            "once_cell",
            "percent-encoding",
            "postcard",
            "powerfmt",
            "ring",
            "rustix",
            "rustls",
            "rustls-pki-types",
            "rustls-webpki",
            "seccompiler",
            "serde",
            "serde_core",
            "serde_json",
            "sha2",
            "signature",
            "subtle",
            "thiserror",
            "time",
            "time-core",
            "typenum",
            "untrusted",
            "ureq",
            "ureq-proto",
            "utf8-zero",
            "zeroize",
            "zmij",
        ],
    );
}

#[test]
fn identity_links_these_crates() {
    is_linked(
        "holdfast-identity",
        &[
            "base64",
            "bitflags",
            "block-buffer",
            "bytes",
            "cfg-if",
            "cobs",
            "const-oid",
            "crc",
            "crc-catalog",
            "crypto-common",
            "curve25519-dalek",
            "digest",
            "ed25519",
            "ed25519-dalek",
            "endi",
            "enumflags2",
            "futures-core",
            "futures-io",
            "getrandom",
            "hex",
            "hybrid-array",
            "itoa",
            "landlock",
            "libc",
            "linux-raw-sys",
            "memchr",
            "memoffset",
            "mio",
            "nix",
            "ordered-stream",
            "pin-project-lite",
            "postcard",
            "proc-macro2",
            "quote",
            "ring",
            "rustix",
            "seccompiler",
            "serde",
            "serde_core",
            "serde_json",
            "sha2",
            "signature",
            "socket2",
            "subtle",
            "syn",
            "thiserror",
            "tokio",
            "typenum",
            "unicode-ident",
            "untrusted",
            "uuid",
            "winnow",
            "zbus",
            "zbus_utils",
            "zcheapstr",
            "zmij",
            "zruntime",
        ],
    );
}

#[test]
fn dependency_arrows_point_only_where_the_architecture_lets_them() {
    let allowed = BTreeMap::from([
        ("holdfast-types", vec![]),
        // Itself, with the feature that its tests are of.
        ("holdfast-evidence", vec!["holdfast-evidence", "holdfast-swtpm", "holdfast-types"]),
        ("holdfast-failure-reports", vec!["holdfast-types"]),
        ("holdfast-netlink", vec![]),
        ("holdfast-sandbox", vec!["holdfast-types"]),
        ("holdfast-manifest", vec!["holdfast-sandbox", "holdfast-types"]),
        ("holdfast-lifecycle", vec!["holdfast-sandbox", "holdfast-types"]),
        ("holdfast-release", vec!["holdfast-sandbox", "holdfast-types"]),
        ("holdfast-networking", vec!["holdfast-netlink", "holdfast-sandbox", "holdfast-types"]),
        (
            "holdfast-linux",
            vec!["holdfast-lifecycle", "holdfast-netlink", "holdfast-sandbox", "holdfast-types"],
        ),
        // Nothing that parses what others write.
        (
            "holdfast-init",
            vec!["holdfast-lifecycle", "holdfast-linux", "holdfast-sandbox", "holdfast-types"],
        ),
        (
            "holdfast-admission",
            vec!["holdfast-manifest", "holdfast-release", "holdfast-sandbox", "holdfast-types"],
        ),
        ("holdfast-debug", vec!["holdfast-linux", "holdfast-types"]),
        // Nothing that reads what anybody but init and uplink says.
        (
            "holdfast-report",
            vec![
                "holdfast-failure-reports",
                // The kernel's notes on a crash.
                "holdfast-lifecycle",
                "holdfast-linux",
                // The status that the network service writes.
                "holdfast-networking",
                "holdfast-sandbox",
                "holdfast-types",
            ],
        ),
        (
            "holdfast-network",
            vec![
                "holdfast-linux",
                "holdfast-netlink",
                "holdfast-networking",
                "holdfast-sandbox",
                "holdfast-types",
            ],
        ),
        // By which apps call a service; its tests send descriptors.
        ("holdfast-app-bus", vec!["holdfast-linux", "holdfast-types"]),
        (
            "holdfast-update",
            vec![
                "holdfast-app-bus",
                "holdfast-linux",
                "holdfast-release",
                "holdfast-sandbox",
                "holdfast-types",
            ],
        ),
        (
            "holdfast-uplink",
            vec![
                "holdfast-evidence",
                "holdfast-failure-reports",
                "holdfast-linux",
                "holdfast-release",
                "holdfast-sandbox",
                "holdfast-types",
            ],
        ),
        // The keys: nothing that reads what the network sends but the bodies of one protocol, and what apps say.
        (
            "holdfast-identity",
            vec![
                "holdfast-app-bus",
                "holdfast-evidence",
                "holdfast-linux",
                "holdfast-sandbox",
                // Of its tests.
                "holdfast-swtpm",
                "holdfast-types",
            ],
        ),
        ("holdfast-images", DECISIONS.to_vec()),
        ("holdfast-qemu", vec!["holdfast-images"]),
        // The security service runs on hosts, and shares with devices what both verify: nothing of their effects.
        (
            "holdfast-service-domain",
            vec![
                "holdfast-evidence",
                "holdfast-failure-reports",
                // What signed metadata says, as devices read it.
                "holdfast-release",
                "holdfast-sandbox",
                // Of its tests.
                "holdfast-swtpm",
                "holdfast-types",
            ],
        ),
        (
            "holdfast-service-issuing",
            vec!["holdfast-evidence", "holdfast-service-domain", "holdfast-types"],
        ),
        (
            "holdfast-service-store",
            vec![
                "holdfast-evidence",
                "holdfast-failure-reports",
                // Assignments, and what they are of.
                "holdfast-release",
                "holdfast-sandbox",
                "holdfast-service-domain",
                // Itself, with the feature that its tests are of, and their object store.
                "holdfast-s3-server",
                "holdfast-service-store",
                "holdfast-types",
            ],
        ),
        // What reads programs of others: nothing but the types of what it answers.
        (
            "holdfast-service-symbols",
            // Failures, of its tests alone.
            vec!["holdfast-failure-reports", "holdfast-service-domain", "holdfast-types"],
        ),
        // What goes out: it knows alerts as JSON, and neither database nor keys.
        ("holdfast-service-alerts", vec!["holdfast-service-domain", "holdfast-types"]),
        (
            "holdfast-service-api",
            vec![
                "holdfast-evidence",
                "holdfast-failure-reports",
                "holdfast-service-alerts",
                // Bounds of assignments.
                "holdfast-release",
                "holdfast-service-domain",
                "holdfast-service-issuing",
                "holdfast-service-sign-in",
                "holdfast-service-store",
                "holdfast-service-symbols",
                "holdfast-types",
            ],
        ),
        // Pages: they ask the management API in the place of whoever looks at them, and have no way to the database beside it.
        (
            "holdfast-service-console",
            vec![
                "holdfast-service-api",
                "holdfast-service-domain",
                // The store says who has signed in.
                "holdfast-service-store",
                "holdfast-types",
            ],
        ),
        // Sign-ins: this crate asks providers, knows people as claims, and has neither database nor keys of ours.
        (
            "holdfast-service-sign-in",
            vec![
                // Alerts and sign-ins connect to addresses in the same way, and believe the same authorities.
                "holdfast-service-alerts",
                "holdfast-service-domain",
                // Its tests ask a provider of their own.
                "holdfast-test-provider",
                "holdfast-types",
            ],
        ),
        ("holdfast-test-provider", vec![]),
        (
            "holdfast-service",
            vec![
                "holdfast-evidence",
                "holdfast-service-alerts",
                "holdfast-service-api",
                "holdfast-service-console",
                "holdfast-service-domain",
                "holdfast-service-issuing",
                "holdfast-service-store",
                "holdfast-service-symbols",
                "holdfast-types",
                // Of its tests: devices, what they report, and a repository to take releases from.
                "holdfast-failure-reports",
                "holdfast-images",
                "holdfast-release",
                "holdfast-repository",
                "holdfast-s3-server",
                "holdfast-sandbox",
                "holdfast-service-clients",
                "holdfast-swtpm",
                "holdfast-test-provider",
            ],
        ),
        ("holdfast-s3-server", vec![]),
        ("holdfast-swtpm", vec!["holdfast-evidence", "holdfast-types"]),
        (
            "holdfast-service-clients",
            vec!["holdfast-evidence", "holdfast-failure-reports", "holdfast-swtpm"],
        ),
        (
            "holdfast-service-load",
            vec!["holdfast-evidence", "holdfast-service-clients", "holdfast-service-store"],
        ),
        // Devices and the whole service in one process, with a clock of their own.
        (
            "holdfast-service-fleet",
            vec![
                "holdfast-evidence",
                "holdfast-failure-reports",
                "holdfast-service",
                "holdfast-service-api",
                "holdfast-service-clients",
                "holdfast-service-domain",
                "holdfast-service-store",
                "holdfast-swtpm",
                "holdfast-types",
            ],
        ),
        // Devices and the service's decisions in one process, with a clock of their own.
        (
            "holdfast-fleet",
            vec![
                "holdfast-evidence",
                "holdfast-failure-reports",
                "holdfast-service-domain",
                "holdfast-types",
            ],
        ),
        (
            "holdfast-symbol-worker-tests",
            vec!["holdfast-service", "holdfast-service-api", "holdfast-service-symbols"],
        ),
        (
            "holdfast-interrupted-service",
            vec![
                "holdfast-evidence",
                "holdfast-service",
                "holdfast-service-clients",
                "holdfast-service-store",
                "holdfast-types",
            ],
        ),
        ("holdfast-repository", with(&["holdfast-images"])),
        // Both host tools build by it, and it knows nothing of their commands.
        ("holdfast-builder", with(&["holdfast-images", "holdfast-qemu", "holdfast-repository"])),
        (
            "holdfast",
            with(&[
                "holdfast-builder",
                "holdfast-images",
                "holdfast-qemu",
                "holdfast-repository",
                // The audit log of the security service, which is followed without it.
                "holdfast-service-domain",
                // Its tests sign in at a provider of their own.
                "holdfast-test-provider",
            ]),
        ),
        // `cargo holdfast` has the host tool's commands as well. Nothing depends on it: what tests and measures is no
        // part of what is installed.
        (
            "xtask",
            with(&[
                "holdfast",
                "holdfast-builder",
                "holdfast-images",
                "holdfast-qemu",
                "holdfast-repository",
            ]),
        ),
        // All but what belongs to development.
        (
            "holdfast-services",
            vec![
                "holdfast-admission",
                "holdfast-identity",
                "holdfast-network",
                "holdfast-report",
                "holdfast-update",
                "holdfast-uplink",
            ],
        ),
        (
            "holdfast-system-tests",
            with(&["holdfast-images", "holdfast-qemu", "holdfast-repository"]),
        ),
        // It reads its own certificate.
        ("authenticating", vec!["holdfast-evidence"]),
        ("holdfast-test-apps", with(&["holdfast-linux"])),
        (
            "holdfast-fuzz",
            with(&[
                "holdfast-images",
                "holdfast-repository",
                "holdfast-service-domain",
                "holdfast-service-symbols",
            ]),
        ),
        // For apps: ids and nothing else of ours. Its tests issue certificates as the security service does.
        (
            "holdfast-sdk-identity",
            vec![
                "holdfast-evidence",
                "holdfast-service-domain",
                "holdfast-test-identity",
                "holdfast-types",
            ],
        ),
        (
            "holdfast-sdk-identity-c",
            vec!["holdfast-sdk-identity", "holdfast-test-identity", "holdfast-types"],
        ),
        (
            "holdfast-test-identity",
            vec![
                "holdfast-evidence",
                "holdfast-service-domain",
                "holdfast-service-issuing",
                "holdfast-types",
            ],
        ),
        ("device-to-device", vec!["holdfast-sdk-identity"]),
        ("hello", vec![]),
        ("mqtt", vec!["holdfast-sdk-identity"]),
        ("tcp-server", vec![]),
        ("update-deferral", vec![]),
        ("web-client", vec![]),
    ]);
    for (package, dependencies) in packages() {
        let allowed = allowed.get(package.as_str());
        let allowed = allowed.unwrap_or_else(|| panic!("{package} has no rule here: add one"));
        for dependency in dependencies {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{package} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn every_package_takes_the_workspaces_lints_but_those_with_unsafe_code() {
    let mut own_lints = Vec::new();
    for manifest in manifests(&root()) {
        let text = std::fs::read_to_string(&manifest).unwrap();
        if text.contains("[package]") && !text.contains("[lints]\nworkspace = true") {
            own_lints.push(manifest);
        }
    }
    // Effects on the kernel, and an interface of C.
    let with_unsafe_code = ["os/linux", "sdk/identity-c"];
    assert_eq!(own_lints, with_unsafe_code.map(|package| root().join(package).join("Cargo.toml")));
}

/// What init opens, it opens by `os/linux`, where no `open` waits: not for a carrier, not for a writer.
#[test]
fn init_opens_nothing_by_itself() {
    let mut directories = vec![root().join("init/src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for open in ["OpenOptions", "File::open", "File::create", "fs::read(", "fs::write("] {
                assert!(!text.contains(open), "{} has {open}", path.display());
            }
        }
    }
}

#[test]
fn no_room_has_a_name_that_says_nothing() {
    for manifest in manifests(&root()) {
        let source = manifest.parent().unwrap().join("src");
        for entry in std::fs::read_dir(source).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            for empty in ["utils", "common", "misc", "helper"] {
                assert!(!name.contains(empty), "{} says nothing", entry.path().display());
            }
        }
    }
}

/// Whoever prints an error prints its causes behind it: one that has its cause's text as well would be told twice.
#[test]
fn no_error_has_its_cause_in_its_text_and_behind_it() {
    let mut checked = 0;
    let packages = manifests(&root()).into_iter().map(|manifest| manifest.with_file_name("src"));
    for sources in packages.filter(|sources| sources.is_dir()) {
        for source in rust_sources(&sources) {
            let text = std::fs::read_to_string(&source).unwrap();
            checked += text.matches("#[error(").count();
            if let Some(twice) = says_its_cause_twice(&text) {
                panic!("{}: {twice}", source.display());
            }
        }
    }
    assert!(checked > 300, "errors were not found");
}

#[test]
fn what_has_its_cause_in_its_text_and_behind_it_is_found() {
    for good in [
        "#[error(\"cannot run {tool}\")] Start { tool: String, source: io::Error }",
        "#[error(transparent)] File(#[from] FileError)",
        "#[error(\"the bundle\")] Bundle(#[from] BundleError)",
        "#[error(\"the package {0}\")] Header(PackageError)",
    ] {
        assert_eq!(says_its_cause_twice(good), None);
    }
    for bad in [
        "#[error(\"{}: {source}\", path.display())] Elf { path: PathBuf, source: ElfError }",
        "#[error(\"the key {0}\")]\n    Key(#[from] KeyError)",
        "#[error(\"{0:?}\")]\n    Key(#[source] KeyError)",
    ] {
        assert!(says_its_cause_twice(bad).is_some(), "{bad}");
    }
}

/// The first error in a source whose text has what its `source()` returns.
fn says_its_cause_twice(text: &str) -> Option<String> {
    let named = r"#\[error\([^\]]*\{source\b[^\]]*\]";
    let unnamed = r"#\[error\([^\]]*\{0[:}][^\]]*\]\s*\w+\(\s*#\[(?:from|source)\]";
    let twice = Regex::new(&format!("{named}|{unnamed}")).unwrap();
    twice.find(text).map(|found| found.as_str().to_owned())
}

fn manifests(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(manifests(&path));
        } else if name == "Cargo.toml" {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Directories of the packages that run on hosts alone.
const ON_HOSTS: [&str; 24] = [
    "builder",
    "cli",
    "fuzz",
    "images",
    "qemu",
    "repository",
    "security-service/alerts",
    "security-service/api",
    "security-service/domain",
    "security-service/issuing",
    "security-service/server",
    "security-service/sign-in",
    "security-service/store",
    "security-service/symbols",
    "tests/fleet",
    "tests/interrupted-service",
    "tests/provider",
    "tests/security-service",
    "tests/service-load",
    "tests/swtpm",
    "tests/symbol-worker",
    "tests/identity",
    "tests/system",
    "xtask",
];

/// The cache of programs relies on it: a program depends on the files of the packages that it reaches by path,
/// and on nothing else.
#[test]
fn programs_for_the_device_read_no_file_outside_their_packages() {
    let hosts = ON_HOSTS.map(|directory| root().join(directory));
    let mut checked = 0;
    for manifest in manifests(&root()) {
        let package = manifest.parent().unwrap();
        let text = std::fs::read_to_string(&manifest).unwrap();
        if !text.contains("[package]") || hosts.iter().any(|host| host == package) {
            continue;
        }
        assert!(!package.join("build.rs").exists(), "{}: has a build.rs", package.display());
        for setting in ["build", "proc-macro"] {
            let set = Regex::new(&format!("(?m)^{setting} *=")).unwrap();
            assert!(!set.is_match(&text), "{}: sets `{setting}`", manifest.display());
        }
        for source in rust_sources(package) {
            let text = std::fs::read_to_string(&source).unwrap();
            if let Some(reads) = reads_outside(package, &source, &text) {
                panic!("{}: {reads}: is cached without what this reads", source.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "sources of programs were not found");
}

#[test]
fn what_reads_a_file_outside_its_package_is_found() {
    let (package, source) = (Path::new("/p"), Path::new("/p/src/bin/a.rs"));
    for good in [
        "include_bytes!(\"a.bin\")",
        "include_str!(\n    \"../../LICENSE\",\n)",
        "#[path = \"../a.rs\"]",
        "env!(\"CARGO_PKG_VERSION\")",
        "#[cfg(test)] mod tests { env!(\"CARGO_MANIFEST_DIR\"); }",
    ] {
        assert_eq!(reads_outside(package, source, good), None, "{good}");
    }
    for bad in [
        "include_bytes!(\"../../../a.bin\")",
        "include_str!(\"/etc/hostname\")",
        "include!(concat!(env!(\"OUT_DIR\"), \"/a.rs\"))",
        "include_str![\"../../../a\"]",
        "#[cfg_attr(unix, path = \"../../../a.rs\")]",
        "#[path = \"../../../a.rs\"]",
        "env!(\"CARGO_MANIFEST_DIR\")",
        "option_env!(\"HOSTNAME\")",
        "#[cfg(test)] mod tests { env!(\"HOSTNAME\"); }",
    ] {
        assert!(reads_outside(package, source, bad).is_some(), "{bad}");
    }
}

/// The first thing in a source that makes the compiler read what is not in its package: a file, or a variable
/// that is another in another checkout.
fn reads_outside(package: &Path, source: &Path, text: &str) -> Option<String> {
    let tests = text.find("#[cfg(test)]").unwrap_or(text.len());
    let reads = Regex::new(
        r#"(?:#!?\[[^\]]*\bpath *=|\b(?<what>include(?:_str|_bytes)?|(?:option_)?env)! *[(\[{])\s*(?:r?"(?<name>[^"]*)")?"#,
    )
    .unwrap();
    for found in reads.captures_iter(text) {
        let whole = found.get(0).unwrap();
        let name = found.name("name").map(|name| name.as_str());
        let is_for_tests = whole.start() > tests
            || source.ends_with("tests.rs")
            || source.starts_with(package.join("tests"));
        let is_good = |name: &str| match found.name("what").map(|what| what.as_str()) {
            Some("env" | "option_env") => {
                name.starts_with("CARGO_PKG_") || is_for_tests && name.starts_with("CARGO_")
            }
            _ => lies_in(package, source, name),
        };
        if !name.is_some_and(is_good) {
            return Some(whole.as_str().to_owned());
        }
    }
    None
}

/// Whether a name that stands in a source is that of a file in its package.
fn lies_in(package: &Path, source: &Path, name: &str) -> bool {
    let mut path = source.parent().unwrap().to_owned();
    for part in Path::new(name).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.starts_with(package)
}

/// Every Rust source of a package; no link is among its files.
fn rust_sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        assert!(!kind.is_symlink(), "{}: is a link", path.display());
        if kind.is_dir() && entry.file_name() != "target" {
            found.extend(rust_sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

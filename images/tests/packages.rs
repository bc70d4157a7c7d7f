//! The packages in `tests/packages`: one that every reader takes, and hostile ones that it refuses,
//! each for its reason. All but one carry a good signature: whoever holds a key may be hostile too.
//!
//! `HOLDFAST_WRITE_FIXTURES=1` writes the missing ones; what is there is never written again.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::tests_outside_test_module,
    reason = "a panic is a failed test"
)]

use holdfast_images::key::PrivateKey;
use holdfast_images::root::Root;
use holdfast_images::{package, verity};
use holdfast_sandbox::package::{HEADER_BYTES, Header, ShortName};
use std::path::{Path, PathBuf};

const MANIFEST: &str = r#"{"SchemaVersion": 1, "Name": "x", "EntryPoint": "/bin/app",
    "ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11", "Capabilities": {},
    "Holdfast": {"Version": "1.2.3", "RollbackIndex": 4}}"#;

fn key() -> PrivateKey {
    PrivateKey::from_secret(&[7; 32], false)
}

fn tree() -> Root {
    let mut root = Root::default();
    root.add("app_manifest.json", MANIFEST.into(), false);
    root.add("share/data", b"data".to_vec(), false);
    root.add_link("share/link", "data12");
    root
}

/// A signed package around a file system, with a header that fits it but for `change`.
fn signed(data: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let manifest = holdfast_manifest::parse(MANIFEST.as_bytes()).unwrap();
    let verity = verity::hash_package(data).unwrap();
    let mut header = Header {
        data_bytes: u64::try_from(data.len()).unwrap(),
        component_id: manifest.component_id,
        product: ShortName::new("").unwrap(),
        board: ShortName::new("").unwrap(),
        version: manifest.version,
        rollback_index: manifest.rollback_index,
        least_os: manifest.least_os,
        key_id: key().public().id(),
        root_hash: verity.root_hash,
        salt: verity.salt,
    };
    change(&mut header);
    let signature = key().sign(&header.signed_bytes());
    [&header.encode(&signature)[..], data, &verity.tree].concat()
}

fn package_of(root: &Root) -> Vec<u8> {
    signed(&root.to_erofs().unwrap(), |_| {})
}

/// The sound package with some bytes replaced.
fn replaced(at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = package_of(&tree());
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

/// A package whose file system was changed by hand before it was hashed and signed.
fn patched(patch: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut data = tree().to_erofs().unwrap();
    patch(&mut data);
    // EROFS_FEATURE_COMPAT_SB_CHKSUM: a checksum that would no longer fit need not be there.
    data[1024 + 8] &= !1;
    signed(&data, |_| {})
}

/// The places of inodes with this mode; EROFS has them in slots of 32 bytes, the mode at 4.
fn inode_of_mode(data: &[u8], mode: u16) -> usize {
    let mut slots = (1024 + 128..data.len() - 32).step_by(32);
    slots.find(|at| data[at + 4..at + 6] == mode.to_le_bytes()).unwrap()
}

fn with_mode(from: u16, to: u16) -> Vec<u8> {
    patched(|data| {
        let at = inode_of_mode(data, from);
        data[at + 4..at + 6].copy_from_slice(&to.to_le_bytes());
    })
}

fn with_link(target: &[u8; 6]) -> Vec<u8> {
    patched(|data| {
        let at = data.windows(6).position(|bytes| bytes == b"data12").unwrap();
        data[at..at + 6].copy_from_slice(target);
    })
}

/// The root directory becomes a directory in itself.
fn with_cycle() -> Vec<u8> {
    patched(|data| {
        let root = [data[1024 + 14], data[1024 + 15]];
        // Behind the root's inode its entries: number, offset of the name, kind; 12 bytes each.
        let entries = usize::from(u16::from_le_bytes(root)) * 32 + 32;
        let last = entries + 3 * 12;
        assert_eq!(data[last + 10], 2, "no directory");
        data[last..last + 8].fill(0);
        data[last..last + 2].copy_from_slice(&root);
    })
}

/// An ARM program with one program header: of this type and with these flags.
fn program(kind: u32, flags: u32) -> Vec<u8> {
    let mut elf = b"\x7fELF\x01\x01\x01".to_vec();
    elf.resize(16, 0);
    for half in [2u16, 40] {
        elf.extend_from_slice(&half.to_le_bytes()); // type, machine
    }
    for word in [1u32, 0x10000, 52, 0, 0x0500_0400] {
        elf.extend_from_slice(&word.to_le_bytes()); // version, entry, program headers, sections, flags
    }
    for half in [52u16, 32, 1, 40, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    for word in [kind, 0, 0x10000, 0x10000, 84, 84, flags, 4] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf
}

fn with_file(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut root = tree();
    root.add(name, bytes.to_vec(), true);
    package_of(&root)
}

fn without_manifest() -> Vec<u8> {
    let mut root = Root::default();
    root.add("share/data", b"data".to_vec(), false);
    package_of(&root)
}

type Make = fn() -> Vec<u8>;
/// Name, how it was made, and what the reader says.
const HOSTILE: [(&str, Make, &str); 29] = [
    ("empty", Vec::new, "shorter than a header"),
    ("cut-header", || package_of(&tree())[..4095].to_vec(), "shorter than a header"),
    ("magic", || replaced(0, b"h"), "is no app package"),
    ("format-version", || replaced(8, &[2]), "has format version 2, not 1"),
    ("reserved", || replaced(300, &[1]), "reserved"),
    ("padding", || replaced(600, &[1]), "reserved"),
    (
        "cut-tree",
        || {
            let bytes = package_of(&tree());
            bytes[..bytes.len() - 1].to_vec()
        },
        "but its header says",
    ),
    ("trailing", || [package_of(&tree()), vec![0]].concat(), "but its header says"),
    ("total-length", || replaced(16, &[1]), "do not add up"),
    ("no-data", || replaced(24, &[0; 8]), "whole blocks"),
    ("odd-data", || replaced(24, &[1]), "whole blocks"),
    ("endless-data", || replaced(24, &(1u64 << 62).to_le_bytes()), "larger than 1 GiB"),
    ("overlap", || replaced(24, &(2u64 << 12).to_le_bytes()), "verity tree does not fit"),
    ("product", || replaced(56, b"A"), "no name"),
    ("hidden-product", || replaced(56, b"\0a"), "no name"),
    ("root-hash", || signed(&tree().to_erofs().unwrap(), |h| h.root_hash[0] ^= 1), "do not hash"),
    ("changed-data", || replaced(HEADER_BYTES + 2000, &[0xff; 8]), "do not hash"),
    ("no-file-system", || signed(&[0; 4096], |_| {}), "cannot be read"),
    (
        "component-id",
        || signed(&tree().to_erofs().unwrap(), |h| h.component_id.0[0] ^= 1),
        "differ in ComponentId",
    ),
    (
        "rollback-index",
        || signed(&tree().to_erofs().unwrap(), |h| h.rollback_index += 1),
        "differ in RollbackIndex",
    ),
    ("no-manifest", without_manifest, "cannot be read"),
    ("setuid", || with_mode(0o100_444, 0o104_555), "setuid, setgid or sticky"),
    ("device-node", || with_mode(0o100_444, 0o020_666), "is neither a regular file nor"),
    ("pipe", || with_mode(0o100_444, 0o010_666), "is neither a regular file nor"),
    ("absolute-link", || with_link(b"/state"), "leads out of the package"),
    ("climbing-link", || with_link(b"../../"), "leads out of the package"),
    ("directory-in-itself", with_cycle, "directory cycle"),
    (
        "executable-stack",
        || with_file("bin/app", &program(0x6474_e551, 7)),
        "asks for an executable stack",
    ),
    ("writable-code", || with_file("lib/x", &program(1, 7)), "writable and executable"),
];

fn fixture(name: &str, make: Make) -> Vec<u8> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packages").join(name);
    if !path.exists() && std::env::var_os("HOLDFAST_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, make()).unwrap();
    }
    std::fs::read(&path).unwrap()
}

#[test]
fn the_golden_package_is_read_and_verified() {
    let golden = fixture("golden.app", || package_of(&tree()));
    let package = package::read(&golden).unwrap();
    assert_eq!(package.manifest.name, "x");
    let trusted = [key().public()];
    assert_eq!(package::verify(&golden, &package.header, &trusted).unwrap(), &trusted[0]);
}

#[test]
fn every_hostile_package_is_refused_for_its_reason() {
    for (name, make, reason) in HOSTILE {
        let bytes = fixture(&format!("hostile-{name}.app"), make);
        let said = package::read(&bytes).expect_err(name).to_string();
        assert!(said.contains(reason), "{name}: {said}");
    }
}

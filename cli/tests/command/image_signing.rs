//! A production image: built without the private key, signed by a key kept elsewhere, verified.

use crate::holdfast::{refused, succeeds};
use crate::manifests::image;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// The public keys of its boot loader, which are kept elsewhere.
const TRUST: &str = r#"[trust.boot]
current = "current.pub.pem"
next = "next.pub.pem"
recovery = "recovery.pub.pem"
"#;

#[test]
fn a_production_image_is_signed_by_a_key_kept_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for name in ["current", "next", "recovery", "stranger"] {
        let file = format!("{name}.pem");
        succeeds(path, &["key", "new", "--for", "boot", "--output", &file]);
    }
    let manifest = image("production", TRUST).replace("[slots]", "rollback_index = 3\n[slots]");
    fs::write(path.join("image.toml"), manifest).unwrap();
    let build = ["image", "build", "--production", "--image", "image.toml", "--output", "p.img"];
    succeeds(path, &build);
    assert!(succeeds(path, &["image", "show", "p.img"]).contains("boot: unsigned"));
    refused(
        path,
        &["run", "--image", "image.toml"],
        &["image.toml: trust.boot: names keys that are kept elsewhere"],
    );
    refused(
        path,
        &["image", "verify", "p.img"],
        &["slot a: refused: configuration slot-a is not signed"],
    );
    let flash = ["flash", "--image", "p.img", "--to", "card.img"];
    refused(path, &flash, &["p.img: its boot loader would not start it", "image sign"]);
    assert!(!path.join("card.img").exists());

    let public = ["image", "sign", "p.img", "--public", "current.pub.pem"];
    succeeds(path, &[&public[..], &["--emit-bytes", "to-sign"]].concat());
    let sign = |key: &str| {
        for slot in ["slot-a", "slot-b"] {
            let status = Command::new("openssl")
                .args([
                    "dgst",
                    "-sha256",
                    "-sign",
                    key,
                    "-out",
                    &format!("to-sign/{slot}.signature"),
                ])
                .arg(format!("to-sign/{slot}.bytes"))
                .current_dir(path)
                .status()
                .unwrap();
            assert!(status.success());
        }
    };
    sign("stranger.pem");
    refused(
        path,
        &[&public[..], &["--signatures", "to-sign"]].concat(),
        &["slot-a.signature: is no signature by"],
    );
    sign("current.pem");
    succeeds(path, &[&public[..], &["--signatures", "to-sign"]].concat());
    let report = succeeds(path, &["image", "verify", "p.img"]);
    let expected = "slot a: sound, signed by key current, for qemu-virt, rollback index 3";
    assert!(report.contains(expected), "{report}");
    assert!(succeeds(path, &["image", "show", "p.img"]).contains("(production)"));
    assert!(succeeds(path, &flash).contains("read back, SHA-256"));
    assert!(fs::read(path.join("card.img")).unwrap() == fs::read(path.join("p.img")).unwrap());
    fs::write(path.join("letter"), "Dear all,").unwrap();
    let onto = ["flash", "--image", "p.img", "--to", "letter"];
    refused(path, &onto, &["letter: a file of 9 bytes that is no Holdfast image", "--yes"]);
    assert_eq!(fs::read(path.join("letter")).unwrap(), b"Dear all,");
    let built = fs::read(path.join("p.img")).unwrap();
    symlink("p.img", path.join("link.card")).unwrap();
    fs::hard_link(path.join("p.img"), path.join("hard.card")).unwrap();
    for (to, reason) in [
        ("p.img", "p.img: is the image itself"),
        ("link.card", "link.card: is the image itself"),
        ("hard.card", "hard.card: is the image itself"),
        ("p.rom", "p.rom: is the boot loader of p.img"),
    ] {
        refused(path, &["flash", "--image", "p.img", "--to", to], &[reason]);
        assert!(fs::read(path.join("p.img")).unwrap() == built, "{to}: the image was changed");
    }
    fs::write(path.join("renamed.img"), &built).unwrap();
    refused(path, &["image", "verify", "renamed.img"], &["renamed.rom is not beside it", "--rom"]);
    fs::write(path.join("packed.img"), [b"\xfd7zXZ\0", &built[..4096]].concat()).unwrap();
    for command in [&["image", "verify", "packed.img"][..], &["image", "show", "packed.img"]] {
        refused(
            path,
            command,
            &["packed.img: is compressed with xz (`xz -dk FILE`); unpack it first"],
        );
    }
    refused(path, &["flash", "--image", "packed.img", "--to", "card.img"], &["compressed with xz"]);
    refused(
        path,
        &["flash", "--image", "p.img", "--to", "/dev/null"],
        &["/dev/null: is neither a disk nor a file"],
    );
    refused(
        path,
        &["flash", "--image", "p.img", "--to", "/dev/no-such-card"],
        &["/dev/no-such-card: there is no such device"],
    );

    succeeds(path, &["image", "sign", "p.img", "--key", "stranger.pem"]);
    refused(path, &["image", "verify", "p.img"], &["is not signed by a key of the boot loader"]);
    succeeds(path, &["image", "sign", "p.img", "--key", "next.pem"]);
    let report = succeeds(path, &["image", "verify", "p.img"]);
    assert!(report.contains("signed by key next"), "{report}");
    assert!(succeeds(path, &["key", "show", "next.pub.pem"]).contains("public RSA-3072 key"));
    refused(
        path,
        &["image", "verify", "p.img", "--rom", "image.toml"],
        &["there is no boot loader: no control device tree"],
    );
}

//! `buildroot-external/`: what of it is generated is current, and what it names is there.

#[cfg(test)]
mod tests {
    use holdfast_builder::buildroot::{self, DIRECTORY};
    use holdfast_builder::workspace::{self, Workspace};
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn checkout() -> Workspace {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Workspace { root: fs::canonicalize(root).unwrap(), cache: "/".into(), jobs: None }
    }

    fn tree() -> PathBuf {
        checkout().root.join(DIRECTORY)
    }

    #[test]
    fn the_generated_parts_of_the_tree_are_current() {
        let workspace = checkout();
        let files = buildroot::files(&workspace).unwrap();
        let mut stale = Vec::new();
        for (name, text) in &files {
            let path = workspace.root.join(name);
            if fs::read_to_string(&path).ok().as_ref() == Some(text) {
                continue;
            }
            if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
                workspace::write(&path, text).unwrap();
            } else {
                stale.push(name.display().to_string());
            }
        }
        assert!(
            stale.is_empty(),
            "{}: not current; run HOLDFAST_WRITE_DOCS=1 cargo test -p holdfast-builder --test buildroot",
            stale.join(", ")
        );
        // One for each board, and none of a board that is gone.
        let listed = fs::read_dir(tree().join("configs")).unwrap();
        let found: BTreeSet<PathBuf> = listed
            .map(|entry| Path::new(DIRECTORY).join("configs").join(entry.unwrap().file_name()))
            .collect();
        let expected = files.keys().filter(|name| name.to_string_lossy().ends_with("_defconfig"));
        assert_eq!(found, expected.cloned().collect());
    }

    #[test]
    fn every_file_that_a_defconfig_names_is_there() {
        let mut named = 0;
        for (name, text) in buildroot::files(&checkout()).unwrap() {
            let words = text.split(['"', ' ', '\n']);
            for word in words.filter_map(|word| word.strip_prefix("$(BR2_EXTERNAL_HOLDFAST_PATH)/"))
            {
                assert!(tree().join(word).exists(), "{}: {word}", name.display());
                named += 1;
            }
        }
        assert!(named > 20, "{named}");
    }

    #[test]
    fn every_package_has_its_files_and_every_archive_a_hash() {
        let mut packages = 0;
        for entry in fs::read_dir(tree().join("package")).unwrap() {
            let directory = entry.unwrap().path();
            let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
            let makefile = fs::read_to_string(directory.join(format!("{name}.mk"))).unwrap();
            let is_of_host = makefile.contains("$(eval $(host-");
            assert_eq!(directory.join("Config.in").is_file(), !is_of_host, "{name}");
            let is_local = makefile.contains("_SITE_METHOD = local");
            let hashes = directory.join(format!("{name}.hash"));
            assert_eq!(hashes.is_file(), !is_local, "{name}");
            packages += 1;
        }
        assert!(packages >= 6);
        for name in ["linux", "linux-headers", "uboot"] {
            let path = tree().join(format!("board/holdfast/sources/{name}/{name}.hash"));
            let hashes = fs::read_to_string(&path).unwrap();
            assert!(hashes.lines().any(|line| line.starts_with("sha256  ")), "{name}");
        }
    }

    #[test]
    fn the_hash_of_u_boot_is_of_the_version_that_is_pinned() {
        let path = tree().join("board/holdfast/sources/uboot/uboot.hash");
        let hashes = fs::read_to_string(path).unwrap();
        let defconfig =
            fs::read_to_string(tree().join("configs/holdfast_qemu_virt_defconfig")).unwrap();
        let location =
            defconfig.lines().find(|line| line.contains("UBOOT_CUSTOM_TARBALL_LOCATION"));
        let archive = location.unwrap().trim_end_matches('"').rsplit('/').next().unwrap();
        assert!(
            hashes.lines().any(|line| line.starts_with("sha256  ") && line.ends_with(&format!("  {archive}"))),
            "{archive} is not in uboot.hash; make it with support/u-boot-source.sh and hash it"
        );
    }
}

//! `buildroot-external/`: what of it is generated is current, and what it names is there.

#[cfg(test)]
mod tests {
    use holdfast_builder::buildroot::{self, DIRECTORY};
    use holdfast_builder::device_build::FOR_THE_HOST;
    use holdfast_builder::image::parts::Parts;
    use holdfast_builder::process;
    use holdfast_builder::workspace::{self, Workspace};
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

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

    /// Returns what a recipe prints in a makefile that includes the tree's files about programs. `variables` are lines
    /// before that, and `environment` is what the caller of make has set.
    fn make(variables: &str, recipe: &str, environment: &[(&str, &str)]) -> String {
        let tree = tree();
        let makefile = format!(
            "BR2_EXTERNAL_HOLDFAST_PATH = {}\n{variables}\n\
             include $(BR2_EXTERNAL_HOLDFAST_PATH)/flags.mk $(BR2_EXTERNAL_HOLDFAST_PATH)/holdfast.mk\n\
             all:\n\t@{recipe}\n",
            tree.display()
        );
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("Makefile");
        fs::write(&path, makefile).unwrap();
        let mut command = Command::new("make");
        command.arg("-f").arg(&path).envs(environment.iter().copied());
        process::output(&mut command).unwrap()
    }

    #[test]
    fn what_a_caller_sets_for_his_own_cargo_does_not_reach_programs() {
        let more = ["CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "RUSTC", "HOLDFAST_CONTROL"];
        let names = FOR_THE_HOST.iter().chain(&more);
        let environment: Vec<(&str, &str)> = names.map(|name| (*name, "of a caller")).collect();
        let said = make("", "env", &environment);
        let reached: Vec<&str> =
            said.lines().filter(|line| line.ends_with("=of a caller")).collect();
        assert_eq!(reached, ["HOLDFAST_CONTROL=of a caller"]);
    }

    #[test]
    fn an_output_directory_in_the_checkout_is_not_copied_into_itself() {
        let exclusions = |variables: &str| {
            let said = make(variables, "echo '$(HOLDFAST_RSYNC_EXCLUSIONS)'", &[]);
            said.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let outside = exclusions("BASE_DIR = /somewhere/output\nDL_DIR = /somewhere/dl");
        assert!(outside.ends_with("--exclude /buildroot-external"), "{outside}");
        let inside = exclusions("BASE_DIR = $(HOLDFAST_CHECKOUT)/out/a\nDL_DIR = $(BASE_DIR)/dl");
        assert_eq!(inside, format!("{outside} --exclude /out/a --exclude /out/a/dl"));
    }

    /// The files that a build of Buildroot leaves for `board/holdfast/post-image.sh`, with a C library that holds `libc`.
    fn build_results(libc: &[u8]) -> tempfile::TempDir {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let library = at("libc.a").display().to_string();
        let compiler =
            format!("case $1 in\n--version) echo gcc 14 ;;\n*) echo {library} ;;\nesac\n");
        let files: [(&str, &[u8]); 8] = [
            ("libc.a", libc),
            ("gcc", compiler.as_bytes()),
            ("config", b"BR2_HOLDFAST_PRODUCTION=y\n"),
            ("linux/.config", b"CONFIG_ARM=y\n"),
            ("u-boot/.config", b"CONFIG_FIT=y\nCONFIG_DEFAULT_ENV_FILE=\"/home/me/environment\"\n"),
            ("u-boot/.holdfast-spare-config", b"CONFIG_FIT=y\n"),
            ("image.toml", b"schema = 1\nname = \"hello\"\n"),
            ("images/.kept", b""),
        ];
        for (name, bytes) in files {
            workspace::write(&at(name), bytes).unwrap();
        }
        scratch
    }

    /// Runs `board/holdfast/post-image.sh` there, for a board with a spare boot loader, and returns what it prints.
    fn post_image(results: &Path) -> anyhow::Result<String> {
        let at = |name: &str| results.join(name);
        let mut command = Command::new("sh");
        command.arg(tree().join("board/holdfast/post-image.sh")).arg(at("images"));
        for (name, place) in [
            ("BR2_CONFIG", "config"),
            ("HOLDFAST_CHECKOUT", "checkout"),
            ("HOLDFAST_IMAGE", "image.toml"),
            ("HOLDFAST_LINUX_DIR", "linux"),
            ("HOLDFAST_PROGRAMS_DIR", "programs"),
            ("HOLDFAST_PROGRAM_LISTS", "programs/list"),
            ("HOLDFAST_UBOOT_DIR", "u-boot"),
            ("HOST_DIR", "host"),
            ("HOLDFAST_STRIP", "host/bin/strip"),
        ] {
            command.env(name, at(place));
        }
        command.env("HOLDFAST_COMPILER", format!("sh {}", at("gcc").display()));
        for (name, value) in [
            ("BR2_VERSION_FULL", "2026.08"),
            ("HOLDFAST_BOARD", "orangepi-pc"),
            // Prints the arguments of the host tool.
            ("HOLDFAST_HOST_TOOL", "/bin/echo"),
            ("HOLDFAST_FIRST_STAGE", "spl/sunxi-spl.bin"),
            ("HOLDFAST_LINUX_DTB", "sun8i-h3-orangepi-pc.dtb"),
            ("HOLDFAST_LINUX_SHA256", "aa"),
            ("HOLDFAST_LINUX_VERSION", "6.12.1"),
            ("HOLDFAST_MORE_APPS", "one.package two.package"),
            ("HOLDFAST_MUSL_DIR", ""),
            ("HOLDFAST_SPARE_FRAGMENTS", "spare.config"),
            ("HOLDFAST_UBOOT_DTB", "u-boot.dtb"),
            ("HOLDFAST_UBOOT_SHA256", "bb"),
            ("HOLDFAST_UBOOT_VERSION", "2023.01"),
        ] {
            command.env(name, value);
        }
        process::output(&mut command)
    }

    #[test]
    fn the_post_image_script_names_every_part_in_a_file_that_image_assemble_reads() {
        // A version is looked for as a word of its own.
        let results = build_results(b"\x7fELF127.0.0.1\0\x011.2.5\0/etc/musl-1.1.1\0");
        let said = post_image(results.path()).unwrap();
        let at = |name: &str| results.path().join(name);
        let parts = Parts::load(&at("images/hello.parts.toml")).unwrap();
        assert_eq!(
            (parts.built_by.as_str(), parts.board.as_str()),
            ("Buildroot 2026.08", "orangepi-pc")
        );
        let text = fs::read_to_string(at("images/hello.parts.toml")).unwrap();
        for line in [
            "first_stage = \"sunxi-spl.bin\"",
            "spare_first_stage = \"spare-first-stage\"",
            "spare_config = \"u-boot-spare.config\"",
            "compiler = \"gcc 14\"",
            "directory = \"holdfast-programs\"",
            "version = \"1.2.5\"",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}:\n{text}");
        }
        assert_eq!(fs::read_to_string(at("images/u-boot.config")).unwrap(), "CONFIG_FIT=y");
        let wanted = format!(
            "--checkout {} image assemble --image {} --parts {} --output {} --app one.package --app two.package \
             --production\n",
            at("checkout").display(),
            at("image.toml").display(),
            at("images/hello.parts.toml").display(),
            at("images/hello.img").display()
        );
        assert_eq!(said, wanted);
    }

    #[test]
    fn a_c_library_that_says_no_version_ends_the_post_image_script() {
        let results = build_results(b"GNU C Library 2.36");
        let message = format!("{:#}", post_image(results.path()).unwrap_err());
        assert!(message.contains("libc.a: does not say which release of musl it is"), "{message}");
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

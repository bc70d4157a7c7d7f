//! Parts of images that another build system has made: kernel, boot loader and programs, as a file names them.
//!
//! The file is TOML; paths in it are relative to its directory. Whatever is in an image is held to the same rules,
//! whoever has built it.

use super::bill::{self, Libc};
use super::programs;
use crate::device_build;
use crate::kconfig::lost_options;
use crate::kernel::{self, Kernel, patches, rules};
use crate::pins::{self, Pin, Pins};
use crate::toolchain::{self, Rust};
use crate::u_boot::{self, SpareFirstStage, UBoot};
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail};
use holdfast_images::board::Board;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Ending of the file beside an image that names its parts.
pub const ENDING: &str = "parts.toml";
/// The first musl with the types that std is built for, whose time goes on beyond 2038.
const MUSL_FLOOR: [u32; 3] = [1, 2, 3];

/// Parts of an image that another build system has built.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// The build system and its version, as `Buildroot 2026.08`.
    pub built_by: String,
    /// The board that kernel and boot loader are for.
    pub board: String,
    kernel: KernelParts,
    boot_loader: BootLoaderParts,
    programs: Programs,
    libc: LibcPart,
    /// The file that says this.
    #[serde(skip)]
    path: PathBuf,
}

/// A source: its version and the SHA-256 of its archive, and where it lies unpacked, with its licences.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    version: String,
    sha256: String,
    directory: PathBuf,
}

impl Source {
    fn pin(&self) -> Pin {
        Pin { version: self.version.clone(), sha256: self.sha256.clone() }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct KernelParts {
    /// The zImage.
    image: PathBuf,
    /// Its whole configuration.
    config: PathBuf,
    /// For a board that QEMU makes none for.
    device_tree: Option<PathBuf>,
    /// The C compiler in its own words.
    compiler: String,
    source: Source,
    /// Directory of the patches that were applied to the source; none without it.
    patches: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct BootLoaderParts {
    /// `u-boot-nodtb.bin`.
    image: PathBuf,
    /// Its whole configuration.
    config: PathBuf,
    /// For a board whose boot loader is on the card.
    first_stage: Option<PathBuf>,
    /// For a board with a spare copy.
    spare_first_stage: Option<PathBuf>,
    /// The whole configuration of that.
    spare_config: Option<PathBuf>,
    /// `u-boot.dtb`, for a board that QEMU makes none for.
    device_tree: Option<PathBuf>,
    source: Source,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Programs {
    /// Directory in which each lies where it does on a device, with its symbols; apps' below [`programs::APPS`].
    directory: PathBuf,
    /// The program that takes the symbols out of them.
    strip: PathBuf,
    /// The checkout as it was when they were built, with the crates that they are made of.
    sources: PathBuf,
    cargo: PathBuf,
    rustc: PathBuf,
    /// Files with the output of `image programs` when they were built; not compared where none is named.
    #[serde(default)]
    lists: Vec<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct LibcPart {
    /// The release of musl, in numbers.
    version: String,
    /// SHA-256 of its source's archive, where that was built as well.
    sha256: Option<String>,
    /// Its package URL; a generic one where it is not given.
    purl: Option<String>,
    /// The file of its licence.
    licence: Option<PathBuf>,
}

impl Parts {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, or a field is missing or unknown; the message names it.
    pub fn load(path: &Path) -> Result<Self> {
        let text = workspace::read_text(path)?;
        let mut parts: Self = toml::from_str(&text).with_context(|| path.display().to_string())?;
        parts.path = std::path::absolute(path).with_context(|| path.display().to_string())?;
        let KernelParts { image, config, device_tree, source, patches, .. } = &mut parts.kernel;
        let kernel = [Some(image), Some(config), device_tree.as_mut(), patches.as_mut()];
        let kernel = kernel.into_iter().flatten().chain([&mut source.directory]);
        let loader = &mut parts.boot_loader;
        let boot_loader = [
            Some(&mut loader.image),
            Some(&mut loader.config),
            loader.first_stage.as_mut(),
            loader.spare_first_stage.as_mut(),
            loader.spare_config.as_mut(),
            loader.device_tree.as_mut(),
            Some(&mut loader.source.directory),
        ];
        let Programs { directory, strip, sources, cargo, rustc, lists } = &mut parts.programs;
        let programs = [directory, strip, sources, cargo, rustc].into_iter().chain(lists);
        let all = kernel.chain(boot_loader.into_iter().flatten()).chain(programs);
        let base = path.parent().unwrap_or(Path::new(""));
        for place in all.chain(parts.libc.licence.as_mut()) {
            *place = std::path::absolute(base.join(&*place))
                .with_context(|| path.display().to_string())?;
        }
        Ok(parts)
    }

    /// Returns the error for a wrong field.
    fn wrong(&self, field: &str, reason: impl std::fmt::Display) -> anyhow::Error {
        anyhow::anyhow!("{}: {field}: {reason}", self.path.display())
    }

    /// A file that a field names, where the board has to have it and only there.
    fn file(&self, field: &str, found: Option<&Path>, wanted: bool) -> Result<Option<PathBuf>> {
        match found {
            Some(path) if wanted && path.is_file() => Ok(Some(path.to_owned())),
            Some(path) if wanted => {
                Err(self.wrong(field, format_args!("{}: is no file", path.display())))
            }
            Some(_) => {
                Err(self.wrong(field, format_args!("board {} has none; leave it out", self.board)))
            }
            None if wanted => {
                Err(self
                    .wrong(field, format_args!("is missing, and board {} needs it", self.board)))
            }
            None => Ok(None),
        }
    }

    fn needed(&self, field: &str, found: &Path) -> Result<PathBuf> {
        self.file(field, Some(found), true).map(Option::unwrap_or_default)
    }

    /// Fails for another board than that which kernel and boot loader are for.
    pub(super) fn check_board(&self, board: &Board) -> Result<()> {
        if board.name == self.board {
            return Ok(());
        }
        bail!(
            "{}: board: kernel and boot loader are for {}, and the image is for {}; build them for that, or name \
             an image manifest for {}",
            self.path.display(),
            self.board,
            board.name,
            self.board
        );
    }

    /// The kernel, which is configured as the board's fragments say and holds every rule of `required.toml`.
    pub(super) fn kernel(
        &self,
        workspace: &Workspace,
        board: &Board,
        pins: &Pins,
        locked: bool,
    ) -> Result<Kernel> {
        let parts = &self.kernel;
        let source = parts.source.pin();
        pins::accept(pins, pins::KERNEL, &source, locked)?;
        let tree = self.file(
            "kernel.device_tree",
            parts.device_tree.as_deref(),
            board.device_tree.kernel.is_some(),
        )?;
        let kernel = Kernel {
            image: self.needed("kernel.image", &parts.image)?,
            device_tree: tree,
            config: self.needed("kernel.config", &parts.config)?,
            source,
            patches: match &parts.patches {
                Some(directory) => patches::read(directory)?,
                None => Vec::new(),
            },
            compiler: parts.compiler.clone(),
        };
        let config = workspace::read_text(&kernel.config)?;
        let named = || kernel.config.display().to_string();
        rules::check_required(workspace, &config).with_context(named)?;
        let lost = lost_options(&kernel::merged_fragments(workspace, board)?, &config);
        if !lost.is_empty() {
            bail!("{}: is not as kernel-config/ has it:\n  {}", named(), lost.join("\n  "));
        }
        Ok(kernel)
    }

    /// The boot loader, configured as the board's fragments say and with no door open.
    pub(super) fn boot_loader(
        &self,
        workspace: &Workspace,
        board: &Board,
        pins: &Pins,
        locked: bool,
    ) -> Result<UBoot> {
        let parts = &self.boot_loader;
        let source = parts.source.pin();
        pins::accept(pins, pins::U_BOOT, &source, locked)?;
        let file = |field: &str, found: &Option<PathBuf>, wanted: bool| {
            self.file(&format!("boot_loader.{field}"), found.as_deref(), wanted)
        };
        let has_spare = board.boot_loader.spare.is_some();
        let spare_image = file("spare_first_stage", &parts.spare_first_stage, has_spare)?;
        let spare_config = file("spare_config", &parts.spare_config, has_spare)?;
        let first_stage = board.boot_loader.first_stage.is_some();
        let loader = UBoot {
            image: self.needed("boot_loader.image", &parts.image)?,
            first_stage: file("first_stage", &parts.first_stage, first_stage)?,
            spare: spare_image
                .zip(spare_config)
                .map(|(image, config)| SpareFirstStage { image, config }),
            device_tree: file("device_tree", &parts.device_tree, board.device_tree.qemu.is_none())?,
            config: self.needed("boot_loader.config", &parts.config)?,
            source,
            tree: parts.source.directory.clone(),
        };
        let configs = [Some(&loader.config), loader.spare.as_ref().map(|spare| &spare.config)];
        for (config, of_spare) in configs.into_iter().flatten().zip([false, true]) {
            u_boot::check_given(workspace, board, &workspace::read_text(config)?, of_spare)
                .with_context(|| config.display().to_string())?;
        }
        Ok(loader)
    }

    /// Returns the directory of the kernel's unpacked source.
    pub(super) fn kernel_source(&self) -> &Path {
        &self.kernel.source.directory
    }

    /// Returns where the program is that belongs at a path below the root of a device, if it is there.
    pub(super) fn program(&self, path: &str) -> Option<PathBuf> {
        Some(self.programs.directory.join(path)).filter(|file| file.is_file())
    }

    /// Returns the bytes of such a program without its symbols, and keeps the program with them in `symbols`, under
    /// `name`: what is built here is treated alike.
    ///
    /// # Errors
    /// `programs.strip` is missing or fails, or the file cannot be written.
    pub(super) fn strip(&self, program: &Path, name: &str, symbols: &Path) -> Result<Vec<u8>> {
        let field = || format!("{}: programs.strip", self.path.display());
        let stripped =
            device_build::strip_symbols(&self.programs.strip, program).with_context(field)?;
        device_build::keep_symbols(program, &stripped, Path::new(name), symbols)?;
        Ok(stripped)
    }

    /// Returns the error for a program that is not there.
    pub(super) fn no_program(&self, path: &str) -> anyhow::Error {
        let there = self.programs.directory.join(path);
        let reason = format!(
            "{}: is no file; build what `image programs` lists for this image manifest",
            there.display()
        );
        self.wrong("programs.directory", reason)
    }

    /// Fails for programs that were built from other sources than the checkout has now, which the image's provenance
    /// would name all the same; and, where `complete` is set, for those of an image that lacks one of this.
    pub(super) fn check_programs(&self, wanted: &str, complete: bool) -> Result<()> {
        let lists = &self.programs.lists;
        if lists.is_empty() {
            return Ok(());
        }
        let built: Vec<String> =
            lists.iter().map(|path| workspace::read_text(path)).collect::<Result<_>>()?;
        match programs::staleness(&built, wanted, complete) {
            Some(reason) => Err(self.wrong(
                "programs.lists",
                format_args!(
                    "the programs {reason}; build them again (with Buildroot, `make holdfast-rebuild`)"
                ),
            )),
            None => Ok(()),
        }
    }

    /// Returns the directory with the sources of the checkout's packages and their crates.
    pub(super) fn sources(&self) -> &Path {
        &self.programs.sources
    }

    /// The compiler that has built the programs.
    pub(super) fn rust(&self, workspace: &Workspace) -> Result<Rust> {
        let Programs { cargo, rustc, .. } = &self.programs;
        toolchain::given_rust(workspace, rustc, cargo)?.ok_or_else(|| {
            let reason = format!(
                "{}: is no Rust from 1.96 on with the sources of its std, which time beyond 2038 needs",
                rustc.display()
            );
            self.wrong("programs.rustc", reason)
        })
    }

    /// The C runtime in the programs, which is a musl whose time goes on beyond 2038.
    pub(super) fn libc(&self) -> Result<Libc> {
        let LibcPart { version, sha256, purl, licence } = &self.libc;
        let numbers: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
        let Some(numbers) = numbers else {
            let reason = format!("`{version}` is no release of musl; write it as 1.2.5");
            return Err(self.wrong("libc.version", reason));
        };
        if numbers < MUSL_FLOOR.to_vec() {
            let reason = format!(
                "musl {version} is older than 1.2.3, which time beyond 2038 needs; build with a newer toolchain"
            );
            return Err(self.wrong("libc.version", reason));
        }
        let generic = || format!("pkg:generic/musl@{}", bill::percent_encoded(version));
        Ok(Libc {
            version: version.clone(),
            sha256: sha256.clone(),
            purl: purl.clone().unwrap_or_else(generic),
            texts: licence.iter().cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::read::Object;
    use std::fs;

    const GOOD: &str = r#"
built_by = "Buildroot 2026.08"
board = "qemu-virt"
[kernel]
image = "zImage"
config = "linux.config"
compiler = "gcc 14"
source = { version = "6.12.1", sha256 = "aa", directory = "linux" }
[boot_loader]
image = "u-boot-nodtb.bin"
config = "u-boot.config"
source = { version = "2023.01", sha256 = "bb", directory = "u-boot" }
[programs]
directory = "target"
strip = "bin/strip"
sources = "holdfast"
cargo = "bin/cargo"
rustc = "/usr/bin/rustc"
[libc]
version = "1.2.5"
"#;

    fn checkout() -> Workspace {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Workspace { root, cache: "/".into(), jobs: None }
    }

    fn board(name: &str) -> Board {
        Board::load(&checkout().root.join("images/boards"), name, Path::new("test")).unwrap()
    }

    fn pins() -> Pins {
        let pin = |sha256: &str| Pin { version: "1".to_owned(), sha256: sha256.to_owned() };
        Pins::from([(pins::KERNEL.to_owned(), pin("aa")), (pins::U_BOOT.to_owned(), pin("bb"))])
    }

    /// A directory with the parts that [`GOOD`] names, and the file that names them.
    fn parts(text: &str) -> (tempfile::TempDir, Result<Parts>) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let merged = kernel::merged_fragments(&checkout(), &board("qemu-virt")).unwrap();
        for (name, bytes) in [
            ("zImage", "kernel"),
            ("linux.config", merged.as_str()),
            ("u-boot-nodtb.bin", "loader"),
            ("u-boot.config", ""),
            ("target/sbin/init", "init"),
            ("parts.toml", text),
        ] {
            workspace::write(&at(name), bytes).unwrap();
        }
        let parts = Parts::load(&at("parts.toml"));
        (directory, parts)
    }

    #[test]
    fn paths_are_relative_to_the_file_that_names_them() {
        let (directory, parts) = parts(GOOD);
        let parts = parts.unwrap();
        assert_eq!(parts.program("sbin/init"), Some(directory.path().join("target/sbin/init")));
        assert_eq!(parts.program("sbin/other"), None);
        assert_eq!(parts.kernel_source(), directory.path().join("linux"));
        assert_eq!(parts.programs.rustc, Path::new("/usr/bin/rustc"));
        assert_eq!(parts.libc().unwrap().purl, "pkg:generic/musl@1.2.5");
    }

    #[test]
    fn a_wrong_field_and_a_missing_part_are_named_with_the_file() {
        let said = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            let (_directory, parts) = parts(&GOOD.replace(from, to));
            match parts {
                Err(error) => format!("{error:#}"),
                Ok(parts) => {
                    let kernel = parts.kernel(&checkout(), &board("qemu-virt"), &pins(), false);
                    format!("{:#}", kernel.expect_err("was accepted"))
                }
            }
        };
        assert!(said("compiler", "kompiler").contains("parts.toml: "), "an unknown field");
        let message = said("\"zImage\"", "\"vmlinux\"");
        assert!(message.contains("parts.toml: kernel.image: ") && message.ends_with("is no file"));
        let message = said("compiler", "device_tree = \"x.dtb\"\ncompiler");
        assert!(message.contains("kernel.device_tree: board qemu-virt has none"), "{message}");
        let (_directory, parts) = parts(GOOD);
        let parts = parts.unwrap();
        let message = parts.check_board(&board("orangepi-pc")).unwrap_err().to_string();
        assert!(message.contains("are for qemu-virt, and the image is for orangepi-pc"));
        let loader = parts.boot_loader(&checkout(), &board("orangepi-pc"), &pins(), false);
        let message = loader.unwrap_err().to_string();
        assert!(message.contains("boot_loader.spare_first_stage: is missing"), "{message}");
        assert!(parts.no_program("sbin/x").to_string().contains("`image programs`"));
    }

    #[test]
    fn a_kernel_that_breaks_a_rule_is_refused_whoever_built_it() {
        let (directory, parts) = parts(GOOD);
        let (parts, config) = (parts.unwrap(), directory.path().join("linux.config"));
        let kernel = || parts.kernel(&checkout(), &board("qemu-virt"), &pins(), false);
        // A fragment says less than a whole configuration does; rules that hold by default are added.
        let merged = fs::read_to_string(&config).unwrap();
        let rules = rules::required(&checkout()).unwrap();
        let whole: String =
            rules.iter().map(|(n, r)| format!("CONFIG_{n}={}\n", r.value)).collect();
        fs::write(&config, format!("{merged}{whole}")).unwrap();
        kernel().unwrap();
        fs::write(&config, format!("{merged}{whole}CONFIG_KALLSYMS=y\n")).unwrap();
        let message = format!("{:#}", kernel().unwrap_err());
        assert!(message.contains("linux.config: kernel-config/required.toml does not hold"));
        assert!(message.contains("CONFIG_KALLSYMS: must be n, is y"), "{message}");
    }

    #[test]
    fn programs_that_were_built_from_other_sources_are_refused() {
        let wanted = "holdfast-init\t-\tinit\tsbin/init\n# sources 1\n";
        let (directory, parts) =
            parts(&GOOD.replace("[libc]", "lists = [\"init.programs\"]\n[libc]"));
        let parts = parts.unwrap();
        let list = directory.path().join("init.programs");
        fs::write(&list, wanted).unwrap();
        parts.check_programs(wanted, true).unwrap();
        fs::write(&list, wanted.replace("sources 1", "sources 2")).unwrap();
        let message = parts.check_programs(wanted, false).unwrap_err().to_string();
        assert!(message.contains("parts.toml: programs.lists: the programs were built from other"));
        assert!(message.contains("`make holdfast-rebuild`"), "{message}");
    }

    #[test]
    fn a_program_gets_its_build_id_here_and_its_symbols_are_kept_with_it() {
        let (directory, parts) = parts(&GOOD.replace("bin/strip", "/usr/bin/strip"));
        let at = |name: &str| directory.path().join(name);
        workspace::write(&at("init.c"), "int main(void) { return 0; }").unwrap();
        let flag = device_build::build_id_flag();
        let mut compiler = std::process::Command::new("cc");
        compiler.args(["-g", flag.trim_start_matches("-Clink-arg="), "-o"]);
        compiler.arg(at("target/sbin/init")).arg(at("init.c"));
        assert!(compiler.status().unwrap().success());
        let parts = parts.unwrap();
        let program = parts.program("sbin/init").unwrap();
        let stripped = parts.strip(&program, "admission", &at("hello.symbols")).unwrap();
        assert_eq!(
            stripped,
            device_build::strip_symbols(Path::new("strip"), &program).unwrap(),
            "as one that is built here"
        );
        let kept = fs::read(at("hello.symbols/admission")).unwrap();
        let [of_stripped, of_kept] = [&stripped, &kept].map(|bytes| {
            let file = object::read::File::parse(bytes.as_slice()).unwrap();
            (file.build_id().unwrap().unwrap().to_vec(), file.symbol_by_name("main").is_some())
        });
        assert_eq!(of_stripped.0, of_kept.0);
        assert!(of_kept.0.iter().any(|byte| *byte != 0));
        assert_eq!((of_stripped.1, of_kept.1), (false, true));
    }

    #[test]
    fn a_missing_strip_is_named_with_its_field() {
        let (directory, parts) = parts(GOOD);
        let (parts, symbols) = (parts.unwrap(), directory.path().join("hello.symbols"));
        let program = parts.program("sbin/init").unwrap();
        let message = format!("{:#}", parts.strip(&program, "init", &symbols).unwrap_err());
        assert!(message.contains("parts.toml: programs.strip: cannot run"), "{message}");
        assert!(!symbols.exists());
    }

    #[test]
    fn a_c_runtime_that_is_no_musl_of_today_is_refused() {
        let said = |version: &str| {
            let text = GOOD.replace("\"1.2.5\"", &format!("\"{version}\""));
            let (_directory, parts) = parts(&text);
            parts.unwrap().libc().map_err(|error| error.to_string())
        };
        said("1.2.3").unwrap();
        said("1.3").unwrap();
        for old in ["1.1.24", "1.2.2", "1.2"] {
            let message = said(old).unwrap_err();
            assert!(message.contains("parts.toml: libc.version: musl"), "{message}");
            assert!(message.contains("older than 1.2.3"), "{message}");
        }
        let message = said("of the toolchain (gcc 12)").unwrap_err();
        assert!(message.contains("is no release of musl; write it as 1.2.5"), "{message}");
    }

    #[test]
    fn another_source_than_the_pinned_one_is_refused_where_it_must_be_that() {
        let (_directory, parts) = parts(&GOOD.replace("\"aa\"", "\"cc\""));
        let kernel = parts.unwrap().kernel(&checkout(), &board("qemu-virt"), &pins(), true);
        assert!(kernel.unwrap_err().to_string().contains("--locked takes no other"));
    }
}

//! What a slot and a boot loader weigh on every board.

use anyhow::{Context, Result, ensure};
use holdfast_builder::image::{DEFAULT_MANIFEST, ImageBuilder};
use holdfast_builder::workspace::{self, Workspace};
use holdfast_images::{board, show};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The shipped image on one board, in bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BoardSizes {
    board: String,
    kernel: usize,
    root: usize,
    slot: usize,
    boot_loader: u64,
}

pub(super) fn measure(
    workspace: &Workspace,
    builder: &ImageBuilder<'_>,
) -> Result<Vec<BoardSizes>> {
    let manifest = workspace.root.join(DEFAULT_MANIFEST);
    let mut sizes = Vec::new();
    for board in board::names(&workspace.root.join("images/boards")) {
        let built = builder.build_for(Some(&board), &manifest, &[], None)?;
        sizes.push(BoardSizes::of(&built.path)?);
    }
    Ok(sizes)
}

impl BoardSizes {
    /// Sizes in an image, whoever has built it; that of the boot loader stands in the file beside it.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let image = show::show(path)?;
        let beside = path.with_extension("provenance.json");
        let provenance: serde_json::Value = serde_json::from_str(&workspace::read_text(&beside)?)
            .with_context(|| beside.display().to_string())?;
        let boot_loader = provenance.pointer("/sizes/boot_loader").and_then(|size| size.as_u64());
        Ok(Self {
            board: image.board,
            kernel: image.kernel_bytes,
            root: image.root_bytes,
            slot: image.slot_bytes,
            boot_loader: boot_loader
                .with_context(|| format!("{}: has no sizes", beside.display()))?,
        })
    }

    fn row(&self) -> String {
        let Self { board, kernel, root, slot, boot_loader } = self;
        format!("| `{board}` | {slot} | {kernel} | {root} | {boot_loader} |\n")
    }
}

/// Heads of the columns of both tables.
const COLUMNS: &str = "| board | slot | kernel | root with verity tree | boot loader |\n\
                       | --- | ---: | ---: | ---: | ---: |\n";

/// What the stage `buildroot` found of the images that Buildroot has built.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OfBuildroot {
    /// Buildroot and its release, as provenance has it.
    pub(crate) built_by: String,
    pub(crate) boards: Vec<BoardSizes>,
}

/// The file in which the stage `buildroot` leaves that.
pub(crate) fn of_buildroot(workspace: &Workspace) -> Result<PathBuf> {
    Ok(workspace.output()?.join("buildroot/sizes.json"))
}

/// Title of the section of `docs/numbers.md` about them.
pub(super) const BUILDROOT: &str = "\n## Images of Buildroot\n";

/// That section: of the last run of the stage, or else as `before`, the page until now, has it.
pub(super) fn buildroot_section(workspace: &Workspace, before: &str) -> Result<String> {
    let file = of_buildroot(workspace)?;
    if !file.is_file() {
        let found = before.find(BUILDROOT).and_then(|at| before.get(at..));
        return Ok(found.unwrap_or_default().to_owned());
    }
    let found: OfBuildroot = serde_json::from_str(&workspace::read_text(&file)?)
        .with_context(|| file.display().to_string())?;
    Ok(section_of_buildroot(&found))
}

/// Replaces that section alone.
///
/// # Errors
/// The stage has not run to its end in this checkout, or the page cannot be read or written.
pub(super) fn write_buildroot(workspace: &Workspace, page: &Path) -> Result<()> {
    let file = of_buildroot(workspace)?;
    ensure!(
        file.is_file(),
        "{}: is missing; run `cargo holdfast test buildroot` first",
        file.display()
    );
    let before = workspace::read_text(page)?;
    let kept = before.find(BUILDROOT).and_then(|at| before.get(..at)).unwrap_or(&before);
    workspace::write(page, format!("{kept}{}", buildroot_section(workspace, &before)?))?;
    eprintln!("written: {}", page.display());
    Ok(())
}

fn section_of_buildroot(found: &OfBuildroot) -> String {
    let rows: String = found.boards.iter().map(BoardSizes::row).collect();
    format!(
        "{BUILDROOT}\nThe same images, put together from what {} has built, in bytes, with the toolchain that\n\
         [buildroot-external](../buildroot-external/README.md#what-was-run) names.\n\n{COLUMNS}{rows}",
        found.built_by
    )
}

/// The section of `docs/numbers.md`.
pub(super) fn section(sizes: &[BoardSizes]) -> String {
    let rows: String = sizes.iter().map(BoardSizes::row).collect();
    format!(
        "\n## Boards\n\nThe shipped image on every board, in bytes; the aim for a slot is 4194304. Of a boot loader with a spare, both copies count.\n\n\
         {COLUMNS}{rows}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_buildroots_images_stay_until_it_has_run_again() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().to_owned();
        let workspace = Workspace { root: root.clone(), cache: root, jobs: None };
        let sizes = BoardSizes {
            board: "qemu-virt".to_owned(),
            kernel: 1,
            root: 2,
            slot: 3,
            boot_loader: 4,
        };
        let found = OfBuildroot { built_by: "Buildroot 2026.08".to_owned(), boards: vec![sizes] };
        let text = section_of_buildroot(&found);
        assert!(text.ends_with("| `qemu-virt` | 3 | 1 | 2 | 4 |\n"), "{text}");
        let page = format!("# Numbers\n\n## Boards\n\nx\n{text}");
        assert_eq!(buildroot_section(&workspace, &page).unwrap(), text);
        assert_eq!(buildroot_section(&workspace, "# Numbers\n").unwrap(), "");
        let written = scratch.path().join("numbers.md");
        assert!(write_buildroot(&workspace, &written).is_err(), "nothing was found yet");
        let file = of_buildroot(&workspace).unwrap();
        workspace::write(&file, serde_json::to_string(&found).unwrap()).unwrap();
        assert_eq!(buildroot_section(&workspace, "# Numbers\n").unwrap(), text);
        let old = page.replace("| `qemu-virt` | 3 |", "| `qemu-virt` | 5 |");
        for before in ["# Numbers\n\n## Boards\n\nx\n", &old] {
            workspace::write(&written, before).unwrap();
            write_buildroot(&workspace, &written).unwrap();
            assert_eq!(workspace::read_text(&written).unwrap(), page);
        }
    }
}

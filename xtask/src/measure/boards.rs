//! What a slot and a boot loader weigh on every board.

use anyhow::Result;
use holdfast_builder::image::{DEFAULT_MANIFEST, ImageBuilder};
use holdfast_builder::workspace::Workspace;
use holdfast_images::{board, show};
use serde::Serialize;

/// The shipped image on one board, in bytes.
#[derive(Debug, Serialize)]
pub(super) struct BoardSizes {
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
        let image = show::show(&built.path)?;
        sizes.push(BoardSizes {
            board,
            kernel: image.kernel_bytes,
            root: image.root_bytes,
            slot: image.slot_bytes,
            boot_loader: built.sizes.boot_loader,
        });
    }
    Ok(sizes)
}

/// The section of `docs/numbers.md`.
pub(super) fn section(sizes: &[BoardSizes]) -> String {
    let mut text = String::from(
        "\n## Boards\n\nThe shipped image on every board, in bytes; the aim for a slot is 4194304. Of a boot loader with a spare, both copies count.\n\n\
         | board | slot | kernel | root with verity tree | boot loader |\n| --- | ---: | ---: | ---: | ---: |\n",
    );
    for BoardSizes { board, kernel, root, slot, boot_loader } in sizes {
        text.push_str(&format!("| `{board}` | {slot} | {kernel} | {root} | {boot_loader} |\n"));
    }
    text
}

//! A board's boot loader: its configuration, its places on the medium, and what must hold of them.

use holdfast_lifecycle::boot_loader::Form;
use serde::Deserialize;

/// Start of the first partition, in KiB: the boot loader and the partition table end before it.
const FIRST_PARTITION_KIB: u32 = 4096;
/// Room for the partition table's entries, at the end of the boot loader's room, in KiB.
const ENTRY_ARRAY_KIB: u32 = 16;
/// Room of the table's header and the protective MBR at the start, in KiB.
const HEADER_KIB: u32 = 1;
/// Least room for U-Boot behind a first stage, in KiB; its real size is checked when an image is built.
const SMALLEST_U_BOOT_KIB: u32 = 128;

/// The boot loader of a board and its place on the medium.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootLoader {
    /// Fragments in `boot-loader/`, without `.config`, in the order they are merged.
    pub fragments: Vec<String>,
    /// End of the room kept for the boot loader, exclusive, in KiB from the start of the disk.
    pub end_kib: u32,
    /// U-Boot's number of the medium that the slots are on.
    pub medium: u32,
    /// What U-Boot's driver model calls the watchdog that it pets: the script stops that one before it halts.
    pub watchdog: Option<String>,
    /// Medium that the boot ROM reads the boot loader from.
    #[serde(rename = "in")]
    pub place: Place,
    /// The first stage (SPL), which the boot ROM starts, on a card.
    pub first_stage: Option<FirstStage>,
    /// U-Boot itself, which the first stage starts, on a card.
    pub u_boot: Option<UBootPlace>,
    /// The spare copy, where the boot ROM looks when it finds no other. With it, a good slot replaces the boot loader;
    /// without,
    /// the board is `loader fixed`.
    pub spare: Option<Spare>,
}

/// The second copy of a boot loader on a card.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spare {
    /// Place at which the boot ROM looks for the spare first stage, in KiB.
    pub at_kib: u32,
    /// Place at which that first stage looks for U-Boot, in KiB.
    pub u_boot_at_kib: u32,
    /// Changes to the configuration of that first stage: fragments in `boot-loader/`, without `.config`, merged
    /// behind the boot loader's own.
    pub fragments: Vec<String>,
    /// Format by which the boot ROM accepts a first stage.
    pub form: Form,
}

/// The kinds of medium that a boot loader lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A flash chip of its own, mapped where the processor starts.
    Rom,
    /// The disk itself, in front of the partitions.
    Card,
}

/// The first stage (SPL), which the boot ROM starts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstStage {
    /// File that U-Boot's build makes.
    pub file: String,
    /// Target of that build which makes the file, where it is not the file itself.
    pub made_with: Option<String>,
    /// Place at which the boot ROM looks for the first stage, in KiB.
    pub at_kib: u32,
    /// Most KiB that the boot ROM reads.
    pub most_kib: u32,
}

/// Place and load address of U-Boot itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UBootPlace {
    /// Place at which the first stage looks for U-Boot, in KiB.
    pub at_kib: u32,
    /// Address that U-Boot is linked to (`CONFIG_TEXT_BASE`).
    pub load: u32,
}

impl BootLoader {
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let refuse = |field: &str, reason: String| Err((format!("boot_loader.{field}"), reason));
        if !(64..=3072).contains(&self.end_kib) {
            return refuse("end_kib", "must be from 64 to 3072".to_owned());
        }
        // It becomes a word of the script.
        let is_word = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"@-_".contains(&b))
        };
        if self.watchdog.as_deref().is_some_and(|name| !is_word(name)) {
            return refuse("watchdog", "must be the name of a node".to_owned());
        }
        if let (Place::Rom, Some(_)) = (self.place, &self.spare) {
            return refuse("spare", "is for a boot loader on a `card`".to_owned());
        }
        let (first, u_boot) = match (self.place, &self.first_stage, &self.u_boot) {
            (Place::Rom, None, None) => return Ok(()),
            (Place::Card, Some(first), Some(u_boot)) => (first, u_boot),
            (Place::Rom, ..) => {
                return refuse("in", "a `rom` has neither `first_stage` nor `u_boot`".to_owned());
            }
            (Place::Card, ..) => {
                return refuse("in", "a `card` needs `first_stage` and `u_boot`".to_owned());
            }
        };
        let stage_end = |at: u32| at.saturating_add(first.most_kib);
        let first_end = stage_end(first.at_kib);
        let end = self.end_kib.saturating_sub(ENTRY_ARRAY_KIB);
        debug_assert!(end < FIRST_PARTITION_KIB, "what `end_kib` may be");
        if first.at_kib < HEADER_KIB || first.most_kib == 0 {
            let reason = format!(
                "must be {HEADER_KIB} or more: the first {HEADER_KIB} KiB are the partition table's"
            );
            return refuse("first_stage.at_kib", reason);
        }
        if first_end > u_boot.at_kib {
            let reason = format!(
                "must be {first_end} or more: the first stage may reach to there; it is {}",
                u_boot.at_kib
            );
            return refuse("u_boot.at_kib", reason);
        }
        if u_boot.at_kib.saturating_add(SMALLEST_U_BOOT_KIB) > end {
            let reason = format!(
                "leaves less than {SMALLEST_U_BOOT_KIB} KiB for U-Boot in front of the partition \
                 table's entries at {end} KiB; make `end_kib` larger"
            );
            return refuse("u_boot.at_kib", reason);
        }
        if !u_boot.load.is_multiple_of(4096) {
            return refuse("u_boot.load", "must be a multiple of 4096".to_owned());
        }
        let Some(spare) = &self.spare else {
            return Ok(());
        };
        // Each with the first KiB behind it; U-Boot's real size is checked when an image is built.
        let least_end = |at: u32| at.saturating_add(SMALLEST_U_BOOT_KIB);
        let spare_u_boot = spare.u_boot_at_kib;
        let mut pieces = [
            ("first_stage.at_kib", first.at_kib, first_end),
            ("u_boot.at_kib", u_boot.at_kib, least_end(u_boot.at_kib)),
            ("spare.at_kib", spare.at_kib, stage_end(spare.at_kib)),
            ("spare.u_boot_at_kib", spare_u_boot, least_end(spare_u_boot)),
            ("end_kib", end, end),
        ];
        pieces.sort_by_key(|(_, at, _)| *at);
        for [(before, _, behind), (field, at, _)] in pieces.array_windows() {
            if behind > at {
                let reason = format!("is {at}, where `{before}` reaches to {behind}");
                return refuse(field, reason);
            }
        }
        // They are replaced in blocks of their own.
        match pieces.iter().find(|(_, at, _)| !at.is_multiple_of(4)) {
            Some((field, ..)) => refuse(field, "must be a multiple of 4".to_owned()),
            None => Ok(()),
        }
    }

    /// Returns the first byte that U-Boot at `at_kib` must not reach: the next piece's, or the partition table's.
    #[must_use]
    pub fn u_boot_end(&self, at_kib: u32) -> u64 {
        let spare = self.spare.as_ref().map(|spare| [spare.at_kib, spare.u_boot_at_kib]);
        let own = self.u_boot.map(|place| place.at_kib);
        let pieces = spare.into_iter().flatten().chain(own).filter(|at| *at > at_kib);
        let next = pieces.min().map(|at| u64::from(at).saturating_mul(1024));
        next.unwrap_or(u64::MAX).min(self.entry_array())
    }

    /// Returns the first byte of the partition table's entries.
    #[must_use]
    pub fn entry_array(&self) -> u64 {
        u64::from(self.end_kib.saturating_sub(ENTRY_ARRAY_KIB)).saturating_mul(1024)
    }
}

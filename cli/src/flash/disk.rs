//! Properties of a block device, from sysfs and the table of mounts.
//!
//! Source: kernel documents `ABI/stable/sysfs-block` and `filesystems/proc.rst` (mountinfo).

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Mount points of what a computer runs from.
const SYSTEM: [&str; 9] =
    ["/", "/boot", "/boot/efi", "/boot/firmware", "/efi", "/etc", "/home", "/usr", "/var"];
/// Bytes of a block as sysfs counts them.
const SECTOR_BYTES: u64 = 512;

/// Paths of the kernel's views: sysfs and the table of mounts.
#[derive(Debug)]
pub(super) struct Views {
    /// `/sys`.
    pub(super) sys: PathBuf,
    /// Contents of `/proc/self/mountinfo`.
    pub(super) mounts: String,
    /// Contents of `/proc/swaps`.
    pub(super) swaps: String,
}

impl Views {
    pub(super) fn of_this_host() -> Result<Self> {
        let read =
            |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let mounts = read("/proc/self/mountinfo")?;
        // A kernel without swap has no such file.
        let swaps = read("/proc/swaps").unwrap_or_default();
        Ok(Self { sys: PathBuf::from("/sys"), mounts, swaps })
    }
}

/// A disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    /// Model that the disk calls itself.
    pub(super) model: String,
    pub(super) bytes: u64,
    /// Names and lengths.
    pub(super) partitions: Vec<(String, u64)>,
    pub(super) removable: bool,
    /// Mounts and other uses of the disk.
    pub(super) mounted: Vec<String>,
    /// The uses among those by which this computer runs.
    pub(super) system: Vec<String>,
    /// The disk is write-protected: its lock is set, or its driver cannot write.
    pub(super) read_only: bool,
    /// Files that it, or what it is mapped to, shows as a disk (loop devices).
    pub(super) backing: Vec<PathBuf>,
    /// Mount point of the disk on which the image lies, if it does.
    pub(super) holds_image: Option<String>,
}

/// The disk at `path`, onto which the image at `image` shall be written; none for a file, or where there is
/// nothing yet.
pub(super) fn look(views: &Views, path: &Path, image: &Path) -> Result<Option<Disk>> {
    let Ok(metadata) = fs::metadata(path) else {
        // A slip of the finger must not become a file in memory.
        if path.starts_with("/dev") {
            bail!("{}: there is no such device", path.display());
        }
        return Ok(None);
    };
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(None);
    }
    if !kind.is_block_device() {
        bail!("{}: is neither a disk nor a file", path.display());
    }
    let (major, minor) = numbers(metadata.rdev());
    describe(views, path, &format!("{major}:{minor}"), image).map(Some)
}

/// Major and minor number: glibc's `makedev`, as the kernel encodes them.
fn numbers(device: u64) -> (u64, u64) {
    let major = ((device >> 8) & 0xfff) | ((device >> 32) & 0xffff_f000);
    let minor = (device & 0xff) | ((device >> 12) & 0xffff_ff00);
    (major, minor)
}

fn describe(views: &Views, path: &Path, number: &str, image: &Path) -> Result<Disk> {
    let link = views.sys.join("dev/block").join(number);
    let directory = fs::canonicalize(&link)
        .with_context(|| format!("{}: the kernel does not know it", path.display()))?;
    if directory.join("partition").exists() {
        let whole = directory.parent().and_then(Path::file_name).unwrap_or_default();
        bail!(
            "{}: is one partition; an image is a whole disk, such as /dev/{}",
            path.display(),
            whole.display()
        );
    }
    let read =
        |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default().trim().to_owned();
    let size = |directory: &Path| -> u64 {
        let text = fs::read_to_string(directory.join("size")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0).saturating_mul(SECTOR_BYTES)
    };
    let mut members = BTreeSet::from([number.to_owned()]);
    let mut partitions = Vec::new();
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        if entry.path().join("partition").exists() {
            let number = fs::read_to_string(entry.path().join("dev")).unwrap_or_default();
            members.insert(number.trim().to_owned());
            partitions
                .push((entry.file_name().to_string_lossy().into_owned(), size(&entry.path())));
        }
    }
    partitions.sort();
    let mut disk = Disk {
        model: [read("device/vendor"), read("device/model"), read("device/name")]
            .join(" ")
            .trim()
            .to_owned(),
        bytes: size(&directory),
        partitions,
        // A card in a slot of its own is `SD`, one that is soldered in `MMC`.
        removable: read("removable") == "1" || read("device/type") == "SD",
        read_only: read("ro") == "1",
        backing: backing(views, number),
        ..Disk::default()
    };
    if disk.model.is_empty() {
        "no name".clone_into(&mut disk.model);
    }
    let image = fs::canonicalize(image).unwrap_or_else(|_| image.to_owned());
    // The mount that lies deepest is what the image is on.
    let mut around = 0;
    for (point, numbers) in uses(views) {
        let depth = Path::new(&point).components().count();
        let has_image = point != SWAP && image.starts_with(&point) && depth >= around;
        if has_image {
            (around, disk.holds_image) = (depth, None);
        }
        if numbers.is_disjoint(&members) {
            continue;
        }
        if has_image {
            disk.holds_image = Some(point.clone());
        }
        if point == SWAP || SYSTEM.contains(&point.as_str()) {
            disk.system.push(point.clone());
        }
        disk.mounted.push(point);
    }
    Ok(disk)
}

const SWAP: &str = "swap";

/// Every use of a block device: where it is mounted, and what it lies on in the end.
fn uses(views: &Views) -> Vec<(String, BTreeSet<String>)> {
    let mut uses = Vec::new();
    let named = |device: &str| -> Option<String> {
        let name = device.strip_prefix("/dev/")?;
        let number =
            fs::read_to_string(views.sys.join("class/block").join(name).join("dev")).ok()?;
        Some(number.trim().to_owned())
    };
    for line in views.mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (Some(number), Some(point)) = (words.get(2), words.get(4)) else { continue };
        let mut numbers = BTreeSet::new();
        beneath(views, number, &mut numbers);
        // Some file systems have a number of their own; then the source says where they are.
        let source = words
            .iter()
            .position(|word| *word == "-")
            .and_then(|at| words.get(at.saturating_add(2)));
        if let Some(number) = source.and_then(|source| named(source)) {
            beneath(views, &number, &mut numbers);
        }
        uses.push((unescaped(point), numbers));
    }
    for line in views.swaps.lines().skip(1) {
        if let Some(number) = line.split_whitespace().next().and_then(named) {
            let mut numbers = BTreeSet::new();
            beneath(views, &number, &mut numbers);
            uses.push((SWAP.to_owned(), numbers));
        }
    }
    uses
}

/// A path in the table of mounts, where blanks and backslashes are three octal digits behind a backslash.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| *first == b'\\');
        match escaped.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The files behind a device and behind all that it is mapped to.
fn backing(views: &Views, number: &str) -> Vec<PathBuf> {
    let mut numbers = BTreeSet::new();
    beneath(views, number, &mut numbers);
    let directories = numbers.iter().filter_map(|number| {
        // A partition's directory lies in that of its disk.
        let own = fs::canonicalize(views.sys.join("dev/block").join(number)).ok()?;
        let whole = own.parent()?.to_owned();
        Some([own, whole])
    });
    directories
        .flatten()
        .filter_map(|directory| fs::read_to_string(directory.join("loop/backing_file")).ok())
        .map(|path| PathBuf::from(path.trim_end_matches('\n')))
        .collect()
}

/// A device and all that it is mapped to.
fn beneath(views: &Views, number: &str, found: &mut BTreeSet<String>) {
    if !found.insert(number.to_owned()) {
        return;
    }
    let slaves = views.sys.join("dev/block").join(number).join("slaves");
    for slave in fs::read_dir(slaves).into_iter().flatten().flatten() {
        if let Ok(number) = fs::read_to_string(slave.path().join("dev")) {
            beneath(views, number.trim(), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    /// A sysfs with a card `sdb` of two partitions, a disk `sda` with one, and `dm-0` on top of that.
    fn views(mounts: &str, swaps: &str) -> (TempDir, Views) {
        let directory = tempfile::tempdir().unwrap();
        let sys = directory.path().to_owned();
        let file = |path: &str, text: &str| {
            let path = sys.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let link = |from: &str, to: &str| {
            let from = sys.join(from);
            fs::create_dir_all(from.parent().unwrap()).unwrap();
            symlink(sys.join(to), from).unwrap();
        };
        for (disk, number, removable) in [("sda", "8:0", "0"), ("sdb", "8:16", "1")] {
            file(&format!("block/{disk}/dev"), number);
            file(&format!("block/{disk}/removable"), removable);
            file(&format!("block/{disk}/size"), "8192\n");
            file(&format!("block/{disk}/device/model"), "Reader  \n");
            link(&format!("dev/block/{number}"), &format!("block/{disk}"));
        }
        for (disk, part, number) in
            [("sda", "sda1", "8:1"), ("sdb", "sdb1", "8:17"), ("sdb", "sdb2", "8:18")]
        {
            file(&format!("block/{disk}/{part}/dev"), number);
            file(&format!("block/{disk}/{part}/partition"), "1");
            file(&format!("block/{disk}/{part}/size"), "2048");
            link(&format!("dev/block/{number}"), &format!("block/{disk}/{part}"));
            link(&format!("class/block/{part}"), &format!("block/{disk}/{part}"));
        }
        file("block/dm-0/dev", "254:0");
        link("block/dm-0/slaves/sda1", "block/sda/sda1");
        link("dev/block/254:0", "block/dm-0");
        let views = Views { sys, mounts: mounts.to_owned(), swaps: swaps.to_owned() };
        (directory, views)
    }

    fn disk(mounts: &str, swaps: &str, number: &str) -> Disk {
        let (_directory, views) = views(mounts, swaps);
        describe(&views, Path::new("/dev/sdx"), number, Path::new("hello.img")).unwrap()
    }

    #[test]
    fn a_card_in_a_reader_is_described_by_what_is_lost() {
        let card = disk("", "", "8:16");
        assert_eq!((card.model.as_str(), card.bytes, card.removable), ("Reader", 4_194_304, true));
        assert_eq!(
            card.partitions,
            [("sdb1".to_owned(), 1_048_576), ("sdb2".to_owned(), 1_048_576)]
        );
        assert!(card.mounted.is_empty() && card.system.is_empty());
    }

    #[test]
    fn what_is_mounted_is_seen_through_partitions_and_mappings() {
        let card = disk("36 25 8:18 / /media/me rw - vfat /dev/sdb2 rw", "", "8:16");
        assert_eq!((card.mounted, card.system), (vec!["/media/me".to_owned()], vec![]));
        let system = disk("25 1 254:0 / / rw - ext4 /dev/mapper/root rw", "", "8:0");
        assert_eq!(system.system, ["/"]);
        assert!(!system.removable);
        let own_number = disk("25 1 0:31 /@ /home rw - btrfs /dev/sda1 rw", "", "8:0");
        assert_eq!(own_number.system, ["/home"]);
        let swap = disk("", "Filename Type\n/dev/sdb1 partition 100 0 -2\n", "8:16");
        assert_eq!(swap.system, ["swap"]);
    }

    #[test]
    fn a_locked_card_says_so() {
        let (directory, views) = views("", "");
        let look = || describe(&views, Path::new("/dev/sdb"), "8:16", Path::new("i")).unwrap();
        assert!(!look().read_only);
        fs::write(directory.path().join("block/sdb/ro"), "1\n").unwrap();
        assert!(look().read_only);
    }

    #[test]
    fn the_file_behind_a_loop_device_is_found_through_what_is_mapped_to_it() {
        let (directory, views) = views("", "");
        fs::create_dir(directory.path().join("block/sda/loop")).unwrap();
        fs::write(directory.path().join("block/sda/loop/backing_file"), "/a card.img\n").unwrap();
        let look = |number| describe(&views, Path::new("/dev/x"), number, Path::new("i")).unwrap();
        for number in ["8:0", "254:0"] {
            assert!(look(number).backing.contains(&PathBuf::from("/a card.img")), "{number}");
        }
        assert_eq!(look("8:16").backing, Vec::<PathBuf>::new());
    }

    #[test]
    fn a_disk_is_known_to_hold_the_image_by_the_deepest_mount() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let around = fs::canonicalize(image.path().parent().unwrap()).unwrap();
        let around = around.to_str().unwrap();
        let holds = |mounts: &str, number| {
            let (_directory, views) = views(mounts, "");
            describe(&views, Path::new("/dev/x"), number, image.path()).unwrap().holds_image
        };
        let root = "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        assert_eq!(holds(root, "8:0").as_deref(), Some("/"));
        assert_eq!(holds(root, "8:16"), None);
        let both = format!("{root}26 1 8:17 / {around} rw - vfat /dev/sdb1 rw\n");
        assert_eq!(holds(&both, "8:0"), None);
        assert_eq!(holds(&both, "8:16").as_deref(), Some(around));
    }

    #[test]
    fn mount_points_are_shown_with_their_blanks() {
        let card = disk("25 1 8:17 / /media/me/MY\\040CARD rw - vfat /dev/sdb1 rw", "", "8:16");
        assert_eq!(card.mounted, ["/media/me/MY CARD"]);
        assert_eq!(unescaped("a\\134b\\12"), "a\\b\\12");
        assert_eq!(unescaped("G\u{e4}ste\\040\\303\\274"), "G\u{e4}ste \u{fc}");
    }

    #[test]
    fn a_partition_is_refused_with_the_name_of_its_disk() {
        let (_directory, views) = views("", "");
        let error = describe(&views, Path::new("/dev/sdb1"), "8:17", Path::new("i"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "/dev/sdb1: is one partition; an image is a whole disk, such as /dev/sdb"
        );
    }

    #[test]
    fn numbers_of_devices_are_taken_apart() {
        assert_eq!(numbers(0x0812), (8, 0x12));
        assert_eq!(numbers(0xb302), (179, 2));
        assert_eq!(numbers(0x0010_fe01), (254, 0x101));
    }
}

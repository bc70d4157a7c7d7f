//! What a device does with app packages, and with the table of uids that it keeps.

use crate::harness::artefacts::{Artefacts, checkout};
use crate::harness::guest::{ANSWER, BOOT, boot_probe};
use crate::harness::packages::{hello, package_of, repacked, sign, with_package};
use crate::harness::partitions::{edited, on_partition, put};
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Suite, check, checks};
use anyhow::{Context, Result, ensure};
use holdfast_images::key::PrivateKey;
use holdfast_images::{append, ext4, package, show};
use holdfast_lifecycle::clock::TimeFloor;
use holdfast_lifecycle::uid_table::{self, UidTable};
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_sandbox::component;
use holdfast_sandbox::package::Header;
use holdfast_types::ComponentId;
use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let image = move || artefacts.image("probe");
    suite.share(
        move || boot_probe(&Machine::new(&image(), 64)),
        checks![
            components_report_their_state,
            components_are_started_and_stopped_by_name,
            an_app_sees_nothing_but_its_own_root
        ],
    );
    let racing = move || artefacts.image("supervision");
    check!(suite, links_that_an_app_swaps_lead_nowhere(&racing()));
    check!(suite, an_app_that_was_appended_at_the_factory_runs(&artefacts.image("hello")));
    check!(suite, a_uid_stays_with_its_app(&image()));
    check!(suite, a_damaged_table_of_uids_starts_no_app(&image()));
    check!(suite, a_package_below_the_floor_is_refused(&image()));
    check!(suite, a_damaged_package_is_refused_and_others_run(&image()));
    check!(suite, a_package_of_an_unknown_key_is_refused(&image()));
    check!(suite, an_unsigned_package_is_refused(&image()));
    check!(suite, a_longer_package_is_refused(&image()));
    check!(suite, a_device_node_in_a_package_is_refused(&image()));
    check!(suite, a_setuid_file_in_a_package_is_refused(&image()));
    check!(suite, a_link_out_of_a_package_is_refused(&image()));
    check!(suite, an_executable_stack_in_a_package_is_refused(&image()));
    check!(suite, a_directory_in_itself_in_a_package_is_refused(&image()));
    check!(suite, a_package_without_a_file_system_is_refused(&image()));
    check!(suite, a_flipped_byte_behind_the_header_never_runs(&image()));
    check!(suite, a_corrupt_package_on_trial_costs_no_good_one(&image()));
}

/// A hostile package of the image builder's tests, which is one of hello's, signed anew with the
/// development key of this checkout.
fn hostile_package(name: &str) -> Result<Vec<u8>> {
    let path = checkout().join(format!("images/tests/packages/hostile-{name}.app"));
    let mut bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let header = Header::parse(&bytes, u64::try_from(bytes.len())?)?;
    sign(&mut bytes, header)?;
    Ok(bytes)
}

/// One component's line of the probe's status.
fn status(guest: &mut Guest, name: &str) -> Result<String> {
    let all = guest.probe.ask("status", ANSWER)?;
    let line = all.lines().find(|line| line.contains(&format!("name={name} ")));
    Ok(line.with_context(|| format!("there is no {name} in\n{all}"))?.to_owned())
}

fn components_report_their_state(guest: &mut Guest) -> Result<()> {
    guest.wait("hello: heartbeat 1", BOOT)?;
    let line = status(guest, "hello")?;
    for part in ["state=Ready", "uid=1001", "processes=2", "restarts=0", "last=None"] {
        ensure!(line.contains(part), "no {part} in {line}");
    }
    ensure!(!line.contains("memory_kib=0 "), "{line}");
    Ok(())
}

fn components_are_started_and_stopped_by_name(guest: &mut Guest) -> Result<()> {
    ensure!(guest.probe.ask("stop hello", ANSWER)? == "Accepted");
    guest.wait("init: hello ended with signal 15", BOOT)?;
    ensure!(status(guest, "hello")?.contains("state=Stopped"), "{}", status(guest, "hello")?);
    ensure!(guest.probe.ask("start hello", ANSWER)? == "Accepted");
    guest.wait("init: hello started", BOOT)?;
    guest.wait("hello: heartbeat 2", BOOT)?;
    ensure!(guest.probe.ask("restart hello", ANSWER)? == "Accepted");
    guest.wait("init: hello ended with signal 15", BOOT)?;
    guest.wait("init: hello started", BOOT)?;
    let line = status(guest, "hello")?;
    ensure!(line.contains("restarts=2") && line.contains("last=Some(15)"), "{line}");
    ensure!(guest.probe.ask("stop nobody", ANSWER)? == "NotFound");
    Ok(())
}

fn an_app_sees_nothing_but_its_own_root(guest: &mut Guest) -> Result<()> {
    let processes = guest.probe.ask("processes", ANSWER)?;
    let app = processes.lines().find(|process| process.contains("Name=app ")).context("no app")?;
    let pid = app.strip_prefix("pid=").and_then(|rest| rest.split(' ').next()).context("no pid")?;
    let mounts = guest.probe.ask(&format!("read /proc/{pid}/mounts"), ANSWER)?;
    let mut targets: Vec<&str> = mounts.lines().filter_map(|m| m.split(' ').nth(1)).collect();
    targets.sort_unstable();
    ensure!(targets == ["/", "/app", "/crash", "/dev", "/run", "/tmp"], "mounts:\n{mounts}");
    for mount in mounts.lines() {
        let mut words = mount.split(' ').skip(1);
        let (target, kind, options) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let has = |option: &str| options.split(',').any(|o| o == option);
        ensure!(has("nosuid"), "{mount}");
        ensure!(has("nodev") || target == "/dev", "{mount}");
        ensure!(has("noexec") || (kind == "erofs" && target == "/app"), "{mount}");
        ensure!(has("ro") || ["/tmp", "/crash"].contains(&target), "{mount}");
    }
    Ok(())
}

/// An app swaps directories and links in its storage while it is started and stopped. What lies
/// around the storage must be as if it had not.
fn links_that_an_app_swaps_lead_nowhere(image: &Path) -> Result<()> {
    const RACER: &str = "66a1d1c5-0c3b-4c7e-8f0e-6f6b1f0d6e03";
    const STORM: &str = "66a1d1c5-0c3b-4c7e-8f0e-6f6b1f0d6e05";
    let mut guest = boot_probe(&Machine::new(image, 64))?;
    guest.wait_anywhere("racer: racing", BOOT)?;
    for _ in 0..8 {
        ensure!(guest.probe.ask("restart racer", ANSWER)? == "Accepted");
        guest.wait("init: racer ended with exit code 0", BOOT)?;
        guest.wait("racer: racing", BOOT)?;
    }
    guest.wait_anywhere("init: slot a committed", BOOT)?;
    let mut uid_of = |name: &str| -> Result<String> {
        let status = status(&mut guest, name)?;
        let uid = status.split("uid=").nth(1).and_then(|rest| rest.split(' ').next());
        Ok(uid.context("no uid")?.to_owned())
    };
    let (racer, storm) = (uid_of("racer")?, uid_of("storm")?);
    power_off(&mut guest)?;
    let disk = guest.disk();
    let root = |name| ("100600", "0", name);
    let directories = [("40755", "0", "."), ("40755", "0", ".."), ("40700", "0", "lost+found")];
    for (partition, expected) in [
        (
            "state",
            vec![root("entropy-seed"), root(uid_table::FILE_NAME), root(TimeFloor::FILE_NAME)],
        ),
        ("data", vec![("40700", &racer, RACER), ("40700", &storm, STORM)]),
    ] {
        let listing = on_partition(&disk, partition, |path| {
            let sound = Command::new("/sbin/e2fsck").args(["-f", "-n"]).arg(path).output()?;
            ensure!(sound.status.success(), "{partition}: {sound:?}");
            let output =
                Command::new("/sbin/debugfs").args(["-R", "ls -l /"]).arg(path).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })?;
        // Inode, mode, type, uid, gid, size, day, time, name.
        let mut found: Vec<(&str, &str, &str)> = Vec::new();
        for line in listing.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let word = |index: usize| words.get(index).copied().unwrap_or_default();
            ensure!(word(3) == word(4), "{line}");
            found.push((word(1), word(3), word(8)));
        }
        let mut expected = [directories.to_vec(), expected].concat();
        expected.sort_unstable();
        found.sort_unstable();
        ensure!(found == expected, "{partition}:\n{listing}");
    }
    Ok(())
}

/// An image without its app's package does not start it; with the package appended it does.
fn an_app_that_was_appended_at_the_factory_runs(image: &Path) -> Result<()> {
    let packages = ext4::files(&show::read_partition(image, "apps")?)?;
    let (_, package) = packages.first().context("the image has no package")?;
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), package)?;
    let scratch = Scratch::of(image)?;
    let (mut disk, apps) = scratch.partition("apps")?;
    let empty = ext4::with_files("apps", b"empty", apps.length, &[])?;
    apps.replace(&mut disk, scratch.path(), "the packages", &empty)?;
    drop(disk);
    scratch.start()?.wait("init: hello is not started: there is no package", BOOT)?;
    let appended = append::append(scratch.path(), file.path())?;
    ensure!(appended.name == "hello" && !appended.replaced, "{appended:?}");
    scratch.start()?.wait("hello: heartbeat 1", BOOT)?;
    Ok(())
}

fn a_uid_stays_with_its_app(image: &Path) -> Result<()> {
    let machine = Machine::new(image, 64);
    let mut guest = boot_probe(&machine)?;
    guest.wait("hello: heartbeat 1", BOOT)?;
    power_off(&mut guest)?;
    // Another app had the first uid on this device; it is gone, its uid is not free.
    let mut guest = machine.start_again(guest)?;
    guest.wait(r"hello: package 0\.1\.0, rollback index 0, uid 1001", BOOT)?;
    guest.wait("hello: heartbeat 1", BOOT)?;
    let mut table = UidTable::default();
    table.assign(ComponentId([7; 16]), None, &[])?;
    let disk = with_table(image, &table.encode()?)?;
    let mut guest = Machine::new(disk.path(), 64).start(None)?;
    guest.wait(r"hello: package 0\.1\.0, rollback index 0, uid 1002", BOOT)?;
    Ok(())
}

fn power_off(guest: &mut Guest) -> Result<()> {
    guest.probe.tell("power-off")?;
    guest.wait_end(BOOT)?;
    Ok(())
}

fn a_damaged_table_of_uids_starts_no_app(image: &Path) -> Result<()> {
    let mut table = UidTable::default();
    table.assign(hello()?, None, &[])?;
    let mut bytes = table.encode()?;
    *bytes.first_mut().context("empty")? ^= 1;
    let disk = with_table(image, &bytes)?;
    let mut guest = boot_probe(&Machine::new(disk.path(), 64))?;
    guest.wait_anywhere("the table of uids is damaged and kept: its digest does not fit", BOOT)?;
    guest.wait_anywhere("hello is not started: the table of uids is damaged", BOOT)?;
    power_off(&mut guest)?;
    // It is still there, as it was.
    let kept = on_partition(&guest.disk(), "state", |path| {
        let request = format!("cat /{}", uid_table::FILE_NAME);
        let output = Command::new("/sbin/debugfs").args(["-R", &request]).arg(path).output()?;
        Ok(output.stdout)
    })?;
    ensure!(kept == bytes, "the damaged table was changed");
    Ok(())
}

fn a_package_below_the_floor_is_refused(image: &Path) -> Result<()> {
    let mut table = UidTable::default();
    table.assign(hello()?, None, &[])?;
    table.raise_floor(hello()?, 5);
    let disk = with_table(image, &table.encode()?)?;
    let why = "hello is not started: the package has rollback index 0, below the floor of 5";
    refused(disk.path(), why)
}

fn a_damaged_package_is_refused_and_others_run(image: &Path) -> Result<()> {
    let change = |bytes: &mut Vec<u8>| -> Result<()> {
        *bytes.get_mut(200).context("short")? ^= 1;
        Ok(())
    };
    let disk = with_package(image, change)?;
    let why = "hello is not started: the package has a signature that does not fit its header";
    refused(disk.path(), why)
}

fn a_package_of_an_unknown_key_is_refused(image: &Path) -> Result<()> {
    let disk = with_package(image, |bytes| {
        package::sign(bytes, &PrivateKey::from_secret(&[5; 32], false))?;
        Ok(())
    })?;
    refused(disk.path(), "hello is not started: the package is signed by key .* does not trust")
}

fn an_unsigned_package_is_refused(image: &Path) -> Result<()> {
    let disk = with_package(image, |bytes| {
        bytes.get_mut(448..512).context("short")?.fill(0);
        Ok(())
    })?;
    refused(disk.path(), "hello is not started: the package has a signature that does not fit")
}

fn a_longer_package_is_refused(image: &Path) -> Result<()> {
    let disk = with_package(image, |bytes| {
        bytes.push(0);
        Ok(())
    })?;
    refused(disk.path(), "hello is not started: the package is .* bytes long, but its header")
}

fn a_device_node_in_a_package_is_refused(image: &Path) -> Result<()> {
    hostile_is_refused(image, "device-node", "is neither a regular file nor")
}

fn a_setuid_file_in_a_package_is_refused(image: &Path) -> Result<()> {
    hostile_is_refused(image, "setuid", "is setuid, setgid or sticky")
}

fn a_link_out_of_a_package_is_refused(image: &Path) -> Result<()> {
    hostile_is_refused(image, "climbing-link", "leads out of the package")
}

fn an_executable_stack_in_a_package_is_refused(image: &Path) -> Result<()> {
    hostile_is_refused(image, "executable-stack", "executable stack")
}

fn a_directory_in_itself_in_a_package_is_refused(image: &Path) -> Result<()> {
    hostile_is_refused(image, "directory-in-itself", "")
}

fn a_package_without_a_file_system_is_refused(image: &Path) -> Result<()> {
    hostile_is_refused(image, "no-file-system", "")
}

/// A package that the host's reader refuses, signed by a key that the image trusts.
fn hostile_is_refused(image: &Path, package: &str, why: &str) -> Result<()> {
    let disk = with_package(image, |bytes| {
        *bytes = hostile_package(package)?;
        Ok(())
    })?;
    refused(disk.path(), &format!("hello is not started: .*{why}"))
}

/// The device goes on without the app, and says why.
fn refused(disk: &Path, why: &str) -> Result<()> {
    let mut guest = boot_probe(&Machine::new(disk, 64))?;
    guest.wait_anywhere(why, BOOT)?;
    let processes = guest.probe.ask("processes", ANSWER)?;
    ensure!(!processes.contains("Name=app "), "it runs:\n{processes}");
    Ok(())
}

fn a_flipped_byte_behind_the_header_never_runs(image: &Path) -> Result<()> {
    let disk = with_package(image, |bytes| {
        // In the middle of the file system, where the program lies.
        let middle = bytes.len() / 2;
        *bytes.get_mut(middle).context("short")? ^= 1;
        Ok(())
    })?;
    let mut guest = boot_probe(&Machine::new(disk.path(), 64))?;
    guest.wait_anywhere("verity: .* block .* is corrupted", BOOT)?;
    guest.wait_anywhere("hello is not started|hello: its package is damaged", BOOT)?;
    let text = guest.console.text();
    ensure!(!text.contains("hello: heartbeat"), "it ran:\n{}", guest.console.tail());
    Ok(())
}

/// The current package is above the one before, which is below the floor by now. The one on trial is corrupt where only its
/// program is: what it cannot do is displace the current one.
fn a_corrupt_package_on_trial_costs_no_good_one(image: &Path) -> Result<()> {
    let package = package_of(image, hello()?)?;
    let header = Header::parse(&package, u64::try_from(package.len())?)?;
    let release = |index: u64| {
        let header = Header { rollback_index: index, ..header };
        let manifest = serde_json::json!({
            "SchemaVersion": 1, "Name": "hello", "ComponentId": hello()?.to_string(),
            "EntryPoint": "/bin/app", "CmdArgs": [], "Capabilities": {},
            "Holdfast": { "Version": header.version.to_string(), "RollbackIndex": index },
        });
        repacked(&package, header, |files| {
            files.add("app_manifest.json", manifest.to_string().into_bytes(), false);
        })
    };
    let mut trial = release(2)?;
    let middle = trial.len() / 2;
    *trial.get_mut(middle).context("short")? ^= 1;
    let stored = [
        (component::Stored::Previous, release(0)?),
        (component::Stored::Current, release(1)?),
        (component::Stored::Trial(3), trial),
    ];
    let mut table = UidTable::default();
    table.assign(hello()?, None, &[])?;
    table.raise_floor(hello()?, 1);
    let disk = with_table(image, &table.encode()?)?;
    on_partition(disk.path(), "apps", |path| {
        stored.iter().try_for_each(|(stored, bytes)| put(path, &stored.file(hello()?), bytes))
    })?;
    let mut guest = boot_probe(&Machine::new(disk.path(), 64))?;
    guest.wait_anywhere("verity: .* block .* is corrupted", BOOT)?;
    guest.wait_anywhere("hello: its new package is (refused|given up)", BOOT)?;
    guest.wait_anywhere(r"hello: package [0-9.]+, rollback index 1, uid 1001 event=", BOOT)?;
    guest.wait_anywhere("hello: heartbeat 1", BOOT)?;
    let text = guest.console.text();
    ensure!(!text.contains("takes its place"), "{}", guest.console.tail());
    Ok(())
}

/// A copy of an image whose `state` partition has this table of uids.
fn with_table(image: &Path, table: &[u8]) -> Result<Scratch> {
    edited(image, "state", |path| put(path, uid_table::FILE_NAME, table))
}

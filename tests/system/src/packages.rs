//! What a device does with app packages, and with the table of uids that it keeps.

use crate::Artefacts;
use crate::boot::{ANSWER, BOOT, boot_probe};
use crate::scratch::Scratch;
use crate::suite::Suite;
use anyhow::{Context, Result, ensure};
use holdfast_images::disk::Layout;
use holdfast_images::key::PrivateKey;
use holdfast_images::root::Root;
use holdfast_images::{append, ext4, package, show, verity};
use holdfast_lifecycle::clock::TimeFloor;
use holdfast_lifecycle::identity::{self, IdentityTable};
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_sandbox::component;
use holdfast_sandbox::package::{HEADER_BYTES, Header};
use holdfast_types::ComponentId;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An image without its app's package does not start it; with the package appended it does.
fn appended(image: &Path) -> Result<()> {
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

/// The component id of examples/hello.
const HELLO: &str = "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11";

pub(crate) fn run<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let image = move || artefacts.image("probe");
    suite.share(
        move || boot_probe(&Machine::new(&image(), 64)),
        &[
            ("components_report_their_state", reports),
            ("components_are_started_and_stopped_by_name", started_and_stopped),
            ("an_app_sees_nothing_but_its_own_root", own_root),
        ],
    );
    let racing = move || artefacts.image("supervision");
    suite.check("links_that_an_app_swaps_lead_nowhere", move || races(&racing()));
    suite.check("an_app_that_was_appended_at_the_factory_runs", move || {
        appended(&artefacts.image("hello"))
    });
    suite.check("a_uid_stays_with_its_app", move || uid_stays(&image()));
    suite.check("a_damaged_table_of_uids_starts_no_app", move || damaged_table(&image()));
    suite.check("a_package_below_the_floor_is_refused", move || {
        let mut table = IdentityTable::default();
        table.assign(hello()?, None, &[])?;
        table.raise_floor(hello()?, 5);
        let disk = with_table(&image(), &table.encode()?)?;
        let why = "hello is not started: the package has rollback index 0, below the floor of 5";
        refused(disk.path(), why)
    });
    suite.check("a_damaged_package_is_refused_and_others_run", move || {
        let change = |bytes: &mut Vec<u8>| -> Result<()> {
            *bytes.get_mut(200).context("short")? ^= 1;
            Ok(())
        };
        let disk = with_package(&image(), change)?;
        let why = "hello is not started: the package has a signature that does not fit its header";
        refused(disk.path(), why)
    });
    suite.check("a_package_of_an_unknown_key_is_refused", move || {
        let disk = with_package(&image(), |bytes| {
            package::sign(bytes, &PrivateKey::from_secret(&[5; 32], false))?;
            Ok(())
        })?;
        refused(disk.path(), "hello is not started: the package is signed by key .* does not trust")
    });
    suite.check("an_unsigned_package_is_refused", move || {
        let disk = with_package(&image(), |bytes| {
            bytes.get_mut(448..512).context("short")?.fill(0);
            Ok(())
        })?;
        refused(disk.path(), "hello is not started: the package has a signature that does not fit")
    });
    suite.check("a_longer_package_is_refused", move || {
        let disk = with_package(&image(), |bytes| {
            bytes.push(0);
            Ok(())
        })?;
        refused(disk.path(), "hello is not started: the package is .* bytes long, but its header")
    });
    // What the host's reader refuses, signed by a key that the image trusts.
    for (name, hostile, why) in [
        ("a_device_node_in_a_package_is_refused", "device-node", "is neither a regular file nor"),
        ("a_setuid_file_in_a_package_is_refused", "setuid", "is setuid, setgid or sticky"),
        ("a_link_out_of_a_package_is_refused", "climbing-link", "leads out of the package"),
        ("an_executable_stack_in_a_package_is_refused", "executable-stack", "executable stack"),
        ("a_directory_in_itself_in_a_package_is_refused", "directory-in-itself", ""),
        ("a_package_without_a_file_system_is_refused", "no-file-system", ""),
    ] {
        suite.check(name, move || {
            let disk = with_package(&image(), |bytes| {
                *bytes = hostile_package(hostile)?;
                Ok(())
            })?;
            refused(disk.path(), &format!("hello is not started: .*{why}"))
        });
    }
    suite.check("a_flipped_byte_behind_the_header_never_runs", move || flipped_data(&image()));
    suite.check("a_corrupt_package_on_trial_costs_no_good_one", move || corrupt_trial(&image()));
}

/// A hostile package of the image builder's tests, which is one of hello's, signed anew with the
/// development key of this checkout.
fn hostile_package(name: &str) -> Result<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(format!("images/tests/packages/hostile-{name}.app"));
    let mut bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let header = Header::parse(&bytes, u64::try_from(bytes.len())?)?;
    sign(&mut bytes, header)?;
    Ok(bytes)
}

/// Puts this header in front of a package, signed with the development key of this checkout.
fn sign(package: &mut [u8], mut header: Header) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let keys = std::env::var_os("HOLDFAST_KEYS").map(PathBuf::from);
    let keys = keys.unwrap_or_else(|| root.join("images/keys/development"));
    let key = PrivateKey::load(&keys.join("app.pem"))?;
    header.key_id = key.public().id();
    let signed = header.encode(&key.sign(&header.signed_bytes()));
    package.get_mut(..HEADER_BYTES).context("short")?.copy_from_slice(&signed[..]);
    Ok(())
}

pub(crate) fn hello() -> Result<ComponentId> {
    ComponentId::parse(HELLO).context("no component id")
}

/// One component's line of the probe's status.
fn status(guest: &mut Guest, name: &str) -> Result<String> {
    let all = guest.probe.ask("status", ANSWER)?;
    let line = all.lines().find(|line| line.contains(&format!("name={name} ")));
    Ok(line.with_context(|| format!("there is no {name} in\n{all}"))?.to_owned())
}

fn reports(guest: &mut Guest) -> Result<()> {
    guest.wait("hello: heartbeat 1", BOOT)?;
    let line = status(guest, "hello")?;
    for part in ["state=Ready", "uid=1001", "processes=2", "restarts=0", "last=None"] {
        ensure!(line.contains(part), "no {part} in {line}");
    }
    ensure!(!line.contains("memory_kib=0 "), "{line}");
    Ok(())
}

fn started_and_stopped(guest: &mut Guest) -> Result<()> {
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

fn own_root(guest: &mut Guest) -> Result<()> {
    let processes = guest.probe.ask("processes", ANSWER)?;
    let app = processes.lines().find(|process| process.contains("Name=app ")).context("no app")?;
    let pid = app.strip_prefix("pid=").and_then(|rest| rest.split(' ').next()).context("no pid")?;
    let mounts = guest.probe.ask(&format!("read /proc/{pid}/mounts"), ANSWER)?;
    let mut targets: Vec<&str> = mounts.lines().filter_map(|m| m.split(' ').nth(1)).collect();
    targets.sort_unstable();
    ensure!(targets == ["/", "/app", "/dev", "/run", "/tmp"], "mounts:\n{mounts}");
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
        ensure!(has("ro") || target == "/tmp", "{mount}");
    }
    Ok(())
}

/// An app swaps directories and links in its storage while it is started and stopped. What lies
/// around the storage must be as if it had not.
fn races(image: &Path) -> Result<()> {
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
            vec![root("entropy-seed"), root(identity::FILE_NAME), root(TimeFloor::FILE_NAME)],
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

fn uid_stays(image: &Path) -> Result<()> {
    let machine = Machine::new(image, 64);
    let mut guest = boot_probe(&machine)?;
    guest.wait("hello: heartbeat 1", BOOT)?;
    power_off(&mut guest)?;
    // Another app had the first uid on this device; it is gone, its uid is not free.
    let mut guest = machine.start_again(guest)?;
    guest.wait(r"hello: package 0\.1\.0, rollback index 0, uid 1001", BOOT)?;
    guest.wait("hello: heartbeat 1", BOOT)?;
    let mut table = IdentityTable::default();
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

fn damaged_table(image: &Path) -> Result<()> {
    let mut table = IdentityTable::default();
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
        let request = format!("cat /{}", identity::FILE_NAME);
        let output = Command::new("/sbin/debugfs").args(["-R", &request]).arg(path).output()?;
        Ok(output.stdout)
    })?;
    ensure!(kept == bytes, "the damaged table was changed");
    Ok(())
}

/// The device goes on without the app, and says why.
fn refused(disk: &Path, why: &str) -> Result<()> {
    let mut guest = boot_probe(&Machine::new(disk, 64))?;
    guest.wait_anywhere(why, BOOT)?;
    let processes = guest.probe.ask("processes", ANSWER)?;
    ensure!(!processes.contains("Name=app "), "it runs:\n{processes}");
    Ok(())
}

fn flipped_data(image: &Path) -> Result<()> {
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
fn corrupt_trial(image: &Path) -> Result<()> {
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
    let mut table = IdentityTable::default();
    table.assign(hello()?, None, &[])?;
    table.raise_floor(hello()?, 1);
    let disk = with_table(image, &table.encode()?)?;
    on_partition(disk.path(), "apps", |path| {
        stored.iter().try_for_each(|(stored, bytes)| put(path, &stored.file(hello()?), bytes))
    })?;
    let mut guest = boot_probe(&Machine::new(disk.path(), 64))?;
    guest.wait_anywhere("verity: .* block .* is corrupted", BOOT)?;
    guest.wait_anywhere("hello: its new package is (refused|given up)", BOOT)?;
    guest.wait_anywhere(r"hello: package [0-9.]+, rollback index 1, uid 1001\n", BOOT)?;
    guest.wait_anywhere("hello: heartbeat 1", BOOT)?;
    let text = guest.console.text();
    ensure!(!text.contains("takes its place"), "{}", guest.console.tail());
    Ok(())
}

/// A copy of an image whose `state` partition has this table of uids.
fn with_table(image: &Path, table: &[u8]) -> Result<Scratch> {
    edited(image, "state", |path| put(path, identity::FILE_NAME, table))
}

/// A copy of an image with another package of hello.
pub(crate) fn with_package(
    image: &Path,
    change: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<Scratch> {
    with_package_of(image, hello()?, change)
}

/// A copy of an image in which the files of an app are others, signed anew with the development key of
/// this checkout.
pub(crate) fn with_files_of(
    image: &Path,
    app: ComponentId,
    change: impl FnOnce(&mut Root),
) -> Result<Scratch> {
    with_package_of(image, app, |bytes| {
        let header = Header::parse(bytes, u64::try_from(bytes.len())?)?;
        *bytes = repacked(bytes, header, change)?;
        Ok(())
    })
}

/// A package with other files, signed anew; `header` says what else it is.
pub(crate) fn repacked(
    package: &[u8],
    mut header: Header,
    change: impl FnOnce(&mut Root),
) -> Result<Vec<u8>> {
    let length = usize::try_from(header.data_bytes)?;
    let data = package.get(HEADER_BYTES..).and_then(|rest| rest.get(..length));
    let mut files = Root::read(data.context("short")?)?;
    change(&mut files);
    let data = files.to_erofs()?;
    let verity = verity::hash_with_salt(&data, header.salt).context("no data")?;
    header.data_bytes = u64::try_from(data.len())?;
    header.root_hash = verity.root_hash;
    let mut bytes = [vec![0; HEADER_BYTES], data, verity.tree].concat();
    sign(&mut bytes, header)?;
    Ok(bytes)
}

/// The package of an app in an image.
pub(crate) fn package_of(image: &Path, app: ComponentId) -> Result<Vec<u8>> {
    let name = component::Stored::Current.file(app);
    on_partition(image, "apps", |path| {
        let request = format!("cat /{name}");
        let output = Command::new("/sbin/debugfs").args(["-R", &request]).arg(path).output()?;
        ensure!(output.stdout.starts_with(b"HOLDFAPP"), "no package in {}", image.display());
        Ok(output.stdout)
    })
}

/// A copy of an image with another package of an app.
fn with_package_of(
    image: &Path,
    app: ComponentId,
    change: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<Scratch> {
    let name = component::Stored::Current.file(app);
    edited(image, "apps", |path| {
        let request = format!("cat /{name}");
        let output = Command::new("/sbin/debugfs").args(["-R", &request]).arg(path).output()?;
        let mut bytes = output.stdout;
        ensure!(bytes.starts_with(b"HOLDFAPP"), "no package in {}", image.display());
        change(&mut bytes)?;
        put(path, &name, &bytes)
    })
}

/// Puts a file into an ext4 file system, over one of that name.
fn put(file_system: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (content, script) = (directory.path().join("content"), directory.path().join("script"));
    fs::write(&content, bytes)?;
    fs::write(&script, format!("rm {name}\nwrite {} {name}\n", content.display()))?;
    let output =
        Command::new("/sbin/debugfs").args(["-w", "-f"]).arg(&script).arg(file_system).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

fn edited(
    image: &Path,
    partition: &str,
    edit: impl FnOnce(&Path) -> Result<()>,
) -> Result<Scratch> {
    let copy = Scratch::of(image)?;
    on_partition(copy.path(), partition, edit)?;
    Ok(copy)
}

/// Does something to a partition's bytes in a file of their own, and puts them back.
pub(crate) fn on_partition<T>(
    disk: &Path,
    name: &str,
    act: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    let mut file = File::options().read(true).write(true).open(disk)?;
    let layout = Layout::read(&mut file)?;
    let partition = layout.partition(name)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(name);
    fs::write(&path, partition.read(&mut file, disk)?)?;
    let result = act(&path)?;
    partition.replace(&mut file, disk, "a changed file system", &fs::read(&path)?)?;
    Ok(result)
}

/// What `debugfs` says to a request on a partition.
pub(crate) fn debugfs(disk: &Path, partition: &str, request: &str) -> Result<String> {
    on_partition(disk, partition, |path| {
        let mut command = Command::new("/sbin/debugfs");
        let output = command.args(["-w", "-R", request]).arg(path).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

//! The shipped image boots, keeps its promises, and ends in order.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT, boot_probe, clock};
use crate::harness::suite::{Suite, check, checks};
use anyhow::{Context, Result, bail, ensure};
use holdfast_images::disk::Layout;
use holdfast_qemu::machine::{Guest, Machine};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let hello = move || artefacts.image("hello");
    suite.share(
        move || Ok(Machine::new(&hello(), 64).start(None)?),
        checks![the_image_boots, the_app_runs],
    );
    let probe = move || artefacts.image("probe");
    suite.share(
        move || boot_probe(&Machine::new(&probe(), 64)),
        checks![
            every_process_but_pid_1_is_unprivileged,
            a_component_has_no_descriptor_but_its_own,
            the_running_kernel_has_the_settings_of_init,
            writable_mounts_are_noexec_nosuid_nodev,
            a_component_can_write_only_what_is_for_everybody,
            a_reboot_is_orderly_and_the_machine_starts_again,
            a_power_off_is_orderly_and_leaves_clean_file_systems
        ],
    );
    check!(suite, two_first_boots_differ_and_the_seed_is_renewed(&probe()));
    check!(suite, time_goes_on_beyond_2038(&probe()));
    check!(suite, the_clock_never_shows_less_than_the_build_time(&probe()));
}

fn the_image_boots(guest: &mut Guest) -> Result<()> {
    guest.wait("init: image hello 0.1.0 for .*, main at", BOOT)?;
    guest.wait("development image: not for production", BOOT)?;
    guest.wait("watchdog armed", BOOT)?;
    Ok(())
}

fn the_app_runs(guest: &mut Guest) -> Result<()> {
    guest.wait("hello: hello, world", BOOT)?;
    guest.wait("hello: heartbeat 2", BOOT)?;
    Ok(())
}

/// `name=value` of one process in the probe's list.
fn field<'a>(process: &'a str, name: &str) -> &'a str {
    let mut words = process.split(' ');
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap_or("")
}

fn every_process_but_pid_1_is_unprivileged(guest: &mut Guest) -> Result<()> {
    const NONE: &str = "0000000000000000";
    const SYS_PTRACE: &str = "0000000000080000";
    let processes = guest.probe.ask("processes", ANSWER)?;
    let others: Vec<&str> = processes.lines().filter(|p| field(p, "pid") != "1").collect();
    let mut names: Vec<&str> = others.iter().map(|p| field(p, "Name")).collect();
    names.sort_unstable();
    ensure!(names == ["app", "probe", "stub", "stub"], "unexpected processes:\n{processes}");
    let mut uids = Vec::new();
    for process in others {
        // The probe may look at other processes; that is its plan, and it is in no product.
        let allowed = if field(process, "Name") == "probe" { SYS_PTRACE } else { NONE };
        ensure!(field(process, "NoNewPrivs") == "1", "{process}");
        ensure!(field(process, "Seccomp") == "2", "{process}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            ensure!(field(process, set) == allowed, "{set}: {process}");
        }
        let uid: u32 = field(process, "Uid").parse()?;
        ensure!(uid >= 100 && field(process, "Gid") == field(process, "Uid"), "{process}");
        uids.push(uid);
    }
    // A component and its stub share a uid; components do not.
    uids.sort_unstable();
    ensure!(matches!(uids.as_slice(), [a, b, c, d] if a == b && c == d && b != c), "{uids:?}");
    Ok(())
}

fn a_component_has_no_descriptor_but_its_own(guest: &mut Guest) -> Result<()> {
    // Handed over: standard input, output and error, the line, the pipe to init and its socket
    // back. Its own: two copies of the line, a listener, and the directory that it lists. A leak would move these up.
    let open = guest.probe.ask("list /proc/self/fd", ANSWER)?;
    ensure!(open == "0\n1\n2\n3\n4\n5\n6\n7\n8\n9", "the probe has descriptors {open:?}");
    Ok(())
}

fn the_running_kernel_has_the_settings_of_init(guest: &mut Guest) -> Result<()> {
    for (name, value) in [
        ("kernel/hostname", "holdfast"),
        ("kernel/yama/ptrace_scope", "3"),
        ("kernel/kptr_restrict", "2"),
        ("kernel/dmesg_restrict", "1"),
        ("kernel/randomize_va_space", "2"),
        ("fs/suid_dumpable", "0"),
        ("fs/protected_symlinks", "1"),
        ("fs/protected_hardlinks", "1"),
    ] {
        let found = guest.probe.ask(&format!("read /proc/sys/{name}"), ANSWER)?;
        ensure!(found.trim() == value, "{name} is {found}, not {value}");
    }
    Ok(())
}

fn writable_mounts_are_noexec_nosuid_nodev(guest: &mut Guest) -> Result<()> {
    let mounts = guest.probe.ask("read /proc/self/mounts", ANSWER)?;
    let mut targets = Vec::new();
    for mount in mounts.lines() {
        let mut words = mount.split(' ').skip(1);
        let (Some(target), Some(kind), Some(options)) = (words.next(), words.next(), words.next())
        else {
            bail!("unreadable: {mount}");
        };
        let has = |option: &str| options.split(',').any(|o| o == option);
        ensure!(has("nosuid") || target == "/", "{mount}");
        // What can be executed is verified and cannot be written: the root, and packages.
        if target == "/" || target.starts_with("/run/packages/") {
            ensure!(kind == "erofs" && has("ro"), "{mount}");
            targets.push(target);
            continue;
        }
        ensure!(has("noexec") && has("nosuid"), "{mount}");
        ensure!(has("nodev") || target == "/dev", "{mount}");
        targets.push(target);
    }
    let expected = [
        "/",
        "/proc",
        "/sys",
        "/dev",
        "/sys/fs/cgroup",
        "/run",
        "/tmp",
        "/state",
        "/apps",
        "/data",
        "/run/packages/hello",
    ];
    ensure!(targets == expected, "unexpected mounts:\n{mounts}");
    Ok(())
}

fn a_component_can_write_only_what_is_for_everybody(guest: &mut Guest) -> Result<()> {
    for path in ["/x", "/run/x", "/run/notify/x", "/state/x", "/data/x", "/sys/fs/cgroup/x"] {
        let answer = guest.probe.ask(&format!("try-write {path}"), ANSWER)?;
        ensure!(answer.starts_with("refused"), "{path}: {answer}");
    }
    for path in ["/proc/1/mem", "/dev/kmsg", "/dev/mmcblk0", "/proc/sys/kernel/hostname"] {
        let answer = guest.probe.ask(&format!("try-write {path}"), ANSWER)?;
        ensure!(answer.starts_with("refused"), "{path}: {answer}");
    }
    ensure!(guest.probe.ask("try-write /tmp/x", ANSWER)? == "written", "/tmp");
    Ok(())
}

fn time_goes_on_beyond_2038(image: &Path) -> Result<()> {
    let machine = Machine { clock_base: Some("2040-06-01".to_owned()), ..Machine::new(image, 64) };
    let mut guest = boot_probe(&machine)?;
    let answer = guest.probe.ask("year-2040", ANSWER)?;
    ensure!(answer.starts_with("file=2208988800 now=222"), "{answer}");
    guest.wait("hello: heartbeat 3", BOOT)?;
    Ok(())
}

fn the_clock_never_shows_less_than_the_build_time(image: &Path) -> Result<()> {
    let machine = Machine { clock_base: Some("2001-01-01".to_owned()), ..Machine::new(image, 64) };
    let mut guest = boot_probe(&machine)?;
    guest.wait_anywhere("init: clock shows 20.*, source floor, floor 20", BOOT)?;
    let (now, floor, source) = clock(&mut guest)?;
    let built = floor > 1_700_000_000 && now >= floor && source == "Floor";
    ensure!(built, "floor {floor}, now {now}, source {source}");
    Ok(())
}

fn a_reboot_is_orderly_and_the_machine_starts_again(guest: &mut Guest) -> Result<()> {
    guest.probe.tell("reboot")?;
    guest.wait("init: probe asks for Reboot", BOOT)?;
    guest.wait("init: stopping all components", BOOT)?;
    guest.wait("init: rebooting", BOOT)?;
    guest.wait_reset(BOOT)?;
    guest.wait("init: probe is ready", BOOT)?;
    let text = guest.console.text();
    for ended in ["hello ended with signal 15", "probe ended with signal 15"] {
        ensure!(text.contains(ended), "no `{ended}`:\n{}", guest.console.tail());
    }
    ensure!(!text.contains("cannot unmount"), "{}", guest.console.tail());
    ensure!(!text.contains("recovering journal"), "{}", guest.console.tail());
    Ok(())
}

fn a_power_off_is_orderly_and_leaves_clean_file_systems(guest: &mut Guest) -> Result<()> {
    guest.probe.tell("power-off")?;
    guest.wait("init: powering off", BOOT)?;
    let status = guest.wait_end(BOOT)?;
    ensure!(status.success(), "QEMU ended with {status}");
    for name in ["state", "apps", "data"] {
        let (directory, partition) = partition(&guest.disk(), name)?;
        let output = Command::new("/sbin/e2fsck").args(["-fn"]).arg(&partition).output()?;
        ensure!(output.status.success(), "{name}: {output:?}");
        drop(directory);
    }
    Ok(())
}

/// A partition of a disk in a file of its own.
fn partition(disk: &Path, name: &str) -> Result<(tempfile::TempDir, std::path::PathBuf)> {
    let mut file = File::open(disk)?;
    let bytes = Layout::read(&mut file)?.partition(name)?.read(&mut file, disk)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(name);
    fs::write(&path, bytes)?;
    Ok((directory, path))
}

fn seed(disk: &Path) -> Result<Vec<u8>> {
    let (_directory, state) = partition(disk, "state")?;
    let output =
        Command::new("/sbin/debugfs").args(["-R", "cat /entropy-seed"]).arg(&state).output()?;
    ensure!(output.stdout.len() == 64, "the seed has {} bytes", output.stdout.len());
    Ok(output.stdout)
}

fn two_first_boots_differ_and_the_seed_is_renewed(image: &Path) -> Result<()> {
    let machine = Machine::new(image, 64);
    let mut randoms = Vec::new();
    let mut seeds = Vec::new();
    let mut last = None;
    for _ in 0..2 {
        let mut guest = boot_probe(&machine)?;
        ensure!(guest.console.text().contains("no entropy seed yet"), "not a first boot");
        randoms.push(guest.probe.ask("random", ANSWER)?);
        seeds.push(shut_down(&mut guest)?);
        last = Some(guest);
    }
    let mut guest = machine.start_again(last.context("there is no guest")?)?;
    guest.wait("init: probe is ready", BOOT)?;
    ensure!(!guest.console.text().contains("no entropy seed yet"), "the seed was not found");
    randoms.push(guest.probe.ask("random", ANSWER)?);
    seeds.push(shut_down(&mut guest)?);
    let ([one, other, again], [first, second, renewed]) = (randoms.as_slice(), seeds.as_slice())
    else {
        bail!("expected three boots, found {randoms:?}");
    };
    ensure!(one != other && other != again, "{randoms:?}");
    ensure!(first != second, "two devices have one seed");
    ensure!(second != renewed, "the seed was not renewed");
    Ok(())
}

fn shut_down(guest: &mut Guest) -> Result<Vec<u8>> {
    guest.probe.tell("power-off")?;
    guest.wait_end(BOOT)?;
    seed(&guest.disk())
}

//! Requirements of the host, by the Debian package that brings each, and their installation.

use crate::failure::HostLacks;
use crate::process;
use crate::progress::Step;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// A thing that must be there, and the package that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// A program's name to be found in the path, or an absolute path.
    pub what: &'static str,
    /// The package.
    pub package: &'static str,
}

const fn need(what: &'static str, package: &'static str) -> Need {
    Need { what, package }
}

/// For building a kernel.
pub const KERNEL: &[Need] = &[
    need("make", "make"),
    need("gcc", "gcc"),
    need("bc", "bc"),
    need("bison", "bison"),
    need("flex", "flex"),
    need("perl", "perl"),
    need("patch", "patch"),
    need("tar", "tar"),
    need("xz", "xz-utils"),
    need("lz4", "lz4"),
    need("/usr/include/openssl/opensslv.h", "libssl-dev"),
    need("/usr/include/libelf.h", "libelf-dev"),
    need("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf"),
    // U-Boot's first stages are put together in Python.
    need("swig", "swig"),
    need("/usr/bin/python3-config", "python3-dev"),
    need("/usr/lib/python3/dist-packages/setuptools/__init__.py", "python3-setuptools"),
    need("/usr/src/linux-source-6.12.tar.xz", "linux-source-6.12"),
];
/// For building device programs.
pub const TOOLCHAIN: &[Need] = &[
    need("python3", "python3"),
    need("arm-linux-gnueabihf-strip", "binutils-arm-linux-gnueabihf"),
];
/// For finding the line that a crash was at.
pub const SYMBOLS: &[Need] =
    &[need("arm-linux-gnueabihf-addr2line", "binutils-arm-linux-gnueabihf")];
/// For building images.
pub const IMAGE: &[Need] = &[
    need("git", "git"),
    need("mkfs.erofs", "erofs-utils"),
    need("/sbin/mke2fs", "e2fsprogs"),
    need("qemu-system-arm", "qemu-system-arm"),
    need("openssl", "openssl"),
];
/// For the tests, beside the above.
pub const TESTS: &[Need] = &[
    need("/usr/sbin/veritysetup", "cryptsetup-bin"),
    need("/usr/sbin/debugfs", "e2fsprogs"),
    need("gdb-multiarch", "gdb-multiarch"),
];
/// For machines with a TPM, and for the tests of evidence: one in software.
pub const TPM: &[Need] = &[need("swtpm", "swtpm")];
/// For the tests of certificates: a broker that knows nothing of us, and its clients.
pub const BROKER: &[Need] =
    &[need("/usr/sbin/mosquitto", "mosquitto"), need("mosquitto_pub", "mosquitto-clients")];
/// For the tests of the security service: the other of its two databases.
pub const DATABASE: &[Need] = &[need("/usr/lib/postgresql/15/bin/initdb", "postgresql-15")];
/// For the tests of the console: a browser without a window, and what drives it.
pub const BROWSER: &[Need] =
    &[need("/usr/bin/chromium", "chromium"), need("/usr/bin/chromedriver", "chromium-driver")];
/// For the tests of symbols: compilers for this host and for the device's processor.
pub const COMPILERS: &[Need] =
    &[need("cc", "gcc"), need("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf")];
/// For the tests of the security service: programs that devices' certificates are shown to.
pub const RELYING_PARTIES: &[Need] =
    &[need("curl", "curl"), need("/usr/sbin/mosquitto", "mosquitto")];
/// For the stage `service-peers`: Go, and a hardware security module in software.
pub const SERVICE_PEERS: &[Need] =
    &[need("/usr/bin/go", "golang-go"), need("/usr/bin/softhsm2-util", "softhsm2")];
/// For the tests of what is installed with the security service: what judges units of systemd.
pub const SYSTEMD: &[Need] = &[need("systemd-analyze", "systemd")];
/// For fuzz targets: libFuzzer is C++.
pub const FUZZ: &[Need] = &[need("c++", "g++")];
/// For fetching Debian source packages.
pub const SOURCE_PACKAGES: &[Need] = &[need("dpkg-source", "dpkg-dev")];

/// For building against Debian's libc for ARM: BusyBox, the system that ours is compared with, and
/// a dynamic app.
pub const DEBIAN_LIBC: &[Need] =
    &[need("/usr/arm-linux-gnueabihf/lib/libc.a", "libc6-dev-armhf-cross")];

/// A method that our updates are compared with.
pub const XDELTA3: &[Need] = &[need("/usr/bin/xdelta3", "xdelta3")];

/// Debian's own Rust, for hosts where rustup cannot bring the sources of std.
pub(crate) const DEBIAN_RUST: &[Need] = &[
    need("/usr/bin/rustc", "rustc-web"),
    need("/usr/bin/cargo", "cargo-web"),
    need("/usr/lib/rustlib/src/rust/library/Cargo.lock", "rust-web-src"),
];

/// Makes sure that everything needed is there: installs what is missing where that is possible
/// without asking, names it otherwise.
///
/// # Errors
/// Something is missing and cannot be installed; the message names the packages.
pub fn ensure(groups: &[&[Need]]) -> Result<()> {
    let packages = missing_packages(groups);
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let by_hand = format!("sudo apt-get install --no-install-recommends {list}");
    if !exists("apt-get") {
        bail!(HostLacks(format!(
            "this host lacks what these Debian packages bring: {list}; install their like"
        )));
    }
    let Some(root) = root_prefix() else {
        bail!(HostLacks(format!("this host lacks {list}; run\n  {by_hand}")));
    };
    eprintln!("this host lacks {list}: installing");
    install(&root, &packages)?;
    let still = missing_packages(groups);
    if still.is_empty() {
        return Ok(());
    }
    bail!(HostLacks(format!("apt installed {list}, but {} is still missing", still.join(" "))))
}

/// True when `what` is in the path, or there.
pub fn exists(what: &str) -> bool {
    if what.starts_with('/') {
        return Path::new(what).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(what).is_file())
}

fn missing_packages(groups: &[&[Need]]) -> Vec<&'static str> {
    let needs = groups.iter().flat_map(|group| group.iter());
    let mut packages: Vec<_> =
        needs.filter(|need| !exists(need.what)).map(|need| need.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Returns the words before a command that run it as root without being asked anything.
fn root_prefix() -> Option<Vec<&'static str>> {
    let id = process::output(Command::new("id").arg("-u")).ok()?;
    if id.trim() == "0" {
        return Some(Vec::new());
    }
    let sudo = ["sudo", "-n"];
    process::output(Command::new("sudo").args(["-n", "true"])).ok().map(|_| sudo.to_vec())
}

fn apt(root: &[&str], arguments: &[String]) -> Command {
    let mut words =
        root.iter().copied().chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    let mut command = Command::new(words.next().unwrap_or("env"));
    command.args(words).args(["-y", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
    command
}

fn install(root: &[&str], packages: &[&str]) -> Result<()> {
    let mut step = Step::begin("host packages");
    let mut wanted: Vec<String> = packages.iter().map(|p| (*p).to_owned()).collect();
    let request = |wanted: &[String], first: &[&str]| {
        let mut arguments: Vec<String> = first.iter().map(|f| (*f).to_owned()).collect();
        arguments.extend(["install", "--no-install-recommends"].map(str::to_owned));
        arguments.extend_from_slice(wanted);
        arguments
    };
    process::follow(&mut apt(root, &["update".to_owned()]), &mut step)?;
    let simulation =
        process::output(&mut apt(root, &request(&wanted, &["--simulate"]))).map_err(|error| {
            HostLacks(format!("apt cannot install {}: {error}", packages.join(" ")))
        })?;
    // A package from elsewhere (a backport, say) that is in the way is not removed: it is brought
    // to the version that fits.
    for removed in removed_packages(&simulation) {
        let versions = process::output(Command::new("apt-cache").args(["madison", &removed]))?;
        let Some(version) = newest_offered(&versions) else {
            bail!(HostLacks(format!(
                "installing {} would remove {removed}; do that by hand if you want it:\n  \
                 sudo apt-get install {}",
                packages.join(" "),
                packages.join(" ")
            )));
        };
        eprintln!("{removed} is in the way: changing it to version {version}");
        wanted.push(format!("{removed}={version}"));
    }
    process::follow(
        &mut apt(root, &request(&wanted, &["--allow-downgrades", "--no-remove"])),
        &mut step,
    )
    .map_err(|error| HostLacks(format!("{error:#}")))?;
    step.done(&packages.join(" "));
    Ok(())
}

/// Names of the packages that a simulated run of apt would remove.
fn removed_packages(simulation: &str) -> Vec<String> {
    simulation
        .lines()
        .filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next())
        .map(str::to_owned)
        .collect()
}

/// The first version in the output of `apt-cache madison`.
fn newest_offered(madison: &str) -> Option<String> {
    madison.lines().next()?.split('|').nth(1).map(|version| version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_remove_is_found_and_its_fitting_version_is_read() {
        let simulation = "Inst a (1)\nRemv qemu-utils [1:10.0.2]\nInst qemu-system-arm (1:7.2)\n";
        assert_eq!(removed_packages(simulation), ["qemu-utils"]);
        let madison = "qemu-utils | 1:7.2+dfsg-7+deb12u18 | host bookworm/main amd64 Packages\n";
        assert_eq!(newest_offered(madison).as_deref(), Some("1:7.2+dfsg-7+deb12u18"));
        assert_eq!(newest_offered(""), None);
    }

    #[test]
    fn only_what_is_not_there_is_missing() {
        let needs = [need("sh", "dash"), need("/no/such/file", "b"), need("no-such-program", "a")];
        assert_eq!(missing_packages(&[&needs]), ["a", "b"]);
    }
}

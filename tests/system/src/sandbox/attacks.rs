//! Every attack of `tests/apps/hostile` and `tests/apps/dynamic`: what must happen to it, which layers see to that, and what
//! happens without them. `docs/threat-model.md` is written from this table.

/// What happens to an attack where nothing is there to stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// It succeeds, as PID 1 of a kernel with everything on.
    Succeeds,
    /// There can be no control, for this reason.
    None(&'static str),
}

/// One attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attack {
    /// Its name in the program.
    pub(crate) name: &'static str,
    /// Row of the threat model.
    pub(crate) row: &'static str,
    /// The error it must meet under the plan of an app.
    pub(crate) meets: Errno,
    /// Layers that stop it, each of which the control lacks.
    pub(crate) layers: &'static str,
    /// The error it meets as root on the shipped kernel, where its configuration alone stops it.
    pub(crate) on_bare_kernel: Option<Errno>,
    /// What it does without any of that.
    pub(crate) control: Control,
}

/// An error by name and number, as Linux on ARM has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) &'static str, pub(crate) i32);

const EACCES: Errno = Errno("EACCES", 13);
const EAFNOSUPPORT: Errno = Errno("EAFNOSUPPORT", 97);
const EAGAIN: Errno = Errno("EAGAIN", 11);
const EBADF: Errno = Errno("EBADF", 9);
const EHOSTUNREACH: Errno = Errno("EHOSTUNREACH", 113);
const ENETUNREACH: Errno = Errno("ENETUNREACH", 101);
const ETIMEDOUT: Errno = Errno("ETIMEDOUT", 110);
const ECONNREFUSED: Errno = Errno("ECONNREFUSED", 111);
const EDQUOT: Errno = Errno("EDQUOT", 122);
const EINVAL: Errno = Errno("EINVAL", 22);
const EIO: Errno = Errno("EIO", 5);
const EMFILE: Errno = Errno("EMFILE", 24);
const ENODATA: Errno = Errno("ENODATA", 61);
const ENOENT: Errno = Errno("ENOENT", 2);
const ENOEXEC: Errno = Errno("ENOEXEC", 8);
const ENOMEM: Errno = Errno("ENOMEM", 12);
const ENOSPC: Errno = Errno("ENOSPC", 28);
const ENOSYS: Errno = Errno("ENOSYS", 38);
const EOPNOTSUPP: Errno = Errno("EOPNOTSUPP", 95);
const ENOTDIR: Errno = Errno("ENOTDIR", 20);
const EPERM: Errno = Errno("EPERM", 1);
const EROFS: Errno = Errno("EROFS", 30);
const ESRCH: Errno = Errno("ESRCH", 3);

const fn attack(
    name: &'static str,
    row: &'static str,
    meets: Errno,
    layers: &'static str,
) -> Attack {
    Attack { name, row, meets, layers, on_bare_kernel: None, control: Control::Succeeds }
}

impl Attack {
    const fn on_bare_kernel(self, errno: Errno) -> Self {
        Self { on_bare_kernel: Some(errno), ..self }
    }

    const fn without_control(self, reason: &'static str) -> Self {
        Self { control: Control::None(reason), ..self }
    }
}

pub(crate) const ATTACKS: &[Attack] = &[
    attack("mmap-write-execute", "A4", ENOMEM, "seccomp, MDWE"),
    attack("mmap-anonymous-execute", "A4", ENOMEM, "seccomp"),
    attack("mprotect-execute", "A4", EPERM, "seccomp, MDWE"),
    attack("pkey-mprotect-execute", "A4", EPERM, "seccomp")
        .without_control("ARM has no protection keys, so no kernel can be built where it succeeds"),
    attack("text-made-writable", "A4", EPERM, "seccomp, MDWE"),
    attack("personality-read-implies-exec", "A4", EPERM, "seccomp, MDWE"),
    attack("map-written-file", "A6", EPERM, "noexec mount"),
    attack("map-file-twice", "A5", EPERM, "noexec mount"),
    attack("map-storage-file", "A6", EPERM, "noexec mount"),
    attack("remap-file-pages", "A5", EPERM, "seccomp"),
    attack("memfd-map-execute", "A5", EPERM, "seccomp"),
    attack("proc-self-mem", "A1", ENOENT, "no /proc").on_bare_kernel(EIO),
    attack("proc-thread-self-mem", "A2", ENOENT, "no /proc").on_bare_kernel(EIO),
    attack("proc-task-mem", "A2", ENOENT, "no /proc").on_bare_kernel(EIO),
    attack("proc-pid-mem", "A2", ENOENT, "no /proc").on_bare_kernel(EIO),
    attack("proc-mem-reopened", "A2", ENOENT, "no /proc").on_bare_kernel(EIO),
    attack("ptrace-traceme", "A3", EPERM, "seccomp, Yama"),
    attack("ptrace-attach", "A3", EPERM, "seccomp, Yama"),
    attack("process-vm-write", "A3", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("process-vm-read", "A3", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("pidfd-getfd", "A3", EPERM, "seccomp"),
    attack("mdwe-undone", "A4", EPERM, "seccomp, MDWE"),
    attack("perf-event", "A5", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("bpf", "B8", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("userfaultfd", "B8", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("io-uring", "A5", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("add-key", "B8", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("keyctl", "B8", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("fanotify", "B8", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("posix-queue", "B8", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("sysv-memory", "B8", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("sysv-queue", "B8", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("sysv-semaphore", "B8", EPERM, "seccomp").on_bare_kernel(ENOSYS),
    attack("user-namespace", "B8", EPERM, "seccomp").on_bare_kernel(EINVAL),
    attack("mount-namespace", "B8", EPERM, "seccomp, no capability"),
    attack("clone-namespace", "B8", EPERM, "seccomp, no capability"),
    attack("clone3-namespace", "B8", ENOSYS, "seccomp"),
    attack("join-namespace", "B8", EPERM, "seccomp, no capability"),
    attack("mount", "C4 mounts", EPERM, "seccomp, no capability"),
    attack("mount-by-descriptor", "C4 mounts", EPERM, "seccomp, no capability"),
    attack("open-tree", "C4 mounts", EPERM, "seccomp, no capability"),
    attack("remount", "C4 mounts", EPERM, "seccomp, no capability"),
    attack("unmount", "C4 mounts", EPERM, "seccomp, no capability"),
    attack("chroot", "C4 mounts", EPERM, "seccomp, no capability"),
    attack("pivot-root", "C4 mounts", EPERM, "seccomp, no capability"),
    attack("load-module", "B8", EPERM, "seccomp, no capability").on_bare_kernel(ENOSYS),
    attack("kexec", "B8", EPERM, "seccomp, no capability")
        .on_bare_kernel(ENOSYS)
        .without_control("this kernel cannot have kexec on several processors without suspend"),
    attack("reboot", "D2", EPERM, "seccomp, no capability, own pid namespace"),
    attack("swap", "B8", EPERM, "seccomp, no capability").on_bare_kernel(ENOSYS),
    attack("kernel-log", "C1", EPERM, "seccomp, dmesg_restrict"),
    attack("kernel-log-device", "C1", ENOENT, "own /dev"),
    attack("set-time", "D2", EPERM, "seccomp, no capability"),
    attack("set-clock", "D2", EPERM, "seccomp, no capability"),
    attack("adjust-clock", "D2", EPERM, "seccomp, no capability"),
    attack("set-host-name", "D2", EPERM, "seccomp, no capability, own uts namespace"),
    attack("set-priority", "D2", EPERM, "seccomp, limit of 0"),
    attack("real-time", "D2", EPERM, "seccomp, limit of 0"),
    attack("lock-memory", "D2", EPERM, "seccomp, limit of 0"),
    attack("splice", "F8", EPERM, "seccomp"),
    attack("usermode-helper", "B6", ENOENT, "no /proc"),
    attack("system-request", "D2", ENOENT, "no /proc").on_bare_kernel(ENOENT),
    attack("physical-memory", "B2", ENOENT, "own /dev").on_bare_kernel(ENOENT),
    attack("kernel-symbols", "C1", ENOENT, "no /proc").on_bare_kernel(ENOENT),
    attack("sysfs", "C1", ENOENT, "no /sys"),
    attack("control-groups", "B5", ENOENT, "no cgroupfs"),
    attack("raise-limit", "D2", EPERM, "no capability"),
    attack("process-accounting", "B8", EPERM, "seccomp, no capability").on_bare_kernel(ENOSYS),
    attack("inotify-exhaustion", "D2", EMFILE, "sysctl"),
    attack("exec-written-file", "A6", EACCES, "noexec mount, Landlock"),
    attack("exec-from-storage", "A6", EACCES, "noexec mount, Landlock"),
    attack("exec-setuid-copy", "B7", EACCES, "noexec and nosuid mount, Landlock"),
    attack("exec-script", "A6", EACCES, "noexec mount, Landlock").on_bare_kernel(ENOEXEC),
    attack("exec-memfd", "A6", EPERM, "seccomp"),
    attack("exec-by-descriptor", "A6", EPERM, "seccomp, noexec mount"),
    attack("loader-runs-written-program", "A6", EPERM, "noexec mount"),
    attack("preload-written-library", "A6", EPERM, "noexec mount"),
    attack("load-written-library", "A6", EPERM, "noexec mount"),
    attack("make-device", "B1", EPERM, "seccomp, Landlock, no capability"),
    attack("open-flash", "B2", ENOENT, "own /dev"),
    attack("open-mapper", "B2", ENOENT, "own /dev"),
    attack("open-console", "C4 terminals", ENOENT, "own /dev"),
    attack("change-own-program", "C4 host binary", EROFS, "verity-backed mount")
        .without_control("the control's program lies on a verified root as well"),
    attack("write-root", "C4 mounts", EROFS, "read-only root"),
    attack("write-devices", "C4 mounts", EROFS, "read-only /dev"),
    attack("leave-root", "C4 mounts", ENOENT, "pivot_root, old root unmounted"),
    attack("leaked-descriptor", "C4 descriptors", EBADF, "close_range"),
    attack("read-state", "C5", ENOENT, "own root"),
    attack("read-other-packages", "C5", ENOENT, "own root"),
    attack("read-components", "C5", ENOENT, "own root"),
    attack("other-storage", "C5", ENOENT, "own root"),
    attack("open-by-handle", "C4 mounts", EPERM, "seccomp, no capability").on_bare_kernel(ENOSYS),
    attack("fill-storage", "D2", EDQUOT, "project quota"),
    attack("fill-temporary", "D2", ENOSPC, "bounded /tmp"),
    attack("fill-devices", "D2", EROFS, "read-only /dev"),
    attack("preallocate", "D2", EDQUOT, "project quota"),
    attack("fill-unlinked", "D2", EDQUOT, "project quota"),
    attack("exhaust-inodes", "D2", EDQUOT, "project quota"),
    attack("leave-quota", "D2", EPERM, "seccomp"),
    attack("stale-blocks", "C2", ENODATA, "ext4")
        .without_control("a file system that shows old blocks would have to be made first"),
    attack("extended-attribute", "D2", EPERM, "seccomp"),
    attack("replace-storage", "B4", EROFS, "read-only root"),
    attack("link-out-of-storage", "B4", ENOENT, "own root"),
    attack("short-random", "F1", ENODATA, "getrandom")
        .without_control("it is a property of the kernel that has no switch"),
    attack("become-root", "B7", EPERM, "seccomp, no capability"),
    attack("become-another", "B3", EPERM, "seccomp, no capability"),
    attack("join-group", "B3", EPERM, "seccomp, no capability"),
    attack("regain-capabilities", "B5", EPERM, "seccomp, empty sets"),
    attack("has-capabilities", "B5", EPERM, "empty sets"),
    attack("see-others", "C5", ESRCH, "own pid namespace"),
    attack("signal-stub", "C4 signals", EPERM, "Landlock scope"),
    attack("kill-stub", "C4 signals", EPERM, "Landlock scope"),
    attack("read-other-environment", "C5", ENOENT, "no /proc"),
    attack("read-other-maps", "C5", ENOENT, "no /proc"),
    attack("read-other-attributes", "C5", ENOENT, "no /proc"),
    attack("read-own-descriptors", "C4 descriptors", ENOENT, "no /proc"),
    attack("type-into-terminal", "C4 terminals", EPERM, "seccomp, no terminal"),
    attack("control-terminal", "C4 terminals", ENOENT, "own /dev"),
    attack("fork-bomb", "D2", EAGAIN, "pids limit"),
    attack("thread-bomb", "D2", EAGAIN, "pids limit"),
    attack("descriptor-bomb", "D2", EMFILE, "limit of open files"),
    attack("signal-bomb", "D2", EAGAIN, "limit of queued signals"),
    attack("timer-bomb", "D2", EAGAIN, "limit of queued signals"),
    attack("pipe-bomb", "D2", EMFILE, "limit of open files"),
    attack("limits-of-stub", "S others", EPERM, "seccomp"),
    attack("child-for-another", "S others", EPERM, "seccomp"),
    attack("internet", "A5", EPERM, "seccomp, own network namespace"),
    attack("internet-datagrams", "A5", EPERM, "seccomp, own network namespace"),
    attack("raw-internet", "A5", EPERM, "seccomp, own network namespace"),
    attack("raw-packets", "A5", EPERM, "seccomp").on_bare_kernel(EAFNOSUPPORT),
    attack("netlink", "B9", EPERM, "seccomp"),
    attack("kernel-crypto", "B9", EPERM, "seccomp").on_bare_kernel(EAFNOSUPPORT),
    attack("abstract-socket", "C4 sockets", ECONNREFUSED, "own network namespace, Landlock scope"),
    attack("path-socket", "C4 sockets", ENOTDIR, "own root"),
    attack("out-of-band", "B8", EOPNOTSUPP, "kernel").on_bare_kernel(EOPNOTSUPP),
    attack("inheriting-futex", "B8", ENOSYS, "kernel").on_bare_kernel(ENOSYS),
    attack("lock-standard-input", "D2", EINVAL, "kernel").on_bare_kernel(EINVAL),
    attack("listen-to-itself", "K unaccepted", EPERM, "seccomp"),
    attack("packet-filter", "B8", EPERM, "seccomp"),
];

/// Every attack of `tests/apps/hostile-network`. What the firewall refuses it says with ICMP
/// "administratively prohibited", which is EHOSTUNREACH for IPv4 and EACCES for IPv6.
pub(crate) const NETWORK_ATTACKS: &[Attack] = &[
    attack("network-by-address", "N names", EHOSTUNREACH, "firewall"),
    attack("network-by-address-v6", "N names", EACCES, "firewall"),
    attack("network-other-port", "N names", EHOSTUNREACH, "firewall"),
    attack("network-other-protocol", "N names", EHOSTUNREACH, "firewall"),
    attack("network-expired-address", "N names", EHOSTUNREACH, "firewall: the address's time"),
    attack("network-rebinding", "N names", ENODATA, "name proxy"),
    attack("network-near-by-name", "N names", ENODATA, "name proxy"),
    attack("network-instance-elsewhere", "N names", ENODATA, "name proxy"),
    attack("network-instance-other-port", "N names", EHOSTUNREACH, "firewall"),
    attack("network-tunnel-txt", "N names", ENODATA, "name proxy"),
    attack("network-tunnel-null", "N names", ENODATA, "name proxy"),
    attack("network-tunnel-long-labels", "N names", ENODATA, "name proxy"),
    attack("network-tunnel-subdomain", "N names", ENODATA, "name proxy"),
    attack("network-other-name-server", "N names", EHOSTUNREACH, "firewall"),
    attack("network-system-name-server", "N names", EHOSTUNREACH, "firewall"),
    attack("network-names-over-tcp", "N names", EHOSTUNREACH, "firewall"),
    attack("network-names-over-tls", "N names", EHOSTUNREACH, "firewall"),
    attack("network-names-over-https", "N names", EHOSTUNREACH, "firewall"),
    attack("network-slow-drip", "N names", EHOSTUNREACH, "name proxy: UDP alone, firewall"),
    attack("network-other-link-name", "N names", ENODATA, "name proxy"),
    attack("network-name-flood", "N names", EAGAIN, "name proxy: questions in a second"),
    attack("network-raw-socket", "N packets", EPERM, "seccomp, no capability"),
    attack("network-packet-socket", "N packets", EPERM, "seccomp, no capability")
        .on_bare_kernel(EAFNOSUPPORT),
    attack("network-ping-socket", "N packets", EPERM, "seccomp"),
    attack("network-other-ip-protocol", "N packets", EPERM, "seccomp, no capability"),
    attack("network-router-advertisement", "N packets", EPERM, "seccomp, no capability, firewall"),
    attack("network-spoofed-source", "N packets", EPERM, "no capability, firewall"),
    attack("network-borrowed-source", "N packets", ENETUNREACH, "own network namespace, firewall"),
    attack("network-poisoned-neighbour", "N packets", EPERM, "seccomp, no capability, own veth"),
    attack("network-other-address", "N packets", EPERM, "seccomp, no capability, firewall"),
    attack("network-multicast", "N packets", ETIMEDOUT, "own veth, firewall"),
    attack("network-mdns-leak", "N packets", ETIMEDOUT, "own veth, firewall"),
    attack("network-broadcast", "N packets", ETIMEDOUT, "own veth, firewall"),
    attack("network-many-connections", "N packets", EAGAIN, "firewall: connections of an app"),
    attack("network-unaccepted", "K unaccepted", EHOSTUNREACH, "no loopback device"),
    attack("network-many-sockets", "N packets", EMFILE, "limit of open files"),
    attack("network-other-app", "N neighbours", EHOSTUNREACH, "firewall"),
    attack("network-other-app-v6", "N neighbours", EACCES, "firewall"),
    attack("network-other-app-by-name", "N neighbours", ENODATA, "name proxy"),
    attack("network-service-of-device", "N neighbours", EHOSTUNREACH, "firewall"),
    attack("network-lease-port-of-device", "N neighbours", EHOSTUNREACH, "firewall"),
    attack("network-own-uplink", "N neighbours", EHOSTUNREACH, "firewall"),
    attack(
        "network-system-loopback",
        "N neighbours",
        EHOSTUNREACH,
        "own network namespace, no loopback device",
    ),
    attack("network-router", "N neighbours", EHOSTUNREACH, "firewall"),
    attack("network-link-local-router", "N neighbours", ENETUNREACH, "no link-local addresses"),
    attack("network-port-grab", "N neighbours", EACCES, "Landlock, firewall"),
];

//! Which system calls a component may make, as data.
//!
//! An allow list: what is not in it fails with EPERM. The image builder turns a set into BPF
//! programs, so that the device only applies bytes of its verified root. Arguments are 32 bits
//! wide on this processor, and every condition looks at one of them.

use crate::network::Network;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A set of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SystemCalls {
    /// Programs, files, time, threads, and sockets on this device.
    Local,
    /// Those, and TCP and UDP.
    Networked,
    /// Those, and connections that others begin.
    Serving,
    /// [`SystemCalls::Local`], and the requests of the peripherals that a board grants.
    Peripherals,
    /// [`SystemCalls::Networked`], and those requests.
    NetworkedPeripherals,
    /// [`SystemCalls::Serving`], and those requests.
    ServingPeripherals,
    /// [`SystemCalls::Local`], UDP, and the kernel's settings of the network.
    NetworkService,
    /// [`SystemCalls::Local`], and tracing: the debug service, which development images alone can have.
    Debugger,
    /// What the stub needs that reaps an app's processes and hears the app: it opens and executes nothing.
    Stub,
}

impl SystemCalls {
    /// Every set.
    pub const ALL: [Self; 9] = [
        Self::Local,
        Self::Networked,
        Self::Serving,
        Self::Peripherals,
        Self::NetworkedPeripherals,
        Self::ServingPeripherals,
        Self::NetworkService,
        Self::Debugger,
        Self::Stub,
    ];

    /// The set of an app with these grants. It listens where it has a TCP port at which it can be reached, and nowhere
    /// else: what waits to be accepted is on the account of nobody.
    #[must_use]
    pub fn of_app(network: &Network, peripherals: bool) -> Self {
        let (networked, serving) = match network {
            Network::Granted(grants) => (true, !grants.tcp_server_ports.is_empty()),
            Network::None | Network::System => (false, false),
        };
        match (networked, serving, peripherals) {
            (false, _, false) => Self::Local,
            (true, false, false) => Self::Networked,
            (true, true, false) => Self::Serving,
            (false, _, true) => Self::Peripherals,
            (true, false, true) => Self::NetworkedPeripherals,
            (true, true, true) => Self::ServingPeripherals,
        }
    }

    /// Its name, for files and people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Networked => "networked",
            Self::Serving => "serving",
            Self::Peripherals => "peripherals",
            Self::NetworkedPeripherals => "networked-peripherals",
            Self::ServingPeripherals => "serving-peripherals",
            Self::NetworkService => "network-service",
            Self::Debugger => "debugger",
            Self::Stub => "stub",
        }
    }

    /// True when every call of this set is in `other`.
    #[must_use]
    pub fn is_within(self, other: Self) -> bool {
        // Of the sets of apps: TCP and UDP, listening, and peripherals.
        let grants = |set| match set {
            Self::Local => Some([false, false, false]),
            Self::Networked => Some([true, false, false]),
            Self::Serving => Some([true, true, false]),
            Self::Peripherals => Some([false, false, true]),
            Self::NetworkedPeripherals => Some([true, false, true]),
            Self::ServingPeripherals => Some([true, true, true]),
            Self::NetworkService | Self::Debugger | Self::Stub => None,
        };
        let within = match (grants(self), grants(other)) {
            (Some(ours), Some(theirs)) => {
                ours.iter().zip(theirs).all(|(ours, theirs)| !ours || theirs)
            }
            _ => false,
        };
        self == other || self == Self::Stub || within
    }

    /// The calls of the set.
    #[must_use]
    pub fn rules(self) -> Vec<Rule> {
        let sockets = match self {
            Self::Stub => return STUB.to_vec(),
            Self::Local | Self::Peripherals | Self::Debugger => SOCKETS,
            Self::Networked
            | Self::Serving
            | Self::NetworkedPeripherals
            | Self::ServingPeripherals => NETWORKED_SOCKETS,
            Self::NetworkService => NETWORK_SERVICE_SOCKETS,
        };
        let makes_processes =
            |rule: &&Rule| ["clone", "clone3", "fork", "vfork"].contains(&rule.name);
        LOCAL
            .iter()
            // The network service is one process for all its life.
            .filter(|rule| self != Self::NetworkService || !makes_processes(rule))
            .copied()
            .map(|rule| match (self, rule.name) {
                (
                    Self::Peripherals | Self::NetworkedPeripherals | Self::ServingPeripherals,
                    "ioctl",
                ) => when("ioctl", PERIPHERAL_IOCTLS),
                _ => rule,
            })
            .chain([when("socket", sockets)])
            .chain(
                matches!(self, Self::Serving | Self::ServingPeripherals).then_some(call("listen")),
            )
            // By which it empties the sets that would outlive its program.
            .chain((self == Self::NetworkService).then_some(call("capset")))
            .chain((self == Self::Debugger).then_some(call("ptrace")))
            .collect()
    }
}

impl fmt::Display for SystemCalls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} calls)", self.name(), self.rules().len())
    }
}

/// Calls that do not exist for any component (ENOSYS), so that a C library takes another way.
/// `clone3` hides its flags behind a pointer that a filter cannot follow.
pub const ABSENT: &[&str] = &["clone3"];

/// One allowed call.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Name in the kernel's table for ARM.
    pub name: &'static str,
    /// It is allowed when every condition of one of these holds; always, when there are none.
    pub any_of: &'static [&'static [Condition]],
}

/// `argument & mask == value`.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    /// Number of the argument, from 0.
    pub argument: u8,
    /// Bits that are looked at.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
}

const fn call(name: &'static str) -> Rule {
    Rule { name, any_of: &[] }
}

const fn when(name: &'static str, any_of: &'static [&'static [Condition]]) -> Rule {
    Rule { name, any_of }
}

const fn is(argument: u8, value: u32) -> Condition {
    Condition { argument, mask: u32::MAX, value }
}

const fn bits(argument: u8, mask: u32, value: u32) -> Condition {
    Condition { argument, mask, value }
}

/// The bit of an argument is another than that of `value`.
const fn differs(argument: u8, bit: u32, value: u32) -> Condition {
    bits(argument, 1 << bit, !value & (1 << bit))
}

const SOL_SOCKET: u32 = 1;
const SO_PEERPIDFD: u32 = 77;

/// Everything but `SO_PEERPIDFD`: a descriptor of the process at the other end of a socket, which may be init. What
/// differs from it differs in one of the bits that levels and options have.
const NO_PEER_PIDFD: &[&[Condition]] = &[
    &[differs(1, 0, SOL_SOCKET)],
    &[differs(1, 1, SOL_SOCKET)],
    &[differs(1, 2, SOL_SOCKET)],
    &[differs(1, 3, SOL_SOCKET)],
    &[differs(1, 4, SOL_SOCKET)],
    &[differs(1, 5, SOL_SOCKET)],
    &[differs(1, 6, SOL_SOCKET)],
    &[differs(1, 7, SOL_SOCKET)],
    &[differs(2, 0, SO_PEERPIDFD)],
    &[differs(2, 1, SO_PEERPIDFD)],
    &[differs(2, 2, SO_PEERPIDFD)],
    &[differs(2, 3, SO_PEERPIDFD)],
    &[differs(2, 4, SO_PEERPIDFD)],
    &[differs(2, 5, SO_PEERPIDFD)],
    &[differs(2, 6, SO_PEERPIDFD)],
];

/// Options of every other level, and of sockets those below, which change nothing but the socket itself. Not among
/// them: a program of the kernel's that looks at packets (`SO_ATTACH_FILTER`, `SO_ATTACH_BPF` and both of
/// `SO_REUSEPORT`), a descriptor of the sender with each message (`SO_PASSPIDFD`), time stamps and copies that keep
/// packets for longer (`SO_TIMESTAMPING`, `SO_ZEROCOPY`). The numbers are those of asm-generic/socket.h.
const SOCKET_OPTIONS: &[&[Condition]] = &[
    &[differs(1, 0, SOL_SOCKET)],
    &[differs(1, 1, SOL_SOCKET)],
    &[differs(1, 2, SOL_SOCKET)],
    &[differs(1, 3, SOL_SOCKET)],
    &[differs(1, 4, SOL_SOCKET)],
    &[differs(1, 5, SOL_SOCKET)],
    &[differs(1, 6, SOL_SOCKET)],
    &[differs(1, 7, SOL_SOCKET)],
    &[bits(2, !15, 0)], // SO_DEBUG to SO_REUSEPORT
    &[bits(2, !3, 16)], // SO_PASSCRED, SO_PEERCRED, SO_RCVLOWAT, SO_SNDLOWAT
    &[bits(2, !1, 20)], // SO_RCVTIMEO_OLD, SO_SNDTIMEO_OLD
    &[is(2, 25)],       // SO_BINDTODEVICE
    &[is(2, 29)],       // SO_TIMESTAMP_OLD
    &[is(2, 32)],       // SO_SNDBUFFORCE, for which the kernel wants CAP_NET_ADMIN
    &[is(2, 35)],       // SO_TIMESTAMPNS_OLD
    &[is(2, 40)],       // SO_RXQ_OVFL
    &[is(2, 63)],       // SO_TIMESTAMP_NEW
    &[is(2, 64)],       // SO_TIMESTAMPNS_NEW
    &[bits(2, !1, 66)], // SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW
];

const PROT_WRITE: u32 = 2;
const PROT_EXEC: u32 = 4;
const MAP_ANONYMOUS: u32 = 0x20;
/// Every `CLONE_NEW*` flag, those that a tracer or init alone has a use for, and the one that makes a child for
/// another process, which then has to wait for it.
const CLONE_FORBIDDEN: u32 = 0x0002_0000 // NEWNS
    | 0x0200_0000 // NEWCGROUP
    | 0x0400_0000 // NEWUTS
    | 0x0800_0000 // NEWIPC
    | 0x1000_0000 // NEWUSER
    | 0x2000_0000 // NEWPID
    | 0x4000_0000 // NEWNET
    | 0x0000_2000 // PTRACE
    | 0x0000_8000 // PARENT
    | 0x0080_0000; // UNTRACED
const AF_UNIX: u32 = 1;
/// The low bits of a socket type; the others are `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
const SOCKET_TYPE: u32 = 0xf;

const SOCKETS: &[&[Condition]] = &[
    &[is(0, AF_UNIX), bits(1, SOCKET_TYPE, 1)], // SOCK_STREAM
    &[is(0, AF_UNIX), bits(1, SOCKET_TYPE, 2)], // SOCK_DGRAM
    &[is(0, AF_UNIX), bits(1, SOCKET_TYPE, 5)], // SOCK_SEQPACKET
];

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_NETLINK: u32 = 16;
const STREAM: Condition = bits(1, SOCKET_TYPE, 1);
const DATAGRAM: Condition = bits(1, SOCKET_TYPE, 2);
const RAW: Condition = bits(1, SOCKET_TYPE, 3);
const TCP: u32 = 6;
const UDP: u32 = 17;

/// No other protocol than TCP and UDP: no ping, no SCTP, no Multipath TCP, nothing raw.
const NETWORKED_SOCKETS: &[&[Condition]] = &[
    &[is(0, AF_UNIX), STREAM],
    &[is(0, AF_UNIX), DATAGRAM],
    &[is(0, AF_UNIX), bits(1, SOCKET_TYPE, 5)],
    &[is(0, AF_INET), STREAM, is(2, 0)],
    &[is(0, AF_INET), STREAM, is(2, TCP)],
    &[is(0, AF_INET), DATAGRAM, is(2, 0)],
    &[is(0, AF_INET), DATAGRAM, is(2, UDP)],
    &[is(0, AF_INET6), STREAM, is(2, 0)],
    &[is(0, AF_INET6), STREAM, is(2, TCP)],
    &[is(0, AF_INET6), DATAGRAM, is(2, 0)],
    &[is(0, AF_INET6), DATAGRAM, is(2, UDP)],
];

/// UDP alone, and two protocols of netlink: devices and routes (0), and the firewall (12).
const NETWORK_SERVICE_SOCKETS: &[&[Condition]] = &[
    &[is(0, AF_UNIX), STREAM],
    &[is(0, AF_UNIX), DATAGRAM],
    &[is(0, AF_UNIX), bits(1, SOCKET_TYPE, 5)],
    &[is(0, AF_INET), DATAGRAM, is(2, UDP)],
    &[is(0, AF_INET6), DATAGRAM, is(2, UDP)],
    &[is(0, AF_NETLINK), RAW, is(2, 0)],
    &[is(0, AF_NETLINK), RAW, is(2, 12)],
];

/// Without FS_IOC_FSSETXATTR, which would move files out of their quota, and without every request
/// of a driver.
const IOCTLS: &[&[Condition]] = &[
    &[is(1, 0x5401)], // TCGETS, by which a C library asks for a terminal
    &[is(1, 0x5413)], // TIOCGWINSZ, as TCGETS
    &[is(1, 0x541b)], // FIONREAD
    &[is(1, 0x5421)], // FIONBIO
    &[is(1, 0x5450)], // FIONCLEX
    &[is(1, 0x5451)], // FIOCLEX
];

/// [`IOCTLS`], and what a program asks of a serial line, of I2C and SPI, and of a GPIO line that it was
/// handed. Not among them: typing into a terminal, another line discipline, an I2C address that a driver has.
const PERIPHERAL_IOCTLS: &[&[Condition]] = &[
    &[is(1, 0x5401)],
    &[is(1, 0x5413)],
    &[is(1, 0x541b)],
    &[is(1, 0x5421)],
    &[is(1, 0x5450)],
    &[is(1, 0x5451)],
    // linux/termios: TCSETS, TCSETSW, TCSETSF, TCSBRK, TCXONC, TCFLSH, TIOCOUTQ, TIOCMGET to TIOCMSET,
    // TCSBRKP, TIOCSBRK, TIOCCBRK, TCGETS2, TCSETS2 to TCSETSF2.
    &[is(1, 0x5402)],
    &[is(1, 0x5403)],
    &[is(1, 0x5404)],
    &[is(1, 0x5409)],
    &[is(1, 0x540a)],
    &[is(1, 0x540b)],
    &[is(1, 0x5411)],
    &[is(1, 0x5415)],
    &[is(1, 0x5416)],
    &[is(1, 0x5417)],
    &[is(1, 0x5418)],
    &[is(1, 0x5425)],
    &[is(1, 0x5427)],
    &[is(1, 0x5428)],
    &[is(1, 0x802c_542a)],
    &[is(1, 0x402c_542b)],
    &[is(1, 0x402c_542c)],
    &[is(1, 0x402c_542d)],
    // linux/i2c-dev.h: I2C_RETRIES to I2C_FUNCS without I2C_SLAVE_FORCE, I2C_RDWR, I2C_SMBUS.
    &[is(1, 0x0701)],
    &[is(1, 0x0702)],
    &[is(1, 0x0703)],
    &[is(1, 0x0704)],
    &[is(1, 0x0705)],
    &[is(1, 0x0707)],
    &[is(1, 0x0720)],
    // linux/spi/spidev.h: SPI_IOC_MESSAGE of any number, and mode, bit order, word and speed.
    &[bits(1, 0xc000_ffff, 0x4000_6b00)],
    &[bits(1, 0x3fff_fffc, 0x0001_6b00)],
    &[bits(1, 0x3fff_fffe, 0x0004_6b04)],
    // linux/gpio.h: GPIO_V2_LINE_SET_CONFIG, GPIO_V2_LINE_GET_VALUES, GPIO_V2_LINE_SET_VALUES.
    &[is(1, 0xc110_b40d)],
    &[is(1, 0xc010_b40e)],
    &[is(1, 0xc010_b40f)],
];

const PRCTLS: &[&[Condition]] = &[
    &[is(0, 1)],           // PR_SET_PDEATHSIG
    &[is(0, 3)],           // PR_GET_DUMPABLE
    &[is(0, 4), is(1, 0)], // PR_SET_DUMPABLE, to 0
    &[is(0, 15)],          // PR_SET_NAME
    &[is(0, 16)],          // PR_GET_NAME
    &[is(0, 38)],          // PR_SET_NO_NEW_PRIVS
    &[is(0, 39)],          // PR_GET_NO_NEW_PRIVS
    &[is(0, 0x5356_4d41)], // PR_SET_VMA
];

const FCNTLS: &[&[Condition]] = &[
    &[is(1, 0)],                      // F_DUPFD
    &[is(1, 1)],                      // F_GETFD
    &[is(1, 2)],                      // F_SETFD
    &[is(1, 3)],                      // F_GETFL
    &[is(1, 4), bits(2, 0o20000, 0)], // F_SETFL, without O_ASYNC
    &[is(1, 5)],                      // F_GETLK
    &[is(1, 6)],                      // F_SETLK
    &[is(1, 7)],                      // F_SETLKW
    &[is(1, 12)],                     // F_GETLK64
    &[is(1, 13)],                     // F_SETLK64
    &[is(1, 14)],                     // F_SETLKW64
    &[is(1, 36)],                     // F_OFD_GETLK
    &[is(1, 37)],                     // F_OFD_SETLK
    &[is(1, 38)],                     // F_OFD_SETLKW
    &[is(1, 1030)],                   // F_DUPFD_CLOEXEC
];

const MMAPS: &[&[Condition]] = &[
    &[bits(2, PROT_EXEC, 0)],
    // Code comes from a file and cannot be written.
    &[bits(2, PROT_EXEC | PROT_WRITE, PROT_EXEC), bits(3, MAP_ANONYMOUS, 0)],
];

const LOCAL: &[Rule] = &[
    // The processor's own calls, which a filter sees too.
    call("set_tls"),
    call("get_tls"),
    call("cacheflush"),
    // Memory.
    call("brk"),
    when("mmap2", MMAPS),
    call("munmap"),
    call("mremap"),
    call("madvise"),
    when("mprotect", &[&[bits(2, PROT_EXEC, 0)]]),
    call("msync"),
    call("mincore"),
    call("membarrier"),
    // Processes and threads.
    when("clone", &[&[bits(0, CLONE_FORBIDDEN, 0)]]),
    call("clone3"), // ABSENT answers first
    call("fork"),
    call("vfork"),
    call("execve"),
    call("exit"),
    call("exit_group"),
    call("wait4"),
    call("waitid"),
    call("set_tid_address"),
    call("set_robust_list"),
    call("get_robust_list"),
    call("futex"),
    call("futex_time64"),
    call("sched_yield"),
    call("sched_getaffinity"),
    call("sched_getscheduler"),
    call("sched_getparam"),
    call("sched_get_priority_max"),
    call("sched_get_priority_min"),
    call("getpriority"),
    // Its own limits: those of another process with its uid, the stub among them, are not its own.
    when("prlimit64", &[&[is(0, 0)]]),
    call("ugetrlimit"),
    call("getrusage"),
    call("times"),
    when("prctl", PRCTLS),
    call("umask"),
    call("setsid"),
    call("setpgid"),
    call("getpgid"),
    call("getpgrp"),
    call("getsid"),
    // Identity, to look at.
    call("getpid"),
    call("getppid"),
    call("gettid"),
    call("getuid"),
    call("getuid32"),
    call("geteuid"),
    call("geteuid32"),
    call("getgid"),
    call("getgid32"),
    call("getegid"),
    call("getegid32"),
    call("getresuid32"),
    call("getresgid32"),
    call("getgroups32"),
    call("uname"),
    call("sysinfo"),
    call("getcpu"),
    call("capget"),
    // Signals.
    call("kill"),
    call("tkill"),
    call("tgkill"),
    call("rt_sigaction"),
    call("rt_sigprocmask"),
    call("rt_sigpending"),
    call("rt_sigreturn"),
    call("sigreturn"),
    call("rt_sigsuspend"),
    call("rt_sigtimedwait"),
    call("rt_sigtimedwait_time64"),
    call("rt_sigqueueinfo"),
    call("rt_tgsigqueueinfo"),
    call("sigaltstack"),
    call("signalfd"),
    call("signalfd4"),
    call("pause"),
    call("restart_syscall"),
    // Time.
    call("clock_gettime"),
    call("clock_gettime64"),
    call("clock_getres"),
    call("clock_getres_time64"),
    call("clock_nanosleep"),
    call("clock_nanosleep_time64"),
    call("nanosleep"),
    call("gettimeofday"),
    call("setitimer"),
    call("getitimer"),
    call("timer_create"),
    call("timer_settime"),
    call("timer_settime64"),
    call("timer_gettime"),
    call("timer_gettime64"),
    call("timer_getoverrun"),
    call("timer_delete"),
    call("timerfd_create"),
    call("timerfd_settime"),
    call("timerfd_settime64"),
    call("timerfd_gettime"),
    call("timerfd_gettime64"),
    // Waiting.
    call("poll"),
    call("ppoll"),
    call("ppoll_time64"),
    call("_newselect"),
    call("pselect6"),
    call("pselect6_time64"),
    call("epoll_create"),
    call("epoll_create1"),
    call("epoll_ctl"),
    call("epoll_wait"),
    call("epoll_pwait"),
    call("epoll_pwait2"),
    call("eventfd"),
    call("eventfd2"),
    call("inotify_init"),
    call("inotify_init1"),
    call("inotify_add_watch"),
    call("inotify_rm_watch"),
    // Files; Landlock says which.
    call("open"),
    call("openat"),
    call("openat2"),
    call("creat"),
    call("close"),
    call("close_range"),
    call("read"),
    call("write"),
    call("readv"),
    call("writev"),
    call("pread64"),
    call("pwrite64"),
    call("preadv"),
    call("preadv2"),
    call("pwritev"),
    call("pwritev2"),
    call("lseek"),
    call("_llseek"),
    call("sendfile"),
    call("sendfile64"),
    call("copy_file_range"),
    call("dup"),
    call("dup2"),
    call("dup3"),
    call("pipe"),
    call("pipe2"),
    when("fcntl", FCNTLS),
    when("fcntl64", FCNTLS),
    when("ioctl", IOCTLS),
    call("flock"),
    call("fsync"),
    call("fdatasync"),
    call("arm_sync_file_range"),
    call("fallocate"),
    call("ftruncate"),
    call("ftruncate64"),
    call("truncate"),
    call("truncate64"),
    call("arm_fadvise64_64"),
    call("readahead"),
    call("stat"),
    call("stat64"),
    call("lstat"),
    call("lstat64"),
    call("fstat"),
    call("fstat64"),
    call("fstatat64"),
    call("statx"),
    call("statfs"),
    call("statfs64"),
    call("fstatfs"),
    call("fstatfs64"),
    call("access"),
    call("faccessat"),
    call("faccessat2"),
    call("getdents"),
    call("getdents64"),
    call("getcwd"),
    call("chdir"),
    call("fchdir"),
    call("mkdir"),
    call("mkdirat"),
    call("rmdir"),
    call("unlink"),
    call("unlinkat"),
    call("rename"),
    call("renameat"),
    call("renameat2"),
    call("link"),
    call("linkat"),
    call("symlink"),
    call("symlinkat"),
    call("readlink"),
    call("readlinkat"),
    call("chmod"),
    call("fchmod"),
    call("fchmodat"),
    call("fchmodat2"),
    call("utimensat"),
    call("utimensat_time64"),
    call("futimesat"),
    call("utimes"),
    // Sockets on this device.
    when("socketpair", SOCKETS),
    call("bind"),
    call("accept"),
    call("accept4"),
    call("connect"),
    call("shutdown"),
    call("getsockname"),
    call("getpeername"),
    when("getsockopt", NO_PEER_PIDFD),
    when("setsockopt", SOCKET_OPTIONS),
    call("send"),
    call("sendto"),
    call("sendmsg"),
    call("sendmmsg"),
    call("recv"),
    call("recvfrom"),
    call("recvmsg"),
    call("recvmmsg"),
    call("recvmmsg_time64"),
    // Random numbers.
    call("getrandom"),
];

const STUB: &[Rule] = &[
    call("set_tls"),
    call("rt_sigprocmask"),
    call("rt_sigreturn"),
    call("restart_syscall"),
    call("poll"),
    call("ppoll"),
    call("ppoll_time64"),
    call("read"),
    // Of datagrams: with no buffer for descriptors.
    call("recv"),
    call("recvfrom"),
    call("wait4"),
    call("kill"),
    call("write"),
    call("close"),
    call("exit"),
    call("exit_group"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_listed_twice_and_what_the_stub_may_an_app_may() {
        for set in SystemCalls::ALL {
            let names: Vec<&str> = set.rules().iter().map(|rule| rule.name).collect();
            for (index, name) in names.iter().enumerate() {
                assert!(!names[..index].contains(name), "{name} is there twice");
            }
        }
        for rule in STUB {
            assert!(LOCAL.iter().any(|local| local.name == rule.name), "{}", rule.name);
        }
    }

    fn allows(rule: &Rule, arguments: [u32; 6]) -> bool {
        let holds = |c: &Condition| arguments[usize::from(c.argument)] & c.mask == c.value;
        rule.any_of.is_empty() || rule.any_of.iter().any(|all| all.iter().all(holds))
    }

    /// The rules for this call of every set that has one.
    fn rules_for(name: &str) -> Vec<Rule> {
        let rules = SystemCalls::ALL.into_iter().flat_map(SystemCalls::rules);
        rules.filter(|rule| rule.name == name).collect()
    }

    /// IP, sockets, TCP, UDP, IPv6, ICMPv6, raw sockets, netlink.
    const LEVELS: [u32; 8] = [0, 1, 6, 17, 41, 58, 255, 270];

    #[test]
    fn no_socket_yields_a_descriptor_of_the_process_at_its_other_end() {
        const SO_PASSPIDFD: u32 = 76;
        for rule in rules_for("getsockopt") {
            for level in LEVELS {
                for option in 0..128 {
                    let expected = (level, option) != (SOL_SOCKET, SO_PEERPIDFD);
                    assert_eq!(allows(&rule, [3, level, option, 0, 0, 0]), expected, "{option}");
                }
            }
        }
        for rule in rules_for("setsockopt") {
            assert!(!allows(&rule, [3, SOL_SOCKET, SO_PASSPIDFD, 0, 0, 0]));
        }
    }

    #[test]
    fn a_socket_takes_the_options_that_change_nothing_but_itself() {
        let allowed = [
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 25, 29,
            32, 35, 40, 63, 64, 66, 67,
        ];
        for rule in rules_for("setsockopt") {
            for level in LEVELS {
                for option in 0..0x1_0000 {
                    let expected = level != SOL_SOCKET || allowed.contains(&option);
                    assert_eq!(allows(&rule, [3, level, option, 0, 0, 0]), expected, "{option}");
                }
            }
            // SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF.
            for filter in [26, 50, 51, 52] {
                assert!(!allows(&rule, [3, SOL_SOCKET, filter, 0, 0, 0]), "{filter}");
            }
        }
    }

    #[test]
    fn a_process_changes_no_limit_and_makes_no_child_of_another() {
        const CLONE_PARENT: u32 = 0x8000;
        // CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID, DETACHED: a thread.
        const THREAD: u32 = 0x007d_0f00;
        for rule in rules_for("prlimit64") {
            assert!(allows(&rule, [0, 7, 0, 0, 0, 0]));
            assert!([1, 2, u32::MAX].iter().all(|of| !allows(&rule, [*of, 7, 0, 0, 0, 0])));
        }
        for rule in rules_for("clone") {
            assert!(allows(&rule, [17, 0, 0, 0, 0, 0]) && allows(&rule, [THREAD, 0, 0, 0, 0, 0]));
            assert!(!allows(&rule, [CLONE_PARENT | 17, 0, 0, 0, 0, 0]));
        }
        for name in ["setsockopt", "getsockopt", "prlimit64", "clone"] {
            assert!(!rules_for(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_set_within_another_has_no_call_that_the_other_lacks() {
        for set in SystemCalls::ALL {
            let names =
                |set: SystemCalls| -> Vec<&str> { set.rules().iter().map(|r| r.name).collect() };
            for other in SystemCalls::ALL.into_iter().filter(|other| set.is_within(*other)) {
                let theirs = names(other);
                for name in names(set) {
                    assert!(theirs.contains(&name), "{set}: {name} is not in {other}");
                }
            }
        }
        assert!(SystemCalls::Local.is_within(SystemCalls::ServingPeripherals));
        assert!(!SystemCalls::Serving.is_within(SystemCalls::NetworkedPeripherals));
    }

    #[test]
    fn an_app_listens_where_it_has_a_tcp_server_port_and_nowhere_else() {
        use crate::network::{Connection, Destination, NetworkGrants};
        use holdfast_types::ComponentId;
        let listens = |change: fn(&mut NetworkGrants)| {
            let mut grants = NetworkGrants::default();
            change(&mut grants);
            let network = Network::Granted(grants);
            let with = [false, true].map(|peripherals| {
                let set = SystemCalls::of_app(&network, peripherals);
                set.rules().iter().any(|rule| rule.name == "listen")
            });
            assert_eq!(with[0], with[1]);
            with[0]
        };
        assert!(listens(|grants| grants.tcp_server_ports = vec![80]));
        assert!(!listens(|grants| grants.udp_server_ports = vec![80]));
        // Nobody reaches an app without server ports, whoever names it.
        assert!(!listens(|grants| grants.applications = vec![ComponentId([1; 16])]));
        let anybody =
            || Destination::parse("example.com").into_iter().map(Connection::to).collect();
        let mut grants = NetworkGrants { connections: anybody(), ..NetworkGrants::default() };
        let set = SystemCalls::of_app(&Network::Granted(grants.clone()), false);
        assert!(!set.rules().iter().any(|rule| rule.name == "listen"));
        grants.tcp_server_ports = vec![80];
        assert!(set.is_within(SystemCalls::of_app(&Network::Granted(grants), false)));
        for set in [SystemCalls::Local, SystemCalls::NetworkService, SystemCalls::Debugger] {
            assert!(!set.rules().iter().any(|rule| rule.name == "listen"), "{set}");
        }
    }

    #[test]
    fn what_opens_the_kernel_is_in_no_set() {
        for forbidden in [
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "pidfd_getfd",
            "perf_event_open",
            "bpf",
            "userfaultfd",
            "io_uring_setup",
            "keyctl",
            "add_key",
            "request_key",
            "kexec_load",
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "setns",
            "unshare",
            "memfd_create",
            "memfd_secret",
            "personality",
            "init_module",
            "finit_module",
            "reboot",
            "swapon",
            "syslog",
            "quotactl",
            "quotactl_fd",
            "settimeofday",
            "clock_settime",
            "clock_settime64",
            "adjtimex",
            "sethostname",
            "open_by_handle_at",
            "fanotify_init",
            "mknod",
            "mknodat",
            "setxattr",
            "fsopen",
            "open_tree",
            "move_mount",
            "mount_setattr",
            "shmget",
            "msgget",
            "semget",
            "mq_open",
            "pkey_mprotect",
            "remap_file_pages",
            "splice",
            "vmsplice",
            "tee",
            "execveat",
            "modify_ldt",
            "seccomp",
            "setuid32",
            "setresuid32",
            "setgroups32",
            "capset",
            "process_madvise",
            "kcmp",
            "pidfd_open",
            "acct",
        ] {
            for set in SystemCalls::ALL {
                // The first gives nothing that was not there; the second is in no production image.
                let own =
                    [(SystemCalls::NetworkService, "capset"), (SystemCalls::Debugger, "ptrace")];
                if own.contains(&(set, forbidden)) {
                    continue;
                }
                assert!(!set.rules().iter().any(|rule| rule.name == forbidden), "{forbidden}");
            }
        }
    }
}

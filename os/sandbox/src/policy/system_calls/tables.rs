//! The tables of allowed system calls, and of the arguments that they may have.

use super::rule::{Condition, Rule, bits, call, differs, is, when};

pub(super) const SOL_SOCKET: u32 = 1;
pub(super) const SO_PEERPIDFD: u32 = 77;

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

pub(super) const SOCKETS: &[&[Condition]] = &[
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
pub(super) const NETWORKED_SOCKETS: &[&[Condition]] = &[
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

/// UDP, TCP for questions to name servers (no `listen` is in the set), and two protocols of netlink: devices and routes
/// (0), and the firewall (12).
pub(super) const NETWORK_SERVICE_SOCKETS: &[&[Condition]] = &[
    &[is(0, AF_UNIX), STREAM],
    &[is(0, AF_UNIX), DATAGRAM],
    &[is(0, AF_UNIX), bits(1, SOCKET_TYPE, 5)],
    &[is(0, AF_INET), STREAM, is(2, TCP)],
    &[is(0, AF_INET), DATAGRAM, is(2, UDP)],
    &[is(0, AF_INET6), STREAM, is(2, TCP)],
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
pub(super) const PERIPHERAL_IOCTLS: &[&[Condition]] = &[
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

pub(super) const LOCAL: &[Rule] = &[
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

pub(super) const STUB: &[Rule] = &[
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

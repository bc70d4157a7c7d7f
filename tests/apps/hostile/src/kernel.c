/* Calls that open the kernel, the machine or the namespaces. */
#include "hostile.h"
#include <linux/futex.h>
#include <linux/keyctl.h>
#include <mqueue.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/swap.h>
#include <sys/time.h>
#include <sys/timex.h>

static int perf_event(void)
{
    /* struct perf_event_attr of its first published size: a software event, the CPU clock. */
    static uint32_t attributes[16] = { 1, 64 };
    return outcome(syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0));
}

static int bpf(void)
{
    /* BPF_MAP_CREATE: an array of one 4-byte value. */
    static uint32_t attributes[32] = { 2, 4, 4, 1 };
    return outcome(syscall(SYS_bpf, 0, attributes, sizeof attributes));
}

static int userfaultfd(void)
{
    return outcome(syscall(SYS_userfaultfd, 0));
}

static int io_uring(void)
{
    static uint32_t parameters[30];
    return outcome(syscall(SYS_io_uring_setup, 4, parameters));
}

static int add_key(void)
{
    return outcome(syscall(SYS_add_key, "user", "hostile", "x", 1, KEY_SPEC_PROCESS_KEYRING));
}

static int keyctl(void)
{
    return outcome(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
}

static int fanotify(void)
{
    return outcome(syscall(SYS_fanotify_init, 0, O_RDONLY));
}

static int posix_queue(void)
{
    struct mq_attr attributes = { .mq_maxmsg = 1, .mq_msgsize = 8 };
    return outcome(syscall(SYS_mq_open, "hostile", O_CREAT | O_RDWR, 0600, &attributes));
}

static int sysv_memory(void)
{
    return outcome(syscall(SYS_shmget, IPC_PRIVATE, 4096, 0600));
}

static int sysv_queue(void)
{
    return outcome(syscall(SYS_msgget, IPC_PRIVATE, 0600));
}

static int sysv_semaphore(void)
{
    return outcome(syscall(SYS_semget, IPC_PRIVATE, 1, 0600));
}

static int user_namespace(void)
{
    return outcome(unshare(CLONE_NEWUSER));
}

static int mount_namespace(void)
{
    return outcome(unshare(CLONE_NEWNS));
}

static int clone_namespace(void)
{
    long child = syscall(SYS_clone, CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    return outcome(child);
}

static int clone3_namespace(void)
{
    uint64_t arguments[11] = { CLONE_NEWNS, 0, 0, 0, SIGCHLD };
    long child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0)
        _exit(0);
    return outcome(child);
}

static int join_namespace(void)
{
    int namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    /* Without /proc the call is tried all the same. */
    return outcome(setns(namespace < 0 ? 0 : namespace, namespace < 0 ? CLONE_NEWNET : 0));
}

static int mount_tmpfs(void)
{
    return outcome(mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
}

static int mount_by_descriptor(void)
{
    return outcome(syscall(SYS_fsopen, "tmpfs", 0));
}

static int open_tree(void)
{
    return outcome(syscall(SYS_open_tree, AT_FDCWD, "/", 1));
}

static int remount_writable(void)
{
    /* The last tmpfs of an attack before: only where mounting works at all. */
    mkdir("/tmp/remount", 0700);
    if (control && mount("tmpfs", "/tmp/remount", "tmpfs", MS_NOEXEC, NULL) < 0)
        return errno;
    return outcome(mount(NULL, control ? "/tmp/remount" : "/tmp", NULL, MS_REMOUNT, NULL));
}

static int unmount_attack(void)
{
    if (control) {
        mkdir("/tmp/unmount", 0700);
        if (mount("tmpfs", "/tmp/unmount", "tmpfs", 0, NULL) < 0)
            return errno;
    }
    return outcome(umount2(control ? "/tmp/unmount" : "/tmp", MNT_DETACH));
}

static int change_root(void)
{
    return outcome(chroot("/tmp"));
}

static int pivot_root_attack(void)
{
    if (control) {
        mkdir("/tmp/pivot", 0700);
        if (mount("tmpfs", "/tmp/pivot", "tmpfs", 0, NULL) < 0 || unshare(CLONE_NEWNS) < 0)
            return errno;
        if (chdir("/tmp/pivot") < 0)
            return errno;
    }
    return outcome(syscall(SYS_pivot_root, ".", "."));
}

static int load_module(void)
{
    /* Where modules are possible the call looks at the bytes, which are none. */
    long result = syscall(SYS_init_module, "none", 4, "");
    return result < 0 && errno == ENOEXEC ? 0 : outcome(result);
}

static int kexec(void)
{
    return outcome(syscall(SYS_kexec_load, 0, 0, NULL, 0x280000));
}

static int reboot_attack(void)
{
    /* Only turns Ctrl-Alt-Del off: the right to reboot is what counts. */
    return outcome(reboot(RB_DISABLE_CAD));
}

static int swap_attack(void)
{
    /* Where swapping is possible and allowed, the file is what is wrong. */
    int file = open("/tmp/swap", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(file);
    long result = swapon("/tmp/swap", 0);
    return result < 0 && errno == EINVAL ? 0 : outcome(result);
}

static int kernel_log(void)
{
    static char buffer[256];
    return outcome(klogctl(3, buffer, sizeof buffer));
}

static int kernel_log_device(void)
{
    return outcome(open("/dev/kmsg", O_RDONLY | O_CLOEXEC));
}

static int set_time(void)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    return outcome(settimeofday(&now, NULL));
}

static int set_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return outcome(clock_settime(CLOCK_REALTIME, &now));
}

static int adjust_clock(void)
{
    struct timex request = { .modes = ADJ_TICK, .tick = 10000 };
    return outcome(adjtimex(&request));
}

static int set_host_name(void)
{
    return outcome(sethostname("hostile", 7));
}

static int set_priority(void)
{
    return outcome(setpriority(PRIO_PROCESS, 0, -10));
}

static int real_time(void)
{
    struct sched_param parameters = { .sched_priority = 10 };
    return outcome(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &parameters));
}

static int lock_memory(void)
{
    static char page[4096];
    return outcome(mlock(page, sizeof page));
}

static int splice_attack(void)
{
    int pipes[2], file = open(self_path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || pipe(pipes) < 0)
        return errno;
    return outcome(syscall(SYS_splice, file, NULL, pipes[1], NULL, 64, 0));
}

static int usermode_helper(void)
{
    int file = open("/proc/sys/kernel/core_pattern", O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return errno;
    return outcome(write(file, "|/tmp/helper", 12));
}

static int system_request(void)
{
    return outcome(open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC));
}

static int physical_memory(void)
{
    return outcome(open("/dev/mem", O_RDONLY | O_CLOEXEC));
}

static int kernel_symbols(void)
{
    return outcome(open("/proc/kallsyms", O_RDONLY | O_CLOEXEC));
}

static int sysfs(void)
{
    return outcome(open("/sys/kernel", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int control_groups(void)
{
    if (control)
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL);
    return outcome(open("/sys/fs/cgroup/cgroup.procs", O_WRONLY | O_CLOEXEC));
}

static int raise_limit(void)
{
    struct rlimit limit = { 4096, 4096 };
    return outcome(setrlimit(RLIMIT_NOFILE, &limit));
}

static int process_accounting(void)
{
    int file = open("/tmp/accounting", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(file);
    return outcome(syscall(SYS_acct, "/tmp/accounting"));
}

static int inotify_exhaustion(void)
{
    for (int made = 0; made < 64; made++)
        if (inotify_init1(IN_CLOEXEC) < 0)
            return errno;
    return 0;
}

static int inheriting_futex(void)
{
    static uint32_t word;
    return outcome(syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
}

const struct attack kernel_attacks[] = {
    { "inheriting-futex", inheriting_futex },
    { "perf-event", perf_event },
    { "bpf", bpf },
    { "userfaultfd", userfaultfd },
    { "io-uring", io_uring },
    { "add-key", add_key },
    { "keyctl", keyctl },
    { "fanotify", fanotify },
    { "posix-queue", posix_queue },
    { "sysv-memory", sysv_memory },
    { "sysv-queue", sysv_queue },
    { "sysv-semaphore", sysv_semaphore },
    { "user-namespace", user_namespace },
    { "mount-namespace", mount_namespace },
    { "clone-namespace", clone_namespace },
    { "clone3-namespace", clone3_namespace },
    { "join-namespace", join_namespace },
    { "mount", mount_tmpfs },
    { "mount-by-descriptor", mount_by_descriptor },
    { "open-tree", open_tree },
    { "remount", remount_writable },
    { "unmount", unmount_attack },
    { "chroot", change_root },
    { "pivot-root", pivot_root_attack },
    { "load-module", load_module },
    { "kexec", kexec },
    { "reboot", reboot_attack },
    { "swap", swap_attack },
    { "kernel-log", kernel_log },
    { "kernel-log-device", kernel_log_device },
    { "set-time", set_time },
    { "set-clock", set_clock },
    { "adjust-clock", adjust_clock },
    { "set-host-name", set_host_name },
    { "set-priority", set_priority },
    { "real-time", real_time },
    { "lock-memory", lock_memory },
    { "splice", splice_attack },
    { "usermode-helper", usermode_helper },
    { "system-request", system_request },
    { "physical-memory", physical_memory },
    { "kernel-symbols", kernel_symbols },
    { "sysfs", sysfs },
    { "control-groups", control_groups },
    { "raise-limit", raise_limit },
    { "process-accounting", process_accounting },
    { "inotify-exhaustion", inotify_exhaustion },
    { NULL, NULL },
};

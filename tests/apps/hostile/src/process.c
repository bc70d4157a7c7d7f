/* Other processes, other identities, and more of everything than was granted. */
#include "hostile.h"
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

static int become_root(void)
{
    /* The control is root: there it has something to give up, and to take back. */
    return outcome(syscall(SYS_setresuid32, 0, 0, 0));
}

static int become_another(void)
{
    return outcome(syscall(SYS_setresuid32, 1002, 1002, 1002));
}

static int join_group(void)
{
    uint32_t groups[1] = { 0 };
    return outcome(syscall(SYS_setgroups32, 1, groups));
}

static int regain_capabilities(void)
{
    uint32_t header[2] = { 0x20080522, 0 };
    uint32_t sets[6] = { 1u << 21, 1u << 21, 0, 0, 0, 0 };
    return outcome(syscall(SYS_capset, header, sets));
}

static int has_capabilities(void)
{
    uint32_t header[2] = { 0x20080522, 0 }, sets[6] = { 0 };
    if (syscall(SYS_capget, header, sets) < 0)
        return errno;
    return sets[0] | sets[1] | sets[2] | sets[3] | sets[4] | sets[5] ? 0 : EPERM;
}

static int see_others(void)
{
    /* Of this namespace are the stub, the app and this attack; anything above is somebody else. */
    int seen = 0;
    for (pid_t process = 1; process < 1000; process++)
        if (kill(process, 0) == 0 || errno == EPERM)
            seen++;
    return seen > 3 ? 0 : ESRCH;
}

static int signal_stub(void)
{
    return outcome(kill(1, SIGWINCH));
}

static int kill_stub(void)
{
    if (control) {
        /* Not its own init: a process of somebody else. */
        pid_t child = fork();
        if (child == 0) {
            pause();
            _exit(0);
        }
        return outcome(kill(child, SIGKILL));
    }
    return outcome(kill(1, SIGKILL));
}

static int read_other_environment(void)
{
    return outcome(open("/proc/1/environ", O_RDONLY | O_CLOEXEC));
}

static int read_other_maps(void)
{
    return outcome(open("/proc/1/maps", O_RDONLY | O_CLOEXEC));
}

static int read_other_attributes(void)
{
    return outcome(open("/proc/1/attr/current", O_RDONLY | O_CLOEXEC));
}

static int read_own_descriptors(void)
{
    return outcome(open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int type_into_terminal(void)
{
    char byte = 'x';
    int terminal = control ? open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC) : 0;
    return outcome(ioctl(terminal, TIOCSTI, &byte));
}

static int control_terminal(void)
{
    int terminal = open("/dev/ttyAMA0", O_RDWR | O_CLOEXEC);
    // Another board's is called so.
    if (terminal < 0 && errno == ENOENT)
        terminal = open("/dev/ttyS0", O_RDWR | O_CLOEXEC);
    return outcome(terminal);
}

static int fork_bomb(void)
{
    pid_t children[64];
    int made = 0, error = 0;
    while (made < 64 && !error) {
        pid_t child = fork();
        if (child == 0) {
            pause();
            _exit(0);
        }
        if (child < 0)
            error = errno;
        else
            children[made++] = child;
    }
    while (made-- > 0) {
        kill(children[made], SIGKILL);
        waitpid(children[made], NULL, 0);
    }
    return error;
}

static void *idle(void *nothing)
{
    pause();
    return nothing;
}

static int thread_bomb(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    for (int made = 0; made < 64; made++) {
        int error = pthread_create(&thread, &attributes, idle, NULL);
        if (error)
            return error;
    }
    return 0;
}

static int descriptor_bomb(void)
{
    for (int made = 0; made < 512; made++)
        if (dup(0) < 0)
            return errno;
    return 0;
}

static int signal_bomb(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (int sent = 0; sent < 256; sent++) {
        union sigval value = { .sival_int = sent };
        if (sigqueue(getpid(), SIGRTMIN, value) < 0)
            return errno;
    }
    return 0;
}

static int timer_bomb(void)
{
    for (int made = 0; made < 256; made++) {
        timer_t timer;
        struct sigevent event = { .sigev_notify = SIGEV_NONE };
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
            return errno;
    }
    return 0;
}

static int pipe_bomb(void)
{
    int pipes[2];
    for (int made = 0; made < 256; made++)
        if (pipe(pipes) < 0)
            return errno;
    return 0;
}

/* The stub has the uid of the app: what it may open is its own affair. */
static int limits_of_stub(void)
{
    struct rlimit limit;
    if (prlimit(1, RLIMIT_NOFILE, NULL, &limit) < 0)
        return errno;
    return outcome(prlimit(1, RLIMIT_NOFILE, &limit, NULL));
}

/* A child of the process that this one is a child of. */
static int child_for_another(void)
{
    long child = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, NULL, 0, NULL);
    if (child == 0)
        _exit(0);
    return outcome(child);
}

const struct attack process_attacks[] = {
    { "become-root", become_root },
    { "become-another", become_another },
    { "join-group", join_group },
    { "regain-capabilities", regain_capabilities },
    { "has-capabilities", has_capabilities },
    { "see-others", see_others },
    { "signal-stub", signal_stub },
    { "kill-stub", kill_stub },
    { "read-other-environment", read_other_environment },
    { "read-other-maps", read_other_maps },
    { "read-other-attributes", read_other_attributes },
    { "read-own-descriptors", read_own_descriptors },
    { "type-into-terminal", type_into_terminal },
    { "control-terminal", control_terminal },
    { "fork-bomb", fork_bomb },
    { "thread-bomb", thread_bomb },
    { "descriptor-bomb", descriptor_bomb },
    { "signal-bomb", signal_bomb },
    { "timer-bomb", timer_bomb },
    { "pipe-bomb", pipe_bomb },
    { "limits-of-stub", limits_of_stub },
    { "child-for-another", child_for_another },
    { NULL, NULL },
};

/* Code that nobody signed: memory that is written and then executed. */
#include "hostile.h"
#include <sys/ptrace.h>
#include <sys/uio.h>

/* mov r0, #42; bx lr, in ARM state. */
static const uint32_t code[] = { 0xe3a0002a, 0xe12fff1e };

static int execute(void *place)
{
    __builtin___clear_cache(place, (char *)place + sizeof code);
    return ((int (*)(void))place)() == 42 ? 0 : EINVAL;
}

static int mmap_write_execute(void)
{
    void *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED)
        return errno;
    memcpy(place, code, sizeof code);
    return execute(place);
}

static int mmap_anonymous_execute(void)
{
    void *place = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return place == MAP_FAILED ? errno : 0;
}

static int mprotect_execute(void)
{
    void *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED)
        return errno;
    memcpy(place, code, sizeof code);
    if (mprotect(place, 4096, PROT_READ | PROT_EXEC) < 0)
        return errno;
    return execute(place);
}

static int pkey_mprotect_execute(void)
{
    void *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED)
        return errno;
    return outcome(syscall(SYS_pkey_mprotect, place, 4096, PROT_READ | PROT_EXEC, -1));
}

static int text_made_writable(void)
{
    uintptr_t page = (uintptr_t)&mmap_write_execute & ~(uintptr_t)4095;
    return outcome(mprotect((void *)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC));
}

static int personality_read_implies_exec(void)
{
    if (syscall(SYS_personality, 0x0400000) < 0)
        return errno;
    void *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED)
        return errno;
    memcpy(place, code, sizeof code);
    return execute(place);
}

static int write_file(const char *path, int *descriptor)
{
    char page[4096] = { 0 };
    memcpy(page, code, sizeof code);
    *descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    if (*descriptor < 0)
        return errno;
    return write(*descriptor, page, sizeof page) == sizeof page ? 0 : errno;
}

static int map_written_file(void)
{
    int file, error = write_file("/tmp/code", &file);
    if (error)
        return error;
    void *place = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    return place == MAP_FAILED ? errno : execute(place);
}

static int map_file_twice(void)
{
    int file, error = write_file("/tmp/code-twice", &file);
    if (error)
        return error;
    void *writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    void *place = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    if (writable == MAP_FAILED || place == MAP_FAILED)
        return errno;
    memcpy(writable, code, sizeof code);
    return execute(place);
}

static int map_storage_file(void)
{
    char path[64];
    int file;
    snprintf(path, sizeof path, "%s/code", storage);
    int error = write_file(path, &file);
    if (error)
        return error;
    void *place = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    error = place == MAP_FAILED ? errno : execute(place);
    unlink(path);
    return error;
}

static int remap_file_pages_attack(void)
{
    int file, error = write_file("/tmp/code-remap", &file);
    if (error)
        return error;
    void *place = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (place == MAP_FAILED)
        return errno;
    return outcome(syscall(SYS_remap_file_pages, place, 4096, 0, 0, 0));
}

static int memfd_map_execute(void)
{
    int file = syscall(SYS_memfd_create, "code", 0);
    if (file < 0)
        return errno;
    if (write(file, code, sizeof code) != sizeof code)
        return errno;
    void *place = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
    return place == MAP_FAILED ? errno : execute(place);
}

/* Writes to a constant of this program through a file of /proc. */
static const volatile uint32_t target[1024] = { 1 };

static int write_through(const char *path)
{
    uint32_t changed = 2;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return errno;
    if (pwrite(file, &changed, sizeof changed, (off_t)(uintptr_t)&target[0]) != sizeof changed)
        return errno;
    return target[0] == 2 ? 0 : EINVAL;
}

static int proc_self_mem(void)
{
    return write_through("/proc/self/mem");
}

static int proc_thread_self_mem(void)
{
    return write_through("/proc/thread-self/mem");
}

static int proc_task_mem(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/mem", (int)getpid());
    return write_through(path);
}

static int proc_pid_mem(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)getpid());
    return write_through(path);
}

static int proc_mem_reopened(void)
{
    int directory = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return errno;
    int file = openat(directory, "mem", O_RDWR | O_CLOEXEC);
    if (file < 0)
        return errno;
    uint32_t changed = 2;
    if (pwrite(file, &changed, sizeof changed, (off_t)(uintptr_t)&target[0]) != sizeof changed)
        return errno;
    return 0;
}

static int ptrace_traceme(void)
{
    return outcome(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0));
}

static pid_t sleeping_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        for (;;)
            pause();
    }
    return child;
}

static int ptrace_attach(void)
{
    pid_t child = sleeping_child();
    return child < 0 ? errno : outcome(syscall(SYS_ptrace, PTRACE_SEIZE, child, 0, 0));
}

static int process_vm_write(void)
{
    static char here[4];
    pid_t child = sleeping_child();
    struct iovec place = { here, sizeof here };
    return child < 0 ? errno : outcome(syscall(SYS_process_vm_writev, child, &place, 1, &place, 1, 0));
}

static int process_vm_read(void)
{
    static char here[4];
    pid_t child = sleeping_child();
    struct iovec place = { here, sizeof here };
    return child < 0 ? errno : outcome(syscall(SYS_process_vm_readv, child, &place, 1, &place, 1, 0));
}

static int pidfd_getfd(void)
{
    pid_t child = sleeping_child();
    if (child < 0)
        return errno;
    int process = syscall(SYS_pidfd_open, child, 0);
    return process < 0 ? errno : outcome(syscall(SYS_pidfd_getfd, process, 1, 0));
}

static int mdwe_undone(void)
{
    /* PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN off. */
    return outcome(syscall(SYS_prctl, 65, 0, 0, 0, 0));
}

const struct attack memory_attacks[] = {
    { "mmap-write-execute", mmap_write_execute },
    { "mmap-anonymous-execute", mmap_anonymous_execute },
    { "mprotect-execute", mprotect_execute },
    { "pkey-mprotect-execute", pkey_mprotect_execute },
    { "text-made-writable", text_made_writable },
    { "personality-read-implies-exec", personality_read_implies_exec },
    { "map-written-file", map_written_file },
    { "map-file-twice", map_file_twice },
    { "map-storage-file", map_storage_file },
    { "remap-file-pages", remap_file_pages_attack },
    { "memfd-map-execute", memfd_map_execute },
    { "proc-self-mem", proc_self_mem },
    { "proc-thread-self-mem", proc_thread_self_mem },
    { "proc-task-mem", proc_task_mem },
    { "proc-pid-mem", proc_pid_mem },
    { "proc-mem-reopened", proc_mem_reopened },
    { "ptrace-traceme", ptrace_traceme },
    { "ptrace-attach", ptrace_attach },
    { "process-vm-write", process_vm_write },
    { "process-vm-read", process_vm_read },
    { "pidfd-getfd", pidfd_getfd },
    { "mdwe-undone", mdwe_undone },
    { NULL, NULL },
};

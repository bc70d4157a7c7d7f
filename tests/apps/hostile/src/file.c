/* Files: what was not signed, what belongs to others, and more than there is room for. */
#include "hostile.h"
#include <dirent.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

/* Executes a file; what it was is then gone, so a child does it. */
static int execute(const char *path)
{
    int status, pipes[2], error = 0;
    if (pipe2(pipes, O_CLOEXEC) < 0)
        return errno;
    pid_t child = fork();
    if (child == 0) {
        execl(path, path, "was-executed", NULL);
        error = errno;
        _exit(write(pipes[1], &error, sizeof error) < 0);
    }
    close(pipes[1]);
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return errno;
    if (read(pipes[0], &error, sizeof error) == sizeof error)
        return error;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EINVAL;
}

static int exec_written_file(void)
{
    int error = copy_self("/tmp/written");
    return error ? error : execute("/tmp/written");
}

static int exec_from_storage(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s/written", storage);
    int error = copy_self(path);
    if (!error)
        error = execute(path);
    unlink(path);
    return error;
}

static int exec_setuid_copy(void)
{
    int error = copy_self("/tmp/setuid");
    if (!error && chmod("/tmp/setuid", 04755) < 0)
        error = errno;
    return error ? error : execute("/tmp/setuid");
}

static int exec_script(void)
{
    int file = open("/tmp/script", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    if (file < 0)
        return errno;
    dprintf(file, "#!%s was-executed\n", self_path);
    close(file);
    return execute("/tmp/script");
}

static int exec_memfd(void)
{
    static char buffer[65536];
    ssize_t length;
    int to = syscall(SYS_memfd_create, "program", 0);
    if (to < 0)
        return errno;
    int from = open(self_path, O_RDONLY | O_CLOEXEC);
    while ((length = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, length) != length)
            return errno;
    pid_t child = fork();
    if (child == 0) {
        char *arguments[] = { "program", "was-executed", NULL }, *environment[] = { NULL };
        syscall(SYS_execveat, to, "", arguments, environment, AT_EMPTY_PATH);
        _exit(errno);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINVAL;
}

static int exec_by_descriptor(void)
{
    int error = copy_self("/tmp/by-descriptor");
    if (error)
        return error;
    int file = open("/tmp/by-descriptor", O_PATH | O_CLOEXEC);
    char *arguments[] = { "program", "was-executed", NULL }, *environment[] = { NULL };
    pid_t child = fork();
    if (child == 0) {
        syscall(SYS_execveat, file, "", arguments, environment, AT_EMPTY_PATH);
        _exit(errno);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINVAL;
}

static int make_device(void)
{
    return outcome(mknod("/tmp/device", S_IFBLK | 0600, makedev(179, 0)));
}

static int open_flash(void)
{
    return outcome(open("/dev/mmcblk0", O_RDWR | O_CLOEXEC));
}

static int open_mapper(void)
{
    return outcome(open("/dev/mapper/control", O_RDWR | O_CLOEXEC));
}

static int open_console(void)
{
    return outcome(open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC));
}

static int change_own_program(void)
{
    return outcome(open(self_path, O_WRONLY | O_CLOEXEC));
}

static int write_root(void)
{
    const char *path = control ? "/run/new" : "/new";
    return outcome(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static int write_devices(void)
{
    return outcome(open("/dev/new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static int leave_root(void)
{
    int directory = open("../../../../sbin", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return outcome(directory);
}

static int leaked_descriptor(void)
{
    for (int number = 3; number < 256; number++)
        if (fcntl(number, F_GETFD) >= 0)
            return 0;
    return EBADF;
}

static int read_state(void)
{
    return outcome(open("/state", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int read_other_packages(void)
{
    return outcome(open("/apps", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int read_components(void)
{
    return outcome(open(control ? "/etc/holdfast/components" : "/../etc/holdfast/components",
                        O_RDONLY | O_CLOEXEC));
}

static int other_storage(void)
{
    /* Apps see their own directory as /data; beside it there is nothing. */
    return outcome(open("/data/../data/lost+found", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int open_by_handle(void)
{
    uint32_t handle[4] = { 8, 1, 2, 0 };
    int mount = open(storage, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (mount < 0)
        return errno;
    return outcome(syscall(SYS_open_by_handle_at, mount, handle, O_RDONLY));
}

/* Writes zeros to a file until something stops it, or until more is written than was granted. */
static int fill(const char *directory, size_t enough)
{
    static char block[4096];
    char path[64];
    size_t written = 0;
    snprintf(path, sizeof path, "%s/fill", directory);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0)
        return errno;
    int error = 0;
    memset(block, 1, sizeof block);
    while (!error && written < enough)
        if (write(file, block, sizeof block) < 0)
            error = errno;
        else
            written += sizeof block;
    close(file);
    unlink(path);
    return error;
}

static int fill_storage(void)
{
    return fill(storage, 4 << 20);
}

static int fill_temporary(void)
{
    return fill("/tmp", 4 << 20);
}

static int fill_devices(void)
{
    return fill("/dev", 4 << 20);
}

static int preallocate(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s/preallocated", storage);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0)
        return errno;
    int error = fallocate(file, 0, 0, 4 << 20) < 0 ? errno : 0;
    close(file);
    unlink(path);
    return error;
}

static int fill_unlinked(void)
{
    static char block[4096];
    char path[64];
    int error = 0;
    snprintf(path, sizeof path, "%s/unlinked", storage);
    for (int number = 0; number < 8 && !error; number++) {
        int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (file < 0)
            return errno;
        unlink(path);
        for (int written = 0; written < 128 && !error; written++)
            if (write(file, block, sizeof block) < 0)
                error = errno;
    }
    return error;
}

static int exhaust_inodes(void)
{
    char path[64];
    int error = 0, made = 0;
    for (; made < 1024 && !error; made++) {
        snprintf(path, sizeof path, "%s/inode-%d", storage, made);
        int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (file < 0)
            error = errno;
        close(file);
    }
    while (made-- > 0) {
        snprintf(path, sizeof path, "%s/inode-%d", storage, made);
        unlink(path);
    }
    return error;
}

static int leave_quota(void)
{
    char path[64];
    struct fsxattr attributes = { 0 };
    snprintf(path, sizeof path, "%s/project", storage);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        return errno;
    attributes.fsx_projid = 7;
    int error = outcome(ioctl(file, FS_IOC_FSSETXATTR, &attributes));
    close(file);
    unlink(path);
    return error;
}

static int stale_blocks(void)
{
    static char block[65536];
    char path[64];
    snprintf(path, sizeof path, "%s/stale", storage);
    int found = ENODATA, file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0)
        return errno;
    /* A hole, a preallocated extent, and the rest of a block behind the end. */
    if (ftruncate(file, 16384) < 0 || fallocate(file, 0, 16384, 32768) < 0 ||
        pwrite(file, "x", 1, 49152) != 1 || ftruncate(file, 53248) < 0)
        return errno;
    ssize_t length = pread(file, block, sizeof block, 0);
    for (ssize_t at = 0; at < length; at++)
        if (block[at] != 0 && at != 49152)
            found = 0;
    close(file);
    unlink(path);
    return found;
}

static int extended_attribute(void)
{
    char path[64];
    snprintf(path, sizeof path, "%s/attribute", storage);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int error = outcome(fsetxattr(file, "user.x", "x", 1, 0));
    close(file);
    unlink(path);
    return error;
}

static int replace_storage(void)
{
    if (control && (mkdir("/run/storage", 0700) < 0 && errno != EEXIST))
        return errno;
    return outcome(rename(control ? "/run/storage" : storage, control ? "/run/moved" : "/moved"));
}

static int link_out_of_storage(void)
{
    /* The link may be made; what it leads to is looked up in the app's own root. */
    char path[64];
    snprintf(path, sizeof path, "%s/link", storage);
    unlink(path);
    if (symlink("/sbin/init", path) < 0)
        return errno;
    int error = outcome(open(path, O_RDONLY | O_CLOEXEC));
    unlink(path);
    return error;
}

/* Not an attack that could succeed: every length of random bytes is filled to its end. */
static int short_random(void)
{
    for (size_t length = 1; length <= 257; length++) {
        unsigned char bytes[257 + 8];
        bool filled = false;
        for (int attempt = 0; attempt < 8 && !filled; attempt++) {
            memset(bytes, 0, sizeof bytes);
            if (getrandom(bytes, length, 0) != (ssize_t)length)
                return 0;
            filled = bytes[length - 1] != 0;
        }
        if (!filled)
            return 0;
    }
    return ENODATA;
}

/* All components have the same standard input, and a lock on it would be in the way of each that closes it. */
static int lock_standard_input(void)
{
    struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1 };
    return outcome(fcntl(0, F_SETLK, &lock));
}

const struct attack file_attacks[] = {
    { "lock-standard-input", lock_standard_input },
    { "exec-written-file", exec_written_file },
    { "exec-from-storage", exec_from_storage },
    { "exec-setuid-copy", exec_setuid_copy },
    { "exec-script", exec_script },
    { "exec-memfd", exec_memfd },
    { "exec-by-descriptor", exec_by_descriptor },
    { "make-device", make_device },
    { "open-flash", open_flash },
    { "open-mapper", open_mapper },
    { "open-console", open_console },
    { "change-own-program", change_own_program },
    { "write-root", write_root },
    { "write-devices", write_devices },
    { "leave-root", leave_root },
    { "leaked-descriptor", leaked_descriptor },
    { "read-state", read_state },
    { "read-other-packages", read_other_packages },
    { "read-components", read_components },
    { "other-storage", other_storage },
    { "open-by-handle", open_by_handle },
    { "fill-storage", fill_storage },
    { "fill-temporary", fill_temporary },
    { "fill-devices", fill_devices },
    { "preallocate", preallocate },
    { "fill-unlinked", fill_unlinked },
    { "exhaust-inodes", exhaust_inodes },
    { "leave-quota", leave_quota },
    { "stale-blocks", stale_blocks },
    { "extended-attribute", extended_attribute },
    { "replace-storage", replace_storage },
    { "link-out-of-storage", link_out_of_storage },
    { "short-random", short_random },
    { NULL, NULL },
};

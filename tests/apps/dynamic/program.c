/* A program with its loader and libraries in its package: it must run, and the loader must not run
 * what the program has written. As in tests/apps/hostile, the control runs it without a plan. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOADER "/lib/ld-linux-armhf.so.3"
#define PROGRAM "/bin/app"
#define LIBRARY "/lib/libgreeting.so"

const char *greeting(void);

static int copy(const char *from, const char *to)
{
    static char buffer[65536];
    ssize_t length;
    int source = open(from, O_RDONLY | O_CLOEXEC);
    int target = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    if (source < 0 || target < 0)
        return errno;
    while ((length = read(source, buffer, sizeof buffer)) > 0)
        if (write(target, buffer, length) != length)
            return errno;
    close(source);
    return close(target) < 0 ? errno : 0;
}

/* Executes a program that ends with 0 where the attack has succeeded. The loader says in words alone
 * which error it has met: mapping a file for execution is refused with EPERM. */
static int execute(const char *path, char *const arguments[], const char *preload)
{
    char said[512] = "";
    size_t used = 0;
    ssize_t length;
    int status, pipes[2];
    if (pipe(pipes) < 0)
        return errno;
    pid_t child = fork();
    if (child < 0)
        return errno;
    if (child == 0) {
        dup2(pipes[1], 2);
        close(pipes[0]);
        close(pipes[1]);
        if (preload)
            setenv("LD_PRELOAD", preload, 1);
        execv(path, arguments);
        _exit(errno);
    }
    close(pipes[1]);
    while (used < sizeof said - 1 && (length = read(pipes[0], said + used, sizeof said - 1 - used)) > 0)
        used += length;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (strstr(said, "failed to map segment from shared object"))
        return EPERM;
    printf("the loader says: %s\n", said);
    return WIFEXITED(status) ? WEXITSTATUS(status) : ECANCELED;
}

static int loader_runs_written_program(void)
{
    char *arguments[] = { LOADER, "/tmp/program", "was-executed", NULL };
    int error = copy(PROGRAM, "/tmp/program");
    return error ? error : execute(LOADER, arguments, NULL);
}

static int preload_written_library(void)
{
    char *arguments[] = { PROGRAM, "was-preloaded", NULL };
    int error = copy(LIBRARY, "/tmp/preload.so");
    return error ? error : execute(PROGRAM, arguments, "/tmp/preload.so");
}

static int load_written_library(void)
{
    int error = copy(LIBRARY, "/tmp/plugin.so");
    if (error)
        return error;
    if (dlopen("/tmp/plugin.so", RTLD_NOW))
        return 0;
    return strstr(dlerror(), "failed to map segment from shared object") ? EPERM : ECANCELED;
}

/* True where the file of this path is mapped. */
static int is_loaded(const char *path)
{
    return dlopen(path, RTLD_NOW | RTLD_NOLOAD) != NULL;
}

static void attack(const char *name, int error)
{
    if (error)
        printf("attack %s errno %d\n", name, error);
    else
        printf("attack %s succeeded\n", name);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "was-executed") == 0)
        return 0;
    if (argc > 1 && strcmp(argv[1], "was-preloaded") == 0)
        return is_loaded("/tmp/preload.so") ? 0 : 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%s\n", greeting());
    attack("loader-runs-written-program", loader_runs_written_program());
    attack("preload-written-library", preload_written_library());
    attack("load-written-library", load_written_library());
    printf("dynamic attacks are over\n");
    return 0;
}

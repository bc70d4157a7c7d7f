/* Uses as much as it can of everything that components share, all at once: processors, the console, the notify socket,
 * processes, memory and storage. Each attack is a process that goes on for as long as it is let; now and then the app ends with a pipe
 * full of output, and is started again. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIPE_BYTES = 65536, SECONDS = 5 };

static void spin(void)
{
    for (volatile unsigned long count = 0;; count++)
        ;
}

/* Bytes that the console shows as four characters each. */
static void print(void)
{
    char line[240];
    memset(line, 0xff, sizeof line);
    line[sizeof line - 1] = '\n';
    for (;;)
        if (write(STDOUT_FILENO, line, sizeof line) < 0)
            usleep(1000);
}

static void notify(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path || strlen(path) >= sizeof address.sun_path)
        return;
    strcpy(address.sun_path, path);
    for (;;) {
        int from = socket(AF_UNIX, SOCK_DGRAM, 0);
        for (int sent = 0; sent < 64; sent++)
            sendto(from, "READY=1\nSTATUS=crowding", 23, 0, (void *)&address, sizeof address);
        close(from);
    }
}

/* Processes that end at once, half of them as orphans, under names that begin a line. */
static void fork_and_end(void)
{
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_NAME, "\ninit: forged");
            if (fork() == 0)
                usleep(1000);
            _exit(0);
        }
        if (child > 0)
            waitpid(child, NULL, 0);
    }
}

/* All that its limit has, again and again, in a process that the kernel takes first. */
static void fill_memory(void)
{
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            int file = open("/proc/self/oom_score_adj", O_WRONLY);
            if (file >= 0 && write(file, "1000", 4) < 0)
                close(file);
            for (;;) {
                char *page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (page == MAP_FAILED)
                    usleep(1000);
                else
                    memset(page, 1, 65536);
            }
        }
        if (child > 0)
            waitpid(child, NULL, 0);
    }
}

static void write_and_sync(void)
{
    static const char block[4096];
    for (;;) {
        int file = open("/data/block", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (file < 0)
            return;
        for (int times = 0; times < 16; times++)
            if (pwrite(file, block, sizeof block, 0) > 0)
                fsync(file);
        close(file);
        rename("/data/block", "/data/renamed");
        unlink("/data/renamed");
    }
}

int main(void)
{
    static void (*const attacks[])(void) = { spin, print, notify, fork_and_end, fill_memory, write_and_sync };
    static char last[PIPE_BYTES];
    printf("begins\n");
    fflush(stdout);
    for (size_t attack = 0; attack < sizeof attacks / sizeof *attacks; attack++)
        if (fork() == 0) {
            attacks[attack]();
            _exit(1);
        }
    sleep(SECONDS);
    memset(last, 0xff, sizeof last);
    fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK);
    while (write(STDOUT_FILENO, last, sizeof last) > 0)
        ;
    _exit(1);
}

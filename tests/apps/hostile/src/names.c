/* Names that begin a line of the kernel's log, or drive the terminal that shows it. */
#include "hostile.h"
#include <sys/prctl.h>
#include <sys/time.h>

/* More than the machine has: the kernel says who asked for it. */
static void ask_for_too_much(void)
{
    size_t too_much = 0x60000000;
    void *memory = mmap(NULL, too_much, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED)
        munmap(memory, too_much);
}

static void by_own_name(void)
{
    prctl(PR_SET_NAME, "\ninit: forged 1");
    ask_for_too_much();
    prctl(PR_SET_NAME, "\x1b[7mforged 2");
    ask_for_too_much();
    /* The kernel's own line begins with the name: no newline is needed. */
    prctl(PR_SET_NAME, "init: forged 3");
    syscall(SYS_setitimer, ITIMER_REAL, NULL, NULL);
}

void was_executed_by_name(void)
{
    ask_for_too_much();
    _exit(0);
}

static void by_the_name_of_a_link(void)
{
    const char *link = "/tmp/\ninit: forged 4";
    if (symlink(self_path, link) == 0)
        execl(link, link, "by-name", NULL);
    printf("names: cannot be executed by the name of a link: %s\n", strerror(errno));
}

void forge_lines(void)
{
    static void (*const ways[])(void) = {
        by_own_name, by_the_name_of_a_link,
    };
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        pid_t child = fork();
        if (child == 0) {
            ways[way]();
            _exit(0);
        }
        if (child < 0 || waitpid(child, NULL, 0) != child)
            printf("names: cannot be tried: %s\n", strerror(errno));
    }
    unlink("/tmp/\ninit: forged 4");
}

/* Runs every attack in a process of its own and prints one line for each:
 *
 *     attack NAME succeeded | errno N | signal N
 *
 * As an app it shows what its plan stops. As PID 1 (of an image that only the harness can sign) it is
 * the control, which shows that the attacks can succeed. */
#include "hostile.h"
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>

bool control;
const char *storage = "/data";
const char *self_path = "/app/bin/app";

int copy_self(const char *path)
{
    static char buffer[65536];
    ssize_t length;
    int from = open(self_path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return errno;
    int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    if (to < 0)
        return errno;
    while ((length = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, length) != length)
            return errno;
    fchmod(to, 0700);
    close(from);
    return close(to) < 0 ? errno : 0;
}

static void run(const struct attack *attack)
{
    int status;
    pid_t child = fork();
    if (child < 0) {
        printf("attack %s could not be tried: fork: %s\n", attack->name, strerror(errno));
        return;
    }
    if (child == 0) {
        /* Whatever an attack leaves behind ends with its process group. */
        setsid();
        alarm(20);
        _exit(attack->run());
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    kill(-child, SIGKILL);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    if (WIFSIGNALED(status))
        printf("attack %s signal %d\n", attack->name, WTERMSIG(status));
    else if (WEXITSTATUS(status) == 0)
        printf("attack %s succeeded\n", attack->name);
    else
        printf("attack %s errno %d\n", attack->name, WEXITSTATUS(status));
}

/* The control is init of a bare machine: everything mounted, nothing restrained. */
static void set_up_control(void)
{
    control = true;
    self_path = "/bin/hostile";
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("tmpfs", "/tmp", "tmpfs", 0, "size=16m");
    mount("tmpfs", "/run", "tmpfs", 0, "size=1m");
    /* The data partition, without its quota. */
    if (mount("/dev/mmcblk0p8", "/data", "ext4", 0, NULL) < 0)
        printf("control: no data partition: %s\n", strerror(errno));
    /* A descriptor that somebody forgot. */
    if (open("/", O_RDONLY | O_DIRECTORY) < 0)
        printf("control: no descriptor: %s\n", strerror(errno));
}

int main(int argc, char **argv)
{
    static const struct attack *const groups[] = {
        memory_attacks, kernel_attacks, file_attacks, process_attacks, socket_attacks,
    };
    if (argc > 1 && strcmp(argv[1], "was-executed") == 0)
        return 0;
    if (argc > 1 && strcmp(argv[1], "by-name") == 0)
        was_executed_by_name();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (getpid() == 1)
        set_up_control();
    /* First: the kernel prints only so many such lines in a while. */
    forge_lines();
    lock_files();
    for (size_t group = 0; group < sizeof groups / sizeof *groups; group++)
        for (const struct attack *attack = groups[group]; attack->name; attack++)
            run(attack);
    if (control && fork() == 0) {
        execl("/bin/app", "/bin/app", NULL);
        _exit(1);
    }
    while (control && wait(NULL) > 0)
        ;
    printf("the attacks are over\n");
    if (control) {
        sync();
        reboot(RB_POWER_OFF);
    }
    return 0;
}

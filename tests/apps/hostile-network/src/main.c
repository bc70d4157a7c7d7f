/* Runs every attack on the network in a process of its own and prints one line for each:
 *
 *     attack NAME succeeded | errno N | signal N
 *
 * As an app it shows what its plan and the firewall stop. As PID 1 (of an image that only the harness
 * can sign) it is the control, with the network device to itself, which shows that the attacks can
 * succeed. */
#include "network.h"
#include <signal.h>
#include <sys/mount.h>
#include <sys/reboot.h>

bool control;

static void run(const struct attack *attack)
{
    int status;
    pid_t child = fork();
    if (child < 0) {
        printf("attack %s could not be tried: fork: %s\n", attack->name, strerror(errno));
        return;
    }
    if (child == 0) {
        setsid();
        alarm(60);
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

/* No attack: what the grant of a service is for. Its host is open once it was found, and not before. */
static void use_discovery(void)
{
    enum { A = 1, PTR = 12, SRV = 33 };
    char address[64] = "10.77.0.71";
    int before = talk_tcp(address, 9100), too_early = ask(name_server(), "printer.local", A, NULL);
    int instances = ask(name_server(), "_printer._tcp.local", PTR, NULL);
    int instance = ask(name_server(), "Front desk._printer._tcp.local", SRV, NULL);
    int host = ask(name_server(), "printer.local", A, address);
    printf("discovery: before %d %d, instances %d, instance %d, host %d, connected %d\n", before,
           too_early, instances, instance, host, talk_tcp(address, 9100));
}

/* An IPv4 address where an ioctl wants one. */
static void put_address(struct sockaddr *place, const char *text)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    inet_pton(AF_INET, text, &address.sin_addr);
    memcpy(place, &address, sizeof address);
}

static void set_up_device(const char *name, const char *address, const char *mask)
{
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = { 0 };
    strcpy(request.ifr_name, name);
    put_address(&request.ifr_addr, address);
    if (ioctl(any, SIOCSIFADDR, &request) < 0)
        printf("control: no address for %s: %s\n", name, strerror(errno));
    put_address(&request.ifr_netmask, mask);
    ioctl(any, SIOCSIFNETMASK, &request);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(any, SIOCSIFFLAGS, &request) < 0)
        printf("control: %s stays down: %s\n", name, strerror(errno));
    close(any);
}

/* The control is init of a bare machine: its network device is up, and nothing filters. */
static void set_up_control(void)
{
    control = true;
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    set_up_device("lo", "127.0.0.1", "255.0.0.0");
    set_up_device("eth0", "10.77.0.50", "255.255.255.0");
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
    put_address(&route.rt_dst, "0.0.0.0");
    put_address(&route.rt_genmask, "0.0.0.0");
    put_address(&route.rt_gateway, "10.77.0.1");
    if (ioctl(any, SIOCADDRT, &route) < 0)
        printf("control: no route: %s\n", strerror(errno));
    close(any);
    /* The router's advertisement gives it an address of the other version. */
    for (int tries = 0; tries < 100 && talk_tcp("2001:db8::7", 443) != 0; tries++)
        usleep(100000);
}

int main(void)
{
    static const struct attack *const groups[] = {
        name_attacks, packet_attacks, neighbour_attacks,
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (getpid() == 1)
        set_up_control();
    else
        /* The lease and the router's advertisement are there. */
        while (ask(name_server(), "service.example.com", 1, NULL) != 0)
            usleep(200000);
    if (!control)
        use_discovery();
    for (size_t group = 0; group < sizeof groups / sizeof *groups; group++)
        for (const struct attack *attack = groups[group]; attack->name; attack++)
            run(attack);
    printf("the attacks on the network are over\n");
    if (control) {
        sync();
        reboot(RB_POWER_OFF);
    }
    return 0;
}

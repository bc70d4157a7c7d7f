/* Sockets: out of the device, into the kernel, and to other components. */
#include "hostile.h"
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/un.h>

static int try_socket(int family, int type, int protocol)
{
    return outcome(socket(family, type | SOCK_CLOEXEC, protocol));
}

static int internet(void)
{
    return try_socket(AF_INET, SOCK_STREAM, 0);
}

static int internet_datagrams(void)
{
    return try_socket(AF_INET, SOCK_DGRAM, 0);
}

static int raw_internet(void)
{
    return try_socket(AF_INET, SOCK_RAW, 1);
}

static int raw_packets(void)
{
    return try_socket(AF_PACKET, SOCK_RAW, 0x0300);
}

static int netlink(void)
{
    return try_socket(AF_NETLINK, SOCK_RAW, 0);
}

static int kernel_crypto(void)
{
    return try_socket(AF_ALG, SOCK_SEQPACKET, 0);
}

static int connect_to(const struct sockaddr_un *address, socklen_t length)
{
    int connection = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connection < 0)
        return errno;
    return outcome(connect(connection, (const struct sockaddr *)address, length));
}

/* In the control there is nobody else, so it binds what it then reaches. */
static int bind_in_control(const struct sockaddr_un *address, socklen_t length)
{
    int server = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (server < 0)
        return errno;
    return outcome(bind(server, (const struct sockaddr *)address, length));
}

static int abstract_socket(void)
{
    /* The probe, which shares the system's network namespace, listens there. */
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "\0holdfast-probe" };
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + 15;
    if (control && bind_in_control(&address, length))
        return errno;
    return connect_to(&address, length);
}

static int path_socket(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/notify/hello/notify" };
    if (control) {
        mkdir("/run/notify", 0700);
        mkdir("/run/notify/hello", 0700);
        if (bind_in_control(&address, sizeof address))
            return errno;
    }
    return connect_to(&address, sizeof address);
}

static int out_of_band(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return errno;
    return outcome(send(pair[0], "!", 1, MSG_OOB));
}

/* What waits to be accepted is on nobody's account: an app that has no port listens to nobody. */
static int listen_to_itself(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "\0hostile" };
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 8) < 0)
        return errno;
    return outcome(listen(server, 4096));
}

/* A program that the kernel runs for every packet. */
static int packet_filter(void)
{
    struct sock_filter takes_all = BPF_STMT(BPF_RET | BPF_K, 0xffff);
    struct sock_fprog program = { .len = 1, .filter = &takes_all };
    int datagrams = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return outcome(setsockopt(datagrams, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
}

const struct attack socket_attacks[] = {
    { "internet", internet },
    { "internet-datagrams", internet_datagrams },
    { "raw-internet", raw_internet },
    { "raw-packets", raw_packets },
    { "netlink", netlink },
    { "kernel-crypto", kernel_crypto },
    { "abstract-socket", abstract_socket },
    { "path-socket", path_socket },
    { "out-of-band", out_of_band },
    { "listen-to-itself", listen_to_itself },
    { "packet-filter", packet_filter },
    { NULL, NULL },
};

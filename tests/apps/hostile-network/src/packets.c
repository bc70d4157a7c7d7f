/* Packets that no socket of an app's makes, and more of them than one app may have. */
#include "network.h"

static int raw_socket(void)
{
    return outcome(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
}

static int packet_socket(void)
{
    return outcome(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(3)));
}

static int ping_socket(void)
{
    if (control) {
        /* The kernel lends such sockets to groups that it names; root is none of them yet. */
        FILE *file = fopen("/proc/sys/net/ipv4/ping_group_range", "we");
        if (file) {
            fputs("0 0", file);
            fclose(file);
        }
    }
    return outcome(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP));
}

/* A protocol beside TCP and UDP: Multipath TCP, or what stands for it where there is none. */
static int other_protocol(void)
{
    return outcome(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, 99));
}

/* Says that it is the router, to whoever listens on its link. */
static int router_advertisement(void)
{
    struct nd_router_advert advertisement = { .nd_ra_type = ND_ROUTER_ADVERT };
    struct sockaddr_storage everybody;
    socklen_t length = address_of("ff02::1", 0, &everybody);
    int six = socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6);
    if (six < 0)
        return errno;
    int hops = 255;
    setsockopt(six, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof hops);
    ((struct sockaddr_in6 *)&everybody)->sin6_port = 0;
    return outcome(sendto(six, &advertisement, sizeof advertisement, 0,
                          (struct sockaddr *)&everybody, length));
}

/* Sends as somebody else. */
static int spoofed_source(void)
{
    struct sockaddr_storage other, to;
    socklen_t length = address_of("198.51.100.1", 4000, &other);
    int one = 1, any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (any < 0 || setsockopt(any, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof one) < 0)
        return errno;
    if (bind(any, (struct sockaddr *)&other, length) < 0)
        return errno;
    length = address_of("203.0.113.9", 5000, &to);
    return outcome(sendto(any, "spoofed", 7, 0, (struct sockaddr *)&to, length));
}

/* As before, without asking for a power: the kernel finds no way out for such a source. */
static int borrowed_source(void)
{
    struct sockaddr_storage other, to;
    socklen_t length = address_of("198.51.100.1", 4001, &other);
    int one = 1, any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (any < 0 || setsockopt(any, IPPROTO_IP, control ? IP_TRANSPARENT : IP_FREEBIND, &one, sizeof one) < 0)
        return errno;
    if (bind(any, (struct sockaddr *)&other, length) < 0)
        return errno;
    length = address_of("203.0.113.9", 5000, &to);
    return outcome(sendto(any, "borrowed", 8, 0, (struct sockaddr *)&to, length));
}

/* Puts itself into the neighbour table as somebody else. */
static int poisoned_neighbour(void)
{
    struct arpreq request = { .arp_flags = ATF_PERM | ATF_COM };
    struct sockaddr_in address = { .sin_family = AF_INET };
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, control ? "10.77.0.66" : "198.18.0.1", &address.sin_addr);
    memcpy(&request.arp_pa, &address, sizeof address);
    request.arp_ha.sa_family = ARPHRD_ETHER;
    strcpy(request.arp_dev, "eth0");
    return outcome(ioctl(any, SIOCSARP, &request));
}

/* Gives its device another address. */
static int other_address(void)
{
    struct ifreq request = { 0 };
    struct sockaddr_in address = { .sin_family = AF_INET };
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strcpy(request.ifr_name, control ? "lo" : "eth0");
    inet_pton(AF_INET, control ? "127.0.0.2" : "198.18.0.9", &address.sin_addr);
    memcpy(&request.ifr_addr, &address, sizeof address);
    return outcome(ioctl(any, SIOCSIFADDR, &request));
}

/* Sends to everybody of a group, and waits for somebody who has heard it. */
static int call_group(const char *group, uint16_t port, const char *text)
{
    struct sockaddr_storage address;
    socklen_t length = address_of(group, port, &address);
    struct timeval patience = { .tv_sec = 2 };
    char back[16];
    int one = 1, any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(any, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
    setsockopt(any, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (sendto(any, text, strlen(text), 0, (struct sockaddr *)&address, length) < 0)
        return errno;
    return outcome(recv(any, back, sizeof back, 0)) ? ETIMEDOUT : 0;
}

static int multicast(void)
{
    return call_group("239.1.2.3", 1900, "multicast");
}

static int link_names(void)
{
    return call_group("224.0.0.251", 5353, "mdns leak");
}

static int broadcast(void)
{
    return call_group("255.255.255.255", 1900, "broadcast");
}

/* More connections than one app may have, all to where it may connect. */
static int many_connections(void)
{
    enum { CONNECTIONS = 200 };
    struct timeval patience = { .tv_sec = 1 };
    static int sockets[CONNECTIONS];
    int answered = 0;
    for (int i = 0; i < CONNECTIONS; i++) {
        struct sockaddr_storage to;
        socklen_t length = address_of("203.0.113.100", 5000, &to);
        sockets[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        setsockopt(sockets[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (sockets[i] < 0 || connect(sockets[i], (struct sockaddr *)&to, length) < 0)
            return errno;
        send(sockets[i], "more", 4, MSG_NOSIGNAL);
    }
    usleep(500000);
    for (int i = 0; i < CONNECTIONS; i++)
        if (recv(sockets[i], (char[8]){ 0 }, 8, MSG_DONTWAIT) > 0)
            answered++;
    return answered == CONNECTIONS ? 0 : EAGAIN;
}

/* Connections to itself that it never accepts: what is sent by them is on nobody's account. */
static int unaccepted(void)
{
    enum { PORT = 9100, CONNECTIONS = 64 };
    static const char bytes[40000];
    struct sockaddr_storage address;
    socklen_t length = address_of("127.0.0.1", PORT, &address);
    int one = 1, server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(PORT) };
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(server, (struct sockaddr *)&any, sizeof any) < 0 || listen(server, 4096) < 0)
        return errno;
    for (int i = 0; i < CONNECTIONS; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(client, (struct sockaddr *)&address, length) < 0)
            return errno;
        send(client, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        close(client);
    }
    return 0;
}

static int many_sockets(void)
{
    for (int i = 0; i < 1000; i++)
        if (socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) < 0)
            return errno;
    return 0;
}

const struct attack packet_attacks[] = {
    { "network-raw-socket", raw_socket },
    { "network-packet-socket", packet_socket },
    { "network-ping-socket", ping_socket },
    { "network-other-ip-protocol", other_protocol },
    { "network-router-advertisement", router_advertisement },
    { "network-spoofed-source", spoofed_source },
    { "network-borrowed-source", borrowed_source },
    { "network-poisoned-neighbour", poisoned_neighbour },
    { "network-other-address", other_address },
    { "network-multicast", multicast },
    { "network-mdns-leak", link_names },
    { "network-broadcast", broadcast },
    { "network-many-connections", many_connections },
    { "network-unaccepted", unaccepted },
    { "network-many-sockets", many_sockets },
    { NULL, NULL },
};

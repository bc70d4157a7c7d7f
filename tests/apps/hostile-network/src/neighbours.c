/* Neighbours: other apps, services, and the device itself. The control has none, so its way out leads
 * to somebody who answers for them all. */
#include "network.h"

/* The addresses of the first apps of a device, and of the system towards them (one of which is this
 * app's own gateway). */
static int any_of(const char *form, uint16_t port, int first, int step)
{
    int error = 0;
    for (int last = first; last < 12; last += step) {
        char address[64];
        snprintf(address, sizeof address, form, last);
        int met = talk_tcp(address, port);
        if (met == 0)
            return 0;
        /* Its own address refuses by itself, having no such port. */
        if (met != ECONNREFUSED)
            error = met;
    }
    return error;
}

static int other_app(void)
{
    return any_of("198.18.0.%d", 8080, 1, 2);
}

static int other_app_six(void)
{
    return any_of("fd68:6f6c:6466:%d::1", 8080, 0, 1);
}

static int other_app_by_name(void)
{
    return ask(name_server(), control ? "tunnel.example.com" : "tcp-server.app.internal", 1, NULL);
}

static int service_of_device(void)
{
    return any_of("198.18.0.%d", 22, 0, 2);
}

static int lease_port_of_device(void)
{
    return talk_udp(name_server(), control ? 1068 : 68);
}

static int own_uplink(void)
{
    return talk_tcp(control ? "10.77.0.51" : "10.77.0.50", 8080);
}

/* Somebody who listens on the system's loopback; in the control it is this program. */
static int system_loopback(void)
{
    struct sockaddr_storage address;
    socklen_t length = address_of("127.0.0.1", 7, &address);
    if (!control)
        return talk_tcp("127.0.0.1", 7);
    int server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(server, (struct sockaddr *)&address, length) < 0)
        return errno;
    int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return outcome(sendto(client, "x", 1, 0, (struct sockaddr *)&address, length));
}

static int router(void)
{
    return talk_tcp("10.77.0.1", 80);
}

static int link_local_router(void)
{
    return talk_tcp("fe80::1", 80);
}

static int port_grab(void)
{
    struct sockaddr_storage any;
    socklen_t length = address_of("0.0.0.0", 8080, &any);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return outcome(bind(server, (struct sockaddr *)&any, length));
}

const struct attack neighbour_attacks[] = {
    { "network-other-app", other_app },
    { "network-other-app-v6", other_app_six },
    { "network-other-app-by-name", other_app_by_name },
    { "network-service-of-device", service_of_device },
    { "network-lease-port-of-device", lease_port_of_device },
    { "network-own-uplink", own_uplink },
    { "network-system-loopback", system_loopback },
    { "network-router", router },
    { "network-link-local-router", link_local_router },
    { "network-port-grab", port_grab },
    { NULL, NULL },
};

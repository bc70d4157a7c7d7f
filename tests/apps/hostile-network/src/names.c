/* Names: reaching what none of them grants, and using them to carry something else. */
#include "network.h"

enum { A = 1, NULL_RECORD = 10, TXT = 16, AAAA = 28, SRV = 33 };

/* An address that nobody has asked for by its name. */
static int by_address(void)
{
    return talk_tcp("203.0.113.8", 443);
}

static int by_address_six(void)
{
    return talk_tcp("2001:db8::8", 443);
}

/* The name is granted for one port only. */
static int other_port(void)
{
    char address[64];
    int error = ask(name_server(), "service.example.com", A, address);
    return error ? error : talk_tcp(address, 444);
}

static int other_protocol(void)
{
    char address[64];
    int error = ask(name_server(), "service.example.com", A, address);
    return error ? error : talk_udp(address, 443);
}

/* An address that was open, when its time is over. The firewall's shortest time is 30 seconds. */
static int expired_address(void)
{
    char address[64];
    int error = ask(name_server(), "service.example.com", A, address);
    if (!error)
        error = talk_tcp(address, 443);
    if (error)
        return EPROTO; /* It never was open: this is not the attack. */
    sleep(control ? 1 : 32);
    return talk_tcp(address, 443);
}

/* A granted name that leads to the router. */
static int rebinding(void)
{
    char address[64] = "";
    int error = ask(name_server(), "rebind.example.com", A, address);
    return error ? error : talk_tcp(address, 80);
}

/* A granted public name that leads to a neighbour, who has a public address as well. */
static int near_by_name(void)
{
    char address[64] = "";
    int error = ask(name_server(), "rebind.example.com", AAAA, address);
    return error ? error : talk_tcp(address, 80);
}

/* A neighbour says that an instance of the granted service is on a host elsewhere: the way out. */
static int instance_elsewhere(void)
{
    char address[64] = "";
    int error = ask(name_server(), "Back office._printer._tcp.local", SRV, NULL);
    if (error)
        return EPROTO; /* The neighbour was not heard: this is not the attack. */
    error = ask(name_server(), "elsewhere.local", A, address);
    return error ? error : talk_tcp(address, 9100);
}

/* Another port of a host on which an instance was found. */
static int instance_other_port(void)
{
    char address[64] = "";
    int error = ask(name_server(), "Front desk._printer._tcp.local", SRV, NULL);
    if (!error)
        error = ask(name_server(), "printer.local", A, address);
    return error ? EPROTO : talk_tcp(address, 9101);
}

static int tunnel_text(void)
{
    return ask(name_server(), "service.example.com", TXT, NULL);
}

static int tunnel_null(void)
{
    return ask(name_server(), "service.example.com", NULL_RECORD, NULL);
}

static int tunnel_long_labels(void)
{
    return ask(name_server(),
               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa."
               "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.tunnel.example.com",
               A, NULL);
}

static int tunnel_subdomain(void)
{
    return ask(name_server(), "secret.service.example.com", A, NULL);
}

static int other_name_server(void)
{
    return ask("203.0.113.53", "tunnel.example.com", A, NULL);
}

static int system_name_server(void)
{
    return ask("10.77.0.53", "tunnel.example.com", A, NULL);
}

static int names_over_tcp(void)
{
    return talk_tcp("203.0.113.53", 53);
}

static int names_over_tls(void)
{
    return talk_tcp("203.0.113.53", 853);
}

static int names_over_https(void)
{
    return talk_tcp("203.0.113.53", 443);
}

/* A slow client of the proxy holds a connection open. */
static int slow_drip(void)
{
    return talk_tcp(name_server(), 53);
}

/* Nobody else on the local link but instances of the granted service. */
static int other_link_name(void)
{
    return ask(name_server(), control ? "tunnel.example.com" : "nas.local", A, NULL);
}

/* The proxy asked more than it answers: some of it gets no answer. */
static int name_flood(void)
{
    struct sockaddr_storage address;
    socklen_t length = address_of(name_server(), 53, &address);
    static const uint8_t question[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                      "\x07service\x07" "example\x03" "com\x00\x00\x01\x00\x01";
    struct timeval patience = { .tv_sec = 2 };
    int connection = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), answers = 0;
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, length) < 0)
        return errno;
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (int sent = 0; sent < 200; sent++) {
        send(connection, question, sizeof question - 1, MSG_NOSIGNAL);
        /* The control's server answers as fast as it is asked. */
        if (control && recv(connection, &(uint8_t[512]){ 0 }, 512, 0) > 0)
            answers++;
    }
    while (recv(connection, &(uint8_t[512]){ 0 }, 512, 0) > 0)
        answers++;
    return answers >= 200 ? 0 : EAGAIN;
}

const struct attack name_attacks[] = {
    { "network-by-address", by_address },
    { "network-by-address-v6", by_address_six },
    { "network-other-port", other_port },
    { "network-other-protocol", other_protocol },
    { "network-expired-address", expired_address },
    { "network-rebinding", rebinding },
    { "network-near-by-name", near_by_name },
    { "network-instance-elsewhere", instance_elsewhere },
    { "network-instance-other-port", instance_other_port },
    { "network-tunnel-txt", tunnel_text },
    { "network-tunnel-null", tunnel_null },
    { "network-tunnel-long-labels", tunnel_long_labels },
    { "network-tunnel-subdomain", tunnel_subdomain },
    { "network-other-name-server", other_name_server },
    { "network-system-name-server", system_name_server },
    { "network-names-over-tcp", names_over_tcp },
    { "network-names-over-tls", names_over_tls },
    { "network-names-over-https", names_over_https },
    { "network-slow-drip", slow_drip },
    { "network-other-link-name", other_link_name },
    { "network-name-flood", name_flood },
    { NULL, NULL },
};

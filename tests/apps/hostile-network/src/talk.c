/* Talking to others: TCP, UDP and names. */
#include "network.h"

static const struct timeval patience = { .tv_sec = 2 };

static void be_patient(int connection)
{
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

socklen_t address_of(const char *text, uint16_t port, struct sockaddr_storage *address)
{
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        return sizeof *four;
    }
    inet_pton(AF_INET6, text, &six->sin6_addr);
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    if (IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr) || IN6_IS_ADDR_MC_LINKLOCAL(&six->sin6_addr))
        six->sin6_scope_id = control ? if_nametoindex("eth0") : 2;
    return sizeof *six;
}

/* Silence is one error, whatever the call that met it. */
static int met(void)
{
    return errno == EAGAIN || errno == EINPROGRESS ? ETIMEDOUT : errno;
}

static int echo(int connection)
{
    char back[8] = "";
    if (send(connection, "attack\n", 7, MSG_NOSIGNAL) < 0
        || recv(connection, back, sizeof back - 1, 0) < 0)
        return met();
    return strcmp(back, "attack\n") == 0 ? 0 : EBADMSG;
}

static int talk(const char *text, uint16_t port, int type)
{
    struct sockaddr_storage address;
    socklen_t length = address_of(text, port, &address);
    int connection = socket(address.ss_family, type | SOCK_CLOEXEC, 0);
    if (connection < 0)
        return errno;
    be_patient(connection);
    int error = 0;
    if (connect(connection, (struct sockaddr *)&address, length) < 0)
        error = met();
    if (!error)
        error = echo(connection);
    close(connection);
    return error;
}

int talk_tcp(const char *address, uint16_t port)
{
    return talk(address, port, SOCK_STREAM);
}

int talk_udp(const char *address, uint16_t port)
{
    return talk(address, port, SOCK_DGRAM);
}

const char *name_server(void)
{
    static char server[64];
    if (control)
        return "10.77.0.53";
    FILE *file = fopen("/etc/resolv.conf", "re");
    char line[128];
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "nameserver %63s", server) == 1)
            break;
    if (file)
        fclose(file);
    return server;
}

/* Steps over a name in a message. */
static size_t skip_name(const uint8_t *message, size_t at, size_t length)
{
    while (at < length && message[at] && message[at] < 0xc0)
        at += message[at] + 1;
    return at + (at < length && message[at] >= 0xc0 ? 2 : 1);
}

int ask(const char *server, const char *name, uint16_t type, char *found)
{
    uint8_t message[512] = { 0x12, 0x34, 1, 0, 0, 1 };
    size_t length = 12;
    while (*name) {
        size_t label = strcspn(name, ".");
        message[length++] = label;
        memcpy(message + length, name, label);
        length += label;
        name += label + (name[label] == '.');
    }
    message[length++] = 0;
    message[length++] = type >> 8;
    message[length++] = type;
    message[length++] = 0;
    message[length++] = 1;
    size_t question = length;
    struct sockaddr_storage address;
    socklen_t address_length = address_of(server, 53, &address);
    int connection = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connection < 0)
        return errno;
    be_patient(connection);
    ssize_t received = -1;
    if (connect(connection, (struct sockaddr *)&address, address_length) == 0
        && send(connection, message, length, MSG_NOSIGNAL) >= 0)
        received = recv(connection, message, sizeof message, 0);
    int error = received < 0 ? met() : 0;
    close(connection);
    if (error)
        return error;
    if (received < 12 || (message[3] & 15) != 0 || (message[6] | message[7]) == 0)
        return ENODATA;
    size_t at = question;
    for (int answers = message[6] << 8 | message[7]; answers > 0 && found; answers--) {
        at = skip_name(message, at, received);
        if (at + 10 > (size_t)received)
            break;
        size_t data = message[at + 8] << 8 | message[at + 9];
        at += 10;
        if (data == 4 && at + 4 <= (size_t)received)
            inet_ntop(AF_INET, message + at, found, 64);
        else if (type == 28 && data == 16 && at + 16 <= (size_t)received)
            inet_ntop(AF_INET6, message + at, found, 64);
        at += data;
    }
    return 0;
}

/* The client of examples/device-to-device in C: greets that app at the addresses that its arguments name behind the least rollback
 * index of a peer's release. */
#include <arpa/inet.h>
#include <errno.h>
#include <holdfast_identity.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define PORT 4433
#define GREETING "hello"
#define GREETING_BYTES (sizeof GREETING - 1)
/* For a certificate, before it is said that there is none yet. */
#define CERTIFICATE_PATIENCE_MS 300000
#define EVERY_S 5

/* For a connection to be made, and for each word. */
static const struct timeval patience = { .tv_sec = 10 };

/* Connects to an address; returns a socket, or -1 after saying what is wrong. */
static int connect_to(const char *address)
{
    struct sockaddr_in place = { .sin_family = AF_INET, .sin_port = htons(PORT) };
    int connection;

    if (inet_pton(AF_INET, address, &place.sin_addr) != 1) {
        printf("%s: is no address\n", address);
        return -1;
    }
    connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0 || setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0
        || setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0
        || connect(connection, (struct sockaddr *)&place, sizeof place) < 0) {
        printf("%s: %s\n", address, strerror(errno));
        if (connection >= 0)
            close(connection);
        return -1;
    }
    return connection;
}

/* Hears the greeting; returns 0, or -1 where the peer says something else. */
static int hear(holdfast_connection *connection, struct holdfast_error *error)
{
    char heard[GREETING_BYTES];
    size_t at = 0;

    while (at < sizeof heard) {
        ssize_t length = holdfast_read(connection, heard + at, sizeof heard - at, error);
        if (length < 0)
            return -1;
        if (length == 0)
            break;
        at += length;
    }
    if (at == sizeof heard && !memcmp(heard, GREETING, sizeof heard))
        return 0;
    snprintf(error->text, sizeof error->text, "the peer does not return the greeting");
    return -1;
}

static void greet(const holdfast_identity *identity, const char *address, const struct holdfast_policy *policy)
{
    struct holdfast_error error;
    struct holdfast_peer peer;
    holdfast_connection *connection;
    int socket = connect_to(address);

    if (socket < 0)
        return;
    connection = holdfast_connect_peer(identity, socket, policy, &error);
    if (connection && !holdfast_write(connection, GREETING, GREETING_BYTES, &error) && !hear(connection, &error)
        && !holdfast_peer_of(connection, &peer, &error))
        printf("%s: device %s with release %s (rollback index %llu) answers C\n", address, peer.device, peer.version,
               (unsigned long long)peer.rollback_index);
    else
        printf("%s: code %d: %s\n", address, (int)error.code, error.text);
    if (connection)
        holdfast_close(connection);
}

int main(int argc, char **argv)
{
    struct holdfast_error error;
    struct holdfast_peer own;
    struct holdfast_policy policy = { .least_rollback_index = argc > 1 ? strtoull(argv[1], NULL, 10) : 0 };
    holdfast_identity *identity;

    setvbuf(stdout, NULL, _IOLBF, 0);
    identity = holdfast_identity_new(&error);
    if (!identity) {
        printf("%s\n", error.text);
        return 1;
    }
    while (holdfast_identity_wait(identity, CERTIFICATE_PATIENCE_MS, &own, &error))
        printf("%s\n", error.text);
    printf("this is device %s, in C\n", own.device);
    policy.component = own.component;
    for (;;) {
        for (int index = 2; index < argc; index++)
            greet(identity, argv[index], &policy);
        sleep(EVERY_S);
    }
}

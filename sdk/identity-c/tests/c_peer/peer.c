/* One side of a connection, whose socket is standard input: `peer ADDRESS connect|connect-and-wait|accept LEAST`. Says who the peer is, or why there
 * is none, by its code. */
#define _GNU_SOURCE
#include <holdfast_identity.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int say(const char *what, const struct holdfast_error *error)
{
    printf("%s %d %s\n", what, error->code, error->text);
    return error->code == HOLDFAST_OK ? 0 : 1;
}

/* What is wrong with arguments is said, and nothing is touched. */
static int misuse(const char *address)
{
    struct holdfast_error error;
    struct holdfast_policy policy = { .component = "camera" };
    holdfast_identity *identity = holdfast_identity_new_at(address, &error);

    say("new", &error);
    holdfast_identity_free(holdfast_identity_new(&error));
    say("grant", &error);
    holdfast_identity_wait(NULL, 0, NULL, &error);
    say("null", &error);
    holdfast_connect_peer(identity, dup(0), &policy, &error);
    say("component", &error);
    policy = (struct holdfast_policy){ .device = "de" };
    holdfast_connect_peer(identity, dup(0), &policy, &error);
    say("device", &error);
    policy = (struct holdfast_policy){ .grades = 16 };
    holdfast_accept_peer(identity, dup(0), &policy, &error);
    say("grades", &error);
    holdfast_accept_peer(identity, -1, &policy, &error);
    say("socket", &error);
    holdfast_connect_server(identity, dup(0), "broker.example.com", "/nonexistent.pem", &error);
    say("authorities", &error);
    /* Nobody has to want to know why. */
    holdfast_connect_peer(identity, dup(0), NULL, NULL);
    holdfast_read(NULL, NULL, 1, NULL);
    holdfast_close(NULL);
    holdfast_identity_free(NULL);
    holdfast_identity_free(identity);
    return 0;
}

int main(int argc, char **argv)
{
    struct holdfast_error error = { .code = -1 };
    struct holdfast_peer own, peer;
    struct holdfast_policy policy = { .grades = HOLDFAST_GRADE_HARDWARE | HOLDFAST_GRADE_HARDWARE_VERIFIED };
    char heard[5] = "";
    ssize_t length;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && !strcmp(argv[2], "misuse"))
        return misuse(argv[1]);
    if (argc != 4)
        return 2;
    holdfast_identity *identity = holdfast_identity_new_at(argv[1], &error);
    if (!identity || holdfast_identity_wait(identity, 20000, &own, &error))
        return say("identity", &error);
    policy.least_rollback_index = strtoull(argv[3], NULL, 10);
    holdfast_connection *connection = !strncmp(argv[2], "connect", strlen("connect")) ? holdfast_connect_peer(identity, dup(0), &policy, &error)
                                                                  : holdfast_accept_peer(identity, dup(0), &policy, &error);
    if (!connection)
        return say("connection", &error);
    /* The peer closes the connection, which is what the write then meets. */
    struct pollfd closed = { .fd = 0, .events = POLLRDHUP };
    if (!strcmp(argv[2], "connect-and-wait") && poll(&closed, 1, 20000) != 1)
        return 2;
    if (holdfast_write(connection, "hello", sizeof heard, &error))
        return say("write", &error);
    for (size_t at = 0; at < sizeof heard; at += length) {
        length = holdfast_read(connection, heard + at, sizeof heard - at, &error);
        if (length <= 0)
            return say("read", &error);
    }
    if (memcmp(heard, "hello", sizeof heard) || holdfast_peer_of(connection, &peer, &error))
        return say("peer", &error);
    printf("own %s %s\n", own.device, own.component);
    printf("peer %s %s %s %s %u %llu\n", peer.catalog, peer.device, peer.component, peer.version, (unsigned)peer.grade,
           (unsigned long long)peer.rollback_index);
    printf("until %llu\n", (unsigned long long)holdfast_identity_until(identity));
    holdfast_close(connection);
    holdfast_identity_free(identity);
    return 0;
}

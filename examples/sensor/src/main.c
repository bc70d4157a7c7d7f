/* An app in C that sends a reading to a collector every few seconds, and tells the app `tcp-server`
 * on the same device about it.
 *
 * Its manifest grants one name and one port (AllowedConnections); the name is asked for each time,
 * because its addresses are open only for as long as the name says. The other app is reached by
 * NAME.app.internal, since both manifests name each other (AllowedApplicationConnections). */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* Connects to a name; returns a socket, or -1 after saying what is wrong. */
static int connect_to(const char *host, const char *port)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found;
    int error = getaddrinfo(host, port, &hints, &found), connection = -1;
    if (error) {
        printf("%s: %s\n", host, gai_strerror(error));
        return -1;
    }
    for (struct addrinfo *one = found; one && connection < 0; one = one->ai_next) {
        struct timeval patience = { .tv_sec = 5 };
        connection = socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, 0);
        if (connection < 0)
            continue;
        setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (connect(connection, one->ai_addr, one->ai_addrlen) < 0) {
            error = errno;
            close(connection);
            connection = -1;
        }
    }
    if (connection < 0)
        printf("%s: %s\n", host, strerror(error));
    freeaddrinfo(found);
    return connection;
}

/* Sends a line and waits for the same line to come back. */
static void tell(const char *host, const char *port, const char *line)
{
    char answer[128] = "";
    int connection = connect_to(host, port);
    if (connection < 0)
        return;
    ssize_t length = strlen(line);
    if (send(connection, line, length, MSG_NOSIGNAL) != length
        || recv(connection, answer, sizeof answer - 1, 0) != length)
        printf("%s: no answer\n", host);
    else
        printf("%s has taken reading %s", host, answer);
    close(connection);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned reading = 1;; reading++) {
        char line[32];
        snprintf(line, sizeof line, "%u\n", reading);
        tell("collector.example.com", "7000", line);
        tell("tcp-server.app.internal", "8080", line);
        sleep(2);
    }
}

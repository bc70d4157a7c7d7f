/* Has whoever receives a descriptor from it wait.
 *
 * The last close of a TCP socket that lingers waits until its peer has taken what was sent. Here the peer is somebody outside who
 * takes nothing. The socket goes to NOTIFY_SOCKET. Its sender ends at once, and a process that ends waits for no close. Whether the
 * receiver is the last to close it is a race, so it is tried until datagrams are left unread. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TRIES = 100, A_DAY = 86400, MORE_THAN_A_QUEUE = 32, PATIENCE = 600 };

static void must(bool done, const char *what)
{
    if (!done) {
        printf("cannot %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

/* Sends one datagram to the notify socket, with a descriptor if there is one; returns 0 or what went wrong. */
static int notify(int descriptor)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = getenv("NOTIFY_SOCKET");
    must(path && strlen(path) < sizeof address.sun_path, "find the notify socket");
    strcpy(address.sun_path, path);
    char text[] = "STATUS=lingering";
    struct iovec part = { text, sizeof text - 1 };
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct msghdr message = {
        .msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &part, .msg_iovlen = 1,
    };
    if (descriptor >= 0) {
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof descriptor);
        memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
    }
    int from = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(from >= 0, "make a socket");
    int error = sendmsg(from, &message, MSG_DONTWAIT) < 0 ? errno : 0;
    close(from);
    return error;
}

/* True when nobody takes datagrams from the socket any more. */
static bool is_unheard(void)
{
    for (int times = 0; times < 5; times++) {
        for (int sent = 0; sent < MORE_THAN_A_QUEUE && notify(-1) == 0; sent++)
            ;
        usleep(200000);
        if (notify(-1) != EAGAIN)
            return false;
    }
    return true;
}

/* A connection whose peer acknowledges nothing of what was sent. */
static int connect_to_deaf(void)
{
    static const char bytes[65536];
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(9) };
    struct linger linger = { .l_onoff = 1, .l_linger = A_DAY };
    int full = -1;
    inet_pton(AF_INET, "203.0.113.9", &address.sin_addr);
    /* There is a way out a moment later. */
    for (int waited = 0; full < 0; waited++) {
        full = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        must(full >= 0, "make a socket");
        if (connect(full, (struct sockaddr *)&address, sizeof address) == 0)
            break;
        must(waited < PATIENCE, "connect");
        close(full);
        full = -1;
        usleep(100000);
    }
    while (send(full, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    must(setsockopt(full, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0, "linger");
    return full;
}

/* Hands one such socket over. */
static int hand_over(void)
{
    int full = connect_to_deaf(), status;
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
        usleep(20000); /* Until its parent has closed it: then this copy is the last. */
        _exit(notify(full));
    }
    close(full);
    must(waitpid(child, &status, 0) == child, "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int tries = 1; tries <= TRIES; tries++) {
        int error = hand_over();
        if (error != 0)
            printf("try %d: refused, errno %d\n", tries, error);
        if (error == 0 && is_unheard()) {
            printf("try %d: taken, and nobody hears it any more\n", tries);
            for (;;)
                pause();
        }
    }
    printf("it is still heard\n");
    return 0;
}

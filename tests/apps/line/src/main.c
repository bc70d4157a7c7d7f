/* Writes to its serial line until that takes nothing any more for a second, and ends: what is left is not sent before the
 * line is closed, and not before it is opened for its next start. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 3, WAIT_MS = 1000 };

int main(void)
{
    static const char bytes[256];
    struct pollfd line = { .fd = LINE, .events = POLLOUT };
    unsigned long written = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("begins\n");
    if (fcntl(LINE, F_SETFL, O_NONBLOCK) < 0) {
        printf("cannot set its line: %s\n", strerror(errno));
        return 1;
    }
    while (poll(&line, 1, WAIT_MS) > 0) {
        ssize_t taken = write(LINE, bytes, sizeof bytes);
        if (taken < 0 && errno != EAGAIN) {
            printf("cannot write: %s\n", strerror(errno));
            return 1;
        }
        if (taken > 0)
            written += (unsigned long)taken;
    }
    printf("the line is full after %lu bytes\n", written);
    return 0;
}

/* Writes to its storage and has it on the medium, again and again, as fast as that goes: little room is worn out as well
 * as much. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 8, SAY_EVERY = 256 };

int main(void)
{
    static char page[PAGE];
    int file = open("/data/storm", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (file < 0) {
        printf("cannot open its file: %s\n", strerror(errno));
        return 1;
    }
    for (unsigned long written = 0;; written++) {
        memset(page, (int)written, sizeof page);
        if (pwrite(file, page, sizeof page, (off_t)(written % PAGES) * PAGE) < 0 || fsync(file) < 0) {
            printf("cannot write: %s\n", strerror(errno));
            return 1;
        }
        if (written % SAY_EVERY == 0)
            printf("written and synced %lu times\n", written);
    }
}

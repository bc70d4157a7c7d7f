/* Takes locks on files until it is ended: each is memory of the kernel. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* In each file they are a list that is gone through for every other. Together they are four times the app's memory. */
enum { FILES = 48, LOCKS_IN_A_FILE = 4000 };

int main(void)
{
    int files[FILES], taken = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int number = 0; number < FILES; number++) {
        char path[32];
        snprintf(path, sizeof path, "/tmp/%d", number);
        files[number] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    for (int number = 0; number < LOCKS_IN_A_FILE; number++) {
        for (int file = 0; file < FILES; file++) {
            /* From the end, with a byte between them that keeps them apart. */
            struct flock lock = {
                .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2 * (LOCKS_IN_A_FILE - number), .l_len = 1,
            };
            if (fcntl(files[file], F_SETLK, &lock) < 0) {
                printf("took %d locks, then: %s\n", taken, strerror(errno));
                return 0;
            }
            taken++;
        }
    }
    printf("took all of %d locks\n", taken);
    for (;;)
        pause();
}

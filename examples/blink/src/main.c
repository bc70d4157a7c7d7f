/* Blinks a light and counts on a serial line, with the two descriptors that its manifest grants. It never
 * opens a device: init has, and says in LISTEN_FDNAMES which descriptor is what, from 3 on. */

#define _DEFAULT_SOURCE
#include <linux/gpio.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

/* The descriptor of a peripheral, by its name without `$`. */
static int granted(const char *name)
{
    const char *names = getenv("LISTEN_FDNAMES");
    size_t length = strlen(name);
    for (int number = 3; names; number++) {
        if (strncmp(names, name, length) == 0 && (names[length] == ':' || names[length] == '\0'))
            return number;
        names = strchr(names, ':');
        if (names)
            names++;
    }
    printf("no %s among what is granted\n", name);
    exit(1);
}

/* Tells init that the app is ready: sd_notify(3). */
static void ready(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const char *path = getenv("NOTIFY_SOCKET");
    int notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (!path || notify < 0)
        return;
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    sendto(notify, "READY=1", 7, 0, (struct sockaddr *)&address, sizeof address);
    close(notify);
}

int main(void)
{
    int light = granted("LED_RED"), line = granted("UART3");
    struct gpio_v2_line_config output = { .flags = GPIO_V2_LINE_FLAG_OUTPUT };
    struct termios settings;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (ioctl(light, GPIO_V2_LINE_SET_CONFIG_IOCTL, &output) < 0) {
        perror("cannot make the light an output");
        return 1;
    }
    if (tcgetattr(line, &settings) < 0 || cfsetspeed(&settings, B115200) < 0 ||
        tcsetattr(line, TCSANOW, &settings) < 0) {
        perror("cannot set the line's speed");
        return 1;
    }
    ready();
    for (unsigned count = 1;; count++) {
        struct gpio_v2_line_values values = { .bits = count % 2, .mask = 1 };
        struct pollfd heard = { .fd = line, .events = POLLIN };
        char byte;

        if (ioctl(light, GPIO_V2_LINE_SET_VALUES_IOCTL, &values) < 0) {
            perror("cannot set the light");
            return 1;
        }
        dprintf(line, "blink %u\r\n", count);
        if (count <= 3)
            printf("blink %u\n", count);
        if (poll(&heard, 1, 500) > 0 && read(line, &byte, 1) == 1)
            printf("heard %c\n", byte);
    }
}

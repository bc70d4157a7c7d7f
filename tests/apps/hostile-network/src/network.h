/* What every attack on the network shares. */
#ifndef NETWORK_H
#define NETWORK_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* An attack runs in a process of its own. It returns 0 when it has succeeded, and otherwise the
 * number of the error that stopped it. */
struct attack {
    const char *name;
    int (*run)(void);
};

/* True in the control: the same program as PID 1 of a machine without any of the defences. */
extern bool control;

extern const struct attack name_attacks[];
extern const struct attack packet_attacks[];
extern const struct attack neighbour_attacks[];

/* The result of a system call as the result of an attack. */
static inline int outcome(long result)
{
    return result < 0 ? errno : 0;
}

/* An address and a port as a socket address; returns its length. */
socklen_t address_of(const char *text, uint16_t port, struct sockaddr_storage *address);
/* Connects by TCP, sends a line and gets it back: 0, or what went wrong. */
int talk_tcp(const char *address, uint16_t port);
/* Sends a datagram and gets it back: 0, or what went wrong; silence is ETIMEDOUT. */
int talk_udp(const char *address, uint16_t port);
/* Asks a name server: 0 when there is an answer, ENODATA when there is none. The first address of the
 * answer goes to `found`, if there is one. */
int ask(const char *server, const char *name, uint16_t type, char *found);
/* The name server that resolv.conf names. */
const char *name_server(void);

#endif

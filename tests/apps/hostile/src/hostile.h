/* What every attack shares. */
#ifndef HOSTILE_H
#define HOSTILE_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* An attack runs in a process of its own. It returns 0 when it has succeeded, and otherwise the
 * number of the error that stopped it. */
struct attack {
    const char *name;
    int (*run)(void);
};

/* True in the control: the same program as PID 1 of a machine without any of the defences. */
extern bool control;
/* Where an attack may write: storage with a quota, or its stand-in. */
extern const char *storage;
/* This program's own file. */
extern const char *self_path;

extern const struct attack memory_attacks[];
extern const struct attack kernel_attacks[];
extern const struct attack file_attacks[];
extern const struct attack process_attacks[];
extern const struct attack socket_attacks[];

/* Has the kernel print names that this program chose, in every way that is known. */
void forge_lines(void);
/* What a program that was executed by such a name does. */
void was_executed_by_name(void);
/* Says of each kind of lock on a file whether another process meets it, and whether it does when it was released. */
void lock_files(void);

/* The result of a system call as the result of an attack. */
static inline int outcome(long result)
{
    return result < 0 ? errno : 0;
}

/* Copies this program's file to `path`, executable; returns an error number or 0. */
int copy_self(const char *path);

#endif

/* Starting a program without copying this process, and without waiting until it has begun.
 *
 *   parent: rw_spawn_start --clone--> child, in the parent's memory
 *     |  goes on                        | group, signals, folder, files, exec: system calls only
 *     |                                 v
 *     `--- rw_spawn_left: it has left this memory: is another program, or has ended
 *
 * Hazard: until it has left, the child reads what a launch points to, and runs on its stack. */
#ifndef RW_SPAWN_H
#define RW_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "atomics.h"

enum {
    RW_SPAWN_STREAMS = 3,   /* standard input, output, error */
    RW_SPAWN_STACK = 16384, /* bytes; it takes some hundreds */
};

/* What the child was at when it failed. */
enum rw_spawn_step {
    RW_SPAWN_FOLDER = 1,
    RW_SPAWN_STREAM = 2, /* and up to 2 more: one a stream */
    RW_SPAWN_EXEC = 5,
};

struct rw_spawn {
    /* Set by the caller. */
    char *const *paths;                  /* tried in turn */
    char *const *argv, *const *envp;     /* these, too, end with NULL */
    const char *folder;                  /* to run in; NULL: the parent's */
    const char *files[RW_SPAWN_STREAMS]; /* made or emptied, and written to; NULL: the descriptor */
    int fds[RW_SPAWN_STREAMS];           /* -1: what the parent has under that number */
    uint64_t handled;                    /* from rw_spawn_handled, and still true */

    /* Written by the child before it ends, and by nobody if the program began. */
    int error; /* errno of the step that failed */
    int step;

    /* Of this launch alone. */
    rw_a32 inside; /* 0 once the child has left: the kernel's store */
    pid_t parent;
    bool tied;     /* to the calling thread, as a program as well */
    uint64_t mask; /* of the calling thread, for the program */
    _Alignas(16) uint8_t stack[RW_SPAWN_STACK];
};

/* Signals that this process handles, or ignores and a program expects to be ended by: SIGPIPE and
 * SIGXFSZ. Bit 0 is signal 1. Takes 64 calls, so whose handlers stay as they are asks once. */
uint64_t rw_spawn_handled(void);

/* Start a program in a process group of its own; with wait, return when it has begun or failed.
 * pre: the caller's part is set; it stays as it is until rw_spawn_left.
 * post: RW_OK: *pid is a child of this process, for it to reap, *pidfd an open descriptor of it;
 *       without wait its failure is told by error, once it has left. It ends then with 127.
 *       RW_OS: errno tells; there is no child.
 * The program finds the calling thread's signal mask, what was handled as by default, and no
 * descriptor above 2. Until it begins it dies with the calling thread. Without wait it does so
 * afterwards, too, unless its file has rights of its own: many may be on their way to their
 * programs, where nothing tells whose they are. */
int rw_spawn_start(struct rw_spawn *spawn, bool wait, pid_t *pid, int *pidfd);

/* Whether the child no longer uses this memory. */
bool rw_spawn_left(const struct rw_spawn *spawn);

/* Take note of an end, and kill what the program left in its group.
 * pre: it has ended. Until this, its number is its group's.
 * post: RW_OK, or RW_OS: errno tells; it is no child of this process. */
int rw_spawn_reap(pid_t pid, int *status, struct rusage *used);

#endif

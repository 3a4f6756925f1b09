/* The template: a process that forks a pool's workers when told to, reaps them and tells of it.
 *
 * It runs no Python, so it touches few of the pages that it shares with the process it was forked
 * from, and a worker comes up as if that process had forked it. Messages are those of
 * ringwalk.workers.messages. */
#ifndef RW_TEMPLATE_H
#define RW_TEMPLATE_H

#include <sys/types.h>

/* Be the template of a process, over a socket: fork a worker for a slot when told. Returns in each
 * worker, which is killed when the template ends: its slot. Never returns in the template. It ends
 * when told to, after the workers, which get a moment to leave by themselves; and when the owner
 * ends, after it killed them.
 * pre: single-threaded, the owner is a living process.
 * In a worker all signals but SIGTERM are blocked, and their handlers are still the caller's. */
int rw_template_run(int control, pid_t owner, int workers);

#endif

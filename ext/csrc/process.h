/* The few process calls that Python's standard library does not offer. */
#ifndef RW_PROCESS_H
#define RW_PROCESS_H

#include <sys/types.h>

/* Have the kernel send signum to this process when the thread that forked it ends, and check
 * that the parent is still the expected one: it may have died before the call.
 * RW_OK; RW_STALE: the parent is gone already; RW_OS.
 * Hazard: the signal is tied to the forking *thread* and is not inherited by fork. */
int rw_process_die_with_parent(int signum, pid_t expected_parent);

/* Whether a thread of this process runs, or waits for a processor, at this moment. 0 also when it
 * is gone, and where there is no /proc to tell. */
int rw_process_thread_runs(pid_t tid);

#endif

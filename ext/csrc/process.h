/* The few process calls that Python's standard library does not offer. */
#ifndef RW_PROCESS_H
#define RW_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* Have the kernel send signum to this process when the thread that forked it ends, and check
 * that the parent is still the expected one: it may have died before the call.
 * RW_OK; RW_STALE: the parent is gone already; RW_OS.
 * Hazard: the signal is tied to the forking *thread* and is not inherited by fork. */
int rw_process_die_with_parent(int signum, pid_t expected_parent);

/* Have the kernel resume this process, should it be stopped, when the thread that forked it ends,
 * so that it can see whether its parent did. Unlike a signal that ends it, this is for processes
 * that outlive that thread: it does nothing to one that runs, and is sent again when the next
 * thread of the parent, to which the kernel then hands the process over, ends as well. */
void rw_process_resume_without_parent(void);

/* Whether a thread of this process runs, or waits for a processor, at this moment. False also when
 * it is gone, and where there is no /proc to tell. */
bool rw_process_thread_runs(pid_t tid);

/* Whether every thread of this process but the caller, those of libraries included, sleeps until
 * something wakes it. One that the kernel holds up in a page fault or in mmap does not: it goes on
 * by itself, with what it was computing. True also where there is no /proc to tell. */
bool rw_process_others_rest(void);

/* Make this process undumpable: only a privileged one can then open its memory or descriptors, by
 * ptrace, /proc or pidfd_getfd. RW_OK; RW_OS.
 * Holds for the process for good and for its forks; exec and a change of user id decide anew.
 * Hazard: what somebody opened before stays open. For itself, too, the files in /proc/self belong
 * to root then: an unprivileged process cannot write its own oom_score_adj. */
int rw_process_harden(void);

/* Whether the kernel gave this program rights that its caller has not: set-user-ID and the like. */
bool rw_process_is_elevated(void);

/* Objects loaded into this process since it began, those unloaded again included. */
unsigned long long rw_process_libraries_loaded(void);

/* Ask to be killed before others when memory runs out. Raising one's own score needs no privilege;
 * where /proc is read-only, nothing happens. */
void rw_process_prefer_as_victim(void);

/* Have malloc keep what is freed for the next use, up to 512 MiB a process, here and in forks.
 * Another C library than glibc has its own ways. */
void rw_process_keep_freed_memory(void);

/* Become the parent of descendants whose own parent ends, in the place of init.
 * RW_OK; RW_OS. Is not inherited by fork; whoever calls it has to reap what it is given. */
int rw_process_adopt_orphans(void);

#endif

/* The two futex calls, on a word shared between processes. */
#ifndef RW_FUTEX_H
#define RW_FUTEX_H

#include "atomics.h"

/* Sleep while *word == expected, at most until deadline_ns (CLOCK_MONOTONIC, absolute;
 * negative: for ever). RW_OK also for a spurious wake-up; RW_TIMEOUT; RW_INTERRUPTED. */
int rw_futex_wait(rw_a32 *word, uint32_t expected, int64_t deadline_ns);

/* Wake at most count sleepers. */
void rw_futex_wake(rw_a32 *word, int count);

#endif

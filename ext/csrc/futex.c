#define _GNU_SOURCE
#include "futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "status.h"

int rw_futex_wait(rw_a32 *word, uint32_t expected, int64_t deadline_ns) {
    struct timespec at = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
    /* FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC deadline; FUTEX_WAIT a relative one. */
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, deadline_ns < 0 ? NULL : &at,
                      NULL, FUTEX_BITSET_MATCH_ANY);
    if (rc == 0 || errno == EAGAIN)
        return RW_OK;
    if (errno == EINTR)
        return RW_INTERRUPTED;
    return errno == ETIMEDOUT ? RW_TIMEOUT : RW_OS;
}

void rw_futex_wake(rw_a32 *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

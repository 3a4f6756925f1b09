/* Stand-ins for the system calls of the core: the same promises, to processes that are explored. */
#define _GNU_SOURCE
#include "system.h"

#include <time.h>
#include <unistd.h>

#include "arena.h"
#include "explore.h"
#include "futex.h"
#include "headroom.h"
#include "status.h"

int rw_futex_wait(rw_a32 *word, uint32_t expected, int64_t deadline_ns) {
    (void)deadline_ns;
    explore_system_call();
    if (*(const uint32_t *)word == expected)
        explore_sleep_on(word);
    return RW_OK;
}

void rw_futex_wake(rw_a32 *word, int count) {
    explore_system_call();
    explore_wake(word, count);
}

/* The eventfd. */
uint64_t system_wakes;

ssize_t write(int fd, const void *bytes, size_t size) {
    (void)fd, (void)bytes;
    explore_system_call();
    system_wakes = 1; /* how many is of no interest to who polls and reads it empty */
    return (ssize_t)size;
}

/* Times are not part of what is checked, and a clock that goes on makes states new: it does so only
 * where somebody waits for it. */
uint64_t system_clocks[EXPLORE_PROCESSES];

int clock_gettime(clockid_t clock, struct timespec *t) {
    uint64_t *own = &system_clocks[explore_self()];
    (void)clock;
    *t = (struct timespec){.tv_sec = *own == 0 ? 1 : (time_t)(*own)++};
    return 0;
}

int rw_arena_reserve(const struct rw_arena *arena, uint64_t offset, uint64_t length) {
    (void)arena, (void)offset, (void)length;
    return RW_OK;
}

void rw_headroom(struct rw_headroom *room) {
    *room = (struct rw_headroom){.bytes = UINT64_MAX};
}

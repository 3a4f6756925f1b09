/* Patience: whether to look out for something for a moment before sleeping.
 *
 * Waking a sleeper costs tens of microseconds; looking out costs a core for as long as it takes. So
 * a process looks out if that has paid lately: after each time in vain it lets more chances pass
 * before it tries again, up to MOST_PASSED. What it spends in vain is thus bounded by
 * RW_LOOK_OUT_NS once, and soon by that every 64th time.
 *
 * Private memory of a process.
 */
#ifndef RW_PATIENCE_H
#define RW_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

/* A worker on another core of a virtual machine wakes up, runs a short task and is seen within it.
 */
enum { RW_LOOK_OUT_NS = 100000 };

struct rw_patience {
    uint32_t passed;  /* chances to let pass before the next try */
    uint32_t penalty; /* how many they were after the last time in vain */
};

/* Whether to look out now. If so, tell rw_patience_learn how it went. */
bool rw_patience_allows(struct rw_patience *patience);

void rw_patience_learn(struct rw_patience *patience, bool paid);

/* For the loop of who looks out: let the core rest for an instant. */
static inline void rw_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

#endif

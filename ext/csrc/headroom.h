/* Headroom: how much more memory this process may take before the kernel kills somebody for it.
 *
 * The least of what the machine has available and of what the memory cgroups (version 1 or 2) of
 * this process leave it, from its own up to the outermost that is visible here. Page cache counts
 * as free; swap is not counted. A cgroup that cannot be read sets no limit.
 *
 * Reads about ten small files, 0.1 to 0.3 ms: not for a hot path.
 */
#ifndef RW_HEADROOM_H
#define RW_HEADROOM_H

#include <stdint.h>

struct rw_headroom {
    uint64_t bytes;
    char cgroup[6144]; /* folder of the cgroup that allows the least, "" if it is the machine */
};

void rw_headroom(struct rw_headroom *room);

/* Processes of this cgroup that the kernel has killed for want of memory; of the whole machine,
 * where there is no memory cgroup. Counted before the signal is sent. */
uint64_t rw_headroom_kills(void);

#endif

/* Event count: sleep until something was announced, without losing an announcement.
 *
 * Overview (after Concurrency Kit's ck_ec):
 *   waiter   key = prepare(); look once more for work; none: wait(key); look again
 *   notifier publish the work; notify()
 * If the notifier published after the waiter's last look, its bump of seq makes wait return.
 *
 * Costs: notify without sleepers is one atomic add and one load; no system call.
 * Death: a waiter killed at any instruction leaves at worst waiters one too high.
 */
#ifndef RW_EVENTCOUNT_H
#define RW_EVENTCOUNT_H

#include "layout.h"

/* Announce the intention to sleep; returns the key for wait or cancel. Full barrier: what the
 * caller looks at next is not older than this call. */
uint32_t rw_eventcount_prepare(struct rw_eventcount *ec);

/* Take the intention back. pre: prepare was called. */
void rw_eventcount_cancel(struct rw_eventcount *ec);

/* Sleep until a notify after prepare, or deadline_ns (see rw_futex_wait). Ends the intention. */
int rw_eventcount_wait(struct rw_eventcount *ec, uint32_t key, int64_t deadline_ns);

/* Wake all waiters, also those that waiters does not count: for when it may have been written over.
 */
void rw_eventcount_wake_all(struct rw_eventcount *ec);

/* Wake at most count waiters. pre: the work was published before this call. */
void rw_eventcount_notify(struct rw_eventcount *ec, uint32_t count);

#endif

/* Event count: sleep until something was announced, without losing an announcement.
 *
 * Overview (after Concurrency Kit's ck_ec):
 *   waiter   key = prepare(); look once more for work; none: wait(key); look again
 *   notifier publish the work; notify()
 * If the notifier published after the waiter's last look, its bump of seq makes wait return.
 *
 * One waiter at a time may watch: look for work all the time, and not sleep yet. notify wakes one
 * sleeper less for it. So when it found work, or has done watching, it looks once more:
 *   watcher  watch(me); look ...; unwatch(me); look for more, to wake another or to take it
 *
 * Costs: notify without sleepers is one atomic add and two loads; no system call.
 * Death: a waiter killed at any instruction leaves at worst waiters one too high, and a watcher
 * that watches no more: who buries it calls unwatch in its place, and notify if that was so.
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

/* Begin to watch; false: another does. End it; false: it did not watch. who: below UINT32_MAX. */
bool rw_eventcount_watch(struct rw_eventcount *ec, uint32_t who);
bool rw_eventcount_unwatch(struct rw_eventcount *ec, uint32_t who);

/* Wake all waiters, also those that waiters does not count, and count on no watcher: for when the
 * words may have been written over, or the watcher been stopped. */
void rw_eventcount_wake_all(struct rw_eventcount *ec);

/* Wake at most count waiters, of which a watcher is one. pre: the work was published before this
 * call. */
void rw_eventcount_notify(struct rw_eventcount *ec, uint32_t count);

#endif

#include "eventcount.h"

#include <limits.h>

#include "futex.h"
#include "status.h"

uint32_t rw_eventcount_prepare(struct rw_eventcount *ec) {
    /* sync: pairs with notify's add and load; both seq_cst, so either the notifier sees this
     * waiter or the waiter's next look sees the work. */
    rw_add32_seq_cst(&ec->waiters, 1);
    return rw_load32_seq_cst(&ec->seq);
}

void rw_eventcount_cancel(struct rw_eventcount *ec) {
    rw_add32_seq_cst(&ec->waiters, UINT32_MAX);
}

int rw_eventcount_wait(struct rw_eventcount *ec, uint32_t key, int64_t deadline_ns) {
    int status = RW_OK;
    while (status == RW_OK && rw_load32_seq_cst(&ec->seq) == key)
        status = rw_futex_wait(&ec->seq, key, deadline_ns);
    rw_eventcount_cancel(ec);
    return status;
}

bool rw_eventcount_watch(struct rw_eventcount *ec, uint32_t who) {
    return rw_cas32_seq_cst(&ec->watcher, 0, who + 1);
}

bool rw_eventcount_unwatch(struct rw_eventcount *ec, uint32_t who) {
    /* sync: pairs with notify's add and load of watcher; all seq_cst, so who counted on us did its
     * add before, and the load that follows it makes our next look see the work. */
    bool watched = rw_cas32_seq_cst(&ec->watcher, who + 1, 0);
    rw_load32_seq_cst(&ec->seq);
    return watched;
}

void rw_eventcount_notify(struct rw_eventcount *ec, uint32_t count) {
    /* sync: pairs with prepare, and with unwatch. */
    rw_add32_seq_cst(&ec->seq, 1);
    if (count > 0 && rw_load32_seq_cst(&ec->watcher) != 0)
        count--;
    if (count > 0 && rw_load32_seq_cst(&ec->waiters) != 0)
        rw_futex_wake(&ec->seq, count > INT_MAX ? INT_MAX : (int)count);
}

void rw_eventcount_wake_all(struct rw_eventcount *ec) {
    rw_store32_seq_cst(&ec->watcher, 0);
    rw_add32_seq_cst(&ec->seq, 1);
    rw_futex_wake(&ec->seq, INT_MAX);
}

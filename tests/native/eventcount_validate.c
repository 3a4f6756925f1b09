/* Event count under threads: no announcement is lost, however the sleepers come and go.
 *
 * A token is one unit of work, taken by whoever finds it. In the first part each token is
 * published only after the last was taken, so all waiters sleep or are about to: one lost
 * wake-up and everybody waits for ever. In the second part tokens come in bursts.
 */
#include <sched.h>

#include "eventcount.h"
#include "status.h"
#include "validate.h"

enum { LOCKSTEP = 4000, BURSTS = 400, BURST = 25, WAITERS = 3 };
enum { TOKENS = LOCKSTEP + BURSTS * BURST };

static struct rw_eventcount ec;
static _Atomic uint32_t tokens, taken, sleeps, over;

static bool take(void) {
    uint32_t have = atomic_load(&tokens);
    while (have > 0)
        if (atomic_compare_exchange_weak(&tokens, &have, have - 1)) {
            taken++;
            return true;
        }
    return false;
}

static void *wait_for_tokens(void *argument) {
    (void)argument;
    for (;;) {
        if (take())
            continue;
        uint32_t key = rw_eventcount_prepare(&ec);
        if (take()) {
            rw_eventcount_cancel(&ec);
            continue;
        }
        if (atomic_load(&over)) {
            rw_eventcount_cancel(&ec);
            return NULL;
        }
        int status = rw_eventcount_wait(&ec, key, -1);
        validate_need(status == RW_OK || status == RW_INTERRUPTED, "waited");
        sleeps++;
    }
}

static void publish(uint32_t count) {
    atomic_fetch_add(&tokens, count);
    rw_eventcount_notify(&ec, count);
}

static void await(uint32_t count) {
    while (atomic_load(&taken) < count)
        sched_yield();
}

int main(void) {
    pthread_t threads[WAITERS];
    validate_watchdog();
    for (int i = 0; i < WAITERS; i++)
        threads[i] = validate_start(wait_for_tokens, NULL);
    for (uint32_t i = 0; i < LOCKSTEP; i++) {
        publish(1);
        await(i + 1);
        validate_watchdog();
    }
    for (uint32_t i = 0; i < BURSTS; i++)
        publish(BURST);
    await(TOKENS);
    atomic_store(&over, 1);
    rw_eventcount_notify(&ec, UINT32_MAX);
    for (int i = 0; i < WAITERS; i++)
        pthread_join(threads[i], NULL);
    uint32_t waiters = rw_load32_relaxed(&ec.waiters);
    printf("eventcount tokens=%d taken=%u slept=%d waiters=%u\n", TOKENS, taken, sleeps > 0,
           waiters);
    return taken != TOKENS || waiters != 0;
}

/* Event count: a waiter or a notifier is killed at any instruction. */
#include "eventcount.h"
#include "step.h"
#include "world.h"

static struct rw_eventcount *ec;
static volatile uint64_t *work; /* what is announced */
static int sleeper;

static void make(void) {
    world_make();
    ec = &world.board.words->work;
    work = &world.board.words->job_length; /* any word of the world that nobody else uses here */
}

/* 0: woken, and the work was there. */
static int sleep_for_work(void) {
    uint32_t key = rw_eventcount_prepare(ec);
    while (*work == 0) {
        rw_eventcount_wait(ec, key, -1);
        key = rw_eventcount_prepare(ec);
    }
    rw_eventcount_cancel(ec);
    return 0;
}

static void make_with_sleeper(void) {
    make();
    sleeper = step_fork(sleep_for_work);
    step_await_sleep(sleeper);
}

static void prepare_and_cancel(void) {
    rw_eventcount_prepare(ec);
    rw_eventcount_cancel(ec);
}

/* The announcement came between prepare and wait: wait returns at once. */
static void prepare_and_wait(void) {
    uint32_t key = rw_eventcount_prepare(ec);
    rw_eventcount_notify(ec, 1);
    rw_eventcount_wait(ec, key, -1);
}

static void publish_and_notify(void) {
    *work = 1;
    rw_eventcount_notify(ec, 1);
}

/* A sleeper that comes after the death is woken by the next announcement. */
static enum verdict check_waiter(bool finished) {
    uint32_t waiters = rw_load32_relaxed(&ec->waiters);
    REQUIRE(waiters <= 1, TORN); /* errs upwards only: below 0 is a large number */
    REQUIRE(!finished || waiters == 0, TORN);
    sleeper = step_fork(sleep_for_work);
    step_await_sleep(sleeper);
    REQUIRE(rw_load32_relaxed(&ec->waiters) == waiters + 1, TORN);
    *work = 1;
    rw_eventcount_notify(ec, 1);
    REQUIRE(step_reap(sleeper) == 0, WEDGED);
    return FINE;
}

/* Whoever buries a notifier announces again; then nobody sleeps on. */
static enum verdict check_notifier(bool finished) {
    bool published = *work != 0;
    REQUIRE(!finished || published, LOST);
    if (!finished) {
        *work = 1;
        rw_eventcount_notify(ec, 1);
    }
    REQUIRE(step_reap(sleeper) == 0, WEDGED);
    REQUIRE(rw_load32_relaxed(&ec->waiters) == 0, TORN);
    REQUIRE(rw_load32_relaxed(&ec->seq) - 1 <= 1, TORN);
    return FINE;
}

const struct step_case eventcount_cases[] = {
    {"eventcount.cancel", make, prepare_and_cancel, check_waiter},
    {"eventcount.wait", make, prepare_and_wait, check_waiter},
    {"eventcount.notify", make_with_sleeper, publish_and_notify, check_notifier},
    {0},
};

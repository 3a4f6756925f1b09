/* Ring and board: a process stands still at any instruction while a peer does its whole part.
 *
 * What a thread test meets by luck, at every point for sure: a number handed out twice, a claim
 * that two win, a wake-up that falls between looking and sleeping.
 */
#include <string.h>

#include "board.h"
#include "eventcount.h"
#include "ring.h"
#include "status.h"
#include "step.h"
#include "world.h"

enum { VICTIM = 0, PEER = 1, MOST = 8 };

static uint64_t seen[MOST]; /* what the peer got while the victim stood still */
static unsigned seen_count;

static uint64_t hint(uint32_t task) {
    return (uint64_t)EPOCH << 32 | task;
}

static uint32_t state_of(uint32_t task) {
    return RW_WORD_STATE(rw_load_acquire(&world.board.tasks[task].state));
}

static void push(const uint64_t *numbers, uint64_t count) {
    uint64_t pushed;
    rw_ring_push(&world.ring, numbers, count, &pushed);
    step_control->said[1] = pushed;
}

/* --- ring ---------------------------------------------------------------------------------- */

static void three_in_ring(void) {
    static const uint64_t numbers[] = {1, 2, 3};
    world_make();
    push(numbers, 3);
    seen_count = 0;
}

static void pop_one(void) {
    uint64_t number;
    if (rw_ring_pop(&world.ring, &number) == RW_OK)
        step_control->said[0] = number;
}

static void peer_pops(unsigned most) {
    while (seen_count < most && rw_ring_pop(&world.ring, &seen[seen_count]) == RW_OK)
        seen_count++;
}

static void peer_pops_one(void) {
    peer_pops(1);
}

static void peer_pops_all(void) {
    peer_pops(MOST);
}

/* Every cell is overwritten: the victim must not get what it read before. */
static void peer_sends_a_lap(void) {
    static const uint64_t lap[WORLD_RING] = {4, 5, 6, 7};
    peer_pops_all();
    push(lap, WORLD_RING);
}

/* Each of the numbers 1..last came out once, to the victim, to its peer or now. */
static enum verdict check_once(uint64_t last) {
    unsigned times[MOST] = {0};
    uint64_t victims = step_control->said[0];
    if (victims != NOTHING_SAID) {
        REQUIRE(victims >= 1 && victims <= last, TORN);
        times[victims]++;
    }
    peer_pops_all();
    for (unsigned i = 0; i < seen_count; i++) {
        REQUIRE(seen[i] >= 1 && seen[i] <= last, TORN);
        REQUIRE(i == 0 || seen[i] > seen[i - 1], TORN);
        times[seen[i]]++;
    }
    for (uint64_t number = 1; number <= last; number++) {
        REQUIRE(times[number] >= 1, LOST);
        REQUIRE(times[number] <= 1, TORN);
    }
    return FINE;
}

static enum verdict check_three(bool finished) {
    (void)finished;
    return check_once(3);
}

static enum verdict check_seven(bool finished) {
    (void)finished;
    return check_once(7);
}

static void push_four(void) {
    static const uint64_t numbers[] = {4, 5, 6, 7};
    push(numbers, WORLD_RING);
}

/* As many as fitted when the producer looked. */
static enum verdict check_push(bool finished) {
    (void)finished;
    REQUIRE(step_control->said[1] == 1 || step_control->said[1] == 4, TORN);
    return check_once(3 + step_control->said[1]);
}

/* --- claims -------------------------------------------------------------------------------- */

static void two_ready(void) {
    const uint64_t hints[] = {hint(0), hint(0), hint(1)}; /* the first was pushed twice */
    world_make();
    for (uint32_t task = 0; task < 2; task++)
        rw_board_arm(&world.board, task, EPOCH, 0, 0);
    push(hints, 3);
    seen_count = 0;
}

static void take(void) {
    uint32_t task;
    if (rw_board_take(&world.board, &world.ring, VICTIM, &task) == RW_OK)
        step_control->said[0] = task;
}

static void peer_takes(void) {
    uint32_t task;
    while (rw_board_take(&world.board, &world.ring, PEER, &task) == RW_OK)
        seen[seen_count++] = task;
}

static void cancel(void) {
    step_control->said[2] = rw_board_cancel(&world.board, EPOCH, 2);
}

static void peer_cancels(void) {
    cancel();
}

/* Each task has one fate. A cancelled one stays so, a claimed one runs. */
static enum verdict check_fates(bool finished) {
    unsigned claims[2] = {0}, cancelled = 0;
    (void)finished;
    peer_takes();
    if (step_control->said[0] != NOTHING_SAID)
        claims[step_control->said[0]]++;
    for (unsigned i = 0; i < seen_count; i++)
        claims[seen[i]]++;
    for (uint32_t task = 0; task < 2; task++) {
        REQUIRE(claims[task] <= 1, TORN);
        REQUIRE(claims[task] == (state_of(task) == RW_TASK_RUNNING), TORN);
        REQUIRE(claims[task] == 1 || state_of(task) == RW_TASK_CANCELLED, LOST);
        cancelled += state_of(task) == RW_TASK_CANCELLED;
    }
    REQUIRE(cancelled == (step_control->said[2] == NOTHING_SAID ? 0 : step_control->said[2]), TORN);
    return FINE;
}

/* --- the parent's sleep -------------------------------------------------------------------- */

static bool slept; /* the parent was told to sleep */

static void one_running(void) {
    uint32_t task;
    two_ready();
    rw_board_take(&world.board, &world.ring, VICTIM, &task);
    rw_board_cancel(&world.board, EPOCH, 2);
    rw_board_close(&world.board);
}

/* The last task of a map: commit, then find nothing more to do. */
static void finish(void) {
    uint32_t task;
    rw_board_commit(&world.board, 0, VICTIM, RW_TASK_DONE, RW_RESULT_NONE, 0, 0);
    rw_board_wait(&world.board, &world.ring, VICTIM, 0, &task);
}

static void parent_sleeps_for_any(void) {
    slept = rw_board_sleep(&world.board, RW_PARENT_ANY, 0);
}

static void parent_sleeps_for_all(void) {
    slept = rw_board_sleep(&world.board, RW_PARENT_TARGET, 1);
}

static enum verdict check_woken(bool finished) {
    (void)finished;
    REQUIRE(rw_board_done(&world.board) == 1, LOST);
    REQUIRE(!slept || world_was_woken(), LOST);
    return FINE;
}

static void sleep_for_any(void) {
    step_control->said[0] = rw_board_sleep(&world.board, RW_PARENT_ANY, 0);
}

static void sleep_for_all(void) {
    step_control->said[0] = rw_board_sleep(&world.board, RW_PARENT_TARGET, 1);
}

static enum verdict check_parent(bool finished) {
    slept = step_control->said[0] != 0;
    return check_woken(finished);
}

/* --- a worker's sleep ---------------------------------------------------------------------- */

static void nothing_ready(void) {
    world_make();
}

static void wait_for_task(void) {
    uint32_t task;
    int status = rw_board_wait(&world.board, &world.ring, VICTIM, 0, &task);
    step_control->said[0] = status == RW_OK ? task : 100 + (uint64_t)status;
}

static void hand_out(void) {
    const uint64_t number = hint(0);
    rw_board_arm(&world.board, 0, EPOCH, 0, 0);
    push(&number, 1);
    rw_eventcount_notify(&world.board.words->work, 1);
}

static void close_board(void) {
    rw_board_close(&world.board);
}

/* That the victim ended at all is the point: nobody wakes it a second time. */
static enum verdict check_got_task(bool finished) {
    (void)finished;
    REQUIRE(step_control->said[0] == 0 && state_of(0) == RW_TASK_RUNNING, LOST);
    REQUIRE(rw_load32_relaxed(&world.board.words->work.waiters) == 0, TORN);
    return FINE;
}

static enum verdict check_left(bool finished) {
    (void)finished;
    REQUIRE(step_control->said[0] == 100 + RW_EMPTY, LOST);
    REQUIRE(rw_load32_relaxed(&world.board.words->work.waiters) == 0, TORN);
    return FINE;
}

static int sleeper;

static int take_one(void) {
    uint32_t task;
    return rw_board_wait(&world.board, &world.ring, PEER, 0, &task) == RW_OK ? 0 : 1;
}

/* A worker comes while the parent hands out, and goes to sleep if it sees nothing yet. */
static void worker_comes(void) {
    sleeper = step_fork(take_one);
    step_await_sleep(sleeper);
}

static enum verdict check_served(bool finished) {
    (void)finished;
    REQUIRE(step_reap(sleeper) == 0, LOST);
    REQUIRE(state_of(0) == RW_TASK_RUNNING, LOST);
    return FINE;
}

const struct step_case preempt_cases[] = {
    {"preempt.pop_pop", three_in_ring, pop_one, check_three, peer_pops_one, false},
    {"preempt.pop_lap", three_in_ring, pop_one, check_seven, peer_sends_a_lap, false},
    {"preempt.push_pop", three_in_ring, push_four, check_push, peer_pops_all, false},
    {"preempt.take_take", two_ready, take, check_fates, peer_takes, false},
    {"preempt.take_cancel", two_ready, take, check_fates, peer_cancels, false},
    {"preempt.cancel_take", two_ready, cancel, check_fates, peer_takes, false},
    {"preempt.commit_sleep_any", one_running, finish, check_woken, parent_sleeps_for_any, false},
    {"preempt.commit_sleep_all", one_running, finish, check_woken, parent_sleeps_for_all, false},
    {"preempt.sleep_any_commit", one_running, sleep_for_any, check_parent, finish, false},
    {"preempt.sleep_all_commit", one_running, sleep_for_all, check_parent, finish, false},
    {"preempt.wait_hand_out", nothing_ready, wait_for_task, check_got_task, hand_out, true},
    {"preempt.wait_close", nothing_ready, wait_for_task, check_left, close_board, true},
    {"preempt.hand_out_wait", nothing_ready, hand_out, check_served, worker_comes, false},
    {0},
};

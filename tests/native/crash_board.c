/* Board: the parent or a worker is killed at any instruction of a task's life.
 *
 * Worker 0 is the victim, worker 1 survives. Recovery is the parent's: retry what the dead
 * worker had claimed, push what is ready again, let the survivor finish.
 */
#include "board.h"
#include "eventcount.h"
#include "status.h"
#include "step.h"
#include "world.h"

enum { VICTIM = 0, SURVIVOR = 1, TASKS = 2, HEADER_AT = 500, HEADER_LENGTH = 50 };

static uint64_t hint(uint32_t task) {
    return (uint64_t)EPOCH << 32 | task;
}

static void arm(struct rw_board *board, uint32_t task) {
    rw_board_arm(board, task, EPOCH, 100 + task, 10 + task);
}

/* Two tasks ready and hinted at; leftovers of the last map lie in the records. */
static void two_ready(void) {
    const uint64_t hints[] = {hint(0), hint(1)};
    uint64_t pushed;
    world_make();
    for (uint32_t task = 0; task < TASKS; task++) {
        struct rw_task *t = &world.board.tasks[task];
        *t = (struct rw_task){.input_offset = 1, .result_value = 2, .result_kind = RW_RESULT_TRUE};
        rw_store_relaxed(&t->state, RW_WORD(RW_TASK_DONE, 3, SURVIVOR, EPOCH - 1));
    }
    rw_board_announce(&world.board, EPOCH, HEADER_AT, HEADER_LENGTH);
    arm(&world.board, 0);
    arm(&world.board, 1);
    rw_ring_push(&world.ring, hints, TASKS, &pushed);
}

static void one_running(void) {
    uint32_t task;
    two_ready();
    rw_board_take(&world.board, &world.ring, VICTIM, &task);
}

static uint64_t word_of(const struct rw_board *board, uint32_t task) {
    return rw_load_acquire(&board->tasks[task].state);
}

static uint32_t state_of(const struct rw_board *board, uint32_t task) {
    return RW_WORD_STATE(word_of(board, task));
}

/* A word that somebody wrote as a whole: of this epoch, by the victim or by nobody yet. */
static bool is_whole(uint64_t word) {
    return RW_WORD_EPOCH(word) == EPOCH && RW_WORD_ATTEMPT(word) == 0 &&
           RW_WORD_WORKER(word) == VICTIM;
}

static bool is_result(const struct rw_task *t, uint64_t value) {
    return t->result_kind == RW_RESULT_INT && t->result_value == value && t->result_length == 8 &&
           rw_load_relaxed(&t->end_ns) != 0;
}

static void commit(struct rw_board *board, uint32_t task, uint32_t worker, uint32_t state) {
    rw_board_commit(board, task, worker, state, RW_RESULT_INT, 1000 + task, 8);
}

/* Bury the victim, finish what is left; every task ends with one whole result. */
static enum verdict recover_and_finish(struct world *w) {
    uint64_t pushed, ready[TASKS], count = 0;
    uint32_t task, runs[TASKS] = {0};
    for (task = 0; task < TASKS; task++) {
        uint64_t word = word_of(&w->board, task);
        if (RW_WORD_STATE(word) == RW_TASK_RUNNING) {
            REQUIRE(RW_WORD_WORKER(word) == VICTIM, TORN);
            REQUIRE(rw_board_retry(&w->board, task) == RW_OK, WEDGED);
            REQUIRE(RW_WORD_ATTEMPT(word_of(&w->board, task)) == 1, TORN);
        }
        if (state_of(&w->board, task) == RW_TASK_READY)
            ready[count++] = hint(task);
        else
            runs[task]++;
    }
    /* Some of these are in the ring still: a task that is hinted at twice runs once. */
    REQUIRE(rw_ring_push(&w->ring, ready, count, &pushed) == RW_OK && pushed == count, WEDGED);
    while (rw_board_take(&w->board, &w->ring, SURVIVOR, &task) == RW_OK) {
        const struct rw_task *t = &w->board.tasks[task];
        REQUIRE(t->input_offset == 100 + task && t->input_length == 10 + task, TORN);
        REQUIRE(w->board.words->job_offset == HEADER_AT, TORN);
        runs[task]++;
        commit(&w->board, task, SURVIVOR, RW_TASK_DONE);
    }
    for (task = 0; task < TASKS; task++) {
        REQUIRE(runs[task] == 1, LOST);
        uint32_t state = state_of(&w->board, task);
        REQUIRE(state == RW_TASK_DONE || state == RW_TASK_FAILED, LOST);
        REQUIRE(is_result(&w->board.tasks[task], 1000 + task), TORN);
        REQUIRE(rw_board_retry(&w->board, task) == RW_STALE, TORN);
        REQUIRE(rw_board_give_up(&w->board, task) == RW_STALE, TORN);
    }
    return FINE;
}

/* Whatever mode the death left behind, the parent can sleep again and is woken. */
static enum verdict parent_still_wakes(struct world *w) {
    uint32_t task;
    rw_board_awake(&w->board);
    world_was_woken();
    arm(&w->board, 2);
    const uint64_t number = hint(2);
    uint64_t pushed;
    REQUIRE(rw_ring_push(&w->ring, &number, 1, &pushed) == RW_OK && pushed == 1, WEDGED);
    REQUIRE(rw_board_sleep(&w->board, RW_PARENT_ANY, rw_board_done(&w->board)), WEDGED);
    REQUIRE(rw_board_take(&w->board, &w->ring, SURVIVOR, &task) == RW_OK && task == 2, WEDGED);
    commit(&w->board, task, SURVIVOR, RW_TASK_DONE);
    REQUIRE(world_was_woken(), WEDGED);
    REQUIRE(rw_load32_relaxed(&w->board.words->mode) == RW_PARENT_AWAKE, WEDGED);
    return FINE;
}

/* --- the claim --------------------------------------------------------------------------- */

static void take(void) {
    uint32_t task;
    if (rw_board_take(&world.board, &world.ring, VICTIM, &task) == RW_OK)
        step_control->said[0] = task;
}

static enum verdict check_take(bool finished) {
    struct world w = world_visit();
    uint32_t running = 0;
    for (uint32_t task = 0; task < TASKS; task++) {
        uint64_t word = word_of(&w.board, task);
        REQUIRE(is_whole(word), TORN);
        REQUIRE(RW_WORD_STATE(word) == RW_TASK_READY || RW_WORD_STATE(word) == RW_TASK_RUNNING,
                LOST);
        running += RW_WORD_STATE(word) == RW_TASK_RUNNING;
    }
    REQUIRE(running <= 1, TORN);
    REQUIRE(!finished || (step_control->said[0] == 0 && running == 1), LOST);
    return recover_and_finish(&w);
}

/* Hints to a task of the last map and to one that was cancelled come before the one that counts. */
static void stale_hints(void) {
    const uint64_t hints[] = {(uint64_t)(EPOCH - 1) << 32 | 1, hint(0), hint(1)};
    uint64_t out;
    two_ready();
    while (rw_ring_pop(&world.ring, &out) == RW_OK)
        continue;
    rw_ring_push(&world.ring, hints, 3, &out);
    rw_store_relaxed(&world.board.tasks[0].state, RW_WORD(RW_TASK_CANCELLED, 0, 0, EPOCH));
}

static enum verdict check_take_stale(bool finished) {
    struct world w = world_visit();
    const uint64_t number = hint(1);
    uint64_t pushed;
    uint32_t task;
    REQUIRE(state_of(&w.board, 0) == RW_TASK_CANCELLED && is_whole(word_of(&w.board, 1)), TORN);
    REQUIRE(!finished || step_control->said[0] == 1, LOST);
    if (state_of(&w.board, 1) == RW_TASK_RUNNING)
        REQUIRE(rw_board_retry(&w.board, 1) == RW_OK, WEDGED);
    REQUIRE(rw_ring_push(&w.ring, &number, 1, &pushed) == RW_OK, WEDGED);
    REQUIRE(rw_board_take(&w.board, &w.ring, SURVIVOR, &task) == RW_OK && task == 1, LOST);
    REQUIRE(rw_board_take(&w.board, &w.ring, SURVIVOR, &task) == RW_EMPTY, TORN);
    return FINE;
}

/* --- the commit -------------------------------------------------------------------------- */

static void commit_done(void) {
    commit(&world.board, 0, VICTIM, RW_TASK_DONE);
}

static void commit_failed(void) {
    commit(&world.board, 0, VICTIM, RW_TASK_FAILED);
}

static void parent_waits_for_any(void) {
    one_running();
    rw_board_sleep(&world.board, RW_PARENT_ANY, 0);
}

static void parent_waits_for_all(void) {
    one_running();
    rw_board_sleep(&world.board, RW_PARENT_TARGET, TASKS);
}

static enum verdict check_commit(bool finished) {
    struct world w = world_visit();
    uint32_t state = state_of(&w.board, 0);
    bool committed = state == RW_TASK_DONE || state == RW_TASK_FAILED;
    REQUIRE(is_whole(word_of(&w.board, 0)), TORN);
    REQUIRE(committed || state == RW_TASK_RUNNING, TORN);
    REQUIRE(!committed || is_result(&w.board.tasks[0], 1000), TORN);
    REQUIRE(committed || !finished, LOST);
    REQUIRE(rw_board_done(&w.board) <= committed, TORN); /* the hint errs downwards only */
    enum verdict verdict = recover_and_finish(&w);
    return verdict == FINE ? parent_still_wakes(&w) : verdict;
}

static enum verdict check_commit_wakes(bool finished) {
    REQUIRE(!finished || world_was_woken(), LOST);
    return check_commit(finished);
}

/* --- the worker's whole cycle ------------------------------------------------------------ */

static void closing(void) {
    two_ready();
    world.board.cpus = WORLD_SLOTS + 1;
    rw_board_sleep(&world.board, RW_PARENT_TARGET, TASKS);
    rw_board_close(&world.board);
}

/* Take, commit, take, commit, wake the parent, look out, leave. */
static void cycle(void) {
    uint32_t task;
    while (rw_board_wait(&world.board, &world.ring, VICTIM, &task) == RW_OK)
        commit(&world.board, task, VICTIM, RW_TASK_DONE);
}

static enum verdict check_cycle(bool finished) {
    struct world w = world_visit();
    for (uint32_t task = 0; task < TASKS; task++) {
        uint64_t word = word_of(&w.board, task);
        REQUIRE(is_whole(word), TORN);
        REQUIRE(RW_WORD_STATE(word) != RW_TASK_DONE || is_result(&w.board.tasks[task], 1000 + task),
                TORN);
    }
    const struct rw_eventcount *work = &w.board.words->work;
    REQUIRE(rw_load32_relaxed(&work->waiters) <= 1, TORN);
    REQUIRE(!finished || rw_load32_relaxed(&work->watcher) == 0, TORN);
    rw_board_bury(&w.board, VICTIM);
    REQUIRE(rw_load32_relaxed(&work->watcher) == 0, WEDGED);
    REQUIRE(!finished || (rw_board_done(&w.board) == TASKS && world_was_woken()), LOST);
    enum verdict verdict = recover_and_finish(&w);
    return verdict == FINE ? parent_still_wakes(&w) : verdict;
}

/* --- the parent's operations ------------------------------------------------------------- */

static int sleeper;

/* Worker 1 until the pool closes; 0 if all that it took was whole. */
static int work(void) {
    struct world w = world_visit();
    uint32_t task;
    int status;
    while ((status = rw_board_wait(&w.board, &w.ring, SURVIVOR, &task)) == RW_OK) {
        const struct rw_task *t = &w.board.tasks[task];
        if (t->input_offset != 100 + task || t->input_length != 10 + task ||
            w.board.words->job_offset != HEADER_AT || w.board.words->job_length != HEADER_LENGTH)
            return 1;
        commit(&w.board, task, SURVIVOR, RW_TASK_DONE);
    }
    return status == RW_EMPTY ? 0 : 2;
}

static void sleeping_worker(void) {
    uint32_t task;
    two_ready();
    while (rw_board_take(&world.board, &world.ring, VICTIM, &task) == RW_OK)
        commit(&world.board, task, VICTIM, RW_TASK_DONE);
    for (task = 0; task < TASKS; task++) {
        world.board.tasks[task].input_offset = world.board.tasks[task].input_length = 1;
        rw_store_relaxed(&world.board.tasks[task].state, RW_WORD(RW_TASK_DONE, 0, 0, EPOCH - 1));
    }
    world.board.words->job_offset = 1;
    world.board.words->job_length = 1;
    sleeper = step_fork(work);
    step_await_sleep(sleeper);
}

static void hand_out(void) {
    const uint64_t hints[] = {hint(0), hint(1)};
    uint64_t pushed;
    rw_board_announce(&world.board, EPOCH, HEADER_AT, HEADER_LENGTH);
    arm(&world.board, 0);
    arm(&world.board, 1);
    rw_ring_push(&world.ring, hints, TASKS, &pushed);
    rw_eventcount_notify(&world.board.words->work, TASKS);
}

/* A worker never runs a task that was not armed to the end; a successor can hand out again. */
static enum verdict check_hand_out(bool finished) {
    struct world w = world_visit();
    uint64_t hints[TASKS], count = 0, pushed;
    rw_board_announce(&w.board, EPOCH, HEADER_AT, HEADER_LENGTH);
    for (uint32_t task = 0; task < TASKS; task++) {
        uint64_t word = word_of(&w.board, task);
        if (RW_WORD_EPOCH(word) != EPOCH) {
            REQUIRE(!finished, LOST);
            arm(&w.board, task);
        }
        hints[count++] = hint(task);
    }
    REQUIRE(rw_ring_push(&w.ring, hints, count, &pushed) == RW_OK && pushed > 0, WEDGED);
    rw_board_close(&w.board); /* workers leave when there is nothing left to do */
    REQUIRE(step_reap(sleeper) == 0, TORN);
    for (uint32_t task = 0; task < TASKS; task++)
        REQUIRE(state_of(&w.board, task) == RW_TASK_DONE &&
                    is_result(&w.board.tasks[task], 1000 + task),
                LOST);
    return FINE;
}

static void close_board(void) {
    rw_board_close(&world.board);
}

static enum verdict check_close(bool finished) {
    struct world w = world_visit();
    if (!finished)
        rw_board_close(&w.board);
    REQUIRE(step_reap(sleeper) == 0, WEDGED);
    return FINE;
}

static void retry(void) {
    rw_board_retry(&world.board, 0);
}

static enum verdict check_retry(bool finished) {
    struct world w = world_visit();
    uint64_t word = word_of(&w.board, 0);
    bool again = word == RW_WORD(RW_TASK_READY, 1, 0, EPOCH);
    REQUIRE(again || word == RW_WORD(RW_TASK_RUNNING, 0, VICTIM, EPOCH), TORN);
    REQUIRE(again || !finished, LOST);
    return recover_and_finish(&w);
}

static void give_up(void) {
    rw_board_give_up(&world.board, 0);
}

static enum verdict check_give_up(bool finished) {
    struct world w = world_visit();
    uint64_t word = word_of(&w.board, 0);
    bool given_up = word == RW_WORD(RW_TASK_LOST, 0, VICTIM, EPOCH);
    REQUIRE(given_up || word == RW_WORD(RW_TASK_RUNNING, 0, VICTIM, EPOCH), TORN);
    REQUIRE(given_up || !finished, LOST);
    REQUIRE(rw_board_give_up(&w.board, 0) == (given_up ? RW_STALE : RW_OK), WEDGED);
    REQUIRE(word_of(&w.board, 0) == RW_WORD(RW_TASK_LOST, 0, VICTIM, EPOCH), TORN);
    return FINE;
}

static void cancel(void) {
    step_control->said[0] = rw_board_cancel(&world.board, EPOCH, TASKS);
}

static enum verdict check_cancel(bool finished) {
    struct world w = world_visit();
    uint32_t cancelled = 0, task;
    for (task = 0; task < TASKS; task++) {
        uint64_t word = word_of(&w.board, task);
        REQUIRE(is_whole(word), TORN);
        cancelled += RW_WORD_STATE(word) == RW_TASK_CANCELLED;
        REQUIRE(state_of(&w.board, task) == RW_TASK_CANCELLED ||
                    state_of(&w.board, task) == RW_TASK_READY,
                TORN);
    }
    REQUIRE(!finished || (cancelled == TASKS && step_control->said[0] == TASKS), LOST);
    REQUIRE(rw_board_cancel(&w.board, EPOCH, TASKS) == TASKS - cancelled, WEDGED);
    REQUIRE(rw_board_take(&w.board, &w.ring, SURVIVOR, &task) == RW_EMPTY, TORN);
    return FINE;
}

static void fall_asleep(void) {
    step_control->said[0] = rw_board_sleep(&world.board, RW_PARENT_TARGET, TASKS);
    rw_board_awake(&world.board);
}

static enum verdict check_asleep(bool finished) {
    struct world w = world_visit();
    uint32_t mode = rw_load32_relaxed(&w.board.words->mode);
    REQUIRE(mode == RW_PARENT_AWAKE || (!finished && mode == RW_PARENT_TARGET), TORN);
    enum verdict verdict = recover_and_finish(&w);
    return verdict == FINE ? parent_still_wakes(&w) : verdict;
}

const struct step_case board_cases[] = {
    {"board.take", two_ready, take, check_take},
    {"board.take_stale", stale_hints, take, check_take_stale},
    {"board.commit", one_running, commit_done, check_commit},
    {"board.commit_any", parent_waits_for_any, commit_done, check_commit_wakes},
    {"board.commit_failed", parent_waits_for_all, commit_failed, check_commit_wakes},
    {"board.cycle", closing, cycle, check_cycle},
    {"board.hand_out", sleeping_worker, hand_out, check_hand_out},
    {"board.close", sleeping_worker, close_board, check_close},
    {"board.retry", one_running, retry, check_retry},
    {"board.give_up", one_running, give_up, check_give_up},
    {"board.cancel", two_ready, cancel, check_cancel},
    {"board.sleep", one_running, fall_asleep, check_asleep},
    {0},
};

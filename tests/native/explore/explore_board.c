/* Board: a parent maps tasks on workers, as src/ringwalk/mappers/transaction.py does, but for its
 * look once a second; a worker may be killed. Each task is over once, with the result of the one
 * worker that committed it, and nobody sleeps through that.
 */
#include <string.h>

#include "board.h"
#include "eventcount.h"
#include "explore.h"
#include "status.h"
#include "system.h"

enum { RING = 8, SLOTS = 2, MOST_TASKS = 3, PARENT = 0, MOST_ATTEMPTS = 2 };

static _Alignas(2 * RW_LINE) struct {
    uint8_t board[sizeof(struct rw_board_words) + SLOTS * sizeof(struct rw_slot) +
                  MOST_TASKS * sizeof(struct rw_task)];
    _Alignas(RW_LINE) uint8_t ring[sizeof(struct rw_ring_words) + RING * sizeof(rw_a64)];
} memory;
static struct rw_board board;
static struct rw_ring ring;

static struct {
    uint64_t claims[EXPLORE_PROCESSES][MOST_TASKS]; /* of the last map, by the living */
    uint64_t results[MOST_TASKS], retries[MOST_TASKS], by_dead[MOST_TASKS], cancelled, begun,
        mourned[EXPLORE_PROCESSES];
    uint64_t wrong; /* a string of whoever noticed */
} notes;

static struct {
    uint32_t tasks, maps, mode;
    bool hints_twice, hints_early, one_by_one, together, task_fails, retry, nobody_sleeps, watch;
} plan;

static void complain(const char *what) {
    if (notes.wrong == 0)
        notes.wrong = (uint64_t)(uintptr_t)what;
}

static void prepare(void) {
    memset(&memory, 0, sizeof memory);
    memset(&notes, 0, sizeof notes);
    memset(&plan, 0, sizeof plan);
    system_wakes = 0;
    memset(system_clocks, 0, sizeof system_clocks);
    rw_board_bind(&board, memory.board, SLOTS, MOST_TASKS, -1);
    rw_ring_bind(&ring, memory.ring, RING);
    explore_share(&memory, sizeof memory);
    explore_keep(&notes, sizeof notes);
    explore_keep(&system_wakes, sizeof system_wakes);
    explore_keep(system_clocks, sizeof system_clocks);
    plan.retry = true;
    plan.maps = 1;
}

/* --- parent ------------------------------------------------------------------------------ */

static uint32_t slot_of(unsigned process) {
    return process - 1;
}

static bool is_unmourned(unsigned process) {
    return explore_is_dead(process) && !notes.mourned[process];
}

static bool has_a_reason(void) {
    return system_wakes || is_unmourned(1) || is_unmourned(2);
}

/* For a parent that does not sleep on the board: whether a look at it would find something. */
static bool has_news(void) {
    bool news = is_unmourned(1) || is_unmourned(2);
    for (uint32_t task = 0; task < plan.tasks; task++)
        news |= notes.results[task] == 0 &&
                RW_WORD_STATE(rw_load_relaxed(&board.tasks[task].state)) > RW_TASK_RUNNING;
    return news;
}

static void push(const uint64_t *hints, uint64_t count) {
    uint64_t pushed;
    if (rw_ring_push(&ring, hints, count, &pushed) != RW_OK)
        complain("the ring is corrupt");
    rw_eventcount_notify(&board.words->work, (uint32_t)pushed);
}

static void hand_out(uint32_t epoch) {
    uint64_t hints[2 * MOST_TASKS], count = 0;
    memset(notes.claims, 0, sizeof notes.claims);
    memset(notes.results, 0, sizeof notes.results);
    memset(notes.by_dead, 0, sizeof notes.by_dead);
    memset(notes.retries, 0, sizeof notes.retries);
    notes.cancelled = 0;
    if (plan.hints_early) {
        const uint64_t hint = (uint64_t)epoch << 32;
        notes.begun = 1;
        push(&hint, 1);
    }
    if (plan.one_by_one)
        rw_board_hint_singly(&board);
    rw_board_announce(&board, epoch, epoch * 10, epoch * 20);
    for (uint32_t task = 0; task < plan.tasks; task++)
        rw_board_arm(&board, task, epoch, epoch * 100 + task, 10);
    for (uint32_t task = 0; task < plan.tasks; task++)
        for (unsigned times = 0; times < 1U + plan.hints_twice; times++)
            hints[count++] = (uint64_t)epoch << 32 | task;
    notes.begun = 1;
    if (!plan.one_by_one)
        push(hints, count);
    for (uint64_t i = 0, pushed; plan.one_by_one && i < count; i++) {
        rw_ring_push(&ring, &hints[i], 1, &pushed);
        rw_board_announce_one(&board, &ring);
    }
}

/* Take in what became final; returns how many are not. */
static uint32_t harvest(uint32_t epoch) {
    uint32_t open = 0;
    for (uint32_t task = 0; task < plan.tasks; task++) {
        const struct rw_task *t = &board.tasks[task];
        if (notes.results[task])
            continue;
        uint64_t word = rw_load_acquire(&t->state);
        uint32_t state = RW_WORD_STATE(word);
        if (state <= RW_TASK_RUNNING || RW_WORD_EPOCH(word) != epoch) {
            open++;
            continue;
        }
        notes.results[task] = state;
        if (state == RW_TASK_CANCELLED || state == RW_TASK_LOST)
            continue;
        if (t->result_value != epoch * 1000 + task || t->result_kind != RW_RESULT_INT ||
            t->result_length != 8 || rw_load_relaxed(&t->end_ns) == 0)
            complain("a result is torn");
        if (state == RW_TASK_FAILED)
            notes.cancelled += rw_board_cancel(&board, epoch, plan.tasks);
    }
    return open;
}

static void mourn(unsigned process, uint32_t epoch) {
    uint64_t hints[MOST_TASKS], count = 0;
    harvest(epoch);
    rw_board_bury(&board, slot_of(process));
    for (uint32_t task = 0; task < plan.tasks; task++) {
        uint64_t word = rw_load_acquire(&board.tasks[task].state);
        if (RW_WORD_STATE(word) == RW_TASK_READY || RW_WORD_WORKER(word) != slot_of(process))
            continue;
        if (RW_WORD_STATE(word) != RW_TASK_RUNNING) {
            notes.by_dead[task] = notes.claims[process][task];
            continue;
        }
        if (!plan.retry || notes.cancelled) {
            rw_board_give_up(&board, task);
        } else if (rw_board_retry(&board, task) == RW_OK) {
            notes.retries[task]++;
            hints[count++] = (uint64_t)epoch << 32 | task;
        }
    }
    if (count > 0)
        push(hints, count);
    memset(notes.claims[process], 0, sizeof notes.claims[process]);
    if (plan.nobody_sleeps)
        notes.mourned[process] = 1; /* the other one goes on */
    else if (harvest(epoch) > 0 && !notes.cancelled)
        explore_restart(process);
}

/* The dead worker may have taken a hint with it. */
static void push_ready(uint32_t epoch) {
    uint64_t ready[MOST_TASKS], count = 0;
    for (uint32_t task = 0; task < plan.tasks; task++)
        if (RW_WORD_STATE(rw_load_acquire(&board.tasks[task].state)) == RW_TASK_READY)
            ready[count++] = (uint64_t)epoch << 32 | task;
    if (count > rw_ring_length(&ring))
        push(ready, count);
}

static void map(uint32_t epoch) {
    hand_out(epoch);
    uint64_t done = rw_board_done(&board);
    uint32_t open = harvest(epoch);
    while (open > 0) {
        if (plan.mode == RW_PARENT_AWAKE) {
            explore_await(has_news);
        } else if (rw_board_sleep(&board, plan.mode,
                                  plan.mode == RW_PARENT_ANY ? done : done + open)) {
            explore_await(has_a_reason);
            system_wakes = 0;
            rw_board_awake(&board);
        }
        done = rw_board_done(&board);
        open = harvest(epoch);
        for (unsigned process = 1; process < EXPLORE_PROCESSES; process++)
            if (is_unmourned(process)) {
                mourn(process, epoch);
                open = harvest(epoch);
                if (open > 0 && !notes.cancelled)
                    push_ready(epoch);
            }
    }
}

static void parent(void) {
    for (uint32_t epoch = 1; epoch <= plan.maps; epoch++)
        map(epoch);
    rw_board_close(&board);
}

/* --- workers ------------------------------------------------------------------------------ */

static bool has_begun(void) {
    return notes.begun;
}

static bool has_hints_or_never_will(void) {
    return rw_ring_length(&ring) > 0 || explore_is_over(PARENT);
}

/* Segments that wait for each other: nobody may sleep while there is a hint. */
static bool has_company(void) {
    for (uint32_t task = 0; task < plan.tasks; task++)
        if (RW_WORD_STATE(rw_load_relaxed(&board.tasks[task].state)) < RW_TASK_RUNNING)
            return false;
    return true;
}

static int next_task(struct rw_board *own, uint32_t slot, uint32_t *task) {
    if (!plan.nobody_sleeps)
        return rw_board_wait(own, &ring, slot, task);
    explore_await(has_hints_or_never_will);
    return rw_board_take(own, &ring, slot, task);
}

static void work(void) {
    explore_await(has_begun);
    unsigned me = explore_self();
    uint32_t task, slot = slot_of(me);
    struct rw_board own; /* for its patience */
    int status;
    rw_board_bind(&own, memory.board, SLOTS, MOST_TASKS, -1);
    own.cpus = plan.watch && me == 1 ? SLOTS + 1 : 0; /* the other one sleeps at once */
    while ((status = next_task(&own, slot, &task)) == RW_OK ||
           (status == RW_EMPTY && !explore_is_over(PARENT) && plan.nobody_sleeps)) {
        if (status == RW_EMPTY)
            continue;
        const struct rw_task *t = &board.tasks[task];
        uint32_t epoch = RW_WORD_EPOCH(rw_load_relaxed(&t->state));
        notes.claims[me][task]++;
        if (t->input_offset != epoch * 100 + task || t->input_length != 10 ||
            board.words->job_offset != epoch * 10)
            complain("an input is torn");
        if (plan.together)
            explore_await(has_company);
        bool fails = plan.task_fails && task == 0;
        rw_board_commit(&board, task, slot, fails ? RW_TASK_FAILED : RW_TASK_DONE, RW_RESULT_INT,
                        epoch * 1000 + task, 8);
        if (plan.together)
            return; /* one task each is enough */
    }
    if (status != RW_EMPTY)
        complain("a worker met a corrupt ring or board");
}

/* --- the end ------------------------------------------------------------------------------ */

static const char *check_task(uint32_t task) {
    uint64_t word = rw_load_relaxed(&board.tasks[task].state), runs = notes.by_dead[task];
    uint32_t state = RW_WORD_STATE(word);
    if (notes.results[task] != state || RW_WORD_ATTEMPT(word) != notes.retries[task])
        return "a task was final and changed";
    for (unsigned p = 1; p < EXPLORE_PROCESSES; p++)
        runs += notes.claims[p][task];
    if (state == RW_TASK_CANCELLED || state == RW_TASK_LOST)
        return runs == 0 ? NULL : "a task that ran is cancelled or lost";
    return runs == 1 ? NULL : "a task did not run exactly once";
}

static const char *check_map(void) {
    for (uint32_t task = 0; task < plan.tasks && !notes.wrong; task++)
        complain(check_task(task));
    if (!notes.wrong && rw_load32_relaxed(&board.words->mode) != RW_PARENT_AWAKE)
        complain("the parent seems to sleep");
    return (const char *)(uintptr_t)notes.wrong;
}

/* --- cases -------------------------------------------------------------------------------- */

static void map_of(uint32_t tasks, uint32_t mode) {
    prepare();
    plan.tasks = tasks;
    plan.mode = mode;
}

static void sleep_for_all(void) {
    map_of(1, RW_PARENT_TARGET);
}

static void sleep_for_any(void) {
    map_of(1, RW_PARENT_ANY);
}

static void two_tasks(void) {
    map_of(2, RW_PARENT_TARGET);
}

static void two_tasks_any(void) {
    map_of(2, RW_PARENT_ANY);
}

/* Who finds nothing looks out once more before it sleeps, and whoever hands out counts on it. */
static void watch(void) {
    map_of(1, RW_PARENT_ANY);
    plan.watch = true;
    for (unsigned process = 0; process < EXPLORE_PROCESSES; process++)
        system_clocks[process] = 1;
}

static void watch_twice(void) {
    watch();
    plan.maps = 2;
}

static void watch_one_by_one(void) {
    watch();
    plan.tasks = 2;
    plan.one_by_one = true;
}

static void one_by_one(void) {
    map_of(2, RW_PARENT_AWAKE);
    plan.one_by_one = plan.together = true;
}

/* What follows is of claims and commits: nobody sleeps, so that more can happen. */
static void three_tasks(void) {
    map_of(3, RW_PARENT_AWAKE);
    plan.nobody_sleeps = true;
}

static void two_claims(void) {
    three_tasks();
    plan.tasks = 2;
}

/* No parent does so; only the task's own word orders its input. */
static void hinted_early(void) {
    three_tasks();
    plan.tasks = 1;
    plan.hints_early = true;
}

static void hinted_twice(void) {
    two_claims();
    plan.hints_twice = true;
}

/* The parent stops the map at the first failure. */
static void first_fails(void) {
    two_claims();
    plan.task_fails = true;
}

static void no_retry(void) {
    two_claims();
    plan.retry = false;
}

/* Hints of the first map are found in the second. */
static void two_maps(void) {
    hinted_twice();
    plan.tasks = 1;
    plan.maps = 2;
}

enum { NOBODY = 0, ONE = 2 }; /* who may die */

const struct explore_case board_cases[] = {
    {"sleep.all", sleep_for_all, {parent, work, work}, check_map, NOBODY, false},
    {"sleep.any", sleep_for_any, {parent, work, work}, check_map, NOBODY, false},
    {"sleep.all_death", two_tasks, {parent, work}, check_map, ONE, false},
    {"sleep.any_death", two_tasks_any, {parent, work}, check_map, ONE, false},
    {"sleep.all_buffered", two_tasks, {parent, work}, check_map, NOBODY, true},
    {"sleep.any_buffered", two_tasks_any, {parent, work}, check_map, NOBODY, true},
    {"sleep.one_by_one", one_by_one, {parent, work, work}, check_map, NOBODY, false},
    {"watch.one", watch, {parent, work, work}, check_map, NOBODY, false},
    {"watch.two_maps", watch_twice, {parent, work}, check_map, NOBODY, false},
    {"watch.one_by_one", watch_one_by_one, {parent, work}, check_map, NOBODY, false},
    {"watch.death", watch_twice, {parent, work}, check_map, ONE, false},
    {"watch.buffered", watch_twice, {parent, work}, check_map, NOBODY, true},
    {"board.three_tasks", three_tasks, {parent, work, work}, check_map, ONE, false},
    {"board.hinted_twice", hinted_twice, {parent, work, work}, check_map, ONE, false},
    {"board.first_fails", first_fails, {parent, work, work}, check_map, ONE, false},
    {"board.no_retry", no_retry, {parent, work, work}, check_map, ONE, false},
    {"board.two_maps", two_maps, {parent, work, work}, check_map, ONE, false},
    {"board.hinted_early", hinted_early, {parent, work, work}, check_map, ONE, false},
    {"board.hinted_early_buffered", hinted_early, {parent, work, work}, check_map, NOBODY, true},
    {0},
};

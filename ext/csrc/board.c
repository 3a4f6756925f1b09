#define _GNU_SOURCE
#include "board.h"

#include <time.h>
#include <unistd.h>

#include "eventcount.h"
#include "patience.h"
#include "status.h"

/* A worker that was in a segment for longer can afford a system call. */
#define LONG_NS 1000000

int64_t rw_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

uint64_t rw_board_bytes(uint32_t slot_count, uint32_t capacity) {
    return sizeof(struct rw_board_words) + slot_count * sizeof(struct rw_slot) +
           (uint64_t)capacity * sizeof(struct rw_task);
}

void rw_board_bind(struct rw_board *board, void *memory, uint32_t slot_count, uint32_t capacity,
                   int wake_fd) {
    board->words = memory;
    board->slots = (struct rw_slot *)(board->words + 1);
    board->tasks = (struct rw_task *)(board->slots + slot_count);
    board->slot_count = slot_count;
    board->capacity = capacity;
    board->wake_fd = wake_fd;
    board->cpus = 0;
    board->patience = (struct rw_patience){0};
    board->straight_ns = 0;
}

/* Whether a core is left for one who looks out, beside those of the parent and of the workers that
 * are awake. The caller counts itself among them. */
static bool has_a_core(const struct rw_board *board) {
    uint32_t asleep = rw_load32_relaxed(&board->words->work.waiters);
    uint32_t awake = asleep < board->slot_count ? board->slot_count - asleep : 0;
    return board->cpus > 1 && awake < board->cpus;
}

/* --- parent ------------------------------------------------------------------------------ */

void rw_board_arm(struct rw_board *board, uint32_t task, uint32_t epoch, uint64_t input_offset,
                  uint64_t input_length) {
    struct rw_task *t = &board->tasks[task];
    t->input_offset = input_offset;
    t->input_length = input_length;
    rw_store_relaxed(&t->start_ns, 0);
    rw_store_relaxed(&t->end_ns, 0);
    /* sync: pairs with the claim's swap; protects the input reference and the payload. */
    rw_store_release(&t->state, RW_WORD(RW_TASK_READY, 0, 0, epoch));
}

void rw_board_announce(struct rw_board *board, uint32_t epoch, uint64_t offset, uint64_t length) {
    board->words->job_offset = offset;
    board->words->job_length = length;
    /* sync: a worker reads the three words after claiming a task of this epoch, whose READY
     * store comes later in program order than these; the claim's acquire orders them. */
    rw_store_release(&board->words->job_epoch, epoch);
}

bool rw_board_cancel_task(struct rw_board *board, uint32_t epoch, uint32_t task) {
    rw_a64 *state = &board->tasks[task].state;
    uint64_t word = rw_load_acquire(state);
    if (RW_WORD_STATE(word) != RW_TASK_READY || RW_WORD_EPOCH(word) != epoch)
        return false;
    uint64_t next = RW_WORD(RW_TASK_CANCELLED, RW_WORD_ATTEMPT(word), 0, epoch);
    return rw_cas_acq_rel(state, &word, next);
}

uint32_t rw_board_cancel(struct rw_board *board, uint32_t epoch, uint32_t count) {
    uint32_t cancelled = 0;
    for (uint32_t i = 0; i < count; i++)
        cancelled += rw_board_cancel_task(board, epoch, i);
    return cancelled;
}

int rw_board_retry(struct rw_board *board, uint32_t task) {
    rw_a64 *state = &board->tasks[task].state;
    uint64_t word = rw_load_acquire(state);
    if (RW_WORD_STATE(word) != RW_TASK_RUNNING)
        return RW_STALE;
    rw_store_relaxed(&board->tasks[task].start_ns, 0);
    uint64_t next = RW_WORD(RW_TASK_READY, RW_WORD_ATTEMPT(word) + 1, 0, RW_WORD_EPOCH(word));
    return rw_cas_acq_rel(state, &word, next) ? RW_OK : RW_STALE;
}

int rw_board_give_up(struct rw_board *board, uint32_t task) {
    rw_a64 *state = &board->tasks[task].state;
    uint64_t word = rw_load_acquire(state);
    if (RW_WORD_STATE(word) != RW_TASK_RUNNING)
        return RW_STALE;
    uint64_t next = (word & ~UINT64_C(0xff)) | RW_TASK_LOST;
    return rw_cas_acq_rel(state, &word, next) ? RW_OK : RW_STALE;
}

uint64_t rw_board_done(const struct rw_board *board) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < board->slot_count; i++)
        sum += rw_load_seq_cst(&board->slots[i].done);
    return sum;
}

static bool is_over(uint32_t mode, uint64_t target, uint64_t done) {
    return mode == RW_PARENT_TARGET ? done >= target : done != target;
}

bool rw_board_look_out(struct rw_board *board, uint32_t mode, uint64_t target) {
    bool over = is_over(mode, target, rw_board_done(board));
    if (over || !has_a_core(board) || !rw_patience_allows(&board->patience))
        return over; /* in the first case it took no patience, and so says nothing about it */
    int64_t until = rw_now_ns() + RW_LOOK_OUT_NS;
    do {
        rw_relax();
        over = is_over(mode, target, rw_board_done(board));
    } while (!over && has_a_core(board) && rw_now_ns() < until);
    rw_patience_learn(&board->patience, over);
    return over;
}

bool rw_board_sleep(struct rw_board *board, uint32_t mode, uint64_t target) {
    rw_store_relaxed(&board->words->target, target);
    /* sync: pairs with the add to done in commit. Either the worker sees the mode, or the sum
     * below sees its task. */
    rw_store32_seq_cst(&board->words->mode, mode);
    uint64_t done = rw_board_done(board);
    if (!is_over(mode, target, done))
        return true;
    rw_board_awake(board);
    return false;
}

bool rw_board_awake(struct rw_board *board) {
    /* A worker that swaps it after this load has yet to write the eventfd. */
    bool woken = rw_load32_seq_cst(&board->words->mode) == RW_PARENT_AWAKE;
    rw_store32_seq_cst(&board->words->mode, RW_PARENT_AWAKE);
    return woken;
}

void rw_board_close(struct rw_board *board) {
    rw_store32_seq_cst(&board->words->closing, 1);
    rw_eventcount_notify(&board->words->work, UINT32_MAX);
}

void rw_board_reopen(struct rw_board *board) {
    rw_store32_seq_cst(&board->words->closing, 0);
}

void rw_board_bury(struct rw_board *board, uint32_t worker) {
    struct rw_eventcount *work = &board->words->work;
    if (rw_eventcount_unwatch(work, worker))
        rw_eventcount_notify(work, 1);
}

void rw_board_hint_singly(struct rw_board *board) {
    /* Whoever claims a task sees it: arm's release comes later, the claim's acquire before. */
    rw_store32_relaxed(&board->words->singly, 1);
}

void rw_board_announce_one(struct rw_board *board, const struct rw_ring *ring) {
    struct rw_eventcount *work = &board->words->work;
    /* sync: pairs with pass_on. Our store of tail comes before the load of head: either
     * we see that the hints before ours are gone, or whoever took the last sees ours. */
    rw_add32_seq_cst(&work->seq, 1);
    if (rw_ring_length(ring) <= 1)
        rw_eventcount_notify(work, 1);
}

/* --- worker ------------------------------------------------------------------------------ */

static void wake_parent(struct rw_board *board, uint32_t seen_mode) {
    if (!rw_cas32_seq_cst(&board->words->mode, seen_mode, RW_PARENT_AWAKE))
        return; /* another worker does it */
    const uint64_t one = 1;
    ssize_t written = write(board->wake_fd, &one, sizeof one);
    (void)written; /* an eventfd refuses only when its count is near 2^64 */
}

/* Wake a parent that waits for the whole map, if the map is over. */
static void wake_if_target(struct rw_board *board) {
    if (rw_load32_seq_cst(&board->words->mode) == RW_PARENT_TARGET &&
        rw_board_done(board) >= rw_load_relaxed(&board->words->target))
        wake_parent(board, RW_PARENT_TARGET);
}

static int claim(struct rw_board *board, uint64_t number, uint32_t worker, uint32_t *task) {
    uint32_t index = (uint32_t)number;
    if (index >= board->capacity)
        return RW_STALE; /* somebody scribbled on the ring; what it hid is pushed again */
    rw_a64 *state = &board->tasks[index].state;
    uint64_t word = rw_load_acquire(state);
    /* A hint may be old: of an aborted map, or of a task that was pushed twice. */
    if (RW_WORD_STATE(word) != RW_TASK_READY || RW_WORD_EPOCH(word) != number >> 32)
        return RW_STALE;
    uint64_t next = RW_WORD(RW_TASK_RUNNING, RW_WORD_ATTEMPT(word), worker, number >> 32);
    /* sync: pairs with arm's store; protects the input. */
    if (!rw_cas_acq_rel(state, &word, next))
        return RW_STALE;
    rw_store_relaxed(&board->slots[worker].running, (uint64_t)index + 1);
    /* A task begins where the one before ended: one reading of the clock a task, not two. */
    int64_t now = board->straight_ns != 0 ? board->straight_ns : rw_now_ns();
    rw_store_relaxed(&board->tasks[index].start_ns, (uint64_t)now);
    *task = index;
    return RW_OK;
}

/* Wake one more worker if there are hints left and somebody sleeps. Not needed of those who come
 * straight from a short task: hints are left with somebody asleep only while one who was woken is
 * on his way, and he does it. */
static void pass_on(struct rw_board *board, const struct rw_ring *ring) {
    struct rw_eventcount *work = &board->words->work;
    /* sync: pairs with rw_board_announce_one; our swap of head comes before this load of tail. */
    uint64_t tail = rw_load_seq_cst(&ring->words->tail);
    if (tail != rw_load_relaxed(&ring->words->head) && rw_load32_seq_cst(&work->waiters) != 0)
        rw_eventcount_notify(work, 1);
}

int rw_board_take(struct rw_board *board, struct rw_ring *ring, uint32_t worker, uint32_t *task) {
    uint64_t number;
    int status;
    do {
        status = rw_ring_pop(ring, &number);
        if (status == RW_OK)
            status = claim(board, number, worker, task);
    } while (status == RW_STALE);
    if (status == RW_OK && board->straight_ns == 0 && rw_load32_relaxed(&board->words->singly))
        pass_on(board, ring);
    board->straight_ns = 0;
    return status;
}

/* Look out for a task for a moment, if that may pay and nobody else does. RW_EMPTY: none came. */
static int watch(struct rw_board *board, struct rw_ring *ring, uint32_t worker, uint32_t *task) {
    struct rw_eventcount *work = &board->words->work;
    if (!has_a_core(board) || !rw_patience_allows(&board->patience) ||
        !rw_eventcount_watch(work, worker))
        return RW_EMPTY;
    int64_t until = rw_now_ns() + RW_LOOK_OUT_NS;
    int status;
    do {
        rw_relax();
        status = rw_board_take(board, ring, worker, task);
    } while (status == RW_EMPTY && !rw_load32_seq_cst(&board->words->closing) &&
             rw_now_ns() < until);
    rw_eventcount_unwatch(work, worker);
    if (status == RW_OK) /* others may have counted on us for more than this one */
        pass_on(board, ring);
    rw_patience_learn(&board->patience, status != RW_EMPTY);
    return status;
}

int rw_board_wait(struct rw_board *board, struct rw_ring *ring, uint32_t worker, uint32_t *task) {
    int status = rw_board_take(board, ring, worker, task);
    if (status != RW_EMPTY)
        return status;
    wake_if_target(board);
    status = watch(board, ring, worker, task);
    if (status != RW_EMPTY)
        return status;
    struct rw_eventcount *work = &board->words->work;
    for (;;) {
        uint32_t key = rw_eventcount_prepare(work);
        status = rw_board_take(board, ring, worker, task);
        if (status != RW_EMPTY || rw_load32_seq_cst(&board->words->closing)) {
            rw_eventcount_cancel(work);
            return status;
        }
        status = rw_eventcount_wait(work, key, -1);
        if (status != RW_OK)
            return status;
    }
}

void rw_board_commit(struct rw_board *board, uint32_t task, uint32_t worker, uint32_t state,
                     uint64_t kind, uint64_t value, uint64_t length) {
    struct rw_task *t = &board->tasks[task];
    struct rw_slot *slot = &board->slots[worker];
    t->result_kind = kind;
    t->result_value = value;
    t->result_length = length;
    int64_t now = rw_now_ns();
    rw_store_relaxed(&t->end_ns, (uint64_t)now);
    board->straight_ns = now - (int64_t)rw_load_relaxed(&t->start_ns) < LONG_NS ? now : 0;
    uint64_t word = rw_load_relaxed(&t->state); /* only we write it while it is RUNNING */
    /* sync: pairs with the parent's load of state; protects the result and its payload. */
    rw_store_release(&t->state, (word & ~UINT64_C(0xff)) | state);
    rw_store_relaxed(&slot->running, 0);
    /* sync: pairs with rw_board_sleep. */
    rw_add_seq_cst(&slot->done, 1);
    uint32_t mode = rw_load32_seq_cst(&board->words->mode);
    if (mode == RW_PARENT_ANY || (mode == RW_PARENT_TARGET && state == RW_TASK_FAILED))
        wake_parent(board, mode);
}

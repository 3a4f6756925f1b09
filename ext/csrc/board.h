/* Board: one record a task, the truth about who does what.
 *
 * Overview, for one task of one map (epoch E):
 *
 *   FREE --arm--> READY --claim (worker w)--> RUNNING --commit (w)--> DONE | FAILED
 *                   |                            |
 *                   +--cancel--> CANCELLED       +--w is dead--> retry: READY, attempt + 1
 *                                                               give up: LOST
 *
 * A claim is a compare-and-swap on the state word, so a task runs once whatever the ring says.
 * A commit is one release store by the only process that may write the word. arm, cancel, retry
 * and give up are the parent's; the last two only after w is known dead.
 *
 * Waking: the parent announces in mode what it waits for, looks once more, and sleeps on an
 * eventfd. A worker that makes it true swaps mode back and writes the eventfd, so there is one
 * write a sleep. A worker killed in between wakes the parent by dying (pidfd).
 */
#ifndef RW_BOARD_H
#define RW_BOARD_H

#include "layout.h"
#include "patience.h"
#include "ring.h"

struct rw_board { /* this process's handle */
    struct rw_board_words *words;
    struct rw_slot *slots;
    struct rw_task *tasks;
    uint32_t slot_count;
    uint32_t capacity;
    int wake_fd;   /* eventfd on which the parent sleeps */
    uint32_t cpus; /* that parent and workers share; 0, as bind leaves it: never look out */
    struct rw_patience patience;
    int64_t straight_ns; /* worker: end of a short task that it comes straight from; else 0 */
};

uint64_t rw_board_bytes(uint32_t slot_count, uint32_t capacity);
void rw_board_bind(struct rw_board *board, void *memory, uint32_t slot_count, uint32_t capacity,
                   int wake_fd);

/* --- parent ------------------------------------------------------------------------------ */

/* Make a task READY. pre: task < capacity, not RUNNING. */
void rw_board_arm(struct rw_board *board, uint32_t task, uint32_t epoch, uint64_t input_offset,
                  uint64_t input_length);

/* Publish the map's header for workers that see a new epoch. */
void rw_board_announce(struct rw_board *board, uint32_t epoch, uint64_t offset, uint64_t length);

/* READY -> CANCELLED for tasks [0, count) of the epoch; returns how many. */
uint32_t rw_board_cancel(struct rw_board *board, uint32_t epoch, uint32_t count);

/* The same for one task; false if it is not READY. pre: task < capacity. */
bool rw_board_cancel_task(struct rw_board *board, uint32_t epoch, uint32_t task);

/* RUNNING -> READY with the next attempt number, or -> LOST. pre: its worker is known dead.
 * RW_STALE if the task is not RUNNING (it was committed before the death). */
int rw_board_retry(struct rw_board *board, uint32_t task);
int rw_board_give_up(struct rw_board *board, uint32_t task);

/* Tasks finished since the pool began, over all slots; a hint. */
uint64_t rw_board_done(const struct rw_board *board);

/* Look out, for a moment, for what rw_board_sleep would sleep until; true: it has happened. False
 * at once where there is no core for it or it has not paid lately. */
bool rw_board_look_out(struct rw_board *board, uint32_t mode, uint64_t target);

/* Announce a sleep until done >= target (TARGET) or until anything finishes after the count was
 * target (ANY). False: it is already so, do not sleep. End with rw_board_awake, which tells whether
 * a worker has woken us. */
bool rw_board_sleep(struct rw_board *board, uint32_t mode, uint64_t target);
bool rw_board_awake(struct rw_board *board);

/* Ask idle workers to leave; take it back. pre for reopen: none is left. */
void rw_board_close(struct rw_board *board);
void rw_board_reopen(struct rw_board *board);

/* Take note that a worker is dead, before another takes its slot: it looks out no longer. */
void rw_board_bury(struct rw_board *board, uint32_t worker);

/* For a board whose hints come one by one: who was woken for one wakes another worker if there are
 * hints left. pre: no hint was pushed yet. */
void rw_board_hint_singly(struct rw_board *board);

/* On such a board, wake a worker for a single hint that was just pushed, unless one is on its way:
 * while a hint waits in the ring somebody was woken for it, who passes on what he leaves. */
void rw_board_announce_one(struct rw_board *board, const struct rw_ring *ring);

/* --- worker ------------------------------------------------------------------------------ */

/* Claim the next task that the ring offers. RW_OK, RW_EMPTY, RW_CORRUPT. Where hints come one by
 * one, who begins, was asleep or in a long segment also passes on. */
int rw_board_take(struct rw_board *board, struct rw_ring *ring, uint32_t worker, uint32_t *task);

/* The same, but sleep when there is none, looking out for a moment first. RW_EMPTY means that the
 * pool is closing; RW_INTERRUPTED that a signal arrived. */
int rw_board_wait(struct rw_board *board, struct rw_ring *ring, uint32_t worker, uint32_t *task);

/* Publish a result. state: DONE or FAILED. pre: this worker claimed the task. */
void rw_board_commit(struct rw_board *board, uint32_t task, uint32_t worker, uint32_t state,
                     uint64_t kind, uint64_t value, uint64_t length);

int64_t rw_now_ns(void); /* CLOCK_MONOTONIC */

#endif

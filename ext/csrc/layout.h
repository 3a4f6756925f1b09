/* Every structure that lies in shared memory, and nothing else.
 *
 * Rules: fixed-width integers, offsets instead of pointers (each process maps at its own
 * address), sizes and alignments asserted, words written by different processes on different
 * cache lines. Each field says who may write it.
 */
#ifndef RW_LAYOUT_H
#define RW_LAYOUT_H

#include "atomics.h"

#define RW_LINE 64 /* bytes of a cache line on x86-64 and on the aarch64 cores in use */

/* --- event count ------------------------------------------------------------------------- */
struct rw_eventcount {
    rw_a32 seq;     /* bumped by every notify; the futex word */
    rw_a32 waiters; /* processes in or about to enter the futex. A killed sleeper stays counted:
                       the count may only err upwards, which costs a needless system call */
    rw_a32 watcher; /* 1 + the process that looks out for work instead of sleeping; 0: none does.
                       Its own, but for the parent once it is dead or may be stopped */
    uint8_t pad[RW_LINE - 12];
};

/* --- ring -------------------------------------------------------------------------------- */
struct rw_ring_words {
    _Alignas(RW_LINE) rw_a64 head; /* next cell to read; consumers, by compare-and-swap */
    _Alignas(RW_LINE) rw_a64 tail; /* next cell to write; the one producer */
    /* cells follow: rw_a64[capacity], written by the producer */
};
_Static_assert(sizeof(struct rw_ring_words) == 2 * RW_LINE, "ring words fill two lines");

/* --- board ------------------------------------------------------------------------------- */
enum rw_task_state {
    RW_TASK_FREE = 0,
    RW_TASK_READY = 1,     /* parent */
    RW_TASK_RUNNING = 2,   /* worker, by compare-and-swap from READY: the claim */
    RW_TASK_DONE = 3,      /* worker, by one release store: the commit */
    RW_TASK_FAILED = 4,    /* worker, likewise */
    RW_TASK_CANCELLED = 5, /* parent, by compare-and-swap from READY */
    RW_TASK_LOST = 6,      /* parent, after the worker is known dead */
};

/* state word: state 8 bits | attempt 8 | worker 16 | epoch 32 */
#define RW_WORD(state, attempt, worker, epoch)                                                     \
    ((uint64_t)(state) | (uint64_t)(attempt) << 8 | (uint64_t)(worker) << 16 |                     \
     (uint64_t)(epoch) << 32)
#define RW_WORD_STATE(w) ((uint32_t)((w) & 0xff))
#define RW_WORD_ATTEMPT(w) ((uint32_t)((w) >> 8 & 0xff))
#define RW_WORD_WORKER(w) ((uint32_t)((w) >> 16 & 0xffff))
#define RW_WORD_EPOCH(w) ((uint32_t)((w) >> 32))

enum rw_result_kind {
    RW_RESULT_NONE = 0,
    RW_RESULT_FALSE = 1,
    RW_RESULT_TRUE = 2,
    RW_RESULT_INT = 3,     /* value: two's complement */
    RW_RESULT_FLOAT = 4,   /* value: the bits of a double */
    RW_RESULT_PAYLOAD = 5, /* value: block number in the worker's heap; length: bytes used */
};

struct rw_task {
    rw_a64 state;           /* published with release; owns every field below */
    uint64_t input_offset;  /* parent: payload in the parent's heap, bytes from the data area */
    uint64_t input_length;  /* parent: 0 when the task carries no payload of its own */
    uint64_t result_value;  /* worker, see rw_result_kind */
    uint64_t result_length; /* worker */
    uint64_t result_kind;   /* worker */
    rw_a64 start_ns;        /* worker, CLOCK_MONOTONIC; read while running, for deadlines */
    rw_a64 end_ns;          /* worker */
};
_Static_assert(sizeof(struct rw_task) == RW_LINE, "a task is one cache line");

enum rw_slot_phase {
    RW_SLOT_EMPTY = 0,
    RW_SLOT_STARTING = 1, /* parent */
    RW_SLOT_READY = 2,    /* worker */
};

struct rw_slot { /* one a worker; two lines, as the prefetcher fetches lines in pairs */
    _Alignas(2 * RW_LINE) rw_a64 done; /* worker: tasks finished; a hint, the board is the truth */
    rw_a64 running;                    /* worker: 1 + the task it runs, 0 when idle; a hint */
    rw_a32 phase;                      /* see rw_slot_phase */
    rw_a32 child_status;               /* lane: wait status of the child that died, plus 1 */
};
_Static_assert(sizeof(struct rw_slot) == 2 * RW_LINE, "a slot is two lines");

enum rw_parent_mode {
    RW_PARENT_AWAKE = 0,
    RW_PARENT_TARGET = 1, /* asleep until the slots' done counts sum up to target, or a failure */
    RW_PARENT_ANY = 2,    /* asleep until anything finishes */
};

struct rw_board_words {
    struct rw_eventcount work;          /* parent notifies, idle workers wait */
    _Alignas(RW_LINE) rw_a32 mode;      /* parent; a waker swaps it back to AWAKE */
    rw_a64 target;                      /* parent */
    _Alignas(RW_LINE) rw_a64 job_epoch; /* parent; publishes the two words below */
    uint64_t job_offset;                /* parent: the map's header in the parent's heap */
    uint64_t job_length;                /* parent */
    _Alignas(RW_LINE) rw_a32 closing;   /* parent: workers leave when idle */
    rw_a32 singly;                      /* parent, before the first hint: they come one by one */
    /* rw_slot[slots], then rw_task[capacity] follow */
};
_Static_assert(sizeof(struct rw_board_words) == 4 * RW_LINE, "board words fill four lines");

/* --- heap -------------------------------------------------------------------------------- */
#define RW_HOLDER_WORDS 6
#define RW_MAX_HOLDERS (64 * RW_HOLDER_WORDS)

/* A block of memory and the processes that hold it, one bit each; free when none does. */
struct rw_block {
    uint64_t offset; /* heap writer, before the block is published: bytes from the data area */
    uint64_t size;   /* heap writer, likewise */
    rw_a64 holders[RW_HOLDER_WORDS];
};
_Static_assert(sizeof(struct rw_block) == RW_LINE, "a block descriptor is one line");

struct rw_heap_words {
    rw_a64 count;                   /* heap writer: descriptors published */
    rw_a64 committed;               /* heap writer: data bytes the kernel has promised */
    rw_a64 committed_blocks;        /* heap writer: descriptors that have memory */
    _Alignas(RW_LINE) rw_a64 holds; /* holders: times that a hold was added, after its bit */
    /* rw_block[max_blocks], then the data area, page-aligned */
};
_Static_assert(sizeof(struct rw_heap_words) == 2 * RW_LINE, "heap words fill two lines");

#endif

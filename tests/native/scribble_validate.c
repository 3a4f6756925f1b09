/* A process that writes where it should not: whatever lies in shared memory, the calls of others
 * answer, and never touch memory outside of the arena.
 *
 * Random bytes of the control memory are changed; then the parent does all that it ever does with
 * it. Sanitizers and the end of the mapping see what goes outside.
 */
#include <string.h>

#include "board.h"
#include "heap.h"
#include "ring.h"
#include "status.h"
#include "validate.h"

enum { BETWEEN_RESETS = 16, PAGE = 4096, RING = 16, SLOTS = 2, TASKS = 16 };
enum { BOARD_AT = PAGE, HEAP_AT = 2 * PAGE, DATA = 1 << 20, HOLDERS = 3, BLOCKS = 8 };

static struct rw_arena arena;
static struct rw_ring ring;
static struct rw_board board;
static struct rw_heap heap;
static uint32_t state = 99;
static uint64_t outside, refused;

/* The control words: ring, board, and the heap's with the first descriptors. */
static const struct {
    uint64_t start, length;
} targets[] = {
    {0, sizeof(struct rw_ring_words) + RING * 8},
    {BOARD_AT, sizeof(struct rw_board_words) + SLOTS * sizeof(struct rw_slot) +
                   TASKS * sizeof(struct rw_task)},
    {HEAP_AT, sizeof(struct rw_heap_words) + BLOCKS * sizeof(struct rw_block)},
};

static void reset(void) {
    uint64_t number, pushed;
    uint32_t block;
    for (int i = 0; i < 3; i++)
        memset(arena.base + targets[i].start, 0, targets[i].length);
    rw_heap_disown(&heap);
    validate_need(rw_heap_own(&heap) == RW_OK, "owned");
    for (uint32_t i = 0; i < BLOCKS; i++)
        validate_need(rw_heap_alloc(&heap, 100 + 700 * i, i % HOLDERS, &block) == RW_OK, "alloc");
    for (uint32_t i = 0; i < TASKS; i++) {
        rw_board_arm(&board, i, 1, 0, 0);
        number = (uint64_t)1 << 32 | i;
        rw_ring_push(&ring, &number, 1, &pushed);
    }
    for (uint32_t i = 0; i < TASKS / 2; i++)
        if (rw_board_take(&board, &ring, i % SLOTS, &block) == RW_OK && i % 4)
            rw_board_commit(&board, block, i % SLOTS, RW_TASK_DONE, RW_RESULT_PAYLOAD, i, 100);
}

static void scribble(void) {
    uint32_t random = validate_random(&state), which = random % 3;
    uint64_t at = targets[which].start + (random >> 8) % targets[which].length;
    arena.base[at] ^= (uint8_t)(1 + validate_random(&state) % 255);
}

/* Read and write the ends of what an answer points to. */
static void touch(int status, uint8_t *address, uint64_t length) {
    if (status != RW_OK) {
        refused++;
        return;
    }
    if (address < heap.data || length > DATA || address - heap.data > (int64_t)(DATA - length)) {
        outside++;
        return;
    }
    if (length > 0)
        address[0] = address[length - 1] = 1;
}

static void collect(void) {
    uint8_t *address = NULL;
    for (uint32_t i = 0; i < TASKS; i++) {
        const struct rw_task *t = &board.tasks[i];
        uint64_t value = t->result_value, length = t->result_length;
        uint32_t block = (uint32_t)value;
        uint64_t offset = t->input_offset, input_length = t->input_length;
        int status = rw_heap_at(&heap, block, 0, length, &address);
        touch(status, address, length);
        status = rw_heap_at(&heap, block, length, value, &address);
        touch(status, address, value);
        status = rw_heap_data(&heap, offset, input_length, &address);
        touch(status, address, input_length);
        rw_heap_hold(&heap, block, 0);
        rw_heap_release(&heap, block, 1);
        rw_board_retry(&board, i);
        rw_board_give_up(&board, i);
    }
}

static void hand_out(void) {
    const uint64_t numbers[] = {1, 2, 3};
    uint64_t number, pushed;
    uint32_t task;
    rw_ring_push(&ring, numbers, 3, &pushed);
    outside += rw_ring_length(&ring) > RING;
    rw_ring_pop(&ring, &number);
    if (rw_board_take(&board, &ring, 1, &task) == RW_OK)
        outside += task >= TASKS;
    rw_board_cancel(&board, 1, TASKS);
    rw_board_sleep(&board, RW_PARENT_TARGET, rw_board_done(&board) + 1);
    rw_board_awake(&board);
}

static void allocate(void) {
    uint32_t block;
    uint8_t *address = NULL;
    uint64_t length = 1 + validate_random(&state) % 9000;
    if (rw_heap_alloc(&heap, length, 1, &block) != RW_OK)
        return;
    int status = rw_heap_at(&heap, block, 0, length, &address);
    touch(status, address, length);
}

/* These look at every descriptor that the count claims: up to a million. */
static void look_through(void) {
    struct rw_heap_usage usage;
    rw_heap_forget(&heap, 2);
    rw_heap_usage(&heap, &usage);
    outside += usage.held_blocks > usage.blocks || usage.blocks > RW_HEAP_MAX_BLOCKS;
    rw_heap_refresh(&heap);
}

int main(int argc, char **argv) {
    validate_need(argc == 2, "usage: scribble MUTATIONS");
    long mutations = atol(argv[1]);
    validate_need(rw_arena_create(&arena, HEAP_AT + rw_heap_bytes(DATA)) == RW_OK, "arena");
    rw_ring_bind(&ring, arena.base, RING);
    rw_board_bind(&board, arena.base + BOARD_AT, SLOTS, TASKS, -1);
    validate_need(rw_heap_bind(&heap, &arena, HEAP_AT, DATA) == RW_OK, "heap");
    for (long i = 0; i < mutations; i++) {
        if (i % BETWEEN_RESETS == 0)
            reset();
        scribble();
        collect();
        hand_out();
        allocate();
        if (i % BETWEEN_RESETS == BETWEEN_RESETS - 1)
            look_through();
    }
    rw_heap_disown(&heap);
    rw_arena_close(&arena);
    printf("scribble mutations=%ld outside=%lu refused=%d\n", mutations, outside, refused > 0);
    return outside > 0;
}

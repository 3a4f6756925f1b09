/* Heap: the writer, a holder or the one who cleans up is killed at any instruction.
 *
 * Worker 0 (holder 1) writes, worker 1 (holder 2) and the parent (holder 0) hold. After a death
 * its holds are forgotten and a successor owns the heap; then every block is either held by the
 * living, with its contents as they were, or is handed out again.
 */
#include <string.h>
#include <sys/stat.h>

#include "heap.h"
#include "status.h"
#include "step.h"
#include "world.h"

enum { WRITER = 1, OTHER = 2, MOST_BLOCKS = 16, EDGE = 64 };
enum { SMALL = 100, MIDDLE = 5000, LARGE = 70000 }; /* bytes */

static struct expectation { /* of a block that the living hold */
    uint32_t block, holder;
} live[MOST_BLOCKS];
static unsigned live_count;

/* A block's first and last bytes tell which one it is: enough, as blocks may not overlap. */
static void fill(const struct rw_heap *heap, uint32_t block) {
    uint8_t *bytes = heap->data + heap->blocks[block].offset;
    uint64_t size = heap->blocks[block].size;
    memset(bytes, 0x40 + (int)block, EDGE);
    memset(bytes + size - EDGE, 0x40 + (int)block, EDGE);
}

static bool is_intact(const struct rw_heap *heap, uint32_t block) {
    const uint8_t *bytes = heap->data + heap->blocks[block].offset;
    uint64_t size = heap->blocks[block].size;
    for (uint64_t i = 0; i < EDGE; i++)
        if (bytes[i] != 0x40 + block || bytes[size - 1 - i] != 0x40 + block)
            return false;
    return true;
}

/* A block that passes from the writer to another holder. */
static uint32_t give(uint64_t length, uint32_t holder) {
    uint32_t block;
    rw_heap_alloc(&world.heap, length, WRITER, &block);
    fill(&world.heap, block);
    rw_heap_hold(&world.heap, block, holder);
    rw_heap_release(&world.heap, block, WRITER);
    live[live_count++] = (struct expectation){block, holder};
    return block;
}

/* A block that its last holder released elsewhere: no list of the writer has it. */
static void leave_free(uint64_t length) {
    struct rw_heap elsewhere = world_visit().heap;
    rw_heap_release(&elsewhere, give(length, OTHER), OTHER);
    live_count--;
}

static void empty(void) {
    live_count = 0;
    world_make();
}

static void in_use(void) {
    uint32_t block;
    empty();
    give(SMALL, PARENT);
    give(SMALL, OTHER);
    rw_heap_alloc(&world.heap, SMALL, WRITER, &block);
    rw_heap_release(&world.heap, block, WRITER); /* on its list */
    leave_free(MIDDLE);
    leave_free(LARGE);
}

/* Everything is as the living need it; pre: the dead are forgotten, heap is owned. */
static enum verdict check_blocks(struct rw_heap *heap) {
    uint64_t committed = rw_load_relaxed(&heap->words->committed), end = 0;
    uint64_t free_sizes[MOST_BLOCKS];
    uint32_t count = (uint32_t)rw_load_relaxed(&heap->words->count), free_count = 0, block;
    struct stat file;
    REQUIRE(count <= MOST_BLOCKS, TORN);
    /* What is said to be committed has memory. */
    REQUIRE(fstat(world.arena.fd, &file) == 0 && (uint64_t)file.st_blocks * 512 >= committed, TORN);
    for (uint32_t i = 0; i < count; i++) {
        const struct rw_block *b = &heap->blocks[i];
        REQUIRE(b->offset >= end && b->offset % 64 == 0 && b->size > 0, TORN);
        end = b->offset + b->size;
        REQUIRE(end <= committed, TORN);
        uint64_t expected = 0;
        for (unsigned j = 0; j < live_count; j++)
            expected |= live[j].block == i ? 1ULL << live[j].holder : 0;
        uint64_t holders = rw_load_relaxed(&b->holders[0]);
        REQUIRE((holders & expected) == expected, LOST);
        REQUIRE(holders == expected, WEDGED); /* held by nobody who lives: never free again */
        if (holders == 0)
            free_sizes[free_count++] = b->size;
    }
    for (unsigned j = 0; j < live_count; j++)
        REQUIRE(live[j].block < count && is_intact(heap, live[j].block), TORN);
    for (uint32_t i = 0; i < free_count; i++) { /* each free block is handed out again, once */
        REQUIRE(rw_heap_alloc(heap, free_sizes[i], WRITER, &block) == RW_OK, WEDGED);
        REQUIRE(block < count, LOST);
        fill(heap, block);
    }
    REQUIRE(rw_heap_alloc(heap, SMALL, WRITER, &block) == RW_OK && block == count, WEDGED);
    fill(heap, block);
    for (uint32_t i = 0; i <= count; i++)
        REQUIRE(is_intact(heap, i), TORN);
    return FINE;
}

/* The dead are forgotten and the heap gets a new writer. */
static enum verdict succeed(uint32_t dead) {
    struct rw_heap heap = world_visit().heap;
    for (unsigned j = live_count; j-- > 0;)
        if (live[j].holder == dead)
            live[j] = live[--live_count];
    rw_heap_forget(&heap, dead);
    rw_heap_forget(&heap, WRITER);
    REQUIRE(rw_heap_own(&heap) == RW_OK, WEDGED);
    enum verdict verdict = check_blocks(&heap);
    rw_heap_disown(&heap);
    return verdict;
}

/* --- the writer dies ----------------------------------------------------------------------- */

static void alloc(uint64_t length) {
    uint32_t block;
    int status = rw_heap_alloc(&world.heap, length, WRITER, &block);
    step_control->said[0] = (uint64_t)status;
    step_control->said[1] = block;
}

static void alloc_small(void) {
    alloc(SMALL);
}

static void alloc_large(void) {
    alloc(LARGE);
}

static void alloc_new_class(void) {
    alloc(700);
}

static void alloc_growing(void) {
    alloc(300 << 10);
}

static void alloc_too_much(void) {
    alloc(1000 << 10); /* the data area has as much, but part of it is in use */
}

static enum verdict check_alloc(bool finished) {
    struct rw_heap heap = world_visit().heap;
    if (finished) {
        REQUIRE(step_control->said[0] == RW_OK, LOST);
        REQUIRE(rw_load_relaxed(&heap.blocks[step_control->said[1]].holders[0]) == 1 << WRITER,
                LOST);
    }
    return succeed(WRITER);
}

static enum verdict check_refused(bool finished) {
    struct rw_heap_usage usage;
    rw_heap_usage(&world.heap, &usage);
    REQUIRE(!finished || step_control->said[0] == RW_NO_MEMORY, TORN);
    REQUIRE(usage.blocks == 5 && usage.held_blocks == 2, TORN);
    return succeed(WRITER);
}

static uint32_t own_block;

static void writer_holds(void) {
    in_use();
    rw_heap_alloc(&world.heap, SMALL, WRITER, &own_block);
}

static void writer_releases(void) {
    rw_heap_release(&world.heap, own_block, WRITER);
}

static enum verdict check_writer(bool finished) {
    (void)finished;
    return succeed(WRITER);
}

static struct rw_heap successor;

static void writer_died(void) {
    writer_holds();
    successor = world_visit().heap;
    rw_heap_forget(&successor, WRITER);
}

static void own_and_alloc(void) {
    uint32_t block;
    rw_heap_own(&successor);
    rw_heap_alloc(&successor, SMALL, WRITER, &block);
}

/* A forked task process used a copy of the writer's lists and handed one block on. */
static void child_allocated(void) {
    uint32_t block;
    in_use();
    struct rw_heap copy = world_visit().heap;
    rw_heap_own(&copy);
    rw_heap_alloc(&copy, SMALL, WRITER, &block);
    fill(&copy, block);
    rw_heap_hold(&copy, block, PARENT);
    rw_heap_release(&copy, block, WRITER);
    live[live_count++] = (struct expectation){block, PARENT};
    rw_heap_disown(&copy);
}

static void refresh_and_alloc(void) {
    rw_heap_refresh(&world.heap);
    alloc(SMALL);
}

/* --- a holder dies ------------------------------------------------------------------------- */

static struct rw_heap visitor;

static void other_visits(void) {
    in_use();
    visitor = world_visit().heap;
}

static void other_releases(void) {
    rw_heap_release(&visitor, live[1].block, OTHER);
}

static void other_holds(void) {
    rw_heap_hold(&visitor, live[0].block, OTHER);
}

static void forget_other(void) {
    rw_heap_forget(&visitor, OTHER);
}

static enum verdict check_other(bool finished) {
    (void)finished;
    return succeed(OTHER);
}

/* --- a worker dies handing over a result ------------------------------------------------- */

static void task_running(void) {
    const uint64_t hint = (uint64_t)EPOCH << 32;
    uint64_t pushed;
    uint32_t task;
    in_use();
    rw_board_arm(&world.board, 0, EPOCH, 0, 0);
    rw_ring_push(&world.ring, &hint, 1, &pushed);
    rw_board_take(&world.board, &world.ring, WRITER - 1, &task);
}

static void publish(void) {
    uint32_t block;
    rw_heap_alloc(&world.heap, SMALL, WRITER, &block);
    fill(&world.heap, block);
    rw_board_commit(&world.board, 0, WRITER - 1, RW_TASK_DONE, RW_RESULT_PAYLOAD, block, SMALL);
}

/* What is committed outlives its worker; what is not is run again. */
static enum verdict check_publish(bool finished) {
    struct world w = world_visit();
    const struct rw_task *t = &w.board.tasks[0];
    if (RW_WORD_STATE(rw_load_acquire(&t->state)) == RW_TASK_RUNNING) {
        REQUIRE(!finished, LOST);
        REQUIRE(rw_board_retry(&w.board, 0) == RW_OK, WEDGED);
        return succeed(WRITER);
    }
    uint32_t block = (uint32_t)t->result_value;
    REQUIRE(t->result_kind == RW_RESULT_PAYLOAD && t->result_length == SMALL, TORN);
    REQUIRE(rw_heap_hold(&w.heap, block, PARENT) == RW_OK, TORN);
    live[live_count++] = (struct expectation){block, PARENT};
    return succeed(WRITER);
}

const struct step_case heap_cases[] = {
    {"heap.alloc_first", empty, alloc_growing, check_alloc},
    {"heap.alloc_fresh", in_use, alloc_new_class, check_alloc},
    {"heap.alloc_grow", in_use, alloc_growing, check_alloc},
    {"heap.alloc_reuse", in_use, alloc_small, check_alloc},
    {"heap.alloc_sweep", in_use, alloc_large, check_alloc},
    {"heap.alloc_refused", in_use, alloc_too_much, check_refused},
    {"heap.release", writer_holds, writer_releases, check_writer},
    {"heap.own", writer_died, own_and_alloc, check_writer},
    {"heap.refresh", child_allocated, refresh_and_alloc, check_alloc},
    {"heap.release_other", other_visits, other_releases, check_other},
    {"heap.hold", other_visits, other_holds, check_other},
    {"heap.forget", other_visits, forget_other, check_other},
    {"heap.publish", task_running, publish, check_publish},
    {0},
};

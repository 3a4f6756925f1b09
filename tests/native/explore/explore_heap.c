/* Heap: a writer allocates while others hold, hand over, release and die; no block is given away
 * while anybody holds it, and none stays held by the dead.
 *
 * The heap is compiled here with four descriptors, so that all of its state can be kept.
 */
#include <string.h>
#include <sys/mman.h>

#include "heap.h"
#undef RW_HEAP_MAX_BLOCKS
#define RW_HEAP_MAX_BLOCKS 4U
static void *give_lists(void);
#define mmap(...) give_lists()
#include "heap.c"
#undef mmap

#include "explore.h"

enum { DATA = 1 << 20, SHARED = 128 + 4 * 64, LENGTH = 100 };
enum { WRITER = 0, PARENT = 1, READER = 2 }; /* processes, and the words of their bits */
static const uint32_t holder_of[] = {[WRITER] = 140, [PARENT] = 0, [READER] = 70};

static _Alignas(4096) uint8_t memory[8192];
static struct rw_arena arena = {.base = memory, .size = 1 << 30, .fd = -1};
static struct rw_heap writer, parent, reader;
static _Alignas(64) struct rw_heap_lists lists[2]; /* of the writer and its successor */

static struct {
    uint64_t holds[EXPLORE_PROCESSES][4];       /* what each may use */
    uint64_t sent, passed_on, taken, forgotten; /* 1 + block; the processes' other channels */
    uint64_t lists_given, wrong;
} notes;

static void *give_lists(void) {
    return memset(&lists[notes.lists_given++ % 2], 0, sizeof lists[0]);
}

static void complain(const char *what) {
    notes.wrong = (uint64_t)(uintptr_t)what;
}

static void may_use(uint32_t block, bool may) {
    notes.holds[explore_self()][block] = may;
}

static void need_unused(uint32_t block) {
    for (unsigned p = 0; p < EXPLORE_PROCESSES; p++)
        if (notes.holds[p][block] && !explore_is_dead(p))
            complain("a block was given away while somebody held it");
}

static void setup(void) {
    memset(memory, 0, sizeof memory);
    memset(&notes, 0, sizeof notes);
    rw_heap_bind(&writer, &arena, 0, DATA);
    rw_heap_bind(&parent, &arena, 0, DATA);
    rw_heap_bind(&reader, &arena, 0, DATA);
    rw_heap_own(&writer);
    explore_share(memory, SHARED);
    explore_keep(&notes, sizeof notes);
    explore_keep(lists, sizeof lists);
}

/* A block that the writer's lists have as free, but that it has given out. */
static void setup_with_result(void) {
    uint32_t block;
    setup();
    rw_heap_alloc(&writer, LENGTH, holder_of[WRITER], &block);
    rw_heap_release(&writer, block, holder_of[WRITER]);
    rw_heap_hold(&writer, block, holder_of[WRITER]);
    notes.holds[WRITER][block] = 1;
    notes.sent = 1 + block;
}

/* --- the writer ---------------------------------------------------------------------------- */

static void allocate(struct rw_heap *heap) {
    uint32_t block;
    int status = rw_heap_alloc(heap, LENGTH, holder_of[explore_self()], &block);
    if (status != RW_OK) {
        complain("an allocation failed");
        return;
    }
    need_unused(block);
    may_use(block, true);
    if (heap->blocks[block].size < LENGTH || heap->blocks[block].offset % 64)
        complain("a descriptor is torn");
}

static void allocate_two(void) {
    allocate(&writer);
    allocate(&writer);
}

/* --- a result is handed over, and on --------------------------------------------------------- */

static bool was_passed_on_or_never_will(void) {
    return notes.passed_on || explore_is_over(PARENT);
}

static bool was_taken_or_never_will(void) {
    return notes.taken || explore_is_over(READER);
}

static void receive_and_pass_on(void) {
    uint32_t block = (uint32_t)notes.sent - 1;
    rw_heap_hold(&parent, block, holder_of[PARENT]);
    may_use(block, true);
    notes.holds[WRITER][block] = 0;
    rw_heap_release(&parent, block, holder_of[WRITER]);
    notes.passed_on = 1 + block;
    explore_await(was_taken_or_never_will);
    may_use(block, false);
    rw_heap_release(&parent, block, holder_of[PARENT]);
    if (explore_is_dead(READER))
        rw_heap_forget(&parent, holder_of[READER]);
}

static void read_on(void) {
    explore_await(was_passed_on_or_never_will);
    if (!notes.passed_on)
        return;
    uint32_t block = (uint32_t)notes.passed_on - 1;
    rw_heap_hold(&reader, block, holder_of[READER]);
    may_use(block, true);
    notes.taken = 1;
    if (notes.wrong == 0 && !rw_heap_holds(&reader, block, holder_of[READER]))
        complain("a hold is gone");
    may_use(block, false);
    rw_heap_release(&reader, block, holder_of[READER]);
}

static const char *check_held(void) {
    struct rw_heap_usage usage;
    uint64_t held = 0;
    if (explore_is_dead(READER)) /* the parent may have been through when it died */
        rw_heap_forget(&parent, holder_of[READER]);
    rw_heap_usage(&parent, &usage);
    for (uint32_t block = 0; block < 4; block++)
        for (unsigned p = 0; p < EXPLORE_PROCESSES; p++)
            held += notes.holds[p][block] && !explore_is_dead(p);
    if (notes.wrong)
        return (const char *)(uintptr_t)notes.wrong;
    return usage.held_blocks == held ? NULL : "a block is held by nobody, or free and held";
}

/* --- the writer dies, another takes over -------------------------------------------------------
 */

static bool writer_is_gone(void) {
    return explore_is_over(WRITER);
}

static bool is_forgotten(void) {
    return notes.forgotten;
}

static void receive_and_forget(void) {
    uint32_t block = (uint32_t)notes.sent - 1;
    rw_heap_hold(&parent, block, holder_of[PARENT]);
    may_use(block, true);
    notes.holds[WRITER][block] = 0;
    rw_heap_release(&parent, block, holder_of[WRITER]);
    explore_await(writer_is_gone);
    if (explore_is_dead(WRITER))
        rw_heap_forget(&parent, holder_of[WRITER]);
    notes.forgotten = 1;
}

static void succeed(void) {
    explore_await(is_forgotten);
    if (!explore_is_dead(WRITER))
        return;
    if (rw_heap_own(&reader) != RW_OK)
        complain("the heap has no owner");
    allocate(&reader);
    allocate(&reader);
}

const struct explore_case heap_cases[] = {
    {"heap.hand_over",
     setup_with_result,
     {allocate_two, receive_and_pass_on, read_on},
     check_held,
     1 << READER,
     false},
    {"heap.hand_over_buffered",
     setup_with_result,
     {allocate_two, receive_and_pass_on, read_on},
     check_held,
     0,
     true},
    {"heap.successor",
     setup_with_result,
     {allocate_two, receive_and_forget, succeed},
     check_held,
     1 << WRITER,
     false},
    {0},
};

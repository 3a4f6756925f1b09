/* Heap: the writer looks for a free block while others hand one over, at every instruction.
 *
 * A block's holders are bits in several words and the writer reads them one by one. Whoever gives
 * a block holds it until the receiver does, so there is always a holder; the writer must not
 * miss it by looking at each word at the wrong time. Holders 1, 70 and 140 lie in different words.
 */
#include "heap.h"
#include "status.h"
#include "step.h"
#include "world.h"

enum { NEAR = 1, FAR = 70, FARTHER = 140, SMALL = 100 };

static struct rw_heap peer; /* the parent's handle: it does not write */
static uint32_t block, other_block;

static void held_by(uint32_t holder) {
    world_make();
    peer = world_visit().heap;
    rw_heap_alloc(&world.heap, SMALL, holder, &block);
    /* Free on the writer's list at first: it will look at this block when it allocates. */
    rw_heap_release(&world.heap, block, holder);
    rw_heap_hold(&world.heap, block, holder);
}

static void held_by_far(void) {
    held_by(FAR);
}

static void held_by_farther(void) {
    held_by(FARTHER);
}

static void alloc(void) {
    uint32_t got;
    step_control->said[1] = (uint64_t)rw_heap_alloc(&world.heap, SMALL, FAR, &got);
    step_control->said[0] = got;
}

static void usage(void) {
    struct rw_heap_usage use;
    rw_heap_usage(&world.heap, &use);
    step_control->said[0] = use.held_blocks;
}

/* A result: the worker held it, now the parent does. */
static void far_to_parent(void) {
    rw_heap_hold(&peer, block, PARENT);
    rw_heap_release(&peer, block, FAR);
}

/* By way of the parent into a word that the writer has read already. */
static void farther_to_near(void) {
    rw_heap_hold(&peer, block, PARENT);
    rw_heap_release(&peer, block, FARTHER);
    rw_heap_hold(&peer, block, NEAR);
    rw_heap_release(&peer, block, PARENT);
}

static void farther_to_far(void) {
    rw_heap_hold(&peer, block, PARENT);
    rw_heap_release(&peer, block, FARTHER);
    rw_heap_hold(&peer, block, FAR);
    rw_heap_release(&peer, block, PARENT);
}

static enum verdict check_not_given_away(bool finished) {
    (void)finished;
    REQUIRE(step_control->said[1] == RW_OK, WEDGED);
    REQUIRE(step_control->said[0] != block, TORN);
    return FINE;
}

static enum verdict check_counted(bool finished) {
    (void)finished;
    REQUIRE(step_control->said[0] == 1, TORN);
    return FINE;
}

/* --- the other way round: the hand-over stands still, the writer allocates ----------------- */

static void writer_allocates(void) {
    rw_heap_alloc(&world.heap, SMALL, FAR, &other_block);
}

static enum verdict check_both_held(bool finished) {
    (void)finished;
    REQUIRE(other_block != block, TORN);
    REQUIRE(rw_load_relaxed(&peer.blocks[block].holders[PARENT / 64]) == 1, LOST);
    REQUIRE(rw_load_relaxed(&peer.blocks[other_block].holders[FAR / 64]) != 0, LOST);
    return FINE;
}

static void held_elsewhere(void) {
    held_by(NEAR);
}

static void near_releases(void) {
    rw_heap_release(&peer, block, NEAR);
}

/* Free at the instant or not: who got it keeps it. */
static enum verdict check_kept(bool finished) {
    (void)finished;
    REQUIRE(rw_load_relaxed(&peer.blocks[other_block].holders[FAR / 64]) != 0, LOST);
    REQUIRE(rw_load_relaxed(&peer.blocks[block].holders[NEAR / 64]) == 0, TORN);
    return FINE;
}

const struct step_case handover_cases[] = {
    {"handover.alloc_result", held_by_far, alloc, check_not_given_away, far_to_parent, false},
    {"handover.alloc_near", held_by_farther, alloc, check_not_given_away, farther_to_near, false},
    {"handover.alloc_far", held_by_farther, alloc, check_not_given_away, farther_to_far, false},
    {"handover.usage_result", held_by_far, usage, check_counted, far_to_parent, false},
    {"handover.usage_near", held_by_farther, usage, check_counted, farther_to_near, false},
    {"handover.result_alloc", held_by_far, far_to_parent, check_both_held, writer_allocates, false},
    {"handover.release_alloc", held_elsewhere, near_releases, check_kept, writer_allocates, false},
    {0},
};

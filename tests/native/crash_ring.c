/* Ring: the producer or a consumer is killed at any instruction. */
#include "ring.h"
#include "status.h"
#include "step.h"
#include "world.h"

/* Three numbers across the seam of a ring of four: 13 is in cell 2, so 14, 15 and 16 go to cells
 * 3, 0 and 1. */
static void one_in_ring(void) {
    static const uint64_t numbers[] = {11, 12, 13};
    uint64_t out;
    world_make();
    rw_ring_push(&world.ring, numbers, 3, &out);
    rw_ring_pop(&world.ring, &out);
    rw_ring_pop(&world.ring, &out);
}

static void three_in_ring(void) {
    static const uint64_t numbers[] = {14, 15};
    uint64_t out;
    one_in_ring();
    rw_ring_push(&world.ring, numbers, 2, &out);
}

static void full_ring(void) {
    static const uint64_t number = 16;
    uint64_t out;
    three_in_ring();
    rw_ring_push(&world.ring, &number, 1, &out);
}

static void push_three(void) {
    static const uint64_t numbers[] = {14, 15, 16};
    uint64_t pushed;
    if (rw_ring_push(&world.ring, numbers, 3, &pushed) == RW_OK)
        step_control->said[0] = pushed;
}

static void pop_one(void) {
    uint64_t number;
    int status = rw_ring_pop(&world.ring, &number);
    step_control->said[0] = status == RW_OK ? number : 0;
}

/* Empty the ring, then send a full lap through it: producer and consumers can go on. */
static enum verdict still_works(struct rw_ring *ring) {
    static const uint64_t lap[WORLD_RING] = {21, 22, 23, 24};
    uint64_t number, pushed;
    REQUIRE(rw_ring_pop(ring, &number) == RW_EMPTY, TORN);
    REQUIRE(rw_ring_push(ring, lap, WORLD_RING, &pushed) == RW_OK && pushed == WORLD_RING, WEDGED);
    for (int i = 0; i < WORLD_RING; i++)
        REQUIRE(rw_ring_pop(ring, &number) == RW_OK && number == lap[i], WEDGED);
    REQUIRE(rw_ring_length(ring) == 0, WEDGED);
    return FINE;
}

/* A push is all or nothing. */
static enum verdict check_push(bool finished) {
    struct rw_ring ring = world_visit().ring;
    uint64_t length = rw_ring_length(&ring), number;
    REQUIRE(length == 1 || length == 4, TORN);
    REQUIRE(!finished || (length == 4 && step_control->said[0] == 3), LOST);
    for (uint64_t i = 0; i < length; i++)
        REQUIRE(rw_ring_pop(&ring, &number) == RW_OK && number == 13 + i, TORN);
    return still_works(&ring);
}

/* Nothing fits: nothing changes. */
static enum verdict check_push_full(bool finished) {
    struct rw_ring ring = world_visit().ring;
    uint64_t number;
    REQUIRE(!finished || step_control->said[0] == 0, TORN);
    for (uint64_t i = 0; i < 4; i++)
        REQUIRE(rw_ring_pop(&ring, &number) == RW_OK && number == 13 + i, TORN);
    return still_works(&ring);
}

/* The number is still there, or gone with the dead consumer. */
static enum verdict check_pop(bool finished) {
    struct rw_ring ring = world_visit().ring;
    uint64_t length = rw_ring_length(&ring), number;
    bool told = step_control->said[0] != NOTHING_SAID;
    REQUIRE(length == 2 || length == 3, TORN);
    REQUIRE(!told || (step_control->said[0] == 13 && length == 2), TORN);
    REQUIRE(!finished || told, LOST);
    for (uint64_t i = 3 - length; i < 3; i++)
        REQUIRE(rw_ring_pop(&ring, &number) == RW_OK && number == 13 + i, LOST);
    return still_works(&ring);
}

static enum verdict check_pop_empty(bool finished) {
    struct rw_ring ring = world_visit().ring;
    REQUIRE(!finished || step_control->said[0] == 0, TORN);
    return still_works(&ring);
}

const struct step_case ring_cases[] = {
    {"ring.push", one_in_ring, push_three, check_push},
    {"ring.push_full", full_ring, push_three, check_push_full},
    {"ring.pop", three_in_ring, pop_one, check_pop},
    {"ring.pop_empty", world_make, pop_one, check_pop_empty},
    {0},
};

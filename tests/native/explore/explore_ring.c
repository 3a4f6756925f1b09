/* Ring: each number comes out once, whoever meets whom; or went with a consumer that was killed. */
#include <string.h>

#include "explore.h"
#include "ring.h"
#include "status.h"

enum { CAPACITY = 2, NUMBERS = 4, PRODUCER = 0 };

static _Alignas(RW_LINE) uint8_t memory[sizeof(struct rw_ring_words) + CAPACITY * sizeof(rw_a64)];
static struct rw_ring ring;
static struct { /* popped[p]: what process p got; 8 bytes a member: kept memory is hashed */
    uint64_t count[EXPLORE_PROCESSES], popped[EXPLORE_PROCESSES][NUMBERS], sent, corrupt;
} notes;

static void empty_ring(void) {
    memset(memory, 0, sizeof memory);
    memset(&notes, 0, sizeof notes);
    rw_ring_bind(&ring, memory, CAPACITY);
    /* After a lap, so that cells hold old numbers and head and tail are not 0. */
    rw_store_relaxed(&ring.words->head, CAPACITY);
    rw_store_relaxed(&ring.words->tail, CAPACITY);
    explore_share(memory, sizeof memory);
    explore_keep(&notes, sizeof notes);
}

static bool has_room(void) {
    return rw_load_acquire(&ring.words->head) > notes.sent;
}

/* As many as fit at a time. */
static void produce(void) {
    const uint64_t numbers[NUMBERS] = {1, 2, 3, 4};
    uint64_t pushed;
    while (notes.sent < NUMBERS) {
        explore_await(has_room);
        notes.corrupt |= rw_ring_push(&ring, numbers + notes.sent, NUMBERS - notes.sent, &pushed);
        notes.sent += pushed;
    }
}

static bool has_some_or_never_will(void) {
    return rw_ring_length(&ring) > 0 || explore_is_over(PRODUCER);
}

static void consume(void) {
    unsigned me = explore_self();
    uint64_t number;
    int status;
    do {
        explore_await(has_some_or_never_will);
        status = rw_ring_pop(&ring, &number);
        if (status == RW_OK && notes.count[me] < NUMBERS)
            notes.popped[me][notes.count[me]++] = number;
        else if (status == RW_OK)
            notes.corrupt = 1;
    } while (status == RW_OK || (status == RW_EMPTY && !explore_is_over(PRODUCER)));
    notes.corrupt |= status != RW_EMPTY;
}

static const char *check_once(void) {
    unsigned times[NUMBERS + 1] = {0}, missing = 0, last = 0;
    if (notes.corrupt)
        return "the ring is corrupt";
    for (unsigned p = 1; p < EXPLORE_PROCESSES; p++)
        for (uint64_t i = 0; i < notes.count[p]; i++) {
            uint64_t number = notes.popped[p][i];
            if (number < 1 || number > NUMBERS || (i > 0 && number <= notes.popped[p][i - 1]))
                return "a number came out that was not next";
            times[number]++;
            last = number > last ? (unsigned)number : last;
        }
    for (unsigned number = 1; number <= NUMBERS; number++) {
        if (times[number] > 1)
            return "a number came out twice";
        missing += times[number] == 0;
    }
    if (explore_is_dead(PRODUCER)) /* what it had published came out */
        return missing == NUMBERS - last ? NULL : "a number is lost";
    bool taker_died = explore_is_dead(1) || explore_is_dead(2);
    return missing <= taker_died ? NULL : "a number is lost";
}

const struct explore_case ring_cases[] = {
    {"ring.push_pop_pop", empty_ring, {produce, consume, consume}, check_once, 7, false},
    {"ring.push_pop_pop_buffered", empty_ring, {produce, consume, consume}, check_once, 7, true},
    {0},
};

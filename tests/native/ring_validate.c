/* Ring under threads: one producer, several consumers; every number comes out exactly once. */
#include <sched.h>

#include "ring.h"
#include "status.h"
#include "validate.h"

enum { NUMBERS = 100000, CAPACITY = 64, CONSUMERS = 3, BATCH = 24 };

static _Alignas(RW_LINE) uint8_t memory[sizeof(struct rw_ring_words) + CAPACITY * 8];
static _Atomic uint8_t times[NUMBERS];
static _Atomic uint32_t taken;

struct consumer {
    uint64_t popped, disorder;
};

static void *consume(void *argument) {
    struct consumer *me = argument;
    struct rw_ring ring;
    uint64_t number, last = 0;
    rw_ring_bind(&ring, memory, CAPACITY);
    while (atomic_load(&taken) < NUMBERS) {
        int status = rw_ring_pop(&ring, &number);
        validate_need(status == RW_OK || status == RW_EMPTY, "ring is whole");
        if (status == RW_EMPTY) {
            sched_yield();
            continue;
        }
        validate_need(number < NUMBERS, "number was pushed");
        times[number]++;
        taken++;
        me->disorder += me->popped++ > 0 && number <= last;
        last = number;
    }
    return NULL;
}

static void produce(void) {
    struct rw_ring ring;
    uint64_t batch[BATCH], next = 0;
    uint32_t state = 1;
    rw_ring_bind(&ring, memory, CAPACITY);
    while (next < NUMBERS) {
        uint64_t count = 1 + validate_random(&state) % BATCH, pushed;
        if (count > NUMBERS - next)
            count = NUMBERS - next;
        for (uint64_t i = 0; i < count; i++)
            batch[i] = next + i;
        validate_need(rw_ring_push(&ring, batch, count, &pushed) == RW_OK, "ring is whole");
        next += pushed;
        if (pushed > 0)
            validate_watchdog();
        if (pushed < count)
            sched_yield();
    }
}

int main(void) {
    struct consumer consumers[CONSUMERS] = {{0, 0}};
    pthread_t threads[CONSUMERS];
    uint64_t popped = 0, disorder = 0, missing = 0, twice = 0;
    validate_watchdog();
    for (int i = 0; i < CONSUMERS; i++)
        threads[i] = validate_start(consume, &consumers[i]);
    produce();
    for (int i = 0; i < CONSUMERS; i++) {
        pthread_join(threads[i], NULL);
        popped += consumers[i].popped;
        disorder += consumers[i].disorder;
    }
    for (int i = 0; i < NUMBERS; i++) {
        missing += times[i] == 0;
        twice += times[i] > 1;
    }
    printf("ring pushed=%d popped=%lu missing=%lu twice=%lu disorder=%lu\n", NUMBERS, popped,
           missing, twice, disorder);
    return missing || twice || disorder;
}

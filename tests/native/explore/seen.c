#include "seen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 1 << 14 };

static struct seen *table;
static size_t capacity, count;

static struct seen *place_of(uint64_t hash) {
    size_t i = hash & (capacity - 1);
    while (table[i].hash != 0 && table[i].hash != hash)
        i = (i + 1) & (capacity - 1);
    return &table[i];
}

static void make(size_t wanted) {
    capacity = wanted;
    table = calloc(capacity, sizeof *table);
    if (table == NULL) {
        perror("no memory for the states");
        exit(1);
    }
}

void seen_clear(void) {
    free(table);
    count = 0;
    make(FIRST_CAPACITY);
}

static void grow(void) {
    struct seen *old = table;
    size_t size = capacity;
    make(2 * capacity);
    for (size_t i = 0; i < size; i++)
        if (old[i].hash != 0)
            *place_of(old[i].hash) = old[i];
    free(old);
}

struct seen *seen_find(uint64_t hash) {
    hash |= hash == 0;
    if (2 * count >= capacity)
        grow();
    struct seen *found = place_of(hash);
    if (found->hash == 0) {
        found->hash = hash;
        count++;
    }
    return found;
}

/* After wyhash: multiply to 128 bits, fold. */
uint64_t seen_hash(uint64_t hash, const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word;
        memcpy(&word, (const uint8_t *)bytes + i, 8);
        __uint128_t product =
            (__uint128_t)(hash ^ word ^ 0xa0761d6478bd642fULL) * (0xe7037ed1a0b428dbULL + 2 * i);
        hash = (uint64_t)product ^ (uint64_t)(product >> 64);
    }
    return hash;
}

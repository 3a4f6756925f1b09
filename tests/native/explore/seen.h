/* The states that were met, by hash, and how many schedules lead on from each. */
#ifndef SEEN_H
#define SEEN_H

#include <stddef.h>
#include <stdint.h>

struct seen {
    uint64_t hash;    /* 0: an empty place */
    double schedules; /* OPEN while its search goes on */
};
#define SEEN_OPEN (-1.0)

void seen_clear(void);

/* The entry of a state, made if it is new: then its schedules are 0. Valid until the next call. */
struct seen *seen_find(uint64_t hash);

/* Mix more bytes into a hash. pre: size is a multiple of 8. */
uint64_t seen_hash(uint64_t hash, const void *bytes, size_t size);

#endif

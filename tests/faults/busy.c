/* What other threads of a parent may be at while it forks: OpenMP regions, malloc, a long loop. */
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int busy_region(int threads) {
    int members = 0;
#pragma omp parallel num_threads(threads) reduction(+ : members)
    members += 1;
    return members;
}

int busy_malloc(int milliseconds) {
    int64_t end = now_ms() + milliseconds;
    int rounds = 0;
    do {
        for (size_t size = 8; size < 1 << 20; size *= 2) {
            volatile char *piece = malloc(size);
            if (piece == NULL)
                return -1;
            piece[0] = 1;
            free((void *)piece);
        }
        rounds += 1;
    } while (now_ms() < end); /* once at least: a thread may be off its core for that long */
    return rounds;
}

void busy_loop(void) {
    for (volatile int forever = 1; forever;) {
    }
}

/* What the thread harnesses share: threads stand in for processes, so that sanitizers see all. */
#ifndef VALIDATE_H
#define VALIDATE_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A lost wake-up shows as a hang; SIGALRM ends it. To be told again whenever something was done:
 * it is no limit on how long good runs take. */
static inline void validate_watchdog(void) {
    alarm(60);
}

static inline void validate_need(int good, const char *what) {
    if (!good) {
        fprintf(stderr, "not so: %s\n", what);
        exit(1);
    }
}

static inline pthread_t validate_start(void *(*body)(void *), void *argument) {
    pthread_t thread;
    validate_need(pthread_create(&thread, NULL, body, argument) == 0, "thread started");
    return thread;
}

/* The same numbers in every run. */
static inline uint32_t validate_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

#endif

#define _GNU_SOURCE
#include "ownership.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t *page;
static uint64_t given;

static void clear_in_child(void) {
    *page = 0;
}

const uint64_t *rw_ownership_begin(void) {
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    page = mapped;
    /* An emulator that ignores advice takes any, also one that does not exist. */
    if (madvise(page, size, -1) == 0 || madvise(page, size, MADV_WIPEONFORK) != 0) {
        if (pthread_atfork(NULL, NULL, clear_in_child) != 0)
            return NULL;
    }
    return page;
}

uint64_t rw_ownership_token(void) {
    uint64_t token = __atomic_load_n(page, __ATOMIC_RELAXED);
    if (token != 0)
        return token;
    uint64_t fresh = __atomic_add_fetch(&given, 1, __ATOMIC_RELAXED);
    /* Another thread may have been first: then the number is its. */
    if (__atomic_compare_exchange_n(page, &token, fresh, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return fresh;
    return token;
}

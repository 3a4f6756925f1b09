/* What a native call can answer. 0 is success; results go through out-pointers. */
#ifndef RW_STATUS_H
#define RW_STATUS_H

#if !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__))
#error "ringwalk needs Linux on x86-64 or aarch64: futex, memfd and pidfd are Linux calls"
#endif

enum rw_status {
    RW_OK = 0,
    RW_EMPTY = 1,       /* nothing to take; not an error */
    RW_FULL = 2,        /* no room in a fixed-size structure */
    RW_TIMEOUT = 3,     /* the deadline passed */
    RW_INTERRUPTED = 4, /* a signal arrived; run its handlers, then call again */
    RW_STALE = 5,       /* the claim was lost: the task is not what the hint said */
    RW_CORRUPT = 6,     /* shared memory holds a value no correct peer writes */
    RW_NO_MEMORY = 7,   /* the machine has no memory for it; nothing was changed */
    RW_OS = 8,          /* errno tells */
};

#endif

/* Atomic operations whose names carry the memory order (after mimalloc's atomic.h).
 *
 * Shared memory is only ever touched through these. An order that has no name here has no
 * reason here: add the name together with the reason.
 */
#ifndef RW_ATOMICS_H
#define RW_ATOMICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef _Atomic uint32_t rw_a32;
typedef _Atomic uint64_t rw_a64;

/* Lock-free is what makes these usable between processes. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "need lock-free atomics");

static inline uint64_t rw_load_relaxed(const rw_a64 *p) {
    return atomic_load_explicit(p, memory_order_relaxed);
}
static inline uint64_t rw_load_acquire(const rw_a64 *p) {
    return atomic_load_explicit(p, memory_order_acquire);
}
static inline void rw_store_relaxed(rw_a64 *p, uint64_t v) {
    atomic_store_explicit(p, v, memory_order_relaxed);
}
static inline void rw_store_release(rw_a64 *p, uint64_t v) {
    atomic_store_explicit(p, v, memory_order_release);
}
static inline uint64_t rw_add_release(rw_a64 *p, uint64_t v) {
    return atomic_fetch_add_explicit(p, v, memory_order_release);
}
static inline uint64_t rw_or_release(rw_a64 *p, uint64_t v) {
    return atomic_fetch_or_explicit(p, v, memory_order_release);
}
static inline uint64_t rw_and_release(rw_a64 *p, uint64_t v) {
    return atomic_fetch_and_explicit(p, v, memory_order_release);
}
/* Acquire what the previous owner published, release what we prepared. */
static inline bool rw_cas_acq_rel(rw_a64 *p, uint64_t *expected, uint64_t v) {
    return atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_acq_rel,
                                                   memory_order_acquire);
}
static inline uint32_t rw_load32_relaxed(const rw_a32 *p) {
    return atomic_load_explicit(p, memory_order_relaxed);
}
static inline uint32_t rw_load32_acquire(const rw_a32 *p) {
    return atomic_load_explicit(p, memory_order_acquire);
}
static inline void rw_store32_relaxed(rw_a32 *p, uint32_t v) {
    atomic_store_explicit(p, v, memory_order_relaxed);
}
static inline void rw_store32_release(rw_a32 *p, uint32_t v) {
    atomic_store_explicit(p, v, memory_order_release);
}
static inline uint32_t rw_add32_seq_cst(rw_a32 *p, uint32_t v) {
    return atomic_fetch_add_explicit(p, v, memory_order_seq_cst);
}
static inline uint32_t rw_load32_seq_cst(const rw_a32 *p) {
    return atomic_load_explicit(p, memory_order_seq_cst);
}
static inline void rw_store32_seq_cst(rw_a32 *p, uint32_t v) {
    atomic_store_explicit(p, v, memory_order_seq_cst);
}
static inline bool rw_cas32_seq_cst(rw_a32 *p, uint32_t expected, uint32_t v) {
    return atomic_compare_exchange_strong_explicit(p, &expected, v, memory_order_seq_cst,
                                                   memory_order_seq_cst);
}
/* Read-modify-write with full order. Both sides of a "write mine, read yours" hand-shake
 * (Dekker) use one, so at least one of them sees the other. A fence would do on hardware, but
 * ThreadSanitizer does not model fences. */
static inline uint64_t rw_add_seq_cst(rw_a64 *p, uint64_t v) {
    return atomic_fetch_add_explicit(p, v, memory_order_seq_cst);
}
static inline uint64_t rw_load_seq_cst(const rw_a64 *p) {
    return atomic_load_explicit(p, memory_order_seq_cst);
}

#endif

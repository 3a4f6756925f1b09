/* What the compiler calls at each access to memory in code compiled with -fsanitize=thread.
 *
 * Before a plain access, which it then makes itself; in place of an atomic one. The names are those
 * of the sanitizer's run-time library, which is not linked.
 */
#include "explore.h"

enum { RELEASE = 3, SEQ_CST = 5 }; /* memory orders as they are passed */

void __tsan_init(void) {
}
void __tsan_func_entry(void *caller) {
    (void)caller;
}
void __tsan_func_exit(void) {
}

/* --- plain accesses ------------------------------------------------------------------------ */

void __tsan_read1(const void *address) {
    explore_point(address, 1, EXPLORE_PLAIN_LOAD);
}
void __tsan_read4(const void *address) {
    explore_point(address, 4, EXPLORE_PLAIN_LOAD);
}
void __tsan_read8(const void *address) {
    explore_point(address, 8, EXPLORE_PLAIN_LOAD);
}
void __tsan_write1(void *address) {
    explore_point(address, 1, EXPLORE_PLAIN_STORE);
}
void __tsan_write4(void *address) {
    explore_point(address, 4, EXPLORE_PLAIN_STORE);
}
void __tsan_write8(void *address) {
    explore_point(address, 8, EXPLORE_PLAIN_STORE);
}
void __tsan_write_range(void *address, size_t size) {
    explore_point(address, size, EXPLORE_PLAIN_STORE);
}

/* --- atomic accesses ----------------------------------------------------------------------- */

static void store(volatile void *address, size_t size, uint64_t value, int order) {
    if (order == SEQ_CST) {
        explore_point(address, size, EXPLORE_UPDATE);
        explore_update(address, size, value);
    } else {
        explore_point(address, size, EXPLORE_STORE);
        explore_store(address, size, value, order == RELEASE);
    }
}

static uint64_t load(const volatile void *address, size_t size) {
    explore_point(address, size, EXPLORE_LOAD);
    return explore_load(address, size);
}

enum update { ADD, AND, OR };

static uint64_t update(volatile void *address, size_t size, enum update how, uint64_t operand) {
    explore_point(address, size, EXPLORE_UPDATE);
    uint64_t before = explore_load(address, size);
    uint64_t after = how == ADD   ? before + operand
                     : how == AND ? before & operand
                                  : before | operand;
    explore_update(address, size, after);
    return before;
}

static bool swap(volatile void *address, size_t size, uint64_t *expected, uint64_t value) {
    explore_point(address, size, EXPLORE_UPDATE);
    uint64_t before = explore_load(address, size);
    bool same = before == *expected;
    explore_update(address, size, same ? value : before);
    *expected = before;
    return same;
}

uint32_t __tsan_atomic32_load(const volatile uint32_t *address, int order) {
    (void)order;
    return (uint32_t)load(address, sizeof *address);
}
uint64_t __tsan_atomic64_load(const volatile uint64_t *address, int order) {
    (void)order;
    return load(address, sizeof *address);
}
void __tsan_atomic32_store(volatile uint32_t *address, uint32_t value, int order) {
    store(address, sizeof *address, value, order);
}
void __tsan_atomic64_store(volatile uint64_t *address, uint64_t value, int order) {
    store(address, sizeof *address, value, order);
}
uint32_t __tsan_atomic32_fetch_add(volatile uint32_t *address, uint32_t operand, int order) {
    (void)order;
    return (uint32_t)update(address, sizeof *address, ADD, operand);
}
uint64_t __tsan_atomic64_fetch_add(volatile uint64_t *address, uint64_t operand, int order) {
    (void)order;
    return update(address, sizeof *address, ADD, operand);
}
uint64_t __tsan_atomic64_fetch_and(volatile uint64_t *address, uint64_t operand, int order) {
    (void)order;
    return update(address, sizeof *address, AND, operand);
}
uint64_t __tsan_atomic64_fetch_or(volatile uint64_t *address, uint64_t operand, int order) {
    (void)order;
    return update(address, sizeof *address, OR, operand);
}
bool __tsan_atomic32_compare_exchange_strong(volatile uint32_t *address, uint32_t *expected,
                                             uint32_t value, int order, int failure_order) {
    uint64_t found = *expected;
    bool same = swap(address, sizeof *address, &found, value);
    (void)order, (void)failure_order;
    *expected = (uint32_t)found;
    return same;
}
bool __tsan_atomic64_compare_exchange_strong(volatile uint64_t *address, uint64_t *expected,
                                             uint64_t value, int order, int failure_order) {
    (void)order, (void)failure_order;
    return swap(address, sizeof *address, expected, value);
}

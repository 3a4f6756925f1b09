#define _GNU_SOURCE
#include "processes.h"

#include <string.h>
#include <ucontext.h>

enum { NOBODY = -1 };

struct all_processes now;
struct region shared, kept[MOST_KEPT];
unsigned kept_count;
_Alignas(16) uint8_t stacks[EXPLORE_PROCESSES][STACK];

/* As they were before their first step. */
static struct process newborn[EXPLORE_PROCESSES];
static uint8_t newborn_stacks[EXPLORE_PROCESSES][STACK];

static const struct explore_case *current;
static int running = NOBODY;
static jmp_buf scheduler;
static struct { /* a plain store that the process is about to make, or has made by now */
    uint8_t *address;
    size_t size;
    uint64_t before;
} plain;

void explore_share(void *memory, size_t size) {
    shared = (struct region){memory, size};
    kept_count = 0;
}

void explore_keep(void *memory, size_t size) {
    kept[kept_count++] = (struct region){memory, size};
}

unsigned explore_self(void) {
    return (unsigned)running;
}

bool explore_is_dead(unsigned process) {
    return now.each[process].place == DEAD && now.each[process].stored == 0;
}

bool explore_is_over(unsigned process) {
    return now.each[process].place >= ENDED && now.each[process].stored == 0;
}

/* --- memory as a process sees it ------------------------------------------------------------- */

static uint64_t peek(const volatile void *address, size_t size) {
    uint64_t value = 0;
    memcpy(&value, (const void *)address, size);
    return value;
}

static void poke(volatile void *address, size_t size, uint64_t value) {
    memcpy((void *)address, &value, size);
}

static bool is_shared(const volatile void *address) {
    const uint8_t *at = (const uint8_t *)address;
    return running != NOBODY && at >= shared.start && at < shared.start + shared.size;
}

/* The i-th store of a buffer reaches memory. */
void process_flush(struct process *p, uint64_t i) {
    poke(shared.start + p->stores[i].offset, p->stores[i].size, p->stores[i].value);
    p->stored--;
    memmove(&p->stores[i], &p->stores[i + 1], (p->stored - i) * sizeof p->stores[0]);
    memset(&p->stores[p->stored], 0, sizeof p->stores[0]);
}

static void flush_all(struct process *p) {
    while (p->stored > 0)
        process_flush(p, 0);
}

/* In C11 a store passes an earlier one if it is no release and goes elsewhere. */
bool process_can_flush(const struct process *p, uint64_t i) {
    for (uint64_t j = 0; j < i; j++)
        if (p->stores[i].release || p->stores[j].offset / 8 == p->stores[i].offset / 8)
            return false;
    return true;
}

static void buffer(volatile void *address, size_t size, uint64_t value, bool release) {
    struct process *p = &now.each[running];
    p->stores[p->stored++] =
        (struct store){(uint64_t)((const uint8_t *)address - shared.start), size, value, release};
}

/* The compiler's own plain store went to memory: take it back into the buffer. */
static void settle(void) {
    if (plain.address == NULL)
        return;
    uint64_t value = peek(plain.address, plain.size);
    poke(plain.address, plain.size, plain.before);
    buffer(plain.address, plain.size, value, false);
    plain.address = NULL;
}

uint64_t explore_load(const volatile void *address, size_t size) {
    if (is_shared(address)) {
        const struct process *p = &now.each[running];
        uint64_t offset = (uint64_t)((const uint8_t *)address - shared.start);
        for (uint64_t i = p->stored; i-- > 0;)
            if (p->stores[i].offset == offset && p->stores[i].size == size)
                return p->stores[i].value;
    }
    return peek(address, size);
}

void explore_store(volatile void *address, size_t size, uint64_t value, bool release) {
    if (is_shared(address) && current->buffered)
        buffer(address, size, value, release);
    else
        poke(address, size, value);
}

void explore_update(volatile void *address, size_t size, uint64_t value) {
    if (is_shared(address))
        flush_all(&now.each[running]);
    poke(address, size, value);
}

/* --- processes ------------------------------------------------------------------------------ */

/* Give way. The stack from here on, and what setjmp saves, are the process. */
static __attribute__((noinline)) void yield(enum place place) {
    struct process *p = &now.each[running];
    p->place = place;
#if defined(__x86_64__)
    __asm__ volatile("mov %%rsp, %0" : "=r"(p->stack));
#else
    __asm__ volatile("mov %0, sp" : "=r"(p->stack));
#endif
    if (_setjmp(p->registers) == 0)
        _longjmp(scheduler, 1);
}

/* The compiler itself goes to memory after this, not to the buffer. */
static void before_plain(struct process *p, uint8_t *address, size_t size) {
    for (uint64_t i = 0; i < p->stored; i++)
        if (p->stores[i].offset / 8 == p->offset / 8) {
            flush_all(p);
            break;
        }
    if (p->access == EXPLORE_PLAIN_STORE) {
        plain.address = address;
        plain.size = size;
        plain.before = peek(address, size);
    }
}

void explore_point(const volatile void *address, size_t size, enum explore_access access) {
    if (!is_shared(address))
        return;
    settle();
    struct process *p = &now.each[running];
    p->access = access;
    p->offset = (uint64_t)((const uint8_t *)address - shared.start);
    if (access != EXPLORE_PLAIN_LOAD)
        yield(RUNS);
    if (current->buffered && access >= EXPLORE_PLAIN_LOAD)
        before_plain(p, (uint8_t *)address, size);
}

static void wait_at(enum place place) {
    settle();
    yield(place);
}

void explore_await(bool (*ready)(void)) {
    now.each[running].ready = ready;
    wait_at(AWAITS);
    now.each[running].ready = NULL;
}

void explore_system_call(void) {
    struct process *p = &now.each[running];
    settle();
    p->access = EXPLORE_UPDATE;
    p->offset = NOWHERE;
    yield(RUNS);
    flush_all(p);
}

void explore_sleep_on(const void *word) {
    struct process *p = &now.each[running];
    p->slept_on = word;
    for (unsigned i = 0; i < EXPLORE_PROCESSES; i++)
        if (now.each[i].place == SLEEPS && now.each[i].ticket >= p->ticket)
            p->ticket = now.each[i].ticket + 1;
    yield(SLEEPS);
}

static struct process *first_sleeper(const void *word) {
    struct process *first = NULL;
    for (struct process *p = now.each; p < now.each + EXPLORE_PROCESSES; p++)
        if (p->place == SLEEPS && p->slept_on == word && (!first || p->ticket < first->ticket))
            first = p;
    return first;
}

void explore_wake(const void *word, int count) {
    struct process *p;
    while (count-- > 0 && (p = first_sleeper(word)) != NULL) {
        p->place = RUNS;
        p->slept_on = NULL;
        p->ticket = 0;
        p->access = EXPLORE_LOAD;
        p->offset = NOWHERE;
    }
}

/* --- steps ------------------------------------------------------------------------------------ */

static void leave(struct process *p, enum place place) {
    memset(p->registers, 0, sizeof p->registers);
    p->stack = stacks[p - now.each] + STACK;
    p->place = place;
    p->slept_on = p->ready = NULL;
    p->ticket = p->access = p->offset = 0;
}

static void live(void) {
    current->processes[running]();
    settle();
    leave(&now.each[running], ENDED);
    _longjmp(scheduler, 1);
}

static void start(unsigned i) {
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks[i];
    context.uc_stack.ss_size = STACK;
    makecontext(&context, live, 0);
    running = (int)i;
    if (_setjmp(scheduler) == 0)
        setcontext(&context);
    running = NOBODY;
}

void explore_restart(unsigned process) {
    now.each[process] = newborn[process];
    memcpy(stacks[process], newborn_stacks[process], STACK);
}

bool process_can_step(const struct process *p) {
    if (p->place == AWAITS)
        return p->ready();
    bool stores = p->access == EXPLORE_STORE || p->access == EXPLORE_PLAIN_STORE;
    return p->place == RUNS && (!stores || p->stored < BUFFER);
}

void process_step(struct process *p) {
    running = (int)(p - now.each);
    if (_setjmp(scheduler) == 0)
        _longjmp(p->registers, 1);
    running = NOBODY;
}

void process_kill(struct process *p) {
    now.deaths++;
    leave(p, DEAD);
}

void processes_begin(const struct explore_case *one) {
    memset(&now, 0, sizeof now);
    memset(stacks, 0, sizeof stacks);
    current = one;
    for (unsigned i = 0; i < EXPLORE_PROCESSES; i++)
        if (one->processes[i] != NULL)
            start(i);
        else
            leave(&now.each[i], ENDED);
    memcpy(newborn, now.each, sizeof newborn);
    memcpy(newborn_stacks, stacks, sizeof stacks);
}

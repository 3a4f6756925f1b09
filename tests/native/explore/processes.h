/* Processes as coroutines on memory that they share: what a state consists of, and its steps. */
#ifndef PROCESSES_H
#define PROCESSES_H

#include <setjmp.h>

#include "explore.h"

#define NOWHERE UINT64_MAX /* offset of a step that is no access */

enum { STACK = 16 << 10, BUFFER = 8, MOST_KEPT = 4 };

enum place { RUNS, AWAITS, SLEEPS, ENDED, DEAD };

/* Members of eight bytes: a state is hashed as a whole, and padding holds anything. */
struct store {
    uint64_t offset, size, value, release;
};

struct process {
    jmp_buf registers;
    uint64_t place; /* enum place */
    bool (*ready)(void);
    const void *slept_on;
    uint64_t ticket;         /* order among the sleepers */
    uint64_t access, offset; /* its next step */
    uint64_t stored;
    struct store stores[BUFFER]; /* oldest first */
    uint8_t *stack;              /* the lowest address in use */
};

struct region {
    uint8_t *start;
    size_t size;
};

/* The state: this, the regions, and the stacks from each process's address to their end. */
struct all_processes {
    struct process each[EXPLORE_PROCESSES];
    uint64_t deaths;
};
extern struct all_processes now;
extern struct region shared, kept[MOST_KEPT];
extern unsigned kept_count;
extern uint8_t stacks[EXPLORE_PROCESSES][STACK];

/* Have every process of a case stand before its first step. */
void processes_begin(const struct explore_case *one);

bool process_can_step(const struct process *p);
void process_step(struct process *p);

/* Whether the i-th store in a process's buffer may be the next to reach memory; have it do so. */
bool process_can_flush(const struct process *p, uint64_t i);
void process_flush(struct process *p, uint64_t i);

void process_kill(struct process *p);

#endif

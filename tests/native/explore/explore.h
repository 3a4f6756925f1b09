/* Try every schedule of a few processes that run the real core, and every place to die.
 *
 * Overview: the core is compiled with -fsanitize=thread but not linked to ThreadSanitizer: the
 * compiler announces each access to memory, with its C11 order, and hooks.c makes those to shared
 * memory the points at which processes (coroutines here) take turns. A state is all that the
 * processes have: shared memory, their stacks and registers, notes of the case. From each state
 * that was not met before, each process makes one step, and each mortal one dies; so this is every
 * schedule, with no bound on how often processes take turns.
 *
 * Guarantees, within the case's size: every end state is checked; processes that all wait are
 * found (a lost wake-up); so is a state that comes again on one schedule (a loop that waits for
 * nobody: the ring wedged). States are told apart by 64 bits of hash.
 *
 * Memory: steps are sequentially consistent. With `buffered`, stores other than seq_cst ones wait
 * in a buffer of the process and reach memory in any order that C11 allows for stores: release
 * after all before it, relaxed and plain ones at any time (x86-64 keeps them in order, aarch64 does
 * not). Not modelled: loads that are done early. ThreadSanitizer looks for those.
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXPLORE_PROCESSES = 3 };

struct explore_case {
    const char *name;
    void (*setup)(void); /* first forgets the last case: explore_share and explore_keep anew */
    void (*processes[EXPLORE_PROCESSES])(void);
    const char *(*check)(void); /* what is wrong in an end state; NULL: nothing */
    unsigned mortal;            /* bit p: process p may be killed, at any step; one a schedule */
    bool buffered;
};

/* Memory in which every access is a step. One region a case. */
void explore_share(void *memory, size_t size);

/* Memory of the case that belongs to its state: each process writes only its own, or nobody looks
 * before the end. Accesses are no steps. */
void explore_keep(void *memory, size_t size);

/* For processes: wait until ready says so. It is asked in every state and must change nothing. */
void explore_await(bool (*ready)(void));

/* Whether a process was killed, and its last stores have reached memory. */
bool explore_is_dead(unsigned process);

/* For processes: start another in the place of one that is dead, from its beginning. */
void explore_restart(unsigned process);

/* Whether it will do nothing any more, dead or not. */
bool explore_is_over(unsigned process);

/* The process that runs. */
unsigned explore_self(void);

/* For the stand-ins of system calls. Sleep until as many wakes as it takes; first come, first
 * served, as the kernel does. Entering the kernel empties the process's buffer. */
void explore_system_call(void);
void explore_sleep_on(const void *word);
void explore_wake(const void *word, int count);

/* Explore a case and print one line of counts. False: something is wrong, and where is told. */
bool explore(const struct explore_case *one);

/* --- for hooks.c: outside of shared memory, or when no process runs, these are plain accesses ---
 */

enum explore_access {
    EXPLORE_LOAD,
    EXPLORE_STORE,
    EXPLORE_UPDATE, /* read-modify-write, and a seq_cst store */
    EXPLORE_PLAIN_LOAD,
    EXPLORE_PLAIN_STORE,
};

/* A step begins: others take their turns, then this process goes on. */
void explore_point(const volatile void *address, size_t size, enum explore_access access);

uint64_t explore_load(const volatile void *address, size_t size);
void explore_store(volatile void *address, size_t size, uint64_t value, bool release);

/* The end of a read-modify-write or seq_cst store: all that the process stored is in memory. */
void explore_update(volatile void *address, size_t size, uint64_t value);

#endif

/* Kill a process at every instruction of every operation on shared memory.
 *
 * usage: crash_step group ...; prints one line of counts a case, exits 0 if no promise of the
 * headers in ext/csrc was broken, 77 if ptrace is not permitted. See step.h.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "step.h"

extern const struct step_case ring_cases[], eventcount_cases[], board_cases[], heap_cases[],
    teeth_cases[];

static const struct {
    const char *name;
    const struct step_case *cases; /* the last has no name */
} groups[] = {
    {"ring", ring_cases}, {"eventcount", eventcount_cases}, {"board", board_cases},
    {"heap", heap_cases}, {"teeth", teeth_cases},
};

static bool wanted(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return false;
}

int main(int argc, char **argv) {
    bool good = true;
    /* On one core a stop costs a fifth of what it costs across two. */
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    for (unsigned i = 0; i < sizeof groups / sizeof groups[0]; i++)
        if (wanted(groups[i].name, argc, argv))
            for (const struct step_case *c = groups[i].cases; c->name != NULL; c++)
                good &= step_through(c);
    return good ? 0 : 1;
}

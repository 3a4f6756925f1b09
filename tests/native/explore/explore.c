#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processes.h"
#include "seen.h"

/* --- states ----------------------------------------------------------------------------------- */

static struct region stack_of(unsigned i) {
    uint8_t *from = now.each[i].stack;
    return (struct region){from, (size_t)(stacks[i] + STACK - from)};
}

static uint8_t *put(uint8_t *to, struct region part) {
    memcpy(to, part.start, part.size);
    return to + part.size;
}

static const uint8_t *take(const uint8_t *from, struct region part) {
    memcpy(part.start, from, part.size);
    return from + part.size;
}

static const struct region fixed = {(uint8_t *)&now, sizeof now};

static uint8_t *save(void) {
    size_t size = fixed.size + shared.size;
    for (unsigned i = 0; i < kept_count; i++)
        size += kept[i].size;
    for (unsigned i = 0; i < EXPLORE_PROCESSES; i++)
        size += stack_of(i).size;
    uint8_t *copy = malloc(size), *to = copy;
    if (copy == NULL) {
        perror("no memory for a state");
        exit(1);
    }
    to = put(put(to, fixed), shared);
    for (unsigned i = 0; i < kept_count; i++)
        to = put(to, kept[i]);
    for (unsigned i = 0; i < EXPLORE_PROCESSES; i++)
        to = put(to, stack_of(i));
    return copy;
}

static void restore(const uint8_t *from) {
    from = take(take(from, fixed), shared);
    for (unsigned i = 0; i < kept_count; i++)
        from = take(from, kept[i]);
    for (unsigned i = 0; i < EXPLORE_PROCESSES; i++)
        from = take(from, stack_of(i));
}

static uint64_t hash(void) {
    uint64_t h = seen_hash(seen_hash(1, fixed.start, fixed.size), shared.start, shared.size);
    for (unsigned i = 0; i < kept_count; i++)
        h = seen_hash(h, kept[i].start, kept[i].size);
    for (unsigned i = 0; i < EXPLORE_PROCESSES; i++)
        h = seen_hash(h, stack_of(i).start, stack_of(i).size);
    return h;
}

/* --- the search ------------------------------------------------------------------------------- */

enum { MOST_STEPS = 4096 };

static const struct explore_case *current;

static struct {
    uint64_t states, steps, ends;
    bool failed;
} found;

static struct {
    const char *what;
    unsigned process;
    uint64_t offset;
} path[MOST_STEPS];
static unsigned depth;

static void fail(const char *what) {
    static const char *const tail = "  process %u %s";
    fprintf(stderr, "%s: %s, after\n", current->name, what);
    for (unsigned i = 0; i < depth; i++) {
        fprintf(stderr, tail, path[i].process, path[i].what);
        if (path[i].offset != NOWHERE)
            fprintf(stderr, " at %#lx", (unsigned long)path[i].offset);
        fputc('\n', stderr);
    }
    found.failed = true;
}

static double visit(void);

/* After a transition: what follows. */
static double follow(const struct process *p, const char *what, uint64_t offset) {
    if (depth == MOST_STEPS) {
        fail("it takes too many steps");
        return 0;
    }
    path[depth].process = (unsigned)(p - now.each);
    path[depth].what = what;
    path[depth++].offset = offset;
    found.steps++;
    double schedules = visit();
    depth--;
    return schedules;
}

static const char *name_of(const struct process *p) {
    static const char *const names[] = {"loads", "stores", "updates", "reads", "writes"};
    return p->place == AWAITS     ? "goes on"
           : p->offset == NOWHERE ? "enters or leaves"
                                  : names[p->access];
}

static bool all_ended(void) {
    bool all = true;
    for (unsigned i = 0; i < EXPLORE_PROCESSES; i++)
        all &= now.each[i].place >= ENDED;
    return all;
}

/* From the state that was just reached, if it is new; returns the schedules from here on. */
static double visit(void) {
    struct seen *seen = seen_find(hash());
    if (seen->schedules == SEEN_OPEN)
        fail("it goes round for ever");
    if (seen->schedules != 0)
        return seen->schedules;
    uint64_t me = seen->hash;
    seen->schedules = SEEN_OPEN;
    found.states++;
    uint8_t *here = save();
    double schedules = 0;
    bool moved = false;
    for (struct process *p = now.each; p < now.each + EXPLORE_PROCESSES; p++) {
        if (!found.failed && process_can_step(p)) {
            const char *what = name_of(p);
            uint64_t offset = p->place == AWAITS ? NOWHERE : p->offset;
            moved = true;
            process_step(p);
            schedules += follow(p, what, offset);
            restore(here);
        }
        for (uint64_t i = 0; !found.failed && i < p->stored; i++)
            if (process_can_flush(p, i)) {
                uint64_t offset = p->stores[i].offset;
                moved = true;
                process_flush(p, i);
                schedules += follow(p, "has its store reach memory", offset);
                restore(here);
            }
    }
    if (!moved && !found.failed) {
        const char *wrong = all_ended() ? current->check() : "somebody waits for ever";
        if (wrong != NULL)
            fail(wrong);
        found.ends++;
        schedules++;
    }
    for (struct process *p = now.each; p < now.each + EXPLORE_PROCESSES; p++)
        if (!found.failed && now.deaths == 0 && p->place < ENDED &&
            current->mortal >> (p - now.each) & 1) {
            process_kill(p);
            schedules += follow(p, "is killed", NOWHERE);
            restore(here);
        }
    free(here);
    seen_find(me)->schedules = schedules;
    return schedules;
}

bool explore(const struct explore_case *one) {
    memset(&found, 0, sizeof found);
    depth = 0;
    current = one;
    one->setup();
    seen_clear();
    processes_begin(one);
    double schedules = visit();
    printf("%s states=%lu steps=%lu ends=%lu schedules=%.2g failed=%d\n", one->name,
           (unsigned long)found.states, (unsigned long)found.steps, (unsigned long)found.ends,
           schedules, found.failed);
    fflush(stdout);
    return !found.failed;
}

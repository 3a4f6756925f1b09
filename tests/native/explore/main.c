/* usage: explore [case ...]; all without a name. Exits 1 if something is wrong. */
#include <stdio.h>
#include <string.h>

#include "explore.h"

extern const struct explore_case ring_cases[], board_cases[], heap_cases[];

static const struct explore_case *const groups[] = {ring_cases, board_cases, heap_cases};

int main(int argc, char **argv) {
    bool good = true;
    for (unsigned i = 0; i < sizeof groups / sizeof groups[0]; i++)
        for (const struct explore_case *c = groups[i]; c->name != NULL; c++) {
            bool wanted = argc == 1;
            for (int a = 1; a < argc; a++)
                wanted |= strcmp(argv[a], c->name) == 0;
            if (wanted)
                good &= explore(c);
        }
    return good ? 0 : 1;
}

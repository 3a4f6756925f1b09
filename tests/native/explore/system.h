/* What the stand-ins for system calls keep: a part of the state. */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stdint.h>

#include "explore.h"

extern uint64_t system_wakes; /* 1 when the eventfd was written and not read since */

/* Seconds on each process's clock: one more each time that it is read, or with 0 none ever. */
extern uint64_t system_clocks[EXPLORE_PROCESSES];

#endif

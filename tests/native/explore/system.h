/* What the stand-ins for system calls keep: a part of the state. */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stdint.h>

extern uint64_t system_wakes; /* 1 when the eventfd was written and not read since */

#endif

/* Which process made something: a number that no forked child shares with its parent.
 *
 * The number lies in a page that the kernel clears in every forked child (MADV_WIPEONFORK) before
 * the child's first instruction, whoever forked and whichever fork hooks run, in whatever order. A
 * process id does not tell: it is given again, and differs between pid namespaces.
 *
 * A process is numbered when it first asks. The count of numbers is inherited, so no process has
 * the number of one that it descends from. Processes of different programs may have equal numbers.
 *
 * Hazard: a kernel before Linux 4.14 and some emulators clear no page. There a fork handler of the
 * C library does it, which a bare clone() or fork system call does not run.
 */
#ifndef RW_OWNERSHIP_H
#define RW_OWNERSHIP_H

#include <stdint.h>

/* Map the page; points at this process's number, 0 while it has none. NULL and errno. Once. */
const uint64_t *rw_ownership_begin(void);

/* This process's number, not 0. From any thread. */
uint64_t rw_ownership_token(void);

#endif

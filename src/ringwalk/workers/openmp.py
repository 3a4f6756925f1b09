"""Let children of a fork use GNU's OpenMP.

libgomp keeps the threads of a thread's last parallel region for the next one. A forked child has
the record of them without the threads, and its first parallel region waits for them for ever. So
they are let go before a fork, by the call that OpenMP 5.0 has for it; the parent's next region
makes new ones. LLVM's and Intel's libraries look after forks themselves. A libgomp of before GCC 9
lacks the call: a region of more than one thread in the child may hang, if the parent had one.

The record belongs to the thread that forks, so regions that run in other threads do no harm.
"""

from __future__ import annotations

from ringwalk.workers.loaded import thread_pools

OMP_PAUSE_SOFT = 1  # keep what is not a thread


def release_openmp_threads() -> None:
    """End the threads that libgomp keeps for this thread. Call it right before a fork."""
    for library in thread_pools().lib_controllers:
        # By its prefix: wheels bring copies of it with names of their own.
        if library.prefix == "libgomp" and hasattr(library.dynlib, "omp_pause_resource_all"):
            # Refused inside a parallel region, where a child's regions have one thread anyway.
            library.dynlib.omp_pause_resource_all(OMP_PAUSE_SOFT)

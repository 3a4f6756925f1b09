"""What the machine, its batch system and its container grant: CPUs, memory, limits, processes."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator

from threadpoolctl import threadpool_info

from ringwalk import TaskMapper, WorkerMapper
from ringwalk._core import headroom
from ringwalk.cli.doctor.finding import Finding
from ringwalk.config import cgroup_quotas, usable_cpus
from ringwalk.errors import RingwalkError
from ringwalk.memory.reclaim import FOLDER, find_left
from ringwalk.workers.gpu_runtimes import initialised_runtime

_MIB = 1 << 20
# docker run gives a container this much, which a block of a few thousand walkers fills.
_SMALL_SHARED_MEMORY = 64 * _MIB
# A worker takes four descriptors of the parent; 256 workers and a program's own files fit.
_FEW_DESCRIPTORS = 1024


def check_machine() -> Iterator[Finding]:
    """Look at everything that needs no package beyond our own."""
    yield _kernel()
    yield _cpus()
    yield _shared_memory()
    yield _memory()
    yield from _limits()
    yield from _blas()
    yield _left()
    yield from _forking()


def _kernel() -> Finding:
    release = f"Linux {os.uname().release}, Python {sys.version.split()[0]}"
    try:
        os.close(os.pidfd_open(os.getpid()))
        os.close(os.memfd_create("ringwalk", os.MFD_CLOEXEC))
    except OSError as error:
        return Finding(
            "kernel",
            "problem",
            f"{release}: pidfd_open or memfd_create failed: {error}",
            "use Linux 5.4 or newer, and a container whose seccomp profile allows these calls",
        )
    return Finding("kernel", "ok", release)


def _cpus() -> Finding:
    machine, affinity, usable = os.cpu_count() or 1, len(os.sched_getaffinity(0)), usable_cpus()
    quota = min(cgroup_quotas(), default=None)
    limit = "no cgroup quota" if quota is None else f"a cgroup quota of {quota:g}"
    found = f"{usable} usable: the machine has {machine}, affinity allows {affinity}, {limit}"
    if slurm := os.environ.get("SLURM_CPUS_PER_TASK"):
        found += f", SLURM_CPUS_PER_TASK={slurm}"
    if usable > affinity:
        return Finding(
            "CPUs",
            "warning",
            found,
            f"{usable} workers would share {affinity} CPUs: start the step with `srun -c {usable}`",
        )
    return Finding("CPUs", "ok", found)


def _shared_memory() -> Finding:
    if not os.access(FOLDER, os.W_OK):
        return Finding(
            "shared memory",
            "problem",
            f"{FOLDER} is missing or not writable",
            "mount a tmpfs there, or run the container with one (docker run --shm-size 1g)",
        )
    room = os.statvfs(FOLDER)
    free, size = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    found = f"{FOLDER} has {_amount(free)} free of {_amount(size)}"
    if free < _SMALL_SHARED_MEMORY:
        return Finding(
            "shared memory",
            "warning",
            found,
            "walker blocks live there: enlarge it (docker run --shm-size 1g), or remove what "
            "fills it; `ringwalk clean` shows what a crash left",
        )
    return Finding("shared memory", "ok", found)


def _memory() -> Finding:
    free, cgroup = headroom.available()
    whose = "the machine" if cgroup is None else f"the cgroup {cgroup}"
    found = f"{_amount(free)} before {whose} has no more"
    if free < _SMALL_SHARED_MEMORY:
        return Finding("memory", "warning", found, "ask for more memory, or end what uses it")
    return Finding("memory", "ok", found)


def _limits() -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _FEW_DESCRIPTORS:
        yield Finding(
            "open files",
            "warning",
            f"limited to {files}",
            f"a large pool needs more: ulimit -n {_FEW_DESCRIPTORS}",
        )
    else:
        yield Finding("open files", "ok", f"limited to {_count(files)}")
    space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if space != resource.RLIM_INFINITY:
        yield Finding(
            "address space",
            "warning",
            f"limited to {_amount(space)}",
            "a pool reserves addresses that it may never fill: ulimit -v unlimited, and limit "
            "memory by a cgroup",
        )
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    yield Finding("processes", "ok", f"limited to {_count(processes)}")


def _blas() -> Iterator[Finding]:
    """Thread pools of the libraries that numpy has brought in."""
    usable = usable_cpus()
    for library in threadpool_info():
        name = f"{library['internal_api']} {library['version'] or ''}".strip()
        threads = library["num_threads"]
        if threads > usable:
            yield Finding(
                "BLAS threads",
                "warning",
                f"{name} takes {threads} threads for {usable} CPUs in your own process",
                f"export OMP_NUM_THREADS={usable}; workers get their share by themselves",
            )
        else:
            yield Finding("BLAS threads", "ok", f"{name}: {threads}; workers get a share each")


def _forking() -> Iterator[Finding]:
    """By doing it: each process mapper runs eight segments on two workers."""
    runtime = initialised_runtime()
    if runtime is not None:
        yield Finding(
            "fork safety",
            "problem",
            f"importing ringwalk initialised {runtime.name}: {runtime.evidence}",
            "find the .pth file or sitecustomize that starts it in every Python, and remove it",
        )
        return
    for kind in (WorkerMapper, TaskMapper):
        try:
            with kind(abs, 2) as mapper:
                done = mapper.map(range(-8, 0)) == list(range(8, 0, -1))
        except (RingwalkError, OSError) as error:
            done, found = False, f"{kind.__name__} failed: {error}"
        else:
            found = f"{kind.__name__} ran 8 segments in forked processes"
        if done:
            yield Finding("fork safety", "ok", found)
        else:
            yield Finding(
                "fork safety", "problem", found, "mend what the lines above name, then run again"
            )


def _left() -> Finding:
    left = find_left()
    if left:
        names = ", ".join(path.name for path in left)
        return Finding("left behind", "warning", names, "ringwalk clean --yes")
    return Finding("left behind", "ok", "nothing from an earlier crash")


def _count(limit: int) -> str:
    return "nothing" if limit == resource.RLIM_INFINITY else f"{limit:,}"


def _amount(count: int) -> str:
    if count >= 1 << 60:  # what an unlimited tmpfs or machine says
        return "no end"
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / _MIB:.0f} MiB"

"""How many workers to start: argument > environment > what this process may really use.

``os.cpu_count()`` is the machine's size, not ours: a batch system grants a job some cores by
affinity, a container grants it time by a cgroup quota. The smallest of those counts. Slurm's
``SLURM_CPUS_PER_TASK`` is the user's own word (it exists only where ``-c`` was given) and wins.

This module reads limits and never sets any: nothing is pinned or re-bound here.
"""

from __future__ import annotations

import logging
import math
import operator
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import SupportsIndex

from ringwalk.errors import ConfigError

NUM_WORKERS_VARIABLE = "RINGWALK_NUM_WORKERS"
# The most workers one mapper can address in shared memory.
MAX_WORKERS = 383

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC = Path("/proc")

log = logging.getLogger("ringwalk")


def resolve_num_workers(argument: SupportsIndex | None) -> int:
    """Return the number of workers to start, from 1 to ``MAX_WORKERS``.

    The argument wins, then ``RINGWALK_NUM_WORKERS``, then ``usable_cpus()``. A number that was
    asked for and cannot be had is refused; only the default is cut to ``MAX_WORKERS``.

    Raises:
        ConfigError: the number is no integer, below 1 or above ``MAX_WORKERS``.
    """
    if argument is not None:
        try:
            count = operator.index(argument)
        except TypeError:
            count = 0
        if isinstance(argument, bool) or not 1 <= count <= MAX_WORKERS:
            raise ConfigError(
                f"num_workers is {argument!r}; pass an integer from 1 to {MAX_WORKERS}, "
                f"or None for {NUM_WORKERS_VARIABLE} or one worker per usable core"
            )
        return count
    from_environment = _count_from_environment(NUM_WORKERS_VARIABLE)
    if from_environment is None:
        return min(usable_cpus(), MAX_WORKERS)
    if from_environment > MAX_WORKERS:
        raise ConfigError(
            f"{NUM_WORKERS_VARIABLE} is {from_environment}; "
            f"set it to an integer from 1 to {MAX_WORKERS}, or unset it"
        )
    return from_environment


def usable_cpus(*, cgroup_root: Path = CGROUP_ROOT, proc: Path = PROC) -> int:
    """Return how many CPUs the calling thread may use at once, at least 1.

    A quota of one and a half CPUs counts as two: two workers can use it up, one cannot.

    Raises:
        ConfigError: ``SLURM_CPUS_PER_TASK`` is set and is not a positive integer.
    """
    affinity = len(os.sched_getaffinity(0))
    per_task = _count_from_environment("SLURM_CPUS_PER_TASK")
    if affinity == 1:
        _warn_if_job_has_more(per_task)
    if per_task is not None:
        return per_task
    quotas = (math.ceil(quota) for quota in cgroup_quotas(cgroup_root=cgroup_root, proc=proc))
    return max(1, min([affinity, *quotas]))


def _warn_if_job_has_more(per_task: int | None) -> None:
    """Say that a Slurm step has one core of several: ``srun`` without ``-c`` gives just that."""
    if per_task == 1 or not any(name.startswith("SLURM_") for name in os.environ):
        return
    on_node = os.environ.get("SLURM_CPUS_ON_NODE", "")
    if _is_number(on_node):
        available, source = int(on_node), f"SLURM_CPUS_ON_NODE={on_node}"
    else:
        available, source = os.cpu_count() or 1, "the machine"
    if per_task is not None and per_task > available:
        available, source = per_task, f"SLURM_CPUS_PER_TASK={per_task}"
    if available > 1:
        log.warning(
            "this Slurm step may run on 1 core only, but %s has %d: all workers will share that "
            "core. Start it with `srun -c %d` (srun does not take -c over from sbatch).",
            source,
            available,
            available,
        )


def _count_from_environment(name: str) -> int | None:
    value = os.environ.get(name)
    if value is None:
        return None
    if not _is_number(value) or int(value) < 1:
        raise ConfigError(f"{name} is {value!r}; set it to a positive integer, or unset it")
    return int(value)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal()


def cgroup_quotas(*, cgroup_root: Path = CGROUP_ROOT, proc: Path = PROC) -> Iterator[float]:
    """Yield the quota, in CPUs, of our cgroup and of each one above it that has a quota."""
    for folder in _cgroup_folders(cgroup_root, proc):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        if not quota:
            quota = _read(folder / "cpu.cfs_quota_us").strip()
            period = _read(folder / "cpu.cfs_period_us").strip()
        if _is_number(quota) and _is_number(period):  # no limit is "max" or "-1"
            yield int(quota) / int(period)


def _cgroup_folders(root: Path, proc: Path) -> Iterator[Path]:
    paths: dict[str, str] = {}  # controllers of a hierarchy ("" is version 2) -> our cgroup in it
    for line in _read(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        paths[controllers] = path
    # A controller belongs to one hierarchy at a time, so a version 1 "cpu" means that the
    # version 2 tree, which hybrid systems mount as well, holds no CPU limit.
    version_1 = next((names for names in paths if "cpu" in names.split(",")), None)
    if version_1 is not None:
        # "cpu" is the mount or, where it is mounted as "cpu,cpuacct", the customary link to it.
        yield from _upwards(root / "cpu", paths[version_1])
    elif "" in paths:
        yield from _upwards(root, paths[""])


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Yield the cgroup's folder, then its parents up to the root of the mount.

    In a container the path may be the host's, or lead out of the mount by ``..``; folders that
    are not there hold no limit that we can see, the mount's root holds the container's own.
    """
    inside = PurePosixPath(path.lstrip("/"))
    if ".." not in inside.parts:
        yield mount / inside
        yield from (mount / parent for parent in inside.parents)
    else:
        yield mount


def _read(path: Path) -> str:
    """Return the file's text, or "": a limit that we may not read cannot be taken into account."""
    try:
        return path.read_text()
    except OSError:
        return ""

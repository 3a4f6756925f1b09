"""Which cores each worker may run on: one of its own, all of one NUMA node, or whichever are free.

Workers take turns on the NUMA nodes, so that each node's memory serves as many as the others'. A
bound worker's own memory comes from its node, as Linux gives pages from the node of the core that
first writes to them; so do the pages of shared memory that it writes first.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Literal

from ringwalk.errors import ConfigError

Binding = Literal["cores", "nodes"]
NODES = Path("/sys/devices/system/node")


def cores_for_workers(
    binding: Binding | None, num_workers: int, *, nodes: Path = NODES
) -> tuple[frozenset[int], ...] | None:
    """Cores of each worker, of those that the calling thread may use; None for no binding.

    Raises:
        ConfigError: fewer cores than workers that are to have one each.
    """
    if binding is None:
        return None
    groups = _granted_by_node(nodes)
    if binding == "nodes":
        return tuple(frozenset(groups[k % len(groups)]) for k in range(num_workers))
    turns = itertools.chain.from_iterable(itertools.zip_longest(*groups))
    cores = [core for core in turns if core is not None]
    if num_workers > len(cores):
        raise ConfigError(
            f"bind='cores' wants a core for each of {num_workers} workers, and this process may "
            f"use {len(cores)}; use num_workers={len(cores)}, bind='nodes' or bind=None"
        )
    return tuple(frozenset({core}) for core in cores[:num_workers])


def _granted_by_node(nodes: Path) -> list[list[int]]:
    """The cores that this thread may use, node by node; one list where nothing tells of nodes."""
    granted = os.sched_getaffinity(0)
    lists = [_parse((node / "cpulist").read_text()) for node in sorted(nodes.glob("node[0-9]*"))]
    groups = [[core for core in cores if core in granted] for cores in lists]
    return [group for group in groups if group] or [sorted(granted)]


def _parse(text: str) -> list[int]:
    """``0-3,8-11``, as the kernel writes a list of cores; a node of memory alone has none."""
    cores: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return cores

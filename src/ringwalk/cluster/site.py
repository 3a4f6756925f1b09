"""Where a node's pool runs: what it says of itself, and surroundings in which it may start.

A process that is an MPI rank must not pass on what makes it one: a child that keeps those
variables and imports ``mpi4py.MPI`` ends itself and the job, or hangs. And Dask runs its workers as
daemonic processes, which multiprocessing allows no children, lest these be orphaned; a pool's
processes end with the process that made them, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from ringwalk.workers.devices import VARIABLES

_MPI_PREFIXES = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "HYDRA_", "MPI")
_RANK_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A process that serves batches.

    Attributes:
        workers: of its pool.
        affinity: CPUs that it may run on.
        cpus: of the node, or what Slurm gave the job there.
        devices: what its workers share, as they stand in the variable that grants them.
        found: which variables said so.
    """

    host: str
    pid: int
    workers: int = 0
    affinity: int = 0
    cpus: int = 0
    devices: tuple[str, ...] = ()
    found: str = ""

    def __str__(self) -> str:
        devices = f", devices {','.join(self.devices)}" if self.devices else ""
        return (
            f"{self.host} (pid {self.pid}): {self.workers} workers on {self.affinity} of "
            f"{self.cpus} CPUs{devices}{f'; {self.found}' if self.found else ''}"
        )


def look_around(workers: int, devices: Sequence[str]) -> NodeInfo:
    """What this process is and has."""
    names = ("RINGWALK_NUM_WORKERS", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", *VARIABLES)
    told = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    on_node = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return NodeInfo(
        host=socket.gethostname(),
        pid=os.getpid(),
        workers=workers,
        affinity=len(os.sched_getaffinity(0)),
        cpus=int(on_node) if on_node.isdecimal() else os.cpu_count() or 1,
        devices=tuple(devices),
        found=" ".join(told),
    )


class Surroundings:
    """A context in which this process may start a pool's processes. Not for two threads at once.

    Attributes:
        rank: the variable that makes this process an MPI rank, if it is one.
    """

    def __init__(self) -> None:
        self.rank = next((name for name in _RANK_VARIABLES if name in os.environ), None)
        self._hidden = {k: v for k, v in os.environ.items() if k.startswith(_MPI_PREFIXES)}
        self._config: dict[str, object] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
        self._daemon = self._config.get("daemon")

    def __enter__(self) -> None:
        for name in self._hidden:
            os.environ.pop(name, None)
        if self._daemon:
            self._config["daemon"] = False

    def __exit__(self, *exception: object) -> None:
        os.environ.update(self._hidden)
        if self._daemon:
            self._config["daemon"] = self._daemon

"""The engine on MPI: mpi4py.futures on the ranks that mpiexec or srun made.

    with mpi_engine() as engine:        # ranks but 0 serve in here, and get None
        if engine is not None:
            with ClusterMapper(engine, segment) as mapper:
                ...

Start one rank a node, and one more for the caller: ``mpiexec -n <nodes + 1> python program.py``. No
rank is ever spawned: that hangs with one MPI or another. A rank that dies ends the whole job, as
MPI has it.
"""

from __future__ import annotations

from typing import Any

from mpi4py import MPI
from mpi4py.futures import MPICommExecutor

from ringwalk.errors import ConfigError

_BACKOFF_S = 1e-5
"""Between two looks for a message; mpi4py's own 1 ms delays each part of a large one."""


def mpi_engine(comm: Any = None, root: int = 0, **options: Any) -> MPICommExecutor:
    """A context manager: an executor on rank ``root``, None on the others once it has ended.

    Also works beneath ``python -m mpi4py.futures``. Rank ``root`` looks for messages without
    sleeping for long: give it a core.

    Args:
        comm: default ``MPI.COMM_WORLD``.
        options: for ``mpi4py.futures.MPICommExecutor``.

    Raises:
        ConfigError: there is no rank to serve.
    """
    ranks = MPI.COMM_WORLD if comm is None else comm
    if ranks.Get_size() < 2:
        raise ConfigError(
            "there is one MPI rank only, and no other one to serve it: start the program with "
            "`mpiexec -n <nodes + 1>` or `srun -n <nodes + 1>`"
        )
    return MPICommExecutor(ranks, root, **{"use_pkl5": True, "backoff": _BACKOFF_S, **options})

"""ClusterMapper over real MPI ranks, by Open MPI: the program that MPICH runs, too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "engines" / "cluster_program.py"
MPIEXEC = Path(sys.executable).with_name("mpiexec")
# In a container one is root, and the machine may have fewer cores than ranks.
ANYWHERE = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]


@pytest.fixture(autouse=True)
def _without_what_open_mpi_leaves() -> Iterator[None]:
    """A process that was not started by mpiexec leaves its segment behind, MPI_Finalize or not."""
    before = set(Path("/dev/shm").glob("sm_segment.*"))
    yield
    for path in set(Path("/dev/shm").glob("sm_segment.*")) - before:
        path.unlink()


@pytest.mark.parametrize("way", [[], ["-m", "mpi4py.futures"]], ids=["plain", "mpi4py.futures"])
def test_ranks_serve_as_nodes(way: list[str]) -> None:
    done = subprocess.run(
        [MPIEXEC, *ANYWHERE, "-n", "3", sys.executable, *way, PROGRAM],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "mapped over 2 nodes" in done.stdout

"""ClusterMapper over real MPI ranks, by MPICH."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ringwalk import ConfigError
from ringwalk.cluster.mpi import mpi_engine

PROGRAM = Path(__file__).with_name("cluster_program.py")
MPIEXEC = Path(sys.executable).with_name("mpiexec")


@pytest.mark.parametrize("way", [[], ["-m", "mpi4py.futures"]], ids=["plain", "mpi4py.futures"])
def test_ranks_serve_as_nodes(way: list[str]) -> None:
    done = subprocess.run(
        [MPIEXEC, "-n", "3", sys.executable, *way, PROGRAM],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "mapped over 2 nodes" in done.stdout


def test_a_rank_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="mpiexec -n"):
        mpi_engine()

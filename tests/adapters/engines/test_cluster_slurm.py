"""ClusterMapper over two nodes of a real Slurm."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("cluster_program.py")


@pytest.mark.slurm
def test_ranks_on_two_nodes_with_their_own_devices(
    slurm: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    options = ["-N2", "-n3", "-c1", "--gpus-per-node=2", "--mpi=pmi2"]
    done = slurm("srun", *options, sys.executable, PROGRAM)
    assert done.returncode == 0, done.stderr
    assert "mapped over 2 nodes on n1 n2" in done.stdout
    assert "devices of n1: 0,1" in done.stdout
    assert "devices of n2: 0,1" in done.stdout

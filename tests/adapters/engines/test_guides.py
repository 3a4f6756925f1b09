"""The guides' blocks that need MPI ranks or a Dask cluster run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

Blocks = Callable[[str], list[tuple[str, str]]]

# What stands above the blocks in their guides.
ABOVE = """
from ringwalk import WalkerBlock

def segment(row, steps=1):
    row.x += steps

block = WalkerBlock(48, x="f8")
"""
BELOW = """
    if engine is not None:
        assert block["x"].all()
        print("mapped")
"""


def indented(code: str) -> str:
    return "".join(f"    {line}" for line in code.splitlines(keepends=True))


def run(folder: Path, program: str, *launcher: str | Path) -> str:
    (folder / "run.py").write_text(program)
    done = subprocess.run(
        [*launcher, sys.executable, "run.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("document", ["README.md", "docs/cluster.md"])
def test_over_mpi(guide_blocks: Blocks, document: str, tmp_path: Path) -> None:
    (code,) = (
        code for name, code in guide_blocks("engines") if name == document and "mpi_engine" in code
    )
    if "__main__" not in code:  # as in a script: workers import it anew
        code = 'if __name__ == "__main__":\n' + indented(code)
    mpiexec = Path(sys.executable).with_name("mpiexec")
    assert run(tmp_path, ABOVE + code + BELOW, mpiexec, "-n", "3") == "mapped\n"


@pytest.mark.filterwarnings("default")
def test_over_dask(guide_blocks: Blocks, tmp_path: Path) -> None:
    (code,) = (code for _, code in guide_blocks("engines") if "DaskEngine" in code)
    with (
        LocalCluster(n_workers=4, threads_per_worker=2, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.write_scheduler_file(tmp_path / "scheduler.json")
        program = ABOVE + 'if __name__ == "__main__":\n' + indented(code)
        below = '    assert block["x"].all()\n    print("mapped")\n'
        assert run(tmp_path, program + below) == "mapped\n"

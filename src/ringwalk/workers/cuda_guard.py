"""Refuse to fork a process in which a CUDA driver is initialised.

The driver copies neither its threads nor its contexts into a forked child, and NVIDIA leaves
every CUDA call there undefined. So the question is asked of the driver itself, whoever started
it (a framework, OpenMM, a library's probe), and always before a fork::

    libcuda.so.1 not loaded -------------------------------------------> fork
    loaded, this process was forked after its parent's cuInit ---------> refuse
    loaded, cuDeviceGetCount says CUDA_ERROR_NOT_INITIALIZED ----------> fork
    loaded, it says anything else -------------------------------------> refuse

The second line is the trap: in such a child the driver says "not initialised" as well, and it is
lost all the same. No call can tell, so a hook looks before every ``os.fork``, and the child finds
its copy of the flag: a driver that was initialised and now denies it was initialised in a parent.
For forks that C code makes behind Python's back, or made before this module was imported, an
open ``/dev/nvidia-uvm`` tells: ``cuInit`` opens that file, so a process that has it open and
whose driver says "not initialised" inherited it.

libcuda is never loaded, and no CUDA context is ever made, by this module. Without libcuda in the
process a check costs 1 us; the hook adds 20 to 40 us, most of it page faults, to a fork and
wait of 600 us (Python 3.11 with NumPy imported, on a 2-core virtual machine).

Not covered: another thread that calls ``cuInit`` between the check and the fork. Other runtimes
than CUDA are found in ``gpu_runtimes``.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ringwalk._core.process import libraries_loaded
from ringwalk.errors import CudaInParentError

SONAME = b"libcuda.so.1"
CUDA_SUCCESS = 0
CUDA_ERROR_NOT_INITIALIZED = 3

UVM_FILE = "/dev/nvidia-uvm"
# Named in the message where they are imported: one of them is the likely culprit.
FRAMEWORKS = ("torch", "cupy", "jax", "numba", "openmm")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class CudaDriver:
    """What was found in a process that must not fork.

    Attributes:
        inherited: this process was forked after a parent's ``cuInit``; the driver is unusable.
        status: ``CUresult`` of ``cuDeviceGetCount``.
        active: devices with an active primary context, by their number in this process.
        frameworks: imported packages that use CUDA.
        files: NVIDIA device files that are open here.
    """

    inherited: bool
    status: int
    active: tuple[int, ...]
    frameworks: tuple[str, ...]
    files: tuple[str, ...]


# True once this process, or one that it was forked from, was seen with an initialised driver.
# Module state, since it is the process's own: fork hands it down, exec starts over. Never unset.
_seen_initialised = False
# Our handle on the driver once it is found; it keeps the library loaded.
_driver: ctypes.CDLL | None = None
# How many libraries had been loaded when the driver was last looked for in vain.
_searched_at = -1


def _look_before_fork() -> None:
    driver = _loaded_driver()
    if driver is not None:
        _ask(driver)


os.register_at_fork(before=_look_before_fork)


def check_fork_safe() -> None:
    """Return if this process may fork children that use CUDA.

    Call it right before every fork, not once: a user's first CUDA call often comes in between.

    Raises:
        CudaInParentError: a CUDA driver is initialised here, or was in a process we come from.
    """
    driver = find_initialised_driver()
    if driver is not None:
        raise CudaInParentError(_explain(driver))


def find_initialised_driver(*, proc: Path = PROC) -> CudaDriver | None:
    """Return what is known of the CUDA driver that makes a fork unsafe, or None if it is safe."""
    library = _loaded_driver()
    if library is None:
        return None
    status, count = _ask(library)
    initialised = status != CUDA_ERROR_NOT_INITIALIZED
    files = tuple(file for file in open_device_files(proc) if file.startswith("/dev/nvidia"))
    inherited = not initialised and (_seen_initialised or UVM_FILE in files)
    if not initialised and not inherited:
        return None
    return CudaDriver(
        inherited=inherited,
        status=status,
        active=_active_devices(library, count),
        frameworks=tuple(name for name in FRAMEWORKS if name in sys.modules),
        files=files,
    )


_libc = ctypes.CDLL(None)
_libc.dlopen.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.dlopen.restype = ctypes.c_void_p


def _loaded_driver() -> ctypes.CDLL | None:
    """Return the driver if it is in this process.

    Before ``dlopen`` says no it searches the file system, at every fork if we let it. So it is
    asked again only after something was loaded.
    """
    global _driver, _searched_at
    if _driver is None:
        loaded = libraries_loaded()
        if loaded == _searched_at:
            return None
        # NOLOAD: a handle on what is loaded already, else NULL. Not by ctypes.CDLL(mode=...),
        # which leaves a class, an exception and their garbage behind at every NULL.
        handle = _libc.dlopen(SONAME, os.RTLD_NOLOAD | os.RTLD_LAZY)
        if handle is None:
            _searched_at = loaded
            return None
        _driver = ctypes.CDLL(SONAME.decode(), handle=handle)
    return _driver


def _ask(driver: ctypes.CDLL) -> tuple[int, int]:
    """Return the driver's status and number of devices; remember it if it is initialised."""
    global _seen_initialised
    count = ctypes.c_int(0)
    status: int = driver.cuDeviceGetCount(ctypes.byref(count))  # this call initialises nothing
    if status != CUDA_ERROR_NOT_INITIALIZED:
        _seen_initialised = True
    return status, count.value


def _active_devices(driver: ctypes.CDLL, count: int) -> tuple[int, ...]:
    active = []
    for ordinal in range(count):
        device, flags, is_active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int(0)
        if driver.cuDeviceGet(ctypes.byref(device), ordinal) != CUDA_SUCCESS:
            continue
        driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(is_active))
        if is_active.value:
            active.append(ordinal)
    return tuple(active)


def open_device_files(proc: Path) -> tuple[str, ...]:
    """Files under ``/dev`` that this process has open."""
    found = set()
    for link in (proc / "self" / "fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue  # closed since the folder was listed
        if target.startswith("/dev/"):
            found.add(target)
    return tuple(sorted(found))


def _explain(driver: CudaDriver) -> str:
    if driver.inherited:
        what = "this process was forked from one in which a CUDA driver was initialised"
    else:
        what = "a CUDA driver is initialised in this process"
    found = [f"cuDeviceGetCount answered {driver.status}"]
    if driver.active:
        found.append("active context on device " + ", ".join(map(str, driver.active)))
    if driver.frameworks:
        found.append("imported here: " + ", ".join(driver.frameworks))
    if driver.files:
        found.append("open files: " + ", ".join(driver.files))
    return (
        f"will not fork: {what} ({'; '.join(found)}). A fork copies neither the driver's threads "
        "nor its contexts, so that CUDA in a forked worker fails (CUDA_ERROR_NOT_INITIALIZED) or "
        "hangs. Either create the mapper before the first use of CUDA, of which "
        'torch.cuda.is_available() is one, or use WorkerMapper(start_method="spawn").'
    )

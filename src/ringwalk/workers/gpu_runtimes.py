"""GPU runtimes that are initialised in this process: one list, with what tells each.

None survives a fork, CUDA's driver can be asked (``cuda_guard``), and the others cannot: they have
no question that does not initialise them. So their traces are looked for::

    an open device file          ROCm opens /dev/kfd, and nothing else does; a render node is also
                                 opened by graphics, so it counts beside a mapped driver only
    threads in a CPU driver      an OpenCL driver for CPUs opens no device, but starts threads as
                                 soon as its devices are listed

A loaded library alone is no sign: ``import openmm`` loads OpenCL drivers and starts none.

Costs 1 us where no such library was loaded since the last look and there is no ``/dev/kfd``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ringwalk._core.process import libraries_loaded
from ringwalk.errors import GpuInParentError
from ringwalk.workers import cuda_guard
from ringwalk.workers.native_threads import PROC, native_owners

KFD = "/dev/kfd"


@dataclass(frozen=True, slots=True)
class Sign:
    """What tells that a runtime is initialised.

    Attributes:
        runtime: its name, for a message.
        library: matches the name of a library of it; empty where the device file says enough.
        device: matches a device file that it holds open; empty where its threads tell.
        threads: matches the owner of its threads.
    """

    runtime: str
    library: str
    device: str = ""
    threads: str = ""


# The first that is found is named: what is special before what it may stand on.
SIGNS = (
    Sign(
        "OpenCL",
        r"lib(amdocl|nvidia-opencl|igdrcl|MesaOpenCL|RusticlOpenCL|mali|OpenCL_adreno)",
        device=r"/dev/(kfd|nvidia|dri/renderD|mali|kgsl)",
    ),
    Sign("OpenCL on CPUs", r"lib(pocl|intelocl|oclgrind)", threads=r"lib(pocl|intelocl|ocl|tbb)"),
    Sign("Level Zero", r"libze_(loader|intel_gpu)", device=r"/dev/(dri/renderD|accel/)"),
    Sign("ROCm (HIP)", "", device=KFD),
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime that is initialised in this process, and what told so."""

    name: str
    evidence: str


# Signs whose library is mapped, and how many libraries had been loaded when that was looked for.
_loaded: tuple[Sign, ...] = ()
_searched_at = -1


def initialised_runtime(*, proc: Path = PROC) -> Runtime | None:
    """The first GPU runtime that makes a fork of this process unsafe; None if there is none."""
    driver = cuda_guard.find_initialised_driver()
    if driver is not None:
        return Runtime("CUDA", f"cuDeviceGetCount answered {driver.status}")
    for sign in _signs(proc):
        evidence = _device(sign, proc) if sign.device else _threads(sign)
        if evidence:
            return Runtime(sign.runtime, evidence)
    return None


def check_fork_safe() -> None:
    """Return if this process may fork children that use a GPU.

    Call it right before every fork, not once: a user's first use of a GPU often comes in between.

    Raises:
        CudaInParentError: a CUDA driver is initialised here, or was in a process we come from.
        GpuInParentError: another GPU runtime is initialised here.
    """
    cuda_guard.check_fork_safe()
    runtime = initialised_runtime()
    if runtime is not None:
        raise GpuInParentError(
            f"will not fork: {runtime.name} is initialised in this process ({runtime.evidence}). "
            "A fork copies neither the driver's threads nor its contexts, so that a forked worker "
            "which uses it fails or hangs. Either create the mapper before the first use of the "
            'GPU here, or use WorkerMapper(start_method="spawn").'
        )


def _signs(proc: Path) -> tuple[Sign, ...]:
    """Those to look for: their library is mapped, or they have none and the device exists."""
    global _loaded, _searched_at
    loaded = libraries_loaded()
    if loaded != _searched_at or proc != PROC:
        names = {os.path.basename(name) for name in _mapped(proc)}
        _loaded = tuple(
            sign
            for sign in SIGNS
            if sign.library and any(re.match(sign.library, name) for name in names)
        )
        _searched_at = loaded if proc == PROC else -1
    if proc == PROC and not os.path.exists(KFD):
        return _loaded
    return (*_loaded, *(sign for sign in SIGNS if not sign.library))


def _mapped(proc: Path) -> list[str]:
    lines = (proc / "self" / "maps").read_text().splitlines()
    return [fields[5] for line in lines if len(fields := line.split(maxsplit=5)) > 5]


def _device(sign: Sign, proc: Path) -> str:
    for file in cuda_guard.open_device_files(proc):
        if re.match(sign.device, file):
            return f"{file} is open"
    return ""


def _threads(sign: Sign) -> str:
    owners = [name for name in native_owners() if re.match(sign.threads, name)]
    return f"{len(owners)} threads in {owners[0]}" if owners else ""

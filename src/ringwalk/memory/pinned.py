"""Memory that CUDA knows as pinned: copies between it and the card need no staging by the driver.

Pages are registered where they are, by ``cudaHostRegister``, for all contexts of this process;
another process that maps the same memory registers it for itself. Through cuda-python or CuPy,
whichever is there; neither is a dependency of this package.

Guarantees: what is registered stays mapped until it is unregistered, and a forked child, in which
the driver does not work, never tries.

Does not: load anything of CUDA before the first ``pin``.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import mmap
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk.errors import ConfigError, PinError

# In the order in which they are asked for.
BINDINGS = ("cuda.bindings", "cupy")
# cudaHostRegisterPortable: pinned for every context, also those that OpenMM or Numba make.
_PORTABLE = 1


class _Runtime(Protocol):
    """The two calls of CUDA's runtime, by whose package they are made."""

    def register(self, address: int, size: int) -> None: ...

    def unregister(self, address: int) -> None: ...


class _CudaPython:
    """cuda-python: every call returns its status."""

    def __init__(self) -> None:
        self._runtime: Any = importlib.import_module("cuda.bindings.runtime")

    def register(self, address: int, size: int) -> None:
        self._check(self._runtime.cudaHostRegister(address, size, _PORTABLE))

    def unregister(self, address: int) -> None:
        self._check(self._runtime.cudaHostUnregister(address))

    def _check(self, answer: tuple[Any, ...]) -> None:
        status = answer[0]
        if int(status) != 0:
            raise RuntimeError(status.name)


class _CuPy:
    """CuPy: a status that is not success is raised."""

    def __init__(self) -> None:
        self._runtime: Any = importlib.import_module("cupy").cuda.runtime

    def register(self, address: int, size: int) -> None:
        self._runtime.hostRegister(address, size, _PORTABLE)

    def unregister(self, address: int) -> None:
        self._runtime.hostUnregister(address)


def check_can_pin() -> None:
    """Raise ConfigError if no package is installed by which memory can be pinned. Imports none."""
    _binding()


def pin(memory: mmap.mmap, owner: object) -> Callable[[], object]:
    """Register a mapping; returns what unregisters it, which the end of ``owner`` does as well.

    Starts CUDA in this process, on its current device, if that has not happened.

    Raises:
        ConfigError: neither cuda-python nor CuPy is installed.
        PinError: CUDA refused.
    """
    name = _binding()
    runtime: _Runtime = _CudaPython() if name == "cuda.bindings" else _CuPy()
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    try:
        runtime.register(address, len(memory))
    except RuntimeError as error:  # CuPy's own errors are such, too
        raise PinError(
            f"cudaHostRegister refused {len(memory):,} bytes, asked through {name}: {error}. "
            "`ringwalk doctor` says whether there is a GPU and a driver; to do without pinned "
            "memory leave pin_blocks=True away"
        ) from error
    # The mapping is among the arguments, so that it cannot go first.
    ending = weakref.finalize(owner, _unpin, runtime, address, memory, owner_token())
    ending.atexit = False  # CUDA may be gone by then; the driver forgets a process that ends
    return ending


def _unpin(runtime: _Runtime, address: int, memory: mmap.mmap, owner: int) -> None:
    if is_owner(owner):
        # A context that failed for good answers every call with its own error.
        with contextlib.suppress(RuntimeError):
            runtime.unregister(address)


def _binding() -> str:
    for name in BINDINGS:
        with contextlib.suppress(ModuleNotFoundError):  # the package above it
            if importlib.util.find_spec(name) is not None:
                return name
    raise ConfigError(
        "memory can be pinned through cuda-python or CuPy, and neither is installed: "
        "pip install cuda-python, or leave pin_blocks=True away"
    )

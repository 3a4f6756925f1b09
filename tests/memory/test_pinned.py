"""Blocks as pinned memory, through stand-ins for CUDA's Python packages and, if there, the real.

The stand-in packages call a shared library in place of CUDA's runtime, which is as strict as that:
no part may be registered twice, what is unregistered must be registered and still mapped. Every
case runs in a process of its own, because a runtime cannot be unloaded.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from ringwalk import ConfigError, WorkerMapper
from ringwalk.memory import pinned

RUNTIME = """
#include <stdint.h>
#include <sys/mman.h>

static char *known[16];
static size_t lengths[16];

static int mapped(char *p, size_t n) {
    unsigned char there[1024];
    return n / 4096 < sizeof there && mincore(p, n, there) == 0;
}

int cudaHostRegister(char *p, size_t n, unsigned flags) {
    if ((uintptr_t)p % 4096 || !mapped(p, n) || flags != 1)
        return 1; /* cudaErrorInvalidValue */
    for (int k = 0; k < 16; k++)
        if (known[k] && p < known[k] + lengths[k] && known[k] < p + n)
            return 712; /* cudaErrorHostMemoryAlreadyRegistered */
    for (int k = 0; k < 16; k++)
        if (!known[k]) {
            known[k] = p;
            lengths[k] = n;
            return 0;
        }
    return 2; /* cudaErrorMemoryAllocation */
}

int cudaHostUnregister(char *p) {
    for (int k = 0; k < 16; k++)
        if (known[k] == p) {
            known[k] = 0;
            return mapped(p, lengths[k]) ? 0 : 1;
        }
    return 713; /* cudaErrorHostMemoryNotRegistered */
}
"""

# Signatures and answers are those of cuda-python 13 and CuPy 13.
PACKAGES = {
    "cuda/bindings/runtime.py": """
        import ctypes, enum, os
        library = ctypes.CDLL(os.environ["STAND_IN_RUNTIME"])

        class cudaError_t(enum.IntEnum):
            cudaSuccess = 0
            cudaErrorInvalidValue = 1
            cudaErrorNoDevice = 100
            cudaErrorHostMemoryAlreadyRegistered = 712
            cudaErrorHostMemoryNotRegistered = 713

        def call(function, *arguments):
            status = int(os.environ.get("STAND_IN_STATUS", 0)) or function(*arguments)
            with open(os.environ["STAND_IN_LOG"], "a") as log:
                log.write(f"{os.getpid()} {function.__name__} {status}\\n")
            return (cudaError_t(status),)

        def cudaHostRegister(ptr, size, flags):
            return call(
                library.cudaHostRegister,
                ctypes.c_void_p(ptr), ctypes.c_size_t(size), ctypes.c_uint(flags),
            )

        def cudaHostUnregister(ptr):
            return call(library.cudaHostUnregister, ctypes.c_void_p(ptr))
    """,
    "cuda/bindings/__init__.py": "",
    "cupy/__init__.py": "from cupy import cuda",
    "cupy/cuda/__init__.py": "from cupy.cuda import runtime",
    "cupy/cuda/runtime.py": """
        from stand_in.bindings import runtime

        class CUDARuntimeError(RuntimeError):
            pass

        def check(answer):
            if answer[0]:
                raise CUDARuntimeError(answer[0].name)

        def hostRegister(ptr, size, flags):
            check(runtime.cudaHostRegister(ptr, size, flags))

        def hostUnregister(ptr):
            check(runtime.cudaHostUnregister(ptr))
    """,
}

PRELUDE = """
import gc, json, mmap, os
import numpy as np
from pathlib import Path
from ringwalk import MapError, PinError, WalkerBlock, WorkerMapper

def calls():
    log = Path(os.environ["STAND_IN_LOG"])
    lines = log.read_text().split("\\n")[:-1] if log.exists() else []
    return [[int(pid), name, int(status)] for pid, name, status in map(str.split, lines)]
"""


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuda")
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        compiler = ["cc"]
    source = folder / "runtime.c"
    source.write_text(RUNTIME)
    flags = ["-D_GNU_SOURCE", "-shared", "-fPIC"]
    subprocess.run([*compiler, *flags, "-o", folder / "runtime.so", source], check=True)
    for name, text in PACKAGES.items():
        package = name.split("/", maxsplit=1)[0]
        path = folder / package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    # CuPy's stand-in must not make cuda-python look installed.
    shutil.copytree(folder / "cuda" / "cuda", folder / "cupy" / "stand_in")
    return folder


@pytest.fixture(params=["cuda", "cupy"])
def binding(request: pytest.FixtureRequest) -> str:
    package: str = request.param
    found = importlib.util.find_spec(package)
    if found is not None and found.origin is not None:
        pytest.skip(f"the real {package} is installed")
    return package


def run(code: str, folder: Path, binding: str, tmp_path: Path, **environment: str) -> Any:
    """Run ``code`` in a fresh process that has one stand-in; return what it left in ``answer``."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder / binding), os.environ.get("PYTHONPATH", "")]),
        "STAND_IN_RUNTIME": str(folder / "runtime.so"),
        "STAND_IN_LOG": str(tmp_path / "log"),
        **environment,
    }
    script = f"{PRELUDE}\n{dedent(code)}\nprint(json.dumps(answer))"
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_workers_register_what_they_map_and_nobody_else_does(
    stand_ins: Path, binding: str, tmp_path: Path
) -> None:
    code = """
        def segment(row):
            row.x += 1
            return os.getpid()

        with WorkerMapper(segment, num_workers=1, pin_blocks=True) as mapper:
            with WalkerBlock(8, x="f8") as first:
                (worker,) = {*mapper.map(first), *mapper.map(first)}
                values = first["x"].tolist()
                once = calls()
            del first
            second = WalkerBlock(9, x="f8")
            assert {*mapper.map(second)} == {worker}
            later = calls()[len(once):]  # before the worker leaves, and may or may not unregister
        answer = [worker != os.getpid(), values, [[pid == worker, *call] for pid, *call in once],
                  [[pid == worker, *call] for pid, *call in later]]
    """
    own, values, once, later = run(code, stand_ins, binding, tmp_path)
    assert own
    assert values == [2.0] * 8
    assert once == [[True, "cudaHostRegister", 0]]
    assert later == [[True, "cudaHostUnregister", 0], [True, "cudaHostRegister", 0]]


def test_a_refusal_ends_the_map_with_its_reason(
    stand_ins: Path, binding: str, tmp_path: Path
) -> None:
    code = """
        with WorkerMapper(lambda row: None, num_workers=1, pin_blocks=True) as mapper:
            with WalkerBlock(8, x="f8") as block:
                try:
                    mapper.map(block)
                except MapError as error:
                    answer = f"{error} {error.__cause__}"
    """
    text = run(code, stand_ins, binding, tmp_path, STAND_IN_STATUS="100")
    assert "PinError" in text
    assert "cudaErrorNoDevice" in text
    assert "pin_blocks" in text


def test_a_block_is_registered_once_and_until_it_ends(
    stand_ins: Path, binding: str, tmp_path: Path
) -> None:
    code = """
        block = WalkerBlock(8, x="f8")
        block.pin()
        block.pin()
        if os.fork() == 0:  # CUDA does not work in here
            block.close()
            os._exit(0)
        os.wait()
        block.close()
        block.close()
        other = WalkerBlock(8, x="f8")
        other.pin()
        column = other["x"]  # outlives its block
        del other
        gc.collect()
        column[:] = 1
        kept = WalkerBlock(8, x="f8")
        kept.pin()
        own = os.getpid()
        answer = [[pid == own, *call] for pid, *call in calls()]
    """
    registered, unregistered = [True, "cudaHostRegister", 0], [True, "cudaHostUnregister", 0]
    answer = run(code, stand_ins, binding, tmp_path)
    assert answer == [registered, unregistered, registered, unregistered, registered]
    # Nothing more when the interpreter ended: CUDA may be gone by then.
    assert len((tmp_path / "log").read_text().splitlines()) == 5


def test_without_a_package_a_mapper_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "BINDINGS", ("no_such_package.bindings", "no_such_package"))
    with pytest.raises(ConfigError, match="pip install cuda-python"):
        WorkerMapper(len, num_workers=1, pin_blocks=True)


@pytest.mark.gpu
@pytest.mark.skipif(not os.path.exists("/dev/nvidiactl"), reason="no NVIDIA driver: /dev/nvidiactl")
@pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="cuda-python is not installed")
def test_real_card(tmp_path: Path) -> None:
    code = """
        from cuda.bindings import runtime
        from ringwalk.workers.cuda_guard import find_initialised_driver

        def kind(row):
            status, found = runtime.cudaPointerGetAttributes(row.x.ctypes.data)
            assert status == runtime.cudaError_t.cudaSuccess
            return int(found.type)

        answer = []
        for pin in (False, True):
            with WorkerMapper(kind, num_workers=1, devices=[0], pin_blocks=pin) as mapper:
                with WalkerBlock(8, x=(1000, "f8")) as block:
                    answer.append(sorted({*mapper.map(block)}))
        answer.append(find_initialised_driver() is None)
    """
    unregistered, host = 0, 1  # cudaMemoryType
    assert run(code, tmp_path, "", tmp_path) == [[unregistered], [host], True]

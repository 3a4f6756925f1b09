"""The guard against forking after cuInit, against a stand-in driver and, if there is one, a real.

The stand-in is a shared library with the real one's soname, so that the guard finds it in the
process as it would find the real one. Every case runs in a process of its own: a driver cannot
be un-initialised, and no test may leave one behind in the test runner.
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
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

# Two devices, a context on device 1. Like the real driver, it knows nothing of itself in a
# process forked after cuInit: it answers 3 there as if cuInit had never been called.
STAND_IN = """
#include <unistd.h>

static pid_t initialised_by;

int cuInit(unsigned flags) { initialised_by = getpid(); return 0; }

int cuDeviceGetCount(int *count)
{
    if (initialised_by != getpid())
        return 3;
    *count = 2;
    return 0;
}

int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    *flags = 0;
    *active = device == 1;
    return 0;
}
"""

PRELUDE = """
import ctypes, json, os, sys
from pathlib import Path
from textwrap import dedent

def verdict(check):
    try:
        check()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return "safe"

def in_child(function):
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(send, json.dumps(function()).encode())
        os._exit(0)
    os.close(send)
    with open(receive) as pipe:
        answer = json.load(pipe)
    assert os.waitpid(pid, 0)[1] == 0
    return answer
"""

IMPORT_GUARD = "from ringwalk.workers.cuda_guard import check_fork_safe, find_initialised_driver\n"


def run(code: str, *arguments: object, environment: Mapping[str, str] = {}) -> Any:
    """Run ``code`` in a fresh process; return what it left in ``answer``."""
    script = f"{PRELUDE}\n{code}\nprint(json.dumps(answer))"
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    env = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # what a fork hook raises appears here only
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def libcuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        compiler = ["cc"]
    folder = tmp_path_factory.mktemp("driver")
    source, library = folder / "stand_in.c", folder / "stand_in_driver.so"
    source.write_text(STAND_IN)
    flags = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([*compiler, *flags, "-o", library, source], check=True)
    return library


def test_driver_that_could_be_loaded_is_not(libcuda: Path, tmp_path: Path) -> None:
    shutil.copy(libcuda, tmp_path / "libcuda.so.1")
    code = """
        answer = [verdict(check_fork_safe), in_child(lambda: verdict(check_fork_safe))]
        assert "libcuda" not in Path("/proc/self/maps").read_text()
        assert ctypes.CDLL("libcuda.so.1").cuInit(0) == 0  # as a framework would
        answer.append(verdict(check_fork_safe)[0])
    """
    search_path = {"LD_LIBRARY_PATH": str(tmp_path)}
    answer = run(IMPORT_GUARD + dedent(code), environment=search_path)
    assert answer == ["safe", "safe", "CudaInParentError"]


def test_safe_while_the_driver_is_loaded_only(libcuda: Path) -> None:
    code = """
        ctypes.CDLL(sys.argv[1])
        answer = [verdict(check_fork_safe), in_child(lambda: verdict(check_fork_safe))]
    """
    assert run(IMPORT_GUARD + dedent(code), libcuda) == ["safe", "safe"]


@pytest.mark.parametrize("guard_first", [True, False], ids=["guard-first", "driver-first"])
def test_refused_once_initialised(libcuda: Path, guard_first: bool) -> None:
    load = "assert ctypes.CDLL(sys.argv[1]).cuInit(0) == 0\n"
    start = IMPORT_GUARD + "check_fork_safe()\n" + load if guard_first else load + IMPORT_GUARD
    name, message = run(start + "answer = verdict(check_fork_safe)", libcuda)
    assert name == "CudaInParentError"
    assert "a CUDA driver is initialised in this process" in message
    assert "active context on device 1" in message
    assert "create the mapper before the first use of CUDA" in message
    assert 'start_method="spawn"' in message


def test_message_names_frameworks_that_are_imported(libcuda: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").touch()
    code = """
        sys.path.insert(0, sys.argv[2])
        import torch
        ctypes.CDLL(sys.argv[1]).cuInit(0)
        answer = verdict(check_fork_safe)
    """
    _, message = run(IMPORT_GUARD + dedent(code), libcuda, tmp_path)
    assert "imported here: torch;" in message or "imported here: torch)" in message


def test_child_of_an_initialised_parent_is_refused_though_its_driver_denies_it(
    libcuda: Path,
) -> None:
    code = """
        driver = ctypes.CDLL(sys.argv[1])
        driver.cuInit(0)
        count = lambda: driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int()))
        answer = [
            in_child(count),
            in_child(lambda: verdict(check_fork_safe)),
            in_child(lambda: in_child(lambda: verdict(check_fork_safe))),
        ]
    """
    denial, child, grandchild = run(IMPORT_GUARD + dedent(code), libcuda)
    assert denial == 3
    for name, message in (child, grandchild):
        assert name == "CudaInParentError"
        assert "forked from one in which a CUDA driver was initialised" in message
        assert 'start_method="spawn"' in message


def test_child_that_initialises_once_more_is_refused(libcuda: Path) -> None:
    code = """
        driver = ctypes.CDLL(sys.argv[1])
        driver.cuInit(0)
        def again():
            driver.cuInit(0)
            return verdict(check_fork_safe)[0]
        answer = in_child(again)
    """
    assert run(IMPORT_GUARD + dedent(code), libcuda) == "CudaInParentError"


def test_child_forked_before_its_parent_initialised_is_safe(libcuda: Path) -> None:
    code = """
        driver = ctypes.CDLL(sys.argv[1])
        go, ready = os.pipe()
        receive, send = os.pipe()
        if os.fork() == 0:
            os.read(go, 1)  # the parent has initialised by now
            os.write(send, json.dumps(verdict(check_fork_safe)).encode())
            os._exit(0)
        driver.cuInit(0)
        os.write(ready, b"!")
        os.close(send)
        with open(receive) as pipe:
            child = json.load(pipe)
        os.wait()
        answer = [child, verdict(check_fork_safe)[0]]
    """
    assert run(IMPORT_GUARD + dedent(code), libcuda) == ["safe", "CudaInParentError"]


def test_program_started_by_an_initialised_parent_is_safe(libcuda: Path) -> None:
    code = """
        import subprocess
        ctypes.CDLL(sys.argv[1]).cuInit(0)
        load = "import ctypes, sys; ctypes.CDLL(sys.argv[1])\\n"
        command = [sys.executable, "-c", load + sys.argv[2] + "check_fork_safe()", sys.argv[1]]
        # With a preexec_fn, subprocess runs the fork hooks before it executes the program.
        answer = subprocess.run(command, preexec_fn=lambda: None).returncode
    """
    assert run(IMPORT_GUARD + dedent(code), libcuda, IMPORT_GUARD) == 0


@pytest.mark.parametrize(
    ("target", "inherited"),
    [("/dev/nvidia-uvm", True), ("/dev/nvidiactl", False)],
    ids=["driver-file", "management-file"],
)
def test_fork_unseen_by_the_hooks_is_told_by_the_open_driver_file(
    libcuda: Path, tmp_path: Path, target: str, inherited: bool
) -> None:
    fds = tmp_path / "self" / "fd"
    fds.mkdir(parents=True)
    (fds / "0").symlink_to("/dev/null")
    (fds / "7").symlink_to(target)
    code = """
        ctypes.CDLL(sys.argv[1])
        found = find_initialised_driver(proc=Path(sys.argv[2]))
        answer = found and [found.inherited, found.status, found.files]
    """
    expected = [True, 3, [target]] if inherited else None
    assert run(IMPORT_GUARD + dedent(code), libcuda, tmp_path) == expected


MAPPERS = """
        from ringwalk import TaskMapper, WorkerMapper

        def driver_here(k):
            # cuDeviceGetCount answers 0 only where this very process called cuInit.
            return ctypes.CDLL(sys.argv[1]).cuDeviceGetCount(ctypes.byref(ctypes.c_int()))

        def worker(method="fork"):
            with WorkerMapper(driver_here, num_workers=2, start_method=method) as mapper:
                return mapper.map([0, 1])

        def task(method="fork"):
            with TaskMapper(driver_here, num_workers=2, start_method=method) as mapper:
                return mapper.map([0, 1])
"""


def test_mappers_refuse_to_fork_an_initialised_parent(libcuda: Path) -> None:
    code = f"""
        {MAPPERS}
        clean = [worker(), task()]
        ctypes.CDLL(sys.argv[1]).cuInit(0)
        forked = [verdict(worker), verdict(task)]
        spawned = [make(how) for make in (worker, task) for how in ("spawn", "auto")]
        answer = [clean, forked, spawned]
    """
    clean, forked, spawned = run(dedent(code), libcuda)
    assert clean == [[3, 3], [3, 3]]
    for kind, text in forked:
        assert kind == "CudaInParentError"
        assert "spawn" in text
    assert spawned == [[3, 3]] * 4


def test_a_respawn_comes_from_the_clean_template(libcuda: Path) -> None:
    """CUDA that starts in the parent after init does no harm: the parent is not forked again."""
    code = f"""
        {MAPPERS}
        import signal
        with WorkerMapper(lambda k: [driver_here(k), os.getpid()], num_workers=1) as mapper:
            ((_, first),) = mapper.map([0])
            ctypes.CDLL(sys.argv[1]).cuInit(0)
            os.kill(first, signal.SIGKILL)
            ((answered, second),) = mapper.map([0])
            answer = [answered, first != second]
    """
    assert run(dedent(code), libcuda) == [3, True]


def test_a_template_in_which_cuda_started_is_not_forked(libcuda: Path) -> None:
    """The template runs no segment, but unpickling a spawned one's function may import anything."""
    code = f"""
        {MAPPERS}
        class StartsCuda:
            def __reduce__(self):
                return (eval, (f"__import__('ctypes').CDLL({{sys.argv[1]!r}}).cuInit(0)",))
        starts = StartsCuda()
        mapper = WorkerMapper(lambda k: starts, num_workers=1, start_method="spawn")
        answer = verdict(mapper.init)
    """
    kind, text = run(dedent(code), libcuda)
    assert kind == "CudaInParentError"
    assert "template process" in text


INITIALISE = {
    "driver": "assert ctypes.CDLL('libcuda.so.1').cuInit(0) == 0",
    "torch": "import torch; torch.cuda.init()",
    "cupy": "import cupy; cupy.zeros(1)",
    "numba": "from numba import cuda; cuda.current_context()",
}


@pytest.mark.gpu
@pytest.mark.skipif(not os.path.exists("/dev/nvidiactl"), reason="no NVIDIA driver: /dev/nvidiactl")
@pytest.mark.parametrize("package", INITIALISE)
def test_real_driver(package: str) -> None:
    if package != "driver" and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    code = f"""
        before = verdict(check_fork_safe)
        {INITIALISE[package]}
        driver = ctypes.CDLL("libcuda.so.1")
        count = lambda: driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int()))
        child = lambda: [count(), verdict(check_fork_safe)]
        files = find_initialised_driver().files
        answer = [before, verdict(check_fork_safe), in_child(child), files]
    """
    before, after, (denial, child), files = run(IMPORT_GUARD + dedent(code))
    assert before == "safe"
    assert after[0] == "CudaInParentError"
    assert denial == 3
    assert child[0] == "CudaInParentError"
    assert "/dev/nvidia-uvm" in files  # the second sign rests on this

"""GPU runtimes other than CUDA: what tells that one is initialised, and the refusal to fork."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from ringwalk.workers.gpu_runtimes import initialised_runtime

# Has a thread only once its devices were asked for, as a real OpenCL driver for CPUs.
DRIVER = """
#include <pthread.h>
#include <unistd.h>
static void *wait_for_work(void *ignored) { for (;;) pause(); return ignored; }
int get_devices(void) {
    pthread_t thread;
    return pthread_create(&thread, 0, wait_for_work, 0);
}
"""

PROGRAM = """
import ctypes, sys, time
from ringwalk import GpuInParentError, WorkerMapper

if __name__ == "__main__":
    driver = ctypes.CDLL(sys.argv[1])
    with WorkerMapper(abs, 1, start_method="fork") as mapper:
        assert mapper.map([-1]) == [1]
    driver.get_devices()
    time.sleep(0.1)
    try:
        WorkerMapper(abs, 1, start_method="fork").init()
    except GpuInParentError as error:
        assert "OpenCL on CPUs is initialised in this process (1 threads in libpocl" in str(error)
        with WorkerMapper(abs, 1, start_method="spawn") as mapper:
            assert mapper.map([-1]) == [1]
        print("right")
"""

FakeProcess = Callable[[list[str], list[str]], Path]


@pytest.fixture
def fake_process(tmp_path: Path) -> FakeProcess:
    """A folder like /proc, of a process with these libraries mapped and these files open."""

    def make(libraries: list[str], files: list[str]) -> Path:
        folder = tmp_path / "self"
        (folder / "fd").mkdir(parents=True)
        lines = [f"{k + 1:x}000-{k + 2:x}000 r-xp 0 fe:00 1 {x}" for k, x in enumerate(libraries)]
        (folder / "maps").write_text("\n".join(lines))
        for number, file in enumerate(files):
            os.symlink(file, folder / "fd" / str(number))
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("libraries", "files", "runtime"),
    [
        ([], ["/dev/kfd", "/dev/dri/renderD128"], "ROCm (HIP)"),
        (["/opt/rocm/lib/libamdhip64.so.6"], [], None),
        (["/usr/lib/libze_intel_gpu.so.1"], ["/dev/dri/renderD128"], "Level Zero"),
        (["/usr/lib/libze_loader.so.1"], [], None),
        (["/usr/lib/libGL.so.1"], ["/dev/dri/renderD128"], None),
        (["/usr/lib/intel-opencl/libigdrcl.so"], ["/dev/dri/renderD129"], "OpenCL"),
        (["/opt/rocm/lib/libamdocl64.so"], ["/dev/kfd"], "OpenCL"),
        (["/usr/lib/libnvidia-opencl.so.1"], ["/dev/nvidiactl"], "OpenCL"),
        (["/usr/lib/libOpenCL.so.1", "/usr/lib/libnvidia-opencl.so.1"], ["/dev/null"], None),
    ],
)
def test_initialised_runtime_is_told_from_a_loaded_one(
    fake_process: FakeProcess, libraries: list[str], files: list[str], runtime: str | None
) -> None:
    found = initialised_runtime(proc=fake_process(libraries, files))
    assert (None if found is None else found.name) == runtime


def test_no_runtime_is_initialised_here() -> None:
    assert initialised_runtime() is None


def test_fork_is_refused_once_a_driver_for_cpus_has_threads(tmp_path: Path) -> None:
    source, driver = tmp_path / "driver.c", tmp_path / "libpocl-stand-in.so"
    source.write_text(DRIVER)
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    subprocess.run([*compiler, "-shared", "-fPIC", "-pthread", source, "-o", driver], check=True)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, program, driver], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "right\n", done.stderr

"""``ringwalk doctor``: what it finds on real machines, and on ones that lack something."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ringwalk.config import usable_cpus

CUDA = """
int cuInit(unsigned flags) { return INIT; }
int cuGetErrorName(int status, const char **name) { *name = "CUDA_ERROR_NO_DEVICE"; return 0; }
int cuDriverGetVersion(int *version) { *version = 12080; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    const char *text = device ? "Card B" : "Card A";
    while ((*name++ = *text++)) {}
    return 0;
}
"""


def doctor(
    *arguments: str, environment: Mapping[str, str] | None = None, limits: str = ""
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ringwalk", "doctor", *arguments]
    if limits:
        command = ["sh", "-c", f'{limits}; exec "$@"', "sh", *command]
    return subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def findings(done: subprocess.CompletedProcess[str], subject: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return [finding for finding in found if subject in ("", finding["subject"])]


@pytest.mark.slow
def test_it_looks_at_everything_and_forks() -> None:
    done = doctor("--json")
    subjects = {finding["subject"] for finding in findings(done)}
    wanted = {"kernel", "CPUs", "shared memory", "memory", "open files", "CUDA", "MPI", "Dask"}
    assert wanted <= subjects
    assert {f"{host} adapter" for host in ("wepy", "westpa", "profit", "jobmon")} <= subjects
    (profit,) = findings(done, "profit adapter")  # its extra has bounds for other packages, too
    assert profit["found"].startswith("profit")
    assert findings(done, "CPUs")[0]["found"].startswith(f"{usable_cpus()} usable")
    assert [finding["state"] for finding in findings(done, "fork safety")] == ["ok", "ok"]
    for finding in findings(done):
        assert bool(finding["remedy"]) == (finding["state"] in ("warning", "problem")), finding
    problems = [finding for finding in findings(done) if finding["state"] == "problem"]
    assert done.returncode == bool(problems)


@pytest.mark.slow
def test_a_limit_is_told_with_its_remedy() -> None:
    done = doctor("--json", limits="ulimit -n 64; ulimit -v 16000000")
    (files,) = findings(done, "open files")
    assert (files["state"], files["found"]) == ("warning", "limited to 64")
    assert "ulimit -n" in files["remedy"]
    (space,) = findings(done, "address space")
    assert "ulimit -v unlimited" in space["remedy"]


@pytest.mark.slow
def test_an_unsupported_host_is_a_problem(tmp_path: Path) -> None:
    for name, version in (("wepy", "0.9"), ("westpa", "2022.16")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = doctor("--json", environment={"PYTHONPATH": path})
    (wepy,) = findings(done, "wepy adapter")
    assert (wepy["state"], done.returncode) == ("problem", 1)
    assert "0.9" in wepy["found"]
    assert "wepy==1.2" in wepy["found"]
    assert "pip install 'ringwalk[wepy]'" in wepy["remedy"]
    assert findings(done, "westpa adapter")[0]["state"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("answer", [0, 100])
def test_the_driver_is_asked(tmp_path: Path, answer: int) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "the tests need a C compiler, as the build does"
    source = tmp_path / "cuda.c"
    source.write_text(CUDA.replace("INIT", str(answer)))
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    variables = {"LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "4,7"}
    done = doctor("--json", environment=variables)
    found = [(finding["state"], finding["found"]) for finding in findings(done, "CUDA")]
    if answer == 0:
        assert found == [
            ("ok", "driver for CUDA 12.8, CUDA_VISIBLE_DEVICES=4,7"),
            ("ok", "device 0: Card A"),
            ("ok", "device 1: Card B"),
        ]
    else:
        said = "cuInit answered 100 (CUDA_ERROR_NO_DEVICE); CUDA_VISIBLE_DEVICES=4,7"
        assert found == [("problem", said)]
        assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("no_color", [False, True])
def test_colours_are_for_terminals_that_want_them(no_color: bool) -> None:
    assert "\x1b[" not in doctor().stdout
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
    environment |= {"TERM": "xterm-256color", **({"NO_COLOR": "1"} if no_color else {})}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ringwalk", "doctor"], stdout=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    process.wait()
    assert b"kernel" in shown
    assert (b"\x1b[32m" in shown) == (not no_color)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the other side was closed
        return b""


@pytest.mark.slow
def test_a_reader_may_leave_early() -> None:
    command = f"{sys.executable} -m ringwalk doctor --json | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_it_works_without_the_package_s_metadata() -> None:
    """From ``PYTHONPATH=src``, nothing says which versions are wanted."""
    hidden = (
        "import importlib.metadata as metadata\n"
        "def missing(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.requires = missing\n"
        "from ringwalk.cli import main\n"
        "main(['doctor'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "is not installed" in done.stdout

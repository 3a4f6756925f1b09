"""Cases run in a process and a folder of their own: proFit keeps much in globals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
Case = Callable[[str], dict[str, Any]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    bin_folder = os.path.dirname(sys.executable)
    return {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PROFIT_INCLUDES": json.dumps([str(HERE / "workers.py")]),
        "PYTHONPATH": str(HERE),
    }


@pytest.fixture
def case(tmp_path: Path, environment: dict[str, str]) -> Case:
    """Runs a script after the prelude; what it told."""

    def run(script: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", f"from prelude import *\n{script}"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    return run


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """proFit's source distribution from PyPI, unpacked: it has the tests and the examples."""
    folder = tmp_path_factory.mktemp("sdist")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    tools, locked = folder / "tools", ("--require-hashes", "--requirement")
    build = HERE / "sdist_build.txt"
    subprocess.run([*pip, "install", "--target", tools, *locked, build], check=True)
    subprocess.run(
        [
            *(*pip, "download", "--no-deps", "--no-build-isolation", "--no-binary", "profit"),
            *("--dest", folder, *locked, HERE / "sdist.txt"),
        ],
        env={**os.environ, "PYTHONPATH": str(tools)},
        check=True,
    )
    with tarfile.open(folder / "profit-0.6.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "profit-0.6"

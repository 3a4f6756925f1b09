"""Fault injection: small numbers in every run, the long ones with ``--campaign``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def within() -> Callable[[float], float]:
    """Seconds to allow for what takes so many at most where others leave a processor free."""
    return lambda seconds: seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.fixture(scope="session")
def busy_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """busy.c, built."""
    built = tmp_path_factory.mktemp("busy") / "libbusy.so"
    command = ["gcc", "-std=gnu11", "-O1", "-fopenmp", "-shared", "-fPIC", "-Wall", "-Werror"]
    subprocess.run([*command, Path(__file__).with_name("busy.c"), "-o", built], check=True)
    return built

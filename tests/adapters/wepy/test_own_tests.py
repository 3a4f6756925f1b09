"""wepy's own mapper tests, unmodified, from its source distribution on PyPI, with our mappers."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """wepy's sdist, unpacked; pip checks its hash."""
    folder = tmp_path_factory.mktemp("wepy")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "wepy",
            "--require-hashes", "--dest", folder, "-r", HERE / "sdist.txt",
        ],
        check=True,
    )  # fmt: skip
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.mark.slow
def test_wepys_mapper_tests_pass_with_our_mappers(sources: Path, tmp_path: Path) -> None:
    answer = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "swap_mapper", "-q", "-rA",
            "--rootdir", tmp_path, "-c", os.devnull, "--import-mode=importlib",
            sources / "tests" / "unit" / "test_work_mapper" / "test_mapper.py",
        ],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "mappers: ringwalk.adapters.wepy.worker, ringwalk.adapters.wepy.task" in answer.stdout
    passed = [line for line in answer.stdout.splitlines() if line.startswith("PASSED")]
    assert len(passed) == 6, answer.stdout

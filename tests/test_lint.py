"""The linters and formatters that pre-commit runs find nothing, in CI as before a commit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
C_FOLDERS = ("ext/csrc", "tests/native")
C = sorted(str(p.relative_to(ROOT)) for f in C_FOLDERS for p in (ROOT / f).glob("*.[ch]"))
CYTHON = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("ext/ringwalk/_core/*.p[yx][xd]"))

COMMANDS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy": ["mypy"],
    "cython-lint": ["cython-lint", *CYTHON],
    "clang-format": ["clang-format", "--dry-run", "-Werror", *C],
    "codespell": ["codespell"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_linter_finds_nothing(name: str) -> None:
    # cython-lint starts pycodestyle by name, from the same environment.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        COMMANDS[name],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""What a user sees when the extensions are not there, and that the stubs tell the truth."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ringwalk._core

CORE = Path(ringwalk._core.__file__).parent


def test_a_missing_build_is_explained(tmp_path: Path) -> None:
    package = tmp_path / "ringwalk"
    (package / "_core").mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(CORE / "__init__.py", package / "_core")
    done = subprocess.run(
        [sys.executable, "-c", "import ringwalk._core.ring"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    every = ", ".join(sorted(stub.stem for stub in CORE.glob("*.pyi")))
    assert message.startswith(
        f"ImportError: ringwalk's compiled modules ({every}) are missing for "
        f"{platform.python_implementation()} {platform.python_version()} on linux "
        f"{platform.machine()}."
    )
    assert "pip install" in message


def test_nothing_is_exported() -> None:
    assert ringwalk._core.__all__ == []


@pytest.mark.slow
def test_stubs_agree_with_the_extensions(tmp_path: Path) -> None:
    pytest.importorskip("mypy.stubtest")
    allowed = tmp_path / "allowed"
    # Python shows the buffer slot as a method from 3.12, and Cython what other modules share.
    allowed.write_text(
        "ringwalk._core.heap.HeapView.__buffer__\nringwalk._core.window.Window.__buffer__\n"
        "ringwalk._core.private.PrivateCopy.__buffer__\n"
        r"ringwalk\._core\.\w+\.__pyx_capi__"
        "\n"
        "ringwalk._core.process.Guard\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy.stubtest", "ringwalk._core"),
            *("--allowlist", str(allowed), "--ignore-unused-allowlist"),
        ],
        env={**os.environ, "MYPYPATH": str(CORE.parents[1]), "MYPY_CACHE_DIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""The example of a parameter study, small: it checks itself against the exact solution."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ringwalk.memory import Status

EXAMPLE = Path(__file__).parents[1] / "examples" / "parameter_study.py"


@pytest.mark.slow
def test_the_study_reaches_the_exact_peaks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE, "--runs", "50", "--workers", "2", "--out", tmp_path / "study"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 of 50 runs done" in done.stdout
    with np.load(tmp_path / "study.npz") as results:
        assert results["peak"].shape == (50,)
        assert (results["peak"] > 0).all()
    table = np.load(tmp_path / "study.npy")
    assert set(table["status"]) == {Status.DONE}
    assert (tmp_path / "study.png").stat().st_size > 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "study.npy",
        "study.npz",
        "study.png",
    ]

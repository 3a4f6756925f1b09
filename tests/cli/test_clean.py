"""``ringwalk clean``: shows what a killed process left, removes it when told, nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringwalk import WalkerBlock
from ringwalk.cli import main
from ringwalk.cli.doctor.machine import check_machine
from ringwalk.memory.reclaim import named_path

KILLED = """
import os, signal
from ringwalk import WalkerBlock
block = WalkerBlock.create(4, {"x": "f8"}, name="left")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def left() -> Iterator[Path]:
    """A named block whose maker was killed."""
    done = subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert done.returncode == -signal.SIGKILL
    path = named_path("left")
    assert path.exists()
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.slow
def test_it_shows_first_and_removes_when_told(
    left: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["clean"]) == 0
    shown = capsys.readouterr().out
    assert str(left) in shown
    assert "ringwalk clean --yes" in shown
    assert left.exists()
    assert main(["clean", "--yes", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["removed"] == [str(left)]
    assert report["found"][0]["bytes"] > 0
    assert not left.exists()
    assert main(["clean"]) == 0
    assert str(left) not in capsys.readouterr().out


@pytest.mark.slow
def test_the_doctor_names_it(left: Path) -> None:
    found = next(finding for finding in check_machine() if finding.subject == "left behind")
    assert found.state == "warning"
    assert left.name in found.found
    assert found.remedy == "ringwalk clean --yes"


def test_what_lives_or_is_not_ours_stays(capsys: pytest.CaptureFixture[str]) -> None:
    foreign = named_path("foreign")
    foreign.write_bytes(b"not a block")
    try:
        with WalkerBlock.create(2, {"x": "f8"}, name="alive"):
            assert main(["clean", "--yes"]) == 0
            said = capsys.readouterr().out
            assert "alive" not in said
            assert "foreign" not in said
            assert named_path("alive").exists()
            assert foreign.read_bytes() == b"not a block"
    finally:
        foreign.unlink()

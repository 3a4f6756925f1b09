"""What ``import ringwalk`` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ringwalk


@pytest.mark.parametrize("name", ringwalk.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(ringwalk, name) is not None
    assert name in dir(ringwalk)


def test_no_other_name_is_there() -> None:
    with pytest.raises(AttributeError, match="'ringwalk' has no attribute 'Nothing'"):
        ringwalk.Nothing  # type: ignore[attr-defined]  # noqa: B018


def test_who_only_runs_commands_imports_no_numpy() -> None:
    program = "import sys, ringwalk.distributors; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")

"""What a limit or a removed folder stops is refused with what is limited, and what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ringwalk import Executor, WorkerMapper
from ringwalk.errors import ConfigError

LIMITED = """
import resource
from ringwalk import WorkerMapper
resource.setrlimit(resource.RLIMIT_{kind}, ({limit}, {limit}))
with WorkerMapper({segment}, num_workers=2) as mapper:
    print(mapper.map([{payload}])[0])
"""


def run(kind: str, limit: int, segment: str = "abs", payload: str = "-3") -> tuple[str, str]:
    program = LIMITED.format(kind=kind, limit=limit, segment=segment, payload=payload)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stdout, (done.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize(("kind", "name"), [("AS", "ulimit -v"), ("FSIZE", "ulimit -f")])
def test_the_limit_that_is_asked_for_is_enough(kind: str, name: str) -> None:
    """The numbers of the message agree: less is there than needed, and what it asks for does."""
    low = 1_000_000_000 if kind == "AS" else 100_000_000
    _, error = run(kind, low)
    found = re.search(
        rf"2 workers and this process need (\d+) MiB .* and {name} leaves (\d+) MiB for it.*"
        r"use fewer workers, or raise it to (\d+) KiB$",
        error,
    )
    assert found is not None, error
    need, have, ask = map(int, found.groups())
    assert have < need
    assert run(kind, ask << 10) == ("3\n", "")


def test_a_pool_that_a_limit_keeps_small_says_so() -> None:
    _, error = run("AS", 4 << 30, "len", "bytes(1 << 29)")
    assert "ulimit -v is 4,096 MiB" in error
    assert "the machine" not in error


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_removed_working_directory_is_refused(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(ConfigError, match="working directory was removed.*start_method='fork'"):
        WorkerMapper(abs, num_workers=1, start_method=method).init()  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="working directory was removed"):
        with Executor(1, start_method=method) as executor:  # type: ignore[arg-type]
            executor.submit(abs, -1)
    with WorkerMapper(abs, num_workers=1) as mapper:
        assert mapper.map([-1]) == [1]

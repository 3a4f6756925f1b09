"""Fresh interpreters and the user's script: imported only if needed, and never run all over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLAIN = """
from ringwalk import WorkerMapper
print("script runs", flush=True)
{classes}
{guard}
    with WorkerMapper(lambda w: {result}, num_workers=2, start_method={method!r}) as mapper:
        print(mapper.map([{walker}(k) for k in range(3)]))
"""
CLASSES = """
class Walker:
    def __init__(self, k): self.k = k
"""
GUARDED, BARE = 'if __name__ == "__main__":', "if True:"


def run(script: Path, **parts: str) -> subprocess.CompletedProcess[str]:
    script.write_text(PLAIN.format(**parts))
    return subprocess.run([sys.executable, script], capture_output=True, text=True)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path, method: str) -> None:
    answer = run(
        tmp_path / "s.py", classes="", guard=BARE, result="w + 1", walker="int", method=method
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["script runs", "[1, 2, 3]"]


@pytest.mark.parametrize("guard", [GUARDED, BARE])
def test_objects_of_a_scripts_class_bring_it_along(tmp_path: Path, guard: str) -> None:
    answer = run(
        tmp_path / "s.py",
        classes=CLASSES,
        guard=guard,
        result="w.k + 1",
        walker="Walker",
        method="spawn",
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["script runs", "[1, 2, 3]"]


ONE = """
class Marker:
    def __reduce__(self): return "ONE"
ONE = Marker()
"""


def test_objects_that_a_script_names_have_it_imported(tmp_path: Path) -> None:
    program = PLAIN.replace("{walker}(k)", "ONE")
    script = tmp_path / "s.py"
    parts = {"classes": ONE, "result": "type(w).__name__", "walker": "", "method": "spawn"}
    script.write_text(program.format(guard=GUARDED, **parts))
    answer = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert answer.stdout.splitlines()[-1] == "['Marker', 'Marker', 'Marker']", answer.stderr
    script.write_text(program.format(guard=BARE, **parts))
    answer = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert answer.returncode == 1
    assert "TransferError" in answer.stderr
    assert "put what it does under 'if __name__" in answer.stderr

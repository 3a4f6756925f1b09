"""What the Markdown files promise: their Python blocks run, their links lead somewhere.

The blocks of a file are one program, run in order in a fresh interpreter where warnings are
errors. Lines keep their numbers, so a traceback points into the Markdown. A comment on the line
before its fence leaves a block out: ``<!-- run in wepy -->`` to tests/adapters/wepy, where its
packages are, ``<!-- not run: reason -->`` altogether.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ringwalk.workers.devices import VARIABLES

ROOT = Path(__file__).resolve().parents[1]
# Folders that hold documents; build trees, environments and caches hold other people's.
PATTERNS = ("*.md", "docs/**/*.md", "ext/**/*.md", "benchmarks/**/*.md", "examples/**/*.md")
FOUND = sorted(path.relative_to(ROOT) for pattern in PATTERNS for path in ROOT.glob(pattern))
DOCUMENTS = [path for path in FOUND if not any(part.startswith(".") for part in path.parts)]

_NOT_RUN = re.compile(r"<!-- (?:not run: \S.*|run in \S+) -->")
_RUN_IN = re.compile(r"<!-- run in (\S+) -->")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#")
# From standard input, so that a spawned worker finds no script to import a second time.
_RUN = "import sys; exec(compile(sys.stdin.read(), sys.argv[1], 'exec'))"


def outside_fences(text: str) -> list[str]:
    """The lines of a document that are prose."""
    lines, fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            lines.append(line)
    return lines


def program(text: str) -> str:
    """The document with everything but its Python blocks blanked out."""
    lines, before, keep, fenced = [], "", False, False
    for line in text.splitlines():
        if line.startswith("```"):
            keep = not fenced and line == "```python" and not _NOT_RUN.fullmatch(before)
            fenced = not fenced
            lines.append("")
        else:
            lines.append(line if keep else "")
        before = line
    return "\n".join(lines)


RUNNABLE = [path for path in DOCUMENTS if program((ROOT / path).read_text()).strip()]


@pytest.mark.slow
@pytest.mark.parametrize("document", RUNNABLE, ids=str)
def test_python_blocks_run(document: Path, tmp_path: Path) -> None:
    # What this machine's batch system grants must not decide what the examples show.
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RUN, ROOT / document],
        input=program((ROOT / document).read_text()),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_blocks_that_are_left_to_a_host_have_a_test_there() -> None:
    hosts = {host for path in DOCUMENTS for host in _RUN_IN.findall((ROOT / path).read_text())}
    assert hosts
    assert all((ROOT / "tests/adapters" / host / "test_guides.py").exists() for host in hosts)


def test_the_readme_is_run() -> None:
    assert Path("README.md") in RUNNABLE


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_relative_links_lead_to_files(document: Path) -> None:
    links = _LINK.findall("\n".join(outside_fences((ROOT / document).read_text())))
    targets = [link.partition("#")[0] for link in links if not _ELSEWHERE.match(link)]
    missing = [target for target in targets if not (ROOT / document.parent / target).exists()]
    assert missing == []


def test_blocks_are_told_from_prose() -> None:
    document = (
        "text\n```python\na = 1\n```\n```\nno code\n```\n"
        "<!-- not run: needs a GPU -->\n```python\nb = 2\n```\n"
    )
    assert program(document).split() == ["a", "=", "1"]
    assert program(document).splitlines().index("a = 1") == document.splitlines().index("a = 1")
    assert outside_fences(document) == ["text", "<!-- not run: needs a GPU -->"]

"""The guides' blocks that need wepy run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable


def test_blocks_run(guide_blocks: Callable[[str], list[tuple[str, str]]]) -> None:
    blocks = guide_blocks("wepy")
    assert {document for document, _ in blocks} == {"README.md", "docs/adapters/wepy.md"}
    program = "\n".join(code for _, code in blocks)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

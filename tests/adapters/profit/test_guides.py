"""The worker of the guide's page registers and computes."""

from __future__ import annotations

from collections.abc import Callable

from profit.run import Worker


def test_blocks_run(guide_blocks: Callable[[str], list[tuple[str, str]]]) -> None:
    blocks = guide_blocks("profit")
    assert blocks
    for document, code in blocks:
        exec(compile(code, document, "exec"), {"__name__": "worker"})
    assert "simulate" in Worker._components

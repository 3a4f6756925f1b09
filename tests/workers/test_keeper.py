"""The keeper's look at marked processes."""

from __future__ import annotations

import os
import secrets
import subprocess

import pytest

from ringwalk.workers import keeper

EXECUTES = 'exec sh -c "$0" "$0"'


@pytest.mark.parametrize("size", [0, 30_000])
def test_a_process_is_found_while_it_changes_its_program(size: int) -> None:
    mark = secrets.token_hex(8)
    environment = {**os.environ, "BEFORE": "x" * size, keeper.VARIABLE: mark}
    process = subprocess.Popen(["sh", "-c", EXECUTES, EXECUTES], env=environment)
    try:
        for _ in range(200):  # the kernel shows no environment in some 3 of 100
            found = keeper.marked(mark)
            for pidfd in found.values():
                os.close(pidfd)
            assert list(found) == [process.pid]
    finally:
        process.kill()
        process.wait()

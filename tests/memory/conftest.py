"""For the tests of walker blocks: one to use, and what is left of them."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ringwalk.memory import WalkerBlock


def _traces() -> list[str]:
    """What this process holds of blocks: descriptors, mappings, entries in /dev/shm."""
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    open_files = [os.readlink(link) for link in links if os.path.islink(link)]
    mapped = Path("/proc/self/maps").read_text().splitlines()
    named = [f"/dev/shm/{entry}" for entry in os.listdir("/dev/shm") if f"-{os.getpid()}" in entry]
    return [item for item in (*open_files, *mapped, *named) if "/dev/shm/ringwalk" in item]


@pytest.fixture
def traces() -> Callable[[], list[str]]:
    return _traces


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    assert _traces() == []
    yield
    gc.collect()
    assert _traces() == []


@pytest.fixture
def filled() -> Callable[..., WalkerBlock]:
    """Makes a block of n walkers, 4 unless told otherwise, with numbers in its fields."""

    def make(n: int = 4) -> WalkerBlock:
        pair = np.dtype([("kind", "i1"), ("value", "f8")], align=True)
        block = WalkerBlock(n, positions=((2, 3), "f8"), weight="f8", pair=pair)
        block["positions"] = np.arange(6 * n).reshape(n, 2, 3)
        block["weight"] = np.arange(n)
        block["pair"]["value"] = -np.arange(n)
        return block

    return make

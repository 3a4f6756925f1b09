"""Random streams: one a (walker, cycle), the same for any number of workers and any retry.

Source: ``numpy.random.SeedSequence`` spawning. The stream of walker w in cycle c is
``SeedSequence(seed, spawn_key=(c, w))``, which equals spawning child c of the seed and child w of
that.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# numpy loads this submodule on first use, 12 ms that every task process would spend anew.
import numpy.random

_KEY = struct.Struct("624I")  # of MT19937


def stream(seed: int | None, cycle: int, walker: int) -> np.random.SeedSequence:
    """The seed sequence of one segment; fresh entropy without a seed."""
    if seed is None:
        # Not SeedSequence(): that imports secrets and with it OpenSSL, 10 ms in a fresh fork.
        return np.random.SeedSequence(int.from_bytes(os.urandom(16), "little"))
    return np.random.SeedSequence(seed, spawn_key=(cycle, walker))


def seed_globals(sequence: np.random.SeedSequence) -> None:
    """Seed ``random`` and ``np.random`` of this process.

    From different words: both are MT19937 seeded alike, so the same words give the same numbers.
    """
    words = sequence.generate_state(16)
    numpy.random.seed(words[:8])
    random.seed(int.from_bytes(words[8:].tobytes(), "little"))


@contextmanager
def kept_globals(seed: int | None) -> Iterator[None]:
    """Give the caller's own random state back after segments in it were given their streams.

    Without a seed they are given none.
    """
    if seed is None:
        yield
        return
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def part_from_parent() -> None:
    """Give a forked process streams of its own: it inherited its parent's, as did its siblings.

    Only numpy's: ``random`` seeds itself anew after every fork.
    """
    # Not by a seed: what numpy makes of an array of numbers is 100 page faults in a fresh fork,
    # and a lane does this before each of its own. Any state of the generator is as good as another.
    key = _KEY.unpack(os.urandom(_KEY.size))
    state = {"key": key, "pos": len(key)}
    numpy.random.set_state(
        {"bit_generator": "MT19937", "state": state, "has_gauss": 0, "gauss": 0.0}
    )

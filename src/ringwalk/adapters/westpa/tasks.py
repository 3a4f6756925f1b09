"""What a worker does around WESTPA's tasks: fresh streams, a cache as fresh as the master's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ringwalk.futures.work_manager.processes import NumberedWorker
from ringwalk.workers.streams import seed_globals, stream

# Iterations of a simulation begin at 1: this one is for the states it starts from.
_STATES = 0


class ClearedWorker(NumberedWorker):
    """Knows how many times the cache of states had been cleared when it last was here."""

    clearings = 0

    def __init__(self, index: int, device: int | str | None, attributes: Mapping[str, Any]) -> None:
        super().__init__(index, device, attributes)
        ClearedWorker.clearings = 0


class WestpaTask:
    """A function of ``westpa.core.wm_ops`` with the seed and the clearings at its submission."""

    def __init__(self, func: Callable[..., Any], seed: int, clearings: int) -> None:
        self.func = func
        self.seed = seed
        self.clearings = clearings

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        import westpa

        propagator = westpa.rc.get_propagator()
        if self.clearings != ClearedWorker.clearings:
            propagator.clear_basis_initial_states()
            ClearedWorker.clearings = self.clearings
        if self.func.__name__ == "propagate":
            basis_states, initial_states, segments = args
            args = basis_states, initial_states, SeededSegments(segments, propagator, self.seed)
        elif self.func.__name__ == "gen_istate":
            reseed(propagator, stream(self.seed, _STATES, args[1].state_id))
        return self.func(*args, **kwargs)


class SeededSegments(list[Any]):
    """Segments that start their own random streams as a propagator comes to them.

    A propagator that works on a block at once, after a loop over its segments, draws from the
    stream of the block's last segment: with the default ``block_size`` of 1 that is the only one.
    """

    def __init__(self, segments: list[Any], propagator: Any, seed: int) -> None:
        super().__init__(segments)
        self._propagator = propagator
        self._seed = seed
        self._last: Any = None

    def __iter__(self) -> Iterator[Any]:
        for segment in super().__iter__():
            if segment is not self._last:  # several loops over a block of one start it once
                self._last = segment
                reseed(self._propagator, stream(self._seed, segment.n_iter, segment.seg_id))
            yield segment


def reseed(propagator: Any, sequence: np.random.SeedSequence) -> None:
    """Start ``random``, ``np.random`` and the generators that the propagator keeps anew.

    Those are its attributes that are a ``Generator`` or a ``RandomState``, each on a child of the
    sequence, and an ``rng`` that is None until it is needed.
    """
    seed_globals(sequence)
    names = sorted(name for name, value in vars(propagator).items() if _is_random(name, value))
    for name, child in zip(names, sequence.spawn(len(names)), strict=True):
        setattr(propagator, name, _restarted(getattr(propagator, name), child))


def _restarted(generator: Any, sequence: np.random.SeedSequence) -> Any:
    """A generator of the same kind at the start of a stream; the same one where it has MT19937.

    To seed that anew takes 10 us, to make it 80.
    """
    words = sequence.generate_state(8)
    if isinstance(generator, np.random.RandomState):
        try:
            generator.seed(words)
        except TypeError:  # it is on something else than MT19937
            return np.random.RandomState(words)
        return generator
    if generator is None:
        generator = np.random.Generator(np.random.MT19937())
    if isinstance(generator.bit_generator, np.random.MT19937):
        np.random.RandomState(generator.bit_generator).seed(words)
        return generator
    return np.random.Generator(type(generator.bit_generator)(sequence))


def _is_random(name: str, value: Any) -> bool:
    return isinstance(value, (np.random.Generator, np.random.RandomState)) or (
        name == "rng" and value is None
    )

"""Random numbers: one stream a (walker, cycle), the same however many workers run them."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ringwalk.adapters.wepy as ours

CYCLES = 3
WALKERS = 8


def draw(walker: Any, **kwargs: Any) -> tuple[float, float]:
    return float(np.random.rand()), random.random()


def draw_from_generator(walker: Any, rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.random()), float(np.random.rand())


def run(mapper: Any, walkers: list[Any]) -> list[Any]:
    return [result for _ in range(CYCLES) for result in mapper.map(walkers)]


# A worker that ran everything, while the other did not get a processor, shares with nobody.
@pytest.mark.differs(
    "wepy's workers share one np.random stream, its task processes one number", by_chance=True
)
def test_all_draws_differ(host: Any, make_walkers: Any) -> None:
    draws = run(host.start(draw), make_walkers(WALKERS))
    assert len({numpy for numpy, _ in draws}) == CYCLES * WALKERS
    assert len({python for _, python in draws}) == CYCLES * WALKERS


def test_a_seed_gives_the_same_draws_on_any_number_of_workers(
    ringwalk_host: Any, make_walkers: Any
) -> None:
    walkers = make_walkers(WALKERS)
    serial = ours.Mapper(draw, seed=5)
    serial.init()
    before = np.random.get_state()[1].tolist(), random.getstate()
    expected = run(serial, walkers)
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before
    assert len(set(expected)) == CYCLES * WALKERS
    for workers in (1, 2, 7):
        assert run(ringwalk_host.start(draw, workers, seed=5), walkers) == expected
    assert run(ringwalk_host.start(draw, 2, seed=6), walkers) != expected


def test_a_generator_is_handed_on_where_asked(ringwalk_host: Any, make_walkers: Any) -> None:
    walkers = make_walkers(WALKERS)
    serial = ours.Mapper(draw_from_generator, seed=5)
    serial.init()
    expected = run(serial, walkers)
    assert len({generator for generator, _ in expected}) == CYCLES * WALKERS
    assert run(ringwalk_host.start(draw_from_generator, 2, seed=5), walkers) == expected


def test_a_retry_repeats_the_stream(ringwalk_host: Any, make_walkers: Any, tmp_path: Path) -> None:
    mark = tmp_path / "killed"

    def die_once(walker: Any) -> tuple[float, float]:
        drawn = draw(walker)
        if walker.state["num"] == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return drawn

    walkers = make_walkers(WALKERS)
    expected = run(ringwalk_host.start(draw, 2, seed=5), walkers)
    assert run(ringwalk_host.start(die_once, 2, seed=5), walkers) == expected
    assert mark.exists()


def test_a_second_run_goes_on_where_the_first_ended(ringwalk_host: Any, make_walkers: Any) -> None:
    walkers = make_walkers(WALKERS)
    expected = run(ringwalk_host.start(draw, 2, seed=5), walkers)
    mapper = ringwalk_host.make(draw, 2, seed=5)
    draws = []
    for _ in range(CYCLES):
        mapper.init()
        draws += mapper.map(walkers)
        mapper.cleanup()
    assert draws == expected

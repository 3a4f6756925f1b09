"""A cluster of processes: each process of the engine stands for a node."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest

from ringwalk import Mapper
from ringwalk.cluster import ClusterMapper


def processes(nodes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(nodes, multiprocessing.get_context("fork"))


class OneNode(ClusterMapper):
    """Made as the mappers of one machine are, for tests that are the same for all."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(partial(processes, 1), *args, start_method="fork", **options)


@pytest.fixture
def any_mapper() -> type[Mapper]:
    return OneNode


@pytest.fixture
def cluster() -> Callable[..., ClusterMapper]:
    """Makes a mapper over so many nodes, with what ``ClusterMapper`` takes after its engine."""

    def make(*args: Any, nodes: int = 2, **options: Any) -> ClusterMapper:
        options.setdefault("start_method", "fork")
        return ClusterMapper(partial(processes, nodes), *args, nodes=nodes, **options)

    return make

"""wepy's own mappers and Ringwalk's, side by side: a contract is written once and run on both."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from typing import Any

import networkx
import pytest
import wepy.work_mapper.mapper as wepy_mapper
import wepy.work_mapper.task_mapper as wepy_task_mapper

import ringwalk.adapters.wepy as ours

# wepy 1.2's WExplore reads an attribute that networkx dropped in 2.4.
if not hasattr(networkx.Graph, "node"):
    networkx.Graph.node = property(lambda graph: graph.nodes)

KINDS = ("WorkerMapper", "TaskMapper")


class Host:
    """One implementation of one of the two mappers.

    Attributes:
        name: ``wepy`` or ``ringwalk``.
        kind: ``WorkerMapper`` or ``TaskMapper``.
        process_exception: raised for what went wrong outside of the segment.
        mapper: the class.
        base: wepy's class for users to derive from.
    """

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        persistent = kind == "WorkerMapper"
        self.base = wepy_mapper.Worker if persistent else wepy_task_mapper.WalkerTaskProcess
        self.process_exception = (
            wepy_mapper.WorkerException if persistent else wepy_task_mapper.TaskProcessException
        )
        modules = {"wepy": wepy_mapper if persistent else wepy_task_mapper, "ringwalk": ours}
        self.mapper: type[Any] = getattr(modules[name], kind)
        self._made: list[Any] = []

    def __str__(self) -> str:
        return f"{self.name}-{self.kind}"

    def make(self, func: Any = None, num_workers: int | None = 2, **kwargs: Any) -> Any:
        """A mapper that is not initialised, ended with the test."""
        name = "worker_type" if self.kind == "WorkerMapper" else "walker_task_type"
        kwargs.setdefault(name, self.base)
        mapper = self.mapper(segment_func=func, num_workers=num_workers, **kwargs)
        self._made.append(mapper)
        return mapper

    def start(self, func: Any, num_workers: int | None = 2, **kwargs: Any) -> Any:
        """A mapper that is initialised."""
        mapper = self.make(func, num_workers, **kwargs)
        mapper.init()
        return mapper

    def end(self) -> None:
        for mapper in self._made:
            started = hasattr(mapper, "_mp_ctx") and mapper.num_workers is not None
            if self.name == "ringwalk" or started:
                mapper.cleanup()
            mapper.__dict__.clear()
        self._made = []
        if self.name == "wepy":
            _sweep_up_after_wepy()


def _sweep_up_after_wepy() -> None:
    """Its manager lives as long as anything refers to a queue, its workers stay zombies."""
    gc.collect()
    for process in multiprocessing.active_children():
        if isinstance(process, (wepy_mapper.Worker, wepy_task_mapper.WalkerTaskProcess)):
            process.join()
    gc.collect()


def _hosts(names: tuple[str, ...], kinds: tuple[str, ...] = KINDS) -> list[Any]:
    return [pytest.param((name, kind), id=f"{name}-{kind}") for name in names for kind in kinds]


@pytest.fixture
def _signals() -> Iterator[None]:
    """wepy replaces the SIGTERM handler of the parent for good."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(params=_hosts(("wepy", "ringwalk")))
def host(request: pytest.FixtureRequest, _signals: None) -> Iterator[Host]:
    """Both mappers of both packages."""
    made = Host(*request.param)
    marker = request.node.get_closest_marker("differs")
    if marker is not None and made.name == "wepy":
        strict = not marker.kwargs.get("by_chance", False)
        request.node.add_marker(pytest.mark.xfail(reason=marker.args[0], strict=strict))
    yield made
    made.end()


@pytest.fixture(params=_hosts(("ringwalk",)))
def ringwalk_host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Ringwalk's two mappers: where wepy's would hang, or have no such thing."""
    made = Host(*request.param)
    yield made
    made.end()


@pytest.fixture
def make_walkers() -> Callable[..., list[Any]]:
    from wepy.walker import Walker, WalkerState

    def make(count: int, **state: Any) -> list[Any]:
        return [Walker(WalkerState(num=k, **state), 1 / count) for k in range(count)]

    return make


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "differs(why, by_chance=False): a deliberate difference; wepy's own classes fail the test, "
        "or may, where a race of theirs decides",
    )

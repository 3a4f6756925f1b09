"""Everything that a program can hold of Ringwalk, each thing with what says that it is right.

Its first import must come before that of ringwalk: the collector shall run in each forked child
before any hook of the package.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

FIRST_IN_CHILD: list[Any] = []  # cleared there before anything else happens


def _clear_and_collect() -> None:
    FIRST_IN_CHILD.clear()
    gc.collect()


os.register_at_fork(after_in_child=_clear_and_collect)

import numpy as np  # noqa: E402

from ringwalk import (  # noqa: E402
    Executor,
    ForkedError,
    MapError,
    Row,
    TaskMapper,
    WalkerBlock,
    WorkerMapper,
)
from ringwalk.distributors import CommandDistributor  # noqa: E402
from ringwalk.memory import RunTable, Status  # noqa: E402
from ringwalk.runners import PoolRunner  # noqa: E402

LENGTH = 40_000
Checked = tuple[np.ndarray[Any, Any], int, int]  # a result: its array, what that sums to, its key


def segment(x: Any, failing: bool = False) -> Any:
    """For a number an array and its checksum; a row is written and read."""
    if failing:
        raise ValueError(x)
    if isinstance(x, Row):
        x.x[:] += 1
        return float(x.x[-1])
    array = np.random.default_rng(x).integers(0, 255, LENGTH, dtype="u1")
    return array, zlib.crc32(array), x


_in_child: list[Callable[[], None]] = []


def set_act(what: Callable[[], None]) -> None:
    """Have ``act`` do this."""
    _in_child[:] = [what]


def act(*_: object) -> None:
    """What a forked child does. Here, not in ``__main__``: it travels by name, and nothing else."""
    _in_child[0]()


def is_right(result: Checked, key: int) -> bool:
    return result[2] == key and zlib.crc32(result[0]) == result[1]


def run(row: Any) -> None:
    row["v"] = 2 * row["u"]
    if row["u"] < 0:
        Path(os.environ["GATE"]).read_text()


def wait_at(gate: str) -> str:
    return Path(gate).read_text()


class LocalHolder:
    """A thread that keeps results where only it can see them."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._orders: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._local.kept = {}
        while True:
            self._wake.acquire()
            order, answer = self._orders.popleft()
            answer.set_result(order())
            del order, answer

    def _ask(self, order: Callable[[], Any]) -> Any:
        answer: Future[Any] = Future()
        self._orders.append((order, answer))
        self._wake.release()
        return answer.result()

    def keep(self, box: list[dict[int, Checked]]) -> None:
        self._ask(lambda: setattr(self._local, "kept", box.pop()))

    def wrong(self) -> int:
        return int(self._ask(lambda: sum(not is_right(r, k) for k, r in self._local.kept.items())))


def generate(results: dict[int, Checked]) -> Iterator[int]:
    """Keeps results in its frame; each step tells how many are wrong."""
    while True:
        yield sum(not is_right(result, key) for key, result in results.items())


def fail_with(results: dict[int, Checked]) -> Exception:
    """An exception that has results in the frames of its cause's traceback."""

    def inner(kept: dict[int, Checked]) -> None:
        raise KeyError(len(kept))

    try:
        try:
            inner(results)
        except KeyError as cause:
            raise RuntimeError("outer") from cause
    except RuntimeError as error:
        return error


def kept_in(error: BaseException) -> dict[int, Checked]:
    assert error.__cause__ is not None
    traceback = error.__cause__.__traceback__
    assert traceback is not None
    assert traceback.tb_next is not None
    found: dict[int, Checked] = traceback.tb_next.tb_frame.f_locals["kept"]
    return found


def _end_at_once(kind: type[BaseException] | None, error: Any, traceback: Any) -> None:
    """Not by way of the fronts, which would wait for the call that waits at its gate."""
    if kind is not None and kind is not SystemExit:
        sys.excepthook(kind, error, traceback)
        os._exit(1)


class Holdings:
    """One of everything, in use: fronts, and results in every place that can hold some.

    Args:
        folder: for files; a run, a call and a command wait there at the fifo ``gate`` till the end.
    """

    def __init__(self, folder: Path, stack: ExitStack, seed: int = 0) -> None:
        self._random = Random(seed)
        self._next = 1
        self._gates = [folder / name for name in ("gate-run", "gate-call", "gate-command")]
        for gate in self._gates:
            os.mkfifo(gate)
        os.environ["GATE"] = str(self._gates[0])
        self.worker = stack.enter_context(
            WorkerMapper(segment, 2, on_error="finish", max_retries=100)
        )
        self.task = stack.enter_context(TaskMapper(segment, 1, on_error="finish"))
        self.streaming = stack.enter_context(WorkerMapper(segment, 1))
        self.executor = stack.enter_context(Executor(2, max_retries=100))
        self.name = f"holdings-{os.getpid()}"
        self.block = WalkerBlock.create(3, {"x": ((500,), "f8")}, name=self.name)
        stack.callback(self.block.close)
        self.times = 0  # that the block's rows were written
        self.path = folder / "runs.npy"
        self.table = stack.enter_context(RunTable({"u": "f8", "v": "f8"}, path=self.path))
        self.runner = stack.enter_context(PoolRunner(run, self.table, parallel=2))
        self.distributor = stack.enter_context(CommandDistributor(2))
        self._waiting_run = self.runner.spawn({"u": -1.0})
        self._waiting_call = self.executor.submit(wait_at, str(self._gates[1]))
        self._waiting_command = self.distributor.submit(["cat", str(self._gates[2])])
        self.iterator: Iterator[tuple[int, Any]] = iter(())
        self._streamed = 0
        # Where results are kept.
        self.list: dict[int, Checked] = {}
        self.cache: deque[dict[int, Checked]] = deque(maxlen=6)  # of many maps
        self.error: Exception | None = None
        self.failed: MapError | None = None
        self.generator = generate({})
        self.futures: dict[int, Any] = {}
        self.local = LocalHolder()
        self.renew()
        stack.push(_end_at_once)

    def _keys(self, count: int) -> list[int]:
        self._next += count
        return list(range(self._next - count, self._next))

    def _mapped(self, mapper: Any, count: int = 4) -> dict[int, Checked]:
        keys = self._keys(count)
        return dict(zip(keys, mapper.map(keys), strict=True))

    # --- use -----------------------------------------------------------------------------------

    def use(self) -> None:
        """Have every front do something, and check what comes of it. Keeps nothing."""
        for mapper in (self.worker, self.task):
            for key, result in self._mapped(mapper).items():
                assert is_right(result, key)
        keys = self._keys(3)
        for key, result in zip(keys, self.executor.map(segment, keys), strict=True):
            assert is_right(result, key)
        assert self.worker.map(self.block) == [self.times + 1] * 3
        self.times += 1
        number = self.runner.spawn({"u": 4.0})
        assert self.runner.wait(number) is Status.DONE
        assert self.table.rows[number]["v"] == 8
        command = self.distributor.submit("true")
        assert self.distributor.wait([command])
        attached = WalkerBlock.attach(self.name)
        assert (attached["x"] == self.times).all()
        attached.close()
        assert (self.path.parent / ".runs.npy.owner").exists()
        self.stream()

    def stream(self) -> None:
        """One step of the iterator that is always open."""
        try:
            walker, result = next(self.iterator)
        except StopIteration:
            self._streamed += 5
            keys = range(self._streamed, self._streamed + 5)
            self.iterator = self.streaming.map_unordered(keys)
            walker, result = next(self.iterator)
        assert is_right(result, self._streamed + walker)

    # --- keep ----------------------------------------------------------------------------------

    def _renew_list(self) -> None:
        self.list = self._mapped(self.worker)
        FIRST_IN_CHILD[:] = [self.list]

    def _renew_local(self) -> None:
        self.local.keep([self._mapped(self.worker)])

    def _renew_cache(self) -> None:
        self.cache.append(self._mapped(self._random.choice([self.worker, self.task])))

    def _renew_error(self) -> None:
        self.error = fail_with(self._mapped(self.task))

    def _renew_failed(self) -> None:
        keys = self._keys(4)
        try:
            self.worker.map(keys, [False, True, False, False])
        except MapError as error:
            self.failed = error
            self._failed_keys = [keys[0], *keys[2:]]

    def _renew_generator(self) -> None:
        self.generator = generate(self._mapped(self.worker))
        next(self.generator)

    def _renew_futures(self) -> None:
        self.futures = {key: self.executor.submit(segment, key) for key in self._keys(4)}

    def _renew_cycle(self) -> None:
        """Results that only the collector lets go of."""
        cycle: list[Any] = [self._mapped(self.worker)]
        cycle.append(cycle)

    def _renewals(self) -> list[Callable[[], None]]:
        return [
            self._renew_list,
            self._renew_local,
            self._renew_cache,
            self._renew_error,
            self._renew_failed,
            self._renew_generator,
            self._renew_futures,
            self._renew_cycle,
        ]

    def renew(self, count: int | None = None) -> None:
        """Replace what some places keep, by chance, or all."""
        renewals = self._renewals()
        for renewal in renewals if count is None else self._random.sample(renewals, count):
            renewal()

    # --- check ---------------------------------------------------------------------------------

    def wrong(self) -> int:
        """How many of the results that are kept anywhere are not what they were."""
        kept = {**self.list}
        for results in self.cache:
            kept.update(results)
        if self.error is not None:
            kept.update(kept_in(self.error))
        if self.failed is not None:
            assert list(self.failed.completed) == [0, 2, 3]
            kept.update(zip(self._failed_keys, self.failed.results.values(), strict=True))
        kept.update((key, future.result()) for key, future in self.futures.items())
        count = sum(not is_right(result, key) for key, result in kept.items())
        assert (self.block["x"] == self.times).all()
        return count + self.local.wrong() + next(self.generator)

    def finish(self) -> None:
        """What has waited all the time goes on, and ends well."""
        for gate in self._gates:
            gate.write_text("open\n")
        assert self.runner.wait(self._waiting_run) is Status.DONE
        assert self._waiting_call.result() == "open\n"
        assert self.distributor.wait([self._waiting_command])
        info = self.distributor.exit_info(self._waiting_command)
        assert info is not None
        assert info.ok

    # --- in a forked child ---------------------------------------------------------------------

    def close_all(self) -> None:
        """In a forked child: what a program does at its end, and what it may not do there."""
        for number, refused in enumerate(
            (
                lambda: next(self.iterator),
                lambda: self.worker.map([1]),
                lambda: self.executor.submit(segment, 1),
                lambda: self.runner.enqueue(0),
                lambda: self.table.append(u=1.0),
                lambda: self.distributor.submit("true"),
            )
        ):
            try:
                refused()
            except ForkedError:
                continue
            raise AssertionError(f"a forked child may use what is its parent's: call {number}")
        for mapper in (self.worker, self.task, self.streaming):
            mapper.cleanup()
        self.executor.shutdown(cancel_futures=True)
        self.block.close()
        self.runner.close()
        self.table.close()
        self.distributor.__exit__()

    def drop_all(self) -> None:
        """In a forked child: let go of everything without a word."""
        vars(self).clear()
        gc.collect()

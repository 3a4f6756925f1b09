"""The contract of an executor: that of ``concurrent.futures``, whose own classes pass it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ringwalk.testing.checks import Checks, expect, expect_equal, expect_raises, run_checks


class MakeExecutor(Protocol):
    """An executor class, or a function that makes an executor."""

    def __call__(self, max_workers: int, **options: Any) -> concurrent.futures.Executor: ...


EXECUTOR_CHECKS = Checks()


def check_executor(make: MakeExecutor, *, deviations: Mapping[str, str] | None = None) -> None:
    """Run every check of the executor contract.

    Args:
        make: called as ``make(max_workers)``, and with ``initializer`` and ``initargs``.
        deviations: names of checks that are left out, each with the reason: what the class does
            otherwise on purpose.

    Raises:
        ExceptionGroup: what failed, one exception a check, with its name in a note.
        ValueError: ``deviations`` names no check.
    """
    run_checks(EXECUTOR_CHECKS, make, deviations)


def _same(value: Any) -> Any:
    return value


def _fail(text: str) -> None:
    raise LookupError(text)


def _add_one(array: Any) -> Any:
    return array + 1


def _wait_for(path: str) -> None:
    """Block a worker until another process writes to the pipe at ``path``."""
    with open(path) as gate:
        gate.read()


def _touch(folder: str) -> None:
    Path(folder, f"{os.getpid()}-{threading.get_ident()}").touch()


@contextmanager
def _gate() -> Iterator[Path]:
    """A named pipe: who opens it to read waits until it is opened to write and closed again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gate")
        os.mkfifo(path)
        yield path


@EXECUTOR_CHECKS
def many_calls_in_flight_give_their_results(make: MakeExecutor) -> None:
    with make(2) as executor:
        futures = [executor.submit(_same, k) for k in range(3000)]
        expect_equal([future.result() for future in futures], list(range(3000)))


@EXECUTOR_CHECKS
def map_keeps_the_order(make: MakeExecutor) -> None:
    with make(2) as executor:
        for chunksize in (1, 3, 100):
            found = list(executor.map(pow, range(20), range(20), chunksize=chunksize))
            expect_equal(found, [k**k for k in range(20)])


@EXECUTOR_CHECKS
def arrays_travel_both_ways_and_can_be_written(make: MakeExecutor) -> None:
    array = np.arange(100_000.0)
    with make(2) as executor:
        result = executor.submit(_add_one, array).result()
    expect(bool((result == array + 1).all()), "the array came back changed")
    result += 1


@EXECUTOR_CHECKS
def an_exception_comes_back(make: MakeExecutor) -> None:
    with make(2) as executor:
        future = executor.submit(_fail, "as expected")
        with expect_raises(LookupError) as caught:
            future.result()
        expect_equal(caught[0].args, ("as expected",))
        expect(isinstance(future.exception(), LookupError), repr(future.exception()))
        expect_equal(executor.submit(_same, 1).result(), 1)


@EXECUTOR_CHECKS
def the_standard_ways_of_waiting_work(make: MakeExecutor) -> None:
    with make(2) as executor:
        futures = [executor.submit(_same, k) for k in range(50)]
        found = {future.result() for future in concurrent.futures.as_completed(futures)}
        expect_equal(found, set(range(50)))
        more = [executor.submit(_same, k) for k in range(50)]
        done, pending = concurrent.futures.wait(more)
        expect_equal((done, pending), (set(more), set()))


@EXECUTOR_CHECKS
def asyncio_wraps_the_futures(make: MakeExecutor) -> None:
    async def main(executor: concurrent.futures.Executor) -> list[int]:
        wrapped = [asyncio.wrap_future(executor.submit(_same, k)) for k in range(20)]
        loop = asyncio.get_running_loop()
        return [*await asyncio.gather(*wrapped), await loop.run_in_executor(executor, abs, -7)]

    with make(2) as executor:
        expect_equal(asyncio.run(main(executor)), [*range(20), 7])


@EXECUTOR_CHECKS
def callbacks_are_called_without_a_waiter(make: MakeExecutor) -> None:
    results: list[int] = []
    called = threading.Event()

    def note(future: concurrent.futures.Future[int]) -> None:
        results.append(future.result())
        called.set()

    with make(2) as executor:
        executor.submit(_same, 5).add_done_callback(note)
        called.wait()
    expect_equal(results, [5])


@EXECUTOR_CHECKS
def threads_submit_at_once(make: MakeExecutor) -> None:
    sums: list[int] = []

    with make(2) as executor:

        def work(base: int) -> None:
            futures = [executor.submit(_same, base + k) for k in range(100)]
            sums.append(sum(future.result() - base for future in futures))

        threads = [threading.Thread(target=work, args=(1000 * k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expect_equal(sums, [sum(range(100))] * 4)


@EXECUTOR_CHECKS
def waiting_calls_can_be_cancelled_and_running_ones_not(make: MakeExecutor) -> None:
    with _gate() as gate, make(1) as executor:
        running = executor.submit(_wait_for, str(gate))
        # A pool may fetch a few calls ahead of a free worker: the last one waits.
        *_, queued = [executor.submit(_same, k) for k in range(20)]
        with gate.open("w"):  # opens when the worker has it open, too
            expect(running.running(), "the call that a worker executes does not count as running")
            expect(not running.cancel(), "a running call was cancelled")
            expect(queued.cancel(), "a waiting call could not be cancelled")
            expect(queued.cancelled() and queued.done(), "a cancelled call is not done")
        expect_equal(running.result(), None)
        with expect_raises(CancelledError):
            queued.result()


@EXECUTOR_CHECKS
def result_gives_up_after_its_timeout(make: MakeExecutor) -> None:
    with _gate() as gate, make(1) as executor:
        future = executor.submit(_wait_for, str(gate))
        with expect_raises(TimeoutError):
            future.result(0.05)
        expect(not future.done(), "a call counts as done after a timeout of its waiter")
        gate.write_text("")
        expect_equal(future.result(), None)


@EXECUTOR_CHECKS
def the_initializer_runs_once_in_each_worker(make: MakeExecutor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with make(2, initializer=_touch, initargs=(folder,)) as executor:
            expect_equal(list(executor.map(_same, range(50))), list(range(50)))
        count = len(os.listdir(folder))
    expect(1 <= count <= 2, f"the initializer ran in {count} workers of 2")


@EXECUTOR_CHECKS
def shutdown_waits_for_submitted_calls(make: MakeExecutor) -> None:
    executor = make(2)
    futures = [executor.submit(_same, k) for k in range(200)]
    executor.shutdown()
    expect(all(future.done() for future in futures), "shutdown left calls that are not done")
    expect_equal([future.result() for future in futures], list(range(200)))
    executor.shutdown()
    with expect_raises(RuntimeError):
        executor.submit(_same, 1)


@EXECUTOR_CHECKS
def shutdown_cancels_waiting_calls_on_request(make: MakeExecutor) -> None:
    with _gate() as gate:
        executor = make(1)
        running = executor.submit(_wait_for, str(gate))
        *_, queued = [executor.submit(_same, k) for k in range(20)]
        # The library's wait() does not return for a call that was cancelled but not taken up.
        ended = threading.Event()
        queued.add_done_callback(lambda _: ended.set())
        with gate.open("w"):
            executor.shutdown(wait=False, cancel_futures=True)
            ended.wait()
        expect_equal(running.result(), None)
        executor.shutdown()
        expect(queued.cancelled(), "a waiting call was not cancelled")


@EXECUTOR_CHECKS
def shutdown_without_waiting_lets_calls_finish(make: MakeExecutor) -> None:
    with _gate() as gate:
        executor = make(1)
        futures = [executor.submit(_wait_for, str(gate)), executor.submit(_same, 2)]
        executor.shutdown(wait=False)
        gate.write_text("")
        expect_equal(futures[1].result(), 2)
        executor.shutdown()

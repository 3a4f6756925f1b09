"""``close`` ends a runner's processes, whoever calls it, whenever."""

from __future__ import annotations

import select
import threading
from typing import Any

import pytest

from ringwalk import ClosedError
from ringwalk.runners import ForkRunner, LocalRunner, PoolRunner, Runner


def sleep(run_id: int) -> None:
    select.select([], [], [], 600)


def make(kind: type[Runner], **options: Any) -> Any:
    if kind is LocalRunner:
        return LocalRunner("sleep 600", parallel=2, **options)
    assert issubclass(kind, ForkRunner)
    return kind(sleep, parallel=2, **options)


@pytest.fixture(params=[ForkRunner, PoolRunner, LocalRunner], ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[Runner]:
    return request.param  # type: ignore[no-any-return]


def test_a_wait_in_another_thread_ends_with_closed_error(kind: type[Runner]) -> None:
    runner, errors = make(kind), []
    waiting = threading.Event()

    def wait() -> None:
        for run_id in range(4):
            runner.enqueue(run_id)
        waiting.set()
        try:
            runner.wait_all()
        except ClosedError as error:
            errors.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    runner.close()
    thread.join()
    assert len(errors) == 1
    assert "was closed" in errors[0]
    assert set(runner.failed) == set(range(4))


def test_a_progress_function_that_raises_keeps_no_process(kind: type[Runner]) -> None:
    def progress(ended: int, of: int) -> None:
        raise LookupError("progress")

    runner = make(kind, progress=progress)
    runner.enqueue(0)
    with pytest.raises(LookupError, match="progress"):
        runner.close()
    with pytest.raises(ClosedError):
        runner.enqueue(1)

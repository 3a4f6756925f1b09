"""Ctrl-C at the worst instants of a runner's dealings with its processes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from ringwalk.memory import RunTable, Status
from ringwalk.runners import ForkRunner, PoolRunner


@pytest.fixture(params=[ForkRunner, PoolRunner], ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[ForkRunner]:
    return request.param  # type: ignore[no-any-return]


def square(row: Any) -> None:
    row["f"] = row["u"] ** 2


@pytest.fixture
def interrupt_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[ForkRunner, str], None]:
    """Have a runner's next such step end with a Ctrl-C, before its caller notes what came of it."""

    def interrupt_after(runner: ForkRunner, step: str) -> None:
        original, once = getattr(runner, step), iter([1])

        def interrupted(argument: Any) -> Any:
            outcome = original(argument)
            if next(once, None):
                signal.raise_signal(signal.SIGINT)
            return outcome

        monkeypatch.setattr(runner, step, interrupted)

    return interrupt_after


@pytest.mark.parametrize("step", ["_start", "_retire"])
def test_ctrl_c_between_two_runs_loses_neither(
    step: str,
    kind: type[ForkRunner],
    table: RunTable,
    interrupt_after: Callable[[ForkRunner, str], None],
) -> None:
    with kind(square, table, parallel=1) as runner:
        runner.spawn_array({"u": float(k)} for k in range(3))
        interrupt_after(runner, step)
        with pytest.raises(KeyboardInterrupt):
            runner.wait_all()
        assert runner.wait_all()
    assert table["f"].tolist() == [0, 1, 4]
    assert set(table["status"]) == {Status.DONE}


def test_ctrl_c_in_a_spawn_leaves_no_unknown_process(
    kind: type[ForkRunner],
    table: RunTable,
    interrupt_after: Callable[[ForkRunner, str], None],
) -> None:
    with kind(square, table, parallel=1) as runner:
        interrupt_after(runner, "_start")
        with pytest.raises(KeyboardInterrupt):
            runner.spawn({"u": 3.0})
        assert runner.unfinished == 1
        assert runner.wait(0) is Status.DONE
    assert table["f"].tolist() == [9]

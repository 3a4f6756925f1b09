"""Every fault that wepy 1.2 trips on ends in success after a retry, or in a clear error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from wepy.walker import Walker, WalkerState
from wepy.work_mapper.mapper import TaskException

SessionOf = Callable[[int], Any]

BOUND_S = 60.0
"""What is not over by then is taken to hang."""


class Moody(Exception):
    """Pickles, and fails to unpickle."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lambda")
        self.why = lambda: 0


def at_three(act: Callable[[], Any]) -> Callable[..., Any]:
    def segment(walker: Walker, **kwargs: Any) -> Walker:
        if walker.state["num"] == 3:
            act()
        return walker

    return segment


def raise_moody() -> None:
    raise Moody("out of", "luck")


def raise_unpicklable() -> None:
    raise Unpicklable


def kill_myself(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("act", [raise_moody, raise_unpicklable])
def test_an_exception_that_cannot_travel(
    ringwalk_host: Any, make_walkers: Any, act: Callable[[], None]
) -> None:
    mapper = ringwalk_host.start(at_three(act))
    with pytest.raises(TaskException, match="out of luck|holds a lambda"):
        mapper.map(make_walkers(8))


@pytest.mark.parametrize(
    ("act", "told"),
    [
        pytest.param(lambda: os._exit(7), "exit code 7", id="os._exit"),
        pytest.param(lambda: sys.exit(3), "exit code 3", id="sys.exit"),
        pytest.param(kill_myself(signal.SIGKILL), "SIGKILL", id="SIGKILL"),
        pytest.param(kill_myself(signal.SIGSEGV), "SIGSEGV", id="SIGSEGV"),
        pytest.param(kill_myself(signal.SIGTERM), "SIGTERM", id="SIGTERM"),
    ],
)
def test_a_process_that_dies_each_time(
    ringwalk_host: Any, make_walkers: Any, act: Callable[[], None], told: str
) -> None:
    mapper = ringwalk_host.start(at_three(act))
    with pytest.raises(ringwalk_host.process_exception, match=f"walker 3 died with .*{told}"):
        mapper.map(make_walkers(8))
    assert len(mapper.map(make_walkers(2))) == 2  # the next map works


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_once_is_run_again(
    ringwalk_host: Any, make_walkers: Any, tmp_path: Path, number: signal.Signals
) -> None:
    mark = tmp_path / "killed"

    def die_the_first_time() -> None:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), number)

    mapper = ringwalk_host.start(at_three(die_the_first_time))
    assert [w.state["num"] for w in mapper.map(make_walkers(8))] == list(range(8))
    assert mark.exists()
    assert sum(map(len, mapper.worker_segment_times.values())) == 8


def test_a_segment_that_hangs_is_ended_by_the_timeout(
    ringwalk_host: Any, make_walkers: Any
) -> None:
    mapper = ringwalk_host.start(at_three(signal.pause), timeout=0.5)
    with pytest.raises(ringwalk_host.process_exception, match=r"ran longer than timeout=0\.5"):
        mapper.map(make_walkers(8))


# --- the parent --------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys, warnings
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
warnings.simplefilter("ignore")
import ringwalk.adapters.wepy as adapter
from wepy.resampling.resamplers.resampler import NoResampler
from wepy.sim_manager import Manager
from wepy.walker import Walker, WalkerState

class Runner:
    def pre_cycle(self, **kwargs): pass
    def post_cycle(self, **kwargs): pass
    def run_segment(self, walker, steps, cycle_idx=None, walker_idx=None, **kwargs):
        if cycle_idx == 1:
            os.write(1, b"running\\n")  # in one piece: two processes do
            signal.pause()
        return walker

walkers = [Walker(WalkerState(x=1.0), 0.125) for _ in range(8)]
mapper = getattr(adapter, sys.argv[1])(num_workers=2)
manager = Manager(walkers, runner=Runner(), resampler=NoResampler(), work_mapper=mapper)
if sys.argv[2] == "no cleanup":
    manager.init()
    manager.run_segment(walkers, 10, 0)
    print("running", flush=True)
else:
    manager.run_simulation(3, [10] * 3)
"""


def run_until_segments_hang(kind: str, way: str = "") -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, way],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"running\n"
    return process


@pytest.mark.parametrize("kind", ["WorkerMapper", "TaskMapper"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["parent", "group"])
def test_the_parent_is_killed(
    kind: str, number: signal.Signals, whom: str, session_of: SessionOf
) -> None:
    process = run_until_segments_hang(kind)
    (os.kill if whom == "parent" else os.killpg)(process.pid, number)
    process.communicate()
    assert process.returncode == -number
    session_of(process.pid).wait_for_its_end(BOUND_S)


@pytest.mark.parametrize("kind", ["WorkerMapper", "TaskMapper"])
@pytest.mark.parametrize("whom", ["parent", "group"])
def test_ctrl_c(kind: str, whom: str, session_of: SessionOf) -> None:
    process = run_until_segments_hang(kind)
    (os.kill if whom == "parent" else os.killpg)(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
    assert errors.count(b"Traceback") == 1  # the parent's own, none from workers
    session_of(process.pid).wait_for_its_end(BOUND_S)


@pytest.mark.parametrize("kind", ["WorkerMapper", "TaskMapper"])
def test_exit_without_cleanup(kind: str, session_of: SessionOf) -> None:
    process = run_until_segments_hang(kind, "no cleanup")
    _, errors = process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in errors
    session_of(process.pid).wait_for_its_end(BOUND_S)


def test_a_state_that_cannot_be_unpickled_in_the_parent(
    ringwalk_host: Any, make_walkers: Any
) -> None:
    class Sour:
        def __reduce__(self) -> Any:
            return int, ("not a number",)

    def segment(walker: Walker) -> Walker:
        return Walker(WalkerState(sour=Sour()), walker.weight)

    with pytest.raises(ringwalk_host.process_exception, match="cannot be unpickled in the parent"):
        ringwalk_host.start(segment).map(make_walkers(2))

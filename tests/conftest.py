"""Every test ends by proving that it left nothing behind: no child, no descriptor, no memory."""

from __future__ import annotations

import gc
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ringwalk import Mapper, SerialMapper, TaskMapper, ThreadMapper, WorkerMapper
from ringwalk.memory.header import read_owner
from ringwalk.memory.inherited import release_for_the_dead
from ringwalk.memory.owner import Owner

# A shell starts its background jobs with SIGINT ignored, and so would be every test of Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

ALL = (SerialMapper, ThreadMapper, WorkerMapper, TaskMapper)
PROCESS = (WorkerMapper, TaskMapper)

MakeMapper = Callable[..., Mapper]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--campaign", action="store_true", help="run the fault injection with its long numbers"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("hypothesispytest"):  # not in the environments of hosts
        from hypothesis import HealthCheck, settings

        # How long an example takes to make or to run says nothing but how busy the machine is.
        settings.register_profile(
            "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
        settings.load_profile("patient")


def _descriptors() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that lists the folder
            continue
        found.add(f"{name} -> {target}")
    return found


def children() -> set[int]:
    """Processes whose parent this is, dead ones that nobody reaped included."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except FileNotFoundError:  # a thread that ended meanwhile
            continue
    return found


def shared_memory() -> set[str]:
    """Our names in /dev/shm, but for those of a live process that is not this one."""
    names = {name for name in os.listdir("/dev/shm") if name.startswith("ringwalk")}
    return {name for name in names if not _is_another_s(name)}


def _is_another_s(name: str) -> bool:
    path = Path("/dev/shm", name)
    if name.startswith("ringwalk-"):
        try:
            owner = Owner(*map(int, name.split("-")[1:4]))
        except (TypeError, ValueError):  # a test makes such a name
            return False
    else:
        try:
            found = read_owner(path.read_bytes()[:128]) if path.is_file() else None
        except FileNotFoundError:
            return True  # gone meanwhile
        if found is None:
            return False
        owner = found
    return owner.pid != os.getpid() and not owner.is_dead()


class Session:
    """The processes of a session (see setsid(2)), by the process id of its leader."""

    def __init__(self, leader: int) -> None:
        self.leader = leader

    def pids(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            # A zombie is dead; that its new parent reaps it late is not ours.
            if int(fields[3]) == self.leader and fields[0] != "Z":
                found.append(int(entry.name))
        return found

    def wait_for_its_end(self, seconds: float) -> int:
        """Wait until no process is left; how many there were. Kills what outlives the wait."""
        deadline = time.monotonic() + seconds
        seen: set[int] = set()
        while pids := self.pids():
            seen.update(pids)
            for pid in pids:
                try:
                    pidfd = os.pidfd_open(pid)
                except ProcessLookupError:
                    continue
                left = max(0.0, deadline - time.monotonic())
                ended, _, _ = select.select([pidfd], [], [], left)
                if not ended:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)
                assert ended, f"processes {pids} of session {self.leader} are left"
        return len(seen)


@pytest.fixture(scope="session")
def guide_blocks() -> Callable[[str], list[tuple[str, str]]]:
    """Document and code of the blocks that tests/test_docs.py leaves to tests/adapters/<host>."""
    root = Path(__file__).parents[1]

    def blocks(host: str) -> list[tuple[str, str]]:
        pattern = re.compile(rf"<!-- run in {host} -->\n```python\n(.*?)```", re.DOTALL)
        paths = (root / "README.md", *sorted((root / "docs").rglob("*.md")))
        return [
            (str(path.relative_to(root)), code)
            for path in paths
            for code in pattern.findall(path.read_text())
        ]

    return blocks


@pytest.fixture(scope="session")
def session_of() -> type[Session]:
    return Session


@pytest.fixture(scope="session", autouse=True)
def _standard_library_processes() -> None:
    """Start Python's own resource tracker now, so that no test seems to have left it behind."""
    resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    gc.collect()
    release_for_the_dead()
    gc.freeze()  # or the collection after the test goes through all of every library again
    before = children(), _descriptors(), shared_memory()
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # where a test asked for one
    gc.collect()
    release_for_the_dead()
    assert children() - before[0] == set(), "a child process is left"
    assert _descriptors() - before[1] == set(), "a descriptor is left"
    assert shared_memory() - before[2] == set(), "shared memory is left"


@pytest.fixture(params=ALL, ids=lambda kind: kind.__name__)
def any_mapper(request: pytest.FixtureRequest) -> type[Mapper]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=PROCESS, ids=lambda kind: kind.__name__)
def process_mapper(request: pytest.FixtureRequest) -> type[Mapper]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def ctrl_c_in_wait() -> Callable[..., AbstractContextManager[None]]:
    """Has a Ctrl-C come at a line of a wait for futures, be it in a module or in the library."""

    @contextmanager
    def pressed(module: str, line: int, waiting: Callable[[], bool]) -> Iterator[None]:
        """At the ``line``-th line that runs there in this thread once ``waiting()``."""
        lines = iter(range(1, line))
        files = (module, "concurrent/futures/_base.py", "threading.py")

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            if not frame.f_code.co_filename.endswith(files):
                return None
            if event == "line" and waiting() and next(lines, None) is None:
                sys.settrace(None)
                signal.raise_signal(signal.SIGINT)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(before)

    return pressed


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """``rounds(ci, campaign)``: how often to inject."""
    long = request.config.getoption("--campaign")
    return lambda ci, campaign: campaign if long else ci

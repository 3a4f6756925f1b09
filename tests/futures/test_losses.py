"""What comes at the one instant at which it could be lost, without anybody noticing."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from ringwalk import Executor
from ringwalk.futures import Future, dispatcher
from ringwalk.futures.work_manager import ThreadsWorkManager, WMFuture


@pytest.fixture
def undispatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tends what nobody waits for."""
    monkeypatch.setattr(dispatcher, "HEARTBEAT_S", 3600.0)


@pytest.mark.usefixtures("undispatched")
@pytest.mark.parametrize("noticed", ["before", "in it", "while others prepare"])
def test_a_start_that_meets_a_death_does_not_lose_the_task(
    noticed: str, dies_once: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare() -> None:
        """There for the start to wait until each worker has prepared itself."""

    with Executor(1, initializer=prepare) as executor:
        executor.start()
        worker = os.pidfd_open(executor.submit(os.getpid).result())
        future = executor.submit(dies_once)
        select.select([worker], [], [])
        os.close(worker)
        crew = executor._engine._stream.crew  # type: ignore[union-attr]
        if noticed == "before":  # and a Ctrl-C kept anybody from hearing of it
            while not crew.wait(None):
                pass
        elif noticed == "while others prepare":
            monkeypatch.setattr(crew, "_ready", set())  # as if another one had to
            poll, looks = crew.poll, iter([[]])
            monkeypatch.setattr(
                crew, "poll", lambda timeout: poll(timeout) if timeout else next(looks)
            )
        executor.start()
        assert future.result() == "survived"


class Waiting:
    """Tells of a thread that waits while another leads: "follows" as it falls asleep, "leads"."""

    def __init__(self, executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: SimpleQueue[str] = SimpleQueue()
        self.rings = 0
        engine = executor._engine
        followers = engine._leadership._followers
        wait, ring, tend = followers.wait, followers.ring, engine._tend

        def told_wait(ready: Callable[[], bool], timeout: float | None) -> None:
            def asked() -> bool:
                found = ready()
                if not found:  # from here on, a ring wakes it
                    self.told.put("follows")
                return found

            wait(asked, timeout)

        def told_tend(done: Callable[[], bool], deadline: float | None) -> None:
            self.told.put("leads")
            tend(done, deadline)

        def counted_ring() -> None:
            self.rings += 1
            ring()

        monkeypatch.setattr(followers, "wait", told_wait)
        monkeypatch.setattr(followers, "ring", counted_ring)
        monkeypatch.setattr(engine, "_tend", told_tend)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.mark.usefixtures("undispatched")
@pytest.mark.parametrize("by", ["cancel", "shutdown"])
def test_who_waits_for_what_is_cancelled_hears_of_it(
    by: str, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was woken before the future was cancelled, saw nothing, and slept again."""
    with Executor(1) as executor:
        running = executor.submit(gate.read_bytes)
        queued = executor.submit(abs, -1)
        waiting = Waiting(executor, monkeypatch)
        leader = threading.Thread(target=running.result)

        def follow() -> None:
            with suppress(CancelledError):
                queued.result()

        follower = threading.Thread(target=follow)

        def note_late(self: Future) -> bool:
            if waiting.rings > before:
                assert waiting.told.get() == "follows"
            return note(self)

        note = Future.note_cancelled
        monkeypatch.setattr(Future, "note_cancelled", note_late)
        with gate.open("w"):
            leader.start()
            assert waiting.told.get() == "leads"
            follower.start()
            assert waiting.told.get() == "follows"
            before = waiting.rings
            if by == "cancel":
                assert queued.cancel()
            else:
                executor.shutdown(wait=False, cancel_futures=True)
            follower.join(10)
            heard = not follower.is_alive()
        leader.join()
        follower.join()
        assert heard


@pytest.mark.usefixtures("undispatched")
def test_two_who_want_to_lead_once_both_do(gate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to be done let those that wait lead again, before the second had its turn."""
    with Executor(1) as executor:
        running = executor.submit(gate.read_bytes)
        engine = executor._engine
        waiting = Waiting(executor, monkeypatch)
        arrived, go_on = threading.Event(), threading.Event()

        class Lead:
            """The lock, before which the second one is held up."""

            def __init__(self) -> None:
                self._lock = engine._leadership._lead
                self.acquire, self.release = self._lock.acquire, self._lock.release

            def __enter__(self) -> None:
                if threading.current_thread() is second:
                    arrived.set()
                    go_on.wait()
                self._lock.acquire()

            def __exit__(self, *exception: object) -> None:
                self._lock.release()

        def fill_slowly() -> None:
            if next(calls):
                assert waiting.told.get() == "follows"
                second.start()
                arrived.wait()
            fill()

        calls, fill = iter([True, False]), engine._fill
        monkeypatch.setattr(engine, "_fill", fill_slowly)
        monkeypatch.setattr(engine._leadership, "_lead", Lead())
        leader = threading.Thread(target=running.result)
        second = threading.Thread(target=executor.start)
        with gate.open("w"):
            leader.start()
            assert waiting.told.get() == "leads"
            executor.start()
            waiting.told.get()  # what the leader does now
            go_on.set()
            second.join(10)
            had_its_turn = not second.is_alive()
        leader.join()
        second.join()
        assert had_its_turn


def test_what_waits_for_a_record_fails_with_what_has_no_memory(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringwalk.futures.stream.RECORDS", 1)

    class Full:
        def __init__(self, heap: Any) -> None:
            self.release = heap.release

        def put(self, payload: bytes) -> int:
            raise MemoryError

    with Executor(1) as executor:
        running = executor.submit(gate.read_bytes)
        waiting = [executor.submit(abs, -1) for _ in range(3)]
        stream = executor._engine._stream
        assert stream is not None
        with monkeypatch.context() as patch:
            patch.setattr(stream, "_heap", Full(stream._heap))
            gate.write_bytes(b"")
            assert running.result() == b""
            for future in waiting:
                assert isinstance(future.exception(10), MemoryError)
        assert executor.submit(abs, -2).result() == 2


def test_a_wait_in_a_signal_handler_notices_deaths(
    gate: Path, dies_once: Callable[[], str]
) -> None:
    parent = os.getpid()
    answers: list[str] = []

    def signals() -> bytes:
        os.kill(parent, signal.SIGUSR1)
        return gate.read_bytes()

    def handle(number: int, frame: object) -> None:
        with gate.open("w"):
            answers.append(executor.submit(dies_once).result(10))

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with Executor(2) as executor:
            assert executor.submit(signals).result() == b""
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answers == ["survived"]


def test_a_forked_child_that_shuts_down_cancels_nothing_of_its_parent_s(gate: Path) -> None:
    with Executor(1) as executor:
        running = executor.submit(gate.read_bytes)
        queued = executor.submit(abs, -1)
        with gate.open("w"):
            pid = os.fork()
            if pid == 0:
                executor.shutdown(wait=False, cancel_futures=True)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        assert running.result() == b""
        assert queued.result(10) == 1


def test_a_shutdown_beside_the_first_submit_lets_it_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """It saw that no task had ever been submitted, and ended the workers of the one that was."""
    with Executor(1) as executor:
        start = executor._engine._dispatcher.start

        def start_late() -> None:
            other = threading.Thread(target=executor.shutdown, kwargs={"wait": False})
            other.start()
            other.join()
            start()

        monkeypatch.setattr(executor._engine._dispatcher, "start", start_late)
        assert executor.submit(abs, -1).result(10) == 1


def test_a_shutdown_beside_a_start_ends_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = Executor(1, initializer=int)  # so that it waits for a worker
    stream = executor._engine._stream
    assert stream is not None
    fill = stream.crew.fill

    def fill_late(*arguments: Any) -> None:
        other = threading.Thread(target=executor.shutdown, kwargs={"wait": False})
        other.start()
        other.join()
        fill(*arguments)

    monkeypatch.setattr(stream.crew, "fill", fill_late)
    executor.start()
    assert executor._engine.over


class Line(deque[WMFuture]):
    """Has something happen between a look at its length and one at its elements."""

    def __init__(self, futures: Iterable[WMFuture], happens: Callable[[], object]) -> None:
        super().__init__(futures)
        self.happens: Callable[[], object] | None = happens

    def __len__(self) -> int:
        length = super().__len__()
        happens, self.happens = self.happens, None
        if happens is not None:
            happens()
        return length


def test_two_threads_that_tidy_the_line_at_once() -> None:
    with ThreadsWorkManager(1) as manager:
        seen, mine, other = [manager.submit(abs, (k,)) for k in range(3)]
        manager.wait_all([seen, mine, other])

        def tidy() -> None:
            second = threading.Thread(target=manager.wait_any, args=({other},))
            second.start()
            second.join()

        manager._line = Line([seen], tidy)
        assert manager.wait_any({mine}) is mine

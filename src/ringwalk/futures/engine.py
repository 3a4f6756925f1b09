"""Engine: who tends the stream of an executor's tasks, and when.

Somebody has to sleep until workers finish, take results in, and deal with deaths. Whoever waits
for a future does it, for all futures (the *leader*; other waiting threads follow, and one of them
leads when it leaves). So a result reaches the thread that asked for it without passing through
another. A dispatcher thread leads only while nobody else does; see ``dispatcher``.

Guarantees: Ctrl-C leaves what waits and loses nothing; a signal handler may call anything here,
for it never runs where its thread holds a lock that another thread waits for; without open tasks
nothing runs. A forked child of the owner may not use it.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk._core.process import Undisturbed
from ringwalk.errors import BrokenExecutorError, ClosedError, ForkedError, RingwalkError
from ringwalk.futures.dispatcher import HEARTBEAT_S, Dispatcher
from ringwalk.futures.leadership import Leadership
from ringwalk.futures.stream import Sink, Stream
from ringwalk.observe.progress import Counter, Progress
from ringwalk.workers.launch import StartMethod
from ringwalk.workers.pool import Pool
from ringwalk.workers.setup import Setup
from ringwalk.workers.stuck import warn_of
from ringwalk.workers.watch import Events

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _finish_all() -> None:
    """At interpreter exit, wait for what was submitted, as the standard library does."""
    for engine in list(_engines):
        engine.close(grace=0 if engine.interrupted else None)


class Engine:
    """A pool with a stream of tasks on it. Thread-safe, but for what says otherwise.

    Attributes:
        interrupted: a wait or a submission ended by Ctrl-C, and nothing was submitted since. At
            interpreter exit such an engine does not wait for its tasks.
        closing: it takes no more tasks; the dispatcher ends it when none is open.
    """

    def __init__(
        self,
        setup: Setup,
        start_method: StartMethod,
        max_retries: int,
        progress: Progress | bool | None = None,
    ) -> None:
        self._progress = Counter(progress, "tasks")
        self._owner = owner_token()
        self._lock = threading.RLock()  # the stream; a task's __reduce__ may submit
        self._leadership = Leadership(self._hand_over)  # the crew, and delivering
        self.closing = False
        self._broken: str | None = None
        self.interrupted = False
        pool = Pool(setup, "persistent", start_method)
        try:
            # None when all is over: futures that are kept must not keep the shared memory.
            self._stream: Stream | None = Stream(pool, max_retries)
        except BaseException:
            pool.close()
            raise
        self._dispatcher = Dispatcher(self)
        _engines.add(self)

    # --- tasks -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers, if they were not, and let them prepare themselves.

        Raises WorkerInitError, GpuInParentError, OSError.
        """
        self._check()
        self._leadership.lead_once(self.nudge, self._fill)
        if self.closing:
            self.retire()

    def _fill(self) -> None:
        with self._lock:
            stream = self._stream
            if stream is not None:
                stream.begin()
                stream.look_after()
                stream.crew.fill(None, stream.mourn)

    def submit(self, sink: Sink, func: Any, args: Any, kwargs: Any) -> None:
        """Hand out ``func(*args, **kwargs)``; the sink gets the outcome.

        Raises what pickling raises, ClosedError, BrokenExecutorError, ForkedError.
        """
        self._check()
        try:
            with Undisturbed(), self._lock:
                stream = self._stream
                if stream is None:
                    raise ClosedError(
                        "cannot schedule new futures after shutdown; make another executor"
                    )
                stream.begin()
                self.interrupted = False
                stream.submit(sink, func, args, kwargs)
                self._progress.more()
                if self._dispatcher.thread is None:
                    self._dispatcher.start()
        except KeyboardInterrupt:  # one that came meanwhile; the task may have been submitted
            self.interrupted = True
            raise
        if self._dispatcher.resting:
            self._dispatcher.kick()
        if self._progress.wanted:
            self.expect()

    def _check(self) -> None:
        if not is_owner(self._owner):
            raise ForkedError(
                "this executor belongs to the process that forked this one; make one here"
            )
        if self.closing:
            raise ClosedError("cannot schedule new futures after shutdown; make another executor")
        if self._broken is not None:
            raise BrokenExecutorError(self._broken)

    def cancel(self, sink: Sink) -> bool:
        """Take a task back that no worker has; its sink hears nothing. Nudge once it has."""
        if not is_owner(self._owner):
            return False
        with Undisturbed(), self._lock:
            cancelled = self._stream is not None and self._stream.cancel(sink)
        if cancelled:
            self._progress.fewer()
        return cancelled

    def running(self, sink: Sink) -> bool:
        if not is_owner(self._owner):
            return False
        with Undisturbed(), self._lock:
            return self._stream is not None and self._stream.running(sink)

    @property
    def open(self) -> int:
        """Number of tasks without an outcome."""
        stream = self._stream
        return 0 if stream is None else stream.open

    @property
    def over(self) -> bool:
        """Whether the workers were ended."""
        return self._stream is None

    # --- waiting ---------------------------------------------------------------------------------

    def wait(self, done: Callable[[], bool], timeout: float | None = None) -> None:
        """Tend the stream, or wait for who does, until ``done()`` or the timeout."""
        if not is_owner(self._owner):
            raise ForkedError("this future belongs to the process that forked this one")
        deadline = None if timeout is None else time.monotonic() + timeout
        while not done():
            if not self._try_to_lead(done, deadline):
                self._leadership.follow(done, deadline)
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _try_to_lead(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Lead until ``done()`` or the deadline, unless another thread does."""
        try:
            return self._leadership.try_to_lead(lambda: self._tend(done, deadline))
        except KeyboardInterrupt:
            self.interrupted = True
            raise

    def look(self) -> None:
        """Deliver what is final, without waiting."""
        if is_owner(self._owner):
            self._try_to_lead(lambda: True, None)

    def expect(self) -> None:
        """News are wanted though nobody waits here: have the dispatcher lead."""
        if not self._dispatcher.expected and is_owner(self._owner):
            self._dispatcher.expected = True
            self._dispatcher.kick()

    def nudge(self) -> None:
        """Something changed that waiting threads look at."""
        if not is_owner(self._owner):
            return
        with Undisturbed(), self._lock:
            if not self._leadership.vacant and self._stream is not None:
                os.eventfd_write(self._stream.pool.space.wake_fd, 1)
        self._leadership.ring()

    def _hand_over(self) -> None:
        if self._dispatcher.expected or self.closing:
            self._dispatcher.kick()

    # --- leading: pre: this thread leads ---------------------------------------------------------

    def _tend(self, done: Callable[[], bool], deadline: float | None) -> None:
        self._dispatcher.tended = True
        while (stream := self._stream) is not None:
            finished = stream.board.done()  # before the look: what comes in between is seen twice
            self._attend(stream, [])
            if done() or self._leadership.wanted or self._stream is None:
                return
            left = HEARTBEAT_S
            if deadline is not None:
                left = min(left, deadline - time.monotonic())
                if left <= 0:
                    return
            if stream.board.sleep(True, finished):
                try:
                    events = stream.crew.poll(left)
                finally:
                    stream.board.awake()
                self._attend(stream, events)
                self._look_for_stuck(stream)
                if not events and self._stream is not None:
                    with Undisturbed(), self._lock:
                        stream.look_after()
                if done() or self._leadership.wanted:
                    return

    def _attend(self, stream: Stream, events: Events) -> None:
        """Answer workers, bury the dead, collect, deliver.

        An interrupt in between would lose what was taken in and not noted yet. Callbacks of
        futures run here, too.
        """
        with Undisturbed():
            with self._lock:
                try:
                    stream.attend(events)
                except (RingwalkError, OSError) as error:  # workers cannot be had
                    self._break(stream, error)
            self._deliver(stream)

    def _look_for_stuck(self, stream: Stream) -> None:
        if self._stream is not None:
            warn_of(stream.crew.stuck.look(stream.crew, lambda _: "A task of the executor"))

    def _break(self, stream: Stream, cause: BaseException) -> None:
        message = self._broken = f"the executor's workers are gone: {cause}"

        def error() -> BrokenExecutorError:
            broken = BrokenExecutorError(message)
            broken.__cause__ = cause
            return broken

        stream.fail_all(error)
        self._end(stream)

    def _end(self, stream: Stream) -> None:
        """End the workers. pre: both locks are held, no task is open."""
        try:
            stream.pool.close()
        finally:
            self._stream = None
            self._progress.end()

    def _deliver(self, stream: Stream) -> None:
        outcomes = stream.outcomes
        if not outcomes:
            return
        count = 0
        while outcomes:
            sink, value, error = outcomes.popleft()
            sink.deliver(value, error)
            count += 1
        self._progress.fewer(count)
        del sink, value, error  # a leader that sleeps must not keep a result alive
        self._leadership.ring()

    def lead_alone(self) -> None:
        """Lead until no task is open, unless another thread does. For the dispatcher."""
        # Otherwise whoever leads wakes us when it leaves.
        self._leadership.try_to_lead(self._tend_all)

    def _tend_all(self) -> None:
        self._dispatcher.expected = False  # before: who expects news of a later task says so again
        self._tend(lambda: not self.open, None)
        with Undisturbed(), self._lock:
            if self.closing and self._stream is not None and not self.open:
                self._end(self._stream)

    # --- end -------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Take no more tasks; end when none is open. Waits for no lock."""
        self.closing = True
        own = is_owner(self._owner)
        if own:
            self._dispatcher.kick()
        # If another thread has the lock, it starts the dispatcher or calls this again.
        if self._dispatcher.thread is None and (not own or self._lock.acquire(blocking=False)):
            try:
                if self._dispatcher.thread is None:  # and so nothing was ever submitted
                    if self._stream is not None:
                        self._end(self._stream)
                    self._dispatcher.close()
            finally:
                if own:
                    self._lock.release()

    def cancel_waiting(self) -> list[Sink]:
        """Take back every task that no worker has; their sinks hear nothing. Nudge once they have.

        Nothing in a forked child: the tasks are its parent's.
        """
        if not is_owner(self._owner):
            return []
        with Undisturbed(), self._lock:
            stream = self._stream
            if stream is None:
                return []
            cancelled = [sink for sink in stream.waiting() if stream.cancel(sink)]
        self._progress.fewer(len(cancelled))
        return cancelled

    def fail_waiting(self, message: str) -> None:
        """Take back every task that no worker has; each fails with BrokenExecutorError."""
        for sink in self.cancel_waiting():
            sink.deliver(None, BrokenExecutorError(message))
        self.nudge()

    def close(self, grace: float | None = None) -> None:
        """Take no more tasks, wait for the open ones, end the workers. Idempotent.

        With a grace in seconds, tasks that are open after it fail and their workers are killed.
        """
        self.closing = True
        if not is_owner(self._owner):
            if self._stream is not None:
                self._end(self._stream)
            return
        self.wait(lambda: not self.open, grace)
        self._leadership.lead_once(self.nudge, self._close_now)
        self._dispatcher.join()

    def _close_now(self) -> None:
        with Undisturbed():
            stream = self._stream
            if stream is not None:
                with self._lock:
                    if self.open:
                        stream.kill_busy()
                        stream.fail_all(
                            lambda: BrokenExecutorError(
                                "the executor was ended before the task had finished"
                            )
                        )
                    self._end(stream)
                self._deliver(stream)

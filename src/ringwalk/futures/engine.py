"""Engine: who tends the stream of an executor's tasks, and when.

Somebody has to sleep until workers finish, take results in, and deal with deaths. Whoever waits
for a future does it, for all futures (the *leader*; other waiting threads follow, and one of them
leads when it leaves). So a result reaches the thread that asked for it without passing through
another. A dispatcher thread leads only while nobody else does and somebody expects news:
callbacks, ``concurrent.futures.wait``, tasks that nobody asked about for a second.

Guarantees: Ctrl-C leaves what waits and loses nothing; a signal handler may call anything here,
for it never runs where its thread holds a lock that another thread waits for; without open tasks
nothing runs. A forked child of the owner may not use it.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from ringwalk._core.process import Undisturbed
from ringwalk.errors import BrokenExecutorError, ClosedError, ForkedError, RingwalkError
from ringwalk.futures.bell import Bell
from ringwalk.futures.stream import Sink, Stream
from ringwalk.observe.progress import Counter, Progress
from ringwalk.workers.crew import Death
from ringwalk.workers.launch import StartMethod
from ringwalk.workers.persistent import Events
from ringwalk.workers.pool import Pool
from ringwalk.workers.setup import Setup

# How long tasks may go untended, or a lost hint unnoticed; see mappers/transaction.py.
HEARTBEAT_S = 1.0

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _finish_all() -> None:
    """At interpreter exit, wait for what was submitted, as the standard library does."""
    for engine in list(_engines):
        engine.close(grace=0 if engine.interrupted else None)


class Engine:
    """A pool with a stream of tasks on it. Thread-safe, but for what says otherwise.

    Attributes:
        interrupted: a wait ended by Ctrl-C, and nothing was submitted since. At interpreter exit
            such an engine does not wait for its tasks.
    """

    def __init__(
        self,
        setup: Setup,
        start_method: StartMethod,
        max_retries: int,
        progress: Progress | bool | None = None,
    ) -> None:
        self._progress = Counter(progress, "tasks")
        self._num_workers = setup.num_workers
        self._owner = os.getpid()
        self._lock = threading.RLock()  # the stream; a task's __reduce__ may submit
        self._lead = threading.RLock()  # the crew, and delivering; a signal handler may lead, too
        self._leader: int | None = None  # the thread that has _lead
        self._followers = Bell()
        self._expected = False  # the dispatcher shall lead until no task is open
        self._tended = False  # somebody led since the dispatcher looked
        self._resting = False  # the dispatcher sleeps without a time limit
        self._closing = False  # no more tasks; the dispatcher closes when none is open
        self._ending = False  # close() wants to lead: nobody else may
        self._broken: str | None = None
        self.interrupted = False
        self._started = False
        pool = Pool(setup, "persistent", start_method)
        try:
            # None when all is over: futures that are kept must not keep the shared memory.
            self._stream: Stream | None = Stream(pool, max_retries)
        except BaseException:
            pool.close()
            raise
        self._kick = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._dispatcher: threading.Thread | None = None
        _engines.add(self)

    # --- tasks -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers, if they were not, and wait until all are ready.

        Raises WorkerInitError, CudaInParentError, OSError.
        """
        self._check()
        with self._lead, self._lock:
            stream = self._stream
            if stream is not None:
                self._begin(stream)
                stream.crew.fill(None)

    def _begin(self, stream: Stream) -> None:
        """Have the workers started, by the thread that submits first. pre: the lock is held."""
        if not self._started:
            self._started = True
            stream.crew.restart(0)  # the first start brings all slots up

    def submit(self, sink: Sink, func: Any, args: Any, kwargs: Any) -> None:
        """Hand out ``func(*args, **kwargs)``; the sink gets the outcome.

        Raises what pickling raises, ClosedError, BrokenExecutorError, ForkedError.
        """
        self._check()
        with Undisturbed(), self._lock:
            stream = self._stream
            if stream is None:
                raise ClosedError(
                    "cannot schedule new futures after shutdown; make another executor"
                )
            self._begin(stream)
            self.interrupted = False
            stream.submit(sink, func, args, kwargs)
            self._progress.more()
        if self._dispatcher is None:
            self._start_dispatcher()
        elif self._resting:
            self._kick_dispatcher()
        if self._progress.wanted:
            self.expect()

    def _check(self) -> None:
        if self._owner != os.getpid():
            raise ForkedError(
                "this executor belongs to the process that forked this one; make one here"
            )
        if self._closing:
            raise ClosedError("cannot schedule new futures after shutdown; make another executor")
        if self._broken is not None:
            raise BrokenExecutorError(self._broken)

    def cancel(self, sink: Sink) -> bool:
        """Take a task back that no worker has; its sink hears nothing."""
        if self._owner != os.getpid():
            return False
        with Undisturbed(), self._lock:
            cancelled = self._stream is not None and self._stream.cancel(sink)
        if cancelled:
            self._progress.fewer()
            self.nudge()
        return cancelled

    def running(self, sink: Sink) -> bool:
        with Undisturbed(), self._lock:
            return self._stream is not None and self._stream.running(sink)

    @property
    def open(self) -> int:
        """Number of tasks without an outcome."""
        stream = self._stream
        return 0 if stream is None else stream.open

    # --- waiting ---------------------------------------------------------------------------------

    def wait(self, done: Callable[[], bool], timeout: float | None = None) -> None:
        """Tend the stream, or wait for who does, until ``done()`` or the timeout."""
        if self._owner != os.getpid():
            raise ForkedError("this future belongs to the process that forked this one")
        deadline = None if timeout is None else time.monotonic() + timeout
        while not done():
            if not self._try_to_lead(done, deadline):
                self._follow(done, deadline)
            if deadline is not None and time.monotonic() >= deadline:
                return

    def _try_to_lead(self, done: Callable[[], bool], deadline: float | None) -> bool:
        """Lead until ``done()`` or the deadline, unless another thread does."""
        # In a callback, or in a signal handler, this thread may lead already.
        nested = self._leader == threading.get_ident()
        if self._ending and not nested:
            return False
        leads = False
        try:
            with Undisturbed():
                leads = self._lead.acquire(blocking=False)
            if leads:
                self._leader = threading.get_ident()
                self._tend(done, deadline)
        except KeyboardInterrupt:
            self.interrupted = True
            raise
        finally:
            if leads:
                self._leader = threading.get_ident() if nested else None
                self._lead.release()
                self._hand_over()
        return leads

    def look(self) -> None:
        """Deliver what is final, without waiting."""
        if self._owner == os.getpid():
            self._try_to_lead(lambda: True, None)

    def expect(self) -> None:
        """News are wanted though nobody waits here: have the dispatcher lead."""
        if not self._expected and self._owner == os.getpid():
            self._expected = True
            self._kick_dispatcher()

    def nudge(self) -> None:
        """Something changed that waiting threads look at."""
        with Undisturbed(), self._lock:
            if self._leader is not None and self._stream is not None:
                os.eventfd_write(self._stream.pool.space.wake_fd, 1)
        self._followers.ring()

    def _follow(self, done: Callable[[], bool], deadline: float | None) -> None:
        # The leader rings after it let go: we hear it, or see it gone.
        self._followers.wait(
            lambda: (self._leader is None and not self._ending) or done(),
            None if deadline is None else deadline - time.monotonic(),
        )

    def _hand_over(self) -> None:
        self._followers.ring()
        if self._expected or self._closing:
            self._kick_dispatcher()

    # --- leading: pre: this thread holds _lead ---------------------------------------------------

    def _tend(self, done: Callable[[], bool], deadline: float | None) -> None:
        self._tended = True
        while (stream := self._stream) is not None:
            finished = stream.board.done()  # before the look: what comes in between is seen twice
            self._attend(stream, [])
            if done() or self._ending or self._stream is None:
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
                if not events:
                    self._look_after(stream)
                if done() or self._ending:
                    return

    def _attend(self, stream: Stream, events: Events) -> None:
        """Answer workers, bury the dead, collect, deliver.

        An interrupt in between would lose what was taken in and not noted yet. Callbacks of
        futures run here, too.
        """
        with Undisturbed():
            with self._lock:
                try:
                    if events:
                        for death in stream.crew.handle(events):
                            stream.mourn(death)
                            stream.crew.restart(death.slot)
                    stream.collect()
                except (RingwalkError, OSError) as error:  # workers cannot be had
                    self._break(stream, error)
            self._deliver(stream)

    def _look_after(self, stream: Stream) -> None:
        """A second without news: look for what an interrupted look may have lost."""
        with Undisturbed(), self._lock:
            if self._stream is None:
                return
            for slot in range(self._num_workers):
                if self._started and stream.crew.vacant(slot):
                    stream.mourn(Death(slot, None, signal.SIGKILL, was_ready=True))
                    stream.crew.restart(slot)
            stream.push_lost_hints()

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
        stream.pool.close()
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
        self._followers.ring()

    # --- the dispatcher --------------------------------------------------------------------------

    def _start_dispatcher(self) -> None:
        with Undisturbed(), self._lock:
            if self._dispatcher is None and self._stream is not None:
                thread = threading.Thread(
                    target=self._dispatch, name="ringwalk-dispatcher", daemon=True
                )
                thread.start()
                self._dispatcher = thread

    def _kick_dispatcher(self) -> None:
        # No lock: the garbage collector calls this, wherever it happens to run.
        if self._kick >= 0:
            os.eventfd_write(self._kick, 1)

    def _dispatch(self) -> None:
        poll = select.poll()
        poll.register(self._kick, select.POLLIN)
        while self._stream is not None:
            self._resting = True
            if self.open:  # after the store: submit looks at it after it made a task
                self._resting = False
            kicked = poll.poll(None if self._resting else HEARTBEAT_S * 1000)
            self._resting = False
            if kicked:
                os.eventfd_read(self._kick)
            untended = not kicked and self.open and not self._tended
            self._tended = False
            if self._expected or untended or self._closing:
                self._lead_alone()
        self._close_kick()

    def _lead_alone(self) -> None:
        if not self._lead.acquire(blocking=False):
            return  # whoever leads wakes us when it leaves
        try:
            self._leader = threading.get_ident()
            self._expected = False  # before: who expects news of a later task says so again
            self._tend(lambda: not self.open, None)
            if self._stream is not None:  # close() may wait for us
                with Undisturbed(), self._lock:
                    if self._closing and self._stream is not None and not self.open:
                        self._end(self._stream)
        finally:
            self._leader = None
            self._lead.release()
            self._followers.ring()

    # --- end -------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Take no more tasks; end when none is open. Does not wait, takes no lock."""
        self._closing = True
        if self._dispatcher is None:  # and so nothing was ever submitted
            if self._stream is not None:
                self._end(self._stream)
            self._close_kick()
        elif self._owner == os.getpid():
            self._kick_dispatcher()

    def cancel_waiting(self) -> list[Sink]:
        """Take back every task that no worker has; their sinks hear nothing."""
        with Undisturbed(), self._lock:
            stream = self._stream
            if stream is None:
                return []
            cancelled = [sink for sink in stream.waiting() if stream.cancel(sink)]
        self._progress.fewer(len(cancelled))
        self.nudge()
        return cancelled

    def fail_waiting(self, message: str) -> None:
        """Take back every task that no worker has; each fails with BrokenExecutorError."""
        for sink in self.cancel_waiting():
            sink.deliver(None, BrokenExecutorError(message))
        self._followers.ring()

    def close(self, grace: float | None = None) -> None:
        """Take no more tasks, wait for the open ones, end the workers. Idempotent.

        With a grace in seconds, tasks that are open after it fail and their workers are killed.
        """
        self._closing = True
        if self._owner != os.getpid():
            if self._stream is not None:
                self._end(self._stream)
            return
        self.wait(lambda: not self.open, grace)
        self._ending = True
        self.nudge()
        try:
            with self._lead:
                self._close_now()
        finally:
            self._ending = False  # interrupted here, the next close() has to be able to wait
        self._followers.ring()
        dispatcher = self._dispatcher
        if dispatcher is not None and dispatcher is not threading.current_thread():
            self._kick_dispatcher()
            dispatcher.join()
        self._close_kick()

    def _close_now(self) -> None:
        with Undisturbed():
            stream = self._stream
            if stream is not None:
                with self._lock:
                    if self.open:
                        self._kill_busy(stream)
                    self._end(stream)
                self._deliver(stream)

    def _close_kick(self) -> None:
        kick, self._kick = self._kick, -1
        if kick >= 0:
            os.close(kick)

    def _kill_busy(self, stream: Stream) -> None:
        stream.collect()
        for slot in range(self._num_workers):
            if stream.claimed(slot):
                stream.crew.kill(slot)
        stream.fail_all(
            lambda: BrokenExecutorError("the executor was ended before the task had finished")
        )

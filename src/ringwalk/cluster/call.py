"""One map on the nodes: cut loads, keep some under way, take replies in, retry what was lost.

A reply is taken in only through the future of its own load, and only if it names that load. So
whatever an aborted map left running is never looked at.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from ringwalk._core.board import now_ns
from ringwalk._core.process import Undisturbed
from ringwalk.cluster.cutter import Cutter
from ringwalk.cluster.fleet import Fleet
from ringwalk.cluster.load import Load, Reply
from ringwalk.cluster.outgoing import Outgoing
from ringwalk.cluster.records import widened
from ringwalk.describe import text_of
from ringwalk.errors import MapError, NodeLostError, RingwalkError, TransferError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.history import WORKER_SHIFT, History, Wave
from ringwalk.mappers.options import Options


@dataclass(slots=True)
class _Sent:
    load: Load
    attempt: int = 0
    supplies: bool = False  # it brings what a node said that it lacks


class Call:
    """Runs a map's walkers.

    Attributes:
        errors: walker -> its error.
        ran: of each load that came back, the walkers that have a result.
        returned: walkers whose segment returned the row it was given.
        finished: number of walkers that are done or failed.
    """

    def __init__(
        self,
        fleet: Fleet,
        cutter: Cutter,
        arguments: Arguments,
        options: Options,
        results: list[Any],
        history: History,
        *,
        epoch: int,
        cycle: int,
    ) -> None:
        self.errors: dict[int, MapError] = {}
        self.ran: list[Sequence[int]] = []
        self.returned: list[int] = []
        self.finished = 0
        self._history = history
        self._results = results
        self._fleet = fleet
        self._cutter = cutter
        self._options = options
        self._epoch = epoch
        self._cycle = cycle
        self._outgoing = Outgoing(arguments)
        self._back = [
            records.view(np.uint8).reshape(len(records), records.dtype.itemsize)
            for _, records in (block.generations() for block in arguments.blocks)
        ]
        self._pending: dict[Future[Reply], _Sent] = {}
        # Not the library's wait: a Ctrl-C in there keeps locks that the engine needs to go on. For
        # the same reason Undisturbed stands around other uses of futures that are not done.
        self._ended: SimpleQueue[Future[Reply]] = SimpleQueue()
        self._lacking: set[tuple[str, int]] = set()  # nodes that said so
        self._parked: list[_Sent] = []  # loads for them, until they got what they lack
        self._number = 0
        self._host = socket.gethostname()

    @property
    def open(self) -> bool:
        """Whether loads are under way."""
        return bool(self._pending)

    def fill(self) -> None:
        """Send loads until enough are under way."""
        while (calls := self._calls_left) > 0 and not self._stopping:
            load = self._cut(calls)
            if load is None:
                return
            self._send(_Sent(load))

    @property
    def _calls_left(self) -> int:
        return self._cutter.credits - len(self._pending) - len(self._parked)

    def _cut(self, calls: int) -> Load | None:
        """The next load; None if no walker is left, or the next one's arguments cannot travel."""
        outgoing = self._outgoing
        first, left = outgoing.next, outgoing.count - outgoing.next
        if not left:
            return None
        walkers, size = self._cutter.load(left, calls)
        try:
            count, columns = outgoing.cut(walkers)
        except TransferError as error:
            self.errors[error.walker] = error
            outgoing.count = first  # as on one node: nothing after it is handed out
            return None
        number = self._number + 1
        run, epoch, cycle, names = self._fleet.run, self._epoch, self._cycle, outgoing.names
        load = Load(run, epoch, number, first, count, size, cycle, columns, names)
        self._number += len(load.batches)
        return load

    def advance(self) -> Sequence[int]:
        """Sleep until a load ends; the walkers that succeeded in it."""
        future = self._ended.get()
        sent = self._pending.pop(future)
        fresh: Sequence[int] = ()
        try:
            reply = future.result()
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            self._mourn(sent, error)
        else:
            fresh = self._take(sent, reply)
        if sent.supplies:
            self._unpark()
        self.fill()
        return fresh

    def done(self) -> dict[int, Any]:
        """Walker -> result of every segment that finished."""
        return {walker: self._results[walker] for walkers in self.ran for walker in walkers}

    def abandon(self) -> None:
        """Cancel what waits. What runs goes on to its end on its node; nobody looks at it."""
        with Undisturbed():
            for future in self._pending:
                future.cancel()
        self._pending, self._parked = {}, []

    @property
    def _stopping(self) -> bool:
        return bool(self.errors) and self._options.on_error == "stop"

    def _send(self, sent: _Sent) -> None:
        try:
            with Undisturbed():
                future = self._fleet.send(sent.load)
                self._pending[future] = sent
                future.add_done_callback(self._ended.put)
        except RuntimeError as error:  # BrokenExecutor is one, and so is "after shutdown"
            self._give_up(sent.load, error)

    def _take(self, sent: _Sent, reply: Reply) -> Sequence[int]:
        load, node = sent.load, (reply.node.host, reply.node.pid)
        if (reply.run, reply.epoch, reply.number) != (load.run, load.epoch, load.number):
            raise RingwalkError(
                f"the engine answered {load.shown} with the reply to batch {reply.number} of map "
                f"{reply.epoch}; please report it"
            )
        if reply.wants:
            self._lacking.add(node)
            self._supply(sent, reply.wants)
            return ()
        self._lacking.discard(node)
        if reply.failure is not None:
            original = reply.failure.original()
            original.add_note(f"on node {reply.node.host}, at {load.shown}")
            raise original
        first_worker = self._fleet.meet(reply.node)
        self._record(load, reply, first_worker)
        self._cutter.workers = max(self._cutter.workers, reply.node.workers)
        self._cutter.learn(load.count, reply.seconds)
        self.finished += load.count
        for back, rows in zip(self._back, reply.rows, strict=True):
            back[load.first : load.first + load.count] = rows
        for error in reply.errors:
            error.add_note(f"on node {reply.node.host}")
            self.errors[error.walker] = error
        self.returned += reply.returned
        return self._take_results(load, reply)

    def _supply(self, sent: _Sent, wants: tuple[str, ...]) -> None:
        """Send a load again: with what a node lacks, if that is not under way to it already.

        No node can be addressed, so what is under way may reach another one that lacks it.
        """
        if self._stopping:
            return
        if sum(other.supplies for other in self._pending.values()) >= len(self._lacking):
            self._parked.append(sent)
            return
        packs = {key: value.pack() for key, value in self._outgoing.broadcasts.items()}
        sent.load, sent.supplies = self._fleet.supplied(sent.load, wants, packs), True
        self._send(sent)

    def _unpark(self) -> None:
        """A node may have got what it lacked: try again."""
        parked, self._parked = self._parked, []
        for sent in parked:
            self._send(sent)

    def _record(self, load: Load, reply: Reply, first_worker: int) -> None:
        """Add to the map's history who ran the load, on this process's clock."""
        records = widened(reply.armed, reply.records)
        records["state"] += np.uint64(first_worker << WORKER_SHIFT)
        if reply.node.host != self._host:  # clocks of hosts have nothing in common
            records["start_ns"] += now_ns() - reply.clock_ns
            records["end_ns"] += now_ns() - reply.clock_ns
        self._history.workers = sum(node.workers for node in self._fleet.nodes)
        self._history.waves.append(Wave.elsewhere(load.first, records))

    def _take_results(self, load: Load, reply: Reply) -> Sequence[int]:
        assert reply.results is not None
        try:
            results = reply.results.open()
        except Exception as error:  # unpickling runs user code
            broken = TransferError(
                f"the results of {load.shown} cannot be unpickled here: {text_of(error)}",
                walker=load.first,
            )
            broken.__cause__ = error
            self.errors[load.first] = broken
            return ()
        self._results[load.first : load.first + load.count] = results
        finished = load.walkers if reply.finished is None else reply.finished
        self.ran.append(finished)
        return finished

    def _mourn(self, sent: _Sent, error: BaseException) -> None:
        """A load did not come back: send it again, if the engine lives and the user allows.

        Its batches go one by one: one that ends its node takes no other along again.
        """
        attempt = sent.attempt + 1
        broken = isinstance(error, BrokenExecutor)
        for number in sent.load.batches:
            batch = sent.load.batch(number)
            if broken or self._stopping or attempt > self._options.max_retries:
                self._give_up(batch, error)
            else:
                self._send(_Sent(batch, attempt, sent.supplies))

    def _give_up(self, load: Load, error: BaseException) -> None:
        host = self._suspect(error)
        lost = NodeLostError(
            f"{load.shown} did not come back from {host}: {type(error).__name__}: "
            f"{text_of(error)}. Segments of it may have run; the results of the others are in "
            "this error",
            walkers=load.walkers,
            host=host,
            batch=load.number,
        )
        lost.__cause__ = error
        self.finished += load.count
        self.errors |= dict.fromkeys(load.walkers, lost)

    def _suspect(self, error: BaseException) -> str:
        """The host that was lost, by what the engine says, what is gone, or what there is."""
        worker = getattr(error, "last_worker", None)  # Dask's KilledWorker
        if worker is not None:
            return str(getattr(worker, "address", worker))
        suspects = self._fleet.gone() or self._fleet.nodes
        return " or ".join(sorted({node.host for node in suspects})) or "an unknown node"

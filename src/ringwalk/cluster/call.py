"""One map on the nodes: cut batches, keep some under way, take replies in, retry what was lost.

A reply is taken in only through the future of its own batch, and only if it names that batch. So
whatever an aborted map left running is never looked at.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from ringwalk._core.board import now_ns
from ringwalk.cluster.batch import Batch, Reply
from ringwalk.cluster.cutter import Cutter
from ringwalk.cluster.fleet import Fleet
from ringwalk.cluster.outgoing import Outgoing
from ringwalk.errors import MapError, NodeLostError, RingwalkError, TransferError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.history import WORKER_SHIFT, History, Wave
from ringwalk.mappers.options import Options


@dataclass(slots=True)
class _Sent:
    batch: Batch
    attempt: int = 0


class Call:
    """Runs a map's walkers.

    Attributes:
        errors: walker -> its error.
        ran: of each batch that came back, the walkers that have a result.
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
        self._pending: dict[Future[list[Reply]], tuple[_Sent, ...]] = {}
        self._number = 0
        self._host = socket.gethostname()

    @property
    def open(self) -> bool:
        """Whether batches are under way."""
        return bool(self._pending)

    def fill(self) -> None:
        """Send batches until enough are under way."""
        outgoing = self._outgoing
        while len(self._pending) < self._cutter.credits and not self._stopping:
            left = outgoing.count - outgoing.next
            cut = (self._cut() for _ in range(self._cutter.together(left) if left else 0))
            sent = [_Sent(batch) for batch in cut if batch is not None]
            if not sent:
                return
            self._send(*sent)

    def _cut(self) -> Batch | None:
        """The next batch; None if no walker is left, or the next one's arguments cannot travel."""
        outgoing = self._outgoing
        first, left = outgoing.next, outgoing.count - outgoing.next
        if not left:
            return None
        try:
            count, columns = outgoing.cut(self._cutter.size(left))
        except TransferError as error:
            self.errors[error.walker] = error
            outgoing.count = first  # as on one node: nothing after it is handed out
            return None
        self._number += 1
        run, epoch, cycle, names = self._fleet.run, self._epoch, self._cycle, outgoing.names
        return Batch(run, epoch, self._number, first, count, cycle, columns, names)

    def advance(self) -> list[int]:
        """Sleep until a batch ends; the walkers that succeeded in it."""
        ended, _ = wait(self._pending, return_when=FIRST_COMPLETED)
        fresh: list[int] = []
        for future in ended:
            batches = self._pending.pop(future)
            try:
                replies = future.result()
            except BaseException as error:
                if isinstance(error, (KeyboardInterrupt, SystemExit)):
                    raise
                for sent in batches:
                    self._mourn(sent, error)
            else:
                for sent, reply in zip(batches, replies, strict=True):
                    fresh += self._take(sent, reply)
        self.fill()
        return fresh

    def done(self) -> dict[int, Any]:
        """Walker -> result of every segment that finished."""
        return {walker: self._results[walker] for walkers in self.ran for walker in walkers}

    def abandon(self) -> None:
        """Cancel what waits. What runs goes on to its end on its node; nobody looks at it."""
        for future in self._pending:
            future.cancel()
        self._pending = {}

    @property
    def _stopping(self) -> bool:
        return bool(self.errors) and self._options.on_error == "stop"

    def _send(self, *batches: _Sent) -> None:
        try:
            self._pending[self._fleet.send(*(sent.batch for sent in batches))] = batches
        except RuntimeError as error:  # BrokenExecutor is one, and so is "after shutdown"
            for sent in batches:
                self._give_up(sent, error)

    def _take(self, sent: _Sent, reply: Reply) -> Sequence[int]:
        batch = sent.batch
        if (reply.run, reply.epoch, reply.number) != (batch.run, batch.epoch, batch.number):
            raise RingwalkError(
                f"the engine answered {batch.shown} with the reply to batch {reply.number} of map "
                f"{reply.epoch}; please report it"
            )
        if reply.wants:
            if not self._stopping:
                packs = {key: value.pack() for key, value in self._outgoing.broadcasts.items()}
                sent.batch = self._fleet.supplied(batch, reply.wants, packs)
                self._send(sent)
            return ()
        if reply.failure is not None:
            original = reply.failure.original()
            original.add_note(f"on node {reply.node.host}, at {batch.shown}")
            raise original
        first_worker = self._fleet.meet(reply.node)
        self._record(batch, reply, first_worker)
        self._cutter.workers = max(self._cutter.workers, reply.node.workers)
        self._cutter.learn(batch.count, reply.seconds)
        self.finished += batch.count
        for back, rows in zip(self._back, reply.rows, strict=True):
            back[batch.first : batch.first + batch.count] = rows
        self.errors |= {
            report.details["walker"]: report.to_error(reply.node.host) for report in reply.errors
        }
        self.returned += reply.returned
        return self._take_results(batch, reply)

    def _record(self, batch: Batch, reply: Reply, first_worker: int) -> None:
        """Add to the map's history who ran the batch, on this process's clock."""
        records = reply.records.copy()  # an engine may have received it into read-only memory
        records["state"] += np.uint64(first_worker << WORKER_SHIFT)
        if reply.node.host != self._host:  # clocks of hosts have nothing in common
            records["start_ns"] += now_ns() - reply.clock_ns
            records["end_ns"] += now_ns() - reply.clock_ns
        self._history.workers = sum(node.workers for node in self._fleet.nodes)
        self._history.waves.append(Wave.elsewhere(batch.first, records))

    def _take_results(self, batch: Batch, reply: Reply) -> Sequence[int]:
        assert reply.results is not None
        try:
            results = reply.results.open()
        except Exception as error:  # unpickling runs user code
            broken = TransferError(
                f"the results of {batch.shown} cannot be unpickled here: {error}",
                walker=batch.first,
            )
            broken.__cause__ = error
            self.errors[batch.first] = broken
            return ()
        self._results[batch.first : batch.first + batch.count] = results
        finished = batch.walkers if reply.finished is None else reply.finished
        self.ran.append(finished)
        return finished

    def _mourn(self, sent: _Sent, error: BaseException) -> None:
        """A batch did not come back: send it again, if the engine lives and the user allows."""
        sent.attempt += 1
        broken = isinstance(error, BrokenExecutor)
        if broken or self._stopping or sent.attempt > self._options.max_retries:
            self._give_up(sent, error)
        else:
            self._send(sent)

    def _give_up(self, sent: _Sent, error: BaseException) -> None:
        batch = sent.batch
        host = self._suspect(error)
        lost = NodeLostError(
            f"{batch.shown} did not come back from {host}: {type(error).__name__}: {error}. "
            "Segments of it may have run; the results of the others are in this error",
            walkers=batch.walkers,
            host=host,
            batch=batch.number,
        )
        lost.__cause__ = error
        self.finished += batch.count
        self.errors |= dict.fromkeys(batch.walkers, lost)

    def _suspect(self, error: BaseException) -> str:
        """The host that was lost, by what the engine says, what is gone, or what there is."""
        worker = getattr(error, "last_worker", None)  # Dask's KilledWorker
        if worker is not None:
            return str(getattr(worker, "address", worker))
        suspects = self._fleet.gone() or self._fleet.nodes
        return " or ".join(sorted({node.host for node in suspects})) or "an unknown node"

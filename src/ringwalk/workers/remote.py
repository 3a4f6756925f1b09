"""How a persistent worker gets at a map's arguments: header, payloads and blocks."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ringwalk.errors import RingwalkError
from ringwalk.memory import WalkerBlock
from ringwalk.workers.job import (
    Getter,
    Job,
    Marker,
    Renewed,
    UnreadableArgument,
    make_call,
    make_marker,
)
from ringwalk.workers.messages import Kind, Message, receive, send
from ringwalk.workers.plan import WorkerSpace
from ringwalk.workers.setup import Setup, offered_names
from ringwalk.workers.worker import Worker


class RemoteJobs:
    """Reads jobs from the parent's heap; opens blocks by descriptors that the parent sends."""

    def __init__(
        self, setup: Setup, space: WorkerSpace, worker: Worker, channel: socket.socket
    ) -> None:
        self._setup = setup
        self._consumer = space.consumer
        self._codec = space.codec
        self._parent = space.heaps[0]
        self._worker = worker
        self._channel = channel
        self._blocks: dict[int, WalkerBlock] = {}
        self._values: Sequence[Any] = ()
        self._renewed = 0  # number of the segment function in our setup

    def load(self) -> tuple[Getter, Marker]:
        """The current map. Raises what unpickling it raises."""
        _, offset, length = self._consumer.job()
        self._codec.begin()
        job: Job = self._codec.loads(self._parent.peek(offset, length), self._setup.inputs)
        for number in self._blocks.keys() - set(job.blocks):
            self._blocks.pop(number).close()
        if job.renewed is not None and job.renewed.number != self._renewed:
            self._renew(job.renewed)
        return make_call(self._setup, self._worker, job, self), make_marker(job, self)

    def _renew(self, renewed: Renewed) -> None:
        func = pickle.loads(self._parent.peek(renewed.place, renewed.length))
        self._setup = replace(self._setup, segment_func=func, offered=offered_names(func))
        self._renewed = renewed.number

    def block(self, number: int) -> WalkerBlock:
        """Open a block, asking the parent for its descriptor the first time."""
        if number not in self._blocks:
            send(self._channel, Message(Kind.WANT, number))
            # The parent answers from the loop in which it waits for us; if it dies, so do we.
            answer = receive(self._channel, wait=True)
            while answer is not None and answer.first != number:
                # To a question whose asker failed before it could read the answer.
                if answer.fd is not None:
                    os.close(answer.fd)
                answer = receive(self._channel, wait=True)
            if answer is None or answer.fd is None:
                raise RingwalkError(
                    f"the parent did not hand over walker block {number}; it was closed "
                    "while its rows were being mapped"
                )
            try:
                block = WalkerBlock.from_fd(answer.fd)
            finally:
                os.close(answer.fd)
            if self._setup.pin_blocks:
                block.pin()
            self._blocks[number] = block
        return self._blocks[number]

    def repeated(self, place: int, length: int) -> Getter:
        """What reads a value that is the same for all walkers, anew for each."""
        read = self._codec.repeated(self._parent.peek(place, length), self._setup.inputs)

        def value(task: int) -> Any:
            try:
                return read()
            except Exception as error:  # unpickling runs user code
                raise UnreadableArgument(error) from error

        return value

    def element(self, task: int, position: int, count: int) -> Any:
        """One of the elements that travel with a task; asked for in order of position."""
        if position == 0:
            offset, length = self._consumer.input(task)
            payload = self._parent.peek(offset, length)
            try:
                self._values = self._codec.loads(payload, self._setup.inputs)
            except Exception as error:  # unpickling runs user code
                raise UnreadableArgument(error) from error
        value = self._values[position]
        if position == count - 1:
            self._values = ()  # the task's views must not outlive its call
        return value

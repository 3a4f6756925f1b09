"""Heap: any sequence of puts, views, drops and deaths, against a model of who holds what."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ringwalk._core.arena import Arena
from ringwalk._core.heap import MAX_HOLDERS, Heap, HeapView, heap_bytes
from ringwalk.errors import HeapFullError

DATA = 1 << 20
PARENT, WORKER, OTHER, FAR = 0, 1, 2, 100  # holders


class Space:
    """One heap, and handles on it as several processes have them."""

    def __init__(self, writer: int = WORKER) -> None:
        self.arena = Arena.create(heap_bytes(DATA))
        self.writer = self.handle(writer)
        self.writer.own()

    def handle(self, holder: int) -> Heap:
        return Heap(self.arena, 0, DATA, 5, holder)

    def held(self) -> int:
        return self.writer.usage()["held_blocks"]


def content(heap: Heap, block: int, length: int) -> bytes:
    return bytes(heap.peek_block(block, length))


class HeapMachine(RuleBasedStateMachine):
    """A writer and several holders against a model of who holds what.

    The handles of one process stand in for processes. A dead one's views are never looked at
    again, and its number is not used again.
    """

    @initialize()
    def make(self) -> None:
        self.space = Space(WORKER)
        self.observer = self.space.handle(PARENT)
        self.handles = {h: self.space.handle(h) for h in (PARENT, OTHER, FAR, MAX_HOLDERS - 1)}
        self.handles[WORKER] = self.space.writer
        self.views: list[tuple[int, HeapView]] = []  # (holder, view)
        self.puts: list[int] = []  # blocks that the writer put and did not release
        self.contents: dict[int, bytes] = {}
        self.graveyard: list[HeapView] = []
        self.seed = 0

    def live(self) -> set[int]:
        return {view.block for _, view in self.views} | set(self.puts)

    @rule(length=st.one_of(st.integers(0, 300), st.sampled_from([4096, 10_000, 70_000])))
    def put(self, length: int) -> None:
        self.seed += 1
        data = bytes([self.seed % 251]) * length
        before = self.observer.usage()
        live = self.live()
        try:
            block = self.space.writer.put(data)
        except HeapFullError:
            assert self.observer.usage() == before
            return
        assert block not in live
        self.contents[block] = data
        self.puts.append(block)

    @precondition(lambda self: bool(self.live()))
    @rule(data=st.data())
    def view(self, data: st.DataObject) -> None:
        """Somebody is handed a block that somebody else holds."""
        block = data.draw(st.sampled_from(sorted(self.live())))
        holder = data.draw(st.sampled_from(sorted(self.handles)))
        length = len(self.contents[block])
        self.views.append((holder, self.handles[holder].view(block, 0, length)))

    @precondition(lambda self: bool(self.views))
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.views.pop(data.draw(st.integers(0, len(self.views) - 1)))

    @precondition(lambda self: bool(self.puts))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.space.writer.release(self.puts.pop(data.draw(st.integers(0, len(self.puts) - 1))))

    @precondition(lambda self: len(self.handles) > 2)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        mortal = sorted(h for h in self.handles if h not in (PARENT, WORKER))
        holder = data.draw(st.sampled_from(mortal))
        del self.handles[holder]
        self.graveyard += [view for h, view in self.views if h == holder]
        self.views = [(h, view) for h, view in self.views if h != holder]
        self.observer.forget(holder)

    @rule()
    def succeed(self) -> None:
        """The writer's lists are rebuilt, as a successor would."""
        if any(h == WORKER for h, _ in self.views):
            return
        self.puts = []
        self.observer.forget(WORKER)
        self.space.writer = self.handles[WORKER] = self.space.handle(WORKER)
        self.space.writer.own()

    @invariant()
    def held_is_intact_and_counted(self) -> None:
        live = self.live()
        for block in live:
            data = self.contents[block]
            assert content(self.observer, block, len(data)) == data
        assert self.observer.usage()["held_blocks"] == len(live)


TestHeapMachine = HeapMachine.TestCase
TestHeapMachine.settings = settings(max_examples=60, stateful_step_count=50)

"""Views that a forked process inherits: its own, like any memory after a fork.

    results = mapper.map(walkers)
    Process(target=analyse, args=(results,)).start()    # by fork: they are not copied
    results = mapper.map(walkers)                       # and their memory is not used again yet

The child maps what views of it show as private: what it writes, nobody else sees. The parent goes
on holding the blocks until the child, and all that were forked from it, have ended or become
another program; a leash tells, at the next map or fork.

Not so: what the parent writes after the fork into pages that the child has not written, the child
sees. A process forked without Python's fork hooks has neither. Where numpy's arrays lie in a heap,
which is so in a persistent worker, they are copied instead; see ``_core.allocator``.
"""

from __future__ import annotations

import os
import select
import threading
from dataclasses import dataclass

from ringwalk._core.allocator import copies_at_fork
from ringwalk._core.heap import Heap, hold_all, part_views, unhold_all
from ringwalk._core.leash import let_leash_go, make_leash

Held = list[tuple[Heap, list[int]]]


@dataclass(frozen=True, slots=True)
class _Heirs:
    """A process that was forked, with all that it forks: what is held for them, until when."""

    held: Held
    leash: int | None  # None: there was no descriptor for it, so it is held for good


_forking: dict[int, tuple[_Heirs, int | None]] = {}  # thread -> of the fork that it is in
_living: list[_Heirs] = []


def release_for_the_dead() -> None:
    """Let go of what processes inherited that are no more."""
    if not _living:
        return
    ended = select.poll()
    for heirs in _living:
        if heirs.leash is not None:
            ended.register(heirs.leash, select.POLLIN)
    gone = {fd for fd, _ in ended.poll(0)}
    for heirs in [heirs for heirs in _living if heirs.leash in gone]:
        # Whoever takes it from the list releases it: another thread may be at it, too.
        try:
            _living.remove(heirs)
        except ValueError:
            continue
        assert heirs.leash is not None
        os.close(heirs.leash)
        unhold_all(heirs.held)


def _before() -> None:
    release_for_the_dead()
    held = [] if copies_at_fork() else hold_all()
    if held:
        try:
            watched, theirs = make_leash()
        except OSError:  # too much memory held is better than a wrong result
            _forking[threading.get_ident()] = _Heirs(held, None), None
        else:
            _forking[threading.get_ident()] = _Heirs(held, watched), theirs


def _after_in_parent() -> None:
    heirs, theirs = _forking.pop(threading.get_ident(), (None, None))
    if heirs is not None:
        _living.append(heirs)
        if theirs is not None:
            let_leash_go(theirs)


def _after_in_child() -> None:
    if threading.get_ident() in _forking:
        part_views()
    under_way = [heirs for heirs, _ in _forking.values()]
    for heirs in (*_living, *under_way):
        if heirs.leash is not None:
            os.close(heirs.leash)
    _living.clear()
    _forking.clear()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)

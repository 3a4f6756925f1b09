"""A block has one writer at a time: whose map writes it stands in a word of its header.

The word is zero, or says which process writes, by its id and start time; one compare-and-swap
takes it. So no lock can be left behind: the word of a process that has ended is taken over. Nothing
is inherited: a forked child is another process, and does not give back what its parent took.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk._core.process import Undisturbed
from ringwalk._core.rows import exchange
from ringwalk.errors import BusyError
from ringwalk.memory.owner import Owner

if TYPE_CHECKING:
    from ringwalk.memory.block import WalkerBlock

_PID_BITS = 22  # of the most that Linux gives
_START_BITS = 33
_NAMESPACE_BITS = 8


@contextmanager
def writing(blocks: Sequence[WalkerBlock]) -> Iterator[None]:
    """Have these blocks for this map alone. Raises BusyError, and then has none."""
    token = owner_token()
    taken: list[memoryview[int]] = []
    try:
        with Undisturbed():  # what was taken is noted
            for block in blocks:
                word = block.writer_word
                _take(word, block.name, _word_of(token))
                taken.append(word)
        yield
    finally:
        if is_owner(token):
            for word in taken:
                word[0] = 0


def _take(word: memoryview[int], name: str | None, own: int) -> None:
    while (writer := exchange(word, 0, own)) != 0:
        owner = _owner_of(writer)
        if writer == own:
            who = "another map of this process"
        elif owner.is_dead():
            exchange(word, writer, 0)
            continue
        else:
            who = f"a map of process {owner.pid}"
        what = "the block" if name is None else f"the block {name!r}"
        raise BusyError(
            f"{what} is being written by {who}; both would swap it, and one's results be lost. "
            "Map it when the other has finished, or map a copy: block.take(range(len(block)))"
        )


@functools.lru_cache(maxsize=1)
def _word_of(token: int) -> int:
    """This process in a word; the token is another one after a fork."""
    owner = Owner.current()
    namespace = owner.namespace & ((1 << _NAMESPACE_BITS) - 1)
    started = owner.started & ((1 << _START_BITS) - 1)
    return owner.pid | started << _PID_BITS | namespace << (_PID_BITS + _START_BITS)


def _owner_of(word: int) -> Owner:
    current = Owner.current()
    same = word >> (_PID_BITS + _START_BITS) == current.namespace & ((1 << _NAMESPACE_BITS) - 1)
    started = (word >> _PID_BITS) & ((1 << _START_BITS) - 1)
    pid = word & ((1 << _PID_BITS) - 1)
    return Owner(pid, started, current.namespace if same else 0)

"""What would 64 and 192 cores do to one ring? A simulation of its busiest words.

    python -m benchmarks.models.ring_contention [picture.png]

Workers of one map all take tasks from one ring: the word that holds its head is written by every
pop, so its cache line goes from core to core. Simulated is that line, and nothing else is shared:

    worker:  run segment ... commit | read head, wait for the line | swap | claim on the board | ...
                                      ^ fails and starts anew if another core swapped in between

Assumptions, in ``Machine`` and ``Work``: a core runs two instructions a cycle at 2.5 GHz; how many
are needed is read from ``tests/native/budget.json`` and ``tests/budget/callgrind.json``; a line
moves to another core in 60 ns within a socket (64 cores here) and in 150 ns between sockets, one
move at a time and first come, first served. The completion count, which every commit adds to, is a
second such line. Segments differ by up to 50% from their mean.

Two answers, between which a real machine will be. "kept": a core whose swap failed keeps the line
for the nanoseconds that it takes to swap again. "queued": it goes to the end of the queue instead,
so that with n cores waiting one swap in n succeeds.

Left out: memory bandwidth, false sharing, frequency, sleeping and waking, and the parent, which has
pushed all tasks before.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORES = (1, 2, 8, 32, 64, 128, 192)
SEGMENTS_S = (0.0, 10e-6, 100e-6, 1e-3)
TASKS_A_CORE = 50
READ, SWAP, COMMIT = range(3)


@dataclass(frozen=True, slots=True)
class Machine:
    """Seconds of what a worker does for a task, and of a cache line's way."""

    instruction: float = 1 / (2 * 2.5e9)
    near: float = 60e-9
    far: float = 150e-9
    socket: int = 64

    def move(self, cores: int) -> float:
        """Mean time of a line from the core that had it last to the next one's."""
        near = min(1.0, self.socket / cores)
        return near * self.near + (1 - near) * self.far


@dataclass(frozen=True, slots=True)
class Work:
    """Instructions of a task: in the swap's window, and elsewhere in the worker's loop."""

    window: int
    elsewhere: int

    @classmethod
    def measured(cls) -> Work:
        native = json.loads((ROOT / "tests" / "native" / "budget.json").read_text())
        python = json.loads((ROOT / "tests" / "budget" / "callgrind.json").read_text())
        return cls(native["ring.pop"], python["worker"] - native["ring.pop"])


class Line:
    """A cache line that one core has at a time."""

    def __init__(self, move: float) -> None:
        self._move = move
        self._free = 0.0
        self._owner = -1

    def to(self, core: int, now: float) -> float:
        """When the core has it, if it asks now."""
        start = max(now, self._free)
        self._free = start + (0.0 if self._owner == core else self._move)
        self._owner = core
        return self._free

    def hold(self, seconds: float) -> float:
        """Keep it where it is for so long; when that is over."""
        self._free += seconds
        return self._free


def overhead(cores: int, segment: float, kept: bool, machine: Machine, work: Work) -> float:
    """Mean seconds that a task takes a worker beyond its segment, all cores busy."""
    chance = random.Random(1)
    head, done = Line(machine.move(cores)), Line(machine.move(cores))
    window = work.window * machine.instruction
    rest = work.elsewhere * machine.instruction
    tasks = left = cores * TASKS_A_CORE
    swaps = 0
    total = 0.0
    # now, core, what it is about to do, since when it spends time on that beside the segment, and
    # the swaps that there had been when it read
    events = [(k * segment / cores, k, READ, k * segment / cores, 0) for k in range(cores)]
    heapq.heapify(events)
    while events:
        now, core, step, since, seen = heapq.heappop(events)
        if step == COMMIT:
            end = done.to(core, now)
            total += end - since
            heapq.heappush(events, (end, core, READ, end, 0))
            continue
        if not left:
            continue
        at = head.to(core, now)
        if step == READ or (seen != swaps and not kept):
            heapq.heappush(events, (at + window, core, SWAP, since, swaps))
            continue
        if seen != swaps:
            at = head.hold(window)
        swaps += 1
        left -= 1
        lasts = segment * chance.uniform(0.5, 1.5)
        heapq.heappush(events, (at + rest + lasts, core, COMMIT, since + lasts, 0))
    return total / tasks


def main(picture: str | None) -> None:
    machine, work = Machine(), Work.measured()
    table = {
        (segment, kept): [overhead(cores, segment, kept, machine, work) for cores in CORES]
        for segment in SEGMENTS_S
        for kept in (True, False)
    }
    print("overhead of a task in us; cores:", *(f"{cores:>8}" for cores in CORES))
    for (segment, kept), row in table.items():
        name = f"segments of {segment * 1e6:4.0f} us, {'kept' if kept else 'queued'}"
        print(f"{name:<32}", *(f"{t * 1e6:8.2f}" for t in row))
    if picture is not None:
        draw(table, picture)


def draw(table: dict[tuple[float, bool], list[float]], picture: str) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for (segment, kept), row in table.items():
        axes.plot(
            CORES,
            [t * 1e6 for t in row],
            marker="o",
            color=f"C{SEGMENTS_S.index(segment)}",
            linestyle="-" if kept else ":",
            label=f"segments of {segment * 1e6:.0f} us, {'kept' if kept else 'queued'}",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="cores, all busy",
        ylabel="overhead of a task, us",
        title="One ring on many cores, simulated",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)

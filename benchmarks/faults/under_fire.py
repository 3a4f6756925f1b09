"""What a dying worker costs the batch: ringwalk and its rivals, in turns, in one run.

    python -m benchmarks.faults.under_fire [--rounds 20] [--poison-rounds 3] [--only NAME ...]

Two contests, each round in a process group of its own, under a watchdog:

* large: 64 tasks return 4 MiB each; at a random instant one process that ran a task is SIGKILLed.
* poison: of 1,000 small tasks one segfaults, each time that it is run.

A round counts as hung when the batch has not ended ``PATIENCE_S`` after the shot, and 3 times as
long as an undisturbed batch. Where the batch was over before the shot the round is repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.player import CONTESTANTS, LARGE_TASKS, SMALL_TASKS
from benchmarks.machine import ROOT, conditions

START_S = 60.0
PATIENCE_S = 10.0
# A rival that has hung this often, and never come through, will not surprise any more.
ENOUGH = 12


@dataclass
class Score:
    """What became of a contestant's rounds."""

    rounds: int = 0
    complete: int = 0
    lost: int = 0
    hung: int = 0
    stuck_at_close: int = 0
    missing: list[int] = field(default_factory=list)
    wrong: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def row(self, name: str) -> str:
        missing = f"{min(self.missing)} - {max(self.missing)}" if self.missing else ""
        errors = ", ".join(sorted(self.errors))
        cells = [name, self.rounds, self.complete, self.lost, self.hung, missing, self.wrong]
        return "| " + " | ".join(map(str, [*cells, self.stuck_at_close, errors])) + " |"


class Player:
    """A pool in a process group of its own."""

    def __init__(self, contestant: str, workload: str, pids: Path) -> None:
        self._pids = pids
        self._buffer = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults.player", contestant, workload, str(pids)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def line(self, seconds: float) -> str | None:
        """The next line; None when none comes in time; "" at the end."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            if not ready:
                return None
            chunk = os.read(self.process.stdout.fileno(), 4096)
            if not chunk:
                return ""
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def shoot(self, chance: random.Random) -> None:
        """SIGKILL one of the processes that ran a task and live."""
        while self.process.poll() is None:
            signed = {int(word) for word in self._pids.read_text().split()} - {self.process.pid}
            alive = [pid for pid in sorted(signed) if self._is_here(pid)]
            if alive:
                os.kill(chance.choice(alive), signal.SIGKILL)
                return

    def _is_here(self, pid: int) -> bool:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return int(stat[3]) == self.process.pid and stat[0] != "Z"

    def end(self) -> None:
        """End whatever is left of the group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def play(contestant: str, workload: str, chance: random.Random, score: Score) -> None:
    with tempfile.NamedTemporaryFile() as pids:
        player = Player(contestant, workload, Path(pids.name))
        try:
            if not _round(player, workload, chance, score):
                play(contestant, workload, chance, score)
        finally:
            player.end()


def _round(player: Player, workload: str, chance: random.Random, score: Score) -> bool:
    """One round; False when the batch was over before the shot."""
    first = player.line(START_S)
    if not first:
        raise RuntimeError(f"the batches before the shot did not end, but in {first!r}")
    calm = float(first.split()[1])
    if workload == "large":
        time.sleep(chance.uniform(0, calm))  # the random instant
        outcome_is_here = select.select([player.process.stdout], [], [], 0)[0]
        if outcome_is_here:
            return False
        player.shoot(chance)
    line = player.line(max(PATIENCE_S, 3 * calm))
    score.rounds += 1
    if not line:  # none in time, or the pool took the caller's process along
        score.hung += line is None
        score.lost += line == ""
        return True
    outcome: dict[str, Any] = json.loads(line)
    score.wrong += outcome["wrong"]
    if outcome["missing"]:
        score.lost += 1
        score.missing.append(outcome["missing"])
        score.errors[outcome["error"]] += 1
    else:
        score.complete += 1
    score.stuck_at_close += player.line(PATIENCE_S) != "end"
    return True


HEADINGS = (
    "contestant",
    "rounds",
    "complete",
    "not complete",
    "hung",
    "tasks without a result",
    "wrong results",
    "did not close",
    "errors",
)


def contest(workload: str, names: Sequence[str], rounds: int) -> dict[str, Score]:
    scores = {name: Score() for name in names}
    chance = random.Random(f"{workload} 1")
    for _ in range(rounds):
        for name, score in scores.items():
            if score.rounds == score.hung == ENOUGH:
                continue
            play(name, workload, chance, score)
            print(f"{workload}: {name}: {score}", file=sys.stderr, flush=True)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--poison-rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), choices=list(CONTESTANTS))
    options = parser.parse_args()
    print(json.dumps(conditions()))
    for workload, rounds, tasks in (
        ("large", options.rounds, LARGE_TASKS),
        ("poison", options.poison_rounds, SMALL_TASKS),
    ):
        print(f"\n{workload}, {tasks} tasks\n")
        print("| " + " | ".join(HEADINGS) + " |")
        print("|" + "---|" * len(HEADINGS))
        for name, score in contest(workload, options.only, rounds).items():
            print(score.row(name), flush=True)


if __name__ == "__main__":
    main()

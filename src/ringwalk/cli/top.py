"""``ringwalk top``: what running mappers do, as it happens.

Shows the mappers of this user that were made with ``monitor=True``. It only reads, and it can be
started and ended at any time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from ringwalk.errors import ConfigError
from ringwalk.observe.advice import size_text, time_text
from ringwalk.observe.attach import Attached, Sample, WorkerSample, find

Key = tuple[int, int]
Look = dict[Key, Sample]


def add_top(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="seconds between two looks"
    )
    parser.add_argument("--once", action="store_true", help="look for one interval, print, and end")
    parser.add_argument("--json", action="store_true", help="as --once, as JSON")
    parser.set_defaults(run=run_top)


def run_top(options: argparse.Namespace) -> int:
    """Show until Ctrl-C, or once where standard output is no terminal; 1 if there was nothing."""
    if not 0.05 <= options.interval <= 3600:
        raise ConfigError(f"--interval is {options.interval}; give 0.05 to 3600 seconds")
    console = Console()
    with Watch() as watch:
        before = watch.look()
        if options.once or options.json or not console.is_terminal:
            if before:
                time.sleep(options.interval)
            return _once(console, before, watch.look(), as_json=options.json)
        try:
            with Live(console=console, auto_refresh=False, screen=True) as live:
                while True:
                    time.sleep(options.interval)
                    now = watch.look()
                    live.update(tables(before, now), refresh=True)
                    before = now
        except KeyboardInterrupt:
            return 0


def _once(console: Console, before: Look, now: Look, *, as_json: bool) -> int:
    if as_json:
        shown = [
            {**asdict(sample), "rate": rate(before.get(key), sample)} for key, sample in now.items()
        ]
        print(json.dumps(shown, indent=2))
    elif now:
        console.print(tables(before, now))
    else:
        print("no mapper with monitor=True runs here as this user", file=sys.stderr)
    return 0 if now else 1


class Watch:
    """The mappers that are there, kept open between looks."""

    def __init__(self) -> None:
        self._attached: dict[Key, Attached] = {}

    def look(self) -> Look:
        """A sample of each; those that came since are found, those that ended let go."""
        for found in find():
            if found.key in self._attached:
                found.close()
            else:
                self._attached[found.key] = found
        samples: Look = {}
        for key, attached in list(self._attached.items()):
            try:
                samples[key] = attached.sample()
            except (OSError, ValueError, KeyError):
                self._attached.pop(key).close()
        return samples

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for attached in self._attached.values():
            attached.close()


def rate(before: Sample | None, now: Sample) -> float:
    """Segments a second since the look before."""
    if before is None or now.when <= before.when:
        return 0.0
    done = sum(worker.done for worker in now.workers) - sum(w.done for w in before.workers)
    return max(0.0, done / (now.when - before.when))


def tables(before: Mapping[Key, Sample], now: Mapping[Key, Sample]) -> Any:
    """One table a mapper."""
    if not now:
        return "no mapper with monitor=True runs here as this user; Ctrl-C ends"
    return Group(*(_table(before.get(key), sample) for key, sample in now.items()))


def _running(worker: WorkerSample) -> str:
    if worker.running is None:
        return "idle"
    return f"{time_text(worker.running)}, stuck {worker.stuck}".removesuffix(", stuck ")


def _table(before: Sample | None, now: Sample) -> Table:
    started = f", started by {now.started}" if now.started else ""
    state = f"map {now.cycle}: {now.finished:,} of {now.total:,}" if now.total else "no map"
    table = Table(
        title=f"{now.mapper} of {now.function}, process {now.pid}{started}",
        caption=f"{state}, {rate(before, now):.3g} segments/s, {size_text(now.memory)} in the "
        f"parent, {size_text(now.shared)} shared",
        title_justify="left",
        caption_justify="left",
    )
    for heading in ("worker", "process", "device", "segments", "per s", "running for", "memory"):
        table.add_column(heading, justify="left" if heading == "device" else "right")
    passed = 0.0 if before is None else now.when - before.when
    for worker in now.workers:
        last = before.workers[worker.index].done if before is not None else worker.done
        table.add_row(
            str(worker.index),
            "" if worker.pid is None else str(worker.pid),
            worker.device,
            f"{worker.done:,}",
            f"{(worker.done - last) / passed:.3g}" if passed else "",
            _running(worker),
            size_text(worker.memory) if worker.memory else "",
        )
    return table

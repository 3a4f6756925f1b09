"""Run every suite of tests, also after one has failed, and end with one table: ``make test``.

Each suite is a target ``test-<name>`` of the Makefile, which leaves pytest's results in
``build/results/<name>.xml``. One that leaves none has failed as a whole.
"""

from __future__ import annotations

import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

RESULTS = Path("build/results")


@dataclass
class Outcome:
    """What became of one suite."""

    name: str
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> cases
    failures: list[str] = field(default_factory=list)


def run(name: str) -> Outcome:
    results = RESULTS / f"{name}.xml"
    results.unlink(missing_ok=True)
    print(f"\n=== {name}", flush=True)
    began = time.monotonic()
    code = subprocess.run(["make", "--no-print-directory", f"test-{name}"], check=False).returncode
    outcome = Outcome(name, time.monotonic() - began)
    if results.exists():
        read(results, outcome)
    if not outcome.failed and (code != 0 or not results.exists()):
        outcome.failed = 1
        outcome.failures.append(f"make test-{name} ended with {code} and left no failed case")
    return outcome


def read(results: Path, outcome: Outcome) -> None:
    for case in ET.parse(results).iter("testcase"):
        failure = case.find("failure") if case.find("failure") is not None else case.find("error")
        skip = case.find("skipped")
        if failure is not None:
            outcome.failed += 1
            outcome.failures.append(f"{case.get('classname')}::{case.get('name')}")
        elif skip is not None:
            outcome.skipped[(skip.get("message") or "no reason given")[:120]] += 1
        else:
            outcome.passed += 1


def show(outcomes: list[Outcome]) -> None:
    print(f"\n{'suite':12} {'passed':>7} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    for one in outcomes:
        counts = f"{one.passed:7} {one.failed:7} {one.skipped.total():8}"
        print(f"{one.name:12} {counts} {one.seconds:8.0f}")
    for one in outcomes:
        for reason, count in one.skipped.most_common():
            print(f"skipped in {one.name}: {count} x {reason}")
    for one in outcomes:
        for failure in one.failures:
            print(f"FAILED in {one.name}: {failure}")
    passed = sum(one.passed for one in outcomes)
    failed = sum(one.failed for one in outcomes)
    skipped = sum(one.skipped.total() for one in outcomes)
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped", flush=True)


def main(names: list[str]) -> int:
    RESULTS.mkdir(parents=True, exist_ok=True)
    outcomes = [run(name) for name in names]
    show(outcomes)
    return 1 if any(one.failed for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

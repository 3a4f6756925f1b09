"""Run the checks and print what they found, a line each as they come, or as JSON.

Exit status: 1 if there is a problem; warnings leave it 0.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import chain

from rich.console import Console
from rich.text import Text

from ringwalk import __version__
from ringwalk.cli.doctor.accelerators import check_accelerators
from ringwalk.cli.doctor.finding import Finding
from ringwalk.cli.doctor.machine import check_machine
from ringwalk.cli.doctor.packages import check_packages

_STYLES = {"ok": "green", "absent": "dim", "warning": "yellow", "problem": "bold red"}


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run_doctor)


def run_doctor(options: argparse.Namespace) -> int:
    """Print all findings; 1 if one is a problem."""
    # Rich leaves colours out where NO_COLOR is set or nobody looks; lines are never wrapped.
    console = Console(soft_wrap=True, highlight=False, quiet=options.json)
    findings = []
    for finding in chain(check_machine(), check_accelerators(), check_packages()):
        findings.append(finding)
        console.print(_line(finding))
    if options.json:
        report = {"ringwalk": __version__, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(report, indent=2))
    return 1 if any(finding.state == "problem" for finding in findings) else 0


def _line(finding: Finding) -> Text:
    line = Text.assemble(
        (f"{finding.state:8}", _STYLES[finding.state]), f"{finding.subject:16}", finding.found
    )
    if finding.remedy:
        line.append(f"\n{'':24}-> {finding.remedy}")
    return line

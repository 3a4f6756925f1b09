"""The command line: one subparser a subcommand, each naming the function that runs it.

Exit status: 0 all is well, 1 a check failed, 2 the arguments were refused, 130 Ctrl-C ended a run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from ringwalk import __version__
from ringwalk.cli.bench import add_bench
from ringwalk.cli.clean import add_clean
from ringwalk.cli.doctor import add_doctor
from ringwalk.cli.run import add_run
from ringwalk.cli.top import add_top
from ringwalk.cli.xargs import add_xargs
from ringwalk.demo import CYCLES, SEED, WALKERS, Settings, demo
from ringwalk.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``ringwalk`` with these arguments, the process's own by default; return its status."""
    options = build_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ConfigError as error:
        print(f"ringwalk: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read our output has enough, like `head`. The interpreter would try once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Put the command line together."""
    parser = argparse.ArgumentParser(
        prog="ringwalk",
        description="Shared-memory ensemble mapper: runs the segments of many walkers in parallel.",
    )
    parser.add_argument("--version", action="version", version=f"ringwalk {__version__}")
    subcommands = parser.add_subparsers(title="subcommands", required=True, metavar="COMMAND")
    _add_demo(
        subcommands.add_parser(
            "demo",
            help="run a weighted ensemble, check its answer, time the mappers",
            description="Let weighted-ensemble walkers climb out of the deepest well of the "
            "Müller-Brown potential, check the free energy against the exact integral and the "
            "total weight against 1, and time the mappers. Exits with 1 if a check fails.",
        )
    )
    add_xargs(
        subcommands.add_parser(
            "xargs",
            help="run the lines of a file as commands, many at a time",
            description="Run each line of standard input, or of a file, as a shell command, or "
            "as the argument of one. Exits with 1 if one failed.",
        )
    )
    add_run(
        subcommands.add_parser(
            "run",
            help="map a function over the rows of a file",
            description="Call a function for every row of an .npz, .npy or .csv file, in worker "
            "processes, and write what it returns to an .npz. Exits with 1 if a row failed.",
        )
    )
    add_bench(
        subcommands.add_parser(
            "bench",
            help="time the mappers beside the standard library's pools on this machine",
            description="Time the mappers beside the standard library's pools, in about half a "
            "minute, and print medians.",
        )
    )
    add_doctor(
        subcommands.add_parser(
            "doctor",
            help="look at this machine and environment, with a remedy for each trouble",
            description="Look at CPUs, memory, limits, BLAS threads, fork safety, CUDA, MPI and "
            "the packages that adapters serve. Exits with 1 if there is a problem.",
        )
    )
    add_clean(
        subcommands.add_parser(
            "clean",
            help="show, or remove, what an earlier crash left in shared memory",
            description="Show what processes that have ended left in /dev/shm, or remove it.",
        )
    )
    add_top(
        subcommands.add_parser(
            "top",
            help="watch running mappers",
            description="Show what the mappers of this user that were made with monitor=True do: "
            "workers, devices, rates and memory, until Ctrl-C. Exits with 1 if --once or --json "
            "found none.",
        )
    )
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    for name, default, meaning in (
        ("walkers", WALKERS, "walkers in the ensemble"),
        ("cycles", CYCLES, "cycles of run, split and merge"),
        ("workers", None, "worker processes, by default one a usable core"),
        ("seed", SEED, "seed of all random streams"),
    ):
        shown = meaning if default is None else f"{meaning} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=int, metavar="N", default=default, help=shown)
    parser.add_argument(
        "--no-comparison",
        dest="comparison",
        action="store_false",
        help="leave out the closing table of timings",
    )
    parser.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> int:
    settings = Settings(
        walkers=options.walkers,
        cycles=options.cycles,
        workers=options.workers,
        seed=options.seed,
        comparison=options.comparison,
    )
    return 0 if demo(settings) else 1

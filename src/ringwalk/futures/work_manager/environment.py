"""Which manager, with how many workers: flag > environment > default.

``WM_WORK_MANAGER`` and ``WM_N_WORKERS``, ``--work-manager`` and ``--n-workers``; with
``use_arg_prefixes`` the flags are ``--wm-work-manager`` and so on.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ringwalk.errors import ConfigError

if TYPE_CHECKING:
    from ringwalk.futures.work_manager.core import WorkManager

_MANAGERS = {
    "serial": ("serial", "SerialWorkManager", ()),
    "threads": ("wrapping", "ThreadsWorkManager", ()),
    "processes": ("processes", "ProcessWorkManager", ()),
    "mpi": ("wrapping", "MPIWorkManager", ("mpi4py",)),
    "dask": ("dask", "DaskWorkManager", ("dask", "distributed")),
}


def manager_class(name: str) -> type[WorkManager]:
    """The class of a manager by its name, whether or not what it needs is installed."""
    module, kind, _ = _MANAGERS[name]
    found: type[WorkManager] = getattr(
        importlib.import_module(f"ringwalk.futures.work_manager.{module}"), kind
    )
    return found


class WMEnvironment:
    """Flags and variables of one work manager.

    Args:
        use_arg_prefixes: name the flags ``--wm-...``, beside an application's own.
        valid_work_managers: names to choose from.
    """

    group_title = "parallelization options"
    group_description: str | None = None
    env_prefix = "WM"
    arg_prefix = "wm"
    default_work_manager = "serial"
    default_parallel_work_manager = "processes"
    valid_work_managers: Sequence[str] = tuple(_MANAGERS)

    def __init__(
        self, use_arg_prefixes: bool = False, valid_work_managers: Sequence[str] | None = None
    ) -> None:
        self.environ: Mapping[str, str] = os.environ
        self.args: argparse.Namespace | None = None
        self.use_arg_prefixes = use_arg_prefixes
        self.valid_work_managers = list(valid_work_managers or self.valid_work_managers)

    def env_name(self, name: str) -> str:
        """The variable of an option: ``n_workers`` -> ``WM_N_WORKERS``."""
        return f"{self.env_prefix}_{name.upper()}"

    def arg_name(self, name: str) -> str:
        """The attribute of the parsed arguments."""
        return f"{self.arg_prefix}_{name}" if self.use_arg_prefixes else name

    def arg_flag(self, name: str) -> str:
        """The flag: ``n_workers`` -> ``--n-workers`` or ``--wm-n-workers``."""
        return "--" + self.arg_name(name).replace("_", "-")

    def get_val(
        self, name: str, default: Any = None, type_: Callable[[Any], Any] | None = None
    ) -> Any:
        """An option's value: flag, else variable, else default. ValueError: not a ``type_``."""
        value = getattr(self.args, self.arg_name(name), None)
        source = self.arg_flag(name)
        if value is None:
            source = self.env_name(name)
            value = self.environ.get(source, default)
        if value is None or type_ is None:
            return value
        try:
            return type_(value)
        except ValueError as error:
            raise ConfigError(
                f"cannot convert {value!r} to {type_.__name__}: {source} is not one"
            ) from error

    def add_wm_args(self, parser: argparse.ArgumentParser) -> None:
        """Add ``--serial``, ``--parallel``, ``--work-manager``, ``--n-workers``, managers' own."""
        group = parser.add_argument_group(self.group_title, self.group_description)
        choice = group.add_mutually_exclusive_group()
        manager = self.arg_name("work_manager")
        for flag, name in (("serial", "serial"), ("parallel", self.default_parallel_work_manager)):
            choice.add_argument(
                self.arg_flag(flag),
                dest=manager,
                action="store_const",
                const=name,
                help=f"the same as {self.arg_flag('work_manager')}={name}",
            )
        choice.add_argument(
            self.arg_flag("work_manager"),
            dest=manager,
            choices=self.valid_work_managers,
            help=f"what runs the tasks; default: {self.default_work_manager}",
        )
        group.add_argument(
            self.arg_flag("n_workers"),
            dest=self.arg_name("n_workers"),
            metavar="N",
            type=int,
            help="number of workers; default, and for 0: the number of CPUs",
        )
        for name in self.valid_work_managers:
            manager_class(name).add_wm_args(parser, self)

    def process_wm_args(self, args: argparse.Namespace) -> None:
        """Remember the parsed arguments."""
        self.args = args

    def make_work_manager(self) -> WorkManager:
        """The manager that flags and variables ask for, not started.

        Raises ConfigError (a ValueError) for a name that is not valid, or not available here.
        """
        name = str(self.get_val("work_manager", "")).lower() or self.default_work_manager
        if name not in self.valid_work_managers:
            raise ConfigError(
                f"work manager {name!r} is invalid or unavailable; choose one of "
                f"{', '.join(self.valid_work_managers)}"
            )
        try:
            for package in _MANAGERS[name][2]:
                importlib.import_module(package)
        except ImportError as missing:
            raise ConfigError(
                f"work manager {name!r} is invalid or unavailable: {missing}. Install "
                f"ringwalk[{name}]"
            ) from missing
        return manager_class(name).from_environ(self)


default_env = WMEnvironment()
make_work_manager = default_env.make_work_manager
add_wm_args = default_env.add_wm_args
process_wm_args = default_env.process_wm_args

"""Running commands: many at a time, single and array, with exit info and termination.

distributor   CommandDistributor: the caller's side, which never blocks on a command
supervisor    the process that owns the queue and starts, watches and ends commands
  launch        one command as a process
  warm          which commands may be forked from a template, and the template's handle
  template      the script that the template process runs
boot          starts the supervisor in a fresh interpreter
channel       what the two say to each other
journal       what happened, as fixed records that the supervisor appends
"""

from __future__ import annotations

from ringwalk.distributors.distributor import CommandDistributor
from ringwalk.distributors.exit_info import ExitInfo

__all__ = ["CommandDistributor", "ExitInfo"]

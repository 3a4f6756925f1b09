"""WESTPA's work manager on ringwalk: ``w_run --work-manager ringwalk``.

Three ways to make it known, none of which patches WESTPA; see docs/adapters/westpa.md::

    python -m ringwalk.adapters.westpa w_run --work-manager ringwalk       # instead of w_run
    _ringwalk: !!python/object/apply:ringwalk.adapters.westpa.register []  # a line of ~/.westrc
    ringwalk.adapters.westpa.register()                                    # in a program

Needs WESTPA (``pip install ringwalk[westpa]``).
"""

from __future__ import annotations

from ringwalk.adapters.westpa.work_manager import RingwalkWorkManager

__all__ = ["RingwalkWorkManager", "register"]


def register(name: str = "ringwalk", *, default: bool = False) -> str:
    """Make the work manager known to WESTPA under a name; before its flags are parsed.

    Args:
        name: for ``--work-manager`` and ``WM_WORK_MANAGER``.
        default: use it where neither says anything.
    """
    import westpa.work_managers
    from westpa.work_managers import environment

    westpa.work_managers._available_work_managers[name] = RingwalkWorkManager
    # The default environment copied the list of names when it was made.
    for holder in (environment.WMEnvironment, environment.default_env):
        if name not in holder.valid_work_managers:
            holder.valid_work_managers.append(name)
    if default:
        environment.default_env.default_work_manager = name
    return name

"""SerialWorkManager: each task runs in submit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from ringwalk.futures.work_manager.core import WorkManager
from ringwalk.futures.work_manager.environment import WMEnvironment
from ringwalk.futures.work_manager.future import WMFuture
from ringwalk.observe.progress import Progress


class SerialWorkManager(WorkManager):
    """Runs tasks at once, in the caller's thread. Works without ``startup``, as WESTPA's does."""

    def __init__(self, *, progress: Progress | bool | None = None) -> None:
        super().__init__(1, progress=progress)

    @classmethod
    def from_environ(cls, wmenv: WMEnvironment | None = None) -> Self:
        return cls()

    def submit(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> WMFuture:
        future = self._new_future()
        try:
            result = fn(*(args or ()), **(kwargs or {}))
        except (Exception, SystemExit) as error:
            future._set_exception(error, error.__traceback__)
        else:
            future._set_result(result)
        return future

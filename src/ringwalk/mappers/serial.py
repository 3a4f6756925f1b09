"""SerialMapper: the contract in the calling thread, to compare with and to debug with."""

from __future__ import annotations

from typing import Any

from ringwalk.errors import MapError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.base import Batches, Mapper, raise_first
from ringwalk.mappers.local import Attempt, local_job, make_local_worker
from ringwalk.workers.job import NoSources, Returned, make_call, make_marker
from ringwalk.workers.setup import Setup
from ringwalk.workers.streams import kept_globals


class SerialMapper(Mapper):
    """Runs segments one after another in the calling thread. Takes the arguments of ``Mapper``.

    ``num_workers`` is accepted and ignored; there is one worker, number 0.
    """

    def _start(self, setup: Setup) -> None:
        self._worker = make_local_worker(setup, 0)

    def _stop(self) -> None:
        self.__dict__.pop("_worker", None)

    def _run(
        self, setup: Setup, arguments: Arguments, results: list[Any], *, each: bool
    ) -> Batches:
        job = local_job(setup, arguments, self._cycle)
        call = make_call(setup, self._worker, job, NoSources())
        mark = make_marker(job, NoSources())
        errors: dict[int, MapError] = {}
        done: dict[int, Any] = {}
        history = self._recorded()
        history.workers = 1
        for walker in range(arguments.count):
            self._check_open(setup)
            with kept_globals(setup.seed):
                attempt = Attempt(call, mark, walker, 0, history.began_ns)
            history.ran.append(attempt.ran)
            succeeded = attempt.book(errors, done)
            if succeeded:
                results[walker] = attempt.result
                if isinstance(attempt.result, Returned):
                    self._returned.append(walker)
            self._progress.tell(walker + 1, arguments.count)
            if errors and self._options.on_error == "stop":
                break
            if each and succeeded:
                yield (walker,)
        raise_first(errors, done)

"""What ``ringwalk.testing`` tells an author whose class does not keep a contract."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from ringwalk import SerialMapper
from ringwalk.testing import check_executor, check_mapper


class Shuffled(SerialMapper):
    def map(self, *args: Any, **kwargs: Any) -> Any:
        return super().map(*args, **kwargs)[::-1]


def names(group: pytest.ExceptionInfo[ExceptionGroup[Exception]]) -> set[str]:
    return {note for error in group.value.exceptions for note in error.__notes__}


def test_every_failed_check_is_named() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        check_mapper(Shuffled)
    assert "check results_are_in_input_order" in names(caught)
    assert "check a_map_after_cleanup_is_refused" not in names(caught)


def test_an_executor_that_swallows_errors_is_found() -> None:
    class Swallowing(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            def quiet() -> Any:
                try:
                    return fn(*args, **kwargs)
                except LookupError:
                    return None

            return super().submit(quiet)

    with pytest.raises(ExceptionGroup) as caught:
        check_executor(Swallowing)
    assert names(caught) == {"check an_exception_comes_back"}


def test_deviations_are_left_out_and_must_name_checks() -> None:
    in_order = [
        "results_are_in_input_order",
        "no_such_check",
    ]
    with pytest.raises(ValueError, match="no_such_check"):
        check_mapper(SerialMapper, deviations=dict.fromkeys(in_order, "says nothing"))
    with pytest.raises(ExceptionGroup) as caught:
        check_mapper(Shuffled, deviations={in_order[0]: "completion order"})
    assert "check results_are_in_input_order" not in names(caught)

"""Conformance checks for authors of mappers and executors.

Run all checks of a contract on a class of your own:

    from ringwalk.testing import check_mapper

    check_mapper(MyMapper)

or one test a check under pytest:

    from ringwalk.testing import MAPPER_CHECKS

    @pytest.mark.parametrize("check", MAPPER_CHECKS, ids=str)
    def test_contract(check):
        check(MyMapper)

The checks need nothing but Ringwalk. Ringwalk's own classes run exactly these.
"""

from ringwalk.testing.checks import Check
from ringwalk.testing.executor import EXECUTOR_CHECKS, check_executor
from ringwalk.testing.mapper import MAPPER_CHECKS, check_mapper

__all__ = ["EXECUTOR_CHECKS", "MAPPER_CHECKS", "Check", "check_executor", "check_mapper"]

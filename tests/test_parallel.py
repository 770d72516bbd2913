"""Batch evaluators: results in order, failures in their place, exceptions as they were raised."""

import sys
import threading

import pytest

from optimagic_lite.exceptions import (
    InvalidKwargsError,
    InvalidNumdiffOptionsError,
    NotAvailableError,
    NotInstalledError,
)
from optimagic_lite.options import NumdiffOptions
from optimagic_lite.parallel import (
    TaskFailure,
    joblib_batch_evaluator,
    read_batch_evaluator,
    threading_batch_evaluator,
)

EVALUATORS = [joblib_batch_evaluator, threading_batch_evaluator]
ONE_CORE = pytest.mark.parametrize("evaluator", EVALUATORS)
EVERYWHERE = pytest.mark.parametrize(
    ("evaluator", "n_cores"), [(e, n) for e in EVALUATORS for n in (1, 2)]
)


class CodedError(Exception):
    """An exception that cannot be made of its message alone, so pickle loses it."""

    def __init__(self, code, reason):
        super().__init__(f"{reason} ({code})")
        self.code = code


def picky(factor):
    class LocalError(Exception):
        def __init__(self, *, hint):
            super().__init__(f"take {hint}")
            self.hint = hint

    def function(x):
        if x == 1:
            raise CodedError(7, "no ones")
        if x == 2:
            raise LocalError(hint="three")
        if x == 3:
            raise FileNotFoundError(2, "missing", "data.csv")
        return factor * x

    return function


@EVERYWHERE
def test_results_come_in_the_order_of_the_arguments(evaluator, n_cores):
    assert evaluator(lambda x: x**2, range(7), n_cores=n_cores) == [0, 1, 4, 9, 16, 25, 36]


@ONE_CORE
def test_nothing_to_do_gives_nothing(evaluator):
    assert evaluator(abs, [], n_cores=2) == []


@ONE_CORE
def test_arguments_are_unpacked(evaluator):
    def minus(a, b):
        return a - b

    assert evaluator(minus, [(3, 1), (1, 3)], unpack_symbol="*", n_cores=2) == [2, -2]
    assert evaluator(minus, [{"b": 3, "a": 1}], unpack_symbol="**") == [-2]


@EVERYWHERE
def test_a_failure_stands_in_its_place(evaluator, n_cores):
    out = evaluator(picky(10), [0, 1, 2, 3, 4], n_cores=n_cores)

    assert out[0] == 0
    assert out[4] == 40
    assert all(isinstance(failure, TaskFailure) for failure in out[1:4])
    coded, local, missing = (failure.exception for failure in out[1:4])
    assert type(coded) is CodedError
    assert str(coded) == "no ones (7)"
    assert coded.code == 7
    assert type(local).__name__ == "LocalError"
    assert str(local) == "take three"
    assert local.hint == "three"
    assert type(missing) is FileNotFoundError
    assert str(missing) == "[Errno 2] missing: 'data.csv'"
    assert "in function" in out[1].traceback


@EVERYWHERE
def test_an_exception_that_is_raised_keeps_type_and_message(evaluator, n_cores):
    with pytest.raises(CodedError, match=r"^no ones \(7\)") as caught:
        evaluator(picky(10), [0, 1], n_cores=n_cores, error_handling="raise")

    assert str(caught.value) == "no ones (7)"
    assert caught.value.code == 7


def test_an_exception_from_another_process_says_where_it_was_raised():
    with pytest.raises(CodedError) as caught:
        joblib_batch_evaluator(picky(10), [1, 1], n_cores=2, error_handling="raise")

    assert "in function" in caught.value.__notes__[0]


@ONE_CORE
def test_a_failure_ends_the_batch_only_if_it_is_raised(evaluator):
    seen = []

    def function(x):
        seen.append(x)
        raise ValueError

    evaluator(function, [1, 2, 3])
    assert seen == [1, 2, 3]
    seen.clear()
    with pytest.raises(ValueError):
        evaluator(function, [1, 2, 3], error_handling="raise")
    assert seen == [1]


@ONE_CORE
def test_one_core_starts_nothing(evaluator):
    # objects that no process could share, in the thread of the caller
    lock, here = threading.Lock(), threading.get_ident()

    out = evaluator(lambda _: (lock, threading.get_ident()), [0])

    assert out == [(lock, here)]


def test_one_core_does_not_need_joblib(monkeypatch):
    monkeypatch.setitem(sys.modules, "joblib", None)

    assert joblib_batch_evaluator(abs, [-1]) == [1]
    with pytest.raises(NotInstalledError, match="pip install joblib"):
        joblib_batch_evaluator(abs, [-1], n_cores=2)


def test_names_and_functions_are_batch_evaluators():
    def own(func, arguments, **_):
        return [func(a) for a in arguments]

    assert read_batch_evaluator("joblib") is joblib_batch_evaluator
    assert read_batch_evaluator("threading") is threading_batch_evaluator
    assert read_batch_evaluator(own) is own


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("jobib", "Did you mean 'joblib'"),
        ("pathos", "'joblib' or 'threading'.*pathos is not supported"),
        (3, "or a function, not 3"),
        (None, "or a function, not None"),
    ],
)
def test_what_is_no_batch_evaluator_is_refused(name, message):
    with pytest.raises(NotAvailableError, match=message):
        read_batch_evaluator(name)
    with pytest.raises(InvalidNumdiffOptionsError, match=message):
        NumdiffOptions(batch_evaluator=name)


@ONE_CORE
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_cores": 0}, "positive integer, not 0"),
        ({"n_cores": 1.5}, "positive integer, not 1.5"),
        ({"n_cores": True}, "positive integer, not True"),
        ({"error_handling": "ignore"}, "'continue' or 'raise', not 'ignore'"),
        ({"unpack_symbol": "***"}, r"None, '\*' or '\*\*'"),
    ],
)
def test_options_are_checked(evaluator, option, message):
    with pytest.raises(InvalidKwargsError, match=message):
        evaluator(abs, [1], **option)


def test_cores_leave_the_method_of_differences_as_it_is():
    assert NumdiffOptions(n_cores=4).method == NumdiffOptions().method == "central"
    with pytest.raises(InvalidNumdiffOptionsError, match="n_cores must be a positive integer"):
        NumdiffOptions(n_cores=0)

"""Batch evaluators: results in order, failures in their place, exceptions as they were raised."""

import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_contract import BatchContract, CodedError, check_failures, check_interrupts, picky

from optimagic_lite.exceptions import (
    InvalidKwargsError,
    InvalidNumdiffOptionsError,
    NotAvailableError,
    NotInstalledError,
)
from optimagic_lite.options import NumdiffOptions
from optimagic_lite.parallel import (
    Cores,
    dask_batch_evaluator,
    joblib_batch_evaluator,
    ray_batch_evaluator,
    read_batch_evaluator,
    threading_batch_evaluator,
)

EVALUATORS = [
    joblib_batch_evaluator,
    threading_batch_evaluator,
    dask_batch_evaluator,
    ray_batch_evaluator,
]
ONE_CORE = pytest.mark.parametrize("evaluator", EVALUATORS)
# those in other processes have their contract
EVERYWHERE = pytest.mark.parametrize(
    ("evaluator", "n_cores"), [*((e, 1) for e in EVALUATORS), (threading_batch_evaluator, 2)]
)


class TestJoblib(BatchContract):
    name = "joblib"

    def test_workers_are_kept_with_their_function(self):
        def remember(_, seen=[]):  # noqa: B006
            seen.append(None)
            return os.getpid(), len(seen)

        calls = self.cores.evaluate(remember, range(4)) + self.cores.evaluate(remember, range(4))

        # the last call of each worker has seen all that were before
        assert sum(dict(sorted(calls)).values()) == 8

    def test_ctrl_c_is_quick_and_leaves_nothing_behind(self, tmp_path):
        check_interrupts(self.name, tmp_path)


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

    assert evaluator(minus, [(3, 1), (1, 3)], unpack_symbol="*") == [2, -2]
    assert evaluator(minus, [{"b": 3, "a": 1}], unpack_symbol="**") == [-2]


@EVERYWHERE
def test_a_failure_stands_in_its_place(evaluator, n_cores):
    check_failures(evaluator(picky(10), range(7), n_cores=n_cores))


@EVERYWHERE
def test_an_exception_that_is_raised_keeps_type_and_message(evaluator, n_cores):
    with pytest.raises(CodedError, match=r"^no ones \(7\)") as caught:
        evaluator(picky(10), [0, 1], n_cores=n_cores, error_handling="raise")

    assert str(caught.value) == "no ones (7)"
    assert caught.value.code == 7


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


@pytest.mark.parametrize("library", ["joblib", "cloudpickle", "psutil"])
def test_one_core_does_not_need_libraries(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)

    assert joblib_batch_evaluator(abs, [-1]) == [1]
    with pytest.raises(NotInstalledError, match=rf"{library}.*optimagic_lite\[parallel\]"):
        joblib_batch_evaluator(abs, [-1], n_cores=2)


@ONE_CORE
def test_one_core_streams(evaluator):
    seen = []
    name = evaluator.__name__.removesuffix("_batch_evaluator")

    found = Cores(1, name).as_completed(lambda x: seen.append(x) or 2 * x, [1, 2, 3])

    assert next(found) == (0, 2)
    assert seen == [1]
    assert list(found) == [(1, 4), (2, 6)]


def test_threads_stream_and_start_nothing_more_when_left():
    begun, go_on = [], threading.Event()

    def function(x):
        begun.append(x)
        assert x == 0 or go_on.wait(20)
        return x

    found = Cores(2, "threading").as_completed(function, range(9))

    assert next(found) == (0, 0)
    found.close()
    go_on.set()
    assert len(begun) <= 3


def test_threads_have_the_precision_of_their_caller():
    def dtype(_):
        return jnp.zeros(1).dtype

    for x64, expected in ((True, np.float64), (False, np.float32)):
        with jax.enable_x64(x64):
            assert threading_batch_evaluator(dtype, [0, 1], n_cores=2) == [expected] * 2


def test_names_are_batch_evaluators():
    for evaluator in EVALUATORS:
        name = evaluator.__name__.removesuffix("_batch_evaluator")
        assert read_batch_evaluator(name) is evaluator
        assert read_batch_evaluator(evaluator) is evaluator


# ---- batch evaluators that users write -------------------------------------------------------


def here(func, arguments, *, n_cores, error_handling, unpack_symbol):
    return [func(argument) for argument in arguments]


@pytest.fixture(scope="module")
def kept_pool():
    """The protocol on the standard library, which cannot pickle closures."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda func, arguments, **_: list(pool.map(func, arguments))


def test_any_pool_of_processes_carries_closures_and_double_precision(kept_pool):
    with jax.enable_x64(True):
        third = jnp.array([1.0]) / 3

    ((mine, theirs),) = Cores(2, kept_pool).evaluate(lambda f: (third, f()), [lambda: third])

    assert mine.dtype == theirs.dtype == np.float64
    assert float(mine[0]) == float(theirs[0]) == 1 / 3
    check_failures(Cores(2, kept_pool).evaluate(picky(10), range(7)))
    with pytest.raises(CodedError) as caught:
        Cores(2, kept_pool).evaluate(picky(10), [0, 1], "raise")
    assert caught.value.code == 7
    assert "in function" in caught.value.__notes__[0]


def test_a_pool_unpacks_a_function_once(kept_pool):
    def count(_, seen=[]):  # noqa: B006
        seen.append(None)
        return len(seen)

    assert Cores(2, kept_pool).evaluate(count, range(3)) == [1, 2, 3]


def test_a_batch_evaluator_in_this_process_gets_the_things_themselves():
    lock = threading.Lock()

    assert Cores(1, here).evaluate(lambda x: (x, lock), [lock]) == [(lock, lock)]
    check_failures(Cores(1, here).evaluate(picky(10), range(7)))
    with pytest.raises(CodedError) as caught:
        Cores(1, here).evaluate(picky(10), [0, 1], "raise")
    # raised, not brought: its place is that of the function
    assert [frame.name for frame in caught.traceback][-1] == "function"


def test_a_batch_evaluator_is_called_with_all_options():
    asked = []

    def evaluator(func, arguments, **options):
        asked.append(options)
        return [func(argument) for argument in arguments]

    run = read_batch_evaluator(evaluator)
    assert run(lambda a, b: a - b, [(3, 1)], n_cores=4, unpack_symbol="*") == [2]
    assert asked == [{"n_cores": 4, "error_handling": "continue", "unpack_symbol": None}]
    assert read_batch_evaluator(run) is run
    assert list(Cores(2, evaluator).as_completed(abs, [-1, -2])) == [(0, 1), (1, 2)]


def test_a_batch_evaluator_may_put_something_else_in_the_place_of_a_result():
    def evaluator(func, arguments, **_):
        return [func(arguments[0]), "lost"]

    assert Cores(2, evaluator).evaluate(abs, [-1, -2]) == [1, "lost"]


def test_a_batch_evaluator_that_loses_results_is_noticed():
    def evaluator(func, arguments, **_):
        return [func(argument) for argument in arguments[1:]]

    with pytest.raises(NotAvailableError, match="1 results for 2 arguments"):
        Cores(2, evaluator).evaluate(abs, [-1, -2])


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("jobib", "Did you mean 'joblib'"),
        ("dsak", "Did you mean 'dask'"),
        ("pathos", "'joblib', 'threading', 'dask', 'ray' or a func.*pathos is not supported"),
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

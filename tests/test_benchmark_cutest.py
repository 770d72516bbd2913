"""Problems of CUTEst through sif2jax; a small module with the same interface stands for it."""

import sys
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optimagic_lite as om
from optimagic_lite.benchmarking.cutest import cutest_problems


class Problem:
    """What all problems of sif2jax have; arguments of a criterion may be anything."""

    args = None
    expected_objective_value = None

    @property
    def name(self):
        return type(self).__name__


class ROSENBR(Problem):
    y0 = np.array([-1.2, 1.0])
    args = (100.0,)
    expected_objective_value = np.array(0.0)

    def objective(self, y, args):
        (weight,) = args
        return weight * (y[1] - y[0] ** 2) ** 2 + (1 - y[0]) ** 2


class TREE(Problem):
    """Parameters in a tree of whole numbers, a start outside of the bounds, half of them open."""

    y0 = (np.array([3, 4]), np.array(5))
    bounds = ((np.array([-np.inf, 0.0]), -np.inf), (np.inf, np.array(2.0)))

    def objective(self, y, args):
        return jnp.sum((y[0] - 0.1) ** 2)[None] + y[1] ** 2


class LARGE(Problem):
    y0 = np.zeros(101)

    def objective(self, y, args):
        return y @ y


@pytest.fixture
def sif2jax(monkeypatch):
    module = ModuleType("sif2jax")
    module.unconstrained_minimisation_problems = (ROSENBR(), LARGE())
    module.bounded_minimisation_problems = (TREE(),)
    monkeypatch.setitem(sys.modules, "sif2jax", module)
    cutest_problems.cache_clear()
    yield module
    cutest_problems.cache_clear()


def value(definition, x):
    with jax.enable_x64(True):
        return np.asarray(definition.fun(np.array(x)))


def test_problems_have_names_in_lower_case_and_at_most_100_parameters(sif2jax):
    assert list(cutest_problems()) == ["rosenbr", "tree"]


def test_functions_return_the_criterion_in_double_precision(sif2jax):
    rosenbrock = cutest_problems()["rosenbr"]

    assert rosenbrock.is_scalar
    assert rosenbrock.start == (-1.2, 1.0)
    assert value(rosenbrock, rosenbrock.start) == pytest.approx(24.2, rel=1e-14)


def test_a_tree_of_parameters_becomes_a_vector_within_its_bounds(sif2jax):
    tree = cutest_problems()["tree"]

    assert tree.bounds == ((-np.inf, 0.0, -np.inf), (np.inf, np.inf, 2.0))
    assert tree.start == (3.0, 4.0, 2.0)
    found = value(tree, tree.start)
    assert found.shape == ()
    assert found == pytest.approx(2.9**2 + 3.9**2 + 4, rel=1e-14)


def test_a_problem_without_bounds_has_none(sif2jax):
    assert cutest_problems()["rosenbr"].bounds is None


def test_an_expected_value_stands_in_the_note_only(sif2jax):
    problems = cutest_problems()

    assert (problems["rosenbr"].value, problems["tree"].value) == (None, None)
    assert "expects a smallest value of 0.0. Such values are not reliable" in (
        problems["rosenbr"].note
    )
    assert "expects" not in problems["tree"].note
    assert problems["rosenbr"].solution is None


def test_minimize_solves_the_problems_of_the_set(sif2jax):
    problems = om.get_benchmark_problems("cutest")

    found = om.minimize(**problems["tree"]["inputs"], algorithm="scipy_lbfgsb")

    np.testing.assert_allclose(found.params, [0.1, 0.1, 0.0], atol=1e-5)


def test_without_sif2jax_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sif2jax", None)
    cutest_problems.cache_clear()

    with pytest.raises(om.exceptions.NotInstalledError, match=r"pip install .*\[cutest\]"):
        cutest_problems()

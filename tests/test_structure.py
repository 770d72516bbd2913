"""What a criterion returns: one number, contributions to a likelihood, or residuals."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from compilations import count_compilations

import optimagic_lite as om
from optimagic_lite.algorithms.base import REGISTRY, Algorithm, Outcome, algorithm
from optimagic_lite.data.nist import load_nist
from optimagic_lite.exceptions import InvalidFunctionError, NotAvailableError
from optimagic_lite.space.trees import flatten_in_order

MARKS = {
    "scalar": om.mark.scalar,
    "likelihood": om.mark.likelihood,
    "least_squares": om.mark.least_squares,
}
# one algorithm for each way to take a structure, outside and inside JAX
SOLVERS = {
    "scalar": ["scipy_lbfgsb", "scipy_neldermead", "optimistix_bfgs"],
    "likelihood": ["bhhh"],
    "least_squares": ["scipy_ls_trf", "optimistix_levenberg_marquardt"],
}
ALL_SOLVERS = [name for names in SOLVERS.values() for name in names]

# an exponential curve, with noise that is known
T = np.linspace(0.0, 2.0, 8)
Y = 1.5 * np.exp(-0.8 * T) + 0.05 * np.cos(9 * T)
START = np.array([1.0, -0.3])


def residuals_of(x, xp=np):
    return Y - x[0] * xp.exp(x[1] * T)


def jacobian_of(x):
    growth = np.exp(x[1] * T)
    return np.column_stack([-growth, -x[0] * T * growth])


@om.mark.least_squares
def residuals(x):
    return residuals_of(x)


@om.mark.least_squares
def residuals_jax(x):
    return residuals_of(jnp.asarray(x), jnp)


@om.mark.likelihood
def contributions_jax(x):
    return -0.5 * residuals_of(jnp.asarray(x), jnp) ** 2


# by another road: SciPy alone, with its factor of one half taken out
def _reference():
    from scipy import optimize

    tight = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
    found = optimize.least_squares(residuals_of, START, jacobian_of, **tight)
    return found.x, 2 * found.cost


MINIMUM, RSS = _reference()


class Counted:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function = function
        self.n_calls = 0

    def __call__(self, *args, **kwargs):
        self.n_calls += 1
        return self.function(*args, **kwargs)


# ---- one criterion, all algorithms ---------------------------------------------------------------


@pytest.mark.parametrize("name", ALL_SOLVERS)
def test_residuals_serve_every_algorithm(name):
    result = om.minimize(residuals_jax, START, name)
    assert result.success, result.message
    np.testing.assert_allclose(result.params, MINIMUM, atol=1e-4)
    # the sum of squares, not half of it
    assert result.fun == pytest.approx(RSS, rel=1e-7)
    r = residuals_of(START)
    assert result.start_fun == pytest.approx(r @ r, rel=1e-12)
    assert result.history.fun[0] == result.start_fun


@pytest.mark.parametrize("name", [*SOLVERS["scalar"], *SOLVERS["likelihood"]])
def test_contributions_serve_all_but_least_squares(name):
    result = om.maximize(contributions_jax, START, name)
    assert result.success, result.message
    np.testing.assert_allclose(result.params, MINIMUM, atol=1e-3)
    assert result.fun == pytest.approx(-RSS / 2, rel=1e-6)
    r = residuals_of(START)
    assert result.start_fun == pytest.approx(-0.5 * (r @ r), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "one"), [("scipy_lbfgsb", residuals), ("bhhh", residuals), ("scipy_ls_trf", residuals)]
)
def test_residuals_in_numpy_serve_every_algorithm(name, one):
    result = om.minimize(one, START, name)
    assert result.success, result.message
    assert result.derivatives.kind == "numerical"
    np.testing.assert_allclose(result.params, MINIMUM, atol=1e-4)
    assert result.fun == pytest.approx(RSS, rel=1e-7)


# ---- what does not fit is refused ----------------------------------------------------------------


REFUSED = [
    ("minimize", "scalar", "scipy_ls_trf", "least_squares"),
    ("minimize", "scalar", "optimistix_levenberg_marquardt", "least_squares"),
    ("minimize", "scalar", "bhhh", "likelihood"),
    ("minimize", "likelihood", "scipy_ls_lm", "least_squares"),
    ("maximize", "scalar", "bhhh", "likelihood"),
    ("maximize", "least_squares", "scipy_ls_trf", "cannot be maximized"),
    ("maximize", "least_squares", "scipy_lbfgsb", "cannot be maximized"),
    ("maximize", "least_squares", "bhhh", "cannot be maximized"),
]


@pytest.mark.parametrize(("direction", "mark", "name", "words"), REFUSED)
def test_wrong_combinations_are_refused_before_the_first_call(direction, mark, name, words):
    fun = Counted(residuals_of)
    with pytest.raises(InvalidFunctionError, match=words):
        getattr(om, direction)(MARKS[mark](fun), START, name)
    assert fun.n_calls == 0


@pytest.mark.parametrize("name", ["scipy_ls_trf", "bhhh", "optimistix_dogleg"])
def test_a_criterion_without_mark_is_refused_when_its_value_is_seen(name):
    fun = Counted(lambda x: float(x @ x))
    mark = "om.mark.likelihood" if name == "bhhh" else "om.mark.least_squares"
    with pytest.raises(InvalidFunctionError, match=mark):
        om.minimize(fun, START, name)
    assert fun.n_calls == 1


def test_an_array_without_mark_is_refused_with_the_marks():
    with pytest.raises(InvalidFunctionError, match=r"om\.mark\.least_squares or om\.mark"):
        om.minimize(residuals_of, START, "scipy_lbfgsb")


@pytest.mark.parametrize("name", ALL_SOLVERS)
def test_what_was_refused_once_is_refused_when_it_is_known_to_be_jax(name):
    om.minimize(contributions_jax, START, "scipy_lbfgsb", algo_options={"stopping_maxfun": 2})
    if name in SOLVERS["least_squares"]:
        with pytest.raises(InvalidFunctionError, match="least_squares"):
            om.minimize(contributions_jax, START, name)


def test_levenberg_marquardt_of_minpack_needs_as_many_residuals_as_parameters():
    fun = om.mark.least_squares(lambda x: x[:1] - 1.0)
    with pytest.raises(NotAvailableError, match=r"there are 1 and 2.*scipy_ls_trf"):
        om.minimize(fun, START, "scipy_ls_lm")
    assert om.minimize(fun, START, "scipy_ls_trf").success


# ---- marks ---------------------------------------------------------------------------------------


def _annotated(x) -> om.LeastSquaresFunctionValue:
    return om.LeastSquaresFunctionValue(residuals_of(x))


def _annotated_by_name(x) -> "om.LeastSquaresFunctionValue":
    return om.LeastSquaresFunctionValue(residuals_of(x))


def _typed(x):
    return om.LeastSquaresFunctionValue(residuals_of(x))


def _plain_value(x):
    return om.FunctionValue(residuals_of(x))


class _Model:
    def residuals(self, x):
        return residuals_of(x)


SAID = {
    "decorator": om.mark.least_squares(residuals_of),
    "decorator of a lambda": om.mark.least_squares(lambda x: residuals_of(x)),
    "decorator of a partial": om.mark.least_squares(functools.partial(residuals_of, xp=np)),
    "decorator of a method": om.mark.least_squares(_Model().residuals),
    "decorator of an object": om.mark.least_squares(Counted(residuals_of)),
    "decorator of a compiled function": om.mark.least_squares(jax.jit(residuals_jax)),
    "decorator and value": om.mark.least_squares(_plain_value),
    "decorator and type of value": om.mark.least_squares(_typed),
    "annotation": _annotated,
    "annotation by name": _annotated_by_name,
    "type of value": _typed,
}


@pytest.mark.parametrize("fun", SAID.values(), ids=SAID)
@pytest.mark.parametrize("name", ["scipy_ls_trf", "scipy_lbfgsb"])
def test_a_structure_may_be_said_in_three_ways(fun, name):
    result = om.minimize(fun, START, name)
    assert result.success, result.message
    assert result.fun == pytest.approx(RSS, rel=1e-6)


@pytest.mark.parametrize("annotated", [_annotated, _annotated_by_name])
def test_an_annotation_is_read_before_the_first_call(annotated):
    fun = Counted(annotated)
    wrapped = functools.wraps(annotated)(lambda x: fun(x))
    with pytest.raises(InvalidFunctionError, match="cannot be maximized"):
        om.maximize(wrapped, START, "scipy_lbfgsb")
    assert fun.n_calls == 0


def _says_scalar(x) -> om.ScalarFunctionValue:
    return _typed(x)


CONTRADICTIONS = {
    "decorator": om.mark.scalar(_typed),
    "other decorator": om.mark.likelihood(_typed),
    "annotation": _says_scalar,
}


@pytest.mark.parametrize("fun", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_of_mark_and_value_are_refused(fun):
    with pytest.raises(InvalidFunctionError, match="returned a LeastSquaresFunctionValue"):
        om.minimize(fun, START, "scipy_lbfgsb")


def test_a_mark_leaves_the_function_as_it_was():
    def fun(x):
        """Say what it is."""
        return float(x @ x)

    before = dict(vars(fun))
    marked = om.mark.least_squares(fun)
    assert marked is not fun
    assert vars(fun) == before
    assert (marked.__name__, marked.__doc__) == ("fun", "Say what it is.")
    # so the function alone is still one number
    assert om.minimize(fun, START, "scipy_lbfgsb").success
    with pytest.raises(InvalidFunctionError, match="single number"):
        om.minimize(marked, START, "scipy_lbfgsb")


def test_one_function_may_have_two_marks():
    first, second = om.mark.least_squares(residuals_of), om.mark.likelihood(residuals_of)
    start = residuals_of(START)
    options = {"stopping_maxfun": 1}
    for fun, total in ((first, start @ start), (second, start.sum())):
        result = om.minimize(fun, START, "scipy_lbfgsb", algo_options=options)
        assert result.start_fun == pytest.approx(total)


# ---- trees ---------------------------------------------------------------------------------------

LABELS = [f"obs{i}" for i in range(len(T))]
RESIDUAL_TREES = {
    "list of numbers": lambda r: list(r),
    "tuple of arrays": lambda r: (r[:3], r[3:]),
    "dict, keys not sorted": lambda r: {"z": r[:3], "a": r[3:]},
    "nested": lambda r: {"z": [r[:2], {"y": r[2:3], "b": r[3]}], "a": (r[4:],)},
    "matrix": lambda r: r.reshape(2, 4),
    "Series": lambda r: pd.Series(r, index=LABELS),
    "DataFrame": lambda r: pd.DataFrame({"value": r}, index=LABELS),
    "dict of Series": lambda r: {"z": pd.Series(r[:4]), "a": pd.Series(r[4:])},
    "single precision": lambda r: r.astype(np.float32),
}
PARAM_TREES = {
    "vector": (lambda x: x, lambda p: p),
    "dict": (
        lambda x: {"scale": float(x[0]), "rate": float(x[1])},
        lambda p: np.array([p["scale"], p["rate"]]),
    ),
    "nested": (
        lambda x: {"z": [float(x[0])], "a": np.array([[x[1]]])},
        lambda p: np.array([p["z"][0], p["a"][0, 0]]),
    ),
    "Series": (lambda x: pd.Series(x, index=["scale", "rate"]), lambda p: p.to_numpy()),
    "DataFrame": (lambda x: pd.DataFrame({"value": x}), lambda p: p["value"].to_numpy()),
}


@pytest.mark.parametrize("name", ["scipy_ls_trf", "bhhh", "scipy_lbfgsb"])
@pytest.mark.parametrize("make", RESIDUAL_TREES.values(), ids=RESIDUAL_TREES)
def test_residuals_in_any_tree(make, name):
    result = om.minimize(om.mark.least_squares(lambda x: make(residuals_of(x))), START, name)
    assert result.success, result.message
    np.testing.assert_allclose(result.params, MINIMUM, atol=1e-3)
    assert result.fun == pytest.approx(RSS, rel=1e-5)


JAX_TREES = ["tuple of arrays", "dict, keys not sorted", "nested", "matrix", "list of numbers"]


@pytest.mark.parametrize("name", ["scipy_ls_trf", "optimistix_levenberg_marquardt", "bhhh"])
@pytest.mark.parametrize("kind", JAX_TREES)
def test_residuals_in_any_tree_of_jax(kind, name):
    make = RESIDUAL_TREES[kind]
    fun = om.mark.least_squares(lambda x: make(residuals_of(jnp.asarray(x), jnp)))
    result = om.minimize(fun, START, name)
    assert result.success, result.message
    assert result.derivatives.kind == "exact"
    np.testing.assert_allclose(result.params, MINIMUM, atol=1e-4)


@pytest.mark.parametrize("kind", PARAM_TREES)
@pytest.mark.parametrize("name", ["scipy_ls_trf", "bhhh"])
def test_params_in_any_tree(kind, name):
    to_tree, to_vector = PARAM_TREES[kind]
    fun = om.mark.least_squares(lambda p: residuals_of(to_vector(p)))
    result = om.minimize(fun, to_tree(START), name)
    assert type(result.params) is type(to_tree(START))
    np.testing.assert_allclose(to_vector(result.params), MINIMUM, atol=1e-4)


WRONG_VALUES = {
    "None": (lambda r: None, "returned None"),
    "a number": (lambda r: float(r @ r), "single number"),
    "an array without axis": (lambda r: np.array(r @ r), "single number"),
    "nothing": (lambda r: [], "returned nothing"),
    "text": (lambda r: ["a", "b"], "numbers"),
    "complex numbers": (lambda r: r + 1j, "dtype complex128"),
}


@pytest.mark.parametrize(("make", "words"), WRONG_VALUES.values(), ids=WRONG_VALUES)
@pytest.mark.parametrize("structure", ["least_squares", "likelihood"])
def test_what_are_no_residuals_is_said(make, words, structure):
    fun = MARKS[structure](lambda x: make(residuals_of(x)))
    with pytest.raises(InvalidFunctionError, match=words) as caught:
        om.minimize(fun, START, "scipy_lbfgsb")
    assert f"marked as {structure}" in str(caught.value)


@pytest.mark.parametrize("has_jac", [False, True])
def test_a_frame_of_residuals_needs_a_column_value(has_jac):
    mark = om.mark.least_squares
    fun = mark(lambda x: pd.DataFrame({"u": residuals_of(x), "v": 0.0}))
    jac = mark(jacobian_of) if has_jac else None
    with pytest.raises(InvalidFunctionError, match=r"fun.*'value'"):
        om.minimize(fun, START, "scipy_ls_trf", jac=jac)


@pytest.mark.parametrize("name", ["scipy_ls_trf", "bhhh"])
@pytest.mark.parametrize(("first", "has_jac"), [(2, False), (3, False), (2, True), (3, True)])
def test_a_number_of_residuals_that_changes_is_an_error(name, first, has_jac):
    # without jac these calls belong to a difference quotient
    calls = []

    def fun(x):
        calls.append(1)
        return residuals_of(x)[: -1 if len(calls) >= first else None]

    jac = om.mark.least_squares(jacobian_of) if has_jac else None
    with pytest.raises(InvalidFunctionError, match=r"returned 7 .* 8 at the start"):
        om.minimize(om.mark.least_squares(fun), START, name, jac=jac, error_handling="continue")
    assert len(calls) == first


# ---- what an algorithm sees ----------------------------------------------------------------------


@pytest.fixture
def probe():
    """Register algorithms that only note value and derivative at the start.

    A function of structure and the arguments of minimize; it returns the evaluator, the value and
    the derivative.
    """
    made = []

    def run(structure, fun, params, **arguments):
        seen = {}
        name = f"scipy_probe{len(made)}"

        @algorithm(name, solver_type=structure, needs_jac=True, supports_bounds=True)
        class Probe(Algorithm):
            """Note what it sees."""

            def solve(self, evaluator, x0):
                # the run may begin anew from another point
                seen.setdefault("first", (evaluator, evaluator.fun(x0), evaluator.jac(x0)))
                return Outcome(True, "seen")

        made.append(name)
        om.minimize(fun, params, name, **arguments)
        return seen["first"]

    yield run
    for name in made:
        del REGISTRY[name]


def composed(evaluator, fun):
    """Value and Jacobian of residuals of x, by JAX alone."""

    def function(x):
        leaves, _ = flatten_in_order(fun(evaluator.space.trace(x)))
        return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])

    with jax.enable_x64(True):
        x = jnp.asarray(evaluator.space.x0)
        return np.array(function(x)), np.array(jax.jacobian(function)(x))


def expected_in(structure, value, jacobian):
    """What an algorithm for a structure must see of residuals."""
    if structure == "least_squares":
        return value, jacobian
    if structure == "likelihood":
        return value**2, 2 * value[:, None] * jacobian
    return value @ value, 2 * value @ jacobian


@pytest.mark.parametrize("structure", MARKS)
@pytest.mark.parametrize("how", ["user", "exact", "numerical"])
def test_each_structure_gets_its_own_value_and_derivative(probe, structure, how):
    arguments = {
        "user": {"fun": residuals, "jac": om.mark.least_squares(jacobian_of)},
        "exact": {"fun": residuals_jax},
        "numerical": {"fun": residuals},
    }[how]
    fun = arguments.pop("fun")
    _, value, derivative = probe(structure, fun, START, **arguments)
    expected = expected_in(structure, residuals_of(START), jacobian_of(START))
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    rtol = 1e-6 if how == "numerical" else 1e-12
    np.testing.assert_allclose(derivative, expected[1], rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("method", ["central", "forward"])
@pytest.mark.parametrize("structure", ["least_squares", "likelihood"])
def test_differences_of_vectors(probe, structure, method):
    _, _, derivative = probe(structure, residuals, START, numdiff_options={"method": method})
    _, expected = expected_in(structure, residuals_of(START), jacobian_of(START))
    atol = {"central": 1e-8, "forward": 1e-6}[method]
    np.testing.assert_allclose(derivative, expected, atol=atol)
    # differences, not something better
    assert (derivative != expected).any()


def test_differences_respect_bounds(probe):
    def fun(x):
        assert (x >= START).all()
        return residuals_of(x)

    bounds = om.Bounds(lower=START)
    fun = om.mark.least_squares(fun)
    _, _, derivative = probe("least_squares", fun, START, bounds=bounds)
    np.testing.assert_allclose(derivative, jacobian_of(START), atol=1e-5)


def test_derivatives_numerical_and_exact_are_obeyed():
    numerical = om.minimize(residuals_jax, START, "scipy_ls_trf", derivatives="numerical")
    assert numerical.derivatives.kind == "numerical"
    assert numerical.n_numdiff_evals > 0
    exact = om.minimize(residuals_jax, START, "scipy_ls_trf", derivatives="exact")
    assert exact.derivatives.kind == "exact"
    assert exact.n_numdiff_evals == 0
    np.testing.assert_allclose(numerical.params, exact.params, atol=1e-6)

    @om.mark.least_squares
    def opaque(x):
        return np.array([float(v) for v in residuals_of(x)])

    with pytest.raises(NotAvailableError, match="exact"):
        om.minimize(opaque, START, "scipy_ls_trf", derivatives="exact")


def test_derivatives_exact_traces_residuals_in_numpy_operations():
    fun = om.mark.least_squares(lambda x: (x - 1.0) * np.arange(1.0, 3.0))
    result = om.minimize(fun, START, "scipy_ls_trf", derivatives="exact")
    assert result.derivatives.kind == "exact"
    np.testing.assert_allclose(result.params, 1.0)


# ---- several derivatives -------------------------------------------------------------------------


def _scalar_jac(x):
    return 2 * residuals_of(x) @ jacobian_of(x)


def _likelihood_jac(x):
    return 2 * residuals_of(x)[:, None] * jacobian_of(x)


def jacs():
    """One derivative for each structure, counted."""
    raw = {"scalar": _scalar_jac, "likelihood": _likelihood_jac, "least_squares": jacobian_of}
    return {structure: Counted(function) for structure, function in raw.items()}


USED = [
    ("scipy_lbfgsb", ["scalar", "likelihood", "least_squares"], "scalar"),
    ("scipy_lbfgsb", ["least_squares"], "least_squares"),
    ("scipy_lbfgsb", ["likelihood"], "likelihood"),
    ("bhhh", ["least_squares", "likelihood", "scalar"], "likelihood"),
    ("bhhh", ["least_squares", "scalar"], "least_squares"),
    ("scipy_ls_trf", ["scalar", "likelihood", "least_squares"], "least_squares"),
    ("scipy_ls_trf", ["least_squares"], "least_squares"),
]


@pytest.mark.parametrize(("name", "given", "used"), USED)
@pytest.mark.parametrize("container", [list, tuple])
def test_of_several_derivatives_that_of_the_solver_is_used(name, given, used, container):
    functions = jacs()
    jac = container(MARKS[structure](functions[structure]) for structure in given)
    result = om.minimize(residuals, START, name, jac=jac)
    assert result.success, result.message
    assert result.derivatives.kind == "user"
    assert result.n_numdiff_evals == 0
    np.testing.assert_allclose(result.params, MINIMUM, atol=1e-4)
    for structure, function in functions.items():
        assert (function.n_calls > 0) == (structure == used)


@pytest.mark.parametrize(("name", "given", "used"), USED)
def test_of_several_fun_and_jac_that_of_the_solver_is_used(name, given, used):
    functions = jacs()

    def joint(structure):
        def fun_and_jac(x):
            r = residuals_of(x)
            value = {"scalar": r @ r, "likelihood": r**2, "least_squares": r}[structure]
            return value, functions[structure](x)

        return MARKS[structure](fun_and_jac)

    result = om.minimize(residuals, START, name, fun_and_jac=[joint(s) for s in given])
    assert result.success, result.message
    np.testing.assert_allclose(result.params, MINIMUM, atol=1e-4)
    assert result.fun == pytest.approx(RSS, rel=1e-7)
    for structure, function in functions.items():
        assert (function.n_calls > 0) == (structure == used)


@pytest.mark.parametrize("name", ["scipy_lbfgsb", "bhhh", "scipy_ls_trf"])
def test_jac_true_with_a_mark(name):
    fun = om.mark.least_squares(lambda x: (residuals_of(x), jacobian_of(x)))
    result = om.minimize(fun, START, name, jac=True)
    assert result.derivatives.kind == "user"
    assert result.n_numdiff_evals == 0
    np.testing.assert_allclose(result.params, MINIMUM, atol=1e-4)


def test_fun_and_jac_alone_with_a_mark():
    fun = om.mark.least_squares(lambda x: (residuals_of(x), jacobian_of(x)))
    result = om.minimize(None, START, "scipy_ls_trf", fun_and_jac=fun)
    np.testing.assert_allclose(result.params, MINIMUM, atol=1e-6)


def test_the_same_number_of_calls_as_evaluations():
    fun, jac = Counted(residuals_of), Counted(jacobian_of)
    mark = om.mark.least_squares
    result = om.minimize(mark(fun), START, "scipy_ls_trf", jac=mark(jac))
    assert fun.n_calls == result.n_fun_evals
    assert jac.n_calls == result.n_jac_evals


# ---- derivatives that do not fit -----------------------------------------------------------------

LS, LL = om.mark.least_squares, om.mark.likelihood
MISFITS = {
    "no mark, but residuals are needed": (
        "scipy_ls_trf", _scalar_jac, r"needs derivatives of residuals.*om\.mark\.least_squares",
    ),
    "none of several fits": (
        "scipy_ls_trf", [LL(_likelihood_jac), _scalar_jac], "needs derivatives of residuals",
    ),
    "two of one kind": (
        "scipy_ls_trf", [LS(jacobian_of), LS(_likelihood_jac)], "Two functions of jac",
    ),
    "a row too few": ("scipy_ls_trf", LS(lambda x: jacobian_of(x)[1:]), "shape"),
    "a column too many": (
        "scipy_ls_trf", LS(lambda x: np.ones((len(T), 3))), "shape",
    ),
    "transposed": ("scipy_ls_trf", LS(lambda x: jacobian_of(x).T), "shape"),
    "a gradient instead": ("scipy_ls_trf", LS(_scalar_jac), "shape"),
    "a Jacobian instead of a gradient": ("scipy_lbfgsb", jacobian_of, "shape"),
    "nothing": ("scipy_ls_trf", LS(lambda x: None), "jac"),
    "no function": ("scipy_ls_trf", [LS(jacobian_of), 3], "must be a function"),
    "an empty list": ("scipy_ls_trf", [], "jac"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "jac", "words"), MISFITS.values(), ids=MISFITS)
def test_derivatives_that_do_not_fit_are_errors(name, jac, words):
    with pytest.raises(InvalidFunctionError, match=words):
        om.minimize(residuals, START, name, jac=jac)


@pytest.mark.parametrize("structure", ["likelihood", "least_squares"])
@pytest.mark.parametrize("argument", ["jac", "fun_and_jac"])
def test_a_derivative_of_a_structure_that_fun_has_not_is_refused_before_the_first_call(
    structure, argument
):
    fun = Counted(lambda x: float(x @ x))
    derivative = MARKS[structure](lambda x: x)
    with pytest.raises(InvalidFunctionError, match=f"{argument} is marked as {structure}"):
        om.minimize(om.mark.scalar(fun), START, "scipy_lbfgsb", **{argument: derivative})
    assert fun.n_calls == 0


# ---- Jacobians in any tree -----------------------------------------------------------------------

TREE = {"b": 1.0, "a": np.array([-0.3, 0.2])}
SORTED_TREE = {"a": np.array([-0.3, 0.2]), "b": 1.0}


def tree_of_residuals(params, keys=("z", "m")):
    """Five residuals in two arrays of a dict."""
    t = jnp.linspace(0.0, 1.0, 3)
    curve = params["b"] * jnp.exp(params["a"][0] * t) + params["a"][1] ** 2
    ridge = jnp.stack([params["a"][0] * params["b"], jnp.sin(params["a"][1])])
    found = {"z": curve, "m": ridge}
    return {key: found[key] for key in keys}


def sorted_tree_of_residuals(params):
    return tree_of_residuals(params, ("m", "z"))


def _exact_jacobian(fun):
    def jac(params):
        with jax.enable_x64(True):
            return jax.jacobian(fun)(params)

    return jac


def _as_numpy(jacobian):
    return jax.tree.map(np.asarray, jacobian)


def _as_matrix(jacobian):
    """The matrix in the order of sorted keys."""
    rows = [
        np.column_stack([np.asarray(block[key]) for key in ("a", "b")])
        for block in (jacobian["m"], jacobian["z"])
    ]
    return np.concatenate(rows)


def _reordered(jacobian):
    return {key: {k: np.asarray(jacobian[key][k]) for k in ("b", "a")} for key in ("z", "m")}


# what the user's jac returns, by what JAX gives
SHAPES = {
    "as jax.jacobian": lambda jacobian: jacobian,
    "in NumPy": _as_numpy,
    "keys in the order of fun and params": _reordered,
}


@pytest.mark.parametrize("structure", MARKS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("params", [TREE, SORTED_TREE], ids=["unsorted", "sorted"])
@pytest.mark.parametrize("fun", [tree_of_residuals, sorted_tree_of_residuals])
def test_user_jacobians_as_trees(probe, structure, shape, params, fun):
    jac = om.mark.least_squares(lambda p: shape(_exact_jacobian(fun)(p)))
    evaluator, value, derivative = probe(structure, om.mark.least_squares(fun), params, jac=jac)
    expected = expected_in(structure, *composed(evaluator, fun))
    np.testing.assert_allclose(value, expected[0], rtol=1e-12)
    np.testing.assert_allclose(derivative, expected[1], rtol=1e-12, atol=1e-15)


def test_user_jacobians_as_matrix_where_keys_are_sorted(probe):
    fun = sorted_tree_of_residuals
    jac = om.mark.least_squares(lambda p: _as_matrix(_exact_jacobian(fun)(p)))
    mark = om.mark.least_squares
    evaluator, _, derivative = probe("least_squares", mark(fun), SORTED_TREE, jac=jac)
    np.testing.assert_allclose(derivative, composed(evaluator, fun)[1], rtol=1e-12)


@pytest.mark.parametrize(
    ("fun", "params"),
    [(tree_of_residuals, SORTED_TREE), (sorted_tree_of_residuals, TREE)],
    ids=["residuals", "params"],
)
def test_a_matrix_is_ambiguous_where_keys_are_not_sorted(fun, params):
    jac = om.mark.least_squares(lambda p: _as_matrix(_exact_jacobian(fun)(p)))
    with pytest.raises(InvalidFunctionError, match="order is ambiguous"):
        om.minimize(om.mark.least_squares(fun), params, "scipy_ls_trf", jac=jac)


@pytest.mark.parametrize("kind", ["Series", "DataFrame"])
@pytest.mark.parametrize("is_shuffled", [False, True])
def test_user_jacobians_with_labels(probe, kind, is_shuffled):
    to_tree, to_vector = PARAM_TREES["Series"]
    make = RESIDUAL_TREES[kind]

    def jac(params):
        frame = pd.DataFrame(jacobian_of(to_vector(params)), index=LABELS, columns=params.index)
        # rows and columns are found by their labels
        return frame.iloc[::-1, ::-1] if is_shuffled else frame

    mark = om.mark.least_squares
    fun = mark(lambda p: make(residuals_of(to_vector(p))))
    _, _, derivative = probe("least_squares", fun, to_tree(START), jac=mark(jac))
    np.testing.assert_array_equal(derivative, jacobian_of(START))


MISSHAPEN = {
    "a key of the residuals is missing": lambda j: {"z": j["z"]},
    "a key of the params is missing": lambda j: {**j, "m": {"a": j["m"]["a"]}},
    "a key too many": lambda j: {**j, "q": j["m"]},
    "a block is too short": lambda j: {**j, "z": {**j["z"], "a": j["z"]["a"][1:]}},
    "no tree": lambda j: 3.0,
}


@pytest.mark.parametrize("spoil", MISSHAPEN.values(), ids=MISSHAPEN)
def test_misshapen_trees_of_derivatives_are_errors(spoil):
    mark = om.mark.least_squares
    jac = mark(lambda p: spoil(_exact_jacobian(tree_of_residuals)(p)))
    with pytest.raises(InvalidFunctionError, match="jac"):
        om.minimize(mark(tree_of_residuals), TREE, "scipy_ls_trf", jac=jac)


# ---- through constraints and scaling -------------------------------------------------------------

N_FLAT = 5
FLAT_START = np.array([0.2, 0.3, 0.5, 1.5, 1.5])


def flat_residuals(x):
    t = jnp.linspace(0.1, 1.0, 7)
    return x[0] * jnp.exp(x[1] * t) + x[2] ** 2 - x[3] * jnp.sin(x[4] * t) - 0.3


SPACES = {
    "fixed": {"constraints": om.FixedConstraint(lambda x: x[[1, 3]])},
    "equality": {"constraints": om.EqualityConstraint(lambda x: x[3:])},
    "simplex": {"constraints": om.ProbabilityConstraint(lambda x: x[:3])},
    "simplex and fixed": {
        "constraints": [
            om.ProbabilityConstraint(lambda x: x[:3]), om.FixedConstraint(lambda x: x[3]),
        ]
    },
    "increasing": {"constraints": om.IncreasingConstraint(lambda x: x[:3])},
    "bounds by transformation": {
        "bounds": om.Bounds(lower=np.zeros(5), upper=np.full(5, 2.0)), "bounds_as": "transform",
    },
    "scaling": {"scaling": True},
    "all": {
        "constraints": [
            om.ProbabilityConstraint(lambda x: x[:3]), om.EqualityConstraint(lambda x: x[3:]),
        ],
        "scaling": om.ScalingOptions(method="start_values", clipping_value=0.1),
    },
}  # fmt: skip


# each way with each space and each structure, and half of all three together
WAYS = [
    pytest.param(SPACES[space], structure, how, id=f"{how}-{structure}-{space}")
    for i, space in enumerate(SPACES)
    for j, structure in enumerate(MARKS)
    for k, how in enumerate(["user", "exact", "numerical"])
    if (i + j + k) % 2 == 0
]


@pytest.mark.parametrize(("arguments", "structure", "how"), WAYS)
def test_derivatives_through_constraints(probe, arguments, structure, how):
    mark = om.mark.least_squares
    more = {
        "user": {"jac": mark(_exact_jacobian(flat_residuals))},
        "exact": {},
        "numerical": {"derivatives": "numerical"},
    }[how]
    found = probe(structure, mark(flat_residuals), FLAT_START, **arguments, **more)
    evaluator, value, derivative = found
    expected = expected_in(structure, *composed(evaluator, flat_residuals))
    np.testing.assert_allclose(value, expected[0], rtol=1e-10, atol=1e-12)
    atol = 1e-6 if how == "numerical" else 1e-12
    np.testing.assert_allclose(derivative, expected[1], rtol=0, atol=atol)


# ---- compiled once -------------------------------------------------------------------------------


@om.mark.least_squares
def least_squares_of_data(x, y):
    return y - x[0] * jnp.exp(x[1] * T)


@om.mark.likelihood
def likelihood_of_data(x, y):
    return 0.5 * (y - x[0] * jnp.exp(x[1] * T)) ** 2


@pytest.mark.parametrize(
    ("name", "fun"),
    [
        ("scipy_ls_trf", least_squares_of_data),
        ("optimistix_levenberg_marquardt", least_squares_of_data),
        ("bhhh", least_squares_of_data),
        ("bhhh", likelihood_of_data),
        ("scipy_lbfgsb", least_squares_of_data),
    ],
)
def test_second_runs_compile_nothing(name, fun):
    first = om.minimize(fun, START, name, fun_kwargs={"y": Y})
    np.testing.assert_allclose(first.params, MINIMUM, atol=1e-3)
    other = np.array([1.2, -0.5])
    with count_compilations() as counter:
        again = om.minimize(fun, START, name, fun_kwargs={"y": Y})
        # new data: a curve without noise
        new = om.minimize(fun, START + 0.1, name, fun_kwargs={"y": other[0] * np.exp(other[1] * T)})
    assert counter[0] == 0
    np.testing.assert_array_equal(again.params, first.params)
    np.testing.assert_allclose(new.params, other, atol=1e-3)


@pytest.mark.parametrize("name", ["scipy_ls_trf", "optimistix_levenberg_marquardt", "bhhh"])
def test_fresh_but_equal_closures_compile_nothing(name):
    def run(y):
        fun = om.mark.least_squares(lambda x: y - x[0] * jnp.exp(x[1] * T))
        return om.minimize(fun, START, name).params

    run(Y)
    with count_compilations() as counter:
        found = run(Y + 0.01)
    assert counter[0] == 0
    assert (found != run(Y)).any()


# ---- info ----------------------------------------------------------------------------------------


def _value_with_info(x, xp):
    r = residuals_of(xp.asarray(x), xp)
    info = {
        "worst": abs(r).max(),
        "fitted": Y - r,
        "counts": xp.asarray([1, 2]),
        "text": "a string",
        "whole": 7,
        "nested": {"flag": True, "pair": [1.5, None]},
    }
    return om.LeastSquaresFunctionValue(r, info=info)


def with_info(x):
    return _value_with_info(x, np)


def with_info_jax(x):
    return _value_with_info(x, jnp)


def assert_info(history):
    assert len(history.info) == len(history.fun)
    for info, x in zip(history.info, history.flat_params, strict=True):
        r = residuals_of(x)
        assert info["worst"] == pytest.approx(abs(r).max(), rel=1e-12)
        assert isinstance(info["fitted"], list)
        np.testing.assert_allclose(info["fitted"], Y - r, rtol=1e-12)
        assert info["counts"] == [1, 2]
        assert all(isinstance(number, int) for number in info["counts"])
        assert (info["text"], info["whole"]) == ("a string", 7)
        assert info["nested"] == {"flag": True, "pair": [1.5, None]}


@pytest.mark.parametrize("name", ALL_SOLVERS)
@pytest.mark.parametrize("fun", [with_info, with_info_jax])
def test_info_is_kept_in_history_log_and_pickle(name, fun, tmp_path):
    if fun is with_info and REGISTRY[name].algo_info.needs_program:
        with pytest.raises(NotAvailableError, match=r"jax\.numpy"):
            om.minimize(fun, START, name)
        return
    log, pickled = tmp_path / "run.db", tmp_path / "result.pkl"
    options = {"stopping_maxfun": 20}
    result = om.minimize(fun, START, name, logging=log, algo_options=options)
    assert_info(result.history)
    reader = om.SQLiteLogReader(log)
    assert_info(reader.read_history())
    assert reader.read_history().info == result.history.info
    frame = reader.to_frame()
    rows = frame[frame["kind"].isin(["start", "path"])]
    assert rows["info"].tolist() == result.history.info
    result.to_pickle(pickled)
    assert pickle.loads(pickled.read_bytes()).history.info == result.history.info


@pytest.mark.parametrize("name", ["scipy_ls_trf", "optimistix_levenberg_marquardt", "scipy_lbfgsb"])
def test_info_compiles_nothing_the_second_time(name):
    options = {"stopping_maxfun": 5}
    om.minimize(with_info_jax, START, name, algo_options=options)
    with count_compilations() as counter:
        result = om.minimize(with_info_jax, START, name, algo_options=options)
    assert counter[0] == 0
    assert_info(result.history)


def test_info_comes_with_every_kind_of_value():
    for cls, expected in (
        (om.FunctionValue, 5.0), (om.ScalarFunctionValue, 5.0),
        (om.LikelihoodFunctionValue, 5.0),
    ):  # fmt: skip

        def fun(x, cls=cls):
            parts = x**2
            value = parts if cls is om.LikelihoodFunctionValue else parts.sum()
            return cls(value, info={"parts": parts})

        result = om.minimize(fun, np.array([1.0, 2.0]), "scipy_lbfgsb")
        assert result.start_fun == expected
        assert result.history.info[0] == {"parts": [1.0, 4.0]}


def test_info_of_fun_and_jac_is_kept():
    fun = om.mark.least_squares(lambda x: (_value_with_info(x, np), jacobian_of(x)))
    assert_info(om.minimize(fun, START, "scipy_ls_trf", jac=True).history)


def test_info_takes_no_further_calls():
    fun = Counted(with_info)
    result = om.minimize(fun, START, "scipy_ls_trf")
    assert fun.n_calls == result.n_fun_evals + result.n_numdiff_evals


def test_without_info_there_is_none(tmp_path):
    log = tmp_path / "run.db"
    result = om.minimize(residuals_jax, START, "scipy_ls_trf", logging=log)
    assert set(result.history.info) == {None}
    assert om.SQLiteLogReader(log).to_frame()["info"].isna().all()


def test_an_info_that_is_sometimes_missing():
    def fun(x):
        info = {"x": x} if x[0] > START[0] else None
        return om.LeastSquaresFunctionValue(residuals_of(x), info=info)

    result = om.minimize(fun, START, "scipy_ls_trf")
    # nothing at the start means that nothing is kept
    assert result.success


# ---- digits --------------------------------------------------------------------------------------


# digits of the worst parameter; certified values have 11
DIGITS = {"Misra1a": 10, "Hahn1": 10, "Kirby2": 10, "Thurber": 8}


@pytest.mark.parametrize("problem", DIGITS)
@pytest.mark.parametrize("name", ["scipy_ls_trf", "scipy_ls_lm", "optimistix_levenberg_marquardt"])
def test_least_squares_end_with_nearly_all_digits(name, problem):
    nist = load_nist(problem)
    fun = om.mark.least_squares(nist.residuals)
    result = om.minimize(fun, nist.start2, name, fun_kwargs=nist.data)
    assert result.success, result.message
    assert nist.digits(result.params) >= DIGITS[problem]
    assert result.fun == pytest.approx(nist.rss, rel=1e-9)
    # the point that is returned was evaluated, and its value belongs to it
    points = result.history.flat_params
    at = np.flatnonzero((points == np.array(list(result.params.values()))).all(axis=1))
    assert result.fun in np.array(result.history.fun)[at]


def test_refinement_respects_bounds_and_limits():
    bounds = om.Bounds(lower=np.array([-np.inf, -0.5]))
    result = om.minimize(residuals_jax, START, "scipy_ls_trf", bounds=bounds)
    assert result.success, result.message
    assert (result.history.flat_params[:, 1] >= -0.5).all()
    # one parameter is left: a linear regression
    column = np.exp(-0.5 * T)
    expected = column @ Y / (column @ column)
    np.testing.assert_allclose(result.params, [expected, -0.5], rtol=1e-11)
    free = om.minimize(residuals_jax, START, "scipy_ls_trf")
    for limit in range(1, free.n_fun_evals):
        options = {"stopping_maxfun": limit}
        stopped = om.minimize(residuals_jax, START, "scipy_ls_trf", algo_options=options)
        assert stopped.n_fun_evals <= limit


# ---- bhhh ----------------------------------------------------------------------------------------

RNG = np.random.default_rng(20)
X = np.column_stack([np.ones(400), RNG.normal(size=(400, 2))])
TRUTH = np.array([0.3, -1.0, 0.7])
CHOICE = (RNG.random(400) < 1 / (1 + np.exp(-X @ TRUTH))).astype(float)


@om.mark.likelihood
def logit(beta):
    index = X @ beta
    return CHOICE * index - jnp.logaddexp(0.0, index)


def logit_scores(beta):
    return X * (CHOICE - 1 / (1 + np.exp(-X @ beta)))[:, None]


def _logit_maximum():
    """By Newton's method, independently."""
    beta = np.zeros(3)
    for _ in range(20):
        p = 1 / (1 + np.exp(-X @ beta))
        beta = beta + np.linalg.solve((X.T * (p * (1 - p))) @ X, X.T @ (CHOICE - p))
    return beta


LOGIT_MAXIMUM = _logit_maximum()
# a run ends where less than 2e-9 |f| is to be gained; f is about 200, its second derivatives 50
ATOL = 3e-4


def test_bhhh_solves_a_logit_in_few_iterations():
    result = om.maximize(logit, np.zeros(3), "bhhh")
    assert result.success, result.message
    np.testing.assert_allclose(result.params, LOGIT_MAXIMUM, atol=ATOL)
    assert result.n_iterations <= 10
    assert result.n_fun_evals <= 12
    np.testing.assert_allclose(logit_scores(result.params).sum(axis=0), 0, atol=1e-3)


def test_bhhh_stays_at_an_optimum():
    result = om.maximize(logit, LOGIT_MAXIMUM, "bhhh")
    assert result.success, result.message
    assert result.n_fun_evals <= 2
    np.testing.assert_allclose(result.params, LOGIT_MAXIMUM, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1e-6, 1e-3, 0.3, 3.0])
def test_bhhh_never_gets_worse(seed, size):
    start = LOGIT_MAXIMUM + size * np.random.default_rng(seed).normal(size=3)
    result = om.maximize(logit, start, "bhhh")
    assert result.success, result.message
    assert result.fun >= result.start_fun
    np.testing.assert_allclose(result.params, LOGIT_MAXIMUM, atol=ATOL)


def test_bhhh_comes_from_far_away():
    start = np.array([10.0, 10.0, -10.0])
    result = om.maximize(logit, start, "bhhh")
    assert result.success, result.message
    np.testing.assert_allclose(result.params, LOGIT_MAXIMUM, atol=ATOL)


def test_bhhh_cannot_walk_uphill():
    # the outer product of the scores says nothing about the curvature of this one, whose minimum
    # is flat: full steps would oscillate for ever
    fun = om.mark.likelihood(lambda x: jnp.stack([(x[0] - 1) ** 4, (x[0] + 1) ** 4 / 10]))
    accepted = []
    result = om.minimize(fun, np.array([3.0]), "bhhh", callback=lambda s: accepted.append(s))
    assert result.success, result.message
    # 4 (x - 1)^3 + 4 / 10 (x + 1)^3 = 0, so (1 - x) / (1 + x) is the third root of 1 / 10
    ratio = 0.1 ** (1 / 3)
    np.testing.assert_allclose(result.params, (1 - ratio) / (1 + ratio), atol=1e-3)
    best = [state.best_fun for state in accepted]
    assert (np.diff(best) <= 0).all()


def test_bhhh_keeps_bounds_by_projection():
    bounds = om.Bounds(lower=np.array([-np.inf, -0.5, -np.inf]), upper=np.array([0.1, 5.0, np.inf]))
    result = om.maximize(logit, np.zeros(3), "bhhh", bounds=bounds)
    assert result.success, result.message
    points = result.history.flat_params
    assert (points[:, 1] >= -0.5).all()
    assert (points[:, 0] <= 0.1).all()
    reference = om.maximize(logit, np.zeros(3), "scipy_lbfgsb", bounds=bounds)
    np.testing.assert_allclose(result.params, reference.params, atol=1e-4)
    assert result.params[1] == -0.5
    # the score pushes against the bound that holds
    assert logit_scores(result.params).sum(axis=0)[1] < 0


def test_bhhh_with_all_parameters_at_bounds():
    result = om.maximize(logit, np.zeros(3), "bhhh", bounds=om.Bounds(np.zeros(3), np.zeros(3)))
    assert result.success, result.message
    np.testing.assert_array_equal(result.params, np.zeros(3))


def test_bhhh_with_a_parameter_without_influence():
    fun = om.mark.likelihood(lambda beta: logit(beta[:3]) + 0.0 * beta[3])
    result = om.maximize(fun, np.array([0.0, 0.0, 0.0, 5.0]), "bhhh")
    assert result.success, result.message
    np.testing.assert_allclose(result.params[:3], LOGIT_MAXIMUM, atol=ATOL)
    assert result.params[3] == 5.0


def test_bhhh_with_two_parameters_of_which_only_the_sum_counts():
    fun = om.mark.likelihood(lambda beta: logit(jnp.stack([beta[0] + beta[3], beta[1], beta[2]])))
    result = om.maximize(fun, np.zeros(4), "bhhh")
    assert result.success, result.message
    found = result.params[:3] + np.array([result.params[3], 0.0, 0.0])
    np.testing.assert_allclose(found, LOGIT_MAXIMUM, atol=ATOL)


def test_bhhh_with_parameters_of_very_different_size():
    units = np.array([1e-6, 1.0, 1e5])
    fun = om.mark.likelihood(lambda beta: logit(beta * units))
    result = om.maximize(fun, np.zeros(3), "bhhh")
    assert result.success, result.message
    np.testing.assert_allclose(result.params * units, LOGIT_MAXIMUM, rtol=1e-4)


def test_bhhh_on_a_misspecified_likelihood():
    # a normal distribution with variance 1 for data with heavy tails and another variance: the
    # outer product is far from the Hessian, the maximum is the mean all the same
    y = 3 * np.random.default_rng(0).standard_t(2, size=200)
    fun = om.mark.likelihood(lambda x: -0.5 * (y - x[0]) ** 2)
    options = {"convergence_ftol_rel": 0.0}
    result = om.maximize(fun, np.array([50.0]), "bhhh", algo_options=options)
    assert result.success, result.message
    np.testing.assert_allclose(result.params, y.mean(), atol=1e-6)


def test_bhhh_agrees_with_a_users_scores():
    exact = om.maximize(logit, np.zeros(3), "bhhh")
    scores = om.mark.likelihood(logit_scores)
    given = om.maximize(logit, np.zeros(3), "bhhh", jac=scores)
    assert given.derivatives.kind == "user"
    np.testing.assert_allclose(given.params, exact.params, rtol=1e-9)
    assert given.n_fun_evals == exact.n_fun_evals


# ---- what must not pass silently -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda x: [x[0], None], "None among them"),
        (lambda x: {"a": x, "b": None}, "None among them"),
        (lambda x: np.ma.masked_array(x, [True] + [False] * (len(x) - 1)), "masked array"),
        (lambda x: {"root_contributions": x, "value": x @ x}, "stands in 'root_contributions'"),
        (lambda x: (v for v in x), "not an iterator"),
        (lambda x: pd.DataFrame({"u": x, "v": x}), "without a column 'value'"),
    ],
)
@pytest.mark.parametrize("name", ["scipy_ls_trf", "scipy_neldermead"])
def test_what_is_no_list_of_residuals_is_refused(returned, message, name):
    with pytest.raises(InvalidFunctionError, match=message):
        om.minimize(om.mark.least_squares(returned), np.array([3.0, 2.0]), name)


def test_a_frame_of_residuals_means_its_column_value():
    def residuals(x):
        return pd.DataFrame({"value": x - 1, "weight": 7.0})

    result = om.minimize(om.mark.least_squares(residuals), np.array([3.0, 2.0]), "scipy_ls_lm")
    np.testing.assert_allclose(result.params, 1, atol=1e-6)
    assert result.start_fun == 5


@pytest.mark.parametrize("name", ["scipy_ls_trf", "scipy_neldermead", "bhhh"])
def test_another_number_of_residuals_is_no_criterion(name):
    def grows(x):
        return x if x[0] == 2.6 else np.append(x, 0.0)

    start = np.array([2.6, 2.2])
    with pytest.raises(InvalidFunctionError, match=r"fun returned 3 .*, and 2 at the start"):
        om.minimize(om.mark.least_squares(grows), start, name)


def test_residuals_are_aligned_by_key_with_the_first_ones():
    calls = []

    def shuffled(x):
        calls.append(x)
        pairs = [("a", x[0] - 1), ("b", 3 * (x[1] + 2))]
        return {key: np.array([value]) for key, value in pairs[:: (-1) ** len(calls)]}

    jac = om.mark.least_squares(lambda x: {"a": np.array([[1.0, 0]]), "b": np.array([[0.0, 3]])})
    result = om.minimize(om.mark.least_squares(shuffled), np.zeros(2), "scipy_ls_trf", jac=jac)
    np.testing.assert_allclose(result.params, [1, -2], atol=1e-8)


def test_keys_that_change_are_refused():
    calls = []

    def renames(x):
        calls.append(x)
        return {f"a{len(calls)}": x}

    with pytest.raises(InvalidFunctionError, match="not built as at the start"):
        om.minimize(om.mark.least_squares(renames), np.ones(2), "scipy_ls_trf")


def test_fun_and_jac_must_agree_with_fun():
    def fun(x):
        return x - np.array([1.0, 2.0, 3.0])

    mark = om.mark.least_squares
    other = mark(lambda x: (fun(x) + 1, np.eye(3)))
    with pytest.warns(UserWarning, match="two values at the start, 14 and 5"):
        om.minimize(mark(fun), np.zeros(3), "scipy_ls_trf", fun_and_jac=other)
    fewer = mark(lambda x: (fun(x)[:2], np.eye(3)[:2]))
    with pytest.raises(InvalidFunctionError, match=r"shape \(2, 3\), not \(3, 3\)"):
        om.minimize(mark(fun), np.zeros(3), "scipy_ls_trf", fun_and_jac=fewer)


def test_a_partial_keeps_the_mark():
    @om.mark.least_squares
    def residuals(x, data):
        return x - data

    bound = functools.partial(residuals, data=np.array([1.0, 2.0]))
    result = om.minimize(bound, np.zeros(2), "scipy_ls_trf")
    np.testing.assert_allclose(result.params, [1, 2])


def test_only_functions_can_be_marked():
    with pytest.raises(InvalidFunctionError, match="Only functions can be marked"):
        om.mark.least_squares(3)


def test_a_transposed_jacobian_is_refused_before_the_solver_gets_it():
    matrix = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]])
    fun = om.mark.least_squares(lambda x: matrix @ x - 1)
    jac = om.mark.least_squares(lambda x: matrix.T)
    with pytest.raises(InvalidFunctionError, match=r"shape \(2, 3\), not \(3, 2\)"):
        om.minimize(fun, np.zeros(2), "scipy_ls_trf", jac=jac)


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 1.0, 1e6])
@pytest.mark.parametrize("name", ["scipy_ls_trf", "scipy_ls_dogbox", "scipy_ls_lm"])
def test_the_unit_of_the_residuals_does_not_matter(name, unit):
    time = np.linspace(0, 3, 20)
    observed = unit * (2.5 * np.exp(-1.3 * time) + 0.01 * np.cos(17 * np.arange(20)))

    @om.mark.least_squares
    def residuals(p):
        return p["a"] * jnp.exp(-p["k"] * time) - observed

    result = om.minimize(residuals, {"a": unit, "k": 1.0}, name)
    assert result.success
    other = om.minimize(
        om.mark.least_squares(lambda p: residuals({"a": unit * p["a"], "k": p["k"]}) / unit),
        {"a": 1.0, "k": 1.0},
        "scipy_ls_lm",
    )
    np.testing.assert_allclose(
        [result.params["a"] / unit, result.params["k"]], list(other.params.values()), rtol=1e-6
    )


def test_no_success_while_the_linear_model_promises_more():
    # a plateau on which the value hardly changes, far from the certified solution
    problem = load_nist("MGH17")
    result = om.minimize(
        om.mark.least_squares(problem.residuals),
        problem.start1,
        "optimistix_levenberg_marquardt",
        fun_kwargs=problem.data,
    )
    assert not result.success or problem.digits(result.params) > 6


def test_a_start_on_bounds_from_which_the_criterion_falls_inside_is_left():
    matrix = np.array([[0.346, 0.822], [0.330, -1.303], [0.905, 0.446], [-0.537, 0.581]])
    y = np.array([0.870, 1.462, 1.057, 0.786])

    @om.mark.least_squares
    def residuals(x):
        return jnp.exp(matrix @ x / 3) - y

    bounds = om.Bounds(np.array([-np.inf, -0.1]), np.array([0.1, 0.0]))
    result = om.minimize(residuals, np.zeros(2), "scipy_ls_trf", bounds=bounds)
    expected = om.minimize(residuals, np.array([0.0, -0.05]), "scipy_lbfgsb", bounds=bounds)
    assert result.success
    assert result.fun == pytest.approx(expected.fun, rel=1e-6)

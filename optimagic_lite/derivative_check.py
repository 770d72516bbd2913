"""Tell the user which entries of a derivative are wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.derivative_report import COLUMNS, DerivativeCheck, check_matrix
from optimagic_lite.differentiation import read_place
from optimagic_lite.exceptions import (
    InvalidFunctionError,
    InvalidKwargsError,
    MissingInputError,
    UserFunctionRuntimeError,
)
from optimagic_lite.mark import Structure, structure_of
from optimagic_lite.objective.comparison import ArrayFunction, gradients_by_differences
from optimagic_lite.objective.exact import ExactFunctions, ExactVectors
from optimagic_lite.objective.kinds import Kind, plain_value, structure_of_value
from optimagic_lite.objective.outputs import output_tree, trace_vector
from optimagic_lite.objective.tracing import NotTraceableError, trace
from optimagic_lite.objective.written import both_of, is_jax
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import ParamTree

if TYPE_CHECKING:
    from optimagic_lite.options import Bounds

Array = NDArray[np.float64]


def check_derivatives(
    fun: Callable[..., Any],
    params: Any,
    *,
    jac: Callable[..., Any] | None = None,
    hess: Callable[..., Any] | None = None,
    fun_and_jac: Callable[..., Any] | None = None,
    bounds: Bounds | Any | None = None,
    fun_kwargs: Mapping[str, Any] | None = None,
    jac_kwargs: Mapping[str, Any] | None = None,
    fun_and_jac_kwargs: Mapping[str, Any] | None = None,
    rtol: float = 1e-5,
    show: bool = True,
) -> DerivativeCheck:
    """Compare derivatives with differences of adaptive step, and say which entries are wrong.

    First derivatives are compared with differences of ``fun``, about 13 evaluations a parameter.
    Second derivatives are compared with differences of a first derivative that turned out to be
    correct, or else with differences of differences, about ``200 n_params**2`` evaluations.

    An entry counts as wrong only where differences can tell. At kinks, and where the function is
    noisy or not finite, it is reported as unsure. Differences and error estimates:
    ``scipy.differentiate.jacobian``.

    Args:
        fun: Called as ``fun(params, **fun_kwargs)``; returns a number, or a vector or tree of
            numbers. If it is marked as a likelihood or as least squares, derivatives without the
            same mark are those of its sum, or of its sum of squares, as in ``minimize``.
        params: Where. Choose generic numbers: at a stationary point, or with many zeros, mistakes
            are harder to see.
        jac: Called as ``jac(params, **jac_kwargs)``; the first derivative. If neither it nor
            ``fun_and_jac`` is given and fun is written in JAX, JAX's derivative is checked.
        hess: Called as ``hess(params, **fun_kwargs)``; the second derivative of a number. If it
            is not given and fun is written in JAX, JAX's is checked.
        fun_and_jac: Called as ``fun_and_jac(params, **fun_and_jac_kwargs)``; its value is
            compared with that of fun.
        bounds: Differences stay inside.
        fun_kwargs: Further arguments of fun and hess.
        jac_kwargs: Further arguments of jac.
        fun_and_jac_kwargs: Further arguments of fun_and_jac.
        rtol: Relative difference that counts as correct; default 1e-5.
        show: Whether to print what is returned.

    Returns:
        A ``DerivativeCheck``.

    Raises:
        MissingInputError: If there is nothing to check.
        InvalidFunctionError: If a derivative has the wrong shape or structure.
        UserFunctionRuntimeError: If a function raises at params.

    Example:
        >>> def fun(params):
        ...     return params["a"] ** 2 + 3 * params["b"]
        >>> def jac(params):
        ...     return {"a": 2 * params["a"], "b": -3.0}
        >>> check = check_derivatives(fun, {"a": 2.0, "b": 1.0}, jac=jac)
        jac: 2 entries, 1 wrong
        <BLANKLINE>
        derivative output params  given  difference        error verdict
               jac             b   -3.0         3.0 ... wrong
    """
    functions = {"fun": fun, "jac": jac, "fun_and_jac": fun_and_jac, "hess": hess}
    for name, function in functions.items():
        if not callable(function) and not (function is None and name != "fun"):
            raise InvalidFunctionError(f"{name} must be a function, not {function!r}.")
    kwargs = {
        "fun": _read_kwargs("fun_kwargs", fun_kwargs),
        "jac": _read_kwargs("jac_kwargs", jac_kwargs),
        "fun_and_jac": _read_kwargs("fun_and_jac_kwargs", fun_and_jac_kwargs),
    }
    with jax.enable_x64(True):
        out = _check(_read_subject(fun, kwargs["fun"], params, bounds), functions, kwargs, rtol)
    if show:
        print(out)  # noqa: T201
    return out


def _check(
    subject: _Subject,
    functions: Mapping[str, Callable[..., Any] | None],
    kwargs: Mapping[str, dict[str, Any]],
    rtol: float,
) -> DerivativeCheck:
    firsts = _first_derivatives(subject, functions, kwargs)
    checks = [_check_first(subject, first, rtol) for first in firsts]
    correct = [f for f, check in zip(firsts, checks, strict=True) if check.is_correct]
    if functions["fun_and_jac"] is not None:
        checks.append(_check_value(subject, functions["fun_and_jac"], kwargs["fun_and_jac"], rtol))
    second, not_checked = _second_derivative(subject, functions["hess"], kwargs["fun"])
    if second is not None:
        checks.append(_check_second(subject, second, correct, rtol))
    if not checks:
        raise MissingInputError(
            f"There is nothing to check: none of jac, fun_and_jac and hess is given, and there is "
            f"no derivative by JAX, because {subject.not_jax}."
        )
    return DerivativeCheck.joined(checks, not_checked)


# ---- what is checked -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Subject:
    """The function whose derivatives are checked, as a function of the flat vector.

    Args:
        fun: Flat vector -> all entries of what the user's function returns.
        tree: Structure of params.
        x: Where, shape (n,).
        lower: Lower bounds, shape (n,).
        upper: Upper bounds, shape (n,).
        outer: Structure of what the user's function returns.
        structure: "likelihood" or "least_squares" if it is marked so, else None.
        exact: JAX's derivatives of all entries, or None.
        criterion: JAX's derivatives of the one number that counts, or None.
        not_jax: Why there are none.
    """

    fun: Callable[[Array], Array]
    tree: ParamTree
    x: Array
    lower: Array
    upper: Array
    outer: ParamTree
    structure: Structure | None
    exact: ExactVectors | None = None
    criterion: ExactFunctions | None = None
    not_jax: str = "fun is not written in JAX"

    @property
    def is_number(self) -> bool:
        """Whether the user's function returns one number."""
        return self.structure is None and self.outer.n_params == 1

    def kind(self, derivative: Callable[..., Any]) -> Kind | None:
        """Return of what a derivative is one; None for what fun returns as it is."""
        if self.structure is None:
            return None
        return Kind(self.structure, structure_of(derivative) or "scalar")

    def names(self, kind: Kind | None) -> Sequence[str]:
        """Return the names of what is differentiated; a number needs none."""
        is_number = self.is_number if kind is None else not kind.is_vector
        return [""] if is_number else self.outer.names

    def value(self, x: Array, kind: Kind | None) -> Array:
        """Return what is differentiated, as a vector."""
        entries = self.fun(x)
        return entries if kind is None else np.atleast_1d(kind.value(entries))


@dataclass(frozen=True)
class _First:
    """A first derivative: flat vector -> matrix of shape (m, n)."""

    name: str
    kind: Kind | None
    matrix: Callable[[Array], Array]


@dataclass(frozen=True)
class _Second:
    """A second derivative at the place of the check, shape (n, n)."""

    name: str
    matrix: Array


def _read_kwargs(name: str, given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise InvalidKwargsError(f"{name} must be a dict of arguments, not {given!r}.")
    return dict(given or {})


def _read_subject(
    fun: Callable[..., Any], kwargs: dict[str, Any], params: Any, bounds: Any
) -> _Subject:
    tree, x, lower, upper = read_place(params, bounds)
    raw = _called("fun", fun, tree, x, kwargs)
    outer = output_tree(plain_value(raw), "fun")
    found = structure_of_value(raw, structure_of(fun))
    structure = None if found == "scalar" else found

    def entries(x: Array) -> Array:
        return outer.align(plain_value(fun(tree.to_params(x), **kwargs)), "the value of fun")

    subject = _Subject(entries, tree, x, lower, upper, outer, structure)
    return _with_jax(subject, fun, kwargs) if is_jax(raw) else subject


def _with_jax(subject: _Subject, fun: Callable[..., Any], kwargs: dict[str, Any]) -> _Subject:
    """Add what JAX can do."""
    space = Space(subject.tree, subject.x, subject.lower, subject.upper)
    try:
        exact, _ = trace_vector(fun, kwargs, space)
        exact.check_derivative(subject.x)
    except NotTraceableError as error:
        return replace(subject, not_jax=f"JAX cannot differentiate fun: {error}")
    criterion = None
    if subject.is_number or subject.structure is not None:
        as_array = Kind(subject.structure or "scalar").traced
        program = trace(fun, kwargs, space, 1.0, check_purity=False, as_array=as_array)
        criterion = ExactFunctions(program)
    return replace(subject, fun=exact.value, exact=exact, criterion=criterion)


def _called(
    name: str, function: Callable[..., Any], tree: ParamTree, x: Array, kwargs: dict[str, Any]
) -> Any:
    params = tree.to_params(x)
    try:
        return function(params, **kwargs)
    except Exception as error:
        failure = UserFunctionRuntimeError(
            f"{name} raised {type(error).__name__} at params: {error}"
        )
        failure.params = params
        raise failure from error


def _first_derivatives(
    subject: _Subject,
    functions: Mapping[str, Callable[..., Any] | None],
    kwargs: Mapping[str, dict[str, Any]],
) -> list[_First]:
    """Return those that the user gave, or else JAX's."""
    out = []
    for name in ("jac", "fun_and_jac"):
        function = functions[name]
        if function is not None:
            matrix = partial(_users_matrix, subject, name, function, kwargs[name])
            out.append(_First(name, subject.kind(function), matrix))
    if not out and subject.exact is not None:
        kind = None if subject.structure is None else Kind(subject.structure, subject.structure)
        out.append(_First("jac by JAX", kind, subject.exact.jacobian))
    return out


def _users_matrix(
    subject: _Subject, name: str, function: Callable[..., Any], kwargs: dict[str, Any], x: Array
) -> Array:
    """Return a derivative of the user as a matrix."""
    raw = _called(name, function, subject.tree, x, kwargs)
    what = f"the return value of {name}"
    if name == "fun_and_jac":
        raw, what = both_of(raw)[1], "the derivative of fun_and_jac"
    names = subject.names(subject.kind(function))
    try:
        if len(names) == 1 and names[0] == "":
            is_row = np.shape(raw) == (1, subject.tree.n_params)
            return subject.tree.align(np.ravel(raw) if is_row else raw, what)[None]
        return subject.tree.align_jacobian(raw, subject.outer, what)
    except ValueError as error:
        raise InvalidFunctionError(f"{error} A derivative is aligned with params.") from error


def _second_derivative(
    subject: _Subject, hess: Callable[..., Any] | None, kwargs: dict[str, Any]
) -> tuple[_Second | None, tuple[str, ...]]:
    """Return the user's, or else JAX's; and why there is none."""
    if hess is not None:
        if not subject.is_number and subject.structure is None:
            raise InvalidFunctionError(
                f"hess is the second derivative of a number, but fun returns "
                f"{subject.outer.n_params} numbers. Return one number, or mark fun with "
                "om.mark.likelihood or om.mark.least_squares."
            )
        raw = _called("hess", hess, subject.tree, subject.x, kwargs)
        try:
            return _Second("hess", subject.tree.align_matrix(raw, "the return value of hess")), ()
        except ValueError as error:
            raise InvalidFunctionError(f"{error} A derivative is aligned with params.") from error
    if subject.criterion is None:
        return None, ()
    try:
        return _Second("hess by JAX", subject.criterion.hessian(subject.x)), ()
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        return None, (f"hess by JAX: there is none ({type(error).__name__}: {first_line})",)


# ---- the checks ------------------------------------------------------------------------------


def _check_first(subject: _Subject, first: _First, rtol: float) -> DerivativeCheck:
    return _checked(
        subject,
        first.name,
        lambda x: subject.value(x, first.kind),
        first.matrix(subject.x),
        subject.names(first.kind),
        rtol,
    )


def _check_second(
    subject: _Subject, second: _Second, correct: Sequence[_First], rtol: float
) -> DerivativeCheck:
    """Compare with differences of a correct first derivative, or of differences."""

    def gradient(x: Array) -> Array:
        kind, matrix = correct[0].kind, correct[0].matrix(x)
        if kind is None or not kind.is_vector:
            return np.asarray(matrix[0])
        return np.asarray(kind.gradient(subject.value(x, kind), matrix))

    if not correct:
        kind = None if subject.structure is None else Kind(subject.structure)
        values = _on_points(lambda x: subject.value(x, kind), 1)
        gradients = gradients_by_differences(values, subject.lower, subject.upper)

        def gradient(x: Array) -> Array:
            return np.asarray(gradients(x[None])[0])

    return _checked(subject, second.name, gradient, second.matrix, None, rtol)


def _checked(
    subject: _Subject,
    name: str,
    function: Callable[[Array], Array],
    given: Array,
    outputs: Sequence[str] | None,
    rtol: float,
) -> DerivativeCheck:
    place = (subject.x, subject.lower, subject.upper)
    values = _on_points(function, len(given))
    params = subject.tree.names
    return check_matrix(name, values, given, *place, outputs=outputs, params=params, rtol=rtol)


def _on_points(function: Callable[[Array], Array], m: int) -> ArrayFunction:
    """Let a function of one point take many; where it fails, it has no value."""

    def values(points: Array) -> Array:
        out = np.full((len(points), m), np.nan)
        for row, x in zip(out, points, strict=True):
            with contextlib.suppress(Exception), np.errstate(all="ignore"):
                row[:] = function(x)
        return out

    return values


def _check_value(
    subject: _Subject, fun_and_jac: Callable[..., Any], kwargs: dict[str, Any], rtol: float
) -> DerivativeCheck:
    """Compare the value that comes with a derivative with that of fun."""
    import pandas as pd

    kind, name = subject.kind(fun_and_jac), "value of fun_and_jac"
    raw = both_of(_called("fun_and_jac", fun_and_jac, subject.tree, subject.x, kwargs))[0]
    if kind is None:
        given = subject.outer.align(plain_value(raw), f"the {name}")
    else:
        given = np.atleast_1d(Kind(kind.target, kind.target).value(raw))
    value = subject.value(subject.x, kind)
    rows = [
        (name, output, "", float(mine), float(other), 0.0, "wrong")
        for output, mine, other in zip(subject.names(kind), given, value, strict=True)
        if not np.isclose(mine, other, rtol=rtol, atol=0, equal_nan=True)
    ]
    return DerivativeCheck(pd.DataFrame(rows, columns=list(COLUMNS)), {name: len(given)})

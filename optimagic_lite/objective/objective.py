"""The criterion as an algorithm needs it, and the decision which derivatives it gets."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidFunctionError, NotAvailableError, warn_user
from optimagic_lite.objective.exact import EagerFunctions, ExactFunctions
from optimagic_lite.objective.kinds import scalar_value
from optimagic_lite.objective.tracing import ImpureError, NotTraceableError, Program, trace
from optimagic_lite.options import NumdiffOptions
from optimagic_lite.space.space import Space

Array = NDArray[np.float64]
DerivativesArgument = Literal["auto", "exact", "numerical"]


@dataclass(frozen=True)
class UserFunctions:
    """The functions that the user gave, all of params; any but ``fun`` may be None."""

    fun: Callable[..., Any]
    fun_kwargs: dict[str, Any] = field(default_factory=dict)
    jac: Callable[..., Any] | None = None
    jac_kwargs: dict[str, Any] = field(default_factory=dict)
    fun_and_jac: Callable[..., Any] | None = None
    fun_and_jac_kwargs: dict[str, Any] = field(default_factory=dict)
    hess: Callable[..., Any] | None = None
    hessp: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Derivatives:
    """Which gradients a run used.

    Attributes:
        kind: "user", "exact" (by JAX), "numerical", or "none" if the algorithm uses none.
        reason: Why.
    """

    kind: Literal["user", "exact", "numerical", "none"]
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


@dataclass(frozen=True)
class Objective:
    """Functions of x, with the sign that makes them something to be minimized.

    Args:
        value: x -> value.
        values: (k, n_x) -> (k,).
        value_and_gradient: x -> (value, gradient) at little more than the price of the value;
            None if there is no such function.
        gradient: x -> gradient apart from the value, or None.
        hessian: x -> (n_x, n_x), or None.
        hessian_product: x, v -> (n_x,), or None.
        flat_gradient: x -> gradient with respect to params there, shape (n_params,), or None if
            that would take differences.
        program: The traced criterion for solvers that run inside JAX, or None.
        not_traced: Why there is no program; "" if there is one.
        sign: 1 to minimize, -1 to maximize; user's value = sign * value.
        derivatives: Which gradients are used and why.
        numdiff: Options of numerical derivatives, where those are used.
    """

    value: Callable[[Array], float]
    values: Callable[[Array], Array]
    value_and_gradient: Callable[[Array], tuple[float, Array]] | None
    gradient: Callable[[Array], Array] | None
    hessian: Callable[[Array], Array] | None
    hessian_product: Callable[[Array, Array], Array] | None
    flat_gradient: Callable[[Array], Array] | None
    program: Program | None
    not_traced: str
    sign: float
    derivatives: Derivatives
    numdiff: NumdiffOptions

    @classmethod
    def failed(cls, maximize: bool, numdiff: NumdiffOptions) -> Objective:
        """Return the objective of a criterion that raised at the start: it has no functions."""

        def nothing(_: Array) -> Any:
            raise InvalidFunctionError("fun raised at the start.")

        derivatives = Derivatives("none", "fun raised at the start")
        sign = -1.0 if maximize else 1.0
        functions = (nothing, nothing, None, None, None, None, None)
        return cls(*functions, None, "fun raised at the start", sign, derivatives, numdiff)

    @property
    def has_gradient(self) -> bool:
        """Whether the gradient needs no difference quotients."""
        return self.value_and_gradient is not None or self.gradient is not None


def make_objective(
    functions: UserFunctions,
    space: Space,
    *,
    maximize: bool,
    derivatives: DerivativesArgument,
    numdiff: NumdiffOptions,
    needs_jac: bool,
    start_raw: Any,
    check: bool,
) -> Objective:
    """Decide which derivatives a run uses, in the order user, JAX, numerical.

    Args:
        functions: What the user gave.
        space: The map between x and params.
        maximize: Whether to flip signs.
        derivatives: "auto", or what the user insists on.
        numdiff: Options of numerical derivatives.
        needs_jac: Whether the algorithm uses gradients.
        start_raw: What ``fun`` returned at the start, called as it is written; None if it was
            not called because it ``is_known_jax``.
        check: Whether to trace twice, to find impure criteria.

    Raises:
        NotTraceableError: If ``fun`` was not called and turns out not to be traceable.
        NotAvailableError: If exact derivatives were asked for and cannot be had.
        InvalidFunctionError: If ``fun`` does not return one real number.
    """
    sign = -1.0 if maximize else 1.0
    user = _AsWritten(functions, space, sign)
    jax_engine = _Engine(None, None, _NOT_JAX)
    if start_raw is None or isinstance(start_raw, jax.Array) or derivatives == "exact":
        jax_engine = _jax_engine(functions, space, sign, start_raw, check=check)
    values = jax_engine.functions or user
    if needs_jac and derivatives != "numerical" and isinstance(values, ExactFunctions):
        try:
            values.check_gradient()
        except NotTraceableError as error:
            if start_raw is None:
                _known_jax.discard(functions.fun)
                raise
            jax_engine = _Engine(None, None, str(error))
    has_user_jac = functions.jac is not None or functions.fun_and_jac is not None
    if derivatives == "exact" and needs_jac and not has_user_jac and not jax_engine.functions:
        raise NotAvailableError(
            f'derivatives="exact" cannot be had, because JAX cannot differentiate fun: '
            f"{jax_engine.reason}. "
            'Write fun with jax.numpy, pass jac, or use derivatives="numerical".'
        )
    exact = jax_engine.functions
    if derivatives == "numerical":
        exact, has_user_jac = None, False
    joint: Callable[[Array], tuple[float, Array]] | None = None
    if has_user_jac:
        joint = user.value_and_gradient if functions.fun_and_jac is not None else None
    elif exact is not None:
        joint = exact.value_and_gradient
    flat_gradient = _flat_gradient(functions, user, jax_engine.program, space, sign)
    user.flat_gradient = flat_gradient if derivatives != "numerical" else None
    second_order = _second_order(functions, user, exact)
    return Objective(
        value=values.value,
        values=values.values,
        value_and_gradient=joint,
        gradient=user.gradient if has_user_jac and functions.jac is not None else None,
        hessian=second_order[0],
        hessian_product=second_order[1],
        flat_gradient=user.flat_gradient,
        program=jax_engine.program,
        not_traced=jax_engine.reason if jax_engine.program is None else "",
        sign=sign,
        derivatives=_describe(needs_jac, derivatives, has_user_jac, jax_engine),
        numdiff=numdiff,
    )


_NOT_JAX = "fun did not return a JAX array"


@dataclass(frozen=True)
class _Engine:
    """What JAX can do with a criterion: functions and program where it can, a reason where not."""

    functions: ExactFunctions | EagerFunctions | None
    program: Program | None
    reason: str


def _jax_engine(
    functions: UserFunctions, space: Space, sign: float, start_raw: Any, *, check: bool
) -> _Engine:
    """Trace and compile a criterion, or differentiate it without compiling, or say why not."""
    fun, kwargs = functions.fun, functions.fun_kwargs
    try:
        try:
            program = trace(fun, kwargs, space, sign, check_purity=check)
            engine = ExactFunctions(program, space.x0)
            if start_raw is not None:
                plain = sign * scalar_value(start_raw)
                _check_agreement(engine.value(space.x0), plain, start_raw)
            _remember_jax(fun)
            return _Engine(engine, program, "")
        except NotTraceableError as error:
            if start_raw is None:
                _known_jax.discard(fun)
            if start_raw is None or isinstance(error, ImpureError):
                raise
            if not space.tree.is_traceable:
                return _Engine(None, None, str(error))
            return _Engine(EagerFunctions(fun, kwargs, space, sign), None, str(error))
    except NotTraceableError as error:
        if start_raw is None:
            raise
        if isinstance(error, ImpureError):
            warn_user(f"JAX is not used: {error}.")
        return _Engine(None, None, str(error))


# Criteria that were traced before. Calling them as they are written would tell nothing new, and
# loops in them, such as lax.scan, would be compiled for that call alone each time.
_known_jax: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


def is_known_jax(fun: Callable[..., Any]) -> bool:
    """Tell whether a criterion was traced in an earlier run."""
    try:
        return fun in _known_jax
    except TypeError:  # it is not hashable
        return False


def _remember_jax(fun: Callable[..., Any]) -> None:
    # what is not hashable, or cannot be referred to weakly, is not remembered
    with contextlib.suppress(TypeError):
        _known_jax.add(fun)


def _flat_gradient(
    functions: UserFunctions, user: _AsWritten, program: Program | None, space: Space, sign: float
) -> Callable[[Array], Array] | None:
    """Return the gradient with respect to params as a function of x: the user's, or JAX's."""
    if functions.jac is not None or functions.fun_and_jac is not None:
        return user.gradient_of_params
    if program is None:
        return None
    made: list[ExactFunctions] = []

    def gradient(x: Array) -> Array:
        # few runs ask for it, so it is traced when one does
        if not made:
            free = space.without_constraints()
            found = trace(functions.fun, functions.fun_kwargs, free, sign, check_purity=False)
            made.append(ExactFunctions(found, free.x0))
        return made[0].value_and_gradient(space.to_flat(x))[1]

    return gradient


def _second_order(
    functions: UserFunctions, user: _AsWritten, exact: ExactFunctions | EagerFunctions | None
) -> tuple[Callable[[Array], Array] | None, Callable[[Array, Array], Array] | None]:
    """Return Hessian and product: the user's, or else exact ones."""
    has_user_second = functions.hess is not None or functions.hessp is not None
    hessian = exact.hessian if exact is not None and not has_user_second else None
    product = exact.hessian_product if exact is not None and not has_user_second else None
    return (
        user.hessian if functions.hess is not None else hessian,
        user.hessian_product if functions.hessp is not None else product,
    )


def _describe(
    needs_jac: bool, asked: DerivativesArgument, has_user_jac: bool, engine: _Engine
) -> Derivatives:
    if not needs_jac:
        return Derivatives("none", "the algorithm uses no derivatives")
    if asked == "numerical":
        return Derivatives("numerical", 'derivatives="numerical" was asked for')
    if has_user_jac:
        return Derivatives("user", "jac or fun_and_jac was given")
    if engine.program is not None:
        return Derivatives("exact", "JAX differentiates and compiles fun")
    if engine.functions is not None:
        reason = f"JAX differentiates fun, but cannot compile it ({engine.reason})"
        return Derivatives("exact", reason)
    hint = "; a fun written with jax.numpy would get exact ones"
    return Derivatives("numerical", engine.reason + (hint if engine.reason == _NOT_JAX else ""))


def _check_agreement(traced: float, plain: float, start_raw: Any) -> None:
    """Refuse a program that computes something else than the call as written."""
    single = getattr(start_raw, "dtype", np.dtype("float64")).itemsize < 8
    rtol = 1e-3 if single else 1e-7
    if np.isfinite(plain) and not np.isclose(traced, plain, rtol=rtol, atol=1e-9):
        raise ImpureError(
            f"fun at the start gave {plain:.10g} as written and {traced:.10g} when traced"
        )


class _AsWritten:
    """The user's functions called as they are written, each time with its own params."""

    def __init__(self, functions: UserFunctions, space: Space, sign: float) -> None:
        self._f = functions
        self._space = space
        self._sign = sign
        self.flat_gradient: Callable[[Array], Array] | None = None

    def value(self, x: Array) -> float:
        raw = self._f.fun(self._space.to_params(x), **self._f.fun_kwargs)
        return self._sign * scalar_value(raw)

    def values(self, xs: Array) -> Array:
        return np.array([self.value(x) for x in xs])

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        assert self._f.fun_and_jac is not None
        raw = self._f.fun_and_jac(self._space.to_params(x), **self._f.fun_and_jac_kwargs)
        if not isinstance(raw, (tuple, list)) or len(raw) != 2:
            raise InvalidFunctionError(
                "fun_and_jac (or fun with jac=True) must return a tuple (value, derivative), "
                f"not {type(raw).__name__}."
            )
        value = self._sign * scalar_value(raw[0])
        what = "the derivative of fun_and_jac"
        return value, self._aligned(self._space.pull_back, x, raw[1], what)

    def gradient(self, x: Array) -> Array:
        assert self._f.jac is not None
        raw = self._f.jac(self._space.to_params(x), **self._f.jac_kwargs)
        return self._aligned(self._space.pull_back, x, raw, "the return value of jac")

    def hessian(self, x: Array) -> Array:
        assert self._f.hess is not None
        raw = self._f.hess(self._space.to_params(x), **self._f.fun_kwargs)
        what = "the return value of hess"
        flat_gradient = self._gradient_for_curvature(x)
        return self._aligned(self._space.pull_back_hessian, x, raw, what, flat_gradient)

    def hessian_product(self, x: Array, v: Array) -> Array:
        assert self._f.hessp is not None
        params, direction = self._space.to_params(x), self._space.push_forward(x, v)
        raw = self._f.hessp(params, direction, **self._f.fun_kwargs)
        what = "the return value of hessp"
        flat_gradient = self._gradient_for_curvature(x)
        return self._aligned(self._space.pull_back_product, x, v, raw, what, flat_gradient)

    def gradient_of_params(self, x: Array) -> Array:
        """Return the user's gradient with respect to params, flat."""
        params = self._space.to_params(x)
        if self._f.jac is not None:
            raw, what = self._f.jac(params, **self._f.jac_kwargs), "the return value of jac"
        else:
            assert self._f.fun_and_jac is not None
            raw = self._f.fun_and_jac(params, **self._f.fun_and_jac_kwargs)[1]
            what = "the derivative of fun_and_jac"
        return self._aligned(self._space.tree.align, raw, what)

    def _gradient_for_curvature(self, x: Array) -> Array | None:
        """Return the flat gradient in the user's sign, where second derivatives in x need it."""
        if not self._space.is_curved:
            return None
        # problem.check_objective sees that there is one
        assert self.flat_gradient is not None
        return self._sign * self.flat_gradient(x)

    def _aligned(self, pull_back: Callable[..., Array], *args: Any) -> Array:
        try:
            return self._sign * pull_back(*args)
        except ValueError as error:
            raise InvalidFunctionError(f"{error} A derivative is aligned with params.") from error


def call_at_start(functions: UserFunctions, space: Space) -> Any:
    """Call ``fun`` as it is written, at the start."""
    return functions.fun(space.to_params(space.x0), **functions.fun_kwargs)

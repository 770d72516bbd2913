"""The criterion as an algorithm needs it, and the decision which derivatives it gets."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidFunctionError, NotAvailableError, warn_user
from optimagic_lite.mark import Structure
from optimagic_lite.objective.exact import (
    EagerFunctions,
    ExactFunctions,
    ExactInfo,
    ExactVectors,
)
from optimagic_lite.objective.kinds import Kind, info_of, plain_value
from optimagic_lite.objective.tracing import ImpureError, NotTraceableError, Program, trace
from optimagic_lite.objective.written import AsWritten, UserFunctions, is_jax
from optimagic_lite.options import NumdiffOptions
from optimagic_lite.parallel import Cores
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import flatten_in_order

Array = NDArray[np.float64]
DerivativesArgument = Literal["auto", "exact", "numerical"]


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

    What the algorithm takes is a number, or a vector of m contributions or residuals.

    Args:
        kind: What the user's function returns, and what the algorithm takes.
        value: x -> value, a float or shape (m,).
        values: (k, n_x) -> (k,) or (k, m).
        many: (k, n_x), cores -> generator of numbers of points and their values or
            ``TaskFailure``, computed on those cores; None if that would not help.
        value_and_derivative: x -> (value, derivative) at little more than the price of the value;
            None if there is no such function.
        derivative: x -> derivative apart from the value, of shape (n_x,) or (m, n_x), or None.
        info: x -> what the user's function returned along with the value there; None if it returns
            nothing but values.
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

    kind: Kind
    value: Callable[[Array], Any]
    values: Callable[[Array], Array]
    many: Callable[[Array, Cores], Generator[tuple[int, Any], None, None]] | None
    value_and_derivative: Callable[[Array], tuple[Any, Array]] | None
    derivative: Callable[[Array], Array] | None
    info: Callable[[Array], dict[str, Any] | None] | None
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

        why = "fun raised at the start"
        return cls(
            kind=Kind(),
            value=nothing,
            values=nothing,
            many=None,
            value_and_derivative=None,
            derivative=None,
            info=None,
            hessian=None,
            hessian_product=None,
            flat_gradient=None,
            program=None,
            not_traced=why,
            sign=-1.0 if maximize else 1.0,
            derivatives=Derivatives("none", why),
            numdiff=numdiff,
        )

    @property
    def has_derivative(self) -> bool:
        """Whether the derivative needs no difference quotients."""
        return self.value_and_derivative is not None or self.derivative is not None


def make_objective(
    functions: UserFunctions,
    space: Space,
    *,
    kind: Kind,
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
        kind: What ``fun`` returns, and what the algorithm takes.
        maximize: Whether to flip signs.
        derivatives: "auto", or what the user insists on.
        numdiff: Options of numerical derivatives.
        needs_jac: Whether the algorithm uses derivatives.
        start_raw: What ``fun`` returned at the start, called as it is written; None if it was
            not called because it is ``known_jax``.
        check: Whether to trace twice, to find impure criteria.

    Raises:
        NotTraceableError: If ``fun`` was not called and turns out not to be traceable.
        NotAvailableError: If exact derivatives were asked for and cannot be had.
        InvalidFunctionError: If ``fun`` does not return what its structure asks for.
    """
    sign = -1.0 if maximize else 1.0
    user = AsWritten(functions, space, sign, kind)
    if start_raw is not None:
        user.start(space.x0, start_raw)
    engine = _Engine(None, None, _NOT_JAX)
    if functions.jac_needs_values(kind.target) and derivatives != "numerical":
        engine = _Engine(None, None, "jac needs the residuals that fun returns")
    elif start_raw is None or is_jax(start_raw) or derivatives == "exact":
        engine = _jax_engine(functions, space, sign, kind, start_raw, check=check)
    if needs_jac and derivatives != "numerical" and engine.program is not None:
        engine = _with_derivative(engine, space, functions, start_raw)
    values = engine.functions or user
    has_user_jac = functions.has_jac and derivatives != "numerical"
    if derivatives == "exact" and needs_jac and not has_user_jac and engine.functions is None:
        raise NotAvailableError(
            f'derivatives="exact" cannot be had, because JAX cannot differentiate fun: '
            f"{engine.reason}. "
            'Write fun with jax.numpy, pass jac, or use derivatives="numerical".'
        )
    exact = None if derivatives == "numerical" else engine.functions
    joint, separate = _first_order(functions, user, exact, has_user_jac=has_user_jac)
    flat_gradient = _flat_gradient(functions, user, engine.program, space, sign, kind)
    user.flat_gradient = flat_gradient if derivatives != "numerical" else None
    second_order = _second_order(functions, user, exact)
    return Objective(
        kind=kind,
        value=values.value,
        values=values.values,
        many=user.many if engine.functions is None else None,
        value_and_derivative=joint,
        derivative=separate,
        info=_info(functions, user, engine, space, start_raw),
        hessian=second_order[0],
        hessian_product=second_order[1],
        flat_gradient=user.flat_gradient,
        program=engine.program,
        not_traced=engine.reason if engine.program is None else "",
        sign=sign,
        derivatives=_describe(needs_jac, derivatives, has_user_jac, engine),
        numdiff=numdiff,
    )


_NOT_JAX = "fun did not return a JAX array"


@dataclass(frozen=True)
class _Engine:
    """What JAX can do with a criterion: functions and program where it can, a reason where not."""

    functions: ExactFunctions | ExactVectors | EagerFunctions | None
    program: Program | None
    reason: str
    returns_info: bool = False


def _jax_engine(
    functions: UserFunctions,
    space: Space,
    sign: float,
    kind: Kind,
    start_raw: Any,
    *,
    check: bool,
) -> _Engine:
    """Trace and compile a criterion, or differentiate it without compiling, or say why not."""
    fun, kwargs = functions.fun, functions.fun_kwargs
    seen: list[Any] = []

    def as_array(raw: Any) -> jax.Array:
        seen.append(info_of(raw) is not None)
        return kind.traced(raw)

    try:
        try:
            program = trace(fun, kwargs, space, sign, check_purity=check, as_array=as_array)
            engine = ExactVectors(program) if kind.is_vector else ExactFunctions(program)
            if start_raw is not None:
                plain = sign * kind.value(start_raw)
                _check_agreement(engine.value(space.x0), plain, start_raw)
            _remember_jax(fun, kind.structure)
            return _Engine(engine, program, "", any(seen))
        except NotTraceableError as error:
            if start_raw is None:
                _forget_jax(fun)
            if start_raw is None or isinstance(error, ImpureError):
                raise
            if not space.tree.is_traceable:
                return _Engine(None, None, str(error))
            return _Engine(EagerFunctions(fun, kwargs, space, sign, kind), None, str(error))
    except NotTraceableError as error:
        if start_raw is None:
            raise
        if isinstance(error, ImpureError):
            warn_user(f"JAX is not used: {error}.")
        return _Engine(None, None, str(error))


def _with_derivative(
    engine: _Engine, space: Space, functions: UserFunctions, start_raw: Any
) -> _Engine:
    """Return the engine if what it compiled can be differentiated, else one without anything."""
    assert isinstance(engine.functions, (ExactFunctions, ExactVectors))
    try:
        engine.functions.check_derivative(space.x0)
    except NotTraceableError as error:
        if start_raw is None:
            _forget_jax(functions.fun)
            raise
        return _Engine(None, None, str(error))
    return engine


# Criteria that were traced before, and what they return. Calling them as they are written would
# tell nothing new, and loops in them, such as lax.scan, would be compiled for that call alone.
_known_jax: weakref.WeakKeyDictionary[Callable[..., Any], Structure] = weakref.WeakKeyDictionary()


def known_jax(fun: Callable[..., Any]) -> Structure | None:
    """Return the structure of a criterion that was traced in an earlier run, or None."""
    try:
        return _known_jax.get(fun)
    except TypeError:  # it is not hashable, or cannot be referred to weakly
        return None


def _remember_jax(fun: Callable[..., Any], structure: Structure) -> None:
    with contextlib.suppress(TypeError):
        _known_jax[fun] = structure


def _forget_jax(fun: Callable[..., Any]) -> None:
    with contextlib.suppress(TypeError):
        _known_jax.pop(fun, None)


def _info(
    functions: UserFunctions, user: AsWritten, engine: _Engine, space: Space, start_raw: Any
) -> Callable[[Array], dict[str, Any] | None] | None:
    """Return what gives the info of an evaluation; None if there is none."""
    if engine.program is None:
        return user.info if info_of(start_raw) is not None else None
    if not engine.returns_info:
        return None
    return ExactInfo(functions.fun, functions.fun_kwargs, space)


def _flat_gradient(
    functions: UserFunctions,
    user: AsWritten,
    program: Program | None,
    space: Space,
    sign: float,
    kind: Kind,
) -> Callable[[Array], Array] | None:
    """Return the gradient with respect to params as a function of x: the user's, or JAX's."""
    if functions.has_jac:
        return user.gradient_of_params
    if program is None:
        return None
    made: list[ExactFunctions] = []

    def gradient(x: Array) -> Array:
        # few runs ask for it, so it is traced when one does
        if not made:
            free = space.without_constraints()
            fun, kwargs, as_array = functions.fun, functions.fun_kwargs, kind.scalar.traced
            found = trace(fun, kwargs, free, sign, check_purity=False, as_array=as_array)
            made.append(ExactFunctions(found))
        return made[0].value_and_gradient(space.to_flat(x))[1]

    return gradient


_Joint = Callable[[Array], tuple[Any, Array]]
_Separate = Callable[[Array], Array]


def _first_order(
    functions: UserFunctions,
    user: AsWritten,
    exact: ExactFunctions | ExactVectors | EagerFunctions | None,
    *,
    has_user_jac: bool,
) -> tuple[_Joint | None, _Separate | None]:
    """Return value and derivative in one call, and the derivative alone, where they are known."""
    if has_user_jac:
        return (
            user.value_and_derivative if functions.fun_and_jac is not None else None,
            user.derivative if functions.jac is not None else None,
        )
    if exact is None:
        return None, None
    if isinstance(exact, ExactVectors) or (
        isinstance(exact, EagerFunctions) and exact.kind.is_vector
    ):
        # trial steps need residuals only, and a Jacobian costs much more
        return None, exact.jacobian
    return exact.value_and_gradient, None


def _second_order(
    functions: UserFunctions,
    user: AsWritten,
    exact: ExactFunctions | ExactVectors | EagerFunctions | None,
) -> tuple[Callable[[Array], Array] | None, Callable[[Array, Array], Array] | None]:
    """Return Hessian and product: the user's, or else exact ones."""
    has_user_second = functions.hess is not None or functions.hessp is not None
    if has_user_second:
        return (
            user.hessian if functions.hess is not None else None,
            user.hessian_product if functions.hessp is not None else None,
        )
    if exact is None or isinstance(exact, ExactVectors):
        return None, None
    return exact.hessian, exact.hessian_product


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


def _check_agreement(traced: Any, plain: Any, start_raw: Any) -> None:
    """Refuse a program that computes something else than the call as written."""
    leaves, _ = flatten_in_order(plain_value(start_raw))
    sizes = [getattr(leaf, "dtype", np.dtype("float64")).itemsize for leaf in leaves]
    rtol = 1e-3 if min(sizes) < 8 else 1e-7
    if not np.isfinite(plain).all():
        return
    if np.shape(traced) != np.shape(plain):
        raise ImpureError(
            f"fun at the start gave shape {np.shape(plain)} as written and {np.shape(traced)} "
            "when traced"
        )
    gap = np.abs(np.asarray(traced - plain))
    bad = ~(gap <= 1e-9 + rtol * np.abs(plain))
    if bad.any():
        worst = int(np.argmax(bad))
        raise ImpureError(
            f"fun at the start gave {np.ravel(plain)[worst]:.10g} as written and "
            f"{np.ravel(traced)[worst]:.10g} when traced"
        )

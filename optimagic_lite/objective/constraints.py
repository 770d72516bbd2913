"""Constraints that an algorithm takes natively, as functions of x with their derivatives.

Linear rows stay matrices. A nonlinear constraint gets its derivatives by the rule of the criterion:
the user's, JAX's where the function is written in JAX, numerical ones else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.constraints import NonlinearConstraint
from optimagic_lite.exceptions import InvalidConstraintError, InvalidParamsError, warn_user
from optimagic_lite.objective import numerical
from optimagic_lite.objective.exact import ExactVectors
from optimagic_lite.objective.objective import DerivativesArgument
from optimagic_lite.objective.tracing import ImpureError, NotTraceableError, Program, trace
from optimagic_lite.options import NumdiffOptions
from optimagic_lite.space.demands import Demand
from optimagic_lite.space.rows import LinearRows, largest_bound
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import ParamTree, flatten_in_order

Array = NDArray[np.float64]

# a violation of linear rows up to this, relative to the size of the bound, counts as fulfilled
_LINEAR_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class NativeConstraint:
    """``lower <= value(x) <= upper``, entry by entry.

    Args:
        name: How to call it in messages.
        value: x -> (m,).
        jacobian: x -> (m, n_x).
        hessian: x, v of shape (m,) -> Hessian of v @ value, shape (n_x, n_x); None if unknown.
        lower: Shape (m,), -inf where there is no bound.
        upper: Shape (m,), inf where there is no bound.
        tol: Violations up to this count as fulfilled, shape (m,).
        matrix: Its Jacobian if it is linear in x, or None.
    """

    name: str
    value: Callable[[Array], Array]
    jacobian: Callable[[Array], Array]
    hessian: Callable[[Array, Array], Array] | None
    lower: Array
    upper: Array
    tol: Array
    matrix: Array | None = None

    @property
    def has_equality(self) -> bool:
        """Whether some entry has one value only."""
        return bool((self.lower == self.upper).any())

    def violation(self, value: Array) -> float:
        """Return the largest violation by a value."""
        return max(0.0, float(self._beyond(value).max()))

    def excess(self, value: Array) -> float:
        """Return the largest violation, those within the tolerance not counted."""
        beyond = self._beyond(value)
        return float(np.where(beyond > self.tol, beyond, 0.0).max())

    def _beyond(self, value: Array) -> Array:
        """Return how far each entry is beyond a bound; negative inside."""
        return np.asarray(np.maximum(self.lower - value, value - self.upper))


def make_native_constraints(
    space: Space, *, derivatives: DerivativesArgument, numdiff: NumdiffOptions, check: bool
) -> tuple[NativeConstraint, ...]:
    """Build all native constraints of a problem.

    Args:
        space: Knows the rows and the nonlinear constraints.
        derivatives: "auto", or what the user insists on.
        numdiff: Options of numerical derivatives, where those are used.
        check: Whether to trace twice, to find impure functions.

    Raises:
        InvalidConstraintError: If a function fails at the start, or bounds do not fit its value.
    """
    out = []
    if space.linear_rows is not None:
        out.append(_linear(space.linear_rows, space.n_x))
    out += [_curved(rows, space) for rows in space.curved_rows]
    for demand in space.nonlinear:
        out.append(_nonlinear(demand, space, derivatives, numdiff, check=check))
    return tuple(out)


# ---- linear rows -----------------------------------------------------------------------------


def _linear(rows: LinearRows, n_x: int) -> NativeConstraint:
    matrix = np.zeros((len(rows.lower), n_x))
    matrix[:, rows.members] = rows.matrix
    return NativeConstraint(
        rows.name,
        lambda x: matrix @ x,
        lambda _: matrix,
        lambda x, _: np.zeros((len(x), len(x))),
        rows.lower,
        rows.upper,
        _linear_tolerance(rows),
        matrix,
    )


def _curved(rows: LinearRows, space: Space) -> NativeConstraint:
    """Return rows over parameters that are no linear functions of x."""

    def sums(x: jax.Array) -> jax.Array:
        return jnp.asarray(rows.matrix) @ space.trace_flat(x)[rows.members]

    def combined(x: jax.Array, v: jax.Array) -> jax.Array:
        return sums(x) @ v

    name = rows.name
    return NativeConstraint(
        name,
        lambda x: np.asarray(space.call(f"value of {name}", sums, x)),
        lambda x: np.asarray(space.call(f"jacobian of {name}", jax.jacrev(sums), x)),
        lambda x, v: np.asarray(space.call(f"hessian of {name}", jax.hessian(combined), x, v)),
        rows.lower,
        rows.upper,
        _linear_tolerance(rows),
    )


def _linear_tolerance(rows: LinearRows) -> Array:
    size = largest_bound(rows.lower, rows.upper)
    return np.asarray(_LINEAR_TOLERANCE * np.maximum(1.0, size))


# ---- nonlinear constraints -------------------------------------------------------------------


class _AsWritten:
    """A user's constraint function of x, called as it is written."""

    def __init__(self, demand: Demand, space: Space) -> None:
        assert isinstance(demand.constraint, NonlinearConstraint)
        assert demand.constraint.func is not None
        self.name = demand.name
        self._constraint, self._demand, self._space = demand.constraint, demand, space
        self.raw = self._call_at_start()
        self.start = self._vector(self.raw)

    def of_params(self, params: Any) -> Any:
        """Return what the user's function returns."""
        assert self._constraint.func is not None
        return self._constraint.func(self._constraint.selector(params))

    def value(self, x: Array) -> Array:
        """Return the values as a vector."""
        return self._vector(self.of_params(self._space.to_params(x)))

    def jacobian(self, x: Array) -> Array:
        """Return the user's derivative with respect to x, shape (m, n_x)."""
        derivative = self._constraint.derivative
        assert derivative is not None
        raw = derivative(self._constraint.selector(self._space.to_params(x)))
        matrix = self._aligned(raw)
        rows = np.zeros((len(matrix), len(self._space.names)))
        np.add.at(rows.T, self._demand.positions, matrix.T)
        return self._space.pull_back_flat(x, rows)

    def _call_at_start(self) -> Any:
        try:
            return self.of_params(self._space.to_params(self._space.x0))
        except Exception as error:
            raise InvalidConstraintError(
                f"The function of {self.name} raised {type(error).__name__} at the start: {error}"
            ) from error

    def _vector(self, raw: Any) -> Array:
        """Return a number, an array or a tree of them as one vector."""
        leaves, _ = flatten_in_order(raw)
        try:
            parts = [np.array(leaf, dtype=np.float64).reshape(-1) for leaf in leaves]
        except (TypeError, ValueError) as error:
            raise InvalidConstraintError(
                f"The function of {self.name} must return numbers, not {raw!r}."
            ) from error
        out = np.concatenate([np.empty(0), *parts])
        n_expected = len(self.start) if hasattr(self, "start") else max(1, len(out))
        if len(out) != n_expected:
            raise InvalidConstraintError(
                f"The function of {self.name} returned {len(out)} numbers instead of {n_expected}."
            )
        return out

    def _aligned(self, raw: Any) -> Array:
        """Return a derivative as a matrix of shape (m, n_selected)."""
        m, structure = len(self.start), self._demand.selections[0].structure
        n = len(self._demand.positions)
        if isinstance(raw, (np.ndarray, jax.Array)) and raw.size == m * n:
            return np.array(raw, dtype=np.float64).reshape(m, n)
        try:
            return structure.align_rows(raw, m, "the derivative")
        except ValueError as error:
            raise InvalidConstraintError(
                f"The derivative of {self.name} must be a matrix of shape ({m}, {n}), or a tree "
                f"like the selected parameters: {error}"
            ) from error


def _nonlinear(
    demand: Demand,
    space: Space,
    derivatives: DerivativesArgument,
    numdiff: NumdiffOptions,
    *,
    check: bool,
) -> NativeConstraint:
    constraint = demand.constraint
    assert isinstance(constraint, NonlinearConstraint)
    user = _AsWritten(demand, space)
    lower, upper = _limits(constraint, user)
    program = _program(user, space, derivatives, check=check)
    exact = None if program is None else ExactVectors(program)
    value = user.value if exact is None else exact.value
    jacobian: Callable[[Array], Array]
    if constraint.derivative is not None and derivatives != "numerical":
        jacobian = user.jacobian
    elif exact is not None and derivatives != "numerical":
        jacobian = exact.jacobian
    else:
        jacobian = _differences(value, space, numdiff)
    return NativeConstraint(
        demand.name,
        value,
        jacobian,
        None if exact is None or derivatives == "numerical" else exact.hessian,
        lower,
        upper,
        np.full(len(lower), constraint.tol),
    )


def _limits(constraint: NonlinearConstraint, user: _AsWritten) -> tuple[Array, Array]:
    """Return bounds aligned with the values."""
    sides = []
    for side, given, fill in (
        ("lower_bound", constraint.lower_bound, -np.inf),
        ("upper_bound", constraint.upper_bound, np.inf),
    ):
        name, bound = (side, given) if constraint.value is None else ("value", constraint.value)
        try:
            if np.shape(bound) == (len(user.start),):
                # numbers in order, whatever the structure of the values
                sides.append(np.array([fill if b is None else b for b in bound], dtype=np.float64))
            else:
                sides.append(ParamTree(user.raw).broadcast(bound, fill, name))
        except (TypeError, ValueError, InvalidParamsError) as error:
            raise InvalidConstraintError(
                f"{name} of {user.name} does not fit what its function returns: {error}"
            ) from error
    lower, upper = sides
    if np.isnan(lower).any() or np.isnan(upper).any() or (lower > upper).any():
        raise InvalidConstraintError(f"The bounds of {user.name} are NaN or crossed.")
    return lower, upper


def _program(
    user: _AsWritten, space: Space, derivatives: DerivativesArgument, *, check: bool
) -> Program | None:
    """Trace a function that is written in JAX; None if it is not."""
    leaves, _ = flatten_in_order(user.raw)
    is_jax = any(isinstance(leaf, jax.Array) for leaf in leaves)
    if not is_jax and derivatives != "exact":
        return None
    try:
        with jax.enable_x64(True):
            return trace(
                user.of_params, {}, space, 1.0, check_purity=check, as_array=_as_traced_vector
            )
    except NotTraceableError as error:
        if isinstance(error, ImpureError):
            warn_user(f"JAX is not used for {user.name}: {error}.")
        elif derivatives == "exact":
            raise InvalidConstraintError(
                f"Exact derivatives of {user.name} cannot be had: {error}. Write its function "
                "with jax.numpy, or give its derivative."
            ) from error
        return None


def _as_traced_vector(raw: Any) -> jax.Array:
    leaves, _ = flatten_in_order(raw)
    return jnp.concatenate([jnp.asarray(leaf, dtype=jnp.float64).reshape(-1) for leaf in leaves])


def _differences(
    value: Callable[[Array], Array], space: Space, options: NumdiffOptions
) -> Callable[[Array], Array]:
    """Return a Jacobian by difference quotients inside the bounds."""

    def jacobian(x: Array) -> Array:
        stencil = numerical.make_stencil(x, space.lower, space.upper, options, numerical.EPS_DOUBLE)
        values = [value(point) for block in stencil.blocks() for point in block]
        center = value(x)
        return stencil.jacobian(np.array(values).reshape(len(values), len(center)), center)

    return jacobian

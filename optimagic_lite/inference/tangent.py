"""The directions in which params can move at a solution, and how the criterion bends along them.

Bounds and constraints that hold with equality count as equalities. What is left is the null space
of their derivatives (Nocedal and Wright 2006, Numerical Optimization, section 12.4,
doi:10.1007/978-0-387-40065-5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.inference.criterion import LocalCriterion
from optimagic_lite.objective.constraints import NativeConstraint, make_native_constraints
from optimagic_lite.space.space import Space

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# A bound of x holds with equality where x is this close, relative to the bound.
_MET = 1e-12
# So do limits that are at most so far away, if a Newton step covers this part of the way to them:
# algorithms that keep inside end next to limits, not on them.
_NEAR = 1e-3
_COVERED = 0.5
# what counts as zero among numbers of order one
_ZERO = 1e-9


@dataclass(frozen=True, eq=False)
class _Limits:
    """All that limits x, linearised, a row each: ``lower <= value <= upper``.

    Args:
        rows: Derivatives of the values with respect to x, shape (k, n_x).
        value: Shape (k,).
        lower: Shape (k,), -inf where there is no limit.
        upper: Shape (k,), inf where there is no limit.
        tol: How close to a limit a value counts as on it, shape (k,).
    """

    rows: Array
    value: Array
    lower: Array
    upper: Array
    tol: Array

    def take(self, chosen: Flags) -> _Limits:
        """Return some of the rows."""
        return _Limits(*(v[chosen] for v in (self.rows, self.value, self.lower, self.upper,
                                             self.tol)))  # fmt: skip

    @property
    def gaps(self) -> tuple[Array, Array]:
        """How far the values are above the lower and below the upper limits."""
        return self.value - self.lower, self.upper - self.value

    @property
    def are_met(self) -> Flags:
        """Which values are on a limit."""
        return np.asarray(np.minimum(*self.gaps) <= self.tol)

    @property
    def are_near(self) -> Flags:
        """Which values are next to a limit."""
        return np.asarray(np.minimum(*self.gaps) <= _NEAR * np.maximum(1.0, np.abs(self.value)))


@dataclass(frozen=True, eq=False)
class Tangent:
    """The directions that bounds and constraints leave at the start of a space.

    Args:
        criterion: The criterion there; its space says what is free.
        constraints: Those that no bijection carries.
    """

    criterion: LocalCriterion
    constraints: tuple[NativeConstraint, ...]

    @classmethod
    def of(cls, criterion: LocalCriterion) -> Tangent:
        """Find the constraints of a criterion, and return its tangent."""
        constraints = make_native_constraints(
            criterion.space,
            derivatives=criterion.derivatives,
            numdiff=criterion.numdiff,
            check=True,
        )
        return cls(criterion, constraints)

    @property
    def _space(self) -> Space:
        return self.criterion.space

    @cached_property
    def _map(self) -> Array:
        """Derivative of the flat vector with respect to x, shape (n_params, n_x)."""
        return np.asarray(
            self._space.pull_back_flat(self._space.x0, np.eye(len(self._space.names)))
        )

    @cached_property
    def _scale(self) -> Array:
        """What makes all entries of x equally important to the criterion, shape (n_x,)."""
        if self._space.n_x == 0:
            return np.zeros(0)
        norms = np.linalg.norm(self.criterion.derivative, axis=0)
        return np.where(norms > 0, 1 / np.where(norms > 0, norms, 1.0), 1.0)

    # ---- what binds ----------------------------------------------------------------------

    @cached_property
    def _limits(self) -> _Limits:
        """Bounds of x first, then native constraints, then bounds of params in bijections."""
        space, x = self._space, self._space.x0
        size = np.maximum(_finite_size(space.lower), _finite_size(space.upper))
        parts = [_Limits(np.eye(len(x)), x, space.lower, space.upper, _MET * size)]
        parts += [
            _Limits(c.jacobian(x), c.value(x), c.lower, c.upper, c.tol) for c in self.constraints
        ]
        parts.append(self._corners)
        fields = ("rows", "value", "lower", "upper", "tol")
        return _Limits(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))

    @property
    def _corners(self) -> _Limits:
        """Params on their bounds that a bijection gives: it has kinks where several are."""
        flat, lower, upper = self._own_limits
        tol = _MET * np.maximum(_finite_size(lower), _finite_size(upper))
        limits = _Limits(self._map, flat, lower, upper, tol)
        return limits.take(limits.are_met & _in_bijection(self._space))

    @cached_property
    def _own_limits(self) -> tuple[Array, Array, Array]:
        """The flat vector, and bounds of each of its entries."""
        space, plan = self._space, self._space.plan
        flat = space.to_flat(space.x0)
        if plan is None:
            return flat, space.lower, space.upper
        sides = [
            np.concatenate([side[: plan.n_plain], plan.constants, *blocks])[plan.gather]
            for side, blocks in (
                (space.lower, [block.lower for block in plan.blocks]),
                (space.upper, [block.upper for block in plan.blocks]),
            )
        ]
        return flat, sides[0], sides[1]

    @cached_property
    def _binding(self) -> Flags:
        """Which limits hold with equality."""
        limits = self._limits
        met = limits.are_met
        chosen = met | limits.are_near
        if not (chosen & ~met).any():
            return met
        multipliers = np.zeros(len(met))
        multipliers[chosen] = self._multipliers(limits.rows[chosen])
        # the direction in which a value changes by one, and how the criterion bends along it
        steps = limits.rows * self._scale**2
        steps = steps / np.maximum((steps * limits.rows).sum(axis=1), 1e-300)[:, None]
        bend = ((steps @ self.criterion.hessian) * steps).sum(axis=1)
        above, below = limits.gaps
        to_lower = (multipliers > 0) & (multipliers >= _COVERED * bend * above)
        to_upper = (multipliers < 0) & (-multipliers >= _COVERED * bend * below)
        is_pushed = np.where(above <= below, to_lower, to_upper)
        return np.asarray(met | (chosen & is_pushed))

    def _multipliers(self, rows: Array) -> Array:
        """Return weights of rows whose sum is closest to the gradient."""
        gradient = self.criterion.gradient
        found = np.linalg.lstsq((rows * self._scale).T, gradient * self._scale, rcond=None)
        return np.asarray(found[0])

    # ---- directions ----------------------------------------------------------------------

    @cached_property
    def directions(self) -> Array:
        """Directions in x in which params can move, independent, shape (n_x, n_free)."""
        n_x = self._space.n_x
        binding = self._limits.rows[self._binding]
        is_free = ~self._binding[:n_x]
        scale = self._scale[is_free]
        basis = np.zeros((n_x, is_free.sum()))
        basis[is_free] = np.diag(scale)
        basis = basis @ _null_space(_unit_rows(binding @ basis, binding * self._scale))
        if not self._space.is_curved:
            return basis
        # more inputs than degrees of freedom: some directions move nothing
        moves = _unit_rows(self._map @ basis, self._map * self._scale)
        return np.asarray(basis @ _row_space(moves))

    @cached_property
    def in_params(self) -> Array:
        """The same directions in params, shape (n_params, n_free)."""
        moves = self._map @ self.directions
        return np.where(_are_small(moves, self._map * self._scale)[:, None], 0.0, moves)

    @property
    def n_free(self) -> int:
        """Number of independent directions."""
        return int(self.directions.shape[1])

    @cached_property
    def hessian(self) -> Array:
        """Hessian of the Lagrangian along the directions, shape (n_free, n_free)."""
        out = self.criterion.hessian.copy()
        multipliers = np.zeros(len(self._binding))
        multipliers[self._binding] = self._multipliers(self._limits.rows[self._binding])
        first = self._space.n_x
        for constraint in self.constraints:
            weights = multipliers[first : first + len(constraint.lower)]
            first += len(weights)
            if weights.any() and constraint.matrix is None:
                out -= self._hessian_of(constraint, weights)
        bent = self.directions.T @ out @ self.directions
        return np.asarray((bent + bent.T) / 2)

    def _hessian_of(self, constraint: NativeConstraint, weights: Array) -> Array:
        x = self._space.x0
        if constraint.hessian is not None:
            return np.asarray(constraint.hessian(x, weights))
        return self.criterion.by_differences(lambda point: weights @ constraint.jacobian(point))

    # ---- params --------------------------------------------------------------------------

    @cached_property
    def notes(self) -> list[str]:
        """What keeps each parameter: "fixed", "at bound", "binding constraint", or nothing."""
        flat, lower, upper = self._own_limits
        inequalities = self._binding & (self._limits.lower < self._limits.upper)
        bound = (self._reach @ (self._limits.rows[inequalities] != 0).T).any(axis=1)
        is_near = _Limits(self._map, flat, lower, upper, np.zeros(len(flat))).are_near
        at_bound = bound & is_near & ~self.in_params.any(axis=1)
        notes = np.where(at_bound, "at bound", np.where(bound, "binding constraint", ""))
        return [str(note) for note in np.where(_is_fixed(self._space), "fixed", notes)]

    @property
    def _reach(self) -> Flags:
        """Which parameters have to do with which entries of x, shape (n_params, n_x)."""
        plan, size = self._space.plan, np.abs(self._map)
        reach = size > _ZERO * size.max(axis=1, keepdims=True, initial=0.0)
        if plan is None:
            return np.asarray(reach)
        for block in plan.blocks:
            members = np.isin(plan.gather, plan.gather[self._space.firsts[block.members]])
            # at a singular matrix, derivatives with respect to what binds are zero
            inputs = np.arange(block.start, block.stop)
            still = inputs[~reach[:, inputs].any(axis=0)]
            reach[np.ix_(members, still)] = True
        return np.asarray(reach)


def _in_bijection(space: Space) -> Flags:
    """Tell which entries of the flat vector a bijection gives."""
    plan = space.plan
    if plan is None:
        return np.zeros(len(space.names), dtype=bool)
    return np.asarray(plan.gather >= plan.n_plain + len(plan.constants))


def _is_fixed(space: Space) -> Flags:
    """Tell which entries of the flat vector are constants of a space."""
    plan = space.plan
    if plan is None:
        return np.zeros(len(space.names), dtype=bool)
    return (plan.gather >= plan.n_plain) & (plan.gather < plan.n_plain + len(plan.constants))


def _finite_size(values: Array) -> Array:
    return np.where(np.isfinite(values), np.abs(values), 0.0)


def _are_small(rows: Array, wholes: Array) -> Flags:
    """Tell which rows are but rounding errors of what they are parts of."""
    return np.asarray(np.linalg.norm(rows, axis=1) <= _ZERO * np.linalg.norm(wholes, axis=1))


def _unit_rows(rows: Array, wholes: Array) -> Array:
    """Return the rows that are not zero, each with norm one."""
    rows = rows[~_are_small(rows, wholes)]
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _row_space(matrix: Array) -> Array:
    _, sizes, vectors = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(vectors[sizes > _ZERO].T)


def _null_space(matrix: Array) -> Array:
    """Return an orthonormal basis, shape (n, n - rank)."""
    _, sizes, vectors = np.linalg.svd(matrix)
    return np.asarray(vectors[(sizes > _ZERO).sum() :].T)

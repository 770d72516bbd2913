"""Sets of linear inequalities: ways down, and ways at all, that stay inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STEPS = tuple(2.0**-k for k in range(0, 24, 2))


@dataclass(frozen=True, eq=False)
class Polytope:
    """``row_lower <= rows @ p <= row_upper`` and ``lower <= p <= upper``.

    Args:
        rows: Array or sparse array, shape (k, n).
        row_lower: Shape (k,), -inf where there is no bound.
        row_upper: Shape (k,), inf where there is no bound.
        lower: Shape (n,).
        upper: Shape (n,).
        project: Returns the closest point inside, where that is cheap to find.
    """

    rows: Any
    row_lower: Array
    row_upper: Array
    lower: Array
    upper: Array
    project: Callable[[Array], Array] | None = None

    def lower_points(self, point: Array, gradient: Array) -> list[Array]:
        """Return points inside, some of which lie lower if the point is no minimum.

        They are projections of steps against the gradient (Bertsekas 1976,
        doi:10.1109/TAC.1976.1101194), and steps of ``descent``, of several lengths.

        Args:
            point: A point inside, shape (n,).
            gradient: Of the function, shape (n,).
        """
        direction = self.descent(point, gradient)
        if direction is None:
            return []
        found = [point + step * direction for step in _STEPS]
        if self.project is not None:
            reach = max(1.0, float(np.abs(point).max())) / float(np.abs(gradient).max())
            found += [self.project(point - step * reach * gradient) for step in _STEPS]
        return found

    def descent(self, point: Array, gradient: Array) -> Array | None:
        """Return the feasible direction in which a linear function falls most, or None.

        The step of the method of Frank and Wolfe (1956, doi:10.1002/nav.3800030109) in a box
        around the point. None means that the point fulfils the Karush-Kuhn-Tucker conditions.

        Args:
            point: A point inside, shape (n,).
            gradient: Of the function, shape (n,).
        """
        size = float(np.abs(gradient).max())
        if not 0 < size < np.inf:
            return None
        direction = self._solve(point, gradient / size, np.zeros(len(point)))
        if direction is None or gradient @ direction > -1e-9 * size * np.abs(direction).max():
            return None
        return direction

    def moves(self, point: Array) -> list[Array]:
        """Return directions that stay inside and raise or lower one entry after the other.

        What else has to move is found by projection, or by a linear program.

        Args:
            point: A point inside, shape (n,).
        """
        if self.project is not None:
            reach = np.maximum(np.abs(point), 1.0)
            targets = [point + sign * step for step in np.diag(reach) for sign in (1.0, -1.0)]
            moves = [self.project(target) - point for target in targets]
            return [move for move in moves if np.abs(move).max() > 1e-9 * reach.max()]
        found = []
        # moving other entries costs a little, so that no more than needed move
        price = np.full(len(point), 1e-3)
        for i in range(len(point)):
            for sign in (1.0, -1.0):
                target = np.zeros(len(point))
                target[i] = sign
                direction = self._solve(point, target, price)
                if direction is not None and direction[i] != 0:
                    found.append(direction)
        return found

    def center(self) -> Array | None:
        """Return the centre of the largest ball inside, equalities apart; None if it is empty.

        Boyd and Vandenberghe (2004, doi:10.1017/CBO9780511804441), section 8.5.1. There must be
        bounds on both sides of all entries.
        """
        from scipy.optimize import linprog

        equal, sides, limits = self._sides()
        reach = np.linalg.norm(sides, axis=1)
        solved = linprog(
            np.append(np.zeros(len(self.lower)), -1.0),
            A_ub=np.column_stack([sides, reach]),
            b_ub=limits,
            A_eq=np.column_stack([self.rows[equal], np.zeros(equal.sum())]),
            b_eq=self.row_lower[equal],
            bounds=[*((None, None) for _ in self.lower), (0, None)],
            method="highs",
        )
        return None if solved.x is None else np.asarray(solved.x[:-1])

    def pulled_inside(self, points: Array, shares: Array, center: Array) -> Array:
        """Return points inside; those that lie outside come to lie between centre and edge.

        Args:
            points: Shape (m, n).
            shares: Uniform variates that say where on the way to the edge, shape (m,). Volume is
                what they are uniform in.
            center: A point inside, shape (n,).
        """
        equal, sides, limits = self._sides()
        rows = self.rows[equal]
        moves = points - center
        # after projection, sums that are equalities stay as they are
        moves = moves - moves @ (np.linalg.pinv(rows) @ rows).T
        change = moves @ sides.T
        room = np.maximum(limits - sides @ center, 0.0)
        steps = np.full(change.shape, np.inf)
        np.divide(room, change, out=steps, where=change > 0)
        edge = steps.min(axis=1)
        n_free = max(len(center) - int(equal.sum()), 1)
        length = np.where(edge < 1, edge * shares ** (1 / n_free), 1.0)
        return np.asarray(np.clip(center + length[:, None] * moves, self.lower, self.upper))

    def _sides(self) -> tuple[NDArray[np.bool_], Array, Array]:
        """Return which rows are equalities, and all other rows and bounds as ``a @ p <= b``."""
        equal = self.row_lower == self.row_upper
        rows, unit = self.rows[~equal], np.eye(len(self.lower))
        sides = np.concatenate([rows, -rows, unit, -unit])
        limits = [self.row_upper[~equal], -self.row_lower[~equal], self.upper, -self.lower]
        is_limit = np.isfinite(np.concatenate(limits))
        return equal, sides[is_limit], np.concatenate(limits)[is_limit]

    def _solve(self, point: Array, target: Array, price: Array) -> Array | None:
        """Minimize ``target @ d + price @ |d|`` over feasible directions d of limited size."""
        from scipy.optimize import linprog
        from scipy.sparse import csr_array, hstack, vstack

        reach = np.maximum(np.abs(point), 1.0)
        up = np.clip(self.upper - point, 0.0, reach)
        down = np.clip(point - self.lower, 0.0, reach)
        rows = csr_array(self.rows)
        sums = rows @ point
        has_high, has_low = np.isfinite(self.row_upper), np.isfinite(self.row_lower)
        matrix = vstack([rows[has_high], -rows[has_low]])
        limits = np.concatenate(
            [(self.row_upper - sums)[has_high], (sums - self.row_lower)[has_low]]
        )
        # d = d_up - d_down
        solved = linprog(
            np.concatenate([target + price, price - target]),
            A_ub=hstack([matrix, -matrix]) if matrix.shape[0] else None,
            b_ub=np.maximum(limits, 0.0) if matrix.shape[0] else None,
            bounds=np.stack([np.zeros(2 * len(point)), np.concatenate([up, down])], axis=1),
            method="highs",
        )
        if solved.x is None:
            return None
        n = len(point)
        return np.asarray(solved.x[:n] - solved.x[n:])

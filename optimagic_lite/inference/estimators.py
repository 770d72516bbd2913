"""Estimators of the covariance along the directions that constraints leave."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import NotAvailableError, listed, warn_user
from optimagic_lite.inference.tangent import Tangent

Array = NDArray[np.float64]
CovarianceMethod = Literal["hessian", "jacobian", "robust"]

# Smallest singular value of scaled scores, relative to the largest, at which data still tell all
# parameters; and smallest eigenvalue of a scaled Hessian. With exact derivatives, and with others.
_LEAST_SCORES = {True: 1e-11, False: 1e-7}
_LEAST_HESSIAN = {True: 1e-12, False: 1e-6}
# standard errors by which params may be away from the optimum without a warning
_AWAY = 0.1
# size of residuals, relative to that of their terms, that rounding alone may cause
_ROUNDING = 1e-12
# parameters that an error names: those that move this much, compared with the one that moves most
_INVOLVED = 0.1

_USE_OTHER = {
    "hessian": ' method="jacobian" does without second derivatives.',
    "robust": ' method="jacobian" does without second derivatives.',
    "jacobian": "",
}


@dataclass(frozen=True, eq=False)
class Estimators:
    """Covariances of coordinates along the directions of a tangent.

    Args:
        tangent: The directions at the solution.
        method: Which estimator is asked for.
    """

    tangent: Tangent
    method: CovarianceMethod

    def covariance(self) -> Array:
        """Return the covariance matrix, shape (n_free, n_free).

        Raises:
            NotAvailableError: If data do not tell all parameters, or there are too few of them.
        """
        self._check_size()
        root = self._root_from_scores() if self.method == "jacobian" else self._root_from_hessian()
        self._warn_if_away(root)
        if self.method == "robust":
            root = root @ (self._scores @ root).T
        return np.asarray(self._variance * root @ root.T)

    # ---- parts ---------------------------------------------------------------------------

    @property
    def _is_least_squares(self) -> bool:
        return self.tangent.criterion.structure == "least_squares"

    @cached_property
    def _jacobian(self) -> Array:
        """Derivative of contributions or residuals along the directions, shape (m, n_free)."""
        return np.asarray(self.tangent.criterion.derivative @ self.tangent.directions)

    @property
    def _scores(self) -> Array:
        """What White's estimators sum up the outer products of, shape (m, n_free)."""
        if not self._is_least_squares:
            return self._jacobian
        return np.asarray(self.tangent.criterion.value[:, None] * self._jacobian)

    @property
    def _variance(self) -> float:
        """Variance of the errors, where it is not part of the likelihood or of the scores."""
        if not self._is_least_squares or self.method == "robust":
            return 1.0
        return self._error_variance

    @property
    def _error_variance(self) -> float:
        residuals = self.tangent.criterion.value
        return float(residuals @ residuals) / (len(residuals) - self.tangent.n_free)

    def _root_from_scores(self) -> Array:
        """Return B with B B' = inv(S'S); products of scores would lose half of the digits."""
        _, sizes, vectors = np.linalg.svd(self._jacobian, full_matrices=False)
        least = _LEAST_SCORES[self.tangent.criterion.has_exact_derivative]
        if not sizes[-1] > least * sizes[0]:
            raise self._not_identified(vectors[-1], "no contribution or residual changes")
        return np.asarray(vectors.T / sizes)

    def _root_from_hessian(self) -> Array:
        """Return B with B B' = inv(H), or inv(H / 2) for least squares."""
        hessian = self.tangent.hessian / (2.0 if self._is_least_squares else 1.0)
        sizes, vectors = np.linalg.eigh(hessian)
        least = _LEAST_HESSIAN[self.tangent.criterion.has_exact_hessian]
        if sizes[0] < -least * np.abs(sizes).max():
            names = self._involved(vectors[:, 0])
            raise NotAvailableError(
                "The params are no optimum: the Hessian says that the criterion gets better, in "
                f"both directions, if these parameters change together: {names}. Look for a better "
                "solution, for example from other start values or with another algorithm."
                + _USE_OTHER[self.method]
            )
        if not sizes[0] > least * sizes[-1]:
            raise self._not_identified(vectors[:, 0], "the criterion does not change")
        return np.asarray(vectors / np.sqrt(sizes))

    # ---- checks --------------------------------------------------------------------------

    def _check_size(self) -> None:
        m, n_free = len(self.tangent.criterion.value), self.tangent.n_free
        what = "residuals" if self._is_least_squares else "contributions"
        if m <= n_free and (self._is_least_squares or self.method != "hessian"):
            raise NotAvailableError(
                f"There are {m} {what} for {n_free} free parameters; standard errors need more "
                "than there are free parameters."
            )

    def _not_identified(self, direction: Array, what: str) -> NotAvailableError:
        is_exact = self.tangent.criterion.has_exact_derivative
        hint = (
            "" if is_exact else " Numerical derivatives see only large effects; write fun in JAX."
        )
        return NotAvailableError(
            f"The data do not tell these parameters apart, or do not tell them at all: {what} if "
            f"these change together: {self._involved(direction)}. Fix one of them, or add a "
            f"constraint.{hint}"
        )

    def _involved(self, direction: Array) -> str:
        """Return the names of the parameters that change most in a direction."""
        in_params = self.tangent.in_params
        sizes = np.linalg.norm(in_params, axis=1)
        shares = np.abs(in_params @ direction) / np.where(sizes > 0, sizes, 1.0)
        order = np.argsort(-shares, kind="stable")
        chosen = [i for i in order.tolist() if shares[i] >= _INVOLVED * shares.max()]
        return listed([self.tangent.criterion.space.names[i] for i in chosen])

    def _warn_if_away(self, root: Array) -> None:
        """Warn if the gradient says that the optimum is some standard errors away.

        Args:
            root: B with B B' the inverse of the information.
        """
        criterion = self.tangent.criterion
        gradient = criterion.gradient @ self.tangent.directions
        unit = 1.0
        if self._is_least_squares:
            # residuals that are rounding errors say nothing
            terms = np.abs(criterion.derivative) @ np.abs(criterion.space.x0)
            if np.linalg.norm(criterion.value) <= _ROUNDING * np.linalg.norm(terms):
                return
            unit = 2 * np.sqrt(self._error_variance)
        distance = float(np.linalg.norm(gradient @ root)) / unit
        if distance > _AWAY:
            warn_user(
                f"The params are about {distance:.2g} standard errors away from the optimum, so "
                "standard errors are those of another place. Let the algorithm converge further, "
                "for example with a smaller convergence_gtol_abs or convergence_ftol_rel."
            )

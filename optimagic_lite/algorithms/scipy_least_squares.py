"""The solvers of ``scipy.optimize.least_squares``.

They minimize the sum of squared residuals; SciPy's own factor of one half is taken out of all that
is reported. Differences for Jacobians are never left to SciPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import (
    CONVERGENCE_FTOL_REL,
    Algorithm,
    NonNegativeFloat,
    Outcome,
    algorithm,
)
from optimagic_lite.algorithms.regression import cosine
from optimagic_lite.algorithms.scipy_local import NO_LIMIT
from optimagic_lite.exceptions import NotAvailableError

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

_BY_CALLBACK = -2
_ORTHOGONAL = (
    "The cosine of the angle between the residuals and each column of the Jacobian is below "
    "convergence_gtol_rel."
)
# SciPy refuses to be told to ignore all of its tests
_LEAST_TOLERANCE = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, kw_only=True)
class ScipyLeastSquares(Algorithm):
    """Base of the wrappers.

    Attributes:
        method: SciPy's name.
    """

    method: ClassVar[str]

    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    convergence_gtol_rel: NonNegativeFloat = 1e-8
    convergence_xtol_rel: NonNegativeFloat = 1e-8

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with SciPy."""
        from scipy import optimize

        space = evaluator.space
        # the unit of the residuals must not matter for absolute tests
        size = float(np.linalg.norm(evaluator.fun(x0))) or 1.0
        result = optimize.least_squares(
            lambda x: evaluator.fun(x) / size,
            x0,
            jac=lambda x: evaluator.jac(x) / size,
            bounds=(space.lower, space.upper) if space.has_bounds else (-np.inf, np.inf),
            method=self.method,
            ftol=max(self.convergence_ftol_rel, _LEAST_TOLERANCE),
            xtol=max(self.convergence_xtol_rel, _LEAST_TOLERANCE),
            x_scale="jac",
            max_nfev=NO_LIMIT,
            **self.options_of_method(evaluator),
        )
        n_iterations = evaluator.n_iterations if self.algo_info.counts_iterations else None
        return Outcome(
            success=bool(result.success) or result.status == _BY_CALLBACK,
            message=_ORTHOGONAL if result.status == _BY_CALLBACK else str(result.message),
            status=int(result.status),
            fun=2 * float(result.cost) * size**2,
            n_iterations=n_iterations,
            gradient=2 * np.asarray(result.grad) * size**2,
            x=np.asarray(result.x),
            info={"optimality": float(result.optimality) * size**2},
        )

    def options_of_method(self, evaluator: Evaluator) -> dict[str, Any]:
        """Return arguments that depend on the method."""
        del evaluator
        return {"gtol": max(self.convergence_gtol_rel, _LEAST_TOLERANCE)}


@dataclass(frozen=True, kw_only=True)
class _TrustRegion(ScipyLeastSquares):
    """What the methods with a trust region for bounds have in common."""

    tr_solver: Literal["exact", "lsmr"] | None = None
    tr_solver_options: dict[str, Any] | None = None

    def options_of_method(self, evaluator: Evaluator) -> dict[str, Any]:
        """Return the solver of the subproblems, and what counts iterations."""

        def after_iteration(intermediate_result: Any) -> None:
            evaluator.iteration()
            residuals, jacobian = evaluator.fun_and_jac(intermediate_result.x)
            if cosine(residuals, jacobian) <= self.convergence_gtol_rel:
                raise StopIteration

        return {
            # SciPy's own test of the gradient is absolute; it finds gradients that are zero
            "gtol": _LEAST_TOLERANCE,
            "tr_solver": self.tr_solver,
            "tr_options": self.tr_solver_options or {},
            "callback": after_iteration,
        }


@algorithm(
    "scipy_ls_trf",
    solver_type="least_squares",
    needs_jac=True,
    supports_bounds=True,
    supports_infinite_bounds=True,
)
class ScipyLSTRF(_TrustRegion):
    """Trust region reflective (Branch, Coleman and Li 1999, doi:10.1137/S1064827595289108).

    The first choice for least squares, with and without bounds. Parameters are scaled by the
    columns of the Jacobian.

    Args:
        convergence_ftol_rel: Stop when the sum of squares falls by less, relative to it.
        convergence_gtol_rel: Stop when the cosine of the angle between the residuals and each
            column of the Jacobian is below.
        convergence_xtol_rel: Stop when a step is shorter, relative to the length of x.
        tr_solver: How subproblems are solved: "exact" by a singular value decomposition, "lsmr"
            for large ones; None chooses.
        tr_solver_options: A dict of options of that solver; see SciPy.
    """

    method = "trf"


@algorithm(
    "scipy_ls_dogbox",
    solver_type="least_squares",
    needs_jac=True,
    supports_bounds=True,
    supports_infinite_bounds=True,
)
class ScipyLSDogbox(_TrustRegion):
    """Dogleg in a rectangular trust region (Voglis and Lagaris 2004).

    For small problems with bounds; not for Jacobians of less than full rank. Parameters are
    scaled by the columns of the Jacobian.

    Args:
        convergence_ftol_rel: Stop when the sum of squares falls by less, relative to it.
        convergence_gtol_rel: Stop when the cosine of the angle between the residuals and each
            column of the Jacobian is below.
        convergence_xtol_rel: Stop when a step is shorter, relative to the length of x.
        tr_solver: How subproblems are solved: "exact" or "lsmr"; None chooses.
        tr_solver_options: A dict of options of that solver; see SciPy.
    """

    method = "dogbox"


@algorithm("scipy_ls_lm", solver_type="least_squares", needs_jac=True, counts_iterations=False)
class ScipyLSLM(ScipyLeastSquares):
    """Levenberg-Marquardt of MINPACK (Moré 1978, doi:10.1007/BFb0067700).

    Without bounds, and with at least as many residuals as free parameters. Often the fastest on
    small problems.

    Args:
        convergence_ftol_rel: Stop when the sum of squares falls by less, relative to it.
        convergence_gtol_rel: Stop when the cosine of the angle between the residuals and each
            column of the Jacobian is below.
        convergence_xtol_rel: Stop when a step is shorter, relative to the length of x.
    """

    method = "lm"

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with MINPACK."""
        n_residuals = len(evaluator.fun(x0))
        if n_residuals < len(x0):
            raise NotAvailableError(
                f"{self.name} needs at least as many residuals as free parameters, and there are "
                f"{n_residuals} and {len(x0)}. Use 'scipy_ls_trf'."
            )
        return super().solve(evaluator, x0)

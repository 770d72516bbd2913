"""The local minimizers of ``scipy.optimize.minimize``.

Options are SciPy's under harmonised names; the table ``scipy_options`` of each class translates
them. Sources of the methods stand in the docstrings, those of the code in SciPy's documentation:
Virtanen et al. (2020), doi:10.1038/s41592-019-0686-2.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import (
    CONVERGENCE_FTOL_REL,
    CONVERGENCE_GTOL_ABS,
    CONVERGENCE_XTOL_REL,
    SECOND_BEST_FTOL_ABS,
    SECOND_BEST_XTOL_ABS,
    Algorithm,
    NonNegativeFloat,
    Outcome,
    PositiveFloat,
    PositiveInt,
    algorithm,
)
from optimagic_lite.stopping import Stop

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

# no limit: the evaluator counts
NO_LIMIT = 2**31 - 1
# Methods for constraints that go on for ever where there is no feasible point end after so many
# iterations, a parameter or at all, as in SciPy's own defaults.
_MAXITER_CONSTRAINED = 1_000
# first and second barrier parameter of trust-constr
_BARRIERS = (1e-2, 1e-6)
# largest Hessian that is formed where products with vectors would do
_DENSE_HESSIAN = 100


class Quiet(warnings.catch_warnings):
    """Leaves out what SciPy's minimizers warn of, because the message of the result says it too."""

    def __enter__(self) -> Any:
        from scipy import optimize

        out = super().__enter__()
        warnings.filterwarnings("ignore", category=optimize.OptimizeWarning)
        warnings.filterwarnings("ignore", message="delta_grad == 0.0", category=UserWarning)
        warnings.filterwarnings("ignore", message="Singular Jacobian", category=UserWarning)
        return out


@dataclass(frozen=True, kw_only=True)
class ScipyMinimizer(Algorithm):
    """Base of the wrappers.

    Attributes:
        method: SciPy's name.
        scipy_options: From SciPy's option names to ours.
        fixed_options: SciPy's options with a constant value.
        has_maxiter: Whether SciPy obeys an option ``maxiter``; else its callback counts.
        radius_option: SciPy's name for the first radius of a trust region.
    """

    method: ClassVar[str]
    scipy_options: ClassVar[Mapping[str, str]] = {}
    fixed_options: ClassVar[Mapping[str, Any]] = {}
    has_maxiter: ClassVar[bool] = True
    radius_option: ClassVar[str | None] = None

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with SciPy."""
        return self.minimize(evaluator, x0, {})

    def minimize(self, evaluator: Evaluator, x0: Array, extra: Mapping[str, Any]) -> Outcome:
        """Call SciPy and translate its result.

        Args:
            evaluator: Evaluates.
            x0: Start, shape (n_x,).
            extra: Further options of SciPy.
        """
        from scipy import optimize

        info, space = self.algo_info, evaluator.space
        options = {name: getattr(self, ours) for name, ours in self.scipy_options.items()}
        options = {name: value for name, value in options.items() if value is not None}
        counts_by_callback = not self.has_maxiter and info.counts_iterations
        if self.has_maxiter:
            options["maxiter"] = min(self.stopping_maxiter, NO_LIMIT)
        with Quiet():
            result = optimize.minimize(
                evaluator.fun,
                x0,
                method=self.method,
                jac=evaluator.jac if info.needs_jac else None,
                # trust-constr would leave them on its way; the others keep them anyway
                bounds=optimize.Bounds(space.lower, space.upper, keep_feasible=True)
                if space.has_bounds
                else None,
                constraints=self.constraints(evaluator),
                options={
                    **options,
                    **self.fixed_options,
                    **self.options_of_run(evaluator, x0),
                    **extra,
                },
                callback=(lambda *_: evaluator.iteration()) if counts_by_callback else None,
                **self.second_order(evaluator),
            )
        return self.translate(result)

    def constraints(self, evaluator: Evaluator) -> list[Any]:
        """Return the native constraints as SciPy knows them."""
        from scipy import optimize

        out: list[Any] = []
        for i, constraint in enumerate(evaluator.constraints):
            limits = constraint.lower, constraint.upper
            if constraint.matrix is not None:
                out.append(optimize.LinearConstraint(constraint.matrix, *limits))
                continue
            derivatives: dict[str, Any] = {}
            if self.algo_info.needs_jac:
                derivatives["jac"] = partial(evaluator.constraint_jac, i)
            if self.algo_info.uses_hess:
                known = constraint.hessian is not None
                derivatives["hess"] = (
                    partial(evaluator.constraint_hess, i) if known else optimize.BFGS()
                )
            function = partial(evaluator.constraint, i)
            out.append(optimize.NonlinearConstraint(function, *limits, **derivatives))
        return out

    def options_of_run(self, evaluator: Evaluator, x0: Array) -> dict[str, float]:
        """Return options that depend on the problem: the first radius of a trust region."""
        del evaluator
        if self.radius_option is None:
            return {}
        given = getattr(self, "trustregion_initial_radius", None)
        return {self.radius_option: given or 0.1 * max(1.0, float(np.abs(x0).max()))}

    def second_order(self, evaluator: Evaluator) -> dict[str, Any]:
        """Return the arguments ``hess`` or ``hessp``."""
        if not self.algo_info.needs_hess:
            return {}
        if evaluator.objective.hessian_product is None:
            return {"hess": evaluator.hess}
        return {"hessp": evaluator.hessp}

    def translate(self, result: Any) -> Outcome:
        """Turn SciPy's result into an outcome."""
        n_iterations = result.get("nit")
        success, message, status = bool(result.success), str(result.message), int(result.status)
        if not success and self.has_maxiter and (n_iterations or 0) >= self.stopping_maxiter:
            message = Stop.MAXITER.text(self.stopping_maxiter)
            status = Stop.MAXITER.status
        hess_inv = result.get("hess_inv")
        if hess_inv is not None and hasattr(hess_inv, "todense"):
            # an L-BFGS operator: formed only while that is cheap
            hess_inv = hess_inv.todense() if len(result.x) <= _DENSE_HESSIAN else None
        hess = result.get("hess")
        return Outcome(
            success=success,
            message=message,
            status=status,
            fun=float(result.fun),
            n_iterations=None if n_iterations is None else int(n_iterations),
            hess=hess if isinstance(hess, np.ndarray) else None,
            hess_inv=hess_inv,
        )


@algorithm("scipy_lbfgsb", needs_jac=True, supports_bounds=True, supports_infinite_bounds=True)
class ScipyLBFGSB(ScipyMinimizer):
    """Limited-memory BFGS with bounds (Byrd, Lu, Nocedal and Zhu 1995, doi:10.1137/0916069).

    The first choice for smooth problems of any size, with or without bounds.

    Args:
        convergence_ftol_rel: Stop when ``(f_k - f_{k+1}) / max(|f_k|, |f_{k+1}|, 1)`` is below.
        convergence_gtol_abs: Stop when the largest entry of the projected gradient is below.
        limited_memory_storage_length: Number of stored corrections.
        max_line_search_steps: Limit on the evaluations of one line search.
    """

    method = "L-BFGS-B"
    scipy_options: ClassVar = {
        "ftol": "convergence_ftol_rel",
        "gtol": "convergence_gtol_abs",
        "maxcor": "limited_memory_storage_length",
        "maxls": "max_line_search_steps",
    }
    fixed_options: ClassVar = {"maxfun": NO_LIMIT}

    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    convergence_gtol_abs: NonNegativeFloat = CONVERGENCE_GTOL_ABS
    limited_memory_storage_length: PositiveInt = 10
    max_line_search_steps: PositiveInt = 20


@algorithm("scipy_slsqp", needs_jac=True, supports_bounds=True, supports_infinite_bounds=True,
           supports_linear_constraints=True, supports_nonlinear_constraints=True)  # fmt: skip
class ScipySLSQP(ScipyMinimizer):
    """Sequential least-squares quadratic programming (Kraft 1988, DFVLR-FB 88-28).

    For problems of up to a few hundred parameters; takes constraints.

    Args:
        convergence_ftol_abs: Stop when the change of the value, and the step in the metric of
            the subproblem, are below.
        display: Whether SciPy prints its progress.
    """

    method = "SLSQP"
    scipy_options: ClassVar = {"ftol": "convergence_ftol_abs", "disp": "display"}

    convergence_ftol_abs: NonNegativeFloat = SECOND_BEST_FTOL_ABS
    display: bool = False


@algorithm("scipy_neldermead", supports_bounds=True, supports_infinite_bounds=True)
class ScipyNelderMead(ScipyMinimizer):
    """Simplex search (Nelder and Mead 1965, doi:10.1093/comjnl/7.4.308).

    For noisy or non-smooth problems of a few parameters; can stop at points that are no minimum.

    Args:
        convergence_ftol_abs: Stop when values at all corners differ by less, and
        convergence_xtol_abs: all corners lie within this distance in each parameter.
        adaptive: Adapt coefficients to the dimension (Gao and Han 2012,
            doi:10.1007/s10589-010-9329-3).
        display: Whether SciPy prints its progress.
    """

    method = "Nelder-Mead"
    scipy_options: ClassVar = {
        "fatol": "convergence_ftol_abs",
        "xatol": "convergence_xtol_abs",
        "adaptive": "adaptive",
        "disp": "display",
    }

    convergence_ftol_abs: NonNegativeFloat = SECOND_BEST_FTOL_ABS
    convergence_xtol_abs: NonNegativeFloat = SECOND_BEST_XTOL_ABS
    adaptive: bool = False
    display: bool = False


@algorithm("scipy_powell", supports_bounds=True, supports_infinite_bounds=True)
class ScipyPowell(ScipyMinimizer):
    """Powell's conjugate directions (Powell 1964, doi:10.1093/comjnl/7.2.155).

    With bounds it can stop where they bind although that is no minimum, so it begins anew there
    until that gains nothing. Where two bounds meet, it can still be caught.

    Args:
        convergence_xtol_rel: Relative tolerance of the line searches.
        convergence_ftol_rel: Stop when an iteration improves the value by less, relatively.
        display: Whether SciPy prints its progress.
    """

    method = "Powell"
    scipy_options: ClassVar = {
        "xtol": "convergence_xtol_rel",
        "ftol": "convergence_ftol_rel",
        "disp": "display",
    }

    convergence_xtol_rel: NonNegativeFloat = CONVERGENCE_XTOL_REL
    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    display: bool = False

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with SciPy; with bounds, anew from the solution while that gains something."""
        outcome = super().solve(evaluator, x0)
        while outcome.success and evaluator.space.has_bounds:
            before = evaluator.best_f
            outcome = super().solve(evaluator, evaluator.best_x)
            gain = before - evaluator.best_f
            if gain <= self.convergence_ftol_rel * max(1.0, abs(before)):
                break
        return outcome


@algorithm("scipy_bfgs", needs_jac=True)
class ScipyBFGS(ScipyMinimizer):
    """BFGS (Nocedal and Wright 2006, algorithm 6.1, doi:10.1007/978-0-387-40065-5).

    Args:
        convergence_gtol_abs: Stop when the norm of the gradient is below.
        norm: Order of that norm; infinity takes the largest entry.
        convergence_xtol_rel: Stop when the step is below this times the norm of x.
        armijo_condition: Sufficient decrease, c1 of the Wolfe conditions.
        curvature_condition: c2 of the Wolfe conditions.
        display: Whether SciPy prints its progress.
    """

    method = "BFGS"
    scipy_options: ClassVar = {
        "gtol": "convergence_gtol_abs",
        "norm": "norm",
        "xrtol": "convergence_xtol_rel",
        "c1": "armijo_condition",
        "c2": "curvature_condition",
        "disp": "display",
    }

    convergence_gtol_abs: NonNegativeFloat = CONVERGENCE_GTOL_ABS
    norm: NonNegativeFloat = math.inf
    convergence_xtol_rel: NonNegativeFloat = CONVERGENCE_XTOL_REL
    armijo_condition: NonNegativeFloat = 1e-4
    curvature_condition: NonNegativeFloat = 0.9
    display: bool = False


@algorithm("scipy_conjugate_gradient", needs_jac=True)
class ScipyConjugateGradient(ScipyMinimizer):
    """Nonlinear conjugate gradients (Polak and Ribiere 1969; Nocedal and Wright 2006, p. 121).

    Args:
        convergence_gtol_abs: Stop when the norm of the gradient is below.
        norm: Order of that norm; infinity takes the largest entry.
        display: Whether SciPy prints its progress.
    """

    method = "CG"
    scipy_options: ClassVar = {"gtol": "convergence_gtol_abs", "norm": "norm", "disp": "display"}

    convergence_gtol_abs: NonNegativeFloat = CONVERGENCE_GTOL_ABS
    norm: NonNegativeFloat = math.inf
    display: bool = False


@algorithm("scipy_newton_cg", needs_jac=True, uses_hess=True)
class ScipyNewtonCG(ScipyMinimizer):
    """Line-search Newton with conjugate gradients (Nocedal and Wright 2006, algorithm 7.1).

    Uses exact second derivatives where there are any, else difference quotients of gradients:
    of exact ones at points of the path, of numerical ones with longer steps.

    Args:
        convergence_xtol_rel: Stop when the mean absolute step is below.
        display: Whether SciPy prints its progress.
    """

    method = "Newton-CG"
    scipy_options: ClassVar = {"xtol": "convergence_xtol_rel", "disp": "display"}

    convergence_xtol_rel: NonNegativeFloat = CONVERGENCE_XTOL_REL
    display: bool = False

    def second_order(self, evaluator: Evaluator) -> dict[str, Any]:
        """Return ``hessp`` or ``hess``, or nothing where SciPy's differences of gradients do."""
        objective = evaluator.objective
        if objective.hessian_product is not None:
            return {"hessp": evaluator.hessp}
        # SciPy's short steps would drown in the errors of numerical gradients
        if objective.hessian is not None or not objective.has_derivative:
            return {"hess": evaluator.hess}
        return {}


@algorithm("scipy_cobyla", supports_linear_constraints=True, supports_nonlinear_constraints=True,
           counts_iterations=False)  # fmt: skip
class ScipyCOBYLA(ScipyMinimizer):
    """Linear approximations in a trust region (Powell 1994, doi:10.1007/978-94-015-8330-5_4).

    An iteration is an evaluation.

    Args:
        convergence_xtol_rel: Final radius of the trust region.
        trustregion_initial_radius: First radius; None means a tenth of the largest start value
            in absolute terms, at least 0.1.
        display: Whether SciPy prints its progress.
    """

    method = "COBYLA"
    scipy_options: ClassVar = {"tol": "convergence_xtol_rel", "disp": "display"}
    fixed_options: ClassVar = {"maxiter": NO_LIMIT}
    has_maxiter = False
    radius_option = "rhobeg"

    convergence_xtol_rel: NonNegativeFloat = CONVERGENCE_XTOL_REL
    trustregion_initial_radius: PositiveFloat | None = None
    display: bool = False


@algorithm("scipy_cobyqa", supports_bounds=True, supports_infinite_bounds=True,
           supports_linear_constraints=True, supports_nonlinear_constraints=True)  # fmt: skip
class ScipyCOBYQA(ScipyMinimizer):
    """Quadratic models in a trust region (Ragonneau 2022, doi:10.5353/th_991044625192503414).

    The first choice without derivatives for smooth problems of up to some dozen parameters. On
    infeasible problems it would go on for ever; with constraints, iterations are limited to 1,000
    a parameter.

    Args:
        convergence_xtol_abs: Final radius of the trust region.
        trustregion_initial_radius: First radius; None means a tenth of the largest start value
            in absolute terms, at least 0.1.
        scale: Scale parameters by their bounds, where all are finite.
        display: Whether SciPy prints its progress.
    """

    method = "COBYQA"
    scipy_options: ClassVar = {
        "final_tr_radius": "convergence_xtol_abs",
        "scale": "scale",
        "disp": "display",
    }
    fixed_options: ClassVar = {"maxfev": NO_LIMIT}
    radius_option = "initial_tr_radius"

    convergence_xtol_abs: PositiveFloat = 1e-6
    trustregion_initial_radius: PositiveFloat | None = None
    scale: bool = False
    display: bool = False

    def options_of_run(self, evaluator: Evaluator, x0: Array) -> dict[str, float]:
        """Return the first radius; with constraints, their tolerance and the limit too."""
        options = super().options_of_run(evaluator, x0)
        if evaluator.constraints:
            options["maxiter"] = min(self.stopping_maxiter, _MAXITER_CONSTRAINED * len(x0))
            options["feasibility_tol"] = min(float(c.tol.min()) for c in evaluator.constraints)
        return options


@algorithm(
    "scipy_truncated_newton", needs_jac=True, supports_bounds=True, supports_infinite_bounds=True
)
class ScipyTruncatedNewton(ScipyMinimizer):
    """Truncated Newton with bounds, TNC (Nash 1984, doi:10.1137/0721052).

    Args:
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_abs: Stop when scaled parameters change by less.
        convergence_gtol_abs: Stop when the norm of the scaled projected gradient is below.
        max_hess_evaluations_per_iteration: Limit on inner iterations; -1 means
            ``max(1, min(50, n / 2))``.
        max_step_for_line_search: Largest step; 0 means 10, raised if needed.
        line_search_severity: Between 0 and 1; -1 means 0.25.
        finite_difference_precision: Relative precision of the inner differences; 0 chooses.
        criterion_rescale_factor: Log10 of the factor at which the value is rescaled; -1 means 1.3.
        func_min_estimate: Estimate of the smallest value.
        display: Whether SciPy prints its progress.
    """

    method = "TNC"
    scipy_options: ClassVar = {
        "ftol": "convergence_ftol_abs",
        "xtol": "convergence_xtol_abs",
        "gtol": "convergence_gtol_abs",
        "maxCGit": "max_hess_evaluations_per_iteration",
        "stepmx": "max_step_for_line_search",
        "eta": "line_search_severity",
        "accuracy": "finite_difference_precision",
        "rescale": "criterion_rescale_factor",
        "minfev": "func_min_estimate",
        "disp": "display",
    }
    fixed_options: ClassVar = {"maxfun": NO_LIMIT}
    has_maxiter = False

    convergence_ftol_abs: NonNegativeFloat = 0.0
    convergence_xtol_abs: NonNegativeFloat = 0.0
    convergence_gtol_abs: NonNegativeFloat = CONVERGENCE_GTOL_ABS
    max_hess_evaluations_per_iteration: int = -1
    max_step_for_line_search: NonNegativeFloat = 0.0
    line_search_severity: float = -1.0
    finite_difference_precision: NonNegativeFloat = 0.0
    criterion_rescale_factor: float = -1.0
    func_min_estimate: float = 0.0
    display: bool = False


@algorithm("scipy_trust_constr", needs_jac=True, uses_hess=True, supports_bounds=True,
           supports_infinite_bounds=True, supports_linear_constraints=True,
           supports_nonlinear_constraints=True)  # fmt: skip
class ScipyTrustConstr(ScipyMinimizer):
    """Trust-region interior point (Byrd, Hribar and Nocedal 1999, doi:10.1137/S1052623497325107).

    The most versatile of SciPy's algorithms with constraints. Uses exact Hessians where there
    are any, and BFGS where not. With inequalities it runs a second time, from its solution and
    with a small barrier, because SciPy tests convergence while the barrier is still large. With
    constraints, iterations are limited to 1,000.

    Args:
        convergence_gtol_abs: Stop when the gradient of the Lagrangian is below.
        convergence_xtol_rel: Stop when the radius of the trust region is below.
        trustregion_initial_radius: First radius; None means a tenth of the largest start value
            in absolute terms, at least 0.1.
        display: Whether SciPy prints its progress.
    """

    method = "trust-constr"
    scipy_options: ClassVar = {
        "gtol": "convergence_gtol_abs",
        "xtol": "convergence_xtol_rel",
        "disp": "display",
    }
    radius_option = "initial_tr_radius"

    convergence_gtol_abs: NonNegativeFloat = 1e-8
    convergence_xtol_rel: NonNegativeFloat = CONVERGENCE_XTOL_REL
    trustregion_initial_radius: PositiveFloat | None = None
    display: bool = False

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with SciPy, with a large and then with a small barrier."""
        first = self.solve_with_barrier(evaluator, x0, _BARRIERS[0])
        has_barrier = evaluator.space.has_bounds or any(
            (c.lower < c.upper).any() for c in evaluator.constraints
        )
        if not (first.success and has_barrier):
            return first
        second = self.solve_with_barrier(evaluator, evaluator.best_x, _BARRIERS[1])
        n_iterations = (first.n_iterations or 0) + (second.n_iterations or 0)
        return replace(second if second.success else first, n_iterations=n_iterations)

    def solve_with_barrier(self, evaluator: Evaluator, x0: Array, barrier: float) -> Outcome:
        """Minimize with SciPy from a barrier parameter; points keep that far from bounds."""
        lower, upper = evaluator.space.lower, evaluator.space.upper
        # the barrier is infinite on the bounds
        margin = np.minimum(barrier * np.maximum(1.0, np.abs(x0)), (upper - lower) / 10)
        inside = np.minimum(np.maximum(x0, lower + margin), upper - margin)
        return self.minimize(evaluator, inside, {"initial_barrier_parameter": barrier})

    def options_of_run(self, evaluator: Evaluator, x0: Array) -> dict[str, float]:
        """Return the first radius, and the limit on iterations with constraints."""
        options = super().options_of_run(evaluator, x0)
        if evaluator.constraints:
            options["maxiter"] = min(self.stopping_maxiter, _MAXITER_CONSTRAINED)
        return options

    def second_order(self, evaluator: Evaluator) -> dict[str, Any]:
        """Return ``hess``: dense where that is cheap, else as products with vectors."""
        from scipy.optimize import BFGS
        from scipy.sparse.linalg import LinearOperator

        n = evaluator.space.n_x
        has_products = evaluator.objective.hessian_product is not None
        if evaluator.objective.hessian is not None and (n <= _DENSE_HESSIAN or not has_products):
            return {"hess": evaluator.hess}
        if not has_products:
            return {"hess": BFGS()}

        def operator(x: Array) -> Any:
            return LinearOperator((n, n), matvec=lambda v: evaluator.hessp(x, v.ravel()))

        return {"hess": operator}


@dataclass(frozen=True, kw_only=True)
class _TrustRegionNewton(ScipyMinimizer):
    """Options that SciPy's trust-region Newton methods share."""

    scipy_options: ClassVar = {
        "gtol": "convergence_gtol_abs",
        "initial_trust_radius": "trustregion_initial_radius",
        "max_trust_radius": "trustregion_max_radius",
        "eta": "acceptance_ratio",
        "disp": "display",
    }

    convergence_gtol_abs: NonNegativeFloat = CONVERGENCE_GTOL_ABS
    trustregion_initial_radius: PositiveFloat = 1.0
    trustregion_max_radius: PositiveFloat = 1000.0
    acceptance_ratio: NonNegativeFloat = 0.15
    display: bool = False


_TRUST_REGION_ARGS = """

    Args:
        convergence_gtol_abs: Stop when the norm of the gradient is below.
        trustregion_initial_radius: First radius of the trust region.
        trustregion_max_radius: Largest radius; must exceed the first.
        acceptance_ratio: Least ratio of actual to predicted decrease of an accepted step.
        display: Whether SciPy prints its progress.
    """


@algorithm("scipy_trust_ncg", needs_jac=True, needs_hess=True)
class ScipyTrustNCG(_TrustRegionNewton):
    """Trust-region Newton with conjugate gradients (Steihaug 1983, doi:10.1137/0720042)."""

    method = "trust-ncg"


@algorithm("scipy_trust_krylov", needs_jac=True, needs_hess=True)
class ScipyTrustKrylov(_TrustRegionNewton):
    """Trust-region Newton by GLTR (Gould et al. 1999, doi:10.1137/S1052623497322735)."""

    method = "trust-krylov"


@dataclass(frozen=True, kw_only=True)
class _DenseTrustRegionNewton(_TrustRegionNewton):
    """Methods that factorise the Hessian."""

    def second_order(self, evaluator: Evaluator) -> dict[str, Any]:
        """Return ``hess``."""
        return {"hess": evaluator.hess}


@algorithm("scipy_trust_exact", needs_jac=True, needs_hess=True)
class ScipyTrustExact(_DenseTrustRegionNewton):
    """Trust-region Newton, nearly exact (More and Sorensen 1983, doi:10.1137/0904038).

    The most robust choice for hard smooth problems of up to some hundred parameters.
    """

    method = "trust-exact"


@algorithm("scipy_dogleg", needs_jac=True, needs_hess=True)
class ScipyDogleg(_DenseTrustRegionNewton):
    """Dogleg trust region (Powell 1970; Nocedal and Wright 2006, p. 73).

    Only for convex problems: a Hessian that is not positive definite ends the run.
    """

    method = "dogleg"


for _cls in (ScipyTrustNCG, ScipyTrustKrylov, ScipyTrustExact, ScipyDogleg):
    _cls.__doc__ = (_cls.__doc__ or "").rstrip() + _TRUST_REGION_ARGS

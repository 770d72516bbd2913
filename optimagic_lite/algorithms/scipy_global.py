"""The global minimizers of SciPy that compare values: grids, populations, divisions of the box.

Options are those of optimagic 0.5. Everything goes through the evaluator, points that are known
together as one batch, and every local search keeps the bounds. Sources of the methods stand in the
docstrings, those of the code in SciPy's documentation (Virtanen et al. 2020,
doi:10.1038/s41592-019-0686-2).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import (
    CONVERGENCE_FTOL_REL,
    SECOND_BEST_FTOL_ABS,
    STOPPING_MAXFUN_GLOBAL,
    Fraction,
    NonNegativeFloat,
    Outcome,
    PositiveInt,
    Range,
    Seed,
    algorithm,
)
from optimagic_lite.algorithms.scipy_local import NO_LIMIT, Quiet, ScipyMinimizer
from optimagic_lite.exceptions import InvalidAlgoOptionError
from optimagic_lite.parallel import BatchEvaluatorName, Cores
from optimagic_lite.stopping import Stop, StopRun

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

# most points that are evaluated as one batch
_MAX_BATCH = 4096
# largest share of the width of the box by which a start is moved off a bound, against rounding
_MARGIN = 1e-12
# SciPy's code for the end of direct by its limit on iterations
_DIRECT_MAXITER = 2


# ---- what several of them do -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class InBatches(ScipyMinimizer):
    """Base of those that know many points before they need their values."""

    n_cores: PositiveInt = 1
    batch_evaluator: BatchEvaluatorName | Callable[..., Any] = "joblib"

    def values(self, evaluator: Evaluator, points: Iterable[Array]) -> Array:
        """Return the values at points, as few batches as limits and records allow.

        A criterion that is not JAX is recorded after each evaluation on one core.
        """
        space = evaluator.space
        # scaled from a unit box, so that rounding may leave the bounds
        xs = np.clip(np.array(list(points)).reshape(-1, space.n_x), space.lower, space.upper)
        cores = Cores(self.n_cores, self.batch_evaluator)
        is_batch = evaluator.objective.program is not None or cores.is_spread
        found: list[Array] = []
        while len(xs):
            n_now = min(evaluator.remaining(), _MAX_BATCH) if is_batch else 1
            found.append(evaluator.batch_fun(xs[:n_now], cores=cores))
            xs = xs[n_now:]
        return np.concatenate([np.empty(0), *found])


def generator(seed: Seed) -> np.random.Generator:
    """Return a source of random numbers."""
    return np.random.default_rng(seed)


def outcome_of(result: Any, n_iterations: int | None = None) -> Outcome:
    """Turn SciPy's result into an outcome."""
    message = result.message
    fun = float(np.squeeze(result.fun)) if result.get("fun") is not None else math.inf
    return Outcome(
        success=bool(result.success),
        message=message if isinstance(message, str) else ". ".join(message),
        status=result.get("status"),
        fun=fun if math.isfinite(fun) else None,
        n_iterations=n_iterations,
    )


def pairs(evaluator: Evaluator) -> list[tuple[float, float]]:
    """Return bounds in the form that all of SciPy takes."""
    space = evaluator.space
    return list(zip(space.lower.tolist(), space.upper.tolist(), strict=True))


# ---- grid --------------------------------------------------------------------------------------


@algorithm("scipy_brute", is_global=True, needs_bounds=True, supports_bounds=True,
           supports_parallelism=True, counts_iterations=False)  # fmt: skip
class ScipyBrute(InBatches):
    """All points of a regular grid, as ``scipy.optimize.brute`` does it, in bounded memory.

    For n parameters these are ``n_grid_points**n`` points. The start is recorded, but the search
    does not use it.

    Args:
        n_grid_points: Number of points along each parameter, both bounds included.
        polishing_function: Called with the criterion, as a function of what the algorithm sees,
            and the best point of the grid, such as ``scipy.optimize.fmin`` or
            ``scipy.optimize.minimize``; None leaves it at the grid.
        n_cores: Number of cores for a criterion that is not JAX.
        batch_evaluator: Name or function of what spreads points over cores.
    """

    n_grid_points: PositiveInt = 20
    polishing_function: Callable[..., Any] | None = None

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Evaluate the grid in blocks, and polish."""
        del x0
        space = evaluator.space
        axes = np.linspace(space.lower, space.upper, self.n_grid_points)
        n_points = self.n_grid_points**space.n_x
        columns = np.arange(space.n_x)
        for start in range(0, n_points, _MAX_BATCH):
            numbers = np.arange(start, min(start + _MAX_BATCH, n_points))
            places = np.unravel_index(numbers, (self.n_grid_points,) * space.n_x)
            self.values(evaluator, axes[np.stack(places, axis=1), columns])
        if self.polishing_function is not None:
            self._polish(evaluator, self.polishing_function)
        return Outcome(True, "All points of the grid were evaluated.", fun=evaluator.best_f)

    def check_fit(self, n_x: int, *, has_bounds: bool) -> None:
        """Refuse a grid that nothing can number."""
        if n_x and self.n_grid_points ** float(n_x) > 2**62:
            raise InvalidAlgoOptionError(
                f"{self.name} would have to evaluate {self.n_grid_points}**{n_x} points. "
                "Take fewer n_grid_points, or another global algorithm."
            )

    @staticmethod
    def _polish(evaluator: Evaluator, function: Callable[..., Any]) -> None:
        from scipy import optimize

        lower, upper = evaluator.space.lower, evaluator.space.upper

        def inside(x: Array) -> float:
            x = np.asarray(x, dtype=np.float64)
            is_outside = ((x < lower) | (x > upper)).any()
            return math.inf if is_outside else float(evaluator.fun(x))

        # what SciPy passes to such functions
        known = {"disp": False, "bounds": optimize.Bounds(lower, upper)}
        try:
            taken = inspect.signature(function).parameters
        except (TypeError, ValueError):
            taken = {}  # type: ignore[assignment]
        with Quiet():
            function(
                inside, evaluator.best_x.copy(), **{k: v for k, v in known.items() if k in taken}
            )


# ---- populations -------------------------------------------------------------------------------

_Strategy = Literal[
    "best1bin", "best1exp", "rand1exp", "randtobest1exp", "currenttobest1exp", "best2exp",
    "rand2exp", "randtobest1bin", "currenttobest1bin", "best2bin", "rand2bin", "rand1bin",
]  # fmt: skip
_Mutation = Annotated[float, Range(0, high=2, open_high=True)]


@algorithm("scipy_differential_evolution", is_global=True, needs_bounds=True,
           supports_bounds=True, supports_parallelism=True, supports_nonlinear_constraints=True,
           inequalities_only=True)  # fmt: skip
class ScipyDifferentialEvolution(InBatches):
    """Differential evolution (Storn and Price 1997, doi:10.1023/A:1008202821328).

    A generation is one batch; the start is a member of the first. Points that violate a native
    inequality (Lampinen 2002, doi:10.1109/CEC.2002.1004459) are not evaluated.

    Args:
        strategy: How trial points are made, by SciPy's name, or a function
            ``(candidate, population, rng)``.
        stopping_maxiter: Limit on generations.
        population_size_multiplier: Number of points in a generation for each parameter.
        convergence_ftol_rel: Stop when the standard deviation of the values of a generation is
            below ``convergence_ftol_abs + convergence_ftol_rel * |mean|``.
        mutation_constant: Scale of the steps, in [0, 2), or a pair between which it is drawn anew
            for each generation.
        recombination_constant: Probability with which an entry comes from the step.
        seed: Of the random numbers: the same number gives the same run, None each time another;
            a generator of NumPy goes on where it is.
        polish: Whether L-BFGS-B, with native constraints SLSQP, goes on from the best point, with
            difference quotients.
        sampling_method: Of the first generation, or an array with a point a row.
        convergence_ftol_abs: See ``convergence_ftol_rel``.
        n_cores: Number of cores for a criterion that is not JAX.
        batch_evaluator: Name or function of what spreads points over cores.
    """

    strategy: _Strategy | Callable[..., Any] = "best1bin"
    stopping_maxiter: PositiveInt = STOPPING_MAXFUN_GLOBAL
    population_size_multiplier: PositiveInt = 15
    convergence_ftol_rel: NonNegativeFloat = 0.01
    mutation_constant: _Mutation | tuple[_Mutation, _Mutation] = (0.5, 1)
    recombination_constant: Fraction = 0.7
    seed: Seed = 0
    polish: bool = True
    sampling_method: (
        Literal["latinhypercube", "random", "sobol", "halton"] | NDArray[np.float64]
    ) = "latinhypercube"
    convergence_ftol_abs: NonNegativeFloat = SECOND_BEST_FTOL_ABS

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with SciPy, and polish."""
        from scipy import optimize

        space = evaluator.space
        margin = _MARGIN * (space.upper - space.lower)

        def count(intermediate_result: Any) -> None:
            del intermediate_result
            # a generation without a feasible point evaluates nothing
            evaluator.remaining()
            evaluator.iteration()

        result = optimize.differential_evolution(
            evaluator.fun,
            bounds=pairs(evaluator),
            strategy=self.strategy,
            maxiter=NO_LIMIT,
            popsize=self.population_size_multiplier,
            tol=self.convergence_ftol_rel,
            mutation=self.mutation_constant,
            recombination=self.recombination_constant,
            rng=generator(self.seed),
            callback=count,
            polish=False,
            init=self.sampling_method,
            atol=self.convergence_ftol_abs,
            updating="deferred",
            workers=lambda _, points: self.values(evaluator, points),
            constraints=self.constraints(evaluator),
            x0=np.clip(x0, space.lower + margin, space.upper - margin),
        )
        outcome = outcome_of(result, evaluator.n_iterations)
        if not self.polish or evaluator.best_violation > 0:
            return outcome
        self._polish(evaluator)
        return replace(outcome, fun=evaluator.best_f)

    def constraints(self, evaluator: Evaluator) -> list[Any]:
        """Return the native constraints, with their derivatives for the polish."""
        from scipy import optimize

        out = super().constraints(evaluator)
        for i, constraint in enumerate(out):
            if isinstance(constraint, optimize.NonlinearConstraint):
                constraint.jac = partial(evaluator.constraint_jac, i)
        return out

    def _polish(self, evaluator: Evaluator) -> None:
        from scipy import optimize

        space, constraints = evaluator.space, self.constraints(evaluator)
        with Quiet():
            optimize.minimize(
                evaluator.fun,
                evaluator.best_x.copy(),
                method="SLSQP" if constraints else "L-BFGS-B",
                bounds=optimize.Bounds(space.lower, space.upper, keep_feasible=True),
                constraints=constraints,
            )


# ---- division of the box -----------------------------------------------------------------------


@algorithm("scipy_direct", is_global=True, needs_bounds=True, supports_bounds=True)
class ScipyDirect(ScipyMinimizer):
    """Division of the box into rectangles (Jones et al. 1993, doi:10.1007/BF00941892).

    The start is recorded, but the search does not use it.

    Args:
        convergence_ftol_rel: Least gain, relative to the best value, that the division of a
            rectangle must promise.
        stopping_maxiter: Limit on rounds of divisions.
        locally_biased: Prefer rectangles near the best point (Gablonsky and Kelley 2001,
            doi:10.1023/A:1017930332101): better where there are few local minima.
        convergence_minimum_criterion_value: Value of the optimum if it is known; minus infinity
            if not.
        convergence_minimum_criterion_tolerance: Stop when the best value is that close to it,
            relatively.
        volume_hyperrectangle_tolerance: Stop when the volume of the rectangle of the best point,
            as a share of the box, is below.
        length_hyperrectangle_tolerance: Stop when half its longest side, or half its diagonal if
            not locally_biased, is below, in units of the box.
    """

    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    stopping_maxiter: PositiveInt = STOPPING_MAXFUN_GLOBAL
    locally_biased: bool = True
    convergence_minimum_criterion_value: float = -math.inf
    convergence_minimum_criterion_tolerance: Fraction = 1e-4
    volume_hyperrectangle_tolerance: Fraction = 1e-16
    length_hyperrectangle_tolerance: Fraction = 1e-6

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with SciPy."""
        from scipy import optimize

        del x0
        known = self.convergence_minimum_criterion_value
        result = optimize.direct(
            evaluator.fun,
            pairs(evaluator),
            eps=self.convergence_ftol_rel,
            maxfun=min(self.stopping_maxfun, NO_LIMIT),
            maxiter=min(self.stopping_maxiter, NO_LIMIT),
            locally_biased=self.locally_biased,
            f_min=evaluator.user_value(known) if math.isfinite(known) else -math.inf,
            f_min_rtol=self.convergence_minimum_criterion_tolerance,
            vol_tol=self.volume_hyperrectangle_tolerance,
            len_tol=self.length_hyperrectangle_tolerance,
        )
        evaluator.n_iterations = int(result.nit)
        if result.status == _DIRECT_MAXITER:
            raise StopRun(Stop.MAXITER, self.stopping_maxiter)
        return outcome_of(result, evaluator.n_iterations)

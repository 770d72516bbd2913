"""The global minimizers of SciPy that search locally from many points; see ``scipy_global``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import (
    STOPPING_MAXFUN_GLOBAL,
    NonNegativeFloat,
    NonNegativeInt,
    Outcome,
    PositiveFloat,
    PositiveInt,
    Range,
    Seed,
    algorithm,
)
from optimagic_lite.algorithms.parts import Part, parts
from optimagic_lite.algorithms.scipy_global import (
    InBatches,
    generator,
    outcome_of,
    pairs,
)
from optimagic_lite.algorithms.scipy_local import NO_LIMIT, Quiet, ScipyMinimizer
from optimagic_lite.exceptions import InvalidAlgoOptionError
from optimagic_lite.stopping import Stop, StopRun

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

_USES_GRADIENT = {"CG", "BFGS", "Newton-CG", "L-BFGS-B", "TNC", "SLSQP", "trust-constr"}
_IGNORES_BOUNDS = {"CG", "BFGS", "Newton-CG", "COBYLA"}
_NO_SEARCH = (
    "No sample was lower than all its neighbours, so there was no local search. Take more "
    "n_sampling_points, or sampling_method='sobol'."
)
_TAKES_CONSTRAINTS = {"SLSQP", "COBYQA"}


def _local_search(
    algorithm: Any, evaluator: Evaluator, options: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the arguments of ``scipy.optimize.minimize`` for a local search."""
    from scipy import optimize

    space = evaluator.space
    out = {"method": algorithm, **(options or {})}
    if callable(algorithm) or algorithm in _USES_GRADIENT:
        out["jac"] = evaluator.jac
    if space.has_bounds:
        out["bounds"] = optimize.Bounds(space.lower, space.upper, keep_feasible=True)
    return out


def _check_local_options(name: str, options: dict[str, Any] | None, valid: set[str]) -> None:
    for key in options or {}:
        if key not in valid:
            raise InvalidAlgoOptionError(
                f"local_algo_options of {name} are arguments of scipy.optimize.minimize, of which "
                f"it takes {' and '.join(map(repr, sorted(valid)))}, not {key!r}."
            )


@algorithm("scipy_shgo", is_global=True, needs_jac=True, needs_bounds=True, supports_bounds=True,
           supports_parallelism=True, supports_nonlinear_constraints=True,
           counts_iterations=False)  # fmt: skip
class ScipySHGO(InBatches):
    """Simplicial homology global optimisation (Endres et al. 2018, doi:10.1007/s10898-018-0645-y).

    Samples the box in batches, and searches locally from points that are lower than their
    neighbours. Takes native constraints: samples that violate an inequality are not evaluated,
    equalities hold in the local searches alone. The start is recorded, but the search does not use
    it.

    Args:
        local_algorithm: SciPy's name of a method that keeps bounds. With native constraints,
            SLSQP takes the place of one that takes none.
        local_algo_options: ``{"options": {"ftol": ...}}``; SciPy passes on nothing else.
        n_sampling_points: Number of points in an iteration.
        n_simplex_iterations: Number of iterations, if no option about convergence says otherwise.
        sampling_method: How points are chosen, or a function ``(n, dimension)`` that returns
            points of the unit box.
        max_sampling_evaluations: Stop after so many evaluations of samples.
        convergence_minimum_criterion_value: Value of the optimum, if it is known.
        convergence_minimum_criterion_tolerance: Stop when the best value is that close to it,
            relatively.
        stopping_max_processing_time: Stop after the iteration in which so many seconds are over.
        minimum_homology_group_rank_differential: Stop after an iteration that found no more than
            so many further local minima.
        symmetry: Whether all parameters can be exchanged with each other. (SciPy takes a list of
            some of them as if they were all.)
        minimize_every_iteration: Whether to search locally in every iteration, not in the last
            one alone.
        max_local_minimizations_per_iteration: Limit on local searches in an iteration.
        infinity_constraints: Whether samples that violate constraints are kept as infinitely high
            ones.
        n_cores: Number of cores for samples of a criterion that is not JAX.
        batch_evaluator: Name or function of what spreads points over cores.
    """

    stopping_maxfun: PositiveInt = STOPPING_MAXFUN_GLOBAL
    local_algorithm: Literal["L-BFGS-B", "TNC", "SLSQP", "COBYQA"] = "L-BFGS-B"
    local_algo_options: dict[str, Any] | None = None
    n_sampling_points: PositiveInt = 128
    n_simplex_iterations: PositiveInt = 1
    sampling_method: Literal["simplicial", "halton", "sobol"] | Callable[..., Any] = "simplicial"
    max_sampling_evaluations: PositiveInt | None = None
    convergence_minimum_criterion_value: float | None = None
    convergence_minimum_criterion_tolerance: NonNegativeFloat = 1e-4
    stopping_max_processing_time: PositiveFloat | None = None
    minimum_homology_group_rank_differential: NonNegativeInt | None = None
    symmetry: bool = False
    minimize_every_iteration: bool = True
    max_local_minimizations_per_iteration: PositiveInt | bool = False
    infinity_constraints: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_local_options(self.name, self.local_algo_options, {"options"})
        inner = (self.local_algo_options or {}).get("options", {})
        if set(inner) - {"ftol"}:
            raise InvalidAlgoOptionError(
                f"Of the options of a local search, SciPy passes on ftol alone in {self.name}, "
                f"not {', '.join(sorted(set(inner) - {'ftol'}))}."
            )

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with SciPy."""
        from scipy import optimize

        del x0
        method = self.local_algorithm
        if evaluator.constraints and method not in _TAKES_CONSTRAINTS:
            method = "SLSQP"
        # COBYQA and SciPy's pool of samples ask for values alone
        with Quiet(), np.errstate(invalid="ignore"):
            result = optimize.shgo(
                evaluator.fun,
                pairs(evaluator),
                constraints=list(_as_dicts(evaluator)) or None,
                n=self.n_sampling_points,
                iters=self.n_simplex_iterations,
                minimizer_kwargs=_local_search(method, evaluator, self.local_algo_options),
                options=self._options(evaluator),
                sampling_method=self.sampling_method,
                workers=lambda function, points: self._map(evaluator, function, points),
            )
        outcome = outcome_of(result, int(result.nit))
        if outcome.message.startswith("Failed to find a feasible minimizer"):
            return replace(outcome, message=_NO_SEARCH)
        return outcome

    def _map(self, evaluator: Evaluator, function: Any, points: list[Array]) -> Iterable[Any]:
        """Evaluate what SciPy wants to know of many points: the criterion, or the constraints."""
        if function.__name__ == "gcons":
            return map(function, points)
        return self.values(evaluator, points)

    def _options(self, evaluator: Evaluator) -> dict[str, Any]:
        known = self.convergence_minimum_criterion_value
        options = {
            "maxfev": self.max_sampling_evaluations,
            "f_min": None if known is None else evaluator.user_value(known),
            "f_tol": self.convergence_minimum_criterion_tolerance,
            "maxtime": self.stopping_max_processing_time,
            "minhgrd": self.minimum_homology_group_rank_differential,
            "symmetry": self.symmetry,
            "minimize_every_iter": self.minimize_every_iteration,
            "local_iter": self.max_local_minimizations_per_iteration,
            "infty_constraints": self.infinity_constraints,
        }
        return {name: value for name, value in options.items() if value is not None}


def _as_dicts(evaluator: Evaluator) -> Iterator[dict[str, Any]]:
    """Yield the native constraints in the form in which SciPy's shgo looks at them."""

    def negative(function: Callable[..., Array], part: Part, x: Array) -> Array:
        del part
        return -function(evaluator, x)

    for part in parts(evaluator):
        yield {
            "type": "eq" if part.is_equality else "ineq",
            "fun": partial(negative, part.value, part),
            "jac": partial(negative, part.jacobian, part),
        }


_LocalName = Literal[
    "L-BFGS-B", "Nelder-Mead", "Powell", "TNC", "SLSQP", "COBYQA", "trust-constr",
]  # fmt: skip


@algorithm("scipy_dual_annealing", is_global=True, needs_jac=True, needs_bounds=True,
           supports_bounds=True)  # fmt: skip
class ScipyDualAnnealing(ScipyMinimizer):
    """Generalised simulated annealing with local searches (Xiang et al. 1997).

    See doi:10.1016/S0375-9601(97)00474-X. It has no criterion of convergence: it goes on until a
    limit is reached.

    Args:
        stopping_maxiter: Limit on iterations, the only end of a run if no other limit is set.
        local_algorithm: SciPy's name of a method that keeps bounds, or a function that
            ``scipy.optimize.minimize`` takes as a method.
        local_algo_options: ``tol`` and ``options`` of ``scipy.optimize.minimize``.
        initial_temperature: Higher ones jump further at first; more than 0.01, at most 50,000.
        restart_temperature_ratio: The annealing begins anew when the temperature has fallen to
            this share of the first one.
        visit: Heaviness of the tail of the distribution of jumps, more than 1, at most 3.
        accept: The lower, the rarer a higher value is accepted; above -10,000, at most -5.
        seed: Of the random numbers: the same number gives the same run, None each time another;
            a generator of NumPy goes on where it is.
        no_local_search: Whether to do without local searches.
    """

    stopping_maxiter: PositiveInt = STOPPING_MAXFUN_GLOBAL
    local_algorithm: _LocalName | Callable[..., Any] = "L-BFGS-B"
    local_algo_options: dict[str, Any] | None = None
    initial_temperature: Annotated[float, Range(0.01, open=True, high=5e4)] = 5230.0
    restart_temperature_ratio: Annotated[float, Range(0, open=True, high=1, open_high=True)] = 2e-5
    visit: Annotated[float, Range(1, open=True, high=3)] = 2.62
    accept: Annotated[float, Range(-1e4, open=True, high=-5)] = -5.0
    seed: Seed = 0
    no_local_search: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_local_options(self.name, self.local_algo_options, {"tol", "options"})

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with SciPy."""
        from scipy import optimize

        local = _local_search(self.local_algorithm, evaluator, self.local_algo_options)
        with Quiet():
            result = optimize.dual_annealing(
                evaluator.fun,
                pairs(evaluator),
                maxiter=self.stopping_maxiter,
                minimizer_kwargs=local,
                initial_temp=self.initial_temperature,
                restart_temp_ratio=self.restart_temperature_ratio,
                visit=self.visit,
                accept=self.accept,
                maxfun=NO_LIMIT,
                rng=generator(self.seed),
                no_local_search=self.no_local_search,
                x0=x0,
            )
        evaluator.n_iterations = int(result.nit)
        raise StopRun(Stop.MAXITER, self.stopping_maxiter)


@algorithm("scipy_basinhopping", is_global=True, needs_jac=True, supports_bounds=True,
           supports_infinite_bounds=True)  # fmt: skip
class ScipyBasinhopping(ScipyMinimizer):
    """Local searches after random steps (Wales and Doye 1997, doi:10.1021/jp970984n).

    Needs no bounds; begins at the start.

    Args:
        local_algorithm: SciPy's name of a method, one that keeps bounds if there are any, or a
            function that ``scipy.optimize.minimize`` takes as a method.
        n_local_optimizations: Number of local searches.
        temperature: How much higher a local minimum may be to be accepted as the next point;
            comparable to the differences of values at local minima.
        stepsize: Largest step in each entry at first.
        local_algo_options: ``tol`` and ``options`` of ``scipy.optimize.minimize``.
        take_step: Function that makes the next point of one, in place of a uniform random step;
            where it leaves the bounds, the point is moved onto them.
        accept_test: Function of ``f_new``, ``x_new``, ``f_old`` and ``x_old`` that says whether a
            local minimum is accepted.
        interval: Number of steps between adaptations of the stepsize.
        convergence_n_unchanged_iterations: Stop when the best value stays the same for so many
            local searches.
        seed: Of the random numbers: the same number gives the same run, None each time another;
            a generator of NumPy goes on where it is.
        target_accept_rate: Share of accepted steps at which the stepsize aims.
        stepwise_factor: By which the stepsize is multiplied or divided.
    """

    local_algorithm: (
        _LocalName | Literal["CG", "BFGS", "Newton-CG", "COBYLA"] | Callable[..., Any]
    ) = "L-BFGS-B"
    n_local_optimizations: PositiveInt = 100
    temperature: NonNegativeFloat = 1.0
    stepsize: NonNegativeFloat = 0.5
    local_algo_options: dict[str, Any] | None = None
    take_step: Callable[..., Any] | None = None
    accept_test: Callable[..., Any] | None = None
    interval: PositiveInt = 50
    convergence_n_unchanged_iterations: PositiveInt | None = None
    seed: Seed = 0
    target_accept_rate: Annotated[float, Range(0, open=True, high=1, open_high=True)] = 0.5
    stepwise_factor: Annotated[float, Range(0, open=True, high=1, open_high=True)] = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_local_options(self.name, self.local_algo_options, {"tol", "options"})

    def check_fit(self, n_x: int, *, has_bounds: bool) -> None:
        """Refuse bounds that the local searches would leave."""
        if has_bounds and self.local_algorithm in _IGNORES_BOUNDS:
            raise InvalidAlgoOptionError(
                f"local_algorithm={self.local_algorithm!r} of {self.name} cannot keep bounds, and "
                "there are some. Choose 'L-BFGS-B', or 'Nelder-Mead' for criteria that are not "
                "smooth."
            )

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with SciPy."""
        from scipy import optimize

        rng = generator(self.seed)
        with Quiet():
            result = optimize.basinhopping(
                evaluator.fun,
                x0,
                niter=self.n_local_optimizations - 1,
                T=self.temperature,
                take_step=self._step(evaluator, rng),
                accept_test=self.accept_test,
                interval=self.interval,
                niter_success=self.convergence_n_unchanged_iterations,
                minimizer_kwargs=_local_search(
                    self.local_algorithm, evaluator, self.local_algo_options
                ),
                callback=lambda *_: evaluator.iteration(),
                rng=rng,
                target_accept_rate=self.target_accept_rate,
                stepwise_factor=self.stepwise_factor,
            )
        return outcome_of(result, evaluator.n_iterations)

    def _step(self, evaluator: Evaluator, rng: np.random.Generator) -> Callable[[Array], Array]:
        """Return the random step, moved onto the bounds where it leaves them."""
        inside = partial(np.clip, a_min=evaluator.space.lower, a_max=evaluator.space.upper)
        given = self.take_step
        if given is None:
            return _InsideStep(_UniformStep(self.stepsize, rng), inside)
        if hasattr(given, "stepsize"):
            return _InsideStep(given, inside)
        return lambda x: inside(given(x))


@dataclass
class _UniformStep:
    """A random step."""

    stepsize: float
    rng: np.random.Generator

    def __call__(self, x: Array) -> Array:
        return x + self.rng.uniform(-self.stepsize, self.stepsize, len(x))


class _InsideStep:
    """A step inside the bounds, whose size SciPy adapts."""

    def __init__(self, given: Any, inside: Callable[[Array], Array]) -> None:
        self._given, self._inside = given, inside

    @property
    def stepsize(self) -> float:
        """Size of the step."""
        return float(self._given.stepsize)

    @stepsize.setter
    def stepsize(self, value: float) -> None:
        self._given.stepsize = value

    def __call__(self, x: Array) -> Array:
        return self._inside(self._given(x))

"""The global algorithms of NLopt (Johnson 2007, https://nlopt.readthedocs.io).

Few of them converge: most go on until ``stopping_maxfun`` or another limit, which is no success.
StoGO has a file of its own, ``nlopt_stogo``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from optimagic_lite.algorithms.base import (
    REGISTRY,
    STOPPING_MAXFUN_GLOBAL,
    NonNegativeInt,
    Outcome,
    PositiveInt,
    algorithm,
    option_types,
)
from optimagic_lite.algorithms.nlopt import TOLERANCES, Array, NloptMinimizer, set_seed
from optimagic_lite.exceptions import InvalidAlgoOptionError

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

_SEED = """\
        seed: Of the random numbers: the same number gives the same run, None each time another.
"""
# NLopt's GN_AGS is compiled for up to so many parameters
_MAX_AGS = 10
# of the points that AGS looks at, only those that fulfil the constraints are evaluated
_AGS_POINTS_PER_EVALUATION = 100

# its result code when it cannot divide any further
_AGS_FINE = 1

_TRAITS: dict[str, bool] = {
    "is_global": True,
    "needs_bounds": True,
    "supports_bounds": True,
    "counts_iterations": False,
}


@dataclass(frozen=True, kw_only=True)
class NloptGlobal(NloptMinimizer):
    """Base of the wrappers."""

    stopping_maxfun: PositiveInt = STOPPING_MAXFUN_GLOBAL

    def configure(self, opt: Any, evaluator: Evaluator) -> None:
        """Set seed and population, for those that have them."""
        del evaluator
        set_seed(getattr(self, "seed", 0))
        population_size = getattr(self, "population_size", None)
        if population_size is not None:
            opt.set_population(population_size)


@algorithm("nlopt_direct", **_TRAITS)
class NloptDirect(NloptGlobal):
    """Division of the box into rectangles (Jones et al. 1993, doi:10.1007/BF00941892).

    The start is recorded, but the search does not use it. It ends only by a limit.

    Args:
        locally_biased: Prefer rectangles near the best point (Gablonsky and Kelley 2001,
            doi:10.1023/A:1017930332101): better where there are few local minima.
        random_search: Choose the side to divide at random; needs locally_biased.
        unscaled_bounds: Measure rectangles in the units of the parameters, not of the box.
    """

    locally_biased: bool = False
    random_search: bool = False
    unscaled_bounds: bool = False
    seed: NonNegativeInt | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.random_search and not self.locally_biased:
            raise InvalidAlgoOptionError(
                f"{self.name} has random_search=True only together with locally_biased=True."
            )

    def nlopt_constant(self, evaluator: Evaluator) -> str:
        """Return the variant."""
        del evaluator
        parts = [
            ("_L", self.locally_biased),
            ("_RAND", self.random_search),
            ("_NOSCAL", self.unscaled_bounds),
        ]
        return "GN_DIRECT" + "".join(name for name, is_used in parts if is_used)


@algorithm("nlopt_orig_direct", **_TRAITS, supports_nonlinear_constraints=True,
           inequalities_only=True)  # fmt: skip
class NloptOrigDirect(NloptGlobal):
    """Division of the box (Gablonsky and Kelley 2001, doi:10.1023/A:1017930332101; their code).

    Takes inequality constraints, and converges when the rectangle of the best point is small.
    The start is recorded, but the search does not use it.

    Args:
        locally_biased: Prefer rectangles near the best point.
    """

    locally_biased: bool = False

    def nlopt_constant(self, evaluator: Evaluator) -> str:
        """Return the variant."""
        del evaluator
        return "GN_ORIG_DIRECT_L" if self.locally_biased else "GN_ORIG_DIRECT"


@algorithm("nlopt_crs2_lm", **_TRAITS)
class NloptCRS2LM(NloptGlobal):
    """Controlled random search (Kaelo and Ali 2006, doi:10.1007/s10957-006-9101-0).

    A population of random points, the start among them, contracts to the best of them.

    Args:
        population_size: Number of points; None means 10 (n + 1) for n parameters. At least n + 1.
    """

    constant = "GN_CRS2_LM"

    population_size: PositiveInt | None = None
    seed: NonNegativeInt | None = 0

    def check_fit(self, n_x: int, *, has_bounds: bool) -> None:
        """Refuse a population that is too small for a simplex."""
        if self.population_size is not None and self.population_size < n_x + 1:
            raise InvalidAlgoOptionError(
                f"population_size of {self.name} must be at least {n_x + 1} for {n_x} "
                f"free parameters, not {self.population_size}."
            )


@algorithm("nlopt_esch", **_TRAITS)
class NloptESCH(NloptGlobal):
    """Evolution with Cauchy mutations (Santos, Goncalves and Hernandez-Figueroa 2010).

    Args:
        population_size: Number of parents; None means 40.
    """

    constant = "GN_ESCH"

    population_size: PositiveInt | None = None
    seed: NonNegativeInt | None = 0


@algorithm("nlopt_isres", **_TRAITS, supports_nonlinear_constraints=True)
class NloptISRES(NloptGlobal):
    """Evolution with stochastic ranking (Runarsson and Yao 2005, doi:10.1109/TSMCC.2004.841906).

    Takes inequality and equality constraints.

    Args:
        population_size: Number of points; None means 20 (n + 1) for n parameters.
    """

    constant = "GN_ISRES"

    population_size: PositiveInt | None = None
    seed: NonNegativeInt | None = 0


@algorithm("nlopt_ags", **_TRAITS, supports_nonlinear_constraints=True, inequalities_only=True)
class NloptAGS(NloptGlobal):
    """Space-filling curves (Sergeyev and Markin 1995; Strongin and Sergeyev 2000).

    For up to ten parameters, better up to five; takes inequality constraints.
    """

    constant = "GN_AGS"
    takes_scalars_only = True

    def configure(self, opt: Any, evaluator: Evaluator) -> None:
        """Limit the points that it looks at, which need not be evaluations."""
        super().configure(opt, evaluator)
        opt.set_maxeval(min(self.stopping_maxfun * _AGS_POINTS_PER_EVALUATION, 2**31 - 1))

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with NLopt."""
        outcome = super().solve(evaluator, x0)
        if outcome.status != _AGS_FINE:
            return outcome
        message = (
            "The curve through the box is divided as finely as numbers allow, which can happen far "
            "from a minimum. Choose another global algorithm, for example 'nlopt_crs2_lm'."
        )
        return replace(outcome, success=False, message=message)

    def check_fit(self, n_x: int, *, has_bounds: bool) -> None:
        """Refuse too many parameters."""
        if n_x > _MAX_AGS:
            raise InvalidAlgoOptionError(
                f"{self.name} takes at most {_MAX_AGS} free parameters, and there are {n_x}. "
                "Choose another global algorithm, for example 'nlopt_crs2_lm'."
            )


# A local search that fails ends the whole run: L-BFGS and VAR do so near minima, where their line
# searches find nothing lower. NEWUOA may stay for minutes between two evaluations.
_Local = Literal[
    "nlopt_slsqp", "nlopt_mma", "nlopt_ccsaq", "nlopt_tnewton",
    "nlopt_bobyqa", "nlopt_cobyla", "nlopt_neldermead", "nlopt_sbplx",
]  # fmt: skip


@algorithm("nlopt_mlsl", **_TRAITS, needs_jac=True)
class NloptMLSL(NloptGlobal):
    """Local searches, one a valley (Rinnooy Kan and Timmer 1987, doi:10.1007/BF02592071).

    The first begins at the start, the others at points that are drawn.

    Args:
        local_algorithm: Name of the algorithm of NLopt for the local searches.
        local_algo_options: Its ``convergence_...`` options.
        low_discrepancy: Draw points from a Sobol' sequence (Kucherenko and Sytsko 2005,
            doi:10.1007/s10589-005-4615-1) rather than at random.
        population_size: Number of points drawn in an iteration; None means 4.
    """

    local_algorithm: _Local = "nlopt_slsqp"
    local_algo_options: dict[str, Any] | None = None
    low_discrepancy: bool = True
    population_size: PositiveInt | None = None
    seed: NonNegativeInt | None = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.local_algo_options or {}:
            if str(name).startswith("stopping_"):
                raise InvalidAlgoOptionError(
                    f"{name} cannot be set for the local searches of {self.name}, only for all."
                )
        self._local()

    def _local(self) -> NloptMinimizer:
        local = REGISTRY[self.local_algorithm](**(self.local_algo_options or {}))
        assert isinstance(local, NloptMinimizer)
        return local

    def nlopt_constant(self, evaluator: Evaluator) -> str:
        """Return the variant."""
        del evaluator
        return "G_MLSL_LDS" if self.low_discrepancy else "G_MLSL"

    def configure(self, opt: Any, evaluator: Evaluator) -> None:
        """Set seed, population and the local algorithm."""
        super().configure(opt, evaluator)
        opt.set_local_optimizer(self._local().new(evaluator))


for _cls in (NloptDirect, NloptOrigDirect, NloptCRS2LM, NloptESCH, NloptISRES,
             NloptAGS, NloptMLSL):  # fmt: skip
    _doc = (_cls.__doc__ or "").rstrip()
    _doc += "" if "Args:\n" in _doc else "\n\n    Args:"
    _seed = _SEED if "seed" in option_types(_cls) else ""
    _cls.__doc__ = f"{_doc}\n{_seed}{TOLERANCES}    "

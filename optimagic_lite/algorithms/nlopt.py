"""The local algorithms of NLopt (Johnson 2007, https://nlopt.readthedocs.io), from a table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import (
    CONVERGENCE_FTOL_REL,
    CONVERGENCE_XTOL_REL,
    Algorithm,
    NonNegativeFloat,
    Outcome,
    algorithm,
)
from optimagic_lite.algorithms.parts import Part, parts

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

# NLopt's result codes: name, converged, what it means and what to do
_CODES = {
    1: (True, "A convergence criterion was fulfilled."),
    2: (True, "The target value was reached."),
    3: (True, "The value changed by less than convergence_ftol_rel or convergence_ftol_abs."),
    4: (True, "The parameters changed by less than convergence_xtol_rel or convergence_xtol_abs."),
    5: (False, "The limit on evaluations was reached."),
    6: (False, "The limit on time was reached."),
    -1: (False, "NLopt failed without saying why. Try another start or another algorithm."),
    -2: (False, "NLopt refused the problem. Check bounds and options."),
    -3: (False, "NLopt ran out of memory. Try an algorithm with limited memory."),
    -4: (False, "Rounding errors prevent further progress; the point is often good. "
                "Loosen the tolerances if it is."),
    -5: (False, "The run was stopped from inside an evaluation."),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class NloptMinimizer(Algorithm):
    """Base of the wrappers.

    Args:
        convergence_xtol_rel: Stop when a step changes all parameters by less, relatively.
        convergence_xtol_abs: Stop when a step changes all parameters by less.
        convergence_ftol_rel: Stop when a step changes the value by less, relatively.
        convergence_ftol_abs: Stop when a step changes the value by less.

    Attributes:
        constant: NLopt's name.
        bounded_constant: NLopt's name of the variant for bounds, if that is another one.
        takes_scalars_only: Whether each constraint must be one number.
    """

    constant: ClassVar[str]
    bounded_constant: ClassVar[str | None] = None
    takes_scalars_only: ClassVar[bool] = False

    convergence_xtol_rel: NonNegativeFloat = CONVERGENCE_XTOL_REL
    convergence_xtol_abs: NonNegativeFloat = 0.0
    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    convergence_ftol_abs: NonNegativeFloat = 0.0

    def nlopt_constant(self, evaluator: Evaluator) -> str:
        """Return NLopt's name of the algorithm."""
        return (evaluator.space.has_bounds and self.bounded_constant) or self.constant

    def configure(self, opt: Any, evaluator: Evaluator) -> None:
        """Set what only some algorithms have."""
        del opt, evaluator
        # praxis draws random directions; two runs are to be the same
        set_seed(0)

    def new(self, evaluator: Evaluator) -> Any:
        """Return NLopt's object for the algorithm, with its convergence criteria."""
        import nlopt

        opt = nlopt.opt(getattr(nlopt, self.nlopt_constant(evaluator)), evaluator.space.n_x)
        opt.set_xtol_rel(self.convergence_xtol_rel)
        opt.set_xtol_abs(self.convergence_xtol_abs)
        opt.set_ftol_rel(self.convergence_ftol_rel)
        opt.set_ftol_abs(self.convergence_ftol_abs)
        return opt

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with NLopt."""
        space = evaluator.space
        opt = self.new(evaluator)
        if space.has_bounds:
            opt.set_lower_bounds(space.lower)
            opt.set_upper_bounds(space.upper)
        self.configure(opt, evaluator)
        calls = _Calls(opt, evaluator)
        for part in parts(evaluator):
            calls.add(part, one_by_one=self.takes_scalars_only)
        opt.set_min_objective(calls.objective)
        failure = ""
        try:
            opt.optimize(x0)
        except Exception as error:
            failure = f" ({error})" if str(error) else ""
        if calls.caught:
            raise calls.caught[0]
        code = opt.last_optimize_result()
        success, message = _CODES[code]
        fun = opt.last_optimum_value()
        return Outcome(
            success=success,
            message=message + (failure if code == -2 else ""),
            status=code,
            fun=fun if np.isfinite(fun) else None,
        )


def set_seed(seed: int | None) -> None:
    """Set the seed of all random numbers of NLopt; None takes one from the clock."""
    import nlopt

    if seed is None:
        nlopt.srand_time()
    else:
        nlopt.srand(seed)


class _Calls:
    """What NLopt calls: the evaluator, whose exceptions end the run.

    Args:
        opt: NLopt's problem.
        evaluator: Evaluates.

    Attributes:
        caught: What the evaluator raised.
    """

    def __init__(self, opt: Any, evaluator: Evaluator) -> None:
        self._opt, self._evaluator = opt, evaluator
        self.caught: list[BaseException] = []

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        import nlopt

        # some of NLopt's algorithms swallow exceptions and go on calling
        if self.caught:
            raise nlopt.ForcedStop
        try:
            yield
        except BaseException as error:
            self.caught.append(error)
            self._opt.force_stop()
            raise nlopt.ForcedStop from error

    def _inside(self, x: Array) -> Array:
        """Return x within the bounds: bobyqa and cobyla scale x and leave them by rounding."""
        space = self._evaluator.space
        return np.minimum(np.maximum(x, space.lower), space.upper) if space.has_bounds else x

    def objective(self, x: Array, gradient: Array) -> float:
        """Evaluate the criterion."""
        value: float
        with self._guarded():
            x = self._inside(x)
            if gradient.size:
                value, gradient[:] = self._evaluator.fun_and_jac(x)
            else:
                value = self._evaluator.fun(x)
            return value

    def add(self, part: Part, *, one_by_one: bool) -> None:
        """Add native constraints."""
        kind = "equality" if part.is_equality else "inequality"
        if not one_by_one:
            function = partial(self._constraint, part)
            getattr(self._opt, f"add_{kind}_mconstraint")(function, part.tol)
            return
        for i, tol in enumerate(part.tol.tolist()):
            getattr(self._opt, f"add_{kind}_constraint")(partial(self._entry, part, i), tol)

    def _constraint(self, part: Part, result: Array, x: Array, gradient: Array) -> None:
        with self._guarded():
            # some try many points that violate constraints before they evaluate the criterion
            self._evaluator.limits.check(0, self._evaluator.elapsed())
            x = self._inside(x)
            result[:] = part.value(self._evaluator, x)
            if gradient.size:
                gradient[:] = part.jacobian(self._evaluator, x)

    def _entry(self, part: Part, i: int, x: Array, gradient: Array) -> float:
        result = np.empty(len(part.tol))
        self._constraint(part, result, x, gradient[:0])
        return float(result[i])


# what docstrings say about the options that all share
TOLERANCES = (NloptMinimizer.__doc__ or "Args:\n\n").split("Args:\n")[1].split("\n\n")[0] + "\n"


@dataclass(frozen=True)
class _Row:
    """One algorithm of NLopt: its name here, NLopt's constant, docstring, traits and defaults."""

    name: str
    constant: str
    doc: str
    needs_jac: bool = False
    bounds: bool = True
    nonlinear: bool = False
    inequalities_only: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    bounded_constant: str | None = None


_SVANBERG = "(Svanberg 2002, doi:10.1137/S1052623499362822)"
_DEMBO = "(Dembo and Steihaug 1983, doi:10.1007/BF02592055; code by Luksan)"

_ROWS = [
    _Row("bobyqa", "LN_BOBYQA", "Quadratic models with bounds (Powell 2009, DAMTP 2009/NA06)."),
    _Row("newuoa", "LN_NEWUOA", "Quadratic models (Powell 2006, doi:10.1007/0-387-30065-1_16); "
         "with bounds, NLopt's variant of it for those.", bounded_constant="LN_NEWUOA_BOUND"),
    _Row("cobyla", "LN_COBYLA", "Linear models (Powell 1994, doi:10.1007/978-94-015-8330-5_4).",
         nonlinear=True),
    _Row("neldermead", "LN_NELDERMEAD", "Simplex search (Nelder and Mead 1965, "
         "doi:10.1093/comjnl/7.4.308), with bounds (Box 1965).",
         options={"convergence_ftol_rel": 0.0}),
    _Row("sbplx", "LN_SBPLX", "Nelder-Mead on a sequence of subspaces (Rowan 1990)."),
    _Row("praxis", "LN_PRAXIS", "Principal axes (Brent 1973, ISBN 0-486-41998-3).", bounds=False),
    _Row("lbfgsb", "LD_LBFGS", "Limited-memory BFGS (Liu and Nocedal 1989, "
         "doi:10.1007/BF01589116; code by Luksan), with bounds.", needs_jac=True),
    _Row("mma", "LD_MMA", f"Method of moving asymptotes {_SVANBERG}.", needs_jac=True,
         nonlinear=True, inequalities_only=True),
    _Row("ccsaq", "LD_CCSAQ", f"Conservative convex separable approximations {_SVANBERG}.",
         needs_jac=True, nonlinear=True, inequalities_only=True),
    _Row("slsqp", "LD_SLSQP", "Sequential least-squares quadratic programming (Kraft 1994, "
         "doi:10.1145/192115.192124).", needs_jac=True, nonlinear=True),
    _Row("tnewton", "LD_TNEWTON", f"Truncated Newton {_DEMBO}.", needs_jac=True),
    _Row("tnewton_restart", "LD_TNEWTON_RESTART",
         f"Truncated Newton with steepest-descent restarts {_DEMBO}.", needs_jac=True),
    _Row("tnewton_precond", "LD_TNEWTON_PRECOND",
         f"Truncated Newton preconditioned by BFGS {_DEMBO}.", needs_jac=True),
    _Row("tnewton_precond_restart", "LD_TNEWTON_PRECOND_RESTART",
         f"Preconditioned truncated Newton with restarts {_DEMBO}.", needs_jac=True),
]  # fmt: skip


def _register(row: _Row) -> type[Algorithm]:
    """Make a class of a row of the table."""
    body: dict[str, Any] = {
        "__doc__": f"{row.doc}\n\n    Args:\n{TOLERANCES}    ",
        "__module__": __name__,
        "__annotations__": dict.fromkeys(row.options, NonNegativeFloat),
        "constant": row.constant,
        "bounded_constant": row.bounded_constant,
        **row.options,
    }
    decorate = algorithm(
        f"nlopt_{row.name}",
        needs_jac=row.needs_jac,
        supports_bounds=row.bounds,
        supports_infinite_bounds=row.bounds,
        supports_nonlinear_constraints=row.nonlinear,
        inequalities_only=row.inequalities_only,
        counts_iterations=False,
    )
    title = "".join(part.capitalize() for part in row.name.split("_"))
    return decorate(type(f"Nlopt{title}", (NloptMinimizer,), body))


for _row in _ROWS:
    globals()[f"Nlopt{''.join(p.capitalize() for p in _row.name.split('_'))}"] = _register(_row)


@algorithm("nlopt_var", needs_jac=True, supports_bounds=True, supports_infinite_bounds=True,
           counts_iterations=False)  # fmt: skip
class NloptVar(NloptMinimizer):
    """Limited-memory variable metric (Vlcek and Luksan 2006, doi:10.1016/j.cam.2005.02.010).

    Args:
        rank_1_update: Update the metric by rank one rather than two.
    """

    rank_1_update: bool = True

    def nlopt_constant(self, evaluator: Evaluator) -> str:
        """Return the variant."""
        del evaluator
        return "LD_VAR1" if self.rank_1_update else "LD_VAR2"


NloptVar.__doc__ = (NloptVar.__doc__ or "").rstrip() + f"\n{TOLERANCES}    "

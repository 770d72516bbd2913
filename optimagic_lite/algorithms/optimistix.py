"""Minimizers of optimistix (Rader, Lyons and Kidger 2024, doi:10.48550/arXiv.2402.09983).

They run whole inside JAX. optimistix's own termination is replaced by the tests of ``jax_loop``,
so that convergence means the same as elsewhere. Two are left out: its NelderMead evaluates more
than once per step, and those evaluations could not be recorded; its GradientDescent is
``optax_sgd`` without momentum.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms import jax_loop
from optimagic_lite.algorithms.base import (
    CONVERGENCE_FTOL_REL,
    CONVERGENCE_GTOL_ABS,
    Algorithm,
    NonNegativeFloat,
    Outcome,
    PositiveInt,
    algorithm,
)
from optimagic_lite.algorithms.jax_loop import Status

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

CGMethod = Literal["polak_ribiere", "fletcher_reeves", "hestenes_stiefel", "dai_yuan"]


@dataclass(frozen=True)
class OptimistixStepper:
    """A minimizer of optimistix that evaluates once per step.

    Args:
        key: Name and options of the solver.
        make: Makes the solver.
    """

    key: Hashable
    make: Callable[[], Any]

    @cached_property
    def solver(self) -> Any:
        """The solver; it never terminates by itself."""
        return self.make()

    def init(self, x: jax.Array) -> Any:
        """Return iterate and solver state."""
        struct = jax.eval_shape(lambda: jnp.zeros((), x.dtype))
        state = self.solver.init(_nothing, x, None, {}, struct, None, frozenset())
        return x, state

    def point(self, state: Any) -> jax.Array:
        """Return the trial point."""
        return state[1].y_eval  # type: ignore[no-any-return]

    def step(self, state: Any, f: jax.Array, g: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        """Step on the tangent plane: it has the value and gradient of the criterion there."""
        import optimistix

        iterate, inner = state
        trial = inner.y_eval

        def tangent(y: jax.Array, _: None) -> tuple[jax.Array, None]:
            return f + jnp.dot(g, y - trial), None

        iterate, inner, _ = self.solver.step(tangent, iterate, None, {}, inner, frozenset())
        _, result = self.solver.terminate(tangent, iterate, None, {}, inner, frozenset())
        accepted = (iterate == trial).all()
        # a line search that has shrunk its step to nothing would go on for ever
        is_stuck = (inner.y_eval == iterate).all()
        trouble = jnp.where(is_stuck, int(Status.STALLED), int(Status.RUNNING))
        is_broken = result != optimistix.RESULTS.successful
        return (iterate, inner), accepted, jnp.where(is_broken, int(Status.BROKEN), trouble)


def _nothing(y: jax.Array, _: None) -> tuple[jax.Array, None]:
    return jnp.zeros((), y.dtype), None


@dataclass(frozen=True, kw_only=True)
class OptimistixMinimizer(Algorithm):
    """Base of the wrappers.

    Attributes:
        solver: Name of the class in optimistix.
    """

    solver: ClassVar[str]

    convergence_gtol_abs: NonNegativeFloat = CONVERGENCE_GTOL_ABS
    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    convergence_ftol_abs: NonNegativeFloat = 0.0
    convergence_xtol_rel: NonNegativeFloat = 0.0
    convergence_xtol_abs: NonNegativeFloat = 0.0

    def solver_options(self) -> dict[str, Any]:
        """Return arguments of the solver, all hashable."""
        return {}

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize in compiled chunks."""
        options = self.solver_options()

        def make() -> Any:
            import optimistix

            resolved = {k: getattr(optimistix, v) if k == "method" else v
                        for k, v in options.items()}  # fmt: skip
            return getattr(optimistix, self.solver)(rtol=0.0, atol=0.0, **resolved)

        stepper = OptimistixStepper((self.solver, *options.items()), make)
        tolerances = jax_loop.Tolerances(
            self.convergence_gtol_abs,
            self.convergence_ftol_rel,
            self.convergence_ftol_abs,
            self.convergence_xtol_rel,
            self.convergence_xtol_abs,
        )
        return jax_loop.run(evaluator, stepper, x0, tolerances)


@algorithm("optimistix_bfgs", needs_jac=True, needs_program=True)
class OptimistixBFGS(OptimistixMinimizer):
    """BFGS with backtracking (Nocedal and Wright 2006, section 6.1).

    The fastest choice for cheap smooth JAX criteria of up to some hundred parameters.

    Args:
        convergence_gtol_abs: Stop when the largest entry of the gradient is below.
        convergence_ftol_rel: Stop when ``|f_k - f_{k+1}| / max(|f_k|, |f_{k+1}|, 1)`` is below.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
    """

    solver = "BFGS"


@algorithm("optimistix_dfp", needs_jac=True, needs_program=True)
class OptimistixDFP(OptimistixMinimizer):
    """Davidon-Fletcher-Powell (Fletcher and Powell 1963, doi:10.1093/comjnl/6.2.163).

    With backtracking; BFGS is nearly always better.

    Args:
        convergence_gtol_abs: Stop when the largest entry of the gradient is below.
        convergence_ftol_rel: Stop when ``|f_k - f_{k+1}| / max(|f_k|, |f_{k+1}|, 1)`` is below.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
    """

    solver = "DFP"


@algorithm("optimistix_lbfgs", needs_jac=True, needs_program=True)
class OptimistixLBFGS(OptimistixMinimizer):
    """Limited-memory BFGS with backtracking (Liu and Nocedal 1989, doi:10.1007/BF01589116).

    Args:
        convergence_gtol_abs: Stop when the largest entry of the gradient is below.
        convergence_ftol_rel: Stop when ``|f_k - f_{k+1}| / max(|f_k|, |f_{k+1}|, 1)`` is below.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
        limited_memory_storage_length: Number of stored corrections.
    """

    solver = "LBFGS"

    limited_memory_storage_length: PositiveInt = 10

    def solver_options(self) -> dict[str, Any]:
        """Return the length of the memory."""
        return {"history_length": self.limited_memory_storage_length}


@algorithm("optimistix_nonlinear_cg", needs_jac=True, needs_program=True)
class OptimistixNonlinearCG(OptimistixMinimizer):
    """Nonlinear conjugate gradients with backtracking (Nocedal and Wright 2006, section 5.2).

    Args:
        convergence_gtol_abs: Stop when the largest entry of the gradient is below.
        convergence_ftol_rel: Stop when ``|f_k - f_{k+1}| / max(|f_k|, |f_{k+1}|, 1)`` is below.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
        cg_method: Formula for the weight of the last direction.
    """

    solver = "NonlinearCG"

    cg_method: CGMethod = "polak_ribiere"

    def solver_options(self) -> dict[str, Any]:
        """Return the formula."""
        return {"method": self.cg_method}

"""Solvers of optimistix (Rader, Lyons and Kidger 2024, doi:10.48550/arXiv.2402.09983).

They run whole inside JAX. optimistix's own termination is replaced by the tests of ``jax_pass``,
so that convergence means the same as elsewhere. Two are left out: its NelderMead evaluates more
than once per step, and those evaluations could not be recorded; its GradientDescent is
``optax_sgd`` without momentum.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from optimagic_lite.algorithms.base import (
    CONVERGENCE_FTOL_REL,
    CONVERGENCE_GTOL_ABS,
    NonNegativeFloat,
    PositiveInt,
    algorithm,
)
from optimagic_lite.algorithms.jax_loop import JaxAlgorithm
from optimagic_lite.algorithms.jax_pass import Box, Evaluation, Status

CGMethod = Literal["polak_ribiere", "fletcher_reeves", "hestenes_stiefel", "dai_yuan"]


@dataclass(frozen=True)
class OptimistixStepper:
    """A solver of optimistix that evaluates once per step.

    Args:
        key: Name and options of the solver.
        make: Makes the solver.
    """

    key: Hashable
    make: Callable[[], Any]

    order = 1

    @cached_property
    def solver(self) -> Any:
        """The solver; it never terminates by itself."""
        # it may be made while JAX traces; its arrays become plain numbers of the program, because
        # arrays over which a compiled function closes get lost when it is called again
        with jax.ensure_compile_time_eval():
            return jax.tree.map(_as_number, self.make())

    def init(self, x: jax.Array, start: Evaluation) -> Any:
        """Return iterate and solver state."""
        value = jnp.asarray(start.value, dtype=x.dtype)
        struct = jax.eval_shape(lambda: value)
        tangent = _tangent(value, start.derivative, x)
        state = self.solver.init(tangent, x, None, {}, struct, None, frozenset())
        return x, state

    def point(self, state: Any) -> jax.Array:
        """Return the trial point."""
        return jnp.asarray(state[1].y_eval)

    def step(self, state: Any, found: Evaluation, box: Box) -> tuple[Any, jax.Array, jax.Array]:
        """Step on the tangent plane: it has the value and derivative of the criterion there."""
        import optimistix

        del box  # it keeps none

        iterate, inner = state
        trial = inner.y_eval
        tangent = _tangent(found.value, found.derivative, trial)
        iterate, inner, _ = self.solver.step(tangent, iterate, None, {}, inner, frozenset())
        _, result = self.solver.terminate(tangent, iterate, None, {}, inner, frozenset())
        accepted = (iterate == trial).all()
        # a line search that has shrunk its step to nothing would go on for ever
        is_stuck = (inner.y_eval == iterate).all()
        trouble = jnp.where(is_stuck, int(Status.STALLED), int(Status.RUNNING))
        is_broken = result != optimistix.RESULTS.successful
        return (iterate, inner), accepted, jnp.where(is_broken, int(Status.BROKEN), trouble)


def _as_number(leaf: Any) -> Any:
    return leaf.item() if isinstance(leaf, jax.Array) else leaf


def _tangent(value: jax.Array, derivative: jax.Array, x: jax.Array) -> Callable[..., Any]:
    """Return the affine function with a value and a derivative at x, as optimistix calls it."""

    def tangent(y: jax.Array, _: None) -> tuple[jax.Array, None]:
        return value + derivative @ (y - x), None

    return tangent


@dataclass(frozen=True, kw_only=True)
class OptimistixSolver(JaxAlgorithm):
    """Base of the wrappers.

    Attributes:
        solver: Name of the class in optimistix.
        by_svd: Whether linear systems are solved such that a Jacobian may lack full rank, as on
            edges of transformed constraints.
    """

    solver: ClassVar[str]
    by_svd: ClassVar[bool] = False

    def solver_options(self) -> dict[str, Any]:
        """Return arguments of the solver, all hashable."""
        return {}

    def stepper(self) -> OptimistixStepper:
        """Return the solver, without tests of its own."""
        options = self.solver_options()

        def make() -> Any:
            import optimistix

            resolved = {k: getattr(optimistix, v) if k == "method" else v
                        for k, v in options.items()}  # fmt: skip
            if self.by_svd:
                import lineax

                resolved["linear_solver"] = lineax.AutoLinearSolver(well_posed=False)
            return getattr(optimistix, self.solver)(rtol=0.0, atol=0.0, **resolved)

        return OptimistixStepper((self.solver, *options.items()), make)


@dataclass(frozen=True, kw_only=True)
class OptimistixMinimizer(OptimistixSolver):
    """Base of those that take a number."""

    convergence_gtol_abs: NonNegativeFloat = CONVERGENCE_GTOL_ABS
    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    convergence_ftol_abs: NonNegativeFloat = 0.0
    convergence_xtol_rel: NonNegativeFloat = 0.0
    convergence_xtol_abs: NonNegativeFloat = 0.0


@dataclass(frozen=True, kw_only=True)
class OptimistixLeastSquares(OptimistixSolver):
    """Base of those that take residuals."""

    convergence_gtol_rel: NonNegativeFloat = 1e-8
    convergence_ftol_rel: NonNegativeFloat = CONVERGENCE_FTOL_REL
    convergence_ftol_abs: NonNegativeFloat = 0.0
    convergence_xtol_rel: NonNegativeFloat = 1e-8
    convergence_xtol_abs: NonNegativeFloat = 0.0


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


@algorithm(
    "optimistix_levenberg_marquardt",
    solver_type="least_squares",
    needs_jac=True,
    needs_program=True,
)
class OptimistixLevenbergMarquardt(OptimistixLeastSquares):
    """Levenberg-Marquardt (Nocedal and Wright 2006, section 10.3), damped by a trust region.

    The first choice inside JAX for least squares.

    Args:
        convergence_gtol_rel: Stop when the cosine of the angle between the residuals and each
            column of the Jacobian is below.
        convergence_ftol_rel: Stop when the sum of squares changes by less, relative to it.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
    """

    solver = "LevenbergMarquardt"


@algorithm(
    "optimistix_indirect_levenberg_marquardt",
    solver_type="least_squares",
    needs_jac=True,
    needs_program=True,
)
class OptimistixIndirectLevenbergMarquardt(OptimistixLeastSquares):
    """Levenberg-Marquardt whose damping is found from the radius of the trust region by a root.

    Source: Moré (1978), doi:10.1007/BFb0067700.

    Args:
        convergence_gtol_rel: Stop when the cosine of the angle between the residuals and each
            column of the Jacobian is below.
        convergence_ftol_rel: Stop when the sum of squares changes by less, relative to it.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
    """

    solver = "IndirectLevenbergMarquardt"


@algorithm(
    "optimistix_gauss_newton", solver_type="least_squares", needs_jac=True, needs_program=True
)
class OptimistixGaussNewton(OptimistixLeastSquares):
    """Gauss-Newton with full steps (Nocedal and Wright 2006, section 10.3).

    Fast close to a solution with small residuals; without a line search it may go astray.

    Args:
        convergence_gtol_rel: Stop when the cosine of the angle between the residuals and each
            column of the Jacobian is below.
        convergence_ftol_rel: Stop when the sum of squares changes by less, relative to it.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
    """

    solver = "GaussNewton"
    by_svd = True


@algorithm("optimistix_dogleg", solver_type="least_squares", needs_jac=True, needs_program=True)
class OptimistixDogleg(OptimistixLeastSquares):
    """Powell's dogleg between Gauss-Newton and steepest descent (Nocedal and Wright 2006, 4.1).

    Args:
        convergence_gtol_rel: Stop when the cosine of the angle between the residuals and each
            column of the Jacobian is below.
        convergence_ftol_rel: Stop when the sum of squares changes by less, relative to it.
        convergence_ftol_abs: Stop when the value changes by less.
        convergence_xtol_rel: Stop when all parameters change by less, relative to max(|x|, 1).
        convergence_xtol_abs: Stop when all parameters change by less.
    """

    solver = "Dogleg"
    by_svd = True

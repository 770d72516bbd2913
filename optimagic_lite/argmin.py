"""A solve as a pure JAX function: jit it, vmap it, differentiate the solution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optimagic_lite.algorithms.base import option_types
from optimagic_lite.algorithms.jax_loop import JaxAlgorithm
from optimagic_lite.algorithms.jax_pass import Pass, Status
from optimagic_lite.exceptions import InvalidAlgoOptionError
from optimagic_lite.history import Direction, History
from optimagic_lite.implicit import not_differentiable
from optimagic_lite.jax_problem import JaxProblem, resolve_jax_algorithm
from optimagic_lite.jax_solve import solve_whole
from optimagic_lite.space.edges import Edges
from optimagic_lite.space.trees import ParamTree, flatten_in_order

# of changes of the value: rounding
_FTOL_REL = 1e-15


class Solution(NamedTuple):
    """What a solve gives, all as arrays; under vmap with a leading axis.

    Attributes:
        params: The solution, in the structure of the start.
        fun: The criterion there.
        success: Whether it converged.
        status: Why it ended, see ``Solver.message``.
        n_iterations: Number of steps.
        n_fun_evals: Number of evaluations, each with gradient.
        gradient_norm: Largest absolute entry of the gradient with respect to what the algorithm
            sees, but for what bounds hold up.
    """

    params: Any
    fun: Any
    success: Any
    status: Any
    n_iterations: Any
    n_fun_evals: Any
    gradient_norm: Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["flat_params", "fun", "n_fun_evals"],
    meta_fields=["direction", "tree"],
)
@dataclass(frozen=True)
class SolutionTrace:
    """All evaluations of a solve; under vmap with a leading axis.

    Args:
        flat_params: Params as vectors, shape (length, n_params); NaN after the end.
        fun: Values, shape (length,); NaN after the end, and where the evaluation failed.
        n_fun_evals: Number of evaluations.
        direction: "minimize" or "maximize".
        tree: Structure of params.
    """

    flat_params: Any
    fun: Any
    n_fun_evals: Any
    direction: Direction
    tree: ParamTree

    def history(self, index: int | tuple[int, ...] = ()) -> History:
        """Return a history, which plots take.

        Args:
            index: Which of several solves that were made by vmap.
        """
        history = History(self.direction, self.tree)
        flat, fun = (np.asarray(v, dtype=np.float64)[index] for v in (self.flat_params, self.fun))
        for i in range(int(np.asarray(self.n_fun_evals)[index])):
            # a compiled solve has no clock
            times = 0.0, 0.0
            history.append(flat[i], float(fun[i]), *times, "fun_and_jac", "path" if i else "start")
        return history


def argmin(
    fun: Callable[..., Any],
    algorithm: Any = "jax_bfgs",
    *,
    bounds: Any = None,
    constraints: Any = None,
    scaling: Any = None,
    algo_options: dict[str, Any] | None = None,
) -> Solver:
    """Make a pure function that returns the params that minimize a JAX criterion.

    It works under ``jax.jit``, ``jax.vmap``, ``jax.lax.map``, ``jax.grad``, ``jax.jacobian`` and
    any nesting of them. Derivatives of the solution with respect to data are exact, by the implicit
    function theorem, through bounds and constraints. They are as accurate as the solution: for many
    digits, make ``convergence_gtol_abs`` small. Where a solve failed, they are NaN. A bound that
    just binds (with a derivative of zero) gives the derivative of one of its sides.

    Args:
        fun: The criterion, called as ``fun(params, *args, **kwargs)``, written with jax.numpy; may
            be marked with ``om.mark``. It may close over what JAX traces.
        algorithm: One that runs inside JAX: "jax_bfgs" (default), "jax_lbfgs" for many parameters,
            "jax_newton" for few, "jax_lm" for residuals, or one of optimistix or optax.
        bounds: See ``minimize``.
        constraints: See ``minimize``; all but nonlinear ones.
        scaling: See ``minimize``.
        algo_options: Options of the algorithm. Other than in ``minimize``, the default of
            ``convergence_ftol_rel`` is 1e-15, so that the gradient decides, and that of
            ``stopping_maxfun`` is 10,000.

    Returns:
        ``solve(params, *args, **kwargs)``, which returns params; see ``Solver``.

    Raises:
        NotAvailableError: If the algorithm does not run inside JAX.
        OptimagicError: Other subclasses for arguments that are wrong; those that depend on the
            structure of params when ``solve`` is called.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import optimagic_lite as om
        >>> def ridge(beta, x, y, penalty):
        ...     return jnp.sum((y - x @ beta) ** 2) + penalty * beta @ beta
        >>> solve = om.argmin(ridge)
        >>> x, y = jnp.eye(2), jnp.array([2.0, 4.0])
        >>> solve(jnp.zeros(2), x, y, 1.0).round(4)
        Array([1., 2.], dtype=float32)
        >>> with jax.enable_x64(True):
        ...     jax.jacobian(solve, argnums=3)(jnp.zeros(2), x, y, 1.0).round(4)
        Array([-0.5, -1. ], dtype=float64)
    """
    return Solver("minimize", fun, algorithm, bounds, constraints, scaling, algo_options)


def argmax(
    fun: Callable[..., Any],
    algorithm: Any = "jax_bfgs",
    *,
    bounds: Any = None,
    constraints: Any = None,
    scaling: Any = None,
    algo_options: dict[str, Any] | None = None,
) -> Solver:
    """Make a pure function that returns the params that maximize a JAX criterion.

    Arguments as in ``argmin``; values have the sign of fun.

    Example:
        >>> import jax.numpy as jnp
        >>> import optimagic_lite as om
        >>> om.argmax(lambda x, top: -((x - top) ** 2))(0.0, 3.0).round(4)
        Array(3., dtype=float32)
    """
    return Solver("maximize", fun, algorithm, bounds, constraints, scaling, algo_options)


class Solver:
    """A solve as a pure JAX function; see ``argmin``.

    Called with start params and data, it returns the params of the solution, in the structure of
    the start. Parameters that ``FixedConstraint`` keeps are data too: solutions can be
    differentiated with respect to them.

    All arithmetic is in double precision. Where ``jax_enable_x64`` is off, which is JAX's default,
    what comes out is rounded to single precision, and cannot be differentiated.

    Raises:
        NotAvailableError: If it is differentiated where ``jax_enable_x64`` is off.
    """

    def __init__(
        self,
        direction: Direction,
        fun: Callable[..., Any],
        algorithm: Any,
        bounds: Any,
        constraints: Any,
        scaling: Any,
        algo_options: dict[str, Any] | None,
    ) -> None:
        self._who = "argmin" if direction == "minimize" else "argmax"
        self._problem = JaxProblem(
            direction,
            fun,
            _decided_by_gradient(algorithm, algo_options, self._who),
            bounds=bounds,
            constraints=constraints,
            scaling=scaling,
        )
        if self._problem.algorithm.stopping_maxtime != math.inf:
            raise InvalidAlgoOptionError(
                f"{self._who} is compiled whole and knows no time, so stopping_maxtime would be "
                "ignored. Use stopping_maxfun or stopping_maxiter."
            )

    def __repr__(self) -> str:
        fun, algorithm = self._problem.fun, self._problem.algorithm
        return f"{self._who}({getattr(fun, '__name__', repr(fun))}, {algorithm.name!r})"

    def __call__(self, params: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the params of the solution.

        Args:
            params: Start, any tree of arrays and numbers.
            args: Further arguments of the criterion. Arrays and floats are data.
            kwargs: The same by name.
        """
        return self.run(params, *args, **kwargs).params

    def run(self, params: Any, *args: Any, **kwargs: Any) -> Solution:
        """Solve, and return what else is known of the solution; arguments as in a call."""
        return self._run(0, params, args, kwargs)[0]

    def run_with_trace(
        self, length: int, params: Any, *args: Any, **kwargs: Any
    ) -> tuple[Solution, SolutionTrace]:
        """Solve with at most some evaluations, and return all of them too.

        Args:
            length: Largest number of evaluations. A solve takes the time of so many, also when it
                ends earlier.
            params: Start.
            args: Further arguments of the criterion.
            kwargs: The same by name.

        Returns:
            The solution and the evaluations, whose ``history()`` plots take.
        """
        if not isinstance(length, (int, np.integer)) or length < 1:
            raise InvalidAlgoOptionError(f"length must be a positive integer, not {length!r}.")
        solution, trace = self._run(length, params, args, kwargs)
        assert trace is not None
        return solution, trace

    def message(self, status: Any) -> Any:
        """Return what a status means, and what to do if that is no success.

        Args:
            status: One, or an array of many.

        Returns:
            A text, or an array of texts of the same shape.
        """
        if np.ndim(status) == 0:
            return self._problem.messages[int(status)]
        texts = np.vectorize(self._problem.messages.__getitem__, otypes=[object])
        return texts(np.asarray(status))

    def _run(
        self, length: int, params: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Solution, SolutionTrace | None]:
        if jnp.zeros(0).dtype == jnp.float64:
            return self._solved(length, params, args, kwargs)
        leaves, rebuild = flatten_in_order((params, args, kwargs))
        params, args, kwargs = rebuild(map(_settled, leaves))
        with jax.enable_x64(True):
            leaves, rebuild = flatten_in_order(self._solved(length, params, args, kwargs))
            return rebuild(map(_rounded, not_differentiable(leaves)))  # type: ignore[no-any-return]

    def _solved(
        self, length: int, params: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Solution, SolutionTrace | None]:
        space = self._problem.space(params)
        start = space.start(params)
        program, kind = self._problem.program(space, start, args, kwargs)
        settings = self._problem.settings(jnp.asarray(start.lower), jnp.asarray(start.upper))
        one_pass = Pass(self._problem.algorithm.stepper(), kind)
        around = None
        if Edges(space.space):
            around, _ = self._problem.program(space, start, args, kwargs, of_flat=True)
        solved, f = solve_whole(program, around, one_pass, space, start, settings, length)
        tree = space.space.tree
        solution = Solution(
            params=tree.trace(space.flat(solved.x, start.numbers)),
            fun=program.sign * f,
            success=solved.success,
            status=jnp.asarray([status.code for status in Status])[solved.status],
            n_iterations=solved.n_iterations,
            n_fun_evals=solved.n_evaluations,
            gradient_norm=solved.gradient_norm,
        )
        if solved.trace is None:
            return solution, None
        flat = jax.vmap(lambda x: space.flat(x, start.numbers))(solved.trace.x)
        fun = program.sign * solved.trace.f
        return solution, SolutionTrace(
            flat, fun, solved.n_evaluations, self._problem.direction, tree
        )


def _settled(leaf: Any) -> Any:
    """Return a leaf that has the precision that it says.

    That of a NumPy array which vmap maps has not, where JAX's default is single precision.
    """
    return jax.device_put(leaf) if isinstance(leaf, jax.core.Tracer) else leaf


def _decided_by_gradient(
    algorithm: Any, algo_options: dict[str, Any] | None, who: str
) -> JaxAlgorithm:
    """Return the algorithm; without other options, it stops by the gradient or at rounding.

    Small changes of the value come long before the digits that derivatives of a solution need.
    """
    resolved, name = resolve_jax_algorithm(algorithm, algo_options, who), "convergence_ftol_rel"
    is_open = algorithm is not resolved and name not in (algo_options or {})
    if is_open and name in option_types(type(resolved)):
        return resolved.with_option(**{name: _FTOL_REL})
    return resolved


def _rounded(leaf: Any) -> jax.Array:
    """Return an array in the precision of JAX's default."""
    narrow = {jnp.dtype("float64"): jnp.float32, jnp.dtype("int64"): jnp.int32}
    return jnp.asarray(leaf, dtype=narrow.get(jnp.asarray(leaf).dtype))

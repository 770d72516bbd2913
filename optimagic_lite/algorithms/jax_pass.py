"""One pass of a solver inside JAX: a step, the tests of convergence, an evaluation.

A solver is a ``Stepper``: an init and a step, pure functions with fixed shapes. All of them
evaluate once per pass and keep their line search or radius in their state, so that there is one
flat loop: ``jax_loop`` runs it in chunks and records, ``jax_whole`` compiles it whole, and
``jax_lanes`` runs many at once. A loop within the loop would make all lanes wait for the longest.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from optimagic_lite.algorithms.regression import NOISE, cosine
from optimagic_lite.objective.exact import hessian, value_and_derivative
from optimagic_lite.objective.kinds import Kind
from optimagic_lite.stopping import Stop

if TYPE_CHECKING:
    from optimagic_lite.compilation import PureFunction
    from optimagic_lite.objective.tracing import Program

NO_LIMIT = 2**62


class Evaluation(NamedTuple):
    """What a solver gets to know of a point.

    Attributes:
        value: The criterion, shape (), or residuals, shape (m,).
        derivative: Its gradient, shape (n,), or their Jacobian, shape (m, n).
        hessian: Shape (n, n), for solvers of order 2; else None.
    """

    value: Any
    derivative: Any
    hessian: Any = None


class Box(NamedTuple):
    """Bounds on x, shape (n,) each; infinite where there are none."""

    lower: Any
    upper: Any

    def clip(self, x: jax.Array) -> jax.Array:
        """Return the closest point of the box."""
        return jnp.clip(x, self.lower, self.upper)

    def is_free(self, x: jax.Array, gradient: jax.Array) -> jax.Array:
        """Tell which entries no bound holds, beyond which the criterion would fall."""
        is_held = (x <= self.lower) & (gradient > 0) | (x >= self.upper) & (gradient < 0)
        return jnp.logical_not(is_held)

    def projected(self, x: jax.Array, gradient: jax.Array) -> jax.Array:
        """Return ``x - clip(x - gradient)`` without its rounding."""
        return jnp.maximum(jnp.minimum(gradient, x - self.lower), x - self.upper)


class Stepper(Protocol):
    """A solver that evaluates once per step; all of it can be traced."""

    @property
    def key(self) -> Hashable:
        """Equal for steppers that do the same."""
        ...

    @property
    def order(self) -> int:
        """Highest derivative that it takes: 1 or 2."""
        ...

    def init(self, x: jax.Array, start: Evaluation) -> Any:
        """Return the first state, whose point is x; the evaluation gives shapes."""
        ...

    def point(self, state: Any) -> jax.Array:
        """Return where an evaluation is wanted next."""
        ...

    def step(self, state: Any, found: Evaluation, box: Box) -> tuple[Any, jax.Array, jax.Array]:
        """Take the evaluation of that point.

        Returns:
            The new state, whether the point was accepted as iterate, and a ``Status``: RUNNING,
            or STALLED or BROKEN if the solver cannot go on.
        """
        ...


class Tolerances(NamedTuple):
    """When an accepted step means convergence; zero switches a criterion off.

    Attributes:
        gtol_abs: Largest absolute entry of the projected gradient.
        gtol_rel: Largest cosine of the angle between residuals and a column of their Jacobian that
            no bound holds.
        ftol_rel: ``|f_k - f_{k+1}| / max(|f_k|, |f_{k+1}|, 1)``; for sums of squares, whose size
            says nothing, without the 1.
        ftol_abs: ``|f_k - f_{k+1}|``.
        xtol_rel: Largest absolute step divided by ``max(|x|, 1)``, entry by entry.
        xtol_abs: Largest absolute step.
    """

    gtol_abs: Any = 0.0
    gtol_rel: Any = 0.0
    ftol_rel: Any = 0.0
    ftol_abs: Any = 0.0
    xtol_rel: Any = 0.0
    xtol_abs: Any = 0.0


class Status(enum.IntEnum):
    """State of the loop."""

    RUNNING = 0
    GTOL = 1
    FTOL = 2
    XTOL = 3
    MAXITER = 4
    STALLED = 5
    BROKEN = 6
    FAILED = 7
    ZERO = 8
    MAXFUN = 9
    DECEIVED = 10

    @property
    def is_success(self) -> bool:
        """Whether it means convergence."""
        return self in SUCCESSES

    def text(self, *, maxiter: int = NO_LIMIT, maxfun: int = NO_LIMIT) -> str:
        """Return what it means, and what to do if that is no success.

        Args:
            maxiter: Limit on iterations.
            maxfun: Limit on evaluations.
        """
        if self is Status.MAXITER:
            return Stop.MAXITER.text(maxiter)
        return Stop.MAXFUN.text(maxfun) if self is Status.MAXFUN else _MESSAGES[self]

    @property
    def code(self) -> int:
        """The number that results show: that of all algorithms for a limit."""
        stops = {Status.MAXITER: Stop.MAXITER, Status.MAXFUN: Stop.MAXFUN}
        return stops[self].status if self in stops else int(self)


SUCCESSES = (Status.GTOL, Status.FTOL, Status.XTOL, Status.ZERO)


def is_success(status: Any) -> jax.Array:
    """Tell whether statuses mean convergence, also inside JAX."""
    return jnp.isin(status, jnp.asarray([int(status) for status in SUCCESSES]))


_MESSAGES = {
    Status.RUNNING: "The run was interrupted.",
    Status.GTOL: "The gradient is below convergence_gtol_abs or _rel.",
    Status.FTOL: "The value changed by less than convergence_ftol_rel or _abs.",
    Status.XTOL: "All parameters changed by less than convergence_xtol_rel or _abs.",
    Status.STALLED: "The line search shrank the step to nothing: rounding errors prevent further "
    "progress. The point is often good; loosen convergence_gtol_abs if it is, or check the "
    "derivatives.",
    Status.BROKEN: "The solver could not compute a step. Try another start or another algorithm.",
    Status.FAILED: "The criterion failed: its value or derivative is not finite.",
    Status.DECEIVED: "The solver stopped at a corner or kink of the constraints, from which the "
    "criterion still falls. Start elsewhere, or use an algorithm that takes linear constraints.",
    Status.ZERO: "The residuals are zero but for rounding errors.",
}


class Carry(NamedTuple):
    """A run between two passes.

    Attributes:
        state: Arrays of the stepper's state.
        x_trial: The point that was evaluated last.
        trial: What was found there.
        x: Last accepted iterate, shape (n,).
        f: The criterion there.
        g: Its gradient.
        start: Where the run began, shape (n,).
        f_start: The criterion there.
        n_iterations: Accepted steps, the start not included.
        n_evaluations: The start included.
        n_failed: How many of those were not finite.
        status: A ``Status``.
    """

    state: Any
    x_trial: jax.Array
    trial: Evaluation
    x: jax.Array
    f: jax.Array
    g: jax.Array
    start: jax.Array
    f_start: jax.Array
    n_iterations: jax.Array
    n_evaluations: jax.Array
    n_failed: jax.Array
    status: jax.Array


class Settings(NamedTuple):
    """Numbers of a run; arguments, so that other numbers need no compilation.

    Attributes:
        tolerances: When a step means convergence.
        box: Bounds on x.
        maxiter: Limit on accepted steps.
        maxfun: Limit on evaluations.
        penalty_constant: What stands for failed evaluations, as in ``failures.Penalty``; NaN for
            the default.
        penalty_slope: Its slope.
    """

    tolerances: Tolerances
    box: Box
    maxiter: Any = NO_LIMIT
    maxfun: Any = NO_LIMIT
    penalty_constant: Any = jnp.nan
    penalty_slope: Any = 0.1


@dataclass(frozen=True)
class Pass:
    """The pass of a solver.

    Args:
        stepper: The solver.
        kind: What it takes.
        replace_failures: Whether a penalty replaces what is not finite, or ends the run.
    """

    stepper: Stepper
    kind: Kind
    replace_failures: bool = True

    @property
    def key(self) -> Hashable:
        """Equal for passes that do the same."""
        return self.stepper.key, self.kind, self.replace_failures

    def evaluate(self, program: Program) -> Callable[[PureFunction], Callable[..., Evaluation]]:
        """Return what turns ``value(x, *data)`` into an ``Evaluation`` of the same arguments."""
        first = value_and_derivative(program)

        def make(value: PureFunction) -> Callable[..., Evaluation]:
            joint, second = first(value), hessian(value)

            def function(x: jax.Array, *data: jax.Array) -> Evaluation:
                found = Evaluation(*joint(x, *data))
                if self.stepper.order == 1:
                    return found
                return found._replace(hessian=second(x, *data))

            return function

        return make

    def begin(self, x: jax.Array, found: Evaluation) -> Carry:
        """Return the first carry from the start and what was found there."""
        import equinox as eqx

        arrays, _ = eqx.partition(self.stepper.init(x, found), eqx.is_array)
        found = found._replace(value=jnp.asarray(found.value, dtype=x.dtype))
        f, g = self.kind.reduced(found.value), self.kind.gradient(found.value, found.derivative)
        is_fine = jnp.isfinite(f) & _all_finite(found)
        status = jnp.where(is_fine, int(Status.RUNNING), int(Status.FAILED))
        return Carry(
            state=arrays,
            x_trial=x,
            trial=found,
            x=x,
            f=f,
            g=g,
            start=x,
            f_start=f,
            # the first pass accepts the start, so it does not count
            n_iterations=jnp.asarray(-1),
            n_evaluations=jnp.asarray(1),
            n_failed=jnp.where(is_fine, 0, 1),
            status=status,
        )

    def __call__(
        self, evaluate: Callable[..., Evaluation], carry: Carry, settings: Settings, *data: Any
    ) -> tuple[Carry, jax.Array, jax.Array]:
        """Make one pass; a run that has ended stays as it is.

        Args:
            evaluate: The criterion.
            carry: The run.
            settings: Its numbers.
            data: Further arguments of the criterion.

        Returns:
            The run, whether it has evaluated, and the criterion there to be recorded: not finite
            where the derivative is not.
        """
        import equinox as eqx

        struct = eqx.filter_eval_shape(self.stepper.init, carry.x, carry.trial)
        _, static = eqx.partition(struct, lambda v: isinstance(v, jax.ShapeDtypeStruct))
        state = eqx.combine(carry.state, static)
        state, accepted, trouble = self.stepper.step(state, carry.trial, settings.box)
        point = self.stepper.point(state)
        trouble = jnp.where(jnp.isfinite(point).all(), trouble, int(Status.BROKEN))
        advanced = _advance(carry, state, accepted, trouble, settings, self.kind)
        is_running = advanced.status == Status.RUNNING
        found = jax.lax.cond(is_running, lambda: evaluate(point, *data), lambda: carry.trial)
        f = self.kind.reduced(found.value)
        is_bad = ~(jnp.isfinite(f) & _all_finite(found))
        recorded = jnp.where(is_bad & jnp.isfinite(f), jnp.nan, f)
        status = advanced.status
        if self.replace_failures:
            found = self._without_failure(found, is_bad, point, carry, settings)
        else:
            status = jnp.where(is_bad & is_running, int(Status.FAILED), status)
        after = advanced._replace(
            x_trial=jnp.where(is_running, point, carry.x_trial),
            trial=found,
            n_evaluations=carry.n_evaluations + is_running,
            n_failed=carry.n_failed + (is_running & is_bad),
            status=status,
        )
        return after, is_running, recorded

    def _without_failure(
        self,
        found: Evaluation,
        is_bad: jax.Array,
        x: jax.Array,
        carry: Carry,
        settings: Settings,
    ) -> Evaluation:
        penalty = _penalty(x, carry, settings)
        value, derivative = self.kind.spread(*penalty, jnp.size(found.value), jnp)
        out = Evaluation(
            jnp.where(is_bad, value, found.value), jnp.where(is_bad, derivative, found.derivative)
        )
        if found.hessian is None:
            return out
        identity = jnp.eye(len(x))
        return out._replace(hessian=jnp.where(is_bad, identity, found.hessian))


def first_largest(values: jax.Array) -> jax.Array:
    """Tell which entry is the largest, the first of equal ones; shape (n,).

    JAX's own argmax has no rule for vmap that keeps double precision where its default is single.
    """
    largest = values == values.max()
    return largest & (jnp.cumsum(largest.astype(jnp.int32)) == 1)


def _all_finite(found: Evaluation) -> jax.Array:
    fine = jnp.isfinite(found.derivative).all()
    return fine if found.hessian is None else fine & jnp.isfinite(found.hessian).all()


def _advance(
    carry: Carry,
    state: Any,
    accepted: jax.Array,
    trouble: jax.Array,
    settings: Settings,
    kind: Kind,
) -> Carry:
    """Take over an accepted point and test convergence, unless the run has ended."""
    import equinox as eqx

    was_running = carry.status == Status.RUNNING
    accepted &= was_running
    x, found = carry.x_trial, carry.trial
    f, g = kind.reduced(found.value), kind.gradient(found.value, found.derivative)
    n_iterations = carry.n_iterations + accepted
    has_moved = accepted & (n_iterations > 0)
    by_g, is_zero = _small_gradient(x, g, found, carry.f_start, settings, kind)
    by_f, by_x = _small_change(carry, x, f, settings.tolerances, kind)
    tests = [
        (accepted & by_g, Status.GTOL),
        (accepted & is_zero, Status.ZERO),
        (trouble == Status.BROKEN, Status.BROKEN),
        (has_moved & by_f, Status.FTOL),
        (has_moved & by_x, Status.XTOL),
        (trouble == Status.STALLED, Status.STALLED),
        (n_iterations >= settings.maxiter, Status.MAXITER),
        (carry.n_evaluations >= settings.maxfun, Status.MAXFUN),
    ]
    status = jnp.asarray(int(Status.RUNNING))
    for is_true, value in reversed(tests):
        status = jnp.where(is_true, int(value), status)
    status = jnp.where(was_running, status, carry.status)
    arrays, _ = eqx.partition(state, eqx.is_array)
    return carry._replace(
        state=arrays,
        x=jnp.where(accepted, x, carry.x),
        f=jnp.where(accepted, f, carry.f),
        g=jnp.where(accepted, g, carry.g),
        n_iterations=n_iterations,
        status=status,
    )


def _small_gradient(
    x: jax.Array,
    g: jax.Array,
    found: Evaluation,
    f_start: jax.Array,
    settings: Settings,
    kind: Kind,
) -> tuple[jax.Array, jax.Array]:
    """Tell whether the gradient, and whether the residuals, are as good as zero."""
    tol, box = settings.tolerances, settings.box
    # not by the largest entry: under vmap, XLA's maximum may pass over NaN
    by_g = (jnp.abs(box.projected(x, g)) <= tol.gtol_abs).all()
    if kind.target != "least_squares":
        return by_g, jnp.asarray(False)
    free = found.derivative * box.is_free(x, g)
    parts = jnp.abs(found.derivative) @ jnp.abs(x)
    f = found.value @ found.value
    is_zero = f <= NOISE**2 * jnp.maximum(f_start, parts @ parts)
    return by_g | (cosine(found.value, free, jnp) <= tol.gtol_rel), is_zero


def _small_change(
    carry: Carry, x: jax.Array, f: jax.Array, tol: Tolerances, kind: Kind
) -> tuple[jax.Array, jax.Array]:
    """Tell whether the criterion, and whether x, hardly changed."""
    step, change = jnp.abs(x - carry.x), jnp.abs(f - carry.f)
    least = 0.0 if kind.target == "least_squares" else 1.0
    scale = jnp.maximum(jnp.maximum(jnp.abs(f), jnp.abs(carry.f)), least)
    by_f = (change <= tol.ftol_rel * scale) & (tol.ftol_rel > 0)
    by_f |= (change <= tol.ftol_abs) & (tol.ftol_abs > 0)
    by_x = (step <= tol.xtol_rel * jnp.maximum(jnp.abs(x), 1.0)).all()
    by_x = (by_x & (tol.xtol_rel > 0)) | ((step <= tol.xtol_abs).all() & (tol.xtol_abs > 0))
    return by_f, by_x


def _penalty(x: jax.Array, carry: Carry, settings: Settings) -> tuple[jax.Array, jax.Array]:
    """Return what ``failures.Penalty`` does, traced."""
    step = x - carry.start
    size = jnp.abs(step).max()
    scaled = step / jnp.where(size > 0, size, 1.0)
    length = jnp.linalg.norm(scaled)
    direction = scaled / jnp.where(size > 0, length, 1.0)
    default = carry.f_start + jnp.abs(carry.f_start) + 100.0
    constant = jnp.where(jnp.isnan(settings.penalty_constant), default, settings.penalty_constant)
    return constant + settings.penalty_slope * size * length, settings.penalty_slope * direction

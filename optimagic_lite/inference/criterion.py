"""A criterion at one point: its value, and its derivatives of first and second order.

They come into being by the rule of a run: the user's, else JAX's, else differences.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.batch import empty_batch, evaluate_batch
from optimagic_lite.exceptions import (
    NotAvailableError,
    OptimagicError,
    UserFunctionRuntimeError,
    listed,
)
from optimagic_lite.mark import Structure
from optimagic_lite.objective import numerical
from optimagic_lite.objective.kinds import Kind, serves
from optimagic_lite.objective.numerical import StepRule
from optimagic_lite.objective.objective import (
    DerivativesArgument,
    Objective,
    known_jax,
    make_objective,
)
from optimagic_lite.objective.quotients import second_quotients
from optimagic_lite.objective.tracing import NotTraceableError
from optimagic_lite.objective.written import UserFunctions, call_at_start
from optimagic_lite.options import NumdiffOptions
from optimagic_lite.space.space import Space

Array = NDArray[np.float64]

# steps of differences, as parts of the distance over which the criterion changes notably
_FIRST_STEP = 1e-3
_SECOND_STEP = {"likelihood": 3e-3, "least_squares": 3e-2}
# points that are evaluated at once
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class LocalCriterion:
    """A criterion at the start of a space, as something to be minimized.

    Args:
        functions: What the user gave.
        space: Says what x stands for; its x0 is the place.
        structure: What ``fun`` returns.
        maximize: Whether to flip signs.
        derivatives: "auto", or what the user insists on.
        numdiff: Options of numerical derivatives.
    """

    functions: UserFunctions
    space: Space
    structure: Structure
    maximize: bool
    derivatives: DerivativesArgument
    numdiff: NumdiffOptions

    @cached_property
    def value(self) -> Any:
        """A number, or contributions or residuals, shape (m,)."""
        value = self._guarded("fun", self._own.value)
        if not np.isfinite(value).all():
            raise self._failure("fun returned a value that is not finite", self.space.x0)
        return value

    @cached_property
    def derivative(self) -> Array:
        """Derivative of ``value`` with respect to x, shape (n_x,) or (m, n_x)."""
        exact = _derivative_of(self._own)
        if exact is None:
            return self._finite(self._first_differences[0], "derivative")
        return self._finite(self._guarded("the derivative of fun", exact), "derivative")

    @cached_property
    def gradient(self) -> Array:
        """Gradient of the criterion with respect to x, shape (n_x,)."""
        return np.asarray(self._own.kind.gradient(self.value, self.derivative))

    @cached_property
    def hessian(self) -> Array:
        """Hessian of the criterion with respect to x, shape (n_x, n_x)."""
        exact = self._exact_hessian
        out = self._second_differences() if exact is None else exact
        return self._finite((out + out.T) / 2, "second derivative")

    @property
    def has_exact_derivative(self) -> bool:
        """Whether ``derivative`` needs no differences."""
        return self._own.has_derivative

    @property
    def has_exact_hessian(self) -> bool:
        """Whether ``hessian`` needs no differences."""
        return self._exact_hessian is not None

    @cached_property
    def _exact_hessian(self) -> Array | None:
        exact = _hessian_of(self._scalar)
        if exact is None:
            return None
        if self.functions.hess is not None or self.functions.hessp is not None:
            return np.asarray(self._guarded("the Hessian of fun", exact))
        # JAX knows derivative rules that can be applied only once
        with contextlib.suppress(Exception):
            return np.asarray(exact(self.space.x0))
        return None

    # ---- objectives ----------------------------------------------------------------------

    @cached_property
    def _own(self) -> Objective:
        """What ``fun`` returns, with first derivatives."""
        return self._objective(self.structure)

    @cached_property
    def _scalar(self) -> Objective:
        """The criterion as a number, with second derivatives."""
        return self._own if self.structure == "scalar" else self._objective("scalar")

    def _objective(self, target: Structure) -> Objective:
        functions = self.functions
        # a derivative of the sum says nothing about its parts
        if not serves(functions.jac_structure, target):
            functions = replace(functions, jac=None)
        if not serves(functions.fun_and_jac_structure, target):
            functions = replace(functions, fun_and_jac=None)
        objective = self._make(functions, target)
        if self.space.is_curved and objective.flat_gradient is None:
            # a Hessian in params says nothing about one in x then
            objective = self._make(replace(functions, hess=None, hessp=None), target)
        return objective

    def _make(self, functions: UserFunctions, target: Structure) -> Objective:
        def make(start_raw: Any) -> Objective:
            return make_objective(
                functions,
                self.space,
                kind=Kind(self.structure, target),
                maximize=self.maximize,
                derivatives=self.derivatives,
                numdiff=self.numdiff,
                needs_jac=True,
                start_raw=start_raw,
                check=True,
            )

        if known_jax(functions.fun) is not None:
            with contextlib.suppress(NotTraceableError):
                return make(None)
        return make(self._guarded("fun", lambda _: call_at_start(functions, self.space)))

    # ---- differences ---------------------------------------------------------------------

    def _values(self, xs: Array, reduce: Callable[[Array], Array] = lambda values: values) -> Array:
        """Return values at points, shape (k,) or (k, m), or what is made of some at a time."""
        parts = []
        for first in range(0, len(xs), _CHUNK):
            points = xs[first : first + _CHUNK]
            batch = empty_batch(self._own, len(points), int(np.size(self.value)))
            evaluate_batch(
                batch, self._own, points,
                stop_at_failure=True, with_info=False, cores=self.numdiff.cores,
            )  # fmt: skip
            for i, failure in batch.failures.items():
                raise self._failure(failure.message, points[i]) from failure.cause
            bad = np.flatnonzero(~np.isfinite(batch.values.reshape(len(points), -1)).all(axis=1))
            if len(bad):
                raise self._failure("fun returned a value that is not finite", points[bad[0]])
            parts.append(reduce(batch.values))
        return np.concatenate(parts)

    @cached_property
    def _first_differences(self) -> tuple[Array, bool]:
        """First differences, and whether values look as if they had single precision.

        Default steps come first, then those that suit what the first differences say.
        """
        options, is_vector = self.numdiff, self._own.kind.is_vector
        out, is_single = self._first(options, numerical.EPS_DOUBLE)
        if options.step_size is not None or not (is_single or is_vector):
            return out, is_single
        if is_single:
            # steps for double precision drown in rounding
            return self._first(options, numerical.EPS_SINGLE)[0], True
        steps = _FIRST_STEP * self._lengths(out)
        rule = StepRule(options.method, steps, options.scaling_factor, options.min_steps)
        return self._first(rule, numerical.EPS_DOUBLE)[0], False

    def _first(self, options: NumdiffOptions | StepRule, eps: float) -> tuple[Array, bool]:
        x, lower, upper = self.space.x0, self.space.lower, self.space.upper
        stencil = numerical.make_stencil(x, lower, upper, options, eps)
        values = self._values(np.concatenate([x[None], *stencil.blocks()]))
        combine = stencil.jacobian if self._own.kind.is_vector else stencil.gradient
        return np.asarray(combine(values[1:], values[0])), numerical.looks_single(values)

    def _second_differences(self) -> Array:
        """Return differences of gradients, where those are no differences themselves."""
        for objective in (self._scalar, self._own):
            gradient = _gradient_of(objective)
            if gradient is not None:
                by_differences = partial(self._jacobian_at, gradient)
                return np.asarray(self._guarded("the derivative of fun", by_differences))
        derivative, is_single = self._first_differences
        if is_single:
            return self._second(self._rule(None), numerical.EPS_SINGLE)
        steps = None
        if self._own.kind.is_vector:
            steps = _SECOND_STEP[self.structure] * self._lengths(derivative)
        return self._second(self._rule(steps), numerical.EPS_DOUBLE)

    def _second(self, rule: StepRule, eps: float) -> Array:
        x, space = self.space.x0, self.space
        plan = second_quotients(x, space.lower, space.upper, rule, "central_cross", eps)
        points = np.repeat(x[None], 1 + len(plan.changes), axis=0)
        for point, change in zip(points[1:], plan.changes, strict=True):
            for position, number in change:
                point[position] = number
        if self.structure != "least_squares":
            totals = self._values(points, self._own.kind.totals)
            return np.asarray(plan.combine(totals[:, None])[0])
        # products of first derivatives are known better than by second differences
        combined = self._values(points, lambda residuals: residuals @ self.value)
        curvature = plan.combine(combined[:, None])[0]
        return np.asarray(2 * (self.derivative.T @ self.derivative + curvature))

    def by_differences(self, function: Callable[[Array], Array]) -> Array:
        """Return the Jacobian of a function of x, shape (m, n_x), from points inside the bounds."""
        return self._jacobian_at(function, self.space.x0)

    def _jacobian_at(self, function: Callable[[Array], Array], x: Array) -> Array:
        lower, upper = self.space.lower, self.space.upper
        stencil = numerical.make_stencil(x, lower, upper, self._rule(None), numerical.EPS_DOUBLE)
        center = function(x)
        values = [function(point) for block in stencil.blocks() for point in block]
        return stencil.jacobian(np.array(values).reshape(-1, len(center)), center)

    def _rule(self, steps: Array | None) -> StepRule:
        return StepRule("central", steps, self.numdiff.scaling_factor, self.numdiff.min_steps)

    def _lengths(self, derivative: Array) -> Array:
        """Return how far data tell each parameter, all others given; NaN if they do not.

        These are the natural units for steps: they are right whatever the scale of a parameter.
        """
        norms = np.linalg.norm(derivative, axis=0)
        size = 1.0
        if self.structure == "least_squares":
            size = float(np.sqrt(np.mean(self.value**2)))
        known = (norms > 0) & (size > 0)
        return np.where(known, size / np.where(known, norms, 1.0), np.nan)

    # ---- failures ------------------------------------------------------------------------

    def _guarded(self, what: str, function: Callable[[Array], Any]) -> Any:
        """Call a function at the place, and say where it was if it raises."""
        try:
            return function(self.space.x0)
        except (OptimagicError, NotTraceableError):
            raise
        except Exception as error:
            message = f"{what} raised {type(error).__name__}: {error}"
            raise self._failure(message, self.space.x0) from error

    def _failure(self, message: str, x: Array) -> UserFunctionRuntimeError:
        params = self.space.to_params(x)
        error = UserFunctionRuntimeError(
            f"A user function failed at the solution, or next to it: {message}. It was called "
            f"with params {str(params)[:300]}."
        )
        error.params = params
        return error

    def _finite(self, derivative: Array, what: str) -> Array:
        is_bad = ~np.isfinite(derivative.reshape(-1, self.space.n_x)).all(axis=0)
        if is_bad.any():
            names = listed([self.space.x_names[i] for i in np.flatnonzero(is_bad).tolist()])
            raise NotAvailableError(
                f"The {what} of fun is not finite at the solution, with respect to {names}. Fix "
                "these parameters, or write fun so that it has a derivative there."
            )
        return derivative


def _derivative_of(objective: Objective) -> Callable[[Array], Array] | None:
    joint = objective.value_and_derivative
    if objective.derivative is None and joint is not None:
        return lambda x: joint(x)[1]
    return objective.derivative


def _gradient_of(objective: Objective) -> Callable[[Array], Array] | None:
    """Return the gradient of the criterion, if the derivative of what ``fun`` returns is known."""
    derivative = _derivative_of(objective)
    if derivative is None or not objective.kind.is_vector:
        return derivative
    return lambda x: np.asarray(objective.kind.gradient(objective.value(x), derivative(x)))


def _hessian_of(objective: Objective) -> Callable[[Array], Array] | None:
    product = objective.hessian_product
    if objective.hessian is None and product is not None:
        return lambda x: np.stack([np.asarray(product(x, v)) for v in np.eye(len(x))])
    return objective.hessian

"""The user's functions, called as they are written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidFunctionError
from optimagic_lite.mark import Structure
from optimagic_lite.objective.kinds import (
    Kind,
    described,
    info_of,
    plain_value,
    structure_of_value,
)
from optimagic_lite.objective.outputs import output_tree
from optimagic_lite.parallel import Cores, TaskFailure
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import ParamTree, flatten_in_order

Array = NDArray[np.float64]

_JAC = "the return value of jac"
_FUN_AND_JAC = "the derivative of fun_and_jac"


@dataclass(frozen=True)
class UserFunctions:
    """The functions that the user gave, all of params; any but ``fun`` may be None.

    The structure of ``fun`` is None where only its values tell.
    """

    fun: Callable[..., Any]
    fun_kwargs: dict[str, Any] = field(default_factory=dict)
    jac: Callable[..., Any] | None = None
    jac_kwargs: dict[str, Any] = field(default_factory=dict)
    fun_and_jac: Callable[..., Any] | None = None
    fun_and_jac_kwargs: dict[str, Any] = field(default_factory=dict)
    hess: Callable[..., Any] | None = None
    hessp: Callable[..., Any] | None = None
    structure: Structure | None = None
    jac_structure: Structure = "scalar"
    fun_and_jac_structure: Structure = "scalar"

    def jac_needs_values(self, target: Structure) -> bool:
        """Whether what an algorithm takes of ``jac`` depends on what ``fun`` returns there.

        Args:
            target: What the algorithm takes.
        """
        return self.jac is not None and self.jac_structure == "least_squares" != target

    @property
    def has_jac(self) -> bool:
        """Whether the user gave first derivatives."""
        return self.jac is not None or self.fun_and_jac is not None


def call_at_start(functions: UserFunctions, space: Space) -> Any:
    """Call ``fun`` as it is written, at the start."""
    return functions.fun(space.to_params(space.x0), **functions.fun_kwargs)


def is_jax(raw: Any) -> bool:
    """Tell whether a return value was computed by JAX."""
    leaves, _ = flatten_in_order(plain_value(raw))
    return any(isinstance(leaf, jax.Array) for leaf in leaves)


class AsWritten:
    """The user's functions of x, each time called with its own params.

    Args:
        functions: What the user gave.
        space: The map between x and params.
        sign: 1 to minimize, -1 to maximize.
        kind: What ``fun`` returns, and what the algorithm takes.

    Attributes:
        flat_gradient: Gradient with respect to params as a function of x, for second
            derivatives where the space is curved.
    """

    def __init__(self, functions: UserFunctions, space: Space, sign: float, kind: Kind) -> None:
        self._f = functions
        self._space = space
        self._sign = sign
        self._kind = kind
        self._kind_of_jac = Kind(functions.jac_structure, kind.target)
        self._kind_of_both = Kind(functions.fun_and_jac_structure, kind.target)
        self._last: tuple[Array, Any] | None = None
        self._outer: ParamTree | None = None
        self.flat_gradient: Callable[[Array], Array] | None = None

    # ---- values --------------------------------------------------------------------------

    def value(self, x: Array) -> Any:
        """Return the value: a float, or a vector of contributions or residuals."""
        return self._value_of(self._call(x))

    def _call(self, x: Array) -> Any:
        raw = self._f.fun(self._space.to_params(x), **self._f.fun_kwargs)
        self.remember(x, raw)
        return raw

    def _value_of(self, raw: Any) -> Any:
        """Return the value that a return value stands for, in the order of the first one."""
        kind = self._kind
        if kind.structure == "scalar":
            return self._sign * kind.value(raw)
        structure_of_value(raw, kind.structure)
        return self._sign * kind.value_of(self._aligned_entries(plain_value(raw)))

    def _aligned_entries(self, plain: Any) -> Array:
        """Return residuals or contributions in the order of the first ones; they are as many."""
        # refuses what cannot be residuals at all
        entries = self._kind.entries(plain)
        if self._outer is None:
            self._outer = output_tree(plain, "fun")
        if len(entries) != self._outer.n_params:
            raise InvalidFunctionError(
                f"fun returned {len(entries)} {described(self._kind.structure)}, and "
                f"{self._outer.n_params} at the start."
            )
        if isinstance(plain, (np.ndarray, jax.Array)):
            return entries
        try:
            return self._outer.to_flat(plain)
        except ValueError as error:
            raise InvalidFunctionError(
                f"fun returned something that is not built as at the start: {error}"
            ) from error

    def start(self, x: Array, raw: Any) -> None:
        """Take note of the first value, with which all others are aligned."""
        self.remember(x, raw)
        self._value_of(raw)

    def remember(self, x: Array, raw: Any) -> None:
        """Take note of what ``fun`` returned at x, so that it need not be called there again."""
        self._last = x.copy(), raw

    def values(self, xs: Array) -> Array:
        """Return the values at points of shape (k, n_x), one after the other."""
        return np.array([self.value(x) for x in xs])

    def many(self, xs: Array, cores: Cores) -> Generator[tuple[int, Any], None, None]:
        """Compute the values at points of shape (k, n_x) on several cores.

        Args:
            xs: The points.
            cores: Which ones.

        Yields:
            The number of a point and its value, or a ``TaskFailure`` where ``fun`` raised or killed
            its process, as they come.
        """
        task = partial(_call_anywhere, self._f.fun, self._f.fun_kwargs)
        params = [self._space.to_params(x) for x in xs]
        with contextlib.closing(cores.as_completed(task, params)) as found:
            for i, raw in found:
                yield i, raw if isinstance(raw, TaskFailure) else self._value_of(raw)

    def info(self, x: Array) -> dict[str, Any] | None:
        """Return the info that ``fun`` returned with its value at x."""
        return info_of(self._raw(x))

    def _raw(self, x: Array) -> Any:
        """Return what ``fun`` returns at x; it is called only if it was not just called there."""
        # other threads may call and remember meanwhile
        last = self._last
        return self._call(x) if last is None or not np.array_equal(last[0], x) else last[1]

    # ---- first derivatives ---------------------------------------------------------------

    def value_and_derivative(self, x: Array) -> tuple[Any, Array]:
        """Return value and derivative from ``fun_and_jac``."""
        raw, derivative = self._call_fun_and_jac(x)
        kind = self._kind_of_both
        value = self._sign * kind.value(raw)
        self.remember(x, raw)
        flat = self._flat(kind, x, raw, derivative, _FUN_AND_JAC)
        return value, self._sign * self._space.pull_back_flat(x, flat)

    def derivative(self, x: Array) -> Array:
        """Return the derivative from ``jac``: of shape (n_x,), or (m, n_x) of a vector."""
        flat = self._flat(self._kind_of_jac, x, None, self._call_jac(x), _JAC)
        return self._sign * self._space.pull_back_flat(x, flat)

    def gradient_of_params(self, x: Array) -> Array:
        """Return the gradient with respect to params, flat, by ``jac`` or ``fun_and_jac``."""
        if self._f.jac is not None:
            kind = Kind(self._f.jac_structure)
            raw, derivative, what = None, self._call_jac(x), _JAC
        else:
            kind = Kind(self._f.fun_and_jac_structure)
            raw, derivative = self._call_fun_and_jac(x)
            what = _FUN_AND_JAC
        return self._sign * self._flat(kind, x, raw, derivative, what)

    def _call_jac(self, x: Array) -> Any:
        assert self._f.jac is not None
        return self._f.jac(self._space.to_params(x), **self._f.jac_kwargs)

    def _call_fun_and_jac(self, x: Array) -> tuple[Any, Any]:
        assert self._f.fun_and_jac is not None
        raw = self._f.fun_and_jac(self._space.to_params(x), **self._f.fun_and_jac_kwargs)
        return both_of(raw)

    def _flat(self, kind: Kind, x: Array, raw: Any, derivative: Any, what: str) -> Array:
        """Return a user's derivative with respect to the flat vector, as the algorithm wants it.

        Args:
            kind: What it is the derivative of, and what the algorithm takes.
            x: Where.
            raw: What came with it, or None; ``fun`` tells where it matters.
            derivative: What the user's function returned.
            what: How to call it in messages.
        """
        tree = self._space.tree
        try:
            if kind.structure == "scalar":
                return tree.align(derivative, what)
            if self._outer is None:
                self._outer = output_tree(plain_value(self._raw(x) if raw is None else raw), "fun")
            matrix = tree.align_jacobian(derivative, self._outer, what)
        except ValueError as error:
            raise InvalidFunctionError(f"{error} A derivative is aligned with params.") from error
        entries = None
        if kind.structure == "least_squares" != kind.target:
            entries = self._outer.to_flat(plain_value(self._raw(x) if raw is None else raw))
        return kind.derivative(entries, matrix)

    # ---- second derivatives --------------------------------------------------------------

    def hessian(self, x: Array) -> Array:
        """Return the Hessian from ``hess``."""
        assert self._f.hess is not None
        raw = self._f.hess(self._space.to_params(x), **self._f.fun_kwargs)
        what = "the return value of hess"
        flat_gradient = self._gradient_for_curvature(x)
        return self._aligned(self._space.pull_back_hessian, x, raw, what, flat_gradient)

    def hessian_product(self, x: Array, v: Array) -> Array:
        """Return the product of Hessian and vector from ``hessp``."""
        assert self._f.hessp is not None
        params, direction = self._space.to_params(x), self._space.push_forward(x, v)
        raw = self._f.hessp(params, direction, **self._f.fun_kwargs)
        what = "the return value of hessp"
        flat_gradient = self._gradient_for_curvature(x)
        return self._aligned(self._space.pull_back_product, x, v, raw, what, flat_gradient)

    def _gradient_for_curvature(self, x: Array) -> Array | None:
        """Return the flat gradient in the user's sign, where second derivatives in x need it."""
        if not self._space.is_curved:
            return None
        # problem.check_objective sees that there is one
        assert self.flat_gradient is not None
        return self._sign * self.flat_gradient(x)

    def _aligned(self, pull_back: Callable[..., Array], *args: Any) -> Array:
        try:
            return self._sign * pull_back(*args)
        except ValueError as error:
            raise InvalidFunctionError(f"{error} A derivative is aligned with params.") from error


def _call_anywhere(fun: Callable[..., Any], kwargs: dict[str, Any], params: Any) -> Any:
    """Call a function in any process or thread, which has its own precision of JAX."""
    with jax.enable_x64(True):
        try:
            return fun(params, **kwargs)
        except Exception as error:
            return TaskFailure.of(error)


def both_of(raw: Any) -> tuple[Any, Any]:
    """Return the value and the derivative that ``fun_and_jac`` returned.

    Raises:
        InvalidFunctionError: If it did not return two things.
    """
    if not isinstance(raw, (tuple, list)) or len(raw) != 2:
        raise InvalidFunctionError(
            "fun_and_jac (or fun with jac=True) must return a tuple (value, derivative), "
            f"not {type(raw).__name__}."
        )
    return raw[0], raw[1]

"""Exact derivatives by JAX: how each function of x is made of a traced criterion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.compilation import PureFunction
from optimagic_lite.objective.kinds import check_scalar
from optimagic_lite.objective.tracing import ImpureError, NotTraceableError, Program
from optimagic_lite.space.space import Space

Array = NDArray[np.float64]
_Make = Callable[[PureFunction], PureFunction]


def packed(value: PureFunction) -> PureFunction:
    """Return ``x, *data -> [value | gradient]``, shape (1 + n_x,).

    One array, because each output of a compiled call costs several microseconds in Python.
    """

    def function(x: jax.Array, *data: jax.Array) -> jax.Array:
        f, g = jax.value_and_grad(value)(x, *data)
        return jnp.concatenate([f[None], g])

    return function


def hessian(value: PureFunction) -> PureFunction:
    """Return ``x, *data -> Hessian``, shape (n_x, n_x)."""
    return jax.jacfwd(jax.grad(value))


def hessian_product(value: PureFunction) -> PureFunction:
    """Return ``x, v, *data -> Hessian @ v``, shape (n_x,)."""

    def function(x: jax.Array, v: jax.Array, *data: jax.Array) -> jax.Array:
        _, product = jax.jvp(lambda x: jax.grad(value)(x, *data), (x,), (v,))
        return jnp.asarray(product)

    return function


def value_only(value: PureFunction) -> PureFunction:
    """Return ``x, *data -> value``, shape ()."""
    return value


class _Functions:
    """Functions of x made of a traced one, each compiled when first called.

    Args:
        program: The traced function.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._functions: dict[str, Callable[..., jax.Array]] = {}

    def _compiled(self, make: _Make, order: int, *vectors: Array) -> PureFunction:
        name = make.__name__
        if name not in self._functions:
            arguments = [*vectors, *self._program.data]
            self._functions[name] = self._program.compile(name, make, *arguments, order=order)
        return self._functions[name]

    def _call(self, make: _Make, order: int, *vectors: Array) -> jax.Array:
        return self._compiled(make, order, *vectors)(*vectors, *self._program.data)


class ExactFunctions(_Functions):
    """A traced criterion as compiled functions of x.

    Args:
        program: The traced criterion.
        x: An x, for its shape.
    """

    def __init__(self, program: Program, x: Array) -> None:
        super().__init__(program)
        self._x = x

    def check_gradient(self) -> None:
        """Find out, without compiling, whether there is a gradient: a while loop has none.

        Raises:
            NotTraceableError: If there is none.
        """
        try:
            jax.eval_shape(self._compiled(packed, 1, self._x), self._x, *self._program.data)
        except Exception as error:
            raise NotTraceableError(_in_a_line(error)) from error

    def value(self, x: Array) -> float:
        """Return the value."""
        return float(self._call(value_only, 0, x))

    def values(self, xs: Array) -> Array:
        """Return the values at points of shape (k, n_x) in one call."""
        data = self._program.data
        # the number of points is part of the program: rounding it up bounds the number of programs
        n_padded = 1 << (len(xs) - 1).bit_length()
        points = np.concatenate([xs, np.repeat(xs[-1:], n_padded - len(xs), axis=0)])
        function = self._program.compile("values", _batched, points, *data, order=0)
        return np.asarray(function(points, *data))[: len(xs)]

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Return value and gradient from one compiled call."""
        out = np.asarray(self._call(packed, 1, x))
        return float(out[0]), out[1:]

    def hessian(self, x: Array) -> Array:
        """Return the Hessian."""
        return np.array(self._call(hessian, 2, x))

    def hessian_product(self, x: Array, v: Array) -> Array:
        """Return the product of the Hessian and a vector."""
        return np.array(self._call(hessian_product, 2, x, v))


def _batched(value: PureFunction) -> PureFunction:
    def function(xs: jax.Array, *data: jax.Array) -> jax.Array:
        return jax.vmap(value, in_axes=(0, *[None] * len(data)))(xs, *data)

    return function


class ExactVectors(_Functions):
    """A traced function with a vector of values, such as a constraint, as functions of x."""

    def value(self, x: Array) -> Array:
        """Return the values, shape (m,)."""
        return np.asarray(self._call(value_only, 0, x))

    def jacobian(self, x: Array) -> Array:
        """Return the Jacobian, shape (m, n_x); forward or reverse mode, by its shape."""
        (m,) = self._program.trace.jaxpr.outvars[0].aval.shape
        make = forward_jacobian if len(x) <= m else reverse_jacobian
        return np.asarray(self._call(make, 1, x))

    def hessian(self, x: Array, v: Array) -> Array:
        """Return the Hessian of ``v @ value``, shape (n_x, n_x)."""
        return np.asarray(self._call(hessian_of_sum, 2, x, v))


def forward_jacobian(value: PureFunction) -> PureFunction:
    """Return ``x, *data -> Jacobian``, column by column."""
    return jax.jacfwd(value)


def reverse_jacobian(value: PureFunction) -> PureFunction:
    """Return ``x, *data -> Jacobian``, row by row."""
    return jax.jacrev(value)


def hessian_of_sum(value: PureFunction) -> PureFunction:
    """Return ``x, v, *data -> Hessian of v @ value``."""

    def function(x: jax.Array, v: jax.Array, *data: jax.Array) -> jax.Array:
        return jnp.asarray(jax.jacfwd(jax.grad(lambda x: value(x, *data) @ v))(x))

    return function


class EagerFunctions:
    """Exact derivatives of a criterion that branches in Python on values: nothing is compiled.

    Args:
        fun: Called as ``fun(params, **kwargs)``.
        kwargs: Its further arguments.
        space: Says how to build params.
        sign: 1 to minimize, -1 to maximize.

    Raises:
        NotTraceableError: If JAX cannot differentiate it, or would do so wrongly.
    """

    def __init__(
        self, fun: Callable[..., Any], kwargs: dict[str, Any], space: Space, sign: float
    ) -> None:
        def value(x: jax.Array) -> jax.Array:
            raw = check_scalar(fun(space.trace(x), **kwargs))
            return sign * jnp.asarray(raw, dtype=jnp.float64).reshape(())

        self._value = value
        self._space = space
        try:
            self._check(space.x0)
        except NotTraceableError:
            raise
        except Exception as error:
            raise NotTraceableError(_in_a_line(error)) from error

    def value(self, x: Array) -> float:
        """Return the value."""
        return float(self._value(jnp.asarray(x)))

    def values(self, xs: Array) -> Array:
        """Return the values at points of shape (k, n_x), one after the other."""
        return np.array([self.value(x) for x in xs])

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Return value and gradient."""
        f, g = jax.value_and_grad(self._value)(jnp.asarray(x))
        return float(f), np.array(g)

    def hessian(self, x: Array) -> Array:
        """Return the Hessian."""
        columns = [self.hessian_product(x, v) for v in np.eye(len(x))]
        return np.stack(columns, axis=1)

    def hessian_product(self, x: Array, v: Array) -> Array:
        """Return the product of the Hessian and a vector."""
        product = jax.jvp(jax.grad(self._value), (jnp.asarray(x),), (jnp.asarray(v),))[1]
        return np.array(product)

    def _check(self, x: Array) -> None:
        """Compare with a difference quotient: float(x) inside fun cuts a derivative silently."""
        f, g = self.value_and_gradient(x)
        f_again, g_again = self.value_and_gradient(x)
        if f != f_again or not np.array_equal(g, g_again, equal_nan=True):
            raise ImpureError("two calls of fun at the same point gave two values")
        direction = np.cos(np.arange(len(x)))
        direction *= np.maximum(np.abs(x), 0.1) / np.linalg.norm(direction)
        for step in (1e-4, 1e-6):
            up, down = (
                np.clip(x + sign * step * direction, self._space.lower, self._space.upper)
                for sign in (1, -1)
            )
            change = (self.value(up) - self.value(down)) / (2 * step)
            exact = float(g @ (up - down)) / (2 * step)
            if abs(change - exact) <= 1e-3 * max(abs(change), abs(exact)) + 1e-6 * abs(f):
                return
        raise NotTraceableError(
            "JAX's derivative disagrees with a difference quotient; does fun convert a "
            "parameter with float() or int()?"
        )


def _in_a_line(error: Exception) -> str:
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}"

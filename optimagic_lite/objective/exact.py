"""Exact derivatives by JAX: how each function of x is made of a traced criterion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.compilation import PureFunction
from optimagic_lite.objective.kinds import Kind, info_of
from optimagic_lite.objective.tracing import ImpureError, NotTraceableError, Program, trace
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import flatten_in_order

Array = NDArray[np.float64]
_Make = Callable[[PureFunction], PureFunction]

# points of a batch that are evaluated side by side
_AT_ONCE = 64


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

    def _check(self, make: _Make, x: Array) -> None:
        try:
            jax.eval_shape(self._compiled(make, 1, x), x, *self._program.data)
        except Exception as error:
            raise NotTraceableError(_in_a_line(error)) from error

    def values(self, xs: Array) -> Array:
        """Return the values at points of shape (k, n_x) in one call."""
        data = self._program.data
        # the number of points is part of the program: rounding it up bounds the number of programs
        n_padded = 1 << (len(xs) - 1).bit_length()
        points = np.concatenate([xs, np.repeat(xs[-1:], n_padded - len(xs), axis=0)])
        function = self._program.compile("values", _batched, points, *data, order=0)
        return np.asarray(function(points, *data))[: len(xs)]


class ExactFunctions(_Functions):
    """A traced criterion with one value as compiled functions of x."""

    def check_derivative(self, x: Array) -> None:
        """Find out, without compiling, whether there is a gradient: a while loop has none.

        Args:
            x: An x, for its shape.

        Raises:
            NotTraceableError: If there is none.
        """
        self._check(packed, x)

    def value(self, x: Array) -> float:
        """Return the value."""
        return float(self._call(value_only, 0, x))

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
        # all at once would take as many times the memory of one
        return jnp.asarray(jax.lax.map(lambda x: value(x, *data), xs, batch_size=_AT_ONCE))

    return function


class ExactVectors(_Functions):
    """A traced function with a vector of values, residuals for one, as functions of x."""

    def check_derivative(self, x: Array) -> None:
        """Find out, without compiling, whether there is a Jacobian.

        Args:
            x: An x, for its shape.

        Raises:
            NotTraceableError: If there is none.
        """
        self._check(self._make_jacobian, x)

    def value(self, x: Array) -> Array:
        """Return the values, shape (m,)."""
        return np.array(self._call(value_only, 0, x))

    def jacobian(self, x: Array) -> Array:
        """Return the Jacobian, shape (m, n_x); forward or reverse mode, by its shape."""
        return np.array(self._call(self._make_jacobian, 1, x))

    @property
    def _make_jacobian(self) -> _Make:
        return jacobian_maker(self._program)

    def hessian(self, x: Array, v: Array) -> Array:
        """Return the Hessian of ``v @ value``, shape (n_x, n_x)."""
        return np.asarray(self._call(hessian_of_sum, 2, x, v))


def value_and_derivative(program: Program) -> Callable[[PureFunction], Any]:
    """Return what makes ``x, *data -> (value, derivative)``; a Jacobian where it is a vector."""
    if not program.trace.jaxpr.outvars[0].aval.shape:
        return jax.value_and_grad
    make = jacobian_maker(program)

    def made(value: PureFunction) -> Any:
        derivative = make(value)
        return lambda x, *data: (value(x, *data), derivative(x, *data))

    return made


def jacobian_maker(program: Program) -> _Make:
    """Return what makes a Jacobian of a program: forward mode where it has more rows than columns.

    Either way it costs about as much as it has entries.
    """
    (n_x,), (m,) = (v.aval.shape for v in (program.trace.jaxpr.invars[0],
                    program.trace.jaxpr.outvars[0]))  # fmt: skip
    return forward_jacobian if n_x <= m else reverse_jacobian


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
        kind: What it returns, and what is wanted of it.

    Raises:
        NotTraceableError: If JAX cannot differentiate it, or would do so wrongly.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        kwargs: dict[str, Any],
        space: Space,
        sign: float,
        kind: Kind,
    ) -> None:
        def value(x: jax.Array) -> jax.Array:
            return sign * kind.traced(fun(space.trace(x), **kwargs))

        self._value = value
        self._space = space
        self.kind = kind
        try:
            self._check(space.x0)
        except NotTraceableError:
            raise
        except Exception as error:
            raise NotTraceableError(_in_a_line(error)) from error

    def value(self, x: Array) -> Any:
        """Return the value."""
        value = np.array(self._value(jnp.asarray(x)))
        return value if self.kind.is_vector else float(value)

    def values(self, xs: Array) -> Array:
        """Return the values at points of shape (k, n_x), one after the other."""
        return np.array([self.value(x) for x in xs])

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Return value and gradient."""
        f, g = jax.value_and_grad(self._value)(jnp.asarray(x))
        return float(f), np.array(g)

    def jacobian(self, x: Array) -> Array:
        """Return the Jacobian of a vector, row by row or column by column."""
        value, pull_back = jax.vjp(self._value, jnp.asarray(x))
        if len(value) < len(x):
            return np.stack([pull_back(row)[0] for row in jnp.eye(len(value))])
        point = jnp.asarray(x)
        columns = [jax.jvp(self._value, (point,), (v,))[1] for v in jnp.eye(len(x))]
        return np.stack(columns, axis=1)

    def hessian(self, x: Array) -> Array:
        """Return the Hessian."""
        columns = [self.hessian_product(x, v) for v in np.eye(len(x))]
        return np.stack(columns, axis=1)

    def hessian_product(self, x: Array, v: Array) -> Array:
        """Return the product of the Hessian and a vector."""
        product = jax.jvp(jax.grad(self._value), (jnp.asarray(x),), (jnp.asarray(v),))[1]
        return np.array(product)

    def _value_and_derivative(self, x: Array) -> tuple[Array, Array]:
        if self.kind.is_vector:
            return self.value(x), self.jacobian(x)
        f, g = self.value_and_gradient(x)
        return np.array([f]), g[None]

    def _check(self, x: Array) -> None:
        """Compare with a difference quotient: float(x) inside fun cuts a derivative silently."""
        f, g = self._value_and_derivative(x)
        f_again, g_again = self._value_and_derivative(x)
        if not np.array_equal(f, f_again) or not np.array_equal(g, g_again, equal_nan=True):
            raise ImpureError("two calls of fun at the same point gave two values")
        direction = np.cos(np.arange(len(x)))
        direction *= np.maximum(np.abs(x), 0.1) / np.linalg.norm(direction)
        for step in (1e-4, 1e-6):
            up, down = (
                np.clip(x + sign * step * direction, self._space.lower, self._space.upper)
                for sign in (1, -1)
            )
            change = (self.value(up) - self.value(down)) / (2 * step)
            exact = g @ (up - down) / (2 * step)
            size = max(float(np.abs(change).max()), float(np.abs(exact).max()))
            if np.abs(change - exact).max() <= 1e-3 * size + 1e-6 * np.abs(f).max():
                return
        raise NotTraceableError(
            "JAX's derivative disagrees with a difference quotient; does fun convert a "
            "parameter with float() or int()?"
        )


class _Number(NamedTuple):
    """The place of a number or an array in an info."""

    shape: tuple[int, ...]
    dtype: Any


class ExactInfo:
    """The info that a traced criterion returns with its value, computed by a program of its own.

    Args:
        fun: Called as ``fun(params, **kwargs)``.
        kwargs: Its further arguments.
        space: Says how to build params.

    Raises:
        NotTraceableError: If it cannot be traced.
    """

    def __init__(self, fun: Callable[..., Any], kwargs: dict[str, Any], space: Space) -> None:
        self._leaves: list[Any] = []
        program = trace(fun, kwargs, space, 1.0, check_purity=False, as_array=self._numbers)
        self._function = ExactVectors(program)

    def __call__(self, x: Array) -> dict[str, Any]:
        """Return the info at x."""
        numbers = iter(np.split(self._function.value(x), self._edges))
        filled = [
            _like(leaf, next(numbers)) if isinstance(leaf, _Number) else leaf
            for leaf in self._leaves
        ]
        return self._rebuild(filled)  # type: ignore[no-any-return]

    def _numbers(self, raw: Any) -> jax.Array:
        """Return all numbers of an info as one vector, and note what they are."""
        leaves, self._rebuild = flatten_in_order(info_of(raw))
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
        self._leaves = [
            _Number(leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array) else leaf
            for leaf in leaves
        ]
        self._edges = np.cumsum([leaf.size for leaf in arrays])
        return jnp.concatenate(
            [*(leaf.reshape(-1).astype(jnp.float64) for leaf in arrays), jnp.zeros(1)]
        )


def _like(example: _Number, numbers: Array) -> Any:
    return numbers.reshape(example.shape).astype(example.dtype)


def _in_a_line(error: Exception) -> str:
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}"

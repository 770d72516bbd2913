"""Whether JAX can trace a user function, and whether it is pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optimagic_lite.compilation import (
    PureFunction,
    Trace,
    closed_signature,
    evaluate,
    kept,
    trace_function,
)
from optimagic_lite.exceptions import InvalidFunctionError
from optimagic_lite.objective.kinds import Kind
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import flatten_in_order

_ONE_NUMBER = Kind()


@dataclass(frozen=True)
class Program:
    """A traced user function: a pure function of x and of its data.

    Args:
        trace: What it does; constants come first among its data.
        data: Everything that the trace closed over and the arrays of ``fun_kwargs``.
        sign: 1 to minimize, -1 to maximize.
    """

    trace: Trace
    data: tuple[jax.Array, ...]
    sign: float

    def compile(
        self,
        kind: Hashable,
        make: Callable[[PureFunction], Callable[..., Any]],
        *arguments: Any,
        order: int,
    ) -> Callable[..., Any]:
        """Compile a function made of this program, or return the one compiled before.

        Args:
            kind: What the function does with the program, with all its static options.
            make: Turns ``value(x, *data)``, the value to be minimized, into the function.
            arguments: Examples that give shapes and dtypes of the function's arguments.
            order: Highest order of derivative that it takes of the value.
        """
        # closed over the program alone: a kept function must not keep the data alive
        function = make(self.value)
        shapes = tuple((np.shape(a), jnp.result_type(a)) for a in jax.tree.leaves(arguments))
        key: tuple[Hashable, ...] = (self.trace.signature, self.sign, kind, shapes)
        if self.trace.has_custom_rules and order == 1:
            key += (self._first_order,)
        elif self.trace.has_custom_rules and order > 1:
            key += (closed_signature(jax.make_jaxpr(function)(*arguments)),)
        return kept(key, lambda: function)

    @property
    def value(self) -> PureFunction:
        """``value(x, *data)``, the value to be minimized."""
        return partial(_value, self.trace.jaxpr, self.sign)

    @cached_property
    def _first_order(self) -> Hashable:
        """Signature of value and derivative, in which derivative rules have been applied."""

        def function(x: jax.Array, *data: jax.Array) -> Any:
            value, pull_back = jax.vjp(lambda x: self.value(x, *data), x)
            return value, pull_back(jnp.ones_like(value))

        n_x = self.trace.jaxpr.invars[0].aval.shape
        return closed_signature(jax.make_jaxpr(function)(np.zeros(n_x), *self.data))


def _value(jaxpr: Any, sign: float, x: jax.Array, *data: jax.Array) -> jax.Array:
    n_consts = len(jaxpr.constvars)
    (value,) = evaluate(jaxpr, data[:n_consts], x, *data[n_consts:])
    return jnp.asarray(sign * value)


class NotTraceableError(Exception):
    """JAX cannot trace the criterion; the text says why."""


class ImpureError(NotTraceableError):
    """The criterion draws, counts or changes state, so that a trace would not stand for it."""


def trace(
    fun: Callable[..., Any],
    kwargs: dict[str, Any],
    space: Space,
    sign: float,
    *,
    check_purity: bool,
    as_array: Callable[[Any], jax.Array] = _ONE_NUMBER.traced,
) -> Program:
    """Trace a user function.

    Numbers in ``kwargs`` become arguments of the program where the function allows it: arrays
    and floats, else arrays, else nothing. So new data of the same shape is the same program.

    Args:
        fun: Called as ``fun(params, **kwargs)``.
        kwargs: Its further arguments.
        space: Says how to build params.
        sign: 1 to minimize, -1 to maximize.
        check_purity: Trace a second time and compare.
        as_array: Turns what it returns into one array; the default is for criteria that return
            one number.

    Raises:
        NotTraceableError: With the reason.
        InvalidFunctionError: If the function returns something that it must not.
    """
    if not space.tree.is_traceable:
        raise NotTraceableError("params holds pandas objects, which JAX cannot trace")
    reason: Exception | None = None
    for is_data in (is_array_or_float, _is_array, lambda _: False):
        leaves, rebuild = flatten_in_order(kwargs)
        chosen = [i for i, leaf in enumerate(leaves) if is_data(leaf)]
        data = [leaves[i] for i in chosen]

        def function(x: jax.Array, *data: Any) -> jax.Array:
            filled = list(leaves)  # noqa: B023
            for i, value in zip(chosen, data, strict=True):  # noqa: B023
                filled[i] = value
            return as_array(fun(space.trace(x), **rebuild(filled)))  # noqa: B023

        try:
            program = _trace_once(function, space, data, sign)
            again = _trace_once(function, space, data, sign) if check_purity else program
        except (NotTraceableError, InvalidFunctionError):
            raise
        except Exception as error:
            reason = error
            continue
        one, other = program.trace, again.trace
        is_same = one.signature == other.signature or one.outline == other.outline
        if not (is_same and _equal(program.data, again.data)):
            raise ImpureError(
                "two calls of fun gave two programs, so it draws random numbers, counts or "
                "changes state; compiled, it would repeat what it did the first time"
            )
        return program
    first_line = str(reason).strip().splitlines()[0] if str(reason).strip() else ""
    raise NotTraceableError(f"{type(reason).__name__}: {first_line}") from reason


def _trace_once(
    function: Callable[..., Any], space: Space, data: list[Any], sign: float
) -> Program:
    found = trace_function(function, space.x0, *data)
    arrays = (*found.consts, *(jnp.asarray(value) for value in data))
    return Program(found, arrays, sign)


def _is_array(leaf: Any) -> bool:
    is_array = isinstance(leaf, (np.ndarray, np.generic, jax.Array))
    # the dtype of a random key is no NumPy dtype and has no kind
    return is_array and getattr(leaf.dtype, "kind", "") in ("f", "i", "u", "b")


def is_array_or_float(leaf: Any) -> bool:
    """Tell whether an argument is data: an array of numbers, traced or not, or a float."""
    return isinstance(leaf, float) or _is_array(leaf)


def _equal(left: tuple[jax.Array, ...], right: tuple[jax.Array, ...]) -> bool:
    return len(left) == len(right) and all(
        a is b or np.array_equal(a, b, equal_nan=jnp.issubdtype(a.dtype, jnp.inexact))
        for a, b in zip(left, right, strict=True)
    )

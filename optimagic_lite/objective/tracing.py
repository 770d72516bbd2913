"""Whether JAX can trace a criterion, whether it is pure, and each program compiled only once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optimagic_lite.exceptions import InvalidFunctionError
from optimagic_lite.objective.kinds import check_scalar
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import flatten_in_order

PureFunction = Callable[..., jax.Array]

_CACHE_SIZE = 512
_compiled: OrderedDict[Hashable, Callable[..., jax.Array]] = OrderedDict()

# Parameters that hold functions and do not run: an unapplied derivative rule. They are new
# objects in every trace, and the program in which the rule is applied has it written out.
_PLAIN = (str, int, float, bool, bytes, type(None), np.dtype, np.generic)
_CUSTOM_RULES = ("custom_jvp_call", "custom_vjp_call")


@dataclass(frozen=True)
class Program:
    """A traced criterion: a pure function of x and of its data.

    Args:
        jaxpr: The program; constants come first among its arguments.
        data: Everything that the trace closed over and the arrays of ``fun_kwargs``.
        sign: 1 to minimize, -1 to maximize.
        signature: Equal for programs that compute the same function of x and data.
        has_custom_rules: Whether a custom derivative rule is still to be applied, so that
            the signature says nothing about derivatives.
    """

    jaxpr: Any
    data: tuple[jax.Array, ...]
    sign: float
    signature: Hashable
    has_custom_rules: bool

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
        function = make(partial(_evaluate, self.jaxpr, self.sign))
        shapes = tuple((np.shape(a), jnp.result_type(a)) for a in jax.tree.leaves(arguments))
        key: tuple[Hashable, ...] = (self.signature, self.sign, kind, shapes)
        if self.has_custom_rules and order == 1:
            key += (self._first_order,)
        elif self.has_custom_rules and order > 1:
            key += (_closed_signature(jax.make_jaxpr(function)(*arguments)),)
        if key in _compiled:
            _compiled.move_to_end(key)
            return _compiled[key]
        _compiled[key] = jax.jit(function)
        if len(_compiled) > _CACHE_SIZE:
            _compiled.popitem(last=False)
        return _compiled[key]

    @property
    def outline(self) -> Hashable:
        """The signature without objects that Python compares by identity.

        Functions that a primitive carries, for one, are new in every trace.
        """
        return _signature(self.jaxpr, with_objects=False)[0]

    @cached_property
    def _first_order(self) -> Hashable:
        """Signature of value and gradient, in which derivative rules have been applied."""
        function = jax.value_and_grad(partial(_evaluate, self.jaxpr, self.sign))
        n_x = self.jaxpr.invars[0].aval.shape
        return _closed_signature(jax.make_jaxpr(function)(np.zeros(n_x), *self.data))


def _evaluate(jaxpr: Any, sign: float, x: jax.Array, *data: jax.Array) -> jax.Array:
    from jax.extend import core  # it loads much that importing the package need not wait for

    n_consts = len(jaxpr.constvars)
    closed = core.ClosedJaxpr(jaxpr, list(data[:n_consts]))
    (value,) = core.jaxpr_as_fun(closed)(x, *data[n_consts:])
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
) -> Program:
    """Trace a criterion.

    Numbers in ``kwargs`` become arguments of the program where the criterion allows it: arrays
    and floats, else arrays, else nothing. So new data of the same shape is the same program.

    Args:
        fun: Called as ``fun(params, **kwargs)``.
        kwargs: Its further arguments.
        space: Says how to build params.
        sign: 1 to minimize, -1 to maximize.
        check_purity: Trace a second time and compare.

    Raises:
        NotTraceableError: With the reason.
        InvalidFunctionError: If the criterion does not return one real number.
    """
    if not space.tree.is_traceable:
        raise NotTraceableError("params holds pandas objects, which JAX cannot trace")
    reason: Exception | None = None
    for is_data in (_is_array_or_float, _is_array, lambda _: False):
        leaves, rebuild = flatten_in_order(kwargs)
        chosen = [i for i, leaf in enumerate(leaves) if is_data(leaf)]
        data = [leaves[i] for i in chosen]

        def criterion(x: jax.Array, *data: Any) -> jax.Array:
            filled = list(leaves)  # noqa: B023
            for i, value in zip(chosen, data, strict=True):  # noqa: B023
                filled[i] = value
            value = check_scalar(fun(space.trace(x), **rebuild(filled)))  # noqa: B023
            if not jnp.issubdtype(value.dtype, jnp.floating):
                raise NotTraceableError(f"fun returns {value.dtype} values")
            return jnp.asarray(value, dtype=jnp.float64).reshape(())

        try:
            program = _trace_once(criterion, space, data, sign)
            again = _trace_once(criterion, space, data, sign) if check_purity else program
        except (NotTraceableError, InvalidFunctionError):
            raise
        except Exception as error:
            reason = error
            continue
        is_same = program.signature == again.signature or program.outline == again.outline
        if not (is_same and _equal(program.data, again.data)):
            raise ImpureError(
                "two calls of fun gave two programs, so it draws random numbers, counts or "
                "changes state; compiled, it would repeat what it did the first time"
            )
        return program
    first_line = str(reason).strip().splitlines()[0] if str(reason).strip() else ""
    raise NotTraceableError(f"{type(reason).__name__}: {first_line}") from reason


def _trace_once(
    criterion: Callable[..., Any], space: Space, data: list[Any], sign: float
) -> Program:
    # a fresh function object: JAX would answer a known one from its cache of traces
    closed = jax.make_jaxpr(lambda *args: criterion(*args))(space.x0, *data)
    signature, has_custom_rules = _signature(closed.jaxpr)
    arrays = tuple(jnp.asarray(value) for value in [*closed.consts, *data])
    weak = tuple(getattr(v.aval, "weak_type", False) for v in closed.jaxpr.invars)
    return Program(closed.jaxpr, arrays, sign, (signature, weak), has_custom_rules)


def _is_array(leaf: Any) -> bool:
    is_array = isinstance(leaf, (np.ndarray, np.generic, jax.Array))
    # the dtype of a random key is no NumPy dtype and has no kind
    return is_array and getattr(leaf.dtype, "kind", "") in ("f", "i", "u", "b")


def _is_array_or_float(leaf: Any) -> bool:
    return isinstance(leaf, float) or _is_array(leaf)


def _equal(left: tuple[jax.Array, ...], right: tuple[jax.Array, ...]) -> bool:
    return len(left) == len(right) and all(
        a is b or np.array_equal(a, b, equal_nan=jnp.issubdtype(a.dtype, jnp.inexact))
        for a, b in zip(left, right, strict=True)
    )


def _signature(jaxpr: Any, *, with_objects: bool = True) -> tuple[Hashable, bool]:
    """Return a hashable twin of a program and whether it holds unapplied derivative rules.

    Args:
        jaxpr: The program.
        with_objects: Whether parameters that are neither numbers, text nor programs count with
            their identity, or with their type only.
    """
    from jax.extend import core

    numbers: dict[Any, int] = {}
    has_custom_rules = False

    def variable(v: Any) -> Hashable:
        if isinstance(v, core.Literal):
            value = np.asarray(v.val)
            return value.dtype.str, value.tobytes(), str(v.aval)
        return numbers.setdefault(v, len(numbers)), str(v.aval)

    def parameter(value: Any) -> Hashable:
        nonlocal has_custom_rules
        if isinstance(value, core.ClosedJaxpr):
            consts = tuple(parameter(np.asarray(c)) for c in value.consts)
            return parameter(value.jaxpr), consts
        if isinstance(value, core.Jaxpr):
            inner, inner_rules = _signature(value, with_objects=with_objects)
            has_custom_rules |= inner_rules
            return inner
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, (list, tuple)):
            return type(value).__name__, tuple(parameter(v) for v in value)
        if isinstance(value, dict):
            return tuple((k, parameter(v)) for k, v in value.items())
        if not with_objects and not isinstance(value, _PLAIN):
            return type(value).__name__
        try:
            hash(value)
        except TypeError:
            return _Identity(value)
        return type(value).__name__, value

    def equation(eqn: Any) -> Hashable:
        nonlocal has_custom_rules
        params = eqn.params.items()
        if eqn.primitive.name in _CUSTOM_RULES:
            has_custom_rules = True
            params = [(k, v) for k, v in params if isinstance(v, core.ClosedJaxpr)]
        return (
            eqn.primitive.name,
            tuple(variable(v) for v in eqn.invars),
            tuple((name, parameter(value)) for name, value in params),
            tuple(variable(v) for v in eqn.outvars),
        )

    heads = tuple(variable(v) for v in [*jaxpr.constvars, *jaxpr.invars])
    body = tuple(equation(eqn) for eqn in jaxpr.eqns)
    return (heads, body, tuple(variable(v) for v in jaxpr.outvars)), has_custom_rules


def _closed_signature(closed: Any) -> Hashable:
    """Return a signature with the values of constants: arrays that derivative rules close over."""
    return _signature(closed.jaxpr)[0], tuple(_digest(c) for c in closed.consts)


def _digest(constant: Any) -> Hashable:
    if jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
        constant = jax.random.key_data(constant)
    array = np.asarray(constant)
    return array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()


class _Identity:
    """Hashable stand-in for an object that is equal to itself only, and keeps it alive."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)

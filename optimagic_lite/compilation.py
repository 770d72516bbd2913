"""Every program is compiled once: compiled functions are kept by what they compute.

A function is traced anew each time, which takes milliseconds, and what the trace closed over
becomes an argument. Traces with the same signature are the same program, whatever function object
they came from. So nothing compiles twice, and nothing that is kept can be stale.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PureFunction = Callable[..., jax.Array]

_CACHE_SIZE = 512
_compiled: OrderedDict[Hashable, Callable[..., Any]] = OrderedDict()

# Parameters that hold functions and do not run: an unapplied derivative rule. They are new
# objects in every trace, and the program in which the rule is applied has it written out.
_PLAIN = (str, int, float, bool, bytes, type(None), np.dtype, np.generic)
_CUSTOM_RULES = ("custom_jvp_call", "custom_vjp_call")


@dataclass(frozen=True)
class Trace:
    """What a function does with arguments of some shapes.

    Args:
        jaxpr: The program; constants come first among its arguments.
        consts: What the function closed over.
        signature: Equal for programs that compute the same function of constants and arguments.
        has_custom_rules: Whether a custom derivative rule is still to be applied, so that the
            signature says nothing about derivatives.
    """

    jaxpr: Any
    consts: tuple[jax.Array, ...]
    signature: Hashable
    has_custom_rules: bool

    @property
    def outline(self) -> Hashable:
        """The signature without objects that Python compares by identity.

        Functions that a primitive carries, for one, are new in every trace.
        """
        return _signature(self.jaxpr, with_objects=False)[0]


def trace_function(function: Callable[..., Any], *examples: Any) -> Trace:
    """Trace a pure function.

    Args:
        function: Takes arrays and returns arrays.
        examples: Arguments that give shapes and dtypes.
    """
    # a fresh function object: JAX would answer a known one from its cache of traces
    closed = jax.make_jaxpr(lambda *args: function(*args))(*examples)
    signature, has_custom_rules = _signature(closed.jaxpr)
    weak = tuple(getattr(v.aval, "weak_type", False) for v in closed.jaxpr.invars)
    # concrete arrays, even inside the trace of another function
    with jax.ensure_compile_time_eval():
        consts = tuple(
            const if isinstance(const, jax.core.Tracer) else jnp.asarray(const)
            for const in closed.consts
        )
    return Trace(closed.jaxpr, consts, (signature, weak), has_custom_rules)


def compile_once(function: Callable[..., Any], *examples: Any) -> Callable[..., jax.Array]:
    """Compile a pure function of arrays, or return what was compiled of an equal one.

    Args:
        function: Takes arrays and returns one array.
        examples: Arguments that give shapes and dtypes.
    """
    program = trace_function(function, *examples)
    compiled = kept(program.signature, lambda: partial(_first_output, program.jaxpr))
    return partial(compiled, program.consts)


def kept(key: Hashable, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """Return the compiled function that was kept under a key, or make and keep it.

    Args:
        key: Says all about what the function computes, but for its arguments.
        make: Returns the function that is to be compiled.
    """
    if key in _compiled:
        _compiled.move_to_end(key)
        return _compiled[key]
    _compiled[key] = jax.jit(make())
    if len(_compiled) > _CACHE_SIZE:
        _compiled.popitem(last=False)
    return _compiled[key]


def evaluate(jaxpr: Any, consts: tuple[jax.Array, ...], *args: Any) -> list[jax.Array]:
    """Run a program; returns all its outputs."""
    from jax.extend import core  # it loads much that importing the package need not wait for

    return list(core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, list(consts)))(*args))


def _first_output(jaxpr: Any, consts: tuple[jax.Array, ...], *args: Any) -> jax.Array:
    return evaluate(jaxpr, consts, *args)[0]


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


def closed_signature(closed: Any) -> Hashable:
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

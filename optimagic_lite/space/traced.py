"""A space whose start may be traced by JAX: its structure is known, its numbers are arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.constraints import (
    EqualityConstraint,
    FixedConstraint,
    PairwiseEqualityConstraint,
)
from optimagic_lite.exceptions import InvalidParamsError
from optimagic_lite.options import ScalingOptions, read_scaling
from optimagic_lite.space.demands import Demand
from optimagic_lite.space.feasible import make_feasible
from optimagic_lite.space.make import make_space, read_demands
from optimagic_lite.space.scaling import Scale, make_scale
from optimagic_lite.space.space import Space
from optimagic_lite.space.trees import flatten_in_order

Array = NDArray[np.float64]
Positions = NDArray[np.intp]

# relative distance from params that an x gives, beyond which those violate constraints
_VIOLATION = 1e-3


class Numbers(NamedTuple):
    """What the map from x to params takes from the start.

    Attributes:
        constants: Values of fixed parameters, see ``Plan``.
        factor: Of the scale, shape (n_x,); None without one.
        offset: Of the scale, shape (n_x,); None without one.
    """

    constants: Any
    factor: Any
    offset: Any


class Start(NamedTuple):
    """Where a solve begins.

    Attributes:
        x: Shape (n_x,).
        lower: Lower bounds on x.
        upper: Upper bounds on x.
        numbers: See ``Numbers``.
    """

    x: Any
    lower: Any
    upper: Any
    numbers: Numbers


@dataclass(frozen=True, eq=False)
class TracedSpace:
    """Where an algorithm searches, from any start with the same structure.

    Args:
        space: The space from one start, without its scale.
        scaling: How to scale, or None.
        is_traced: Whether starts are traced, so that nothing is known of their numbers.
        fixed: Flat positions of fixed parameters, and the numbers of the constants that they are.
    """

    space: Space
    scaling: ScalingOptions | None
    is_traced: bool
    fixed: tuple[Positions, Positions]

    @property
    def n_x(self) -> int:
        """Length of x."""
        return self.space.n_x

    def start(self, params: Any) -> Start:
        """Return where a solve from these params begins; pure JAX where they are traced."""
        if not self.is_traced:
            return self.start_at(None)
        leaves, _ = flatten_in_order(params)
        parts = [jnp.asarray(leaf, dtype=jnp.float64).reshape(-1) for leaf in leaves]
        return self.start_at(jnp.concatenate(parts))

    def start_at(self, flat: jax.Array | None) -> Start:
        """Return where a solve begins.

        Args:
            flat: Params as a vector; None for those from which the space was made.
        """
        space = self.space
        x: Any = space.x0
        constants: Any = np.zeros(0) if space.plan is None else space.plan.constants
        if flat is not None:
            constants = jnp.asarray(constants).at[self.fixed[1]].set(flat[self.fixed[0]])
            x = self._unscaled_x(*jax.lax.stop_gradient((flat, constants)))
        if self.scaling is None:
            return Start(x, space.lower, space.upper, Numbers(constants, None, None))
        xp = np if flat is None else jnp
        scale = make_scale(x, space.lower, space.upper, space.x_names, self.scaling, xp)
        numbers = Numbers(constants, scale.factor, scale.offset)
        limits = scale.scaled(space.lower), scale.scaled(space.upper)
        return Start(scale.scaled(x), *limits, numbers)

    def flat(self, x: jax.Array, numbers: Numbers) -> jax.Array:
        """Return the flat vector of x."""
        x = self.unscaled(x, numbers)
        plan = self.space.plan
        if plan is None:
            return x
        flat = replace(plan, constants=numbers.constants).flat(x)
        # bijections may make numbers of NaN; a product, because its derivatives are NaN too
        return flat * jnp.where(jnp.isnan(x).any(), jnp.nan, 1.0) if plan.blocks else flat

    def unscaled(self, x: jax.Array, numbers: Numbers) -> jax.Array:
        """Undo the scale of x."""
        return x if numbers.factor is None else self._scale(numbers).trace_unscaled(x)

    def scaled(self, x: jax.Array, numbers: Numbers) -> jax.Array:
        """Scale x, and put back what left the bounds by rounding."""
        if numbers.factor is None:
            return jnp.clip(x, self.space.lower, self.space.upper)
        scale = self._scale(numbers)
        lower, upper = (scale.scaled(v) for v in (self.space.lower, self.space.upper))
        return jnp.clip((x - scale.offset) / scale.factor, lower, upper)

    def _scale(self, numbers: Numbers) -> Scale:
        return Scale(numbers.factor, numbers.offset, self.space.lower, self.space.upper)

    def params(self, x: jax.Array, numbers: Numbers) -> Any:
        """Return the params of x."""
        return self.space.tree.trace(self.flat(x, numbers))

    def _unscaled_x(self, flat: jax.Array, constants: jax.Array) -> jax.Array:
        """Return the start; NaN where params violate bounds or constraints."""
        space, plan = self.space, self.space.plan
        x = flat
        if plan is not None and plan.blocks:
            # inverses of bijections are NumPy; this is once a solve
            x = call_numpy(self._invert, (space.n_x,), flat)
        elif plan is not None:
            x = flat[self._plain]
        x = jnp.clip(x, space.lower, space.upper)
        # where something is violated, another point than this one comes out
        own: Any = constants
        again = x if plan is None else replace(plan, constants=own).flat(x)
        is_close = jnp.abs(again - flat) <= _VIOLATION * jnp.maximum(1.0, jnp.abs(flat))
        return jnp.where(is_close.all(), x, jnp.nan)

    @cached_property
    def _plain(self) -> Positions:
        """Flat positions of the entries of x that are parameters themselves."""
        assert self.space.plan is not None
        order = {int(place): i for i, place in reversed(list(enumerate(self.space.plan.gather)))}
        return np.array([order[i] for i in range(self.space.plan.n_plain)], dtype=np.intp)

    def _invert(self, flat: Array) -> Array:
        """Return x of flat vectors; NaN where they are not finite."""
        rows = flat.reshape(-1, flat.shape[-1])
        xs = np.full((len(rows), self.space.n_x), np.nan)
        for x, row in zip(xs, rows, strict=True):
            # what violates constraints may have no inverse
            with np.errstate(all="ignore"), contextlib.suppress(ValueError, np.linalg.LinAlgError):
                x[:] = self.space.x_of(row) if np.isfinite(row).all() else np.nan
        return xs.reshape((*flat.shape[:-1], self.space.n_x))


def call_numpy(function: Callable[..., Array], shape: tuple[int, ...], *args: Any) -> jax.Array:
    """Call a NumPy function from inside JAX.

    Numbers travel as bits: JAX makes single precision of what a callback gets and returns, if the
    thread in which it runs knows nothing of ``enable_x64``.

    Args:
        function: Takes arrays, which may have further leading axes, and returns one.
        shape: Shape of what it returns, without those axes.
        args: Its arguments.
    """
    arrays = [jnp.asarray(arg) for arg in args]
    is_double = [array.dtype == jnp.float64 for array in arrays]

    def on_bits(*sent: Any) -> NDArray[np.uint32]:
        pairs = zip(map(np.array, sent), is_double, strict=True)
        values = [v.view(np.float64)[..., 0] if double else v for v, double in pairs]
        found = np.array(function(*values), dtype=np.float64)
        return found[..., None].view(np.uint32)

    sent = [
        jax.lax.bitcast_convert_type(v, jnp.uint32) if double else v
        for v, double in zip(arrays, is_double, strict=True)
    ]
    bits: Any = jax.ShapeDtypeStruct((*shape, 2), jnp.uint32)  # type: ignore[no-untyped-call]
    found = jax.pure_callback(on_bits, bits, *sent, vmap_method="expand_dims")
    return jax.lax.bitcast_convert_type(found, jnp.float64)


def make_traced_space(
    params: Any,
    *,
    bounds: Any,
    constraints: Any,
    scaling: Any,
    keeps_bounds: bool,
    for_all_starts: bool | None = None,
) -> TracedSpace:
    """Build the space in which an algorithm searches from params that may be traced.

    Args:
        params: Start params, a tree of arrays and numbers.
        bounds: See ``minimize``.
        constraints: See ``minimize``.
        scaling: See ``minimize``.
        keeps_bounds: See ``make_space``.
        for_all_starts: Whether other starts than these are to come; None: if they are traced.

    Raises:
        OptimagicError: See ``make_space``. From traced params only what does not depend on their
            numbers is checked.
        InvalidParamsError: If they are traced and constraints depend on the values of fixed ones,
            or if they hold pandas objects or none of them is free.
    """
    is_traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(params))
    limits = {"bounds": bounds, "constraints": constraints}
    # checks look at numbers, also where all this happens inside the trace of another function
    with jax.ensure_compile_time_eval():
        example = make_feasible(params, **limits) if is_traced else params
        space = make_space(example, **limits, keeps_bounds=keeps_bounds)
    if not space.tree.is_traceable:
        raise InvalidParamsError(
            "params holds pandas objects, which JAX cannot trace. Use arrays, or minimize."
        )
    is_traced = is_traced if for_all_starts is None else for_all_starts
    fixed = _fixed(space, read_demands(constraints, space.tree), is_traced=is_traced)
    if not space.n_x:
        raise InvalidParamsError("No parameter is free, so there is nothing to solve for.")
    return TracedSpace(space, read_scaling(scaling), is_traced, fixed)


def _fixed(space: Space, demands: list[Demand], *, is_traced: bool) -> tuple[Positions, Positions]:
    """Return which parameters are fixed at their start values, and which constants they are."""
    nothing = np.zeros(0, dtype=np.intp)
    if space.plan is None or not is_traced:
        return nothing, nothing
    gather = space.plan.gather
    mine = [d.positions for d in demands if isinstance(d.constraint, FixedConstraint)]
    positions = np.unique(np.concatenate([nothing, *mine]))
    for demand in demands:
        if isinstance(
            demand.constraint, (FixedConstraint, EqualityConstraint, PairwiseEqualityConstraint)
        ):
            continue
        shared = positions[np.isin(gather[positions], gather[demand.positions])]
        if len(shared):
            raise InvalidParamsError(
                f"{space.names[shared[0]]} is fixed at its start value and {demand.name} speaks of "
                "it, so the start has to be known when the solve is compiled. Do not let jit, vmap "
                "or grad trace params here: close over them."
            )
    return positions, gather[positions] - space.plan.n_plain

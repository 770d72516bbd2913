"""The map between an algorithm's vector x, the flat vector and the user's params.

x -> (scale) -> inputs -> (bijections) -> representatives -> (index map) -> flat -> (tree) -> params

Inputs are the free representatives that stand in no bijection, then those of the bijections. What
is fixed is no part of x. Without constraints and scaling, x is the flat vector itself, at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.compilation import compile_once
from optimagic_lite.exceptions import InvalidParamsError
from optimagic_lite.space.demands import Demand
from optimagic_lite.space.plan import PlacedBlock, Plan
from optimagic_lite.space.rows import LinearRows, stack
from optimagic_lite.space.scaling import Scale
from optimagic_lite.space.transforms import Box, sample_box
from optimagic_lite.space.trees import ParamTree

Array = NDArray[np.float64]
Positions = NDArray[np.intp]

# rows that are turned into flat vectors in one call
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Space:
    """Where an algorithm searches, and what its x stands for.

    Args:
        tree: Structure of params.
        x0: Start, shape (n_x,).
        lower: Lower bounds on x, shape (n_x,), -inf where there are none.
        upper: Upper bounds on x, shape (n_x,), inf where there are none.
        plan: How x becomes the flat vector; None if it is the flat vector.
        scale: The scale of x, or None.
        rows: Linear constraints that no bijection carries, on parameters at ``firsts``.
        nonlinear: Nonlinear constraints.
        firsts: Position in the flat vector of each representative.
        bounded: Positions of parameters that the user has bounded and no bijection carries.

    Example:
        >>> import optimagic_lite as om
        >>> space = om.make_space(np.array([0.2, 0.3, 0.5]),
        ...                       constraints=om.ProbabilityConstraint(), keeps_bounds=False)
        >>> space.n_x, space.has_bounds
        (2, False)
        >>> space.to_params(np.zeros(2)).round(4)
        array([0.3333, 0.3333, 0.3333])
        >>> space.to_params(space.to_x(np.array([0.1, 0.2, 0.7])))
        array([0.1, 0.2, 0.7])
    """

    tree: ParamTree
    x0: Array
    lower: Array
    upper: Array
    plan: Plan | None = None
    scale: Scale | None = None
    rows: tuple[LinearRows, ...] = ()
    nonlinear: tuple[Demand, ...] = ()
    firsts: Positions = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    bounded: Positions = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    _functions: dict[str, Callable[..., jax.Array]] = field(
        default_factory=dict, repr=False, init=False
    )

    def without_constraints(self) -> Space:
        """Return the space of the same params whose x is the flat vector."""
        no_limit = np.full(len(self.names), np.inf)
        return Space(self.tree, self.to_flat(self.x0), -no_limit, no_limit)

    def starting_at(self, x: Array) -> Space:
        """Return the same space with another start, shape (n_x,)."""
        out = replace(self, x0=x)
        out._functions.update(self._functions)
        return out

    # ---- what it is ----------------------------------------------------------------------

    @property
    def n_x(self) -> int:
        """Length of x."""
        return len(self.x0)

    @cached_property
    def n_free(self) -> int:
        """Number of free parameters: degrees of freedom."""
        n_equalities = sum(int((rows.lower == rows.upper).sum()) for rows in self.rows)
        if self.plan is None:
            return self.n_x - n_equalities
        n_inputs = self.plan.n_plain
        n_inputs += sum(block.transform.n_free for block in self.plan.blocks)
        return n_inputs - n_equalities

    @property
    def names(self) -> list[str]:
        """Names of the entries of the flat vector."""
        return self.tree.names

    @cached_property
    def x_names(self) -> list[str]:
        """How to call the entries of x in messages."""
        if self.plan is None:
            return self.names
        owners = {int(place): i for i, place in reversed(list(enumerate(self.plan.gather)))}
        names = [self.names[owners[i]] for i in range(self.plan.n_plain)]
        for block in self.plan.blocks:
            if isinstance(block.transform, Box):
                names += [self.names[self.firsts[m]] for m in block.members[block.free]]
            else:
                count = block.stop - block.start
                names += [f"input {i} of {block.source}" for i in range(count)]
        return names

    @property
    def has_bounds(self) -> bool:
        """Whether any bound on x is finite."""
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    @property
    def _blocks(self) -> tuple[PlacedBlock, ...]:
        return () if self.plan is None else self.plan.blocks

    @property
    def _has_blocks(self) -> bool:
        return bool(self._blocks)

    # ---- from x to params ----------------------------------------------------------------

    def to_params(self, x: Array) -> Any:
        """Build the user's params, with their own copy of the numbers."""
        return self.tree.to_params(self.to_flat(x))

    def to_flat(self, x: Array) -> Array:
        """Return the flat vector of x; without constraints and scaling x itself, not a copy."""
        if self.plan is None and self.scale is None:
            return x
        if self._has_blocks:
            return np.asarray(self.call("flat", self._compose, x))
        unscaled = self._unscaled(x)
        if self.plan is None:
            return unscaled
        return np.concatenate([unscaled, self.plan.constants])[self.plan.gather]

    def to_flat_rows(self, xs: Array) -> Array:
        """Return the flat vectors of many x, shape (k, n_x), as shape (k, n_params)."""
        if self.plan is None and self.scale is None:
            return xs
        if not self._has_blocks:
            return np.array([self.to_flat(x) for x in xs]).reshape(len(xs), len(self.names))
        parts = [self._flat_chunk(xs[i : i + _CHUNK]) for i in range(0, len(xs), _CHUNK)]
        return np.concatenate([np.empty((0, len(self.names))), *parts])

    def _flat_chunk(self, xs: Array) -> Array:
        """Return the flat vectors of few x; their number is rounded up to compile less often."""
        n_padded = next(n for n in (1, 16, _CHUNK) if len(xs) <= n)
        points = np.concatenate([xs, np.repeat(xs[-1:], n_padded - len(xs), axis=0)])
        rows = self.call(f"rows {n_padded}", jax.vmap(self.trace_flat), points)
        return np.asarray(rows)[: len(xs)]

    def trace(self, x: jax.Array) -> Any:
        """Build the user's params from a traced x."""
        return self.tree.trace(self.trace_flat(x))

    def trace_flat(self, x: jax.Array) -> jax.Array:
        """Return the flat vector of a traced x."""
        # a function that was traced before is much faster to trace again
        return self.call("flat", self._compose, x) if self._has_blocks else self._compose(x)

    def _compose(self, x: jax.Array) -> jax.Array:
        if self.scale is not None:
            x = self.scale.trace_unscaled(x)
        return x if self.plan is None else self.plan.flat(x)

    def to_x(self, params: Any) -> Array:
        """Return an x that gives these params.

        Args:
            params: Params that fulfil the constraints that x cannot violate.

        Raises:
            InvalidParamsError: If they do not, or have another structure.
        """
        try:
            flat = self.tree.to_flat(params)
        except ValueError as error:
            raise InvalidParamsError(str(error)) from error
        x = self.x_of(flat)
        gap = np.abs(self.to_flat(x) - flat)
        bad = np.flatnonzero(~(gap <= 1e-3 * np.maximum(1.0, np.abs(flat))))
        if len(bad):
            listed = ", ".join(self.names[i] for i in bad[:10])
            raise InvalidParamsError(
                f"No x gives these params: {listed} would have to be different to fulfil the "
                "constraints."
            )
        return x

    def x_of(self, flat: Array, *, margin: float = 1.0) -> Array:
        """Return an x for flat vectors that are feasible, which is not checked.

        Args:
            flat: Shape (n_params,), or (n, n_params) for n vectors.
            margin: See ``Transform.inverse``.
        """
        x = flat
        if self.plan is not None:
            values = flat[..., self.firsts]
            x = np.empty((*flat.shape[:-1], self.n_x))
            place = self._places(np.arange(len(self.firsts)))
            is_plain = place < self.plan.n_plain
            x[..., place[is_plain]] = values[..., is_plain]
            for block in self.plan.blocks:
                members = values[..., block.members]
                inputs = np.apply_along_axis(block.transform.inverse, -1, members, margin=margin)
                x[..., block.start : block.stop] = inputs[..., block.free]
        return x if self.scale is None else self.scale.scaled(x)

    @cached_property
    def linear_rows(self) -> LinearRows | None:
        """Rows that are linear in x: their members are positions in x."""
        parts = [rows for rows in self.rows if self._is_plain(rows)]
        if not parts:
            return None
        everyone = np.unique(np.concatenate([rows.members for rows in parts]))
        rows = stack(parts, everyone)
        places = self._places(everyone)
        rows = replace(rows, members=places)
        if self.scale is None:
            return rows
        shift = rows.matrix @ self.scale.offset[places]
        return replace(
            rows,
            matrix=rows.matrix * self.scale.factor[places],
            lower=rows.lower - shift,
            upper=rows.upper - shift,
        )

    @cached_property
    def curved_rows(self) -> tuple[LinearRows, ...]:
        """Rows that are not linear in x: their members are positions in the flat vector."""
        parts = [rows for rows in self.rows if not self._is_plain(rows)]
        return tuple(replace(rows, members=self.firsts[rows.members]) for rows in parts)

    def _is_plain(self, rows: LinearRows) -> bool:
        return self.plan is None or bool((self._places(rows.members) < self.plan.n_plain).all())

    def _places(self, representatives: Positions) -> Positions:
        """Return where representatives stand in what ``Plan.flat`` gathers from."""
        if self.plan is None:
            return representatives
        return self.plan.gather[self.firsts[representatives]]

    # ---- derivatives ---------------------------------------------------------------------

    def pull_back(self, x: Array, gradient: Any, what: str) -> Array:
        """Turn a gradient with respect to params into one with respect to x.

        Args:
            x: Where, shape (n_x,).
            gradient: Tree aligned with params.
            what: How to call it in messages.

        Raises:
            ValueError: If it is not aligned with params.
        """
        return self.pull_back_flat(x, self.tree.align(gradient, what))

    def pull_back_flat(self, x: Array, flat: Array) -> Array:
        """Turn a flat gradient with respect to params into one with respect to x.

        Args:
            x: Where, shape (n_x,).
            flat: Shape (n_params,), or (m, n_params) for m gradients.
        """
        if self._has_blocks and flat.ndim == 2:
            rows = jax.vmap(self._trace_pull_back, in_axes=(None, 0))
            return np.array(self.call(f"pull back {len(flat)}", rows, x, flat))
        if self._has_blocks:
            return np.array(self.call("pull back", self._trace_pull_back, x, flat))
        if self.plan is not None:
            flat = self.plan.sums(flat)[..., : self.n_x]
        return flat if self.scale is None else flat * self.scale.factor

    def _trace_pull_back(self, x: jax.Array, flat: jax.Array) -> jax.Array:
        return jnp.asarray(jax.vjp(self.trace_flat, x)[1](flat)[0])

    def push_forward(self, x: Array, v: Array) -> Any:
        """Turn a direction in x into one in params."""
        return self.tree.to_params(self._push_forward_flat(x, v))

    def _push_forward_flat(self, x: Array, v: Array) -> Array:
        if self.plan is None and self.scale is None:
            return v
        return np.asarray(
            self.call("push", lambda x, v: jax.jvp(self.trace_flat, (x,), (v,))[1], x, v)
        )

    def pull_back_hessian(
        self, x: Array, hessian: Any, what: str, gradient: Array | None = None
    ) -> Array:
        """Turn a Hessian with respect to params into one with respect to x.

        Args:
            x: Where, shape (n_x,).
            hessian: See ``ParamTree.align_matrix``.
            what: How to call it in messages.
            gradient: Flat gradient with respect to params there, where ``is_curved``.

        Raises:
            ValueError: If it is not aligned with params.
        """
        flat = self.tree.align_matrix(hessian, what)
        if self.plan is None:
            return flat if self.scale is None else flat * self.scale.products
        jacobian = np.asarray(self.call("jacobian", jax.jacfwd(self.trace_flat), x))
        out = np.asarray(jacobian.T @ flat @ jacobian)
        if gradient is None:
            return out
        curvature = jax.hessian(lambda x, g: self.trace_flat(x) @ g)
        return np.asarray(out + np.asarray(self.call("curvature", curvature, x, gradient)))

    def pull_back_product(
        self, x: Array, v: Array, product: Any, what: str, gradient: Array | None = None
    ) -> Array:
        """Turn the product of a Hessian in params and a direction into one in x.

        Args:
            x: Where, shape (n_x,).
            v: The direction in x.
            product: Product with ``push_forward(x, v)``, a tree aligned with params.
            what: How to call it in messages.
            gradient: Flat gradient with respect to params there, where ``is_curved``.

        Raises:
            ValueError: If it is not aligned with params.
        """
        out = self.pull_back(x, product, what)
        if gradient is None:
            return out

        def curvature(x: jax.Array, v: jax.Array, g: jax.Array) -> jax.Array:
            return jnp.asarray(jax.jvp(lambda x: self._trace_pull_back(x, g), (x,), (v,))[1])

        bend = np.asarray(self.call("curvature product", curvature, x, v, gradient))
        return np.asarray(out + bend)

    @property
    def is_curved(self) -> bool:
        """Whether flat is no affine function of x, so that Hessians need gradients too."""
        return self._has_blocks

    def gradient_in_params(self, gradient: Array) -> Any:
        """Turn a gradient in x into one in params; None where constraints tie parameters."""
        if self.plan is not None:
            return None
        return self.tree.to_params(gradient if self.scale is None else gradient / self.scale.factor)

    def matrix_in_params(self, matrix: Array | None, *, inverse: bool = False) -> Array | None:
        """Turn a Hessian in x, or its inverse, into one in params; None where that is not it."""
        if matrix is None or self.plan is not None:
            return None
        if self.scale is None:
            return matrix
        return matrix * self.scale.products if inverse else matrix / self.scale.products

    # ---- points --------------------------------------------------------------------------

    def deceiving(self, x: Array, *, has_gradient: bool) -> Iterator[tuple[PlacedBlock, Array]]:
        """Yield blocks whose map might deceive a solver at x, and all their inputs there.

        Args:
            x: Shape (n_x,).
            has_gradient: Whether a gradient with respect to params can be had, or is worth it.
        """
        unscaled = self._unscaled(x)
        for block in self._blocks:
            inputs = np.asarray(block.inputs(jnp.asarray(unscaled)))
            if block.transform.may_deceive(inputs, has_gradient=has_gradient):
                yield block, inputs

    def replace_inputs(self, x: Array, block: PlacedBlock, inputs: Array) -> Array:
        """Return an x with other inputs of a block."""
        point = np.array(self._unscaled(x))
        point[block.start : block.stop] = inputs[block.free]
        point = point if self.scale is None else self.scale.scaled(point)
        return np.clip(point, self.lower, self.upper)

    def values_of_block(self, x: Array, block: PlacedBlock) -> Array:
        """Return the parameters that a block gives at x, one for each group of equal ones."""
        return self.to_flat(x)[self.firsts[block.members]]

    def params_of_block(self, block: PlacedBlock) -> Positions:
        """Return the positions in the flat vector of the parameters that a block gives."""
        assert self.plan is not None
        return np.flatnonzero(np.isin(self.plan.gather, self._places(block.members)))

    def gradient_of_block(self, block: PlacedBlock, gradient: Array) -> Array:
        """Return the gradient with respect to a block: sums over equal parameters.

        Args:
            block: The block.
            gradient: Flat gradient with respect to params.
        """
        assert self.plan is not None
        return self.plan.sums(gradient)[self._places(block.members)]

    def projected(self, x: Array, step: Array) -> Array:
        """Return what of a step from x stays inside the bounds on x."""
        return np.asarray(np.clip(x + step, self.lower, self.upper) - x)

    def _unscaled(self, x: Array) -> Array:
        return x if self.scale is None else self.scale.unscaled(x)

    def sample(self, units: Array) -> Array:
        """Turn points of the unit cube into x that fulfil bounds and transforming constraints.

        Args:
            units: Random or evenly spread points, shape (n, n_x), each entry in [0, 1].
        """
        start, lower, upper = (self._unscaled(v) for v in (self.x0, self.lower, self.upper))
        out = sample_box(units, start, lower, upper)
        with jax.enable_x64(True):
            for block in self._blocks:
                inputs = np.asarray(block.inputs(jnp.asarray(start)))
                of_block = np.full((len(units), len(inputs)), 0.5)
                of_block[:, block.free] = units[:, block.start : block.stop]
                draws = block.transform.sample(of_block, inputs)
                out[:, block.start : block.stop] = draws[:, block.free]
        out = out if self.scale is None else self.scale.scaled(out)
        return np.clip(out, self.lower, self.upper)

    def call(self, name: str, function: Callable[..., Any], *args: Any) -> jax.Array:
        """Call a pure function of arrays, compiled when first called; args may be traced."""
        with jax.enable_x64(True):
            if name not in self._functions:
                examples = [np.zeros(arg.shape) for arg in args]
                self._functions[name] = compile_once(function, *examples)
            return self._functions[name](*args)

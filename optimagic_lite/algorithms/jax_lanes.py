"""Many runs of a solver inside JAX at once, side by side as lanes of one compiled loop.

The loop is left when few lanes are still running: those are packed together and go on in a smaller
one, because a finished lane costs as much as a running one. On several devices each has lanes and a
loop of its own, without any exchange between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from numpy.typing import NDArray

from optimagic_lite.algorithms.jax_pass import Box, Carry, Evaluation, Pass, Settings, Status
from optimagic_lite.compilation import kept

if TYPE_CHECKING:
    from optimagic_lite.compilation import PureFunction
    from optimagic_lite.objective.tracing import Program

Array = NDArray[np.float64]
Positions = NDArray[np.intp]

# the loop is left when fewer than this share of its lanes is running, but not for few lanes
_SHARE = 8
_FEW = 32
# most passes of a chunk, by how much they grow while chunks are fast, and seconds that one should
# take at most: a run can be stopped between chunks only
_MAX_PASSES = 1 << 12
_GROWTH = 4
_SLOW_CHUNK = 0.2
# passes of a chunk whose evaluations are recorded, and numbers in its buffer
_MAX_RECORDED = 64
_BUFFER = 1 << 22
_AXIS = "lanes"


class Lanes(NamedTuple):
    """What many runs came to.

    Attributes:
        x: Last accepted iterates, shape (k, n).
        f: The criterion there, shape (k,).
        g: Its gradient there, shape (k, n).
        f_start: The criterion at the starts, shape (k,).
        n_iterations: Accepted steps, shape (k,).
        n_evaluations: The starts included, shape (k,).
        status: Of ``Status``, shape (k,); RUNNING for those that were stopped.
        n_failed: Evaluations that were not finite, shape (k,).
    """

    x: Array
    f: Array
    g: Array
    f_start: Array
    n_iterations: NDArray[np.int64]
    n_evaluations: NDArray[np.int64]
    status: NDArray[np.int64]
    n_failed: NDArray[np.int64]


class Rows(NamedTuple):
    """Evaluations of a chunk, those of each lane in their order.

    Attributes:
        lane: Number of the lane of each, shape (r,).
        x: Points, shape (r, n).
        f: The criterion there, shape (r,); not finite where the evaluation failed.
        seconds: When the chunk began and ended, on the clock of ``time.perf_counter``.
        is_start: Whether these are the starts.
    """

    lane: Positions
    x: Array
    f: Array
    seconds: tuple[float, float]
    is_start: bool = False


@dataclass(frozen=True, eq=False)
class Task:
    """Runs that differ in some of their numbers.

    Args:
        program: The criterion of one of them.
        one_pass: The pass of the solver.
        x0: Starts inside the box, shape (k, n).
        settings: Numbers; the bounds have shape (n,), or (k, n).
        data: Further arguments of the criterion.
        is_own: Whether each of the data has a leading axis with one entry for each run.
        devices: Where to run; None for the default device.
        least: Number of lanes that are compiled at least: tasks of about the same size can share
            what is compiled.
    """

    program: Program
    one_pass: Pass
    x0: Array
    settings: Settings
    data: tuple[Any, ...]
    is_own: tuple[bool, ...]
    devices: Sequence[Any] | None = None
    least: int = 1

    @property
    def axes(self) -> tuple[Any, Any]:
        """Axes of settings and data over which runs lie, or None, as ``jax.vmap`` takes them."""
        has_own_box = np.ndim(self.settings.box.lower) == 2
        shared = jax.tree.map(lambda _: None, self.settings)
        settings = shared._replace(box=Box(*[0 if has_own_box else None] * 2))
        return settings, tuple(0 if is_own else None for is_own in self.is_own)

    def take(self, places: Positions) -> tuple[Settings, tuple[Any, ...]]:
        """Return settings and data of some of the runs."""
        if np.array_equal(places, np.arange(len(self.x0))):
            return self.settings, self.data
        settings, data = self.axes
        values, axes = (*self.settings.box, *self.data), (*settings.box, *data)
        own = [v for v, axis in zip(values, axes, strict=True) if axis is not None]
        chosen = iter(kept("take lanes", lambda: _taken)(own, places))
        lower, upper, *rest = (
            v if axis is None else next(chosen) for v, axis in zip(values, axes, strict=True)
        )
        return self.settings._replace(box=Box(lower, upper)), tuple(rest)

    def part(self, places: Positions, devices: Sequence[Any], least: int = 1) -> Task:
        """Return some of the runs, on some devices, in that many lanes at least."""
        settings, data = self.take(places)
        used = devices if len(devices) > 1 else None
        x0 = self.x0[places]
        return replace(self, x0=x0, settings=settings, data=data, devices=used, least=least)

    def bytes_of_lane(self) -> int:
        """Return the size of the state of a run, without tracing the criterion again."""
        n = self.x0.shape[1]
        shape = self.program.trace.jaxpr.outvars[0].aval.shape
        shapes = shape, (*shape, n), (n, n)
        struct: Any = jax.ShapeDtypeStruct
        used = shapes[: self.one_pass.stepper.order + 1]
        found = Evaluation(*(struct(v, jnp.float64) for v in used))
        state = jax.eval_shape(self.one_pass.begin, self.x0[0], found)
        return sum(int(v.size) * v.dtype.itemsize for v in jax.tree.leaves(state))


def run_lanes(
    task: Task,
    *,
    record: Callable[[Rows], None] | None = None,
    report: Callable[[int], bool] | None = None,
) -> Lanes:
    """Run all lanes to their ends.

    Args:
        task: The runs.
        record: Called with the evaluations after each chunk, the starts first, in this order.
        report: Called after each chunk with the number of runs that have ended; True stops all.

    Raises:
        KeyboardInterrupt: With ``lanes``, what they have come to.
    """
    k, n = task.x0.shape
    ends = no_lanes(k, n)
    places = _padded(np.arange(k), task)
    settings, data = task.take(places)
    clock = time.perf_counter()
    carry = _begin(task, task.x0[places], data)
    status = np.asarray(carry.status)
    carry = carry._replace(status=_without_padding(status, k, np))
    if record is not None:
        seconds = clock, time.perf_counter()
        record(Rows(np.arange(k), task.x0, np.asarray(carry.f)[:k], seconds, is_start=True))
    n_passes = 1
    try:
        while True:
            clock = time.perf_counter()
            n_steps = 0 if record is None else _n_steps(len(places), n)
            limit = min(n_passes, n_steps) if n_steps else n_passes
            after, buffers = _chunk(task, carry, limit, settings, data, n_steps)
            running = np.flatnonzero(np.asarray(after.status) == Status.RUNNING)
            now = time.perf_counter()
            n_passes = _n_passes(n_passes, now - clock)
            if record is not None:
                record(_rows(buffers, places, (clock, now)))
            # an interrupt may have come before all was recorded
            carry = after
            is_stopped = report is not None and report(k - len(running))
            if not len(running) or is_stopped:
                return _kept(ends, carry, places)
            if _is_sparse(len(running), len(places)):
                ends = _kept(ends, carry, places)
                chosen = _padded(running, task)
                packed = kept("pack lanes", lambda: _packed)(carry, chosen, len(running))
                carry, places = packed, places[chosen]
                settings, data = task.take(places)
    except KeyboardInterrupt as interrupt:
        interrupt.lanes = _kept(ends, carry, places)  # type: ignore[attr-defined]
        raise


def _n_passes(n_passes: int, seconds: float) -> int:
    """Return how many passes the next chunk has, from those of one that took some seconds."""
    if seconds > _SLOW_CHUNK:
        return max(1, n_passes // 2)
    return min(_GROWTH * n_passes, _MAX_PASSES) if _GROWTH * seconds < _SLOW_CHUNK else n_passes


def _is_sparse(n_running: Any, n_lanes: int) -> Any:
    """Tell whether so few lanes are running that it pays to pack them together."""
    return (n_running * _SHARE < n_lanes) & (n_lanes > _FEW)


def _padded(places: Positions, task: Task) -> Positions:
    """Return lanes with some of them repeated, so that they fill all devices.

    After some have ended, their number is a power of two besides: other numbers would be compiled
    anew.
    """
    n_devices = 1 if task.devices is None else len(task.devices)
    is_whole = len(places) == len(task.x0)
    n = max(len(places), task.least) if is_whole else 1 << (len(places) - 1).bit_length()
    n += -n % n_devices
    return np.concatenate([places, np.full(n - len(places), places[0])])


def _taken(values: list[jax.Array], places: jax.Array) -> list[jax.Array]:
    return [v[places] for v in values]


def _packed(carry: Carry, chosen: jax.Array, n: int) -> Carry:
    """Return some lanes, the first n of which go on."""
    packed = jax.tree.map(lambda v: v[chosen], carry)
    return packed._replace(status=_without_padding(packed.status, n))  # type: ignore[no-any-return]


def _without_padding(status: Any, n: int, xp: Any = jnp) -> Any:
    """Return statuses in which repeated lanes have ended."""
    return xp.where(xp.arange(len(status)) < n, status, int(Status.STALLED))


def _n_steps(n_lanes: int, n: int) -> int:
    return int(np.clip(_BUFFER // max(1, n_lanes * n), 1, _MAX_RECORDED))


def no_lanes(k: int, n: int) -> Lanes:
    """Return k runs of n entries that have not begun."""
    numbers = (
        np.full((k, n), np.nan),
        np.full(k, np.nan),
        np.full((k, n), np.nan),
        np.full(k, np.nan),
    )
    return Lanes(*numbers, *(np.zeros(k, dtype=np.int64) for _ in range(4)))


def _kept(ends: Lanes, carry: Carry, places: Positions) -> Lanes:
    """Fill in where lanes are now; the first of repeated ones counts."""
    chosen, first = np.unique(places, return_index=True)
    for name in Lanes._fields:
        getattr(ends, name)[chosen] = np.asarray(getattr(carry, name))[first]
    return ends


def _rows(buffers: Any, places: Positions, seconds: tuple[float, float]) -> Rows:
    xs, fs, is_new = map(np.asarray, buffers)
    # by lane, then by pass
    lane, step = np.nonzero(is_new.T)
    return Rows(places[lane], xs[step, lane], fs[step, lane], seconds)


# ---- what is compiled ----------------------------------------------------------------------


def _begin(task: Task, x0: Array, data: tuple[Any, ...]) -> Carry:
    # what is compiled is kept, and must not keep the data alive
    one_pass, devices = task.one_pass, task.devices
    evaluate = one_pass.evaluate(task.program)
    _, data_axes = task.axes

    def make(value: PureFunction) -> Callable[..., Carry]:
        found = evaluate(value)

        def begin(x: jax.Array, *data: Any) -> Carry:
            return one_pass.begin(x, found(x, *data))

        return _on_devices(jax.vmap(begin, in_axes=(0, *data_axes)), (0, *data_axes), 0, devices)

    key = "begin lanes", one_pass.key, data_axes, _ids(task)
    arguments = (x0, *data)
    order = one_pass.stepper.order
    compiled = task.program.compile(key, make, *arguments, order=order)
    return compiled(*arguments)  # type: ignore[no-any-return]


def _chunk(
    task: Task,
    carry: Carry,
    limit: int,
    settings: Settings,
    data: tuple[Any, ...],
    n_steps: int,
) -> tuple[Carry, Any]:
    """Make passes, and return buffers of shape (n_steps, k, ...) with what was evaluated."""
    one_pass, devices = task.one_pass, task.devices
    evaluate = one_pass.evaluate(task.program)
    settings_axes, data_axes = task.axes

    def make(value: PureFunction) -> Callable[..., Any]:
        one = partial(one_pass, evaluate(value))
        passes = jax.vmap(one, in_axes=(0, settings_axes, *data_axes))
        axes = (0, None, settings_axes, *data_axes)
        return _on_devices(partial(_loop, passes, n_steps), axes, (0, 1), devices)

    key = "lanes", one_pass.key, n_steps, (settings_axes, data_axes), _ids(task)
    arguments = (carry, limit, settings, *data)
    order = one_pass.stepper.order
    compiled = task.program.compile(key, make, *arguments, order=order)
    return compiled(*arguments)  # type: ignore[no-any-return]


def _loop(
    passes: Callable[..., Any],
    n_steps: int,
    carry: Carry,
    limit: jax.Array,
    settings: Settings,
    *data: jax.Array,
) -> tuple[Carry, Any]:
    k, n = carry.x.shape
    # one pass of all lanes is one slice of the buffers
    buffers = jnp.zeros((n_steps, k, n)), jnp.zeros((n_steps, k)), jnp.zeros((n_steps, k), bool)

    def body(loop: Any) -> Any:
        carry, buffers, i = loop
        carry, is_new, f = passes(carry, settings, *data)
        if n_steps:
            rows = carry.x_trial, f, is_new
            buffers = tuple(b.at[i].set(row) for b, row in zip(buffers, rows, strict=True))
        return carry, buffers, i + 1

    def goes_on(loop: Any) -> Any:
        carry, _, i = loop
        n_running = (carry.status == Status.RUNNING).sum()
        # where devices have many and few lanes left, those with few make one pass a chunk
        pays = (i == 0) | jnp.logical_not(_is_sparse(n_running, k))
        return (i < limit) & (n_running > 0) & pays

    return jax.lax.while_loop(goes_on, body, (carry, buffers, 0))[:2]


def _ids(task: Task) -> tuple[int, ...] | None:
    return None if task.devices is None else tuple(device.id for device in task.devices)


def _on_devices(
    function: Callable[..., Any],
    in_axes: tuple[Any, ...],
    out_axes: Any,
    devices: Sequence[Any] | None,
) -> Callable[..., Any]:
    """Give each device its lanes; arguments without an axis go to all."""
    if devices is None:
        return function
    mesh = Mesh(np.array(devices), (_AXIS,))

    def spec(axis: int | None) -> PartitionSpec:
        where = () if axis is None else (*[None] * axis, _AXIS)
        return PartitionSpec(*where)  # type: ignore[no-untyped-call]

    in_specs, out_specs = (
        jax.tree.map(spec, axes, is_leaf=lambda v: v is None) for axes in (in_axes, out_axes)
    )
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )

"""One problem with many data sets or starts, solved side by side in compiled loops."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.jax_lanes import Lanes, Rows, Task, no_lanes, run_lanes
from optimagic_lite.algorithms.jax_pass import SUCCESSES, Pass, Status
from optimagic_lite.batch_inputs import BatchInputs, read_batch
from optimagic_lite.batch_result import BatchResult
from optimagic_lite.compilation import compile_once
from optimagic_lite.escape import STEEP
from optimagic_lite.exceptions import (
    InvalidAlgoOptionError,
    InvalidBoundsError,
    InvalidFunctionError,
    InvalidParamsError,
    warn_user,
)
from optimagic_lite.history import Direction, History, Kind
from optimagic_lite.jax_edges import MAX_ROUNDS, look_around_lanes
from optimagic_lite.jax_problem import JaxProblem, read_data, resolve_jax_algorithm
from optimagic_lite.log_options import LogOptions, read_log_options
from optimagic_lite.objective.tracing import Program
from optimagic_lite.progress import BatchProgress
from optimagic_lite.resume import describe_problem
from optimagic_lite.space.edges import Edges
from optimagic_lite.space.traced import Start, TracedSpace
from optimagic_lite.space.trees import ParamTree, flatten_in_order
from optimagic_lite.stopping import Stop

if TYPE_CHECKING:
    from optimagic_lite.log.tables import FinalStatus
    from optimagic_lite.log.writer import LogWriter

Array = NDArray[np.float64]

# bytes of the states and data of lanes that run at once, where the device says nothing
_MEMORY = 1 << 30
# share of the memory of a device that they may take if it says how much it has; evaluations need
# room as well
_SHARE = 8


def minimize_batch(
    fun: Callable[..., Any],
    params: Any = None,
    algorithm: Any = "jax_bfgs",
    *,
    batch: Any,
    bounds: Any = None,
    constraints: Any = None,
    fun_kwargs: dict[str, Any] | None = None,
    algo_options: dict[str, Any] | None = None,
    scaling: Any = False,
    logging: LogOptions | str | Path | None = None,
    collect_history: bool = False,
    progress: bool = False,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
) -> BatchResult:
    """Minimize a JAX criterion for many data sets, from many starts, or both, side by side.

    All runs are lanes of one compiled loop, which is some ten to hundred times faster than a loop
    over ``minimize``. What is compiled serves other data of the same shapes again.

    Args:
        fun: The criterion, written with jax.numpy; may be marked with ``om.mark``.
        params: Start of all runs. None if ``batch`` has starts.
        algorithm: One that runs inside JAX: "jax_bfgs" (default), "jax_lbfgs" for many parameters,
            "jax_newton" for few, "jax_lm" for residuals, or one of optimistix or optax.
        batch: What differs: a dict of arguments of fun, each an array or a tree of arrays whose
            first axis runs over the runs; or a list with one such dict, without that axis, for
            each run. "params" in it are starts. Shapes are the same in all runs: pad data that are
            shorter and give them weight zero.
        bounds: See ``minimize``.
        constraints: See ``minimize``; all but nonlinear ones.
        fun_kwargs: Further arguments of fun that all runs share.
        algo_options: Options of the algorithm. Limits on evaluations and iterations are those of
            each run, and that on seconds (``stopping_maxtime``) is one of all. Without
            ``stopping_maxfun`` a run ends after 10,000 evaluations.
        scaling: See ``minimize``; each run has its own scale.
        logging: See ``minimize``. In the log the batch is one run, and each of its runs a step.
        collect_history: Whether the result has a history for each run.
        progress: Whether to show a bar with the number of runs that have ended; needs tqdm.
        batch_size: Number of runs that are side by side at most. Default is what fits into an
            eighth of the device's memory, or into a gigabyte.
        devices: Devices of JAX, each of which takes a share of the runs. Default are all local
            ones of the default kind.

    Returns:
        The results of all runs, stacked. A run that fails does not end the others.

    Raises:
        InvalidFunctionError: If JAX cannot trace fun.
        OptimagicError: Other subclasses for arguments that are wrong, before any evaluation.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> import optimagic_lite as om
        >>> def fun(params, y):
        ...     return jnp.sum((y - params["mean"]) ** 2)
        >>> ys = np.array([[1.0, 2.0], [4.0, 6.0], [0.0, 0.0]])
        >>> result = om.minimize_batch(fun, {"mean": 0.0}, batch={"y": ys})
        >>> result.params["mean"].round(6)
        array([1.5, 5. , 0. ])
        >>> result.success
        array([ True,  True,  True])
    """
    return _solve_batch("minimize", locals())


def maximize_batch(
    fun: Callable[..., Any],
    params: Any = None,
    algorithm: Any = "jax_bfgs",
    *,
    batch: Any,
    bounds: Any = None,
    constraints: Any = None,
    fun_kwargs: dict[str, Any] | None = None,
    algo_options: dict[str, Any] | None = None,
    scaling: Any = False,
    logging: LogOptions | str | Path | None = None,
    collect_history: bool = False,
    progress: bool = False,
    batch_size: int | None = None,
    devices: Sequence[Any] | None = None,
) -> BatchResult:
    """Maximize a JAX criterion many times; all arguments as in ``minimize_batch``.

    Values have the sign of fun.

    Example:
        >>> import numpy as np
        >>> import optimagic_lite as om
        >>> starts = np.array([[0.0], [9.0]])
        >>> result = om.maximize_batch(lambda x: -((x - 2) ** 2).sum(), batch={"params": starts})
        >>> result.params.round(6)
        array([[2.],
               [2.]])
    """
    return _solve_batch("maximize", locals())


def _solve_batch(direction: Direction, a: dict[str, Any]) -> BatchResult:
    clock = time.perf_counter()
    algorithm = resolve_jax_algorithm(a["algorithm"], a["algo_options"], f"{direction}_batch")
    limits = {name: a[name] for name in ("bounds", "constraints", "scaling")}
    problem = JaxProblem(direction, a["fun"], algorithm, **limits)
    inputs = read_batch(a["batch"], a["params"], a["fun_kwargs"])
    size, devices = _checked_size(a["batch_size"]), _checked_devices(a["devices"])
    with jax.enable_x64(True):
        batch = _make_batch(problem, inputs)
        size = size or _fitting(batch.task, devices)
        with (
            _opened_log(read_log_options(a["logging"]), batch) as log,
            _opened_bar(a["progress"], batch) as bar,
        ):
            run = _Run(batch, log, bar, clock, collects=a["collect_history"])
            return run.result(run.solve(devices, size))


@dataclass(frozen=True, eq=False)
class _Batch:
    """All runs, ready to be solved.

    Args:
        problem: What they share.
        inputs: What differs.
        space: Where they search.
        starts: Where they begin; x has shape (n_runs, n_x), and what differs between runs has a
            leading axis.
        task: The same for the solver.
        around: The criterion of params as a vector, where edges could deceive the solver; or None.
    """

    problem: JaxProblem
    inputs: BatchInputs
    space: TracedSpace
    starts: Start
    task: Task
    around: Program | None

    @property
    def sign(self) -> float:
        """1 to minimize, -1 to maximize."""
        return self.task.program.sign

    def flat(self, xs: Any, runs: Any) -> Array:
        """Return params as vectors.

        Args:
            xs: Points, shape (r, n_x).
            runs: To which runs they belong, shape (r,).
        """
        if not len(xs) or (self.space.space.plan is None and self.space.scaling is None):
            return np.asarray(xs)
        # the number of points is part of the program: rounding it up bounds the number of programs
        padding = (1 << (len(xs) - 1).bit_length()) - len(xs)
        xs, runs = (np.concatenate([v, np.repeat(v[-1:], padding, axis=0)]) for v in (xs, runs))
        numbers, structure = jax.tree.flatten(self.starts.numbers)
        has_own = self.inputs.starts is not None
        numbers = [jnp.asarray(v)[runs] if has_own else jnp.asarray(v) for v in numbers]

        def flat(x: jax.Array, *numbers: jax.Array) -> jax.Array:
            return self.space.flat(x, jax.tree.unflatten(structure, numbers))

        function = jax.vmap(flat, in_axes=(0, *[0 if has_own else None] * len(numbers)))
        found = compile_once(function, xs, *numbers)(xs, *numbers)
        return np.asarray(found)[: len(xs) - padding]


def _make_batch(problem: JaxProblem, inputs: BatchInputs) -> _Batch:
    has_starts = inputs.starts is not None
    with _named(0, inputs):
        space = problem.space(inputs.params, inputs.example, for_all_starts=has_starts)
    starts = _starts(problem, space, inputs)
    first = jax.tree.map(lambda v: v[0], starts) if has_starts else starts
    try:
        program, kind = problem.program(space, first, (), inputs.example)
    except (TypeError, jax.errors.JAXTypeError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise InvalidFunctionError(
            f"JAX cannot trace fun: {type(error).__name__}: {reason}. Runs of a batch are compiled "
            "as one, so write fun with jax.numpy, or loop over minimize."
        ) from error
    task = Task(
        program=program,
        one_pass=Pass(problem.algorithm.stepper(), kind),
        x0=np.broadcast_to(np.asarray(starts.x), (inputs.n_runs, space.n_x)),
        settings=problem.settings(starts.lower, starts.upper),
        **_data(program, starts, inputs),
    )
    around = None
    if Edges(space.space):
        around, _ = problem.program(space, first, (), inputs.example, of_flat=True)
    return _Batch(problem, inputs, space, starts, task, around)


def _starts(problem: JaxProblem, space: TracedSpace, inputs: BatchInputs) -> Start:
    """Return where runs begin; with starts of their own, all of it has a leading axis."""
    if inputs.starts is None:
        return space.start(inputs.params)
    starts: Start = jax.tree.map(np.asarray, jax.vmap(space.start_at)(jnp.asarray(inputs.starts)))
    tree = space.space.tree
    is_bad = np.isnan(starts.x).any(axis=1) | problem.is_outside(tree, inputs.starts)
    for run in np.flatnonzero(is_bad)[:1].tolist():
        with _named(run, inputs):
            problem.space(tree.to_params(inputs.starts[run]))
    return starts


@contextlib.contextmanager
def _named(run: int, inputs: BatchInputs) -> Iterator[None]:
    """Say of which start an error speaks."""
    try:
        yield
    except (InvalidParamsError, InvalidBoundsError) as error:
        if inputs.starts is None:
            raise
        raise type(error)(f"Start {run} of batch: {error}") from error


def _data(program: Program, starts: Start, inputs: BatchInputs) -> dict[str, Any]:
    """Return the data of a program for all runs, and which of them have a leading axis."""
    leaves, places, _ = read_data((), inputs.example)
    is_own, has_starts = inputs.is_own, inputs.starts is not None
    own = iter(flatten_in_order(inputs.own)[0])
    stacked = [next(own) if flag else leaf for leaf, flag in zip(leaves, is_own, strict=True)]
    numbers = jax.tree.leaves(starts.numbers)
    n_closed_over = len(program.data) - len(numbers) - len(places)
    given = (*numbers, *(stacked[i] for i in places))
    data = (*program.data[:n_closed_over], *map(jnp.asarray, given))
    flags = [False] * n_closed_over + [has_starts] * len(numbers) + [is_own[i] for i in places]
    return {"data": data, "is_own": tuple(flags)}


def _checked_size(size: Any) -> int | None:
    is_integer = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if size is None or (is_integer and size >= 1):
        return None if size is None else int(size)
    raise InvalidAlgoOptionError(f"batch_size must be an integer, at least 1, not {size!r}.")


def _checked_devices(devices: Any) -> list[Any]:
    if devices is None:
        return list(jax.local_devices())
    known = [*jax.local_devices(backend="cpu"), *jax.local_devices()]
    is_list = isinstance(devices, Sequence) and not isinstance(devices, str) and len(devices) > 0
    if not is_list or any(device not in known for device in devices):
        raise InvalidAlgoOptionError(
            "devices must be a list of devices of JAX on this machine, such as jax.devices()[:1], "
            f"not {devices!r}. Leave it out to use all."
        )
    return list(dict.fromkeys(devices))


def _fitting(task: Task, devices: Sequence[Any]) -> int:
    """Return how many lanes fit into the memory of all devices."""
    own = [leaf for leaf, flag in zip(task.data, task.is_own, strict=True) if flag]
    n_bytes = sum(leaf.nbytes for leaf in own) / len(task.x0)
    n_bytes += task.bytes_of_lane()
    stats = devices[0].memory_stats() or {}
    memory = stats["bytes_limit"] // _SHARE if "bytes_limit" in stats else _MEMORY
    return max(1, int(memory * len(devices) / n_bytes))


@contextlib.contextmanager
def _opened_bar(progress: bool, batch: _Batch) -> Iterator[BatchProgress | None]:
    if not progress:
        yield None
        return
    bar = BatchProgress(batch.problem.algorithm.name, batch.inputs.n_runs)
    try:
        yield bar
    finally:
        bar.close()


@contextlib.contextmanager
def _opened_log(options: LogOptions | None, batch: _Batch) -> Iterator[LogWriter | None]:
    if options is None:
        yield None
        return
    from optimagic_lite.log.writer import LogWriter, RunRecord

    problem, space = batch.problem, batch.space.space
    described = describe_problem(problem.described(space.tree.template))
    first = batch.flat(batch.task.x0[:1], np.zeros(1, dtype=np.intp))[0]
    record = RunRecord(
        direction=problem.direction,
        algorithm=problem.algorithm.name,
        algo_options=dataclasses.asdict(problem.algorithm),
        param_names=space.names,
        structure=space.tree.to_json(),
        start_params=first,
        derivatives={"kind": "exact", "reason": "JAX differentiates and compiles fun"},
        problem=described | {"runs of a batch": batch.inputs.n_runs},
    )
    log = LogWriter(options, record)
    try:
        yield log
    finally:
        # an interrupt may come before anything else looks after the log
        log.finish("interrupted", success=None, message=None, fun=None)


class _Run:
    """A batch that is being solved.

    Args:
        batch: The runs.
        log: Where to log, or None.
        bar: Where to show how many have ended, or None.
        began: When the batch began, on the clock of ``time.perf_counter``.
        collects: Whether to keep histories.
    """

    def __init__(
        self,
        batch: _Batch,
        log: LogWriter | None,
        bar: BatchProgress | None,
        began: float,
        *,
        collects: bool,
    ) -> None:
        self._batch, self._log, self._bar, self._began = batch, log, bar, began
        n_runs, problem = batch.inputs.n_runs, batch.problem
        tree = batch.space.space.tree
        self.histories = [History(problem.direction, tree) for _ in range(n_runs * collects)]
        self._rows = None if log is None else log.lanes(n_runs)
        self._n_chunks = 0
        self._is_late = False

    def solve(self, devices: Sequence[Any], size: int) -> Lanes:
        """Solve all runs, as many at once as are asked for."""
        n_runs = self._batch.inputs.n_runs
        # parts of the same size share what is compiled
        size = math.ceil(n_runs / math.ceil(n_runs / size))
        ends: list[Lanes] = []
        try:
            for first in range(0, n_runs, size):
                runs = np.arange(first, min(first + size, n_runs))
                ends.append(self._solve_part(runs, devices[:size], size))
                if self._is_late:
                    break
        except KeyboardInterrupt as interrupt:
            reached = getattr(interrupt, "lanes", None)
            ends += [] if reached is None else [reached]
            interrupt.partial_result = self.result(self._joined(ends), "interrupted")  # type: ignore[attr-defined]
            raise
        return self._joined(ends)

    def _solve_part(self, runs: NDArray[np.intp], devices: Sequence[Any], size: int) -> Lanes:
        """Solve some runs, side by side in that many lanes."""
        task, report = (
            self._batch.task.part(runs, devices, size),
            partial(self._report, int(runs[0])),
        )
        record = partial(self._record, runs) if self._records else None
        lanes = run_lanes(task, record=record, report=report)
        try:
            self._solve_anew(lanes, runs, task, devices)
        except KeyboardInterrupt as interrupt:
            interrupt.lanes = lanes  # type: ignore[attr-defined]
            raise
        return lanes

    def _solve_anew(
        self, lanes: Lanes, runs: NDArray[np.intp], task: Task, devices: Sequence[Any]
    ) -> None:
        """Begin anew from lower points where a transformation has deceived the solver.

        Args:
            lanes: Where runs ended; changed.
            runs: Their numbers.
            task: They.
            devices: Where to run.
        """
        batch = self._batch
        if batch.around is None:
            return
        edges, numbers = Edges(batch.space.space), batch.starts.numbers
        report = partial(self._report, int(runs[0]))
        has_own = batch.inputs.starts is not None
        if has_own:
            numbers = jax.tree.map(lambda v: v[runs], numbers)
        for _ in range(MAX_ROUNDS):
            found = look_around_lanes(
                task,
                batch.around,
                batch.space,
                edges,
                numbers,
                has_own_numbers=has_own,
                lanes=lanes,
            )
            lanes.n_evaluations[:] += found.n_evaluations
            lower = np.flatnonzero(found.is_lower)
            if not len(lower):
                return
            # until they have ended again
            lanes.status[lower] = Status.RUNNING
            if self._is_late:
                return
            part = task.part(lower, devices, 1 << (len(lower) - 1).bit_length())
            part = dataclasses.replace(part, x0=found.point[lower])
            record = partial(self._record, runs[lower], goes_on=True) if self._records else None
            try:
                again = run_lanes(part, record=record, report=lambda _: report(len(runs)))
            except KeyboardInterrupt as interrupt:
                _go_on(lanes, lower, getattr(interrupt, "lanes", None))
                raise
            _go_on(lanes, lower, again)
        lanes.status[lower] = Status.DECEIVED

    @property
    def _records(self) -> bool:
        return bool(self.histories) or self._rows is not None

    def _joined(self, ends: list[Lanes]) -> Lanes:
        """Return the ends of all runs, those that did not begin included."""
        n_runs, n_x = self._batch.task.x0.shape
        n_begun = sum(len(part.f) for part in ends)
        rest = no_lanes(n_runs - n_begun, n_x)._replace(x=self._batch.task.x0[n_begun:])
        return Lanes(*(np.concatenate(part) for part in zip(*ends, rest, strict=True)))

    def _report(self, n_before: int, n_ended: int) -> bool:
        """Show how many runs have ended; tell whether time is over."""
        if self._bar is not None:
            self._bar.update(n_before + n_ended)
        limit = self._batch.problem.algorithm.stopping_maxtime
        self._is_late = time.perf_counter() - self._began > limit
        return self._is_late

    def _record(self, runs: NDArray[np.intp], rows: Rows, *, goes_on: bool = False) -> None:
        """Keep the evaluations of a chunk; they share its time evenly.

        Args:
            runs: Numbers of the runs that are lanes.
            rows: The evaluations.
            goes_on: Whether these runs have begun before.
        """
        numbers = runs[rows.lane]
        flats = self._batch.flat(rows.x, numbers)
        funs = self._batch.sign * rows.f
        times = np.linspace(*rows.seconds, len(funs) + 1) - self._began
        kind: Kind = "start" if rows.is_start and not goes_on else "path"
        if self._rows is not None:
            self._rows.write(numbers, flats, funs, times, kind, self._n_chunks)
        if self.histories:
            funs = np.where(np.isfinite(funs), funs, np.nan)
            columns = zip(numbers.tolist(), flats, funs.tolist(), times, times[1:], strict=False)
            for run, flat, fun, start, stop in columns:
                history = self.histories[run]
                history.append(flat, fun, start, stop, "fun_and_jac", kind, self._n_chunks)
        self._n_chunks += 1

    def result(self, lanes: Lanes, status: FinalStatus = "complete") -> BatchResult:
        """Return the result, and close the log."""
        batch = self._batch
        problem, space = batch.problem, batch.space.space
        flats = batch.flat(lanes.x, np.arange(len(lanes.f)))
        box, size = batch.task.settings.box, np.maximum(1.0, np.abs(lanes.f))
        projected = np.maximum(np.minimum(lanes.g, lanes.x - box.lower), lanes.x - box.upper)
        norm = np.abs(projected).max(axis=1, initial=0.0)
        success = np.isin(lanes.status, [int(status) for status in SUCCESSES])
        # it may have ended at the edge of where the criterion can be evaluated
        is_doubtful = success & (lanes.n_failed > 0) & ~(norm <= STEEP * size)
        codes = np.array([status.code for status in Status])[lanes.status]
        if self._is_late:
            codes = np.where(lanes.status == Status.RUNNING, Stop.MAXTIME.status, codes)
        found = BatchResult(
            params=_stacked(space.tree, flats),
            fun=batch.sign * lanes.f,
            start_fun=batch.sign * lanes.f_start,
            success=success & ~is_doubtful,
            status=codes,
            n_fun_evals=lanes.n_evaluations,
            n_failed_evals=lanes.n_failed,
            n_iterations=np.maximum(lanes.n_iterations, 0),
            gradient_norm=norm,
            flat_params=flats,
            param_names=space.names,
            algorithm=problem.algorithm.name,
            direction=problem.direction,
            elapsed=time.perf_counter() - self._began,
            histories=self.histories or None,
            log_path=None,
            log_run=None,
            _tree=space.tree,
            _messages=problem.messages,
            _is_doubtful=is_doubtful,
        )
        return found if self._log is None else self._closed(self._log, found, lanes, status)

    def _closed(
        self, log: LogWriter, found: BatchResult, lanes: Lanes, status: FinalStatus
    ) -> BatchResult:
        """Write how the runs ended, and close the log."""
        from optimagic_lite.log.steps import StepRecord

        messages, x0 = found.message, self._batch.task.x0
        log.add_steps(
            [
                StepRecord(
                    step=run + 1,
                    stop_time=found.elapsed,
                    success=bool(found.success[run]),
                    message=messages[run],
                    status=int(found.status[run]),
                    n_iterations=int(found.n_iterations[run]),
                    fun=float(found.fun[run]),
                    violation=0.0,
                    counts=dict.fromkeys(("n_fun", "n_jac"), int(found.n_fun_evals[run])),
                    info={},
                    arrays={"start": x0[run], "origin": x0[run], "best_x": lanes.x[run]},
                )
                for run in range(len(found))
            ]
        )
        best = self._batch.sign * np.nanmin([*(self._batch.sign * found.fun), np.inf])
        success = bool(found.success.all())
        trouble = log.finish(
            status, success=success, message=found.summary.replace("\n", " "), fun=float(best)
        )
        if trouble is not None:
            warn_user(trouble)
        path, number = log.place
        return dataclasses.replace(found, log_path=path, log_run=number)


def _go_on(lanes: Lanes, places: NDArray[np.intp], again: Lanes | None) -> None:
    """Take over what runs that had ended have come to since; None if they did not go on."""
    if again is None:
        return
    for name in ("x", "f", "g", "status"):
        getattr(lanes, name)[places] = getattr(again, name)
    for name in ("n_iterations", "n_evaluations", "n_failed"):
        getattr(lanes, name)[places] += getattr(again, name)


def _stacked(tree: ParamTree, flats: Array) -> Any:
    """Return params whose leaves have a leading axis."""
    leaves = [flats[:, f.start : f.stop].reshape(len(flats), *f.shape) for f in tree.leaves]
    _, rebuild = flatten_in_order(tree.template)
    return rebuild(leaves)

"""Going on with a run from its log: what was found before, and whether the problem is the same."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import LogError, LogMissingError, listed, warn_user
from optimagic_lite.history import History, jsonable
from optimagic_lite.log_options import LogOptions
from optimagic_lite.options import MultistartOptions, read_scaling
from optimagic_lite.prepared import Prepared
from optimagic_lite.problem import Problem, make_problem_space
from optimagic_lite.result import OptimizeResult
from optimagic_lite.space.limits import describe_limits
from optimagic_lite.space.trees import ParamTree
from optimagic_lite.tally import Tally

if TYPE_CHECKING:
    from optimagic_lite.log.steps import StepRecord

Array = NDArray[np.float64]
Resume = bool | Literal["if_exists"]

# values at one point by another program, or on another machine, agree to that
_ROUNDING = 1e-6
# params further apart are not the same
_MOVED = 1e-12
# what is drawn depends on these
_DRAWN = ("sampling_distribution", "sampling_method", "seed")


@dataclass(frozen=True, eq=False)
class Earlier:
    """What the log says of a run that is to go on.

    Args:
        run_id: Its key in the log.
        problem: What ``describe_problem`` said of it.
        start: Its flat start params, shape (n_params,).
        best: Flat params of the best row, or None if no evaluation succeeded.
        best_fun: Their value in the user's sign; NaN if there is none.
        best_violation: Largest violation of native constraints there, beyond their tolerance.
        histories: Its evaluations by step; without multistart, all are in step 0.
        counts: How many rows step 0 has, see ``LogReader.read_counts``.
        steps: Local optimisations that have ended, by number.
    """

    run_id: int
    problem: dict[str, Any]
    start: Array
    best: Array | None
    best_fun: float
    best_violation: float
    histories: dict[int, History]
    counts: dict[str, int]
    steps: dict[int, StepRecord]

    def tally(self, prepared: Prepared) -> Tally:
        """Return what was counted outside of local optimisations, without a best point."""
        known = {name: self.counts.get(name, 0) for name in Tally.COUNTS}
        return Tally(
            **known,
            best_x=prepared.space.x0,
            best_f=math.inf,
            best_violation=math.inf,
            best_gradient=None,
            has_failed_at_best=False,
        )

    def check_value(self, prepared: Prepared, value: float) -> None:
        """Warn of a criterion that is another one than that of the log.

        Args:
            prepared: The problem.
            value: What fun is at its start, in the user's sign; NaN if that is not known.
        """
        # open forms of constraints and bounds move a start that lies on an edge
        at = prepared.space.to_flat(prepared.space.x0)
        if self.best is not None and np.allclose(at, self.best, rtol=_MOVED, atol=0):
            warn_if_other(value, self.best_fun)

    @property
    def start_fun(self) -> float:
        """Value at the start in the user's sign; NaN if it is not in the log."""
        funs = self.histories[0].fun
        return funs[0] if funs else math.nan

    def joined(self, result: OptimizeResult, violation: float, sign: float) -> OptimizeResult:
        """Return the result of a local algorithm that went on, as that of the whole run.

        Args:
            result: What was found since the run goes on.
            violation: Largest violation of native constraints there, beyond their tolerance.
            sign: 1 to minimize, else -1.
        """
        tree, history = ParamTree(result.params), self.histories[0]
        start_fun = self.start_fun if math.isfinite(self.start_fun) else result.start_fun
        whole = replace(
            result,
            start_params=tree.to_params(self.start),
            start_fun=start_fun,
            history=None if result.history is None else history.joined([result.history]),
        )
        if self.best is None or (self.best_violation, sign * self.best_fun) >= (
            violation,
            sign * result.fun,
        ):
            return whole
        # nothing since then was as good
        return replace(
            whole,
            params=tree.to_params(self.best),
            fun=self.best_fun,
            jac=None,
            max_constraint_violation=self.best_violation,
        )


def warn_if_other(value: float, logged: float) -> None:
    """Warn of a criterion that is another one than that of the log.

    Args:
        value: What it is at a point, in the user's sign; NaN if that is not known.
        logged: What the log says of that point; NaN if it says nothing.
    """
    if abs(value - logged) > _ROUNDING * max(1.0, abs(logged)):
        warn_user(
            f"fun is {value:.10g} at the point from which the run is resumed, and the log says "
            f"{logged:.10g}. See that it is the same fun, with the same data."
        )


def describe_problem(problem: Problem) -> dict[str, Any]:
    """Return what a resumed run must share with its log, as JSON knows it."""
    scaling, multistart = read_scaling(problem.scaling), problem.multistart
    found = describe_limits(problem.params, problem.bounds, problem.constraints)
    found |= {
        "scaling": None if scaling is None else dataclasses.asdict(scaling),
        "bounds_as": problem.bounds_as,
        "multistart": None if multistart is None else _described_multistart(multistart),
    }
    described: dict[str, Any] = json.loads(json.dumps(jsonable(found)))
    return described


def _described_multistart(options: MultistartOptions) -> dict[str, Any]:
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    # points of the user are in the log once they have been evaluated
    return fields | {"sample": None if options.sample is None else "given"}


def find_earlier(problem: Problem, resume: Resume) -> Earlier | None:
    """Return what the log says of the run to be resumed; None if a run is to begin.

    Args:
        problem: The problem as the user states it now.
        resume: What the user asked for.

    Raises:
        LogError: If there is no such run, it is going on, or it is of another problem.
    """
    options = _checked(resume, problem.logging)
    if options is None:
        return None
    from optimagic_lite.log.reader import reader_of
    from optimagic_lite.log.status import GoingOnError

    try:
        reader = reader_of(options)
        run = reader.read_run()
    except (LogMissingError, IndexError) as error:
        if resume == "if_exists":
            return None
        raise LogMissingError(
            f'There is no run that could be resumed: {error} resume="if_exists" begins one then.'
        ) from error
    if run.status == "running":
        raise GoingOnError(reader.location, *run.process)
    found = _Comparison(reader.location)
    found.compare("direction", run.direction, problem.direction)
    tree = ParamTree(problem.params)
    found.compare("names of params", run.param_names, tree.names)
    found.compare("structure of params", json.loads(run.structure), json.loads(tree.to_json()))
    # the rest can only be compared by the names of the same params
    found.refuse()
    found.compare("", *_comparable(run.problem, describe_problem(problem)))
    if problem.multistart is not None:
        found.compare("algorithm", run.algorithm, problem.algorithm.name)
        space = make_problem_space(problem)
        found.compare_numbers("start params", tree.names, run.start_params, space.to_flat(space.x0))
    found.refuse()
    best = reader.find_best()
    return Earlier(
        run_id=run.run_id,
        problem=run.problem,
        start=run.start_params,
        best=None if best is None else best.flat_params,
        best_fun=math.nan if best is None else best.fun,
        best_violation=0.0 if best is None else best.violation or 0.0,
        histories=reader.read_step_histories(),
        counts=reader.read_counts(),
        steps={record.step: record for record in reader.read_steps()},
    )


def resumed(problem: Problem, earlier: Earlier | None) -> Problem:
    """Return the problem from where the run goes on.

    A local algorithm begins at the best point. Multistart begins where it began, and draws the
    same sample.

    Args:
        problem: The problem as the user states it.
        earlier: What is known of the run; None if it begins.
    """
    assert problem.logging is not None
    problem = replace(problem, logging=replace(problem.logging, if_database_exists="extend"))
    if earlier is None:
        return problem
    if problem.multistart is not None:
        seed = earlier.problem["multistart"]["seed"]
        return replace(problem, multistart=replace(problem.multistart, seed=seed))
    if earlier.best is None:
        return problem
    return replace(problem, params=ParamTree(problem.params).to_params(earlier.best))


def _checked(resume: Any, options: LogOptions | None) -> LogOptions | None:
    """Return where the run to be resumed is; None if nothing is to be resumed."""
    if not isinstance(resume, (bool, str)) or resume not in (True, False, "if_exists"):
        raise LogError(f"resume must be True, False or 'if_exists', not {resume!r}.")
    if not resume:
        return None
    if options is None:
        raise LogError("resume goes on with a run from its log, so it needs logging=...")
    if options.if_database_exists == "replace":
        raise LogError(
            "resume goes on with a run from its log, and if_database_exists='replace' would "
            "delete it. Leave one of them out."
        )
    return options


def _comparable(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return descriptions without what a resumed run may change."""
    out = tuple({name: d[name] for name in ("bounds", "constraints")} for d in (old, new))
    for part, description in zip(out, (old, new), strict=True):
        part["runs of a batch"] = description.get("runs of a batch")
    if sorted(map(repr, out[0]["constraints"])) == sorted(map(repr, out[1]["constraints"])):
        # in another order
        out[0]["constraints"] = out[1]["constraints"]
    both = (old["multistart"], new["multistart"])
    if None in both:
        for part, options in zip(out, both, strict=True):
            part["multistart"] = options is not None
        return out[0], out[1]
    for part, description in zip(out, (old, new), strict=True):
        drawn = {name: description["multistart"][name] for name in _DRAWN}
        if not isinstance(new["multistart"]["seed"], int):
            # none, or a generator: that of the log is used
            drawn["seed"] = None
        # what the solvers saw is in the log
        part |= {"multistart": drawn, **{n: description[n] for n in ("scaling", "bounds_as")}}
    return out[0], out[1]


class _Comparison:
    """Collects the differences between a problem and the one of a log."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._differences: list[str] = []

    def compare(self, what: str, old: Any, new: Any) -> None:
        """Note in which places two descriptions differ."""
        self._differences += _differences(what, old, new)

    def compare_numbers(self, what: str, names: list[str], old: Array, new: Array) -> None:
        """Note which numbers differ by more than rounding, by their names."""
        for i in np.flatnonzero(~np.isclose(old, new, rtol=_MOVED, atol=_MOVED)).tolist():
            self.compare(f"{what}, {names[i]}", float(old[i]), float(new[i]))

    def refuse(self) -> None:
        """Raise an error that names the differences, if there are any."""
        if self._differences:
            lines = "\n".join(f"  {line}" for line in self._differences[:10])
            more = len(self._differences) - 10
            rest = f"\n  and {more} more" if more > 0 else ""
            raise LogError(
                f"The last run of {self._location} is of another problem, so it cannot be "
                f"resumed:\n{lines}{rest}"
            )


def _differences(what: str, old: Any, new: Any) -> Iterator[str]:
    """Yield a line for each place in which two descriptions differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            inner = f"{what}, {key}" if what else str(key)
            yield from _differences(inner, old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{what}, number {i}", a, b)
    elif isinstance(old, list) and isinstance(new, list):
        yield f"{what}: {len(old)} in the log, {len(new)} now{_only(old, new)}{_only(new, old)}"
    elif not (old == new or (old != old and new != new)):  # two NaN are the same
        yield f"{what}: {_worded(old)} in the log, {_worded(new)} now"


def _only(some: list[Any], others: list[Any]) -> str:
    """Return in words what is in one list only."""
    alone = [_worded(entry) for entry in some if entry not in others]
    return f"; without a counterpart: {listed(alone, 5)}" if alone else ""


def _worded(value: Any) -> str:
    return "nothing" if value is None else repr(value)

"""What a user can configure about a run, apart from the algorithm: plain, checked records."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from optimagic_lite.exceptions import (
    InvalidNumdiffOptionsError,
    InvalidScalingError,
    LogError,
    OptimagicError,
    did_you_mean,
)
from optimagic_lite.parallel import (
    BatchEvaluator,
    BatchEvaluatorName,
    Cores,
    check_n_cores,
    read_batch_evaluator,
)

IfExists = Literal["raise", "extend", "replace"]
ScalingMethod = Literal["start_values", "bounds"]
NumdiffMethod = Literal["central", "forward", "backward"]


@dataclass(frozen=True)
class Bounds:
    """Bounds on parameters.

    Each field is None (no bounds), a number (for all parameters), or a tree aligned with
    params. Such a tree may be partial: dictionary keys may be left out, None stands for
    "unbounded", and one number for all entries below its position.

    Args:
        lower: Lower bounds.
        upper: Upper bounds.
        soft_lower: Lower limits from which multistart samples; they do not constrain.
        soft_upper: Upper limits from which multistart samples; they do not constrain.

    Example:
        >>> import optimagic_lite as om
        >>> om.minimize(lambda p: p["a"] ** 2 + (p["b"] ** 2).sum(),
        ...             {"a": 2.0, "b": np.ones(2)}, "scipy_lbfgsb",
        ...             bounds=om.Bounds(lower={"a": 1})).params["a"]
        1.0
    """

    lower: Any = None
    upper: Any = None
    soft_lower: Any = None
    soft_upper: Any = None


@dataclass(frozen=True)
class ScalingOptions:
    """How the parameters that an algorithm sees are scaled.

    What it sees are free parameters, after constraints have been built in.

    Args:
        method: "start_values" (default) divides each by its start value in absolute terms, at
            least ``clipping_value``. "bounds" maps the range between the bounds to one between 0
            and ``magnitude``; all bounds must be finite.
        clipping_value: Smallest divisor with "start_values".
        magnitude: What scaled values are multiplied with.

    Raises:
        InvalidScalingError: If a value is not valid.

    Example:
        >>> import optimagic_lite as om
        >>> om.minimize(lambda x: ((x - [1000.0, 0.01]) ** 2).sum(), np.array([900.0, 0.02]),
        ...             "scipy_bfgs", scaling=om.ScalingOptions(clipping_value=0.01)).n_free
        2
    """

    method: ScalingMethod = "start_values"
    clipping_value: float = 0.1
    magnitude: float = 1.0

    def __post_init__(self) -> None:
        methods = get_args(ScalingMethod)
        if self.method not in methods:
            raise InvalidScalingError(
                f"method must be one of {', '.join(map(repr, methods))}, not {self.method!r}."
                + did_you_mean(self.method, methods)
            )
        for name in ("clipping_value", "magnitude"):
            value = getattr(self, name)
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not is_number or not 0 < float(value) < math.inf:
                raise InvalidScalingError(f"{name} must be a positive number, not {value!r}.")


def read_scaling(scaling: Any) -> ScalingOptions | None:
    """Bring all ways to ask for scaling into one; None means no scaling.

    Args:
        scaling: None, a bool, ``ScalingOptions`` or a dict of its fields.

    Raises:
        InvalidScalingError: If it is something else.
    """
    if scaling is None or isinstance(scaling, (bool, np.bool_)):
        return ScalingOptions() if scaling else None
    return read_record(scaling, ScalingOptions, InvalidScalingError)


@dataclass(frozen=True)
class NumdiffOptions:
    """Options for numerical derivatives.

    Args:
        method: "central" (default, error of order step squared, two evaluations a
            parameter), "forward" or "backward" (one evaluation a parameter). Near a bound a
            one-sided formula of the same order replaces points outside.
        step_size: Absolute step, the same for all parameters. Default None means
            ``eps ** (1/3)`` (central) or ``eps ** (1/2)`` (others) times ``max(|x|, 0.1)``,
            where eps is the precision in which the criterion computes.
        scaling_factor: Multiplies the step.
        min_steps: Smallest absolute step; None means no minimum. Bounds may ask for less.
        n_cores: Number of processes or threads that evaluate a batch of points; default 1.
        batch_evaluator: "joblib" (default, processes; needs joblib if n_cores is above 1),
            "threading", or a function with the protocol of ``parallel.BatchEvaluator``.

    Raises:
        InvalidNumdiffOptionsError: If a value is out of range.

    Example:
        >>> import optimagic_lite as om
        >>> om.minimize(lambda x: x @ x, np.ones(2), "scipy_lbfgsb",
        ...             numdiff_options=om.NumdiffOptions(method="forward")).success
        True
    """

    method: NumdiffMethod = "central"
    step_size: float | None = None
    scaling_factor: float = 1.0
    min_steps: float | None = None
    n_cores: int = 1
    batch_evaluator: BatchEvaluatorName | BatchEvaluator = "joblib"

    def __post_init__(self) -> None:
        methods = get_args(NumdiffMethod)
        if self.method not in methods:
            raise InvalidNumdiffOptionsError(
                f"method must be one of {', '.join(map(repr, methods))}, not {self.method!r}."
                + did_you_mean(self.method, methods)
            )
        for name in ("step_size", "scaling_factor", "min_steps"):
            value = getattr(self, name)
            if value is None and name != "scaling_factor":
                continue
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not is_number or not 0 < float(value) < math.inf:
                raise InvalidNumdiffOptionsError(
                    f"{name} must be a positive number, not {value!r}."
                )
        check_n_cores(self.n_cores, InvalidNumdiffOptionsError)
        read_batch_evaluator(self.batch_evaluator, InvalidNumdiffOptionsError)

    @property
    def cores(self) -> Cores:
        """Where a batch of points is evaluated."""
        return Cores(self.n_cores, self.batch_evaluator)


@dataclass(frozen=True)
class SQLiteLogOptions:
    """Where and how the log of a run is written.

    Args:
        path: File of the SQLite database.
        fast_logging: True (default): a committed row survives the death of the process, not
            necessarily a power failure (WAL, synchronous=NORMAL; about 20 microseconds a row).
            False: it survives a power failure too (synchronous=FULL; about a millisecond).
        if_database_exists: "raise" (default), "extend" (add a run to the file) or "replace"
            (delete the file first).

    Raises:
        LogError: If a value is not valid.
    """

    path: str | Path
    fast_logging: bool = True
    if_database_exists: IfExists = "raise"

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        choices = get_args(IfExists)
        value = getattr(self.if_database_exists, "value", self.if_database_exists)
        if value not in choices:
            raise LogError(
                f"if_database_exists must be one of {', '.join(map(repr, choices))}, "
                f"not {value!r}." + did_you_mean(value, choices)
            )
        object.__setattr__(self, "if_database_exists", value)


_Record = TypeVar("_Record")


def read_record(value: Any, cls: type[_Record], error: type[OptimagicError]) -> _Record:
    """Return an options record from None, itself or a dict."""
    if value is None:
        return cls()
    if isinstance(value, cls):
        return value
    valid = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    if not isinstance(value, Mapping):
        raise error(f"Expected om.{cls.__name__} or a dict, not {value!r}.")
    for key in value:
        if key not in valid:
            raise error(
                f"{cls.__name__} has no field {key!r}.{did_you_mean(key, valid)} "
                f"Its fields are {', '.join(valid)}."
            )
    return cls(**value)

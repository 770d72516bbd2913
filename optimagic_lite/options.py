"""What a user can configure about a run, apart from the algorithm: plain, checked records."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from optimagic_lite.deprecations.names import with_old_fields
from optimagic_lite.deprecations.options import MULTISTART_FIELDS, new_multistart_options
from optimagic_lite.exceptions import (
    InvalidMultistartError,
    InvalidNumdiffOptionsError,
    InvalidScalingError,
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

ScalingMethod = Literal["start_values", "bounds"]
SamplingDistribution = Literal["uniform", "triangular"]
SamplingMethod = Literal["random", "sobol", "halton", "latin_hypercube"]
MixingWeightMethod = Literal["tiktak", "linear"]
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
            if not is_real(value) or not 0 < float(value) < math.inf:
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
            "threading", "dask", "ray", or a function with the protocol of
            ``parallel.BatchEvaluator``.

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
            if not is_real(value) or not 0 < float(value) < math.inf:
                raise InvalidNumdiffOptionsError(
                    f"{name} must be a positive number, not {value!r}."
                )
        check_n_cores(self.n_cores, InvalidNumdiffOptionsError)
        read_batch_evaluator(self.batch_evaluator, InvalidNumdiffOptionsError)

    @property
    def cores(self) -> Cores:
        """Where a batch of points is evaluated."""
        return Cores(self.n_cores, self.batch_evaluator)


@with_old_fields(new_multistart_options, MULTISTART_FIELDS)
@dataclass(frozen=True)
class MultistartOptions:
    """How local optimisations are started from many points.

    The algorithm is TikTak: the criterion is explored at a sample of points; local optimisations
    start from mixtures of the best of them and the best point so far, which counts more and more
    (Arnoud, Guvenen and Kleineberg 2019, doi:10.3386/w26340).

    Args:
        n_samples: Number of explored points, the start included. Default: ten times
            ``stopping_maxopt`` if that is given, else 100 times the number of free inputs.
        stopping_maxopt: Largest number of local optimisations. Default: a tenth of ``n_samples``.
        sampling_distribution: "uniform" (default) between the bounds, or "triangular" with its
            peak at the start. Soft bounds replace bounds here.
        sampling_method: "random" (default), "sobol", "halton" or "latin_hypercube".
        sample: The explored points themselves, instead of a drawn sample: a sequence of trees
            like params.
        mixing_weight_method: How much the best point so far counts in the start of local
            optimisation i of n: "tiktak" (default), ``sqrt(i / n)``; "linear", ``i / n`` between
            the bounds below; or a function of ``i, n, low, high``. i counts from 0.
        mixing_weight_bounds: Lowest and highest weight.
        convergence_xtol_rel: Optima closer than this are the same: Euclidean norm of differences
            divided by ``max(|value|, 0.1)``. Default 0.01.
        convergence_max_discoveries: The run ends when the best optimum was found so many times.
        n_cores: Number of processes or threads that explore and optimise at once.
        batch_evaluator: What spreads the work over them, see ``read_batch_evaluator``.
        batch_size: Number of local optimisations that know only of those before them, so that
            they can run at once. Default 4, for any number of cores, so that results do not
            depend on that number; never less than ``n_cores`` if it is given.
        seed: None (default), an integer or a NumPy generator. The same integer gives the same
            result, on any number of cores.
        error_handling: "continue" (default): points and optimisations that fail are left out.
            "raise": the first failure ends the run.

    Raises:
        InvalidMultistartError: If a value is not valid.

    Example:
        >>> import optimagic_lite as om
        >>> import jax.numpy as jnp
        >>> def wavy(x):
        ...     return jnp.sum(x**2 + 10 * (1 - jnp.cos(2 * jnp.pi * x)))
        >>> result = om.minimize(
        ...     wavy, np.array([2.5, 2.5]), "scipy_lbfgsb",
        ...     bounds=om.Bounds(lower=-3 * np.ones(2), upper=3 * np.ones(2)),
        ...     multistart=om.MultistartOptions(n_samples=100, seed=1),
        ... )
        >>> bool(result.fun < 1e-8)
        True
    """

    n_samples: int | None = None
    stopping_maxopt: int | None = None
    sampling_distribution: SamplingDistribution = "uniform"
    sampling_method: SamplingMethod = "random"
    sample: Any = None
    mixing_weight_method: MixingWeightMethod | Callable[..., float] = "tiktak"
    mixing_weight_bounds: tuple[float, float] = (0.1, 0.995)
    convergence_xtol_rel: float | None = None
    convergence_max_discoveries: float = 2
    n_cores: int = 1
    batch_evaluator: BatchEvaluatorName | BatchEvaluator = "joblib"
    batch_size: int | None = None
    seed: int | np.random.Generator | None = None
    error_handling: Literal["raise", "continue"] | None = None

    def __post_init__(self) -> None:
        _check_multistart(self)

    @property
    def cores(self) -> Cores:
        """Where points are explored and local optimisations run."""
        return Cores(self.n_cores, self.batch_evaluator)


def _check_multistart(o: MultistartOptions) -> None:
    error = InvalidMultistartError
    for name in ("n_samples", "stopping_maxopt", "batch_size"):
        value = getattr(o, name)
        if value is not None and not (_is_integer(value) and value >= 1):
            raise error(f"{name} must be a positive integer or None, not {value!r}.")
    if o.n_samples and o.stopping_maxopt and o.n_samples < o.stopping_maxopt:
        raise error(
            f"n_samples is {o.n_samples}, less than stopping_maxopt, {o.stopping_maxopt}: each "
            "local optimisation needs an explored point."
        )
    choices = {
        "sampling_distribution": get_args(SamplingDistribution),
        "sampling_method": get_args(SamplingMethod),
        "error_handling": ("raise", "continue", None),
    }
    if not callable(o.mixing_weight_method):
        choices["mixing_weight_method"] = get_args(MixingWeightMethod)
    for name, valid in choices.items():
        value = getattr(o, name)
        if not (value is None or isinstance(value, str)) or value not in valid:
            raise error(
                f"{name} must be one of {', '.join(map(repr, valid))}, not {value!r}."
                + did_you_mean(value, [v for v in valid if v is not None])
            )
    bounds = o.mixing_weight_bounds
    is_pair = isinstance(bounds, (tuple, list)) and len(bounds) == 2 and all(map(is_real, bounds))
    if not is_pair or not 0 <= bounds[0] <= bounds[1] <= 1:
        raise error(
            "mixing_weight_bounds must be two numbers, 0 <= low <= high <= 1, not "
            f"{o.mixing_weight_bounds!r}."
        )
    xtol, discoveries = o.convergence_xtol_rel, o.convergence_max_discoveries
    if xtol is not None and not (is_real(xtol) and xtol >= 0):
        raise error(f"convergence_xtol_rel must be a number, at least 0, not {xtol!r}.")
    if not (is_real(discoveries) and discoveries >= 1):
        raise error(
            "convergence_max_discoveries must be a positive integer or infinity, not "
            f"{discoveries!r}."
        )
    seed: Any = o.seed
    is_seed = isinstance(seed, np.random.Generator) or (_is_integer(seed) and seed >= 0)
    if seed is not None and not is_seed:
        raise error(
            f"seed must be None, an integer of at least 0 or a NumPy generator, not {o.seed!r}."
        )
    drawn = ("n_samples", "sampling_method", "sampling_distribution")
    moot = [n for n in drawn if getattr(o, n) != type(o).__dataclass_fields__[n].default]
    if o.sample is not None and moot:
        raise error(f"sample is given, so nothing is drawn: leave {' and '.join(moot)} out.")
    check_n_cores(o.n_cores, error)
    read_batch_evaluator(o.batch_evaluator, error)
    if o.batch_size is not None and o.batch_size < o.n_cores:
        raise error(
            f"batch_size is {o.batch_size}, less than n_cores, {o.n_cores}: some cores would have "
            "nothing to do."
        )


def is_real(value: Any) -> bool:
    """Tell whether a value is a real number; NaN is none, nor is True."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
    return is_number and not math.isnan(float(value))


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))


def read_multistart(multistart: Any) -> MultistartOptions | None:
    """Bring all ways to ask for multistart into one; None means none.

    Args:
        multistart: None, a bool, ``MultistartOptions`` or a dict of its fields.

    Raises:
        InvalidMultistartError: If it is something else.
    """
    if multistart is None or isinstance(multistart, (bool, np.bool_)):
        return MultistartOptions() if multistart else None
    return read_record(multistart, MultistartOptions, InvalidMultistartError)


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

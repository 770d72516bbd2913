"""The sets of test problems by name, as inputs of ``minimize``."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite import mark
from optimagic_lite.benchmarking.cartis_roberts import CARTIS_ROBERTS
from optimagic_lite.benchmarking.definitions import Definition
from optimagic_lite.benchmarking.more_wild import MORE_WILD
from optimagic_lite.benchmarking.noise import Noise, NoiseOptions, read_noise
from optimagic_lite.exceptions import InvalidBenchmarkError, did_you_mean
from optimagic_lite.options import Bounds, is_real

Array = NDArray[np.float64]

_EXAMPLE = (
    "freudenstein_roth_good_start", "helical_valley_good_start", "rosenbrock_good_start",
    "powell_singular_good_start", "bard_good_start", "box_3d", "brown_dennis_good_start",
    "chebyquad_6", "bdqrtic_8", "mancino_5_good_start",
)  # fmt: skip
_ESTIMAGIC = (
    "linear_full_rank_bad_start", "chebyquad_6", "chebyquad_7", "chebyquad_8", "chebyquad_9",
    "chebyquad_10", "chebyquad_11", "osborne_two_bad_start", "bdqrtic_8", "bdqrtic_10",
    "bdqrtic_11", "bdqrtic_12", "cube_5", "cube_6", "cube_8", "mancino_5_bad_start", "mancino_8",
    "mancino_10", "mancino_12_bad_start", "heart_eight_bad_start",
)  # fmt: skip
_ESTIMAGIC_STEPS = ("rosenbrock_good_start", "cube_5", "chebyquad_10")
_ESTIMAGIC_MEDIUM = (
    "arglale", "arglble", "bratu_2d", "bratu_3d", "cbratu_2d", "chnrsbne", "hatfldg", "penalty_1",
    "vardimne",
)  # fmt: skip


def get_benchmark_problems(
    name: str,
    *,
    additive_noise: bool = False,
    additive_noise_options: NoiseOptions | Mapping[str, Any] | None = None,
    multiplicative_noise: bool = False,
    multiplicative_noise_options: NoiseOptions | Mapping[str, Any] | None = None,
    scaling: bool = False,
    scaling_options: Mapping[str, float] | None = None,
    seed: int | np.random.Generator | None = None,
    exclude: str | Iterable[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return a set of test problems.

    Criteria are written in JAX, so that all their derivatives are exact. With noise they are not,
    because no derivative of noise exists.

    Args:
        name: "more_wild": 53 nonlinear least-squares problems of up to 12 parameters, and one of
            100 (Moré and Wild 2009, doi:10.1137/080724083, after Moré, Garbow and Hillstrom
            1981, doi:10.1145/355934.355936). "cartis_roberts": 60 nonlinear least-squares
            problems of 25 to 120 parameters (Cartis and Roberts 2019,
            doi:10.1007/s12532-019-00161-7). "estimagic": 32 of both sets, three of them in
            steps. "example": ten small ones. "cutest": problems of CUTEst of up to 100
            parameters, free and with bounds; needs ``pip install 'optimagic_lite[cutest]'``.
        additive_noise: Whether to add noise to values, or to each residual.
        additive_noise_options: A dict with some of "distribution" ("normal", "gumbel",
            "uniform", "logistic" or "laplace"; default "normal"), "std" (default 0.01), "mean"
            (default 0) and "correlation" (between residuals, default 0).
        multiplicative_noise: Whether values, or residuals, become ``f + noise * g``, where g is
            f, moved away from zero.
        multiplicative_noise_options: As for additive noise, and "clipping_value" (default 1), the
            smallest absolute value of g.
        scaling: Whether the problems are badly scaled: their parameters are the standard ones
            times factors from "min_scale" to "max_scale".
        scaling_options: A dict with "min_scale" (default 0.1) and "max_scale" (default 10).
        seed: Of the noise. Problems of one seed have the same noise whatever is excluded.
        exclude: Names of problems to leave out.

    Returns:
        By name, dicts with "inputs" (arguments of ``minimize``: "fun", "params" and, where there
        are any, "bounds"), "noise_free_fun", "solution" (a dict of "params", which are NaN where
        a continuum of points is best or none is known, and "value", NaN where it is not known),
        "noisy", "info" (a dict of "source" and "note") and "start_criterion", NaN where no value
        was published.

    Raises:
        InvalidBenchmarkError: If a name or an option is not known or not valid.
        NotInstalledError: If "cutest" is asked for and sif2jax is not installed.

    Example:
        >>> import optimagic_lite as om
        >>> problem = om.get_benchmark_problems("example")["rosenbrock_good_start"]
        >>> om.minimize(**problem["inputs"], algorithm="scipy_ls_lm").params.round(6)
        array([1., 1.])
        >>> problem["solution"]["value"], problem["start_criterion"]
        (0.0, 24.2)
    """
    switches = {
        "additive_noise": additive_noise,
        "multiplicative_noise": multiplicative_noise,
        "scaling": scaling,
    }
    for switch, value in switches.items():
        if not isinstance(value, (bool, np.bool_)):
            raise InvalidBenchmarkError(
                f"{switch} must be True or False, not {value!r}; {switch}_options says how."
            )
    if "clipping_value" in _keys(additive_noise_options):
        raise InvalidBenchmarkError("clipping_value belongs to multiplicative_noise_options only.")
    noise = Noise(
        read_noise(additive_noise, additive_noise_options, "additive_noise"),
        read_noise(multiplicative_noise, multiplicative_noise_options, "multiplicative_noise"),
    )
    scales = _read_scales(scaling, scaling_options)
    definitions = _definitions(name)
    root = int(np.random.default_rng(seed).integers(1 << 62))
    return {
        key: _problem(
            definition if scales is None else _scaled(definition, *scales),
            noise if additive_noise or multiplicative_noise else None,
            [root, zlib.crc32(key.encode())],
        )
        for key, definition in _without(definitions, exclude).items()
    }


def _keys(options: Any) -> Iterable[str]:
    return options if isinstance(options, Mapping) else ()


# ---- sets ------------------------------------------------------------------------------------


def _definitions(name: str) -> Mapping[str, Definition]:
    if name not in _SETS:
        raise InvalidBenchmarkError(
            f"There is no set of test problems {name!r}.{did_you_mean(name, _SETS)} The sets are "
            f"{', '.join(map(repr, _SETS))}."
        )
    return _SETS[name]()


def _estimagic() -> dict[str, Definition]:
    return (
        {key: MORE_WILD[key] for key in _ESTIMAGIC}
        | {f"{key}_with_steps": _in_steps(MORE_WILD[key]) for key in _ESTIMAGIC_STEPS}
        | {key: CARTIS_ROBERTS[key] for key in _ESTIMAGIC_MEDIUM}
    )


def _cutest() -> dict[str, Definition]:
    from optimagic_lite.benchmarking.cutest import cutest_problems

    return cutest_problems()


_SETS: dict[str, Callable[[], Mapping[str, Definition]]] = {
    "more_wild": lambda: MORE_WILD,
    "cartis_roberts": lambda: CARTIS_ROBERTS,
    "estimagic": _estimagic,
    "example": lambda: {key: MORE_WILD[key] for key in _EXAMPLE},
    "cutest": _cutest,
}


def _without(
    definitions: Mapping[str, Definition], exclude: str | Iterable[str] | None
) -> dict[str, Definition]:
    left_out = [exclude] if isinstance(exclude, str) else list(exclude or ())
    for key in left_out:
        if key not in definitions:
            raise InvalidBenchmarkError(
                f"exclude names {key!r}, which is not in the set.{did_you_mean(key, definitions)}"
            )
    return {key: value for key, value in definitions.items() if key not in left_out}


# ---- variants --------------------------------------------------------------------------------


def _in_steps(definition: Definition) -> Definition:
    """Return a problem that sees its parameters with three digits after the point."""
    start, solution = (
        None if x is None else tuple(np.round(x, 3))
        for x in (definition.start, definition.solution)
    )
    # what is at the solution remains best if rounding moves no parameter there
    is_same = solution == definition.solution
    return dataclasses.replace(
        definition,
        fun=_rounded(definition.fun),
        start_value=definition.start_value if start == definition.start else None,
        value=definition.value if is_same else None,
        solution=None,
        note="Parameters are rounded to three digits, so that the solution is a plateau. "
        + definition.note,
    )


@functools.cache
def _rounded(fun: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    return lambda x: fun(jnp.round(x, 3))


def _read_scales(scaling: bool, options: Mapping[str, float] | None) -> tuple[float, float] | None:
    if not scaling:
        if options is not None:
            raise InvalidBenchmarkError("scaling_options has an effect only with scaling=True.")
        return None
    found = {"min_scale": 0.1, "max_scale": 10.0}
    for name, value in (options or {}).items():
        if name not in found:
            raise InvalidBenchmarkError(
                f"scaling_options has no option {name!r}.{did_you_mean(name, found)}"
            )
        if not is_real(value) or not 0 < value < np.inf:
            raise InvalidBenchmarkError(f"{name} must be a positive number, not {value!r}.")
        found[name] = float(value)
    return found["min_scale"], found["max_scale"]


def _scaled(definition: Definition, least: float, most: float) -> Definition:
    factors = np.linspace(least, most, len(definition.start))

    def times(x: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(np.multiply(x, factors).tolist())

    solution, bounds = definition.solution, definition.bounds
    return dataclasses.replace(
        definition,
        fun=_with_scales(definition.fun, least, most),
        start=times(definition.start),
        solution=None if solution is None else times(solution),
        bounds=None if bounds is None else (times(bounds[0]), times(bounds[1])),
    )


@functools.cache
def _with_scales(
    fun: Callable[[jax.Array], jax.Array], least: float, most: float
) -> Callable[[jax.Array], jax.Array]:
    return lambda x: fun(x / jnp.linspace(least, most, len(x)))


# ---- inputs of minimize ----------------------------------------------------------------------


def _problem(definition: Definition, noise: Noise | None, seed: list[int]) -> dict[str, Any]:
    exact = _noise_free(definition.fun)
    start = np.array(definition.start)
    if noise is None:
        fun = _criterion(definition.fun, definition.is_scalar)
    else:
        fun = _noisy(exact, noise, seed, definition.is_scalar)
    inputs: dict[str, Any] = {"fun": fun, "params": start}
    if definition.bounds is not None:
        lower, upper = map(np.array, definition.bounds)
        inputs["bounds"] = Bounds(lower=lower, upper=upper)
    value, solution, at_start = definition.value, definition.solution, definition.start_value
    return {
        "inputs": inputs,
        "noise_free_fun": exact,
        "solution": {
            "params": np.full(len(start), np.nan) if solution is None else np.array(solution),
            "value": np.nan if value is None else float(value),
        },
        "noisy": noise is not None,
        "info": {"source": definition.source, "note": definition.note},
        "start_criterion": np.nan if at_start is None else float(at_start),
    }


@functools.cache
def _compiled(fun: Callable[..., Any]) -> Callable[..., Any]:
    # called as it is written, each operation in it would be compiled by itself
    return jax.jit(fun)


@functools.cache
def _criterion(fun: Callable[..., Any], is_scalar: bool) -> Callable[..., Any]:
    """Return a criterion; the same object each time, so that it is compiled once."""
    return _compiled(fun) if is_scalar else mark.least_squares(_compiled(fun))


@functools.cache
def _noise_free(fun: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return a function that computes in double precision and returns NumPy."""
    compiled = _compiled(fun)

    @functools.wraps(fun)
    def noise_free(params: Any) -> Any:
        with jax.enable_x64(True):
            found = np.asarray(compiled(np.asarray(params, dtype=np.float64)))
        return found if found.ndim else float(found)

    return noise_free


def _noisy(
    exact: Callable[[Any], Any], noise: Noise, seed: list[int], is_scalar: bool
) -> Callable[..., Any]:
    rng = np.random.default_rng(seed)

    def noisy(params: Any) -> Any:
        return noise.on(exact(params), rng)

    fun = mark.scalar(noisy) if is_scalar else mark.least_squares(noisy)
    # each run of a benchmark begins the noise anew, so that its order does not matter
    fun.begun_anew = lambda: _noisy(exact, noise, seed, is_scalar)  # type: ignore[attr-defined]
    return fun

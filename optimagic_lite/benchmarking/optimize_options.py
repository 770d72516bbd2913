"""What a benchmark shall run on each problem: names, algorithms with options, arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optimagic_lite.algorithms.base import Algorithm, option_types
from optimagic_lite.algos import resolve_algorithm
from optimagic_lite.benchmarking.problem import ARGUMENTS, hint_of_argument
from optimagic_lite.deprecations.options import new_algo_options
from optimagic_lite.exceptions import InvalidBenchmarkError

# with it, most algorithms go on until they have used up their evaluations
_STRICT = 1e-14
_TOLERANCES = tuple(
    f"convergence_{of}tol_{kind}" for of in "fgx" for kind in ("abs", "rel", "scaled")
)


@dataclass(frozen=True)
class OptimizeOptions:
    """What one name stands for.

    Attributes:
        name: The name.
        algorithm: The algorithm with its options.
        own: Names of the options that the user has chosen.
        arguments: Further arguments of ``minimize``.
    """

    name: str
    algorithm: Algorithm
    own: frozenset[str]
    arguments: Mapping[str, Any]

    def with_limits(self, max_evaluations: int | None, is_strict: bool) -> OptimizeOptions:
        """Limit evaluations and tighten tolerances, where the user has not chosen them.

        Args:
            max_evaluations: Largest number of evaluations and of iterations; None: as they are.
            is_strict: Whether tolerances become at most 1e-14; those that are switched off stay so.
        """
        current = {
            name: getattr(self.algorithm, name) for name in option_types(type(self.algorithm))
        }
        wanted: dict[str, Any] = {}
        if max_evaluations is not None:
            wanted["stopping_maxfun"] = max_evaluations
            # a user's own number of evaluations is not to be cut by one of iterations
            if "stopping_maxfun" not in self.own:
                wanted["stopping_maxiter"] = max_evaluations
        if is_strict:
            wanted |= {
                name: _STRICT for name in _TOLERANCES if (current.get(name) or 0.0) > _STRICT
            }
        open_ = {k: v for k, v in wanted.items() if k in current and k not in self.own}
        return replace(self, algorithm=self.algorithm.with_option(**open_))


def read_options(optimize_options: Any) -> list[OptimizeOptions]:
    """Read what shall run.

    Args:
        optimize_options: See ``run_benchmark``.

    Raises:
        InvalidBenchmarkError: If it is not valid.
        InvalidAlgoOptionError: If there is no such algorithm or option.
    """
    if isinstance(optimize_options, Mapping):
        named = [(str(name), value) for name, value in optimize_options.items()]
    elif isinstance(optimize_options, Iterable) and not isinstance(optimize_options, str):
        named = [(_name_of(value), value) for value in optimize_options]
    else:
        raise InvalidBenchmarkError(
            "optimize_options must be a list of algorithms or a dict of names and arguments of "
            f"minimize, not {optimize_options!r}."
        )
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise InvalidBenchmarkError(
                f"optimize_options has {name!r} twice: give a dict with a name for each."
            )
    if not named:
        raise InvalidBenchmarkError("optimize_options is empty: give at least one algorithm.")
    return [_read_option(name, value) for name, value in named]


def _name_of(value: Any) -> str:
    return str(value if isinstance(value, str) else getattr(value, "name", value))


def _read_option(name: str, value: Any) -> OptimizeOptions:
    arguments = dict(value) if isinstance(value, Mapping) else {"algorithm": value}
    valid = [key for key in ARGUMENTS if key not in ("fun", "params")]
    for key in arguments:
        if key not in valid:
            raise InvalidBenchmarkError(
                f"optimize_options[{name!r}] has an entry {key!r}, which is no argument of "
                f"minimize that a problem leaves open.{hint_of_argument(key, valid)}"
            )
    if "algorithm" not in arguments:
        raise InvalidBenchmarkError(f"optimize_options[{name!r}] needs an entry 'algorithm'.")
    given = arguments.pop("algo_options", None) or {}
    algorithm = resolve_algorithm(arguments.pop("algorithm"), given)
    default = type(algorithm)()
    own = {key for key in option_types(type(algorithm)) if _differs(algorithm, default, key)}
    return OptimizeOptions(
        name, algorithm, frozenset(own | set(new_algo_options(given)[0])), arguments
    )


def _differs(algorithm: Algorithm, default: Algorithm, key: str) -> bool:
    return bool(getattr(algorithm, key) != getattr(default, key))

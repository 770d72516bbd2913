"""Choosing algorithms: by attribute, by filters in any order, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from optimagic_lite import algorithms as _algorithms  # registers all
from optimagic_lite.algorithms.base import REGISTRY, AlgoInfo, Algorithm, option_types
from optimagic_lite.deprecations.names import ALGO_OPTIONS, ALGORITHMS, tell
from optimagic_lite.deprecations.options import new_algo_options
from optimagic_lite.exceptions import (
    InvalidAlgoOptionError,
    NotInstalledError,
    did_you_mean,
    warn_user,
)

if TYPE_CHECKING:
    import pandas as pd

del _algorithms

_FILTERS: Mapping[str, Callable[[AlgoInfo], bool]] = {
    "Bounded": lambda info: info.supports_bounds,
    "Global": lambda info: info.is_global,
    "Local": lambda info: not info.is_global,
    "GradientBased": lambda info: info.needs_jac,
    "GradientFree": lambda info: not info.needs_jac,
    "LeastSquares": lambda info: info.solver_type == "least_squares",
    "Likelihood": lambda info: info.solver_type == "likelihood",
    "Scalar": lambda info: info.solver_type == "scalar",
    "LinearConstrained": lambda info: info.supports_linear_constraints,
    "NonlinearConstrained": lambda info: info.supports_nonlinear_constraints,
    "Parallel": lambda info: info.supports_parallelism,
    "InsideJax": lambda info: info.needs_program,
}

# What SciPy calls its methods.
SCIPY_METHODS = {
    "Nelder-Mead": "scipy_neldermead",
    "Powell": "scipy_powell",
    "CG": "scipy_conjugate_gradient",
    "BFGS": "scipy_bfgs",
    "Newton-CG": "scipy_newton_cg",
    "L-BFGS-B": "scipy_lbfgsb",
    "TNC": "scipy_truncated_newton",
    "COBYLA": "scipy_cobyla",
    "COBYQA": "scipy_cobyqa",
    "SLSQP": "scipy_slsqp",
    "trust-constr": "scipy_trust_constr",
    "trust-ncg": "scipy_trust_ncg",
    "trust-krylov": "scipy_trust_krylov",
    "trust-exact": "scipy_trust_exact",
    "dogleg": "scipy_dogleg",
}


class Algorithms:
    """The algorithms that pass a number of filters.

    ``om.algos.Bounded.Local.GradientFree`` narrows step by step, in any order;
    ``om.algos.scipy_lbfgsb`` is an algorithm, to be called with options.

    Args:
        filters: Names of the filters that were applied.

    Example:
        >>> import optimagic_lite as om
        >>> om.algos.Bounded.Local.GradientFree.AllNames[:2]
        ['nlopt_bobyqa', 'nlopt_cobyla']
        >>> om.algos.scipy_lbfgsb(stopping_maxiter=5).stopping_maxiter
        5
    """

    def __init__(self, filters: tuple[str, ...] = ()) -> None:
        self._filters = filters

    def _chosen(self) -> dict[str, type[Algorithm]]:
        rules = [_FILTERS[name] for name in self._filters]
        return {
            name: REGISTRY[name]
            for name in sorted(REGISTRY)
            if all(rule(REGISTRY[name].algo_info) for rule in rules)
        }

    @property
    def All(self) -> list[type[Algorithm]]:  # noqa: N802
        """All algorithms that pass."""
        return list(self._chosen().values())

    @property
    def AllNames(self) -> list[str]:  # noqa: N802
        """Their names."""
        return list(self._chosen())

    @property
    def Available(self) -> list[type[Algorithm]]:  # noqa: N802
        """Those of them whose library is installed."""
        return [cls for cls in self.All if cls.algo_info.is_available]

    @property
    def AvailableNames(self) -> list[str]:  # noqa: N802
        """Their names."""
        return [cls.name for cls in self.Available]

    def filter(self, **traits: Any) -> list[type[Algorithm]]:
        """Return the algorithms with given traits.

        Args:
            traits: Names and values of fields of ``AlgoInfo``.

        Raises:
            InvalidAlgoOptionError: If there is no such trait.

        Example:
            >>> import optimagic_lite as om
            >>> [cls.name for cls in om.algos.filter(library="scipy", needs_hess=True)][0]
            'scipy_dogleg'
        """
        fields = [f.name for f in dataclasses.fields(AlgoInfo)]
        for trait in traits:
            if trait not in fields:
                raise InvalidAlgoOptionError(
                    f"There is no trait {trait!r}.{did_you_mean(trait, fields)} "
                    f"The traits are {', '.join(fields)}."
                )
        return [
            cls
            for cls in self.All
            if all(getattr(cls.algo_info, trait) == value for trait, value in traits.items())
        ]

    def table(self) -> pd.DataFrame:
        """Return a DataFrame with one row an algorithm and one column a trait."""
        import pandas as pd

        rows = [dataclasses.asdict(cls.algo_info) for cls in self.All]
        sources = [(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ") for cls in self.All]
        names = [f.name for f in dataclasses.fields(AlgoInfo)]
        frame = pd.DataFrame(rows, columns=names).set_index("name")
        return frame.assign(description=[" ".join(source.split()) for source in sources])

    def __getattr__(self, name: str) -> Any:
        if name in _FILTERS:
            return Algorithms((*self._filters, name))
        chosen = self._chosen()
        if name in chosen:
            return chosen[name]
        if name in REGISTRY and not name.startswith("_"):
            raise AttributeError(f"{name} does not pass the filters {', '.join(self._filters)}.")
        hint = did_you_mean(name, [*chosen, *_FILTERS])
        raise AttributeError(f"There is no algorithm or filter {name!r}.{hint}")

    def __dir__(self) -> list[str]:
        own = ["All", "AllNames", "Available", "AvailableNames", "filter", "table"]
        rest = [name for name in _FILTERS if name not in self._filters]
        return [*own, *rest, *self._chosen()]

    def __repr__(self) -> str:
        path = ".".join(("om.algos", *self._filters))
        return f"{path} ({len(self._chosen())} algorithms: {', '.join(self._chosen())})"


algos = Algorithms()


def resolve_algorithm(algorithm: Any, algo_options: Mapping[str, Any] | None) -> Algorithm:
    """Return the algorithm that a user asked for, with options.

    Args:
        algorithm: Name, class or instance.
        algo_options: Options by name, also in the old spellings with dots. One that only other
            algorithms have is skipped with a warning.

    Raises:
        InvalidAlgoOptionError: If the algorithm or an option is not known, or a value not valid.
        NotInstalledError: If the library is not installed.
    """
    if isinstance(algorithm, str):
        if algorithm not in REGISTRY:
            # a method alone, without its library, is near to none of the whole names
            methods = {name.split("_", 1)[-1]: name for name in reversed(REGISTRY)}
            name = SCIPY_METHODS.get(algorithm) or methods.get(algorithm.lower())
            hint = f" Did you mean {name!r}?" if name else did_you_mean(algorithm, REGISTRY)
            if algorithm in ALGORITHMS:
                hint = f" {ALGORITHMS[algorithm]!r} comes nearest."
            raise InvalidAlgoOptionError(
                f"There is no algorithm {algorithm!r}.{hint} om.algos.table() lists all."
            )
        algorithm = REGISTRY[algorithm]
    if isinstance(algorithm, type) and algorithm in REGISTRY.values():
        algorithm = algorithm()
    if not isinstance(algorithm, Algorithm):
        raise InvalidAlgoOptionError(
            "algorithm must be a name, a class such as om.algos.scipy_lbfgsb, or an instance of "
            f"one, not {algorithm!r}."
        )
    if not algorithm.algo_info.is_available:
        library = algorithm.algo_info.library
        raise NotInstalledError(f"{algorithm.name} needs {library}: pip install {library}.")
    return _with_options(algorithm, algo_options or {})


def _with_options(algorithm: Algorithm, options: Mapping[str, Any]) -> Algorithm:
    own = option_types(type(algorithm))
    known = {name for cls in REGISTRY.values() for name in option_types(cls)}
    applied: dict[str, Any] = {}
    skipped: list[str] = []
    options, advice = new_algo_options(options)
    if advice:
        tell(f"Options of {algorithm.name} have names of the past. They still work. Write:", advice)
    for name, value in options.items():
        if name in own:
            applied[name] = value
        elif name in known or name in ALGO_OPTIONS.values():
            skipped.append(name)
        else:
            raise InvalidAlgoOptionError(
                f"No algorithm has an option {name!r}.{did_you_mean(name, known)} "
                f"Options of {algorithm.name} are {', '.join(own)}."
            )
    if skipped:
        warn_user(
            f"{algorithm.name} has no option {', '.join(skipped)}: skipped. "
            f"Its options are {', '.join(own)}."
        )
    return algorithm.with_option(**applied)

"""Nonlinear regressions of NIST's Statistical Reference Datasets, with certified solutions.

Data, start values and certified values are read from NIST's own files, see
https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml. Certified values have 11 digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import did_you_mean

Array = NDArray[np.float64]
Params = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class NistProblem:
    """A nonlinear regression with its certified solution.

    Attributes:
        name: Name of the data set.
        level: NIST's rating of its difficulty: "lower", "average" or "higher".
        start1: The start far from the solution, ``{"b1": ..., "b2": ...}``.
        start2: The start near the solution.
        certified: The certified parameters.
        certified_std: Their certified standard deviations.
        rss: The certified residual sum of squares.
        data: Columns of the data by name, the response ``y`` first, shape (n_obs,) each.

    Example:
        >>> import optimagic_lite as om
        >>> from optimagic_lite.data.nist import load_nist
        >>> problem = load_nist("Thurber")
        >>> result = om.minimize(
        ...     problem.sum_of_squares, problem.start2, "scipy_trust_exact", fun_kwargs=problem.data
        ... )
        >>> bool(abs(result.fun / problem.rss - 1) < 1e-9)
        True
    """

    name: str
    level: str
    start1: dict[str, float]
    start2: dict[str, float]
    certified: dict[str, float]
    certified_std: dict[str, float]
    rss: float
    data: dict[str, Array]

    @property
    def starts(self) -> tuple[dict[str, float], dict[str, float]]:
        """Both starts."""
        return self.start1, self.start2

    def model(self, params: Params, **predictors: Any) -> jax.Array:
        """Return the values that the model gives for the response.

        Args:
            params: Parameters by name.
            predictors: Columns of ``data`` other than ``y``.
        """
        return jnp.asarray(_FORMULAS[self.name](params, **predictors))

    def residuals(self, params: Params, y: Any, **predictors: Any) -> jax.Array:
        """Return response minus model; the model of Nelson is one of the logarithm of y.

        Args:
            params: Parameters by name.
            y: The response.
            predictors: The other columns of ``data``.
        """
        response = jnp.log(y) if self.name in _LOG_RESPONSE else y
        return response - self.model(params, **predictors)

    def sum_of_squares(self, params: Params, y: Any, **predictors: Any) -> jax.Array:
        """Return the residual sum of squares.

        Args:
            params: Parameters by name.
            y: The response.
            predictors: The other columns of ``data``.
        """
        return jnp.sum(self.residuals(params, y, **predictors) ** 2)

    def digits(self, params: Params) -> float:
        """Return the correct significant digits of the worst parameter, between 0 and 11.

        That is ``-log10(|b - c| / |c|)``, the measure of McCullough (1998,
        doi:10.1080/00031305.1998.10480593); no certified value is zero.

        Args:
            params: Parameters by name.
        """
        errors = [abs(float(params[k]) / c - 1.0) for k, c in self.certified.items()]
        worst = float(np.max(errors))
        return float(np.clip(-np.log10(max(worst, 1e-11)), 0.0, 11.0)) if worst < np.inf else 0.0


def load_nist(name: str) -> NistProblem:
    """Load one of the data sets in ``NAMES``.

    Args:
        name: Its name, as NIST spells it.

    Raises:
        ValueError: If there is no such data set.

    Example:
        >>> load_nist("Misra1a").certified
        {'b1': 238.94212918, 'b2': 0.00055015643181}
    """
    if name not in _FORMULAS:
        raise ValueError(
            f"There is no data set {name!r}.{did_you_mean(name, NAMES)} "
            f"There are {', '.join(NAMES)}."
        )
    text = (resources.files(__package__) / "nist_strd" / f"{name}.dat").read_text("ascii")
    return parse(name, text)


def parse(name: str, text: str) -> NistProblem:
    """Read a file of NIST's.

    Args:
        name: Name of the data set.
        text: The file.

    Raises:
        ValueError: If a part is missing, or the number of observations is not the stated one.
    """
    rows = {
        match[1]: [float(number) for number in match[2].split()]
        for match in re.finditer(r"^ *(b\d+) *= +(\S+ +\S+ +\S+ +\S+) *$", text, re.MULTILINE)
    }
    if not rows:
        raise ValueError(f"The file of {name} has no table of parameters.")
    start1, start2, certified, std = (
        {key: numbers[i] for key, numbers in rows.items()} for i in range(4)
    )
    return NistProblem(
        name=name,
        level=_find(r"(Lower|Average|Higher) Level of Difficulty", text, name).lower(),
        start1=start1,
        start2=start2,
        certified=certified,
        certified_std=std,
        rss=float(_find(r"Residual Sum of Squares: +(\S+)", text, name)),
        data=_parse_data(name, text),
    )


def _parse_data(name: str, text: str) -> dict[str, Array]:
    head = _find(r"^Data: +(y(?: +x\d?)+) *$", text, name)
    body = text.rpartition(head)[2].split()
    columns = head.split()
    table = np.array(body, dtype=np.float64)
    n_obs = int(_find(r"Number of Observations: +(\d+)", text, name))
    if table.size != n_obs * len(columns):
        raise ValueError(
            f"The file of {name} has {table.size} numbers of data instead of {n_obs} rows of "
            f"{len(columns)}."
        )
    return dict(zip(columns, table.reshape(n_obs, -1).T.copy(), strict=True))


def _find(pattern: str, text: str, name: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise ValueError(f"The file of {name} has nothing that matches {pattern!r}.")
    return str(match[1])


# ---- the models, as in the heads of the files ------------------------------------------------


def _two_exponentials(b: Params, x: Any) -> Any:
    return b["b1"] + b["b2"] * jnp.exp(-x * b["b4"]) + b["b3"] * jnp.exp(-x * b["b5"])


def _three_exponentials(b: Params, x: Any) -> Any:
    pairs = (("b1", "b2"), ("b3", "b4"), ("b5", "b6"))
    return sum(b[size] * jnp.exp(-b[rate] * x) for size, rate in pairs)


def _cycles(b: Params, x: Any) -> Any:
    def cycle(cosine: str, sine: str, period: Any) -> Any:
        angle = 2 * jnp.pi * x / period
        return b[cosine] * jnp.cos(angle) + b[sine] * jnp.sin(angle)

    return b["b1"] + cycle("b2", "b3", 12) + cycle("b5", "b6", b["b4"]) + cycle("b8", "b9", b["b7"])


def _gaussians(b: Params, x: Any) -> Any:
    first = b["b3"] * jnp.exp(-((x - b["b4"]) ** 2) / b["b5"] ** 2)
    second = b["b6"] * jnp.exp(-((x - b["b7"]) ** 2) / b["b8"] ** 2)
    return b["b1"] * jnp.exp(-b["b2"] * x) + first + second


def _cubic_over_cubic(b: Params, x: Any) -> Any:
    above = b["b1"] + b["b2"] * x + b["b3"] * x**2 + b["b4"] * x**3
    return above / (1 + b["b5"] * x + b["b6"] * x**2 + b["b7"] * x**3)


def _quadratic_over_quadratic(b: Params, x: Any) -> Any:
    return (b["b1"] + b["b2"] * x + b["b3"] * x**2) / (1 + b["b4"] * x + b["b5"] * x**2)


def _saturation(b: Params, x: Any) -> Any:
    return b["b1"] * (1 - jnp.exp(-b["b2"] * x))


_FORMULAS: dict[str, Callable[..., Any]] = {
    "BoxBOD": _saturation,
    "Chwirut2": lambda b, x: jnp.exp(-b["b1"] * x) / (b["b2"] + b["b3"] * x),
    "DanWood": lambda b, x: b["b1"] * x ** b["b2"],
    "ENSO": _cycles,
    "Gauss1": _gaussians,
    "Hahn1": _cubic_over_cubic,
    "Kirby2": _quadratic_over_quadratic,
    "Lanczos3": _three_exponentials,
    "MGH09": lambda b, x: b["b1"] * (x**2 + x * b["b2"]) / (x**2 + x * b["b3"] + b["b4"]),
    "MGH17": _two_exponentials,
    "Misra1a": _saturation,
    "Misra1b": lambda b, x: b["b1"] * (1 - (1 + b["b2"] * x / 2) ** (-2)),
    "Nelson": lambda b, x1, x2: b["b1"] - b["b2"] * x1 * jnp.exp(-b["b3"] * x2),
    "Rat42": lambda b, x: b["b1"] / (1 + jnp.exp(b["b2"] - b["b3"] * x)),
    "Roszman1": lambda b, x: b["b1"] - b["b2"] * x - jnp.arctan(b["b3"] / (x - b["b4"])) / jnp.pi,
    "Thurber": _cubic_over_cubic,
}
_LOG_RESPONSE = frozenset({"Nelson"})

NAMES: tuple[str, ...] = tuple(_FORMULAS)

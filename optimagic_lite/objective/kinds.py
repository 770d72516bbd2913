"""What a criterion may return, and what an algorithm gets of it.

A criterion is a number, contributions whose sum counts (likelihood), or residuals whose sum of
squares counts (least squares). Residuals serve all algorithms, contributions those for likelihoods
and scalars, a number those for scalars only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.exceptions import InvalidFunctionError
from optimagic_lite.mark import Structure
from optimagic_lite.space.leaves import is_frame
from optimagic_lite.space.trees import flatten_in_order

Array = NDArray[np.float64]

# what can be made of each structure
_SERVES: dict[Structure, tuple[Structure, ...]] = {
    "scalar": ("scalar",),
    "likelihood": ("likelihood", "scalar"),
    "least_squares": ("least_squares", "likelihood", "scalar"),
}

# under which estimagic's criteria returned them
_OLD_KEYS = {"contributions", "root_contributions"}

_CALLED = {
    "scalar": "one number",
    "likelihood": "contributions to a likelihood",
    "least_squares": "residuals",
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FunctionValue:
    """What a criterion may return instead of plain numbers.

    Args:
        value: A number, contributions or residuals, as the mark of the criterion says.
        info: What else is to be kept with the evaluation, in history and log: a dict of what
            JSON knows, and of arrays.

    Example:
        >>> import optimagic_lite as om
        >>> def fun(x):
        ...     return om.FunctionValue(x @ x, info={"largest": x.max()})
        >>> result = om.minimize(fun, np.ones(2), "scipy_bfgs")
        >>> result.history.info[0]
        {'largest': 1.0}
    """

    value: Any
    info: dict[str, Any] | None = None

    structure: ClassVar[Structure | None] = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ScalarFunctionValue(FunctionValue):
    """One number; see ``FunctionValue``."""

    structure: ClassVar[Structure | None] = "scalar"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LikelihoodFunctionValue(FunctionValue):
    """Contributions whose sum is the criterion; see ``FunctionValue``."""

    structure: ClassVar[Structure | None] = "likelihood"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LeastSquaresFunctionValue(FunctionValue):
    """Residuals whose sum of squares is the criterion; see ``FunctionValue``."""

    structure: ClassVar[Structure | None] = "least_squares"


def serves(structure: Structure, target: Structure) -> bool:
    """Tell whether a function of one structure can be turned into one of another."""
    return target in _SERVES[structure]


def described(structure: Structure) -> str:
    """Return what a function of a structure returns, in words."""
    return _CALLED[structure]


def structure_of_value(raw: Any, declared: Structure | None) -> Structure:
    """Return the structure of a return value.

    Args:
        raw: What the user's function returned.
        declared: What its mark says, or None.

    Raises:
        InvalidFunctionError: If the value says something else than the mark.
    """
    found = raw.structure if isinstance(raw, FunctionValue) else None
    if found is not None and declared is not None and found != declared:
        raise InvalidFunctionError(
            f"fun is marked as {declared}, and returned a {type(raw).__name__}. Change one of them."
        )
    return found or declared or "scalar"


def plain_value(raw: Any) -> Any:
    """Return a return value without what comes with it."""
    return raw.value if isinstance(raw, FunctionValue) else raw


def info_of(raw: Any) -> dict[str, Any] | None:
    """Return the info that comes with a return value."""
    return raw.info if isinstance(raw, FunctionValue) else None


@dataclass(frozen=True)
class Kind:
    """What a criterion returns, and what the algorithm takes of it.

    Args:
        structure: Of the user's function.
        target: Of what the algorithm takes: "scalar", or a vector of contributions or residuals.
    """

    structure: Structure = "scalar"
    target: Structure = "scalar"

    @property
    def is_vector(self) -> bool:
        """Whether the algorithm takes a vector."""
        return self.target != "scalar"

    @property
    def described(self) -> str:
        """What the algorithm gets, in words."""
        return described(self.target)

    @property
    def scalar(self) -> Kind:
        """The kind of the same criterion for an algorithm that takes a number."""
        return Kind(self.structure)

    # ---- values --------------------------------------------------------------------------

    def value(self, raw: Any) -> Any:
        """Return what the algorithm gets of a return value: a float, or shape (m,).

        Raises:
            InvalidFunctionError: If it is not what the mark of the function says.
        """
        structure_of_value(raw, self.structure)
        plain = plain_value(raw)
        if self.structure == "scalar":
            return scalar_value(plain)
        return self.value_of(self.entries(plain))

    def value_of(self, entries: Array) -> Any:
        """Return what the algorithm gets of contributions or residuals, shape (m,)."""
        if self.target == self.structure:
            return entries
        if self.target == "likelihood":
            return entries**2
        with np.errstate(over="ignore", invalid="ignore"):
            return float(_reduced(self.structure, entries))

    def traced(self, raw: Any) -> jax.Array:
        """Return what the algorithm gets of a traced return value.

        Raises:
            InvalidFunctionError: If it is not what the mark of the function says.
            TypeError: If it is made of whole numbers, which have no derivative.
        """
        structure_of_value(raw, self.structure)
        plain = plain_value(raw)
        if self.structure == "scalar":
            return _traced_floats(check_scalar(plain)).reshape(())
        leaves = self._leaves(plain)
        entries = jnp.concatenate([_traced_floats(leaf).reshape(-1) for leaf in leaves])
        if self.target == self.structure:
            return entries
        return entries**2 if self.target == "likelihood" else _reduced(self.structure, entries)

    def entries(self, plain: Any) -> Array:
        """Return contributions or residuals in any tree as a vector."""
        try:
            parts = [np.array(v, dtype=np.float64).reshape(-1) for v in self._leaves(plain)]
        except (TypeError, ValueError) as error:
            raise InvalidFunctionError(
                f"fun is marked as {self.structure} and must return {_CALLED[self.structure]} as "
                f"numbers, not {_short(plain)}."
            ) from error
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _leaves(self, plain: Any) -> list[Any]:
        """Return the arrays of contributions or residuals."""
        name = f"fun is marked as {self.structure} and must return {_CALLED[self.structure]}"
        if plain is None:
            raise InvalidFunctionError(f"{name}, but returned None. Is a return missing?")
        if isinstance(plain, (float, int, complex)) or getattr(plain, "ndim", 1) == 0:
            raise InvalidFunctionError(
                f"{name}, an array or a tree of arrays, but returned the single number "
                f"{_short(plain)}. Return what is added up, or mark fun with om.mark.scalar."
            )
        if isinstance(plain, Mapping) and "value" in plain and set(plain) & _OLD_KEYS:
            raise InvalidFunctionError(
                f"{name} alone, but returned a dict that holds the value too. Return what stands "
                f"in {' or '.join(sorted(map(repr, set(plain) & _OLD_KEYS)))}."
            )
        if isinstance(plain, Iterator):
            raise InvalidFunctionError(f"{name} in an array, not an iterator.")
        leaves, _ = flatten_in_order(plain)
        n_empty = 0 if hasattr(plain, "dtype") else _count_none(plain)
        if n_empty or not sum(int(np.size(leaf)) for leaf in leaves):
            what = "None among them" if n_empty else "nothing"
            raise InvalidFunctionError(f"{name}, but returned {what}: {_short(plain)}.")
        leaves = [_values_of_frame(leaf, name) if is_frame(leaf) else leaf for leaf in leaves]
        for leaf in leaves:
            _check_real(leaf, name)
        return leaves

    # ---- from vectors to the criterion -----------------------------------------------------

    def total(self, value: Any) -> float:
        """Return the criterion of what the algorithm got."""
        if self.target == "scalar":
            return float(value)
        with np.errstate(over="ignore", invalid="ignore"):
            return float(self.reduced(value))

    def reduced(self, value: Any) -> Any:
        """Return the criterion of what the algorithm got, also inside JAX."""
        return value if self.target == "scalar" else _reduced(self.target, value)

    def totals(self, values: Array) -> Array:
        """Return the criterion of many values: shape (k,) or (k, m) to shape (k,)."""
        if self.target == "scalar":
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray((values**2 if self.target == "least_squares" else values).sum(axis=1))

    def gradient(self, value: Any, derivative: Any) -> Any:
        """Return the gradient of the criterion from the derivative of what the algorithm got.

        Works inside JAX too.
        """
        if self.target == "scalar":
            return derivative
        return 2 * value @ derivative if self.target == "least_squares" else derivative.sum(axis=0)

    def spread(self, f: Any, gradient: Any, m: int, xp: Any = np) -> tuple[Any, Any]:
        """Return a value and a derivative of m entries that give a criterion and its gradient.

        Args:
            f: The criterion; positive for residuals.
            gradient: Its gradient, shape (n,).
            m: Number of entries.
            xp: NumPy, or jax.numpy inside JAX.
        """
        if self.target == "scalar":
            return f, gradient
        if self.target == "likelihood":
            return xp.full(m, f / m), xp.tile(gradient / m, (m, 1))
        root = xp.sqrt(f / m)
        return xp.full(m, root), xp.tile(gradient / (2 * m * root), (m, 1))

    def derivative(self, entries: Array | None, derivative: Array) -> Array:
        """Turn a derivative of what the function returns into one of what the algorithm takes.

        Args:
            entries: What the function returned, shape (m,); needed for residuals only.
            derivative: Of shape (n,) for one number, else (m, n).
        """
        if self.structure == self.target:
            return derivative
        if self.structure == "least_squares":
            assert entries is not None
            derivative = 2 * entries[:, None] * derivative
        return derivative if self.target == "likelihood" else derivative.sum(axis=0)


def _reduced(structure: Structure, entries: Any) -> Any:
    """Return the criterion of contributions or residuals."""
    return entries @ entries if structure == "least_squares" else entries.sum()


def _traced_floats(value: Any) -> jax.Array:
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(f"fun returns {jnp.result_type(value)} values")
    return jnp.asarray(value, dtype=jnp.float64)


def _count_none(tree: Any) -> int:
    """Return how often a tree holds None, which JAX takes for an empty branch."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda v: v is None or is_frame(v))
    return sum(leaf is None for leaf in leaves)


def _values_of_frame(frame: Any, name: str) -> Any:
    if "value" not in frame.columns:
        raise InvalidFunctionError(
            f"{name}, but returned a DataFrame without a column 'value'. Name the column so, or "
            "return frame.to_numpy()."
        )
    return frame["value"]


def _check_real(leaf: Any, name: str) -> None:
    if isinstance(leaf, np.ma.MaskedArray):
        raise InvalidFunctionError(
            f"{name}, but returned a masked array. Leave masked entries out, or fill them."
        )
    dtype = getattr(leaf, "dtype", None)
    if getattr(dtype, "kind", "f") not in "fiuVO":
        raise InvalidFunctionError(f"{name}, but returned values of dtype {dtype}.")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def scalar_value(raw: Any) -> float:
    """Return the return value of a scalar criterion as a float.

    Args:
        raw: What the user's function returned.

    Raises:
        InvalidFunctionError: If it is not one real number.
    """
    if isinstance(raw, float):
        return float(raw)
    if raw is None:
        raise InvalidFunctionError("fun returned None instead of a number. Is a return missing?")
    if isinstance(raw, (tuple, list, dict)):
        hint = (
            " If fun returns the value and its derivative, pass it as fun_and_jac=fun."
            if isinstance(raw, (tuple, list)) and len(raw) == 2
            else ""
        )
        raise InvalidFunctionError(
            f"fun returned a {type(raw).__name__} instead of one number.{hint}"
        )
    return float(check_scalar(np.asarray(raw)).reshape(()))


def check_scalar(value: Any) -> Any:
    """Return an array, also a traced one, if it is one real number.

    Raises:
        InvalidFunctionError: If it is not.
    """
    if not isinstance(value, (np.ndarray, jax.Array)):
        scalar_value(value)
    if value.size != 1:
        raise InvalidFunctionError(
            f"fun returned an array of shape {value.shape} instead of one number. Aggregate it, "
            "for example with .sum(), or, if it returns residuals or contributions to a "
            "likelihood, mark it with om.mark.least_squares or om.mark.likelihood."
        )
    if value.dtype.kind not in "fiuV":
        raise InvalidFunctionError(
            f"fun returned a value of dtype {value.dtype}, which is not a real number."
        )
    return value

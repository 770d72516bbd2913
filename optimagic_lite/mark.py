"""What the numbers mean that a function returns: decorators, and how a mark is found again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from optimagic_lite.exceptions import InvalidFunctionError

Structure = Literal["scalar", "likelihood", "least_squares"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_ATTRIBUTE = "_optimagic_lite_structure"

# functions may say it by the type that they return, too
_RETURN_TYPES: dict[str, Structure] = {
    "ScalarFunctionValue": "scalar",
    "LikelihoodFunctionValue": "likelihood",
    "LeastSquaresFunctionValue": "least_squares",
}


def scalar(func: _Function) -> _Function:
    """Mark a function that returns the criterion as one number; unmarked functions do.

    Args:
        func: A criterion, or a derivative of such a criterion.

    Returns:
        The same function with the mark; the one that was given stays as it was.

    Example:
        >>> import optimagic_lite as om
        >>> @om.mark.scalar
        ... def fun(x):
        ...     return x @ x
        >>> om.minimize(fun, np.ones(2), "scipy_bfgs").success
        True
    """
    return _marked(func, "scalar")


def likelihood(func: _Function) -> _Function:
    """Mark a function that returns contributions, whose sum is the criterion.

    Args:
        func: Returns an array, or any tree of arrays, with one number for each observation; or a
            derivative of such a function.

    Returns:
        The same function with the mark; the one that was given stays as it was.

    Example:
        >>> import optimagic_lite as om
        >>> y = np.array([1.0, 2.0, 4.0])
        >>> @om.mark.likelihood
        ... def log_likelihood(params):
        ...     return -0.5 * (y - params["mean"]) ** 2
        >>> result = om.maximize(log_likelihood, {"mean": 0.0}, "bhhh")
        >>> round(result.params["mean"], 4)
        2.3333
    """
    return _marked(func, "likelihood")


def least_squares(func: _Function) -> _Function:
    """Mark a function that returns residuals, whose sum of squares is the criterion.

    Args:
        func: Returns an array, or any tree of arrays; or a derivative of such a function.

    Returns:
        The same function with the mark; the one that was given stays as it was.

    Example:
        >>> import optimagic_lite as om
        >>> @om.mark.least_squares
        ... def residuals(x):
        ...     return x - np.array([1.0, 2.0])
        >>> om.minimize(residuals, np.zeros(2), "scipy_ls_trf").params.round(4)
        array([1., 2.])
    """
    return _marked(func, "least_squares")


def structure_of(func: Callable[..., Any]) -> Structure | None:
    """Return what a function says about the numbers that it returns; None if it says nothing."""
    while isinstance(func, functools.partial):
        func = func.func
    marked = getattr(func, _ATTRIBUTE, None)
    if marked is not None:
        return marked  # type: ignore[no-any-return]
    try:
        annotation = inspect.signature(func).return_annotation
    except (TypeError, ValueError):
        return None
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return _RETURN_TYPES.get(name.split(".")[-1])


def _marked(func: _Function, structure: Structure) -> _Function:
    if not callable(func):
        raise InvalidFunctionError(f"Only functions can be marked as {structure}, not {func!r}.")

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    setattr(wrapper, _ATTRIBUTE, structure)
    return wrapper  # type: ignore[return-value]

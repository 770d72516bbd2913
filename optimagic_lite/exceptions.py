"""The exceptions of the package, drawn as a tree.

OptimagicError
├── InvalidFunctionError          what the criterion returned, or its signature
├── UserFunctionRuntimeError      the criterion or a derivative raised, or its value is not finite
├── MissingInputError             a required argument was not given
├── AliasError                    two names of one argument were both given
├── InvalidKwargsError            fun_kwargs, jac_kwargs, ... do not fit the function
├── InvalidParamsError            the start parameters
├── InvalidConstraintError
├── InvalidBoundsError
│   └── IncompleteBoundsError     the algorithm needs finite bounds that are missing
├── InvalidScalingError
├── InvalidMultistartError
├── InvalidNumdiffOptionsError
├── InvalidAlgoInfoError          the declaration of an algorithm
├── InvalidAlgoOptionError        an unknown algorithm or option, or a value out of range
├── InvalidBenchmarkError         test problems, or what shall run on them
├── InvalidPlottingBackendError
├── NotInstalledError             a library that an algorithm needs is not installed
├── NotAvailableError             the combination asked for cannot be served
├── LogError                      the file is missing, foreign or unreadable
│   ├── LogMissingError           there is no log, or nothing was ever logged there
│   └── TableExistsError          the log file exists and if_database_exists="raise"
└── StopOptimizationError         internal: ends a run from inside an evaluation
"""

from __future__ import annotations

import difflib
import sys
import types
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


class OptimagicError(Exception):
    """Base class of all errors that the package raises on purpose."""


class InvalidFunctionError(OptimagicError):
    """The criterion or a derivative returned something that cannot be used.

    Attributes:
        params: The parameters at which the criterion did so in the middle of a run, or None.
        partial_result: The ``OptimizeResult`` up to that point, or None before the start.
    """

    params: Any = None
    partial_result: Any = None


class UserFunctionRuntimeError(OptimagicError):
    """A user function raised, or returned a value that is not finite.

    Attributes:
        params: The parameters at which it happened, in the user's structure.
        partial_result: The ``OptimizeResult`` up to that point, or None before the start.
    """

    params: Any = None
    partial_result: Any = None


class MissingInputError(OptimagicError):
    """A required argument was not given."""


class AliasError(OptimagicError):
    """Two names of the same argument were both given."""


class InvalidKwargsError(OptimagicError):
    """Keyword arguments do not fit the function that they are meant for."""


class InvalidParamsError(OptimagicError):
    """The start parameters cannot be optimised."""


class InvalidConstraintError(OptimagicError):
    """A constraint cannot be understood or fulfilled."""


class InvalidBoundsError(OptimagicError):
    """Bounds are crossed, not numbers, misaligned with params, or violated by the start."""


class IncompleteBoundsError(InvalidBoundsError):
    """The algorithm needs finite bounds on all parameters and some are missing."""


class InvalidScalingError(OptimagicError):
    """Scaling options are not valid."""


class InvalidMultistartError(OptimagicError):
    """Multistart options are not valid."""


class InvalidNumdiffOptionsError(OptimagicError):
    """Options for numerical derivatives are not valid."""


class InvalidAlgoInfoError(OptimagicError):
    """The declaration of an algorithm is not valid."""


class InvalidAlgoOptionError(OptimagicError):
    """An algorithm or option is not known, or an option has an invalid value."""


class InvalidBenchmarkError(OptimagicError):
    """Test problems, or what a benchmark shall run, are not valid."""


class InvalidPlottingBackendError(OptimagicError):
    """The plotting backend is not known."""


class NotInstalledError(OptimagicError):
    """A library that is needed for the request is not installed."""


class NotAvailableError(OptimagicError):
    """The request is understood but cannot be served in this combination."""


class LogError(OptimagicError):
    """A log file is missing, is no log, or cannot be read."""


class LogMissingError(LogError):
    """There is no log at that place, or no run was ever logged there."""


class TableExistsError(LogError):
    """The log file exists already and ``if_database_exists="raise"``."""


class StopOptimizationError(OptimagicError):
    """Internal signal that ends a run from inside an evaluation."""


def did_you_mean(name: object, candidates: Iterable[str], n: int = 3) -> str:
    """Return a sentence with the candidates that look most like a name.

    Args:
        name: What the user wrote.
        candidates: The valid names.
        n: The largest number of proposals.

    Returns:
        ``" Did you mean 'a' or 'b'?"`` with a leading blank, or ``""`` if nothing is close.

    Example:
        >>> did_you_mean("scipy_lbfgs", ["scipy_lbfgsb", "nlopt_bobyqa"])
        " Did you mean 'scipy_lbfgsb'?"
    """
    pool = {str(c).lower(): str(c) for c in candidates}
    close = difflib.get_close_matches(str(name).lower(), pool, n=n, cutoff=0.6)
    if not close:
        return ""
    return f" Did you mean {' or '.join(repr(pool[c]) for c in close)}?"


def listed(names: Sequence[str], limit: int = 10) -> str:
    """Return names with commas between them, the first few if there are many.

    Args:
        names: What to list.
        limit: The largest number that is shown.

    Example:
        >>> listed(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and point at the line of the user that led here, however deep the call is."""
    package = str(Path(__file__).parent)
    files = []
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    # solvers call back from other packages, so the outermost frame of this one counts
    levels = [i for i, file in enumerate(files) if file.startswith(package)]
    warnings.warn(message, category, stacklevel=levels[-1] + 3)

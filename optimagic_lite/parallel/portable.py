"""Sends any value to another process: closures travel, and double precision arrives."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax

from optimagic_lite.exceptions import NotAvailableError

# Functions that a worker process keeps. Two: the criterion and one that takes turns with it.
N_KEPT = 2


def pack(value: Any) -> bytes:
    """Pickle a value; with cloudpickle, closures, lambdas and local classes are sent along."""
    try:
        import cloudpickle
    except ImportError:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    packed: bytes = cloudpickle.dumps(value)
    return packed


def unpack(packed: bytes) -> Any:
    """Return the value that was packed, arrays of JAX with the precision that they had."""
    # JAX makes the arrays anew, and outside of this context in single precision
    with jax.enable_x64(True):
        return pickle.loads(packed)


def pack_to_send(value: Any, what: str) -> bytes:
    """Pack a value, or say what cannot be sent.

    Raises:
        NotAvailableError: If it cannot be pickled.
    """
    try:
        return pack(value)
    except Exception as error:
        raise NotAvailableError(
            f"{what} cannot be sent to another process: {error}. batch_evaluator='threading' "
            "sends nothing."
        ) from error


class Portable:
    """A value that plain pickle takes to another process, whatever it is.

    It is packed when it is pickled; in one process nothing is done or copied.

    Args:
        value: The value.

    Example:
        >>> import pickle
        >>> pickle.loads(pickle.dumps(Portable(lambda x: x + 1))).value(2)
        3
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _portable_of, (pack(self.value),)


def _portable_of(packed: bytes) -> Portable:
    return Portable(unpack(packed))


@dataclass(frozen=True)
class PackedFunction:
    """A function as bytes, which are the same for all tasks of a batch.

    Args:
        packed: The bytes.
        digest: Their fingerprint.
    """

    packed: bytes = field(repr=False)
    digest: bytes

    @classmethod
    def of(cls, function: Callable[..., Any]) -> PackedFunction:
        """Pack a function."""
        packed = pack_to_send(function, "func")
        return cls(packed, hashlib.sha256(packed).digest())


class KeptFunctions:
    """The functions that came last to a process, each unpacked once.

    What a function compiles is kept per function object. A second copy would compile it again.
    """

    def __init__(self) -> None:
        self._functions: dict[bytes, Any] = {}
        # functions that are unpacked may hold functions that are unpacked
        self._lock = threading.RLock()

    def get(self, digest: bytes, packed: bytes | Callable[[], bytes] | None = None) -> Any:
        """Return a function; one that cannot be unpacked raises when it is called.

        Args:
            digest: Its fingerprint.
            packed: Its bytes, or what gets them; may be None if the function is kept.

        Raises:
            LookupError: If it is not kept and there are no bytes.
        """
        with self._lock:
            if digest not in self._functions:
                if packed is None:
                    raise LookupError("The function is not here.")
                function = _function_of(packed if isinstance(packed, bytes) else packed())
                # the oldest goes: who sends functions knows without asking which are still here
                while len(self._functions) >= N_KEPT:
                    del self._functions[next(iter(self._functions))]
                self._functions[digest] = function
            return self._functions[digest]


def _function_of(packed: bytes) -> Any:
    try:
        return unpack(packed)
    except Exception as error:
        return partial(_raise, error)


def _raise(error: Exception, *_: Any) -> None:
    raise error


KEPT = KeptFunctions()

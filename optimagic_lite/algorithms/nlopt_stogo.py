"""StoGO of NLopt (Johnson 2007, https://nlopt.readthedocs.io), in a process of its own.

Its code in C++ ends the process in which it runs where a local search fails, goes on after
exceptions and never converges. A child that asks for each value through pipes can die or be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optimagic_lite.algorithms.base import (
    STOPPING_MAXFUN_GLOBAL,
    Algorithm,
    NonNegativeInt,
    Outcome,
    PositiveInt,
    algorithm,
)

if TYPE_CHECKING:
    from optimagic_lite.evaluator import Evaluator

Array = NDArray[np.float64]

_SCRIPT = Path(__file__).with_name("nlopt_child.py")

# NLopt's code of failures
_FAILURE = -1
_ADVICE = (
    "It does so where the criterion jumps or gradients are wrong. Start a local algorithm from "
    "result.params, or choose another global one, for example 'nlopt_crs2_lm'."
)


@algorithm("nlopt_stogo", is_global=True, needs_jac=True, needs_bounds=True, supports_bounds=True,
           counts_iterations=False)  # fmt: skip
class NloptStoGO(Algorithm):
    """Branch and bound with local searches (Zertchaninov and Madsen 1998, IMM-REP-1998-04).

    Divides the box and searches in the parts by gradients; see also Gudmundsson (1998). It ends
    only by a limit, has no convergence criteria, and does not use the start, which is recorded.
    Local searches end at the sides of the box: minima there are only approached, and slowly.
    It runs in a process of its own: 0.1 seconds to begin with, 10 microseconds an evaluation.

    Args:
        random_search: Draw the points in each part at random.
        seed: Of the random numbers: the same number gives the same run, None each time another.
    """

    stopping_maxfun: PositiveInt = STOPPING_MAXFUN_GLOBAL
    random_search: bool = False
    seed: NonNegativeInt | None = 0

    def solve(self, evaluator: Evaluator, x0: Array) -> Outcome:
        """Minimize with NLopt."""
        task = {
            "path": sys.path,
            "constant": "GD_STOGO_RAND" if self.random_search else "GD_STOGO",
            "seed": self.seed,
            "lower": evaluator.space.lower.tolist(),
            "upper": evaluator.space.upper.tolist(),
        }
        with tempfile.TemporaryFile() as printed:
            with _process(task, printed) as (points, answers):
                while len(point := points.read(x0.nbytes)) == x0.nbytes:
                    answers.write(_answer(evaluator, np.frombuffer(point).copy()))
                    answers.flush()
            printed.seek(0)
            lines = printed.read().decode(errors="replace").split("\n")
        reason = next((line for line in reversed(lines) if line.strip()), "its process ended")
        return Outcome(False, f"StoGO gave up: {reason.strip().rstrip('.')}. {_ADVICE}", _FAILURE)


def _answer(evaluator: Evaluator, x: Array) -> bytes:
    """Return value and gradient at x."""
    n_failed = evaluator.n_failed
    value, gradient = evaluator.fun_and_jac(x)
    if evaluator.n_failed > n_failed:
        # penalties rise with the distance from the start, which makes most local searches fail
        gradient = np.zeros_like(x)
    return np.append(value, gradient).tobytes()


@contextlib.contextmanager
def _process(task: dict[str, Any], printed: IO[bytes]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Start a process with a task, give its output and input, and end it.

    It is a new interpreter, because threads, which JAX has, do not survive a fork.
    """
    # without -P, its "import nlopt" would find the module of that name in its folder
    command = [sys.executable, "-P", str(_SCRIPT)]
    pipe = subprocess.PIPE
    # starting the threads of NumPy's linear algebra, of which it uses nothing, takes a while
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=printed, env=env) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(task, default=str).encode() + b"\n")
            child.stdin.flush()
            yield child.stdout, child.stdin
        finally:
            child.kill()

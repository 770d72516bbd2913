"""How often multistart finds the global optimum and what that costs, beside the peer.

Run:    python benchmarks/multistart.py                          this package
        python benchmarks/multistart.py --peer PATH/TO/python    the peer too, in an interpreter
                                                                 that has optimagic

The functions are those of the literature (Surjanovic and Bingham, Virtual Library of Simulation
Experiments), shifted, so that neither the middle of the box nor whole numbers are special. Both
sides get the same options, the same starts, exact gradients by JAX and L-BFGS-B. Evaluations are
calls of the criterion, alone or with its gradient, those of the exploration included, counted by
the function itself for the peer. A run has found the optimum if its value is within 1e-4 of it.

The mixture is the likelihood of 300 draws from three normal distributions in eight parameters;
its best value is the best of all runs of both sides.

Wall time of an exploration: 100,000 points, then one iteration of one local optimisation; median of
the repetitions, the two sides alternating.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

N_SEEDS = 20
DIMENSIONS = (5, 10, 20)
REPETITIONS = 5
N_EXPLORED = 100_000
TOLERANCE = 1e-4


# ---- problems ------------------------------------------------------------------------------------


def ackley(x: Any) -> Any:
    # the root has no derivative at the minimum itself
    root = jnp.sqrt(jnp.mean(x**2) + 1e-30)
    return 20 + math.e - 20 * jnp.exp(-0.2 * root) - jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * x)))


def rastrigin(x: Any) -> Any:
    return jnp.sum(x**2 + 10 * (1 - jnp.cos(2 * jnp.pi * x)))


def griewank(x: Any) -> Any:
    return jnp.sum(x**2) / 4000 - jnp.prod(jnp.cos(x / jnp.sqrt(1.0 + jnp.arange(len(x))))) + 1


def levy(x: Any) -> Any:
    w = 1 + x / 4
    middle = jnp.sum((w[:-1] - 1) ** 2 * (1 + 10 * jnp.sin(jnp.pi * w[:-1] + 1) ** 2))
    last = (w[-1] - 1) ** 2 * (1 + jnp.sin(2 * jnp.pi * w[-1]) ** 2)
    return jnp.sin(jnp.pi * w[0]) ** 2 + middle + last


def schwefel(x: Any) -> Any:
    z = x + 420.968746
    return 418.9828872724338 * len(x) - jnp.sum(z * jnp.sin(jnp.sqrt(jnp.abs(z))))


def mixture(x: Any, y: Any) -> Any:
    share = jax.nn.softmax(jnp.concatenate([x[:2], jnp.zeros(1)]))
    z = (y[:, None] - x[2:5]) / jnp.exp(x[5:])
    density = jnp.exp(-0.5 * z**2) / (jnp.exp(x[5:]) * math.sqrt(2 * math.pi))
    return -jnp.mean(jnp.log(density @ share + 1e-300))


@dataclass(frozen=True)
class Case:
    """A function with its minimum at ``shift`` in the middle part of a box around zero."""

    label: str
    n: int
    fun: Callable[[Any], Any]
    lower: np.ndarray
    upper: np.ndarray
    minimum: float | None

    def start(self, seed: int) -> np.ndarray:
        rng = np.random.default_rng(1000 + seed)
        return rng.uniform(self.lower, self.upper)


HALF_WIDTHS = {ackley: 32.768, rastrigin: 5.12, griewank: 600.0, levy: 10.0, schwefel: None}


def make_cases() -> list[Case]:
    cases = []
    for function, width in HALF_WIDTHS.items():
        for n in DIMENSIONS:
            rng = np.random.default_rng(n)
            shift = np.zeros(n) if width is None else width * rng.uniform(-0.4, 0.4, n)
            # Schwefel's minimum lies close to a corner of its box by itself
            low, high = (-920.968746, 79.031254) if width is None else (-width, width)
            box = np.full(n, low), np.full(n, high)
            cases.append(Case(function.__name__, n, shifted(function, shift), *box, 0.0))
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.normal(m, s, 100) for m, s in ((-3, 0.5), (0, 1.0), (4, 0.7))])
    low = np.array([-3.0] * 2 + [-10.0] * 3 + [-2.3] * 3)
    high = np.array([3.0] * 2 + [10.0] * 3 + [1.6] * 3)
    cases.append(Case("mixture", 8, lambda x: mixture(x, y), low, high, None))
    return cases


def shifted(function: Callable[[Any], Any], shift: np.ndarray) -> Callable[[Any], Any]:
    return lambda x: function(x - shift)


# ---- sides ---------------------------------------------------------------------------------------


def options(case: Case, seed: int, discoveries: int) -> dict[str, Any]:
    return {
        "n_samples": 100 * case.n,
        "stopping_maxopt": 10 * case.n,
        "batch_size": 1,
        "convergence_max_discoveries": discoveries,
        "seed": seed,
    }


def ours(case: Case, seed: int, multistart: dict[str, Any], algo_options: dict[str, Any]) -> Any:
    import optimagic_lite as om

    result = om.minimize(
        case.fun, case.start(seed), "scipy_lbfgsb", algo_options=algo_options,
        bounds=om.Bounds(lower=case.lower, upper=case.upper), multistart=multistart,
    )  # fmt: skip
    return result.fun, result.n_fun_evals


def peer(case: Case, seed: int, multistart: dict[str, Any], algo_options: dict[str, Any]) -> Any:
    import optimagic as om

    n_calls = 0
    value, gradient = COMPILED.setdefault(
        (case.label, case.n), (jax.jit(case.fun), jax.jit(jax.value_and_grad(case.fun)))
    )

    def fun(x: np.ndarray) -> float:
        nonlocal n_calls
        n_calls += 1
        return float(value(x))

    def fun_and_jac(x: np.ndarray) -> Any:
        nonlocal n_calls
        n_calls += 1
        f, g = gradient(x)
        return float(f), np.asarray(g)

    result = om.minimize(
        fun, case.start(seed), algorithm="scipy_lbfgsb", fun_and_jac=fun_and_jac,
        algo_options=algo_options, bounds=om.Bounds(lower=case.lower, upper=case.upper),
        multistart=om.MultistartOptions(**multistart),
    )  # fmt: skip
    return float(result.fun), n_calls


COMPILED: dict[Any, Any] = {}
SIDES = {"ours": ours, "peer": peer}


def run_seeds(side: str, discoveries: int) -> dict[str, list[Any]]:
    """Return (value, evaluations, seconds) of all seeds by case."""
    out = {}
    for case in make_cases():
        runs = []
        for seed in range(N_SEEDS):
            clock = time.perf_counter()
            found = SIDES[side](case, seed, options(case, seed, discoveries), {})
            runs.append([*found, time.perf_counter() - clock])
        out[f"{case.label} {case.n}"] = runs
        print(side, discoveries, case.label, case.n, file=sys.stderr, flush=True)
    return out


def explore(side: str) -> float:
    """Return the seconds of an exploration, compilation excluded."""
    case = next(c for c in make_cases() if (c.label, c.n) == ("levy", 10))
    one = {"stopping_maxopt": 1, "seed": 0}
    limits = {"stopping_maxiter": 1}
    # of the same size, so that nothing is compiled when it counts
    warm = N_EXPLORED if side == "ours" else 10
    SIDES[side](case, 0, {"n_samples": warm, **one}, limits)
    clock = time.perf_counter()
    SIDES[side](case, 0, {"n_samples": N_EXPLORED, **one}, limits)
    return time.perf_counter() - clock


# ---- tables --------------------------------------------------------------------------------------


def in_a_process(python: str, *arguments: str) -> Any:
    done = subprocess.run(
        [python, __file__, "--measure", *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def report(by_side: dict[str, dict[str, list[Any]]]) -> None:
    sides = list(by_side)
    head = "".join(f" | {side} found | evaluations | seconds" for side in sides)
    print(f"| function, parameters{head} |\n|---{'|---|---|---' * len(sides)}|")
    minima = {f"{case.label} {case.n}": case.minimum for case in make_cases()}
    for label, minimum in minima.items():
        best = min(run[0] for side in sides for run in by_side[side][label])
        target = best if minimum is None else minimum
        cells = ""
        for side in sides:
            values, evaluations, seconds = zip(*by_side[side][label], strict=True)
            n_found = sum(value < target + TOLERANCE for value in values)
            median = statistics.median(evaluations)
            cells += f" | {n_found} of {N_SEEDS} | {median:,.0f} | {statistics.median(seconds):.2f}"
        print(f"| {label}{cells} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", help="Python interpreter with optimagic")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        what, *rest = arguments.measure
        jax.config.update("jax_enable_x64", True)
        found = explore(*rest) if what == "explore" else run_seeds(rest[0], int(rest[1]))
        print(json.dumps(found))
        return
    pythons = {"ours": sys.executable} | ({"peer": arguments.peer} if arguments.peer else {})
    for discoveries in (2, 10):
        print(f"\nconvergence_max_discoveries={discoveries}; medians of {N_SEEDS} seeds\n")
        report(
            {
                side: in_a_process(python, "seeds", side, str(discoveries))
                for side, python in pythons.items()
            }
        )
    seconds: dict[str, list[float]] = {side: [] for side in pythons}
    for _ in range(REPETITIONS):
        for side, python in pythons.items():
            seconds[side].append(in_a_process(python, "explore", side))
    print(f"\nexploration of {N_EXPLORED:,} points, seconds")
    for side, values in seconds.items():
        print(f"{side}: {statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})")


if __name__ == "__main__":
    main()

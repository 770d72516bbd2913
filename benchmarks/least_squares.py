"""What least squares cost beside bare SciPy, and Jacobians through constraints beside plain ones.

Run:    python benchmarks/least_squares.py

Solver: a chain of residuals is minimized by SciPy's Levenberg-Marquardt and trust region, bare with
hand-jitted residuals and Jacobian, and through ``minimize``. Microseconds an evaluation of
residuals (with the Jacobian where the solver wants one) are the difference between a run of many
and one of few evaluations, divided by the difference of their numbers.

Jacobian: as many residuals as parameters. Constrained: every fifth parameter is fixed, as many are
pairs of equal ones, and fifty are shares; the times are those of one compiled call. If the cost is
linear in the entries of the Jacobian, nanoseconds an entry do not grow.

Sides alternate; medians of the repetitions, ratios paired within a repetition.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

import optimagic_lite as om
from optimagic_lite.algorithms.base import REGISTRY
from optimagic_lite.mark import least_squares
from optimagic_lite.objective.exact import ExactVectors
from optimagic_lite.objective.kinds import Kind
from optimagic_lite.objective.tracing import trace
from optimagic_lite.space.make import make_space

METHODS = {"scipy_ls_lm": "lm", "scipy_ls_trf": "trf"}
LIMITS = (5, 40)
TOLERANCES = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
OURS = {"convergence_ftol_rel": 1e-15, "convergence_xtol_rel": 1e-15, "convergence_gtol_rel": 1e-15}


def chain(x: Any) -> Any:
    return jnp.concatenate([100 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    clock = time.perf_counter()
    out = call()
    return time.perf_counter() - clock, out


def compare_solver(name: str, n: int, repetitions: int) -> None:
    start = np.full(n, 0.5)
    residuals, jacobian = jax.jit(chain), jax.jit(jax.jacfwd(chain))
    marked = least_squares(chain)

    def bare(limit: int) -> int:
        with jax.enable_x64(True):
            return int(
                optimize.least_squares(
                    lambda x: np.asarray(residuals(x)),
                    start,
                    lambda x: np.asarray(jacobian(x)),
                    method=METHODS[name],
                    x_scale="jac",
                    max_nfev=limit,
                    **TOLERANCES,
                ).nfev
            )

    def ours(limit: int) -> int:
        algorithm = REGISTRY[name](stopping_maxfun=limit, **OURS)
        return om.minimize(marked, start, algorithm).n_fun_evals

    def per_evaluation(run: Callable[[int], int]) -> float:
        (few, n_few), (many, n_many) = (seconds(lambda k=k: run(k)) for k in LIMITS)
        return (many - few) / (n_many - n_few)

    per_evaluation(bare), per_evaluation(ours)
    pairs = [(per_evaluation(bare), per_evaluation(ours)) for _ in range(repetitions)]
    ratio = statistics.median(b / a for a, b in pairs)
    us = [1e6 * statistics.median(column) for column in zip(*pairs, strict=True)]
    print(f"{name:<14} {n:>6} parameters  {us[0]:>10,.0f}  {us[1]:>10,.0f}  {ratio:6.2f}")


def compare_jacobian(n: int, repetitions: int) -> None:
    start = np.linspace(0.1, 1.0, n)
    start[-50:] = 0.02
    fifth = n // 5
    constraints = [
        om.FixedConstraint(lambda x: x[:fifth]),
        om.PairwiseEqualityConstraint(
            selectors=[lambda x: x[fifth : fifth + fifth // 2], lambda x: x[-50 - fifth // 2 : -50]]
        ),
        om.ProbabilityConstraint(lambda x: x[-50:]),
    ]
    start[-50 - fifth // 2 : -50] = start[fifth : fifth + fifth // 2]

    def residuals(x: Any) -> Any:
        return jnp.sin(x) * jnp.roll(x, 1)

    functions = []
    with jax.enable_x64(True):
        for c in ([], constraints):
            space = make_space(start, constraints=c)
            as_array = Kind("least_squares", "least_squares").traced
            exact = ExactVectors(
                trace(residuals, {}, space, 1.0, check_purity=False, as_array=as_array)
            )
            exact.jacobian(space.x0)
            functions.append((exact.jacobian, space.x0))
        pairs = [
            tuple(seconds(lambda f=f, x=x: f(x))[0] for f, x in functions)
            for _ in range(repetitions)
        ]
    entries = [n * len(x) for _, x in functions]
    ns = [1e9 * statistics.median(p[i] for p in pairs) / entries[i] for i in (0, 1)]
    ratio = statistics.median(b / a for a, b in pairs)
    label = f"Jacobian {n:>6} x {len(functions[1][1])}"
    print(f"{label:<33}  {ns[0]:>10.2f}  {ns[1]:>10.2f}  {ratio:6.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    repetitions = parser.parse_args().repetitions
    print("microseconds an evaluation             bare       minimize   ratio")
    for name in METHODS:
        for n in (10, 100, 300):
            compare_solver(name, n, repetitions)
    print("\nnanoseconds an entry                  plain    constrained   ratio of times")
    for n in (200, 1_000, 3_000):
        compare_jacobian(n, repetitions)


if __name__ == "__main__":
    main()

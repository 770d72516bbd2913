"""Many solves side by side, beside a Python loop over SciPy and vmapped optimistix.

Run:    python benchmarks/batch.py                    all cases
        python benchmarks/batch.py --cases logit      those whose names contain a word
        python benchmarks/batch.py --synchronous      JAX's asynchronous dispatch off

Cases: logit fits (5 parameters, 200 observations); Rosenbrock-10 from many starts, free and in a
box whose upper bound binds; fits of an exponential decay by least squares, its floor not below
zero; smoothing of series of 1,000 non-negative entries, jumps allowed. A solve is correct if the
largest entry of its projected gradient, by JAX in double precision, is below 1e-6 at the end; all
sides are told so, and no other criterion ends a run. optimistix has no tolerance for the gradient:
it gets the largest power of ten with which about as many solves are correct, and in boxes it
searches through a sigmoid; at bounds that bind, no tolerance makes more than a tenth of them
correct, and with a lower bound alone it is left out.

SciPy's L-BFGS-B runs in a Python loop, with value and gradient from JAX (one compiled call that
returns one array) or from NumPy (written by hand). Asynchronous dispatch, JAX's default, makes the
former slower, the more so the larger the arrays are. The sides alternate; seconds are medians of
the repetitions; ratios to the loop with JAX are medians of those within a repetition; the first
call less the median is what compilation takes. Evaluations are those of value and gradient (and
Hessian or Jacobian, where a solver takes them) of one solve: the mean and the largest number.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

# threads of its own wait by spinning, which on busy cores makes the loops 10 times slower
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from scipy import optimize

import optimagic_lite as om
from optimagic_lite.algorithms.base import REGISTRY

GTOL, ANGLE = 1e-6, 1e-8
MAXFUN = 5_000
N_SOLVES, N_LARGE = 1_000, 100
ALGORITHMS = ("jax_bfgs", "jax_lbfgs", "jax_newton", "jax_lm")
# their matrices of the largest case would fill the memory
DENSE = ("jax_bfgs", "jax_newton")
LARGE = 500


# ---- cases ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Many problems of one kind.

    Args:
        label: Its name.
        fun: The criterion of x, shape (n,), and the data of one problem.
        by_hand: Value and gradient in NumPy.
        starts: Shape (n_problems, n).
        data: Arrays by the names of arguments; their first axis is the problem.
        lower: Bounds, shape (n,).
        upper: The same.
        residuals: Their sum of squares is the criterion; for solvers that take them.
        optimistix: Its tolerance, relative and absolute.
    """

    label: str
    fun: Callable[..., Any]
    by_hand: Callable[..., Any]
    starts: np.ndarray
    data: dict[str, np.ndarray]
    lower: np.ndarray
    upper: np.ndarray
    residuals: Callable[..., Any] | None = None
    optimistix: float = 1e-8

    @property
    def n(self) -> int:
        return self.starts.shape[1]


def logit(beta: Any, x: Any, y: Any) -> Any:
    z = x @ beta
    # a third of the time of logaddexp, which takes care of infinite arguments
    return jnp.sum(jnp.maximum(z, 0) + jnp.log1p(jnp.exp(-jnp.abs(z))) - y * z)


def logit_by_hand(beta: Any, x: Any, y: Any) -> Any:
    z = x @ beta
    return np.sum(np.logaddexp(0.0, z) - y * z), x.T @ (1 / (1 + np.exp(-z)) - y)


def rosenbrock(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


ROSENBROCK_BY_HAND = lambda x: (optimize.rosen(x), optimize.rosen_der(x))  # noqa: E731
TIMES = np.linspace(0, 4, 50)


def decay_residuals(x: Any, y: Any) -> Any:
    height, rate, floor = x
    return height * jnp.exp(-rate * TIMES) + floor - y


def decay(x: Any, y: Any) -> Any:
    return jnp.sum(decay_residuals(x, y) ** 2)


def decay_by_hand(x: Any, y: Any) -> Any:
    height, rate, floor = x
    falling = np.exp(-rate * TIMES)
    r = height * falling + floor - y
    return r @ r, 2 * np.array([r @ falling, -height * (r @ (TIMES * falling)), r.sum()])


PENALTY, KNEE = 0.5, 0.05


def smoothing(x: Any, y: Any) -> Any:
    jumps = jnp.sqrt(KNEE**2 + (x[1:] - x[:-1]) ** 2)
    return 0.5 * jnp.sum((x - y) ** 2) + PENALTY * jnp.sum(jumps)


def smoothing_by_hand(x: Any, y: Any) -> Any:
    jumps = np.sqrt(KNEE**2 + np.diff(x) ** 2)
    pull = PENALTY * np.diff(x) / jumps
    g = x - y
    g[1:] += pull
    g[:-1] -= pull
    return 0.5 * np.sum((x - y) ** 2) + PENALTY * np.sum(jumps), g


def make_cases() -> list[Case]:
    rng = np.random.default_rng(0)

    def box(n: int, low: float = -np.inf, high: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
        return np.full(n, low), np.full(n, high)

    x = rng.normal(size=(N_SOLVES, 200, 5))
    z = np.einsum("ijk,ik->ij", x, rng.normal(size=(N_SOLVES, 5)))
    y = (rng.uniform(size=z.shape) < 1 / (1 + np.exp(-z))).astype(float)
    logits = Case(
        "logit, 5", logit, logit_by_hand, np.zeros((N_SOLVES, 5)), {"x": x, "y": y}, *box(5)
    )

    starts = rng.uniform(-2, 2, (N_SOLVES, 10))
    valley = Case(
        "Rosenbrock-10", rosenbrock, ROSENBROCK_BY_HAND, starts, {}, *box(10), optimistix=1e-9
    )
    in_box = Case(
        "Rosenbrock-10 in a box", rosenbrock, ROSENBROCK_BY_HAND, np.minimum(starts, 0.8), {},
        *box(10, -2.0, 0.8),
    )  # fmt: skip

    height, rate = rng.uniform(1, 5, (N_SOLVES, 1)), rng.uniform(0.3, 3, (N_SOLVES, 1))
    y = height * np.exp(-rate * TIMES) + 0.1 * rng.normal(size=(N_SOLVES, 50))
    decays = Case(
        "decay, 3, floor >= 0", decay, decay_by_hand, np.tile([1.0, 1.0, 0.5], (N_SOLVES, 1)),
        {"y": y}, np.zeros(3), np.full(3, 20.0), decay_residuals,
    )  # fmt: skip

    levels = np.repeat(rng.uniform(-0.5, 2, (N_LARGE, 20)), 50, axis=1)
    y = levels + 0.3 * rng.normal(size=levels.shape)
    series = Case(
        "smoothing, 1,000, x >= 0", smoothing, smoothing_by_hand, np.ones_like(y), {"y": y},
        *box(1000, 0.0),
    )  # fmt: skip
    return [logits, valley, in_box, decays, series]


# ---- sides: functions that return points and numbers of evaluations ------------------------------


def side_by_side(name: str, case: Case) -> Callable[[], Any]:
    is_for_residuals = name == "jax_lm"
    criterion = om.mark.least_squares(case.residuals) if is_for_residuals else case.fun
    call = partial(
        om.minimize_batch, criterion, algorithm=name, batch={"params": case.starts, **case.data},
        bounds=om.Bounds(lower=case.lower, upper=case.upper), algo_options=options(name),
    )  # fmt: skip

    def solve() -> Any:
        result = call()
        return result.flat_params, result.n_fun_evals

    return solve


def vmapped(name: str, case: Case) -> Callable[[], Any]:
    bounds = om.Bounds(lower=case.lower, upper=case.upper)
    solver = om.argmin(case.fun, name, bounds=bounds, algo_options=options(name))

    @jax.jit
    @jax.vmap
    def solve(x0: Any, data: Any) -> Any:
        found = solver.run(x0, **data)
        return found.params, found.n_fun_evals

    return partial(solve, case.starts, case.data)


def options(name: str) -> dict[str, float]:
    names = [field.name for field in fields(REGISTRY[name])]
    off = {k: 0.0 for k in names if k.startswith("convergence")}
    # the one for residuals measures angles; this one is small enough for the tolerance here
    gtol = {"convergence_gtol_abs": GTOL, "convergence_gtol_rel": ANGLE}
    return off | {k: v for k, v in gtol.items() if k in names} | {"stopping_maxfun": MAXFUN}


def with_optimistix(case: Case) -> Callable[[], Any]:
    solver = optx.BFGS(rtol=case.optimistix, atol=case.optimistix)
    width = case.upper - case.lower
    is_box = np.isfinite(width).all()

    def inward(z: Any) -> Any:
        return case.lower + width * jax.nn.sigmoid(z) if is_box else z

    def outward(x: Any) -> Any:
        share = jnp.clip((x - case.lower) / width, 1e-3, 1 - 1e-3)
        return jnp.log(share / (1 - share)) if is_box else x

    @jax.jit
    @jax.vmap
    def solve(x0: Any, data: Any) -> Any:
        found = optx.minimise(
            lambda z, data: case.fun(inward(z), **data), solver, outward(x0), data,
            max_steps=MAXFUN, throw=False,
        )  # fmt: skip
        return inward(found.value), found.stats["num_steps"]

    return partial(solve, case.starts, case.data)


def with_scipy(case: Case, *, by_hand: bool) -> Callable[[], Any]:
    @jax.jit
    def packed(x: Any, *data: Any) -> Any:
        f, g = jax.value_and_grad(case.fun)(x, *data)
        return jnp.concatenate([f[None], g])

    def unpacked(x: np.ndarray, *data: np.ndarray) -> Any:
        found = np.asarray(packed(x, *data))
        return found[0], found[1:]

    is_free = not (np.isfinite(case.lower).any() or np.isfinite(case.upper).any())
    bounds = None if is_free else optimize.Bounds(case.lower, case.upper)
    fun = case.by_hand if by_hand else unpacked

    def loop() -> Any:
        found = [
            optimize.minimize(
                fun, x0, tuple(data), "L-BFGS-B", jac=True, bounds=bounds,
                options={"gtol": GTOL, "ftol": 0.0, "maxfun": MAXFUN, "maxiter": MAXFUN},
            )
            for x0, *data in zip(case.starts, *case.data.values(), strict=True)
        ]  # fmt: skip
        return np.array([r.x for r in found]), np.array([r.nfev for r in found])

    return loop


REFERENCE = "SciPy loop, JAX"


def make_sides(case: Case) -> dict[str, Callable[[], Any]]:
    sides = {
        REFERENCE: with_scipy(case, by_hand=False),
        "SciPy loop, NumPy": with_scipy(case, by_hand=True),
    }
    if np.isfinite(case.lower).all() == np.isfinite(case.upper).all():
        sides["optimistix BFGS, vmapped"] = with_optimistix(case)
    for name in ALGORITHMS:
        is_too_large = name in DENSE and case.n > LARGE
        has_no_residuals = name == "jax_lm" and case.residuals is None
        if name in REGISTRY and not is_too_large and not has_no_residuals:
            sides[f"minimize_batch, {name}"] = side_by_side(name, case)
    fitting = "jax_lbfgs" if case.n > LARGE else "jax_bfgs"
    return sides | {f"vmapped argmin, {fitting}": vmapped(fitting, case)}


# ---- measuring -----------------------------------------------------------------------------------


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    clock = time.perf_counter()
    out = jax.block_until_ready(call())
    return time.perf_counter() - clock, out


def n_correct(case: Case, points: Any) -> int:
    def largest(x: Any, data: Any) -> Any:
        g = jax.grad(case.fun)(x, **data)
        return jnp.abs(jnp.maximum(jnp.minimum(g, x - case.lower), x - case.upper)).max()

    # a hair more, since a gradient by hand rounds in another way
    sizes = jax.jit(jax.vmap(largest))(points, case.data)
    return int(np.sum(np.asarray(sizes) <= GTOL * 1.001))


def measure(case: Case, repetitions: int) -> None:
    sides = make_sides(case)
    first = {name: seconds(call) for name, call in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repetitions):
        for name, call in sides.items():
            times[name].append(seconds(call)[0])
    print(f"\n{case.label}: {len(case.starts):,} problems, {repetitions} repetitions\n")
    print("| | correct | evaluations | largest | seconds | times faster | compilation, s |")
    print("|---|---|---|---|---|---|---|")
    for name, (once, (points, counts)) in first.items():
        median = statistics.median(times[name])
        pairs = zip(times[REFERENCE], times[name], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        counts = np.asarray(counts)
        print(
            f"| {name} | {n_correct(case, points):,} | {counts.mean():.1f} | {counts.max():,} "
            f"| {median:.4f} | {ratio:.1f} | {once - median:.1f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", default="", help="a word in the names of cases")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--synchronous", action="store_true", help="no asynchronous dispatch")
    arguments = parser.parse_args()
    # before the first array
    jax.config.update("jax_cpu_enable_async_dispatch", not arguments.synchronous)
    jax.config.update("jax_enable_x64", True)
    for case in make_cases():
        if arguments.cases in case.label:
            measure(case, arguments.repetitions)


if __name__ == "__main__":
    main()

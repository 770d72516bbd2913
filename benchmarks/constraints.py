"""What constraints cost at 10,000 parameters: time per evaluation and peak memory.

Run:    python benchmarks/constraints.py                          this package
        python benchmarks/constraints.py --peer PATH/TO/python    the peer too, in an interpreter
                                                                  that has optimagic

Params are a dict of arrays: 2,000 parameters fixed, 1,000 equal in pairs, a simplex of 500, a
covariance matrix of 60 x 60, the rest free. L-BFGS-B minimizes a stiff chain, without
constraints and with them; the two sides alternate, and medians are reported.

Microseconds an evaluation are the difference between a run of many evaluations and one of a single
evaluation, divided by the difference in evaluations. "own arithmetic" is the map from x to params
and the pull-back of a gradient, compiled together and called alone. The goal: a constrained
evaluation costs at most 1.5 times the unconstrained one plus the own arithmetic.

Peak memory is that of a whole process that does one run, imports and compilation included.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

N_PARAMS, N_FIXED, N_EQUAL, N_SIMPLEX, DIM = 10_000, 2_000, 1_000, 500, 60
N_COV = DIM * (DIM + 1) // 2
N_FREE = N_PARAMS - N_FIXED - N_EQUAL - N_SIMPLEX - N_COV
N_EVALS, N_REPEATS = 300, 7
SIDES = ("unconstrained", "constrained")


def make_params() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "cov": np.eye(DIM)[np.tril_indices(DIM)],
        "equal": np.repeat(rng.normal(size=N_EQUAL // 2), 2),
        "fixed": rng.normal(size=N_FIXED),
        "free": rng.normal(size=N_FREE),
        "simplex": np.full(N_SIMPLEX, 1 / N_SIMPLEX),
    }


def make_constraints(om: Any) -> list[Any]:
    return [
        om.FixedConstraint(lambda p: p["fixed"]),
        om.PairwiseEqualityConstraint([lambda p: p["equal"][::2], lambda p: p["equal"][1::2]]),
        om.ProbabilityConstraint(lambda p: p["simplex"]),
        om.FlatCovConstraint(lambda p: p["cov"]),
    ]


def make_criterion() -> Callable[[Any], Any]:
    import jax.numpy as jnp

    rng = np.random.default_rng(1)
    targets = {name: jnp.asarray(rng.normal(size=len(v))) for name, v in make_params().items()}

    def criterion(params: Any) -> Any:
        # a stiff chain, so that no side converges before it has been measured
        x = jnp.concatenate([params[name] - targets[name] for name in targets])
        return jnp.sum(1e3 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    return criterion


# ---- sides: each takes a number of evaluations and returns (seconds, evaluations) ----------------


def ours(side: str) -> Callable[[int], tuple[float, int]]:
    import jax

    import optimagic_lite as om

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    criterion, params = make_criterion(), make_params()
    constraints = make_constraints(om) if side == "constrained" else None

    def run(n_evals: int) -> tuple[float, int]:
        options = {
            "convergence_ftol_rel": 0.0,
            "convergence_gtol_abs": 0.0,
            "stopping_maxfun": n_evals,
        }
        begin = time.perf_counter()
        result = om.minimize(
            criterion, params, "scipy_lbfgsb", constraints=constraints, algo_options=options
        )
        return time.perf_counter() - begin, result.n_fun_evals

    return run


def peer(side: str) -> Callable[[int], tuple[float, int]]:
    import jax
    import optimagic as om

    jax.config.update("jax_enable_x64", True)
    criterion, params = make_criterion(), make_params()
    constraints = make_constraints(om) if side == "constrained" else None
    compiled = jax.jit(jax.value_and_grad(criterion))

    def fun_and_jac(p: Any) -> Any:
        value, gradient = compiled(p)
        return float(value), {name: np.asarray(g) for name, g in gradient.items()}

    def run(n_evals: int) -> tuple[float, int]:
        n_calls = 0

        def counted(p: Any) -> Any:
            nonlocal n_calls
            n_calls += 1
            return fun_and_jac(p)

        begin = time.perf_counter()
        om.minimize(
            lambda p: counted(p)[0], params, "scipy_lbfgsb", fun_and_jac=counted,
            constraints=constraints, algo_options={"stopping_maxfun": n_evals},
        )  # fmt: skip
        return time.perf_counter() - begin, n_calls

    return run


# ---- measurements --------------------------------------------------------------------------------


def microseconds(run: Callable[[int], tuple[float, int]], n_evals: int) -> tuple[float, float]:
    """Return microseconds an evaluation and seconds of a call with one evaluation."""
    short, n_short = run(1)
    long, n_long = run(n_evals)
    return 1e6 * (long - short) / max(1, n_long - n_short), short


def own_arithmetic() -> float:
    """Return microseconds of the map to params and the pull-back of a gradient, compiled."""
    import jax
    import jax.numpy as jnp

    import optimagic_lite as om

    with jax.enable_x64(True):
        space = om.make_space(make_params(), constraints=make_constraints(om))

        def both(x: Any, g: Any) -> Any:
            flat, pull_back = jax.vjp(space.trace_flat, x)
            return jnp.concatenate([flat, pull_back(g)[0]])

        function, g = jax.jit(both), np.ones(N_PARAMS)
        np.asarray(function(space.x0, g))
        begin = time.perf_counter()
        for _ in range(200):
            np.asarray(function(space.x0, g))
        return 1e6 * (time.perf_counter() - begin) / 200


def time_ours() -> dict[str, list[float]]:
    runs = {side: ours(side) for side in SIDES}
    for run in runs.values():
        run(N_EVALS)
    out: dict[str, list[float]] = {name: [] for name in (*SIDES, "own", "call", "ratio")}
    for _ in range(N_REPEATS):
        for side, run in runs.items():
            per_eval, call = microseconds(run, N_EVALS)
            out[side].append(per_eval)
        out["call"].append(1e3 * call)
        out["own"].append(own_arithmetic())
        floor = out["unconstrained"][-1] + out["own"][-1]
        out["ratio"].append(out["constrained"][-1] / floor)
    return out


def in_a_process(python: str, *args: str) -> Any:
    command = [python, __file__, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_megabytes(which: str, side: str) -> float:
    run = ours(side) if which == "ours" else peer(side)
    run(20 if which == "ours" else 2)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def time_peer(side: str) -> float:
    run = peer(side)
    run(1)
    return microseconds(run, 4 if side == "constrained" else 50)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="Python interpreter with optimagic")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        what, *rest = arguments.measure
        functions = {"time": time_ours, "peak": peak_megabytes, "time-peer": time_peer}
        print(json.dumps(functions[what](*rest)))
        return
    times = in_a_process(sys.executable, "--measure", "time")
    rows = []
    for side in SIDES:
        peak = in_a_process(sys.executable, "--measure", "peak", "ours", side)
        rows.append((f"ours, {side}", statistics.median(times[side]), peak))
    rows.append(("own arithmetic", statistics.median(times["own"]), float("nan")))
    if arguments.peer:
        for side in SIDES:
            micros = in_a_process(arguments.peer, "--measure", "time-peer", side)
            peak = in_a_process(arguments.peer, "--measure", "peak", "peer", side)
            rows.append((f"peer, {side}", micros, peak))
    print(f"{'':24}{'us an evaluation':>20}{'peak MB':>12}")
    for label, micros, peak in rows:
        print(f"{label:24}{micros:20,.0f}{peak:12,.0f}")
    print(f"constrained / (unconstrained + own): {statistics.median(times['ratio']):.2f}")
    print(
        f"a whole call with one evaluation, constrained: {statistics.median(times['call']):.0f} ms"
    )


if __name__ == "__main__":
    main()

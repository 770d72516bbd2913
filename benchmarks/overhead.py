"""What minimize costs beside bare SciPy, and the peer beside both.

Run:    python benchmarks/overhead.py                          this package against bare SciPy
        python benchmarks/overhead.py --peer PATH/TO/python    the peer too, in an interpreter
                                                               that has optimagic

One criterion, a stiff Rosenbrock chain, is minimized by L-BFGS-B. Bare SciPy gets a hand-jitted
``value_and_grad`` of the flat vector, with the tree unravelled inside the compiled function. The
peer gets, as its users would write it, the criterion and its hand-jitted ``value_and_grad`` as
functions of the tree. Sides alternate, and the median of the repetitions is reported.

Microseconds an evaluation are the difference between a run of many iterations and one of a single
iteration, divided by the difference in evaluations; so they hold the solver itself, but no set-up.
That of a whole call, compilation excluded, is the time of the run of a single iteration. Ratios
are to bare SciPy, paired within a repetition; the peer's are to bare SciPy in its own process.

JAX's asynchronous dispatch is part of every number, so all is measured with and without it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANY_ITERATIONS = {"ours": 300, "peer": 60}
STIFFNESS = 1e5
DISPATCHES = ("async", "sync")
# for trees the peer multiplies by dense matrices: 0.7 seconds an evaluation at 10,000
LARGEST_FOR_PEER = 1_000


@dataclass(frozen=True)
class Case:
    """A criterion in a tree of parameters."""

    label: str
    n: int
    params: Any
    fun: Callable[[Any], Any]


def make_cases() -> list[Case]:
    import jax.numpy as jnp
    import numpy as np

    def chain(x: Any) -> Any:
        return jnp.sum(STIFFNESS * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def of_arrays(params: Any) -> Any:
        return chain(jnp.concatenate([params["a"]["p"], params["a"]["q"], params["b"]]))

    def of_scalars(params: Any) -> Any:
        return chain(jnp.stack(list(params.values())))

    # all names in sorted order: JAX returns gradients so, and the peer goes by position
    cases = [Case(f"vector {n:,}", n, np.cos(np.arange(n)), chain) for n in (10, 1_000, 10_000)]
    for n in (10, 1_000, 10_000):
        p, q, b = np.split(np.cos(np.arange(n)), [n // 4, n // 2])
        cases.append(
            Case(f"nested dict of arrays {n:,}", n, {"a": {"p": p, "q": q}, "b": b}, of_arrays)
        )
    for n in (10, 100, 1_000):
        scalars = {f"p{i:04}": float(value) for i, value in enumerate(np.cos(np.arange(n)))}
        cases.append(Case(f"dict of scalars {n:,}", n, scalars, of_scalars))
    return cases


# ---- sides: each takes a number of iterations and returns (seconds, evaluations) -----------------

Side = Callable[[int], tuple[float, int]]


def bare_side(case: Case) -> Side:
    import jax
    import numpy as np
    from jax.flatten_util import ravel_pytree
    from scipy.optimize import minimize

    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(case.params)
        x0 = np.array(flat)
        compiled = jax.jit(jax.value_and_grad(lambda x: case.fun(unravel(x))))

    def fun_and_jac(x: Any) -> tuple[float, Any]:
        value, gradient = compiled(x)
        return float(value), np.asarray(gradient)

    def run(maxiter: int) -> tuple[float, int]:
        options = {"maxiter": maxiter, "maxfun": 10**6, "ftol": 0.0, "gtol": 0.0}
        with jax.enable_x64(True):
            clock = time.perf_counter()
            result = minimize(fun_and_jac, x0, jac=True, method="L-BFGS-B", options=options)
            return time.perf_counter() - clock, result.nfev

    return run


def our_side(case: Case, log: Path | None) -> Side:
    import optimagic_lite as om

    logging = None if log is None else om.SQLiteLogOptions(log, if_database_exists="replace")

    def run(maxiter: int) -> tuple[float, int]:
        algorithm = om.algos.scipy_lbfgsb(
            stopping_maxiter=maxiter, convergence_ftol_rel=0.0, convergence_gtol_abs=0.0
        )
        clock = time.perf_counter()
        result = om.minimize(case.fun, case.params, algorithm, logging=logging)
        return time.perf_counter() - clock, result.n_fun_evals

    return run


def peer_side(case: Case, log: Path | None) -> Side:
    import jax
    import numpy as np
    import optimagic as om

    options = {"fast_logging": True, "if_database_exists": "replace"}
    logging = None if log is None else om.SQLiteLogOptions(log, **options)
    compiled = jax.jit(case.fun)
    derivative = jax.jit(jax.value_and_grad(case.fun))
    is_vector = isinstance(case.params, np.ndarray)

    def fun(params: Any) -> float:
        return float(compiled(params))

    def fun_and_jac(params: Any) -> tuple[float, Any]:
        value, gradient = derivative(params)
        # the peer has a fast path for a vector, if the gradient is no JAX array
        return float(value), np.asarray(gradient) if is_vector else gradient

    def run(maxiter: int) -> tuple[float, int]:
        algorithm = om.algos.scipy_lbfgsb(
            stopping_maxiter=maxiter, convergence_ftol_rel=0.0, convergence_gtol_abs=0.0
        )
        with jax.enable_x64(True):
            clock = time.perf_counter()
            result = om.minimize(
                fun, case.params, algorithm, fun_and_jac=fun_and_jac, logging=logging
            )
            return time.perf_counter() - clock, result.n_fun_evals

    return run


def measure(
    sides: dict[str, Side], iterations: int, repetitions: int
) -> dict[str, dict[str, float]]:
    """Return microseconds an evaluation, ratio to the first side and milliseconds a call."""
    slopes: dict[str, list[float]] = {name: [] for name in sides}
    calls: dict[str, list[float]] = {name: [] for name in sides}
    for repetition in range(repetitions + 1):
        for name, run in sides.items():
            short_seconds, short_evaluations = run(1)
            seconds, evaluations = run(iterations)
            if repetition:  # the first one compiles
                slope = (seconds - short_seconds) / (evaluations - short_evaluations)
                slopes[name].append(slope)
                calls[name].append(short_seconds)
    base = slopes[next(iter(sides))]
    return {
        name: {
            "microseconds": 1e6 * statistics.median(slopes[name]),
            "ratio": statistics.median(a / b for a, b in zip(slopes[name], base, strict=True)),
            "milliseconds": 1e3 * statistics.median(calls[name]),
        }
        for name in sides
    }


# ---- what a child process does -------------------------------------------------------------------


def child(side: str, dispatch: str, repetitions: int) -> dict[str, Any]:
    import jax

    if dispatch == "sync":
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    make = our_side if side == "ours" else peer_side
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(make_cases()):
            if side == "peer" and case.n > LARGEST_FOR_PEER and isinstance(case.params, dict):
                continue
            sides = {
                "bare": bare_side(case),
                "plain": make(case, None),
                "log": make(case, Path(folder) / f"{i}.db"),
            }
            rows[case.label] = measure(sides, MANY_ITERATIONS[side], repetitions)
            print(f"{side} {dispatch}: {case.label}", file=sys.stderr)
    return rows


def count_compilations() -> dict[str, int]:
    """Count the programs that a second run compiles."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import optimagic_lite as om

    count = 0

    def listen(event: str, *_: Any, **__: Any) -> None:
        nonlocal count
        count += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    weight = np.ones(3)

    def fun(params: Any, data: Any) -> Any:
        return jnp.sum(weight * (params["x"] - data) ** 2 + params["x"] ** 4)

    start, data = np.zeros(3), np.arange(3.0)
    bounds = om.Bounds(lower={"x": -np.ones(3)})
    out = {}
    for algorithm in ("scipy_lbfgsb", "optimistix_bfgs"):

        def run(
            algorithm: str = algorithm,
            start: Any = start,
            data: Any = data,
            bounds: om.Bounds | None = None,
        ) -> int:
            before = count
            om.minimize(fun, {"x": start}, algorithm, fun_kwargs={"data": data}, bounds=bounds)
            return count - before

        out[f"{algorithm}: first run"] = run()
        out[f"{algorithm}: new start values"] = run(start=start + 0.5)
        out[f"{algorithm}: new data"] = run(data=data + 1)
        weight = weight * 2
        out[f"{algorithm}: new value of a global array"] = run()
        if algorithm == "scipy_lbfgsb":
            out[f"{algorithm}: bounds"] = run(bounds=bounds)
            out[f"{algorithm}: other bounds"] = run(
                bounds=om.Bounds(lower={"x": -2 * np.ones(3)}, upper={"x": np.ones(3)})
            )
    return out


# ---- the table -----------------------------------------------------------------------------------


def run_child(python: str, *arguments: str) -> Any:
    command = [python, __file__, "--child", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def import_seconds(repetitions: int) -> tuple[float, float]:
    """Return the median seconds of importing JAX and this package, each in a fresh process."""
    seconds: dict[str, list[float]] = {"jax": [], "optimagic_lite": []}
    for repetition in range(repetitions + 1):
        for name, found in seconds.items():
            code = f"import time; t = time.perf_counter(); import {name}; " \
                   "print(time.perf_counter() - t)"  # fmt: skip
            out = subprocess.run(
                [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
            )
            if repetition:
                found.append(float(out.stdout))
    return statistics.median(seconds["jax"]), statistics.median(seconds["optimagic_lite"])


def has_peer(python: str) -> bool:
    return subprocess.run([python, "-c", "import optimagic"], capture_output=True).returncode == 0


def print_table(ours: dict[str, Any], peers: dict[str, Any] | None) -> None:
    head = ["", "bare us", "ours us", "ratio", "log us", "ratio", "call ms"]
    head += ["peer us", "ratio", "log us", "ratio", "call ms"] if peers else []
    lines = [head]
    for label, row in ours.items():
        cells = [label, f"{row['bare']['microseconds']:.1f}"]
        for found in (row, *([peers[label]] if peers and label in peers else [])):
            for side in ("plain", "log"):
                cells += [f"{found[side]['microseconds']:.1f}", f"{found[side]['ratio']:.2f}"]
            cells.append(f"{found['plain']['milliseconds']:.1f}")
        lines.append(cells + ["-"] * (len(head) - len(cells)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        aligned = [cells[0].ljust(widths[0])]
        aligned += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        print("  ".join(aligned))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--dispatch", nargs="+", choices=DISPATCHES, default=list(DISPATCHES))
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what = arguments.child
        out: Any
        if what[0] == "compilations":
            out = count_compilations()
        else:
            out = child(what[0], what[1], arguments.repetitions)
        print(json.dumps(out))
        return

    peer = arguments.peer if has_peer(arguments.peer) else None
    if peer is None:
        print(f"The peer is left out: {arguments.peer} has no optimagic.")
    repetitions = ("--repetitions", str(arguments.repetitions))
    for dispatch in arguments.dispatch:
        ours = run_child(sys.executable, "ours", dispatch, *repetitions)
        peers = run_child(peer, "peer", dispatch, *repetitions) if peer else None
        state = "on, JAX's default" if dispatch == "async" else "off"
        print(f"\nAsynchronous dispatch {state}. Goals: ratio 1.0, with log 1.3.")
        print_table(ours, peers)

    print("\nPrograms compiled (goal: 0 after the first run)")
    for label, count in run_child(sys.executable, "compilations").items():
        print(f"  {label:<48} {count}")
    jax_seconds, our_seconds = import_seconds(arguments.repetitions)
    print(f"\nImport: jax {jax_seconds:.2f} s, optimagic_lite {our_seconds:.2f} s, ratio "
          f"{our_seconds / jax_seconds:.2f} (goal: 1.2)")  # fmt: skip


if __name__ == "__main__":
    main()

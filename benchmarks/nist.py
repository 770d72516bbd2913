"""Which algorithm solves which of NIST's nonlinear regressions, and to how many digits.

Run:    python benchmarks/nist.py                                  all algorithms, about 15 minutes
        python benchmarks/nist.py --least-squares                  for least squares, 2 minutes
        python benchmarks/nist.py --algorithms scipy_bfgs nlopt_var --problems BoxBOD

Each run minimizes the sum of squared residuals from the raw start, with exact derivatives, with
convergence tolerances at zero or nearly so and a few seconds of time. Algorithms for least squares
and likelihoods get residuals and their Jacobians, the others the sum and its gradient. The table
shows the correct significant digits of the worst parameter against the certified values,
which have 11; "-" means fewer than one.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from typing import Any

from optimagic_lite import algos, mark, minimize
from optimagic_lite.algorithms.base import option_types
from optimagic_lite.data.nist import NAMES, NistProblem, load_nist
from optimagic_lite.exceptions import InvalidAlgoOptionError, OptimagicError

SOLVED = 8.0
FEW_ITERATIONS, MANY_ITERATIONS = 3_000, 50_000


def tightest(name: str, seconds: float) -> Any:
    """Return an algorithm with the tightest tolerances that it accepts."""
    chosen = getattr(algos, name)
    first_order = name.startswith("optax_")
    options: dict[str, Any] = {
        "stopping_maxtime": seconds,
        "stopping_maxfun": MANY_ITERATIONS,
        "stopping_maxiter": MANY_ITERATIONS
        if first_order or not chosen.algo_info.counts_iterations
        else FEW_ITERATIONS,
    }
    for option in option_types(chosen):
        if option.startswith("convergence_"):
            try:
                chosen(**{option: 0.0})
                # not zero: some of NLopt's algorithms would repeat a step of length zero for ever
                options[option] = 1e-15 if option == "convergence_xtol_rel" else 0.0
            except InvalidAlgoOptionError:
                options[option] = 1e-13
    return chosen(**options)


def solve(problem: NistProblem, start: dict[str, float], algorithm: Any) -> tuple[float, int]:
    """Return the correct digits and the number of evaluations."""
    # compilation is to have no part in the limit on time
    warm_up = algorithm.with_option(stopping_maxfun=2, stopping_maxtime=math.inf)
    run(problem, start, warm_up)
    return run(problem, start, algorithm)


def run(problem: NistProblem, start: dict[str, float], algorithm: Any) -> tuple[float, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = minimize(
                mark.least_squares(problem.residuals),
                start,
                algorithm,
                fun_kwargs=problem.data,
                error_handling="continue",
                derivatives="exact",
                collect_history=False,
            )
        except OptimagicError:
            return 0.0, 0
    return problem.digits(result.params), result.n_fun_evals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--algorithms", nargs="+", default=algos.AvailableNames, metavar="NAME")
    parser.add_argument("--least-squares", action="store_true", help="only those for least squares")
    parser.add_argument("--problems", nargs="+", default=list(NAMES), metavar="NAME")
    parser.add_argument("--seconds", type=float, default=3.0, help="limit on each run")
    arguments = parser.parse_args()

    names = algos.LeastSquares.AvailableNames if arguments.least_squares else arguments.algorithms
    cases = [(name, i) for name in arguments.problems for i in (0, 1)]
    problems = {name: load_nist(name) for name in arguments.problems}
    print("columns, start 1 and start 2 of:", " ".join(arguments.problems))
    digits: dict[tuple[str, str, int], float] = {}
    for algorithm in names:
        clock, cells, total = time.perf_counter(), [], 0
        for name, i in cases:
            problem = problems[name]
            found, n_evaluations = solve(
                problem, problem.starts[i], tightest(algorithm, arguments.seconds)
            )
            digits[algorithm, name, i] = found
            total += n_evaluations
            cells.append(f"{found:2.0f}" if found >= 1 else " -")
        pairs = [" ".join(cells[i : i + 2]) for i in range(0, len(cells), 2)]
        n_solved = sum(digits[algorithm, name, i] >= SOLVED for name, i in cases)
        seconds = time.perf_counter() - clock
        print(f"{algorithm:<30} {' |'.join(pairs)}  {n_solved:2}/{len(cases)}  "
              f"{total:>8} evaluations {seconds:6.1f} s", flush=True)  # fmt: skip

    print(f"\nsolved to at least {SOLVED:.0f} digits by")
    for name, i in cases:
        solvers = [a for a in names if digits[a, name, i] >= SOLVED]
        print(f"{name:<9} start {i + 1}: {', '.join(solvers) or 'NONE'}", flush=True)


if __name__ == "__main__":
    main()

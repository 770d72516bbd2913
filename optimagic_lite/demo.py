"""A nonlinear regression on data of NIST, solved by three libraries, logged and plotted.

Run it with ``python -m optimagic_lite.demo [OUTPUT_DIR]``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import optimagic_lite as om
from optimagic_lite.data.nist import NistProblem, load_nist

# One solver of each kind: SciPy with exact gradients and Hessians, NLopt without derivatives,
# and BFGS that runs inside JAX.
ALGORITHMS = ("scipy_trust_constr", "nlopt_sbplx", "optimistix_bfgs")


def main(arguments: list[str] | None = None) -> None:
    """Run the demo.

    Args:
        arguments: Those of the command line; None reads them from there.
    """
    parser = argparse.ArgumentParser(prog="python -m optimagic_lite.demo", description=__doc__)
    parser.add_argument("output", nargs="?", default="demo_output", type=Path, metavar="OUTPUT_DIR")
    output: Path = parser.parse_args(arguments).output
    output.mkdir(parents=True, exist_ok=True)

    problem = load_nist("Misra1a")
    print(
        "Misra1a: 14 measurements of adsorption, volume y against pressure x.\n"
        "Model: y = b1 * (1 - exp(-b2 * x)).\n"
        f"Start: b1 = {problem.start1['b1']:g}, b2 = {problem.start1['b2']:g}, "
        "far from the solution."
    )
    results = solve(problem, output / "run.db")
    for result in results.values():
        print(f"\n{result}")
    print(f"\n{comparison(problem, results)}")

    print(f"\nRead back from the log:\n{read_back(output / 'run.db')}")
    plot(results, output)
    print("\nWritten:")
    for name in ("run.db", "criterion.html", "params.html"):
        print(f"  {(output / name).resolve()}")


def solve(problem: NistProblem, log: Path) -> dict[str, om.OptimizeResult]:
    """Solve a regression with each algorithm from the start far away, all in one log.

    Args:
        problem: The regression.
        log: File of the log; one that exists is replaced.
    """
    results = {}
    for i, algorithm in enumerate(ALGORITHMS):
        results[algorithm] = om.minimize(
            problem.sum_of_squares,
            problem.start1,
            algorithm,
            fun_kwargs=problem.data,
            logging=om.SQLiteLogOptions(log, if_database_exists="extend" if i else "replace"),
        )
    return results


def comparison(problem: NistProblem, results: dict[str, om.OptimizeResult]) -> str:
    """Return a table of solutions and certified values.

    Args:
        problem: The regression.
        results: Solutions by algorithm.
    """
    names = list(problem.certified)
    head = ["", *names, "sum of squares", "correct digits"]
    certified = [*problem.certified.values(), problem.rss]
    rows = [head, ["certified by NIST", *(f"{value:.10e}" for value in certified), ""]]
    for algorithm, result in results.items():
        found = [*(result.params[name] for name in names), result.fun]
        digits = f"{problem.digits(result.params):.1f}"
        rows.append([algorithm, *(f"{value:.10e}" for value in found), digits])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def read_back(log: Path) -> str:
    """Return a table of the runs in a log.

    Args:
        log: File of the log.
    """
    table = om.SQLiteLogReader(log).runs()
    return table[["algorithm", "status", "fun", "n_evaluations"]].to_string()


def plot(results: dict[str, om.OptimizeResult], output: Path) -> None:
    """Write criterion.html and params.html.

    Args:
        results: Solutions by algorithm.
        output: Folder for the files.
    """
    criterion = om.criterion_plot(results, monotone=True, log_scale=True)
    criterion.write_html(output / "criterion.html")
    # of the parameters only b1: b2 is a million times smaller
    params = om.params_plot(
        results[ALGORITHMS[0]], selector=lambda params: params["b1"], names=["b1"]
    )
    params.write_html(output / "params.html")


if __name__ == "__main__":
    main()

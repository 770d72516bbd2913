"""How long a benchmark of algorithms takes and how many problems they solve, beside the peer.

Run:    python benchmarks/problem_sets.py                          this package
        python benchmarks/problem_sets.py --peer PATH/TO/python    the peer too, in an interpreter
                                                                   that has optimagic
        python benchmarks/problem_sets.py --set more_wild          another set

Each repetition is a process of its own, the two sides alternating: its time is that of
``run_benchmark``, compilation included, imports apart. Gradients are exact here and numerical
there, as users of either get them; an evaluation with its gradient counts as one on both sides. A
problem is solved if no more than 1e-4 of the difference between start and optimum is missing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

ALGORITHMS = ["scipy_lbfgsb", "scipy_ls_lm", "scipy_neldermead", "nlopt_bobyqa"]
MAX_EVALUATIONS = 500
REPETITIONS = 5

# runs in either interpreter; the name of the package is all that differs
CHILD = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
package, name, algorithms, n = json.loads(sys.argv[1])
om = __import__(package)
problems = om.get_benchmark_problems(name)
clock = time.perf_counter()
results = om.run_benchmark(problems, algorithms, max_criterion_evaluations=n)
seconds = time.perf_counter() - clock
report = om.convergence_report(problems, results).drop(columns="dimensionality")
solved = {column: int((report[column] == "success").sum()) for column in report}
print(json.dumps({"seconds": seconds, "solved": solved, "n": len(report)}))
"""


def run(python: str, package: str, name: str) -> dict:
    """Run the benchmark once, in a process of its own."""
    arguments = json.dumps([package, name, ALGORITHMS, MAX_EVALUATIONS])
    # the peer must not see this folder, which has a package of its own
    folder = "/" if package == "optimagic" else None
    done = subprocess.run(
        [python, "-c", CHILD, arguments], capture_output=True, text=True, check=True, cwd=folder
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run both sides in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="an interpreter that has optimagic")
    parser.add_argument("--set", default="example", help="name of the set of problems")
    options = parser.parse_args()
    sides = {"optimagic_lite": sys.executable}
    if options.peer:
        sides["optimagic"] = options.peer
    found: dict[str, list[dict]] = {name: [] for name in sides}
    for _ in range(REPETITIONS):
        for package, python in sides.items():
            found[package].append(run(python, package, options.set))
    for package, runs in found.items():
        seconds = statistics.median(one["seconds"] for one in runs)
        print(f"{package}: {seconds:.1f} s, solved of {runs[0]['n']}: {runs[0]['solved']}")
    if options.peer:
        ours, theirs = (statistics.median(one["seconds"] for one in found[name]) for name in sides)
        print(f"ratio of times: {ours / theirs:.2f}")


if __name__ == "__main__":
    main()

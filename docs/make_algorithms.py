"""Write docs/algorithms.md: ``python docs/make_algorithms.py``.

Everything in it comes from the declarations of the algorithms; never edit the page by hand.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import optimagic_lite as om

PAGE = Path(__file__).with_name("algorithms.md")

LIBRARIES = {
    "scipy": "[SciPy](https://docs.scipy.org/doc/scipy/reference/optimize.html)",
    "nlopt": "[NLopt](https://nlopt.readthedocs.io)",
    "optimistix": "[optimistix](https://docs.kidger.site/optimistix/), inside JAX",
    "optax": "[optax](https://optax.readthedocs.io), inside JAX",
    "jax": "Of this package, inside JAX",
    "optimagic_lite": "Of this package",
}

TAKES = {"scalar": "a number", "likelihood": "contributions", "least_squares": "residuals"}

HEAD = """\
# Algorithms

<!-- Written by docs/make_algorithms.py, do not edit. -->

These are all algorithms, with what they use and their options. `om.algos.table()` returns the
same facts as a DataFrame; [Choose an algorithm](how_to/algorithms.md) helps to choose.

An algorithm that takes a number can be used with residuals and contributions too, one that takes
contributions with residuals too; see [Least squares and likelihoods](how_to/structure.md).

Every algorithm has the options `stopping_maxfun`, `stopping_maxiter` and `stopping_maxtime` too.
[Algorithms and their options](reference/algorithms.md) says what each option means, and so do
docstrings: `help(om.algos.scipy_lbfgsb)`.
"""


def render() -> str:
    """Return the text of the page."""
    table = om.algos.table()
    unknown = sorted(set(table["library"]) - set(LIBRARIES))
    if unknown:
        raise SystemExit(f"Add {', '.join(unknown)} to LIBRARIES in {Path(__file__).name}.")
    sections = [
        f"## {title}\n\n{library_table(table[table['library'] == library])}"
        for library, title in LIBRARIES.items()
    ]
    return "\n".join([HEAD, *sections])


def library_table(rows: Any) -> str:
    """Return the table of the algorithms of one library."""
    titles = ["algorithm", "takes", "derivatives", "bounds", "own options and defaults"]
    lines = [f"| {' | '.join(titles)} |", "|---|---|---|---|---|"]
    for name, row in rows.iterrows():
        cells = [
            f"`{name}`<br>{row['description']}",
            TAKES[row["solver_type"]],
            derivatives(row),
            bounds(row),
            options(name),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def derivatives(row: Any) -> str:
    """Return what an algorithm uses beyond values."""
    if row["needs_hess"]:
        return "gradient, Hessian"
    if row["uses_hess"]:
        return "gradient, Hessian if exact"
    first = "gradient" if row["solver_type"] == "scalar" else "Jacobian"
    return first if row["needs_jac"] else "none"


def bounds(row: Any) -> str:
    """Return whether an algorithm keeps bounds."""
    if row["needs_bounds"]:
        return "needed"
    return "yes" if row["supports_bounds"] else "no"


def options(name: str) -> str:
    """Return the options of an algorithm that not all have, with defaults."""
    fields = dataclasses.fields(getattr(om.algos, name))
    # limits are shown where they are not practically none
    common = {
        "stopping_maxfun": 1_000_000,
        "stopping_maxiter": 1_000_000,
        "stopping_maxtime": math.inf,
    }
    shown = [f for f in fields if f.name not in common or f.default != common[f.name]]
    return ", ".join(f"`{f.name}={f.default!r}`" for f in shown)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
    print(f"Wrote {PAGE}")

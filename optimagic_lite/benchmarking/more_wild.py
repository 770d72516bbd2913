"""The benchmark set of Moré and Wild (2009): 22 functions, 53 problems, and one larger problem.

Sources: Moré, Garbow and Hillstrom (1981), doi:10.1145/355934.355936, and Moré and Wild (2009),
doi:10.1137/080724083. A bad start is ten times the good one. Values at starts have seven digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from optimagic_lite.benchmarking import more_wild_functions as f
from optimagic_lite.benchmarking.definitions import Definition
from optimagic_lite.benchmarking.more_wild_data import OPTIMA


def _problem(
    name: str,
    fun: Callable[[jax.Array], jax.Array],
    start: Sequence[float],
    start_values: Sequence[float],
    source: str,
    optimum: tuple[float, Sequence[float] | None] | None = None,
    note: str = "",
) -> dict[str, Definition]:
    """Return a problem by its name: once, or from a good and a bad start if it has two values."""
    if optimum is None:
        optimum = OPTIMA[name]
        note = f"Value and solution were computed by us with 60 digits. {note}".strip()
    value, solution = optimum
    starts = [("", 1)] if len(start_values) == 1 else [("_good_start", 1), ("_bad_start", 10)]
    return {
        f"{name}{suffix}": Definition(
            fun=fun,
            start=tuple(factor * number for number in start),
            start_value=start_value,
            value=value,
            solution=None if solution is None else tuple(solution),
            source=source,
            note=note,
        )
        for (suffix, factor), start_value in zip(starts, start_values, strict=True)
    }


def _mgh(number: int) -> str:
    return f"Moré, Garbow and Hillstrom (1981), problem {number}"


def _more_wild(number: int) -> str:
    return f"Moré and Wild (2009), function {number}"


_ROOTS = (
    "Also 0 at (a, ..., a, a^(1 - n)) for the root a < 1 of n a^n - (n + 1) a^(n - 1) + 1;"
    " 1 at the stationary point (0, ..., 0, n + 1)."
)
_MIRRORED = "The same value is reached in any order of the points, and at 1 - x."
_START = (
    "The constants 1400 and 50 do not depend on the number of parameters. The published values at"
    " the starts confirm the factor -8.710996e-4 of these, not -8.7110e-4."
)

_PROBLEMS = [
    _problem(
        "linear_full_rank", f.linear_full_rank, [1] * 9, (72, 1125), _mgh(32), (36, [-1] * 9)
    ),
    _problem(
        "linear_rank_one", f.linear_rank_one, [1] * 7, (1.165420e7, 1.168591e9), _mgh(33),
        (35 * 34 / (2 * 71), None), "Reached wherever sum_j(j x_j) = 3 / 71.",
    ),
    _problem(
        "linear_rank_one_zero_columns_rows", f.linear_rank_one_zero_columns_rows, [1] * 7,
        (4.989195e6, 5.009356e8), _mgh(34), ((35**2 + 3 * 35 - 6) / (2 * 67), None),
        "Reached wherever sum_j(j x_j) = 3 / 67, j from 2 to 6.",
    ),
    _problem(
        "rosenbrock", f.rosenbrock, [-1.2, 1], (24.2, 1.795769e6), _mgh(1), (0, [1, 1])
    ),
    _problem(
        "helical_valley", f.helical_valley, [-1, 0, 0], (2500, 10600), _mgh(7), (0, [1, 0, 0]),
        "The angle jumps where x_1 = 0 and x_2 < 0, not at the starts.",
    ),
    _problem(
        "powell_singular", f.powell_singular, [3, -1, 0, 1], (215, 1.615400e6), _mgh(13),
        (0, [0] * 4), "The Jacobian is singular at the solution.",
    ),
    _problem(
        "freudenstein_roth", f.freudenstein_roth, [0.5, -2], (400.5, 1.545754e8), _mgh(2),
        note="This is the published local minimum, x_2 = (2 - sqrt(22)) / 3 and x_1 = 15 + 4 x_2,"
        " where descent from both starts ends. The smallest value is 0, at (5, 4).",
    ),
    _problem(
        "bard", f.bard, [1] * 3, (41.68170, 1306.234), _mgh(8),
        note="The value goes to 17.4286 where x_2 and x_3 go to minus infinity.",
    ),
    _problem(
        "kowalik_osborne", f.kowalik_osborne, [0.25, 0.39, 0.415, 0.39], (5.313172e-3,),
        _mgh(15), note="The value goes to 1.02734e-3 far away.",
    ),
    _problem(
        "meyer", f.meyer, [0.02, 4000, 250], (1.693608e9,), _mgh(10),
        note="In double precision 11 digits of the value are right.",
    ),
    *(
        _problem(f"watson_{n}", f.watson, [0.5] * n, start_values, _mgh(20), note=note)
        for n, start_values, note in [
            (6, (16.43083, 2.323367e6), ""),
            (9, (26.90417, 8.158877e6), ""),
            (12, (73.67821, 2.059384e7), "Values below 1e-8 are reached 10 away from there."),
        ]
    ),
    _problem(
        "box_3d", f.box_3d, [0, 10, 20], (1031.154,), _mgh(12), (0, [1, 10, 1]),
        "The value is also 0 at (10, 1, -1), and wherever x_1 = x_2 and x_3 = 0.",
    ),
    _problem(
        "jennrich_sampson", f.jennrich_sampson, [0.3, 0.4], (4171.306,), _mgh(6),
        note="The value goes to 259.580 where one parameter goes to minus infinity.",
    ),
    _problem(
        "brown_dennis", f.brown_dennis, [25, 5, -5, -1], (7.926693e6, 3.081064e11), _mgh(16)
    ),
    *(
        _problem(
            f"chebyquad_{n}", f.chebyquad, [i / (n + 1) for i in range(1, n + 1)],
            (start_value,), _mgh(35), note=f"{_MIRRORED} {note}".strip(),
        )
        for n, start_value, note in [
            (6, 4.642817e-2, ""),
            (7, 3.377064e-2, ""),
            (8, 3.861770e-2, ""),
            (9, 2.888298e-2, ""),
            (10, 3.376327e-2, "The value of 1981, 6.50395e-3, is that of a local minimum."),
            (11, 2.674060e-2, "There is no value of 1981."),
        ]
    ),
    _problem(
        "brown_almost_linear", f.brown_almost_linear, [0.5] * 10, (273.2480,), _mgh(27),
        (0, [1] * 10), _ROOTS,
    ),
    _problem(
        "osborne_one", f.osborne_one, [0.5, 1.5, 1, 0.01, 0.02], (16.17411,), _mgh(17),
        note="The start is that of Moré and Wild; in 1981 its x_3 is -1.",
    ),
    _problem(
        "osborne_two", f.osborne_two, [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5],
        (2.093420, 199.6847), _mgh(19), note="There are many local minima.",
    ),
    *(
        _problem(
            f"bdqrtic_{n}", f.bdqrtic, [1] * n, (start_value,), _more_wild(19),
            note="The criterion is convex.",
        )
        for n, start_value in [(8, 904), (10, 1356), (11, 1582), (12, 1808)]
    ),
    *(
        _problem(f"cube_{n}", f.cube, [0.5] * n, (start_value,), _more_wild(20), (0, [1] * n))
        for n, start_value in [(5, 56.5), (6, 70.5625), (8, 98.6875)]
    ),
    *(
        _problem(
            f"mancino_{n}", f.mancino, f.mancino_start(n).tolist(), start_values, _more_wild(21),
            note=_START,
        )
        for n, start_values in [
            (5, (2.539084e9, 6.873795e12)),
            (8, (3.367961e9,)),
            (10, (3.735127e9,)),
            (12, (3.991072e9, 1.130015e13)),
        ]
    ),
    _problem(
        "heart_eight", f.heart_eight, [-0.3, -0.39, 0.3, -0.344, -1.2, 2.69, 1.59, -1.5],
        (9.385672, 3.365815e10), _more_wild(22),
        note="The same value is reached where the two dipoles change places.",
    ),
    _problem(
        "brown_almost_linear_medium", f.brown_almost_linear, [0.5] * 100, (2.524757e5,),
        _mgh(27), (0, [1] * 100), f"Moré and Wild have no problem of this size. {_ROOTS}",
    ),
]  # fmt: skip

MORE_WILD: dict[str, Definition] = {
    name: definition for problem in _PROBLEMS for name, definition in problem.items()
}

"""Test problems: what the literature says of each, and what its function gives."""

import functools
import re

import jax
import numpy as np
import pytest
from scipy.optimize import least_squares

from optimagic_lite.benchmarking.cartis_roberts import CARTIS_ROBERTS
from optimagic_lite.benchmarking.more_wild import MORE_WILD

MORE_WILD_NAMES = [
    "linear_full_rank_good_start", "linear_full_rank_bad_start", "linear_rank_one_good_start",
    "linear_rank_one_bad_start", "linear_rank_one_zero_columns_rows_good_start",
    "linear_rank_one_zero_columns_rows_bad_start", "rosenbrock_good_start", "rosenbrock_bad_start",
    "helical_valley_good_start", "helical_valley_bad_start", "powell_singular_good_start",
    "powell_singular_bad_start", "freudenstein_roth_good_start", "freudenstein_roth_bad_start",
    "bard_good_start", "bard_bad_start", "kowalik_osborne", "meyer", "watson_6_good_start",
    "watson_6_bad_start", "watson_9_good_start", "watson_9_bad_start", "watson_12_good_start",
    "watson_12_bad_start", "box_3d", "jennrich_sampson", "brown_dennis_good_start",
    "brown_dennis_bad_start", "chebyquad_6", "chebyquad_7", "chebyquad_8", "chebyquad_9",
    "chebyquad_10", "chebyquad_11", "brown_almost_linear", "osborne_one", "osborne_two_good_start",
    "osborne_two_bad_start", "bdqrtic_8", "bdqrtic_10", "bdqrtic_11", "bdqrtic_12", "cube_5",
    "cube_6", "cube_8", "mancino_5_good_start", "mancino_5_bad_start", "mancino_8", "mancino_10",
    "mancino_12_good_start", "mancino_12_bad_start", "heart_eight_good_start",
    "heart_eight_bad_start", "brown_almost_linear_medium",
]  # fmt: skip

CARTIS_ROBERTS_NAMES = [
    "arglale", "arglble", "argtrig", "artif", "arwhdne", "bdvalues", "bratu_2d", "bratu_2d_t",
    "bratu_3d", "brownale", "broydn_3d", "cbratu_2d", "broydn_bd", "chandheq", "chemrcta",
    "chemrctb", "chnrsbne", "drcavty1", "drcavty2", "drcavty3", "eigena", "eigenb", "flosp2hh",
    "flosp2hl", "flosp2hm", "flosp2th", "flosp2tl", "flosp2tm", "freurone", "hatfldg", "hydcar20",
    "hydcar6", "integreq", "luksan11", "luksan12", "luksan13", "luksan14", "luksan15", "luksan16",
    "luksan17", "luksan21", "luksan22", "methanb8", "methanl8", "morebvne", "msqrta", "msqrtb",
    "oscigrne", "penalty_1", "penalty_2", "powellse", "qr3d", "qr3dbd", "spmsqrt", "semicn2u",
    "semicon2", "vardimne", "watsonne", "yatpsq_1", "yatpsq_2",
]  # fmt: skip

PROBLEMS = {**MORE_WILD, **CARTIS_ROBERTS}
SOLVED = [name for name, problem in PROBLEMS.items() if problem.solution is not None]
# without a single solution, and descent from the start ends in a local minimum or takes long
ENDS_ELSEWHERE = ["artif", "brownale", "chemrctb", "drcavty2", "drcavty3", "eigenb", "luksan22"]


def over(names):
    """Parametrise over problems; all tests of one function run where it has been compiled."""
    groups = {name: re.sub("_(good|bad)_start", "", name) for name in names}
    return pytest.mark.parametrize(
        "problem",
        [
            pytest.param(PROBLEMS[name], id=name, marks=pytest.mark.xdist_group(group))
            for name, group in groups.items()
        ],
    )


@functools.cache
def compiled(fun):
    return jax.jit(lambda x: (fun(x), jax.jacfwd(fun)(x)))


def evaluate(problem, x):
    """Residuals and their exact Jacobian at a point, in double precision."""
    with jax.enable_x64(True):
        residuals, jacobian = compiled(problem.fun)(np.asarray(x))
        return np.asarray(residuals), np.asarray(jacobian)


def value(problem, x):
    residuals, _ = evaluate(problem, x)
    return residuals @ residuals


def descend(problem):
    """The value where steps of Levenberg and Marquardt from the start end."""
    with np.errstate(all="ignore"):
        found = least_squares(
            lambda x: evaluate(problem, x)[0],
            problem.start,
            lambda x: evaluate(problem, x)[1],
            method="lm",
            max_nfev=50,
        )
    return 2 * found.cost


def test_names_are_those_of_the_peer():
    assert list(MORE_WILD) == MORE_WILD_NAMES
    assert list(CARTIS_ROBERTS) == CARTIS_ROBERTS_NAMES


def test_every_problem_has_a_source():
    assert [n for n, p in PROBLEMS.items() if not re.search(r"\(\d{4}\)", p.source)] == []


def test_notes_say_why_there_is_no_solution():
    assert [n for n, p in PROBLEMS.items() if p.solution is None and not p.note] == []


@over(PROBLEMS)
def test_value_at_the_start_is_the_published_one(problem):
    assert value(problem, problem.start) == pytest.approx(problem.start_value, rel=5e-7)


@over(SOLVED)
def test_value_at_the_solution_is_the_smallest_one(problem):
    at_solution = value(problem, problem.solution)

    assert at_solution == pytest.approx(problem.value, rel=1e-8, abs=1e-20 * problem.start_value)


@over(SOLVED)
def test_no_direction_leads_down_from_the_solution(problem):
    # what the best relative step would gain if residuals were linear
    residuals, jacobian = evaluate(problem, problem.solution)
    relative = jacobian * [abs(number) or 1 for number in problem.solution]
    step = np.linalg.lstsq(relative, -residuals, rcond=1e-10)[0]
    gain = residuals @ residuals - np.sum((residuals + relative @ step) ** 2)

    assert gain <= 1e-10 * problem.value + 1e-20 * problem.start_value


# the published value of freurone is that of a local minimum; there are many below it
@over(name for name in PROBLEMS if name != "freurone")
def test_descent_from_the_start_finds_no_smaller_value(problem):
    assert descend(problem) >= problem.value * (1 - 1e-8)


@over(name for name in PROBLEMS if name not in {*SOLVED, *ENDS_ELSEWHERE})
def test_descent_from_the_start_finds_values_without_a_solution(problem):
    scale = problem.start_value

    assert descend(problem) == pytest.approx(problem.value, rel=1e-7, abs=1e-15 * scale)


@over(PROBLEMS)
def test_exact_derivative_agrees_with_a_difference(problem):
    start = np.array(problem.start)
    scales = np.maximum(np.abs(start), 1)
    direction = scales * np.random.default_rng(0).choice([-1.0, 1.0], start.size)
    step = 1e-6
    above, below = (evaluate(problem, start + s * step * direction)[0] for s in (1, -1))
    _, jacobian = evaluate(problem, start)

    slope = (above - below) / (2 * step)

    size = np.abs(jacobian) @ scales
    np.testing.assert_allclose(jacobian @ direction, slope, rtol=1e-6, atol=1e-6 * size.max())


@pytest.mark.parametrize(
    ("name", "optimum"),
    [
        ("freudenstein_roth_good_start", 48.9842),
        ("bard_good_start", 8.21487e-3),
        ("kowalik_osborne", 3.07505e-4),
        ("meyer", 87.9458),
        ("watson_6_good_start", 2.28767e-3),
        ("watson_9_good_start", 1.39976e-6),
        ("watson_12_good_start", 4.72238e-10),
        ("jennrich_sampson", 124.362),
        ("brown_dennis_good_start", 85822.2),
        ("chebyquad_8", 3.51687e-3),
        ("osborne_one", 5.46489e-5),
        ("osborne_two_good_start", 4.01377e-2),
    ],
)
def test_values_are_those_of_1981(name, optimum):
    # printed there with six digits, the last cut off and not rounded
    assert 0 <= MORE_WILD[name].value / optimum - 1 < 1e-5


@pytest.mark.parametrize(
    ("x", "turn"), [((1, 1), 1 / 8), ((-1, 1), 3 / 8), ((-1, -1), 5 / 8), ((1, -1), -1 / 8)]
)
def test_the_angle_of_the_helical_valley_is_that_of_1981(x, turn):
    residuals, _ = evaluate(MORE_WILD["helical_valley_good_start"], [*map(float, x), 0.0])

    assert residuals[0] == pytest.approx(-100 * turn)

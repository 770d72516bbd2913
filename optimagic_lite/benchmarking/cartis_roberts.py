"""The benchmark set of Cartis and Roberts (2019): 60 problems of 25 to 120 parameters.

Source: Cartis and Roberts (2019), doi:10.1007/s12532-019-00161-7. The functions are those of the
SIF files of CUTEst (Gould, Orban and Toint 2015, doi:10.1007/s10589-014-9687-3), checked against
independent translations of these files wherever there is one. The published values at starts and
solutions are those that optimagic 0.5 has of the paper's table. Where its functions differ from
the SIF files, its values may, too; notes say what was believed.

The set compares solvers of problems without bounds. So bounds that some of the SIF files have are
left out.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from importlib import resources

import jax
import numpy as np
from numpy.typing import NDArray

from optimagic_lite.benchmarking import cartis_roberts_algebra as algebra
from optimagic_lite.benchmarking import cartis_roberts_columns as columns
from optimagic_lite.benchmarking import cartis_roberts_grids as grids
from optimagic_lite.benchmarking import cartis_roberts_luksan as luksan
from optimagic_lite.benchmarking import cartis_roberts_matrices as matrices
from optimagic_lite.benchmarking import cartis_roberts_starts as starts
from optimagic_lite.benchmarking import more_wild_functions as small
from optimagic_lite.benchmarking.definitions import Definition

# Solutions without a closed form, by problem: computed by us, with Gauss-Newton steps at the end.
_SOLUTIONS: dict[str, list[float]] = json.loads(
    resources.files("optimagic_lite.benchmarking")
    .joinpath("cartis_roberts_solutions.json")
    .read_text("utf-8")
)


def _problem(
    name: str,
    fun: Callable[[jax.Array], jax.Array],
    start: Sequence[float] | NDArray[np.float64],
    start_value: float,
    value: float = 0.0,
    solution: Sequence[float] | None = None,
    origin: str = "",
    note: str = "",
) -> Definition:
    """Return the problem with this name in CUTEst."""
    source = f"Cartis and Roberts (2019), problem {name} of CUTEst"
    return Definition(
        fun=fun,
        start=tuple(start),
        start_value=start_value,
        value=value,
        solution=None if solution is None else tuple(solution),
        source=f"{source}; {origin}" if origin else source,
        note=note,
    )


def _mgh(number: int) -> str:
    return f"Moré, Garbow and Hillstrom (1981), problem {number}"


def _more(number: str) -> str:
    return f"Moré (1990), A collection of nonlinear model problems, problem {number}"


def _luksan(number: int) -> str:
    return f"Lukšan (1996), problem {number}"


_BUCKLEY = "Buckley (1989), Test functions for unconstrained minimization, problem {}"
_SHADID = "Shadid (1989), problem SP2"
_BROWN_SAAD = "Brown and Saad (1990)"
_TOINT = "Toint (1993)"
_COMPUTED = "The solution was computed by us; the Jacobian has full rank there."
_CLOSED = "The solution has a closed form."
_ROOTS = "There are several roots. "
_ENCLOSURE = (
    "The Jacobian has nearly empty directions, so that there are many solutions. optimagic has the"
    " heat that the walls require with the other sign. "
)
_FOLD = "There is a lower and an upper solution; descent from the start finds the lower one. "
_CAVITY = (
    "optimagic mistypes four terms of the stencil. There are several roots; {} The value was"
    " computed by us. "
)
_YATP = (
    "Shifts are y_i + z_i, as the SIF file describes it, and not y_i + z_j as in optimagic. Only"
    " their sum matters, so that there are many solutions."
)
_SQUARE_ROOT = (
    "The matrix of sines is a root, and so is its negative. optimagic computes the target from the"
    " parameters themselves. "
)

_SINES = matrices.sines(10)
_SINES_B = np.where(np.arange(100).reshape(10, 10) == 20, 0, _SINES)
_BAND = matrices.band_of_sines(34)
_HEATED, _COOLED, _KEPT = (1.0, 0.0, -1.0), (0.0, 1.0, 0.0), (0.0, 1.0, 1.0)
_TRIDIAGONAL = 2 * np.eye(10) - np.eye(10, k=1) - np.eye(10, k=-1)

CARTIS_ROBERTS: dict[str, Definition] = {
    "arglale": _problem(
        "ARGLALE", functools.partial(small.linear_full_rank, n_residuals=400), [1] * 100, 700,
        300, [-1] * 100, _mgh(32), _CLOSED,
    ),
    "arglble": _problem(
        "ARGLBLE", functools.partial(small.linear_rank_one, n_residuals=400), [1] * 100,
        5.460944e14, 400 * 399 / (2 * 801), None, _mgh(33),
        "Reached wherever sum_j(j x_j) = 3 / 801.",
    ),
    "argtrig": _problem(
        "ARGTRIG", algebra.argtrig, [0.01] * 100, 32.99641, 0, None, _mgh(26),
        _ROOTS + "One is zero, and adding 2 pi to a parameter gives others.",
    ),
    "artif": _problem(
        "ARTIF", algebra.artif, [1] * 100, 36.59115, 0, None,
        "Irani, Kamat, Ribbens, Walker and Watson (1991)",
        _ROOTS + "One is zero. There are local minima, too.",
    ),
    "arwhdne": _problem(
        "ARWHDNE", algebra.arwhdne, [1] * 100, 495, 27.662029937165997,
        [0.7060109721290786] * 99 + [0], "Conn, Gould, Lescrenier and Toint (1988)",
        "The last parameter is 0, the others solve x^3 + 8 x = 6; computed by us.",
    ),
    "bdvalues": _problem(
        "BDVALUES", grids.boundary_value_ahead, 1000 * starts.parabola(100), 1.943417e7, 0,
        _SOLUTIONS["bdvalues"], _mgh(28),
        "The published start value is reached with a grid that is one step ahead in the cubes;"
        " with the grid of 1981 it is 1.943920e7. " + _COMPUTED,
    ),
    "bratu_2d": _problem(
        "BRATU2D", grids.bratu(4.0, 8, 2), [0] * 64, 0.1560738, 0, None, _more("3"), _FOLD
    ),
    "bratu_2d_t": _problem(
        "BRATU2DT", grids.bratu(6.80812, 8, 2), [0] * 64, 0.4521311, 1.853473624575831e-5, None,
        _more("3"),
        "At the turning point: there is no root, and the Jacobian is singular at the minimum. The"
        " value was computed by us; the SIF file has 1.85347e-5.",
    ),
    "bratu_3d": _problem(
        "BRATU3D", grids.bratu(6.80812, 3, 3), [0] * 27, 4.888529, 0, None, _more("3"),
        _FOLD + "optimagic shifts the exponentials by one point.",
    ),
    "brownale": _problem(
        "BROWNALE", small.brown_almost_linear, [0.5] * 100, 2.524757e5, 0, None, _mgh(27),
        _ROOTS + "One is (1, ..., 1). There is a local minimum of 1.",
    ),
    "broydn_3d": _problem(
        "BROYDN3D", algebra.broyden_tridiagonal, [-1] * 100, 111, 0, _SOLUTIONS["broydn_3d"],
        _mgh(30), _COMPUTED,
    ),
    "cbratu_2d": _problem(
        "CBRATU2D", grids.complex_bratu, [0] * 50, 0.4822531, 0, None, _more("3"),
        _FOLD + "optimagic has the real part where cosine and sine need the imaginary part.",
    ),
    "broydn_bd": _problem(
        "BROYDNBD", algebra.broyden_banded, [1] * 100, 2404, 0, None, _mgh(31),
        _ROOTS + "One is zero. The SIF file, which was believed, has no constant, and it swaps"
        " squares and cubes in all rows but the first five and the last two.",
    ),
    "chandheq": _problem(
        "CHANDHEQ", grids.radiative_transfer, [1] * 100, 6.923365, 0, None, _more("4"),
        "The Jacobian is singular at the solution. optimagic takes the parameters for the grid.",
    ),
    "chemrcta": _problem(
        "CHEMRCTA", grids.reactor, [1] * 100, 3.0935, 0, [1 / 50] * 50 + [5 / 54] * 50,
        _more("8"),
        "The solution is constant along the reactor, because nothing reacts when it is that cold;"
        " it was found by us. There is a local minimum of 3.33672e-3.",
    ),
    "chemrctb": _problem(
        "CHEMRCTB", grids.reactor_of_temperatures, [1] * 100, 1.446513, 1.404423981123661e-3,
        None, _more("8"),
        "The published value is that of the local minimum where descent from the start ends; the"
        " digits were computed by us. The smallest value is 0, where all parameters are 5 / 104.",
    ),
    "chnrsbne": _problem(
        "CHNRSBNE", algebra.chained_rosenbrock, [-1] * 50, 7635.84, 0, [1] * 50, "Toint (1978)",
        _CLOSED,
    ),
    "drcavty1": _problem(
        "DRCAVTY1", grids.driven_cavity(500.0), [0] * 100, 0.4513889, 0, None, _BROWN_SAAD,
        _CAVITY.format("descent from the start finds one."),
    ),
    "drcavty2": _problem(
        "DRCAVTY2", grids.driven_cavity(1000.0), [0] * 100, 0.4513889, 0, None, _BROWN_SAAD,
        _CAVITY.format("one is found from that of drcavty1, with a number that grows by 100.")
        + "3.988378e-4, which optimagic has, belongs to the mistyped function. Descent from the"
        " start ends in a local minimum.",
    ),
    "drcavty3": _problem(
        "DRCAVTY3", grids.driven_cavity(4500.0), [0] * 100, 0.4513889, 0, None, _BROWN_SAAD,
        _CAVITY.format("few solvers find one from the start."),
    ),
    "eigena": _problem(
        "EIGENA", matrices.eigenvalues(np.diag(np.arange(1.0, 11))),
        [1] * 10 + [*np.eye(10).ravel()], 285, 0, None, "Gould (1992)",
        _ROOTS + "One has the eigenvalues 1 to 10 and the identity. optimagic leaves out"
        " transposes.",
    ),
    "eigenb": _problem(
        "EIGENB", matrices.eigenvalues(_TRIDIAGONAL), [1] * 10 + [*np.eye(10).ravel()], 19, 0,
        None, "Gould (1992)",
        _ROOTS + "The published value is right: 1.55654284, which optimagic has instead, belongs"
        " to its function without transposes.",
    ),
    **{
        f"flosp2h{size}": _problem(
            f"FLOSP2H{size.upper()}", grids.inclined_enclosure(rayleigh, _HEATED, _HEATED),
            [0] * 59, 519, 1 / 3, None, _SHADID, _ENCLOSURE,
        )
        for size, rayleigh in (("h", 1e7), ("l", 1e3), ("m", 1e5))
    },
    **{
        f"flosp2t{size}": _problem(
            f"FLOSP2T{size.upper()}", grids.inclined_enclosure(rayleigh, _COOLED, _KEPT),
            [0] * 59, 516, 0, None, _SHADID, _ENCLOSURE,
        )
        for size, rayleigh in (("h", 1e7), ("l", 1e3), ("m", 1e5))
    },
    "freurone": _problem(
        "FREURONE", algebra.freudenstein_roth, [0.5, -2] + [0] * 98, 9.95565e4,
        11964.577348654195, _SOLUTIONS["freurone"], _mgh(2),
        "The published value is that of the local minimum where descent from the start ends; value"
        " and solution were computed by us. There are smaller ones; 7815.87 was found from a random"
        " start.",
    ),
    "hatfldg": _problem(
        "HATFLDG", algebra.hatfldg, [1] * 25, 27, 0, None,
        "The OPTIMA user manual (1989), p. 49",
        _ROOTS + "In one all parameters are 0 but the twelfth, -1, and the thirteenth, 1.",
    ),
    "hydcar20": _problem(
        "HYDCAR20", columns.balances(columns.hydrocarbon(20, 9)), starts.hydcar20(), 1341.663, 0,
        _SOLUTIONS["hydcar20"], _more("2b"), _COMPUTED,
    ),
    "hydcar6": _problem(
        "HYDCAR6", columns.balances(columns.hydrocarbon(6, 2)), starts.hydcar6(), 704.1073, 0,
        _SOLUTIONS["hydcar6"], _more("2a"), _COMPUTED,
    ),
    "integreq": _problem(
        "INTEGREQ", grids.integral_equation, starts.parabola(100), 0.5730503, 0,
        _SOLUTIONS["integreq"], _mgh(29), _COMPUTED + " optimagic has another last equation.",
    ),
    "luksan11": _problem(
        "LUKSAN11", luksan.serpentine, [-0.8] * 100, 626.0640, 0, [1] * 100, _luksan(11), _CLOSED
    ),
    "luksan12": _problem(
        "LUKSAN12", luksan.hs47, [-1] * 98, 3.2160e4, 4292.196891406495, None, _luksan(12),
        "The published value, 4292.197, is that of the local minimum where descent from the start"
        " ends; the digits were computed by us. There are smaller ones; 1651.837 was found from"
        " another start, so that optimagic gives no value.",
    ),
    "luksan13": _problem(
        "LUKSAN13", luksan.hs48, [-1] * 98, 6.4352e4, 25188.859589645173, _SOLUTIONS["luksan13"],
        _luksan(13),
        "The published value, 25188.86, is right: 24949.67, which optimagic has instead, belongs to"
        " its function, where the last row has the second and not the first parameter. "
        + _COMPUTED,
    ),
    "luksan14": _problem(
        "LUKSAN14", luksan.hs53, [-1] * 98, 2.6880e4, 123.9235407645032, _SOLUTIONS["luksan14"],
        _luksan(14), _COMPUTED,
    ),
    "luksan15": _problem(
        "LUKSAN15", luksan.signomial, starts.zigzag(), 2.701585e4, 3.569697051173894, None,
        _luksan(15), "There are many solutions. The value was computed by us.",
    ),
    "luksan16": _problem(
        "LUKSAN16", luksan.exponential, starts.zigzag(), 1.306848e4, 3.569697051173889, None,
        _luksan(16), "There are many solutions. The value was computed by us.",
    ),
    "luksan17": _problem(
        "LUKSAN17", luksan.trigonometric, starts.zigzag(), 1.687370e6, 0.4931612903225655, None,
        _luksan(17), "There are many solutions. The value was computed by us.",
    ),
    "luksan21": _problem(
        "LUKSAN21", luksan.modified_boundary_value, starts.parabola(100), 99.98751, 0,
        _SOLUTIONS["luksan21"], _luksan(21), _COMPUTED,
    ),
    "luksan22": _problem(
        "LUKSAN22", luksan.attracting_repelling, [-1.2, 1] * 50, 2.487686e4, 868.9145987353999,
        None, _luksan(22),
        "The published value, 872.923, is that of a local minimum. Descent from the start goes"
        " below it, to 868.9405, where parameters run away; 868.9146 was found by us from a random"
        " start.",
    ),
    "methanb8": _problem(
        "METHANB8", columns.balances(columns.methanol()), starts.methanb8(), 1.043105, 0,
        _SOLUTIONS["methanl8"], _more("2d"), _COMPUTED,
    ),
    "methanl8": _problem(
        "METHANL8", columns.balances(columns.methanol()), starts.methanl8(), 4345.100, 0,
        _SOLUTIONS["methanl8"], _more("2c"), _COMPUTED,
    ),
    "morebvne": _problem(
        "MOREBVNE", grids.boundary_value_open, starts.parabola(100), 3.633100e-4, 0,
        _SOLUTIONS["morebvne"], _mgh(28),
        "The published start value is reached with x_99 in the last equation where that of 1981 has"
        " 2 x_100 - x_99; with the latter it is 1.232925e-6. " + _COMPUTED,
    ),
    "msqrta": _problem(
        "MSQRTA", matrices.square_root(_SINES), 0.2 * _SINES.ravel(), 212.7162, 0, None,
        _BUCKLEY.format(201), _SQUARE_ROOT,
    ),
    "msqrtb": _problem(
        "MSQRTB", matrices.square_root(_SINES_B), 0.2 * _SINES_B.ravel(), 205.0753, 0, None,
        _BUCKLEY.format(204),
        _SQUARE_ROOT + "The published start value is reached from 0.2 times that matrix; the SIF"
        " file starts elsewhere in one entry, with 205.0846.",
    ),
    "oscigrne": _problem(
        "OSCIGRNE", algebra.oscillating_path, [-2] + [1] * 99, 6.120720e8, 0, [1] * 100,
        "an oscillating path of Nesterov's",
        _CLOSED + " optimagic shifts two terms of the inner rows by one parameter.",
    ),
    "penalty_1": _problem(
        "PENLT1NE", algebra.penalty_1, range(1, 101), 1.144806e11, 9.0249999990975e-9,
        [0.050000000095000004] * 100, _mgh(23),
        "CUTEst gives residuals the weight 1e-5 that squares have in 1981, which the published"
        " value confirms; optimagic has yet another function. All parameters t solve"
        " 1e-10 (t - 1) + 2 t (100 t^2 - 1 / 4) = 0; computed by us.",
    ),
    "penalty_2": _problem(
        "PENLT2NE", algebra.penalty_2, [0.5] * 100, 1.591383e6, 0.9809376762588538,
        _SOLUTIONS["penalty_2"], _mgh(24),
        "CUTEst gives residuals the weight 1e-5 that squares have in 1981. " + _COMPUTED,
    ),
    "powellse": _problem(
        "POWELLSE", algebra.powell_singular, [3, -1, 0, 1] * 25, 41875, 0, [0] * 100, _mgh(13),
        "CUTEst has the weights 5 and 10 in place of their square roots. The Jacobian is singular"
        " at the solution.",
    ),
    "qr3d": _problem(
        "QR3D", matrices.orthogonal_triangular(matrices.qr_target(5), 4), starts.qr3d(5, 4), 1.2,
        0, None, _TOINT, _ROOTS + "They differ by signs.",
    ),
    "qr3dbd": _problem(
        "QR3DBD", matrices.orthogonal_triangular(matrices.qr_target(5), 2), starts.qr3d(5, 2),
        1.2, 0, None, _TOINT, _ROOTS + "They differ by signs.",
    ),
    "spmsqrt": _problem(
        "SPMSQRT", matrices.band_square_root(_BAND), 0.2 * _BAND[matrices.band(34, 1)], 74.33542,
        0, None, _BUCKLEY.format(151), "The matrix of sines is a root, and so is its negative.",
    ),
    "semicn2u": _problem(
        "SEMICN2U", grids.semiconductor, [0] * 100, 2.025037e4, 0, _SOLUTIONS["semicn2u"],
        _more("10"), _COMPUTED,
    ),
    "semicon2": _problem(
        "SEMICON2", grids.semiconductor, [0] * 100, 2.025037e4, 0, _SOLUTIONS["semicn2u"],
        _more("10"),
        "The same as semicn2u, but for bounds in the SIF file that do not bind. " + _COMPUTED,
    ),
    "vardimne": _problem(
        "VARDIMNE", algebra.variably_dimensioned, [1 - i / 100 for i in range(1, 101)],
        1.310584e14, 0, [1] * 100, _mgh(25), _CLOSED,
    ),
    "watsonne": _problem(
        "WATSONNE", small.watson, [0] * 31, 30, 0, None, _mgh(20),
        "31 equations for 31 parameters, near to singular: many points reach 1e-20. The SIF file"
        " mistypes a digit and squares only 12 terms; the function of 1981 was believed.",
    ),
    "yatpsq_1": _problem(
        "YATP1SQ", algebra.yatp_1, [6] * 100 + [0] * 20, 2.073643e6, 0, None, "Toint (2003)", _YATP
    ),
    "yatpsq_2": _problem(
        "YATP2SQ", algebra.yatp_2, [10] * 100 + [0] * 20, 1.831687e5, 0, None, "Toint (2003)",
        _YATP,
    ),
}  # fmt: skip

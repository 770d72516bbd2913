"""Small real data sets of the worked examples, as NumPy arrays by column name."""

from __future__ import annotations

from importlib import resources

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[np.float64]]


def load_houses() -> Columns:
    """Load 211 sales of houses in Baltimore and around it in 1978.

    Source: R. A. Dubin (1992), Spatial autocorrelation and neighborhood quality, Regional Science
    and Urban Economics 22(3), 433-452. The columns are taken from ``baltim`` of libpysal 4.14,
    under the BSD 3-clause license that lies beside the data (``baltimore.LICENSE.txt``).

    Returns:
        Columns of shape (211,): ``price`` in 1000 dollars, ``size`` in 100 square feet, ``age`` in
        years, ``county`` (0 in the city, 1 around it), and the place as ``x`` (to the east) and
        ``y`` (to the north) in 1000 feet on the Maryland grid, where City Hall is at (910.2, 531).

    Example:
        >>> houses = load_houses()
        >>> houses["price"].size, float(houses["price"].mean().round(1))
        (211, 44.3)
    """
    return _read("baltimore.csv")


def load_travel_modes() -> Columns:
    """Load the choices of 210 travellers between Sydney, Canberra and Melbourne in 1987.

    Each chose among air, train, bus and car, in this order. Modes other than the car are
    over-sampled.

    Source: W. H. Greene and D. Hensher (1997), in LIMDEP version 7.0 user's manual; table F18-2 of
    Greene (2011), Econometric Analysis, 7th edition. Public domain, as the data set
    ``modechoice`` of statsmodels 0.15 states, from which it is taken.

    Returns:
        Columns of shape (210, 4): ``choice`` (1 for the chosen mode), ``ttme`` (minutes in the
        terminal, 0 for the car), ``invc`` (cost in the vehicle, dollars), ``invt`` (minutes in the
        vehicle), ``gc`` (generalised cost: ``invc`` and the value of ``invt``, dollars), ``hinc``
        (household income, 1000 dollars), ``psize`` (travellers in the group).

    Example:
        >>> load_travel_modes()["choice"].sum(axis=0)
        array([58., 63., 30., 59.])
    """
    return {name: column.reshape(210, 4) for name, column in _read("modechoice.csv").items()}


def load_macro() -> Columns:
    """Load quarterly data of the United States from 1959Q1 to 2009Q3.

    Source: Federal Reserve Bank of St. Louis (FRED) and Bureau of Labor Statistics, compiled by
    Skipper Seabold in 2009. Public domain, as the data set ``macrodata`` of statsmodels 0.15
    states, from which it is taken.

    Returns:
        Columns of shape (203,): ``year``, ``quarter``, real gross domestic product ``realgdp``,
        consumption ``realcons`` and investment ``realinv`` (billions of dollars of 2005, seasonally
        adjusted, at annual rates), and the unemployment rate ``unemp`` (per cent).

    Example:
        >>> macro = load_macro()
        >>> macro["year"].size, float(macro["realgdp"][0])
        (203, 2710.349)
    """
    return _read("macro.csv")


def _read(file: str) -> Columns:
    text = (resources.files(__package__) / file).read_text("ascii")
    head, *rows = text.splitlines()
    table = np.array([row.split(",") for row in rows], dtype=np.float64)
    return dict(zip(head.split(","), table.T.copy(), strict=True))

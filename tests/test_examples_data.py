"""The data of the worked examples are what their sources published."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.datasets import macrodata, modechoice

from optimagic_lite.data.examples import load_houses, load_macro, load_travel_modes


def test_travel_modes_are_those_of_greene_and_hensher():
    source = modechoice.load_pandas().data
    for name, column in load_travel_modes().items():
        np.testing.assert_array_equal(column.ravel(), source[name])


def test_each_traveller_chooses_one_mode_and_none_waits_for_the_car():
    data = load_travel_modes()
    assert (data["choice"].sum(axis=1) == 1).all()
    assert (data["ttme"][:, 3] == 0).all()


def test_macro_series_are_those_of_fred():
    source = macrodata.load_pandas().data
    for name, column in load_macro().items():
        np.testing.assert_array_equal(column, source[name])


def test_houses_have_the_moments_of_the_source():
    houses = load_houses()
    assert {column.shape for column in houses.values()} == {(211,)}
    # of the file in libpysal
    assert houses["price"].mean() == pytest.approx(44.307180, abs=1e-6)
    assert houses["price"].std(ddof=1) == pytest.approx(23.606077, abs=1e-6)
    assert houses["x"].mean() == pytest.approx(911.645972, abs=1e-6)
    assert houses["y"].std(ddof=1) == pytest.approx(18.584343, abs=1e-6)


def test_houses_of_the_city_lie_south_of_its_northern_border():
    houses = load_houses()
    assert houses["y"][houses["county"] == 0].max() < 561.5
    assert houses["y"].max() > 580

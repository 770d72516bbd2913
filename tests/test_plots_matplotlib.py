"""Every plot of the package, drawn by matplotlib: the same lines, axes and legends."""

import builtins
import gc
import re
import sys
import weakref

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from plotly.subplots import make_subplots
from test_plots import make_history

import optimagic_lite as om
from optimagic_lite.exceptions import InvalidPlottingBackendError, NotInstalledError
from optimagic_lite.history import MultistartHistory
from optimagic_lite.plots.backends import alone, present

BOX = om.Bounds(lower=-2, upper=2)
POINT = 0.72  # a pixel in points, where 100 pixels are an inch


def sphere(x):
    return float(np.sum(np.asarray(x) ** 2))


def fails_to_the_right(x):
    if x[1] > 0.5:
        raise ValueError("too far")
    return sphere(x)


MULTISTART = MultistartHistory(
    make_history([6.0, 5.0, 9.0, 0.0, np.nan, 2.0], kinds=["exploration"] * 6),
    tuple(make_history(values) for values in ([5.0, 3.0, 1.0], [4.0, np.nan, 2.0, np.nan, 3.0])),
)
TWO = {"first": make_history([5.0, 3.0, 1.0]), "_$second$ <b>": make_history([4.0, 2.0])}
PLOTS = {
    "one run": lambda **k: om.criterion_plot(TWO["first"], **k),
    "several runs": lambda **k: om.criterion_plot(TWO, monotone=True, **k),
    "a logarithmic axis": lambda **k: om.criterion_plot(TWO, log_scale=True, x_axis="time", **k),
    "gaps": lambda **k: om.criterion_plot(make_history([3.0, np.nan, 2.0, np.nan, 1.0, 0.5]), **k),
    "multistart": lambda **k: om.criterion_plot(
        {"many": MULTISTART}, show_exploration=True, log_scale=True, **k
    ),
    "multistart, stacked": lambda **k: om.criterion_plot(
        MULTISTART, stack_multistart=True, show_exploration=True, monotone=True, **k
    ),
    "multistart by time": lambda **k: om.criterion_plot(
        MULTISTART, stack_multistart=True, show_exploration=True, x_axis="time", **k
    ),
    "40 runs": lambda **k: om.criterion_plot([TWO["first"]] * 40, **k),
    "params": lambda **k: om.params_plot(MULTISTART, show_exploration=True, **k),
    "20 params": lambda **k: om.params_plot(
        make_history([2.0, 1.0], params={"a": np.ones(20)}), **k
    ),
    "slices": lambda **k: om.slice_plot(sphere, np.ones(3), BOX, **k),
    "slices with notes": lambda **k: om.slice_plot(
        fails_to_the_right,
        np.zeros(5),
        plots_per_row=3,
        share_x=True,
        share_y=False,
        title="<b>All</b> slices",
        **k,
    ),
    "one slice": lambda **k: om.slice_plot(sphere, np.ones(1), BOX, **k),
}


def scatter(**options):
    return go.Scatter(x=[1.0, 2.0], y=[3.0, 4.0], mode="lines", **options)


def draw(*traces, **layout):
    figure = go.Figure(list(traces))
    figure.update_layout(**layout)
    return present(figure, "matplotlib")


def lines_of(figure):
    return [line for panel in figure.axes for line in panel.get_lines()]


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


# ------------------------------------------------------------------- all plots of the package


@pytest.fixture(scope="module", params=PLOTS)
def both(request):
    """Return a plot drawn by plotly, and the figure that matplotlib has drawn."""
    by_plotly = PLOTS[request.param]()
    by_matplotlib = PLOTS[request.param](backend="matplotlib")
    figure = np.ravel(by_matplotlib)[0].figure
    figure.draw_without_rendering()
    return by_plotly, figure


def test_all_points_are_drawn(both):
    by_plotly, figure = both
    expected = sorted((np.nan_to_num([t.x, t.y], nan=-1e9)).tolist() for t in by_plotly.data)
    found = sorted(
        (np.nan_to_num([line.get_xdata(), line.get_ydata()], nan=-1e9)).tolist()
        for line in lines_of(figure)
    )
    assert found == expected


def test_titles_scales_and_ranges_are_the_same(both):
    by_plotly, figure = both
    places = {(t.xaxis or "x", t.yaxis or "y") for t in by_plotly.data}
    assert len([panel for panel in figure.axes if panel.get_visible()]) == len(places)
    x_titles = {axis.title.text for axis in by_plotly.select_xaxes() if axis.title.text}
    found = {panel.get_xlabel() for panel in figure.axes if panel.get_visible()}
    assert found == {
        re.sub("<span.*?>|</span>", "", title.replace("<br>", "\n")) for title in x_titles
    }
    y = by_plotly.layout.yaxis
    shown = [panel for panel in figure.axes if panel.get_ylabel()]
    assert {panel.get_ylabel() for panel in shown} == {y.title.text}
    assert {panel.get_yscale() for panel in shown} == {y.type or "linear"}
    if y.range is not None:
        assert figure.axes[0].get_ylim() == pytest.approx(y.range)


def test_the_legend_is_the_same(both):
    by_plotly, figure = both
    named = [trace for trace in by_plotly.data if trace.showlegend is not False]
    is_shown = by_plotly.layout.showlegend is not False and (
        len(named) > 1 or any(trace.showlegend for trace in named)
    )
    expected = sorted(named, key=lambda trace: trace.legendrank or 1000) if is_shown else []
    texts = [t.name.replace("&lt;", "<").replace("&gt;", ">") for t in expected]
    assert legend_of(figure) == texts


def test_nothing_lies_outside_of_the_figure(both):
    _, figure = both
    width, height = figure.bbox.size
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width + 1
    assert box.y1 <= height + 1


# -------------------------------------------------------------------------- what is returned


def test_a_history_plot_is_the_panel():
    panel = PLOTS["multistart"](backend="matplotlib")
    assert isinstance(panel, Axes)
    assert panel.get_xlabel() == "Evaluation"
    assert len(panel.figure.axes) == 2


def test_slices_are_an_array_of_panels():
    panels = om.slice_plot(sphere, np.ones(3), BOX, backend="matplotlib")
    assert panels.shape == (2, 2)
    assert [panel.get_xlabel() for panel in panels.flat] == ["0", "1", "2", ""]
    assert [panel.get_visible() for panel in panels.flat] == [True, True, True, False]
    assert PLOTS["one slice"](backend="matplotlib").shape == (1, 1)


def test_a_dict_of_slices_is_a_panel_each():
    panels = om.slice_plot(sphere, np.ones(2), BOX, return_dict=True, backend="matplotlib")
    assert {name: panel.get_xlabel() for name, panel in panels.items()} == {"0": "0", "1": "1"}
    assert panels["0"].figure is not panels["1"].figure


def test_a_grid_that_is_alone_is_a_panel():
    grid = make_subplots(1, 1).add_trace(scatter(), row=1, col=1)
    assert present(grid, "matplotlib").shape == (1, 1)
    assert isinstance(present(alone(grid), "matplotlib"), Axes)


def test_files_are_written(tmp_path):
    figure = PLOTS["several runs"](backend="matplotlib").figure
    for ending in ("png", "pdf", "svg"):
        figure.savefig(tmp_path / f"plot.{ending}")
        assert (tmp_path / f"plot.{ending}").stat().st_size > 1000


# ------------------------------------------------------------------------ settings and state


@pytest.mark.parametrize("template", [None, "ggplot"])
def test_settings_stay_as_they_were(template):
    before = dict(mpl.rcParams)
    PLOTS["slices"](backend="matplotlib", template=template)
    assert dict(mpl.rcParams) == before


def test_the_default_look_does_not_depend_on_settings():
    with mpl.rc_context({"axes.facecolor": "red", "figure.facecolor": "red", "font.size": 30}):
        panel = PLOTS["one run"](backend="matplotlib")
    panel.figure.draw_without_rendering()
    white = to_rgba("white")
    assert panel.get_facecolor() == panel.figure.get_facecolor() == white
    assert panel.xaxis.get_ticklabels()[0].get_fontsize() == pytest.approx(12 * POINT)
    assert not panel.spines["top"].get_visible()


def test_a_style_is_used():
    panel = PLOTS["several runs"](backend="matplotlib", template="dark_background")
    panel.figure.draw_without_rendering()
    assert panel.get_facecolor() == panel.figure.get_facecolor() == to_rgba("black")
    assert panel.yaxis.get_ticklabels()[-1].get_color() == "white"
    assert panel.figure.legends[0].get_texts()[0].get_color() == "white"


def test_a_misspelt_style_is_named_before_anything_is_computed():
    def never(x):
        raise AssertionError("called")

    with pytest.raises(ValueError, match=r"'gplot' is no style.*Did you mean 'ggplot'"):
        om.slice_plot(never, 1.0, BOX, backend="matplotlib", template="gplot")


def test_missing_matplotlib_is_named_before_anything_is_computed(monkeypatch):
    original = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(NotInstalledError, match="pip install matplotlib"):
        om.criterion_plot("there_is_no_log.db", backend="matplotlib")


@pytest.mark.parametrize("backend", ["bokeh", "altair"])
def test_backends_that_are_not_there(backend):
    with pytest.raises(InvalidPlottingBackendError, match=f"{backend!r} is .*'plotly'.*'matplotl"):
        om.params_plot(TWO["first"], backend=backend)


def test_the_nearest_backend_is_named():
    with pytest.raises(InvalidPlottingBackendError, match="Did you mean 'matplotlib'"):
        om.params_plot(TWO["first"], backend="matplotib")


def test_figures_do_not_pile_up():
    import matplotlib.pyplot as plt

    panel = PLOTS["one run"](backend="matplotlib")
    assert plt.get_fignums() == []
    figure = weakref.ref(panel.figure)
    del panel
    gc.collect()
    assert figure() is None


def test_pyplot_knows_a_figure_that_it_can_show(tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    window = "from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas\n"
    (tmp_path / "a_window.py").write_text(window)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = mpl.get_backend()
    plt.switch_backend("module://a_window")
    try:
        panel = PLOTS["one run"](backend="matplotlib")
        assert plt.gcf() is panel.figure
    finally:
        plt.close("all")
        plt.switch_backend(before)
        sys.modules.pop("a_window")


# -------------------------------------------------------------------------- lines and markers


def test_look_of_a_line():
    line = {"color": "rgba(10, 20, 30, 0.5)", "width": 3, "dash": "dot", "shape": "hv"}
    (drawn,) = draw(scatter(line=line, opacity=0.5)).get_lines()
    assert drawn.get_color() == pytest.approx((10 / 255, 20 / 255, 30 / 255, 0.25))
    assert drawn.get_linewidth() == pytest.approx(3 * POINT)
    assert (drawn.get_linestyle(), drawn.get_drawstyle()) == (":", "steps-post")
    assert drawn.get_marker() == "None"


def test_look_of_markers():
    marker = {"size": 10, "color": "Teal", "opacity": 0.5, "symbol": "square"}
    (drawn,) = draw(go.Scatter(x=[1], y=[2], mode="markers", marker=marker)).get_lines()
    assert (drawn.get_marker(), drawn.get_linestyle()) == ("s", "None")
    assert drawn.get_markersize() == pytest.approx(10 * POINT)
    assert drawn.get_markerfacecolor() == to_rgba("teal", 0.5)


def test_the_axis_reaches_to_points_without_a_value():
    panel = draw(go.Scatter(x=[0.0, 1.0, 5.0], y=[1.0, 2.0, np.nan], mode="lines"))
    assert panel.get_xlim() == (0.0, 5.0)


def test_there_is_room_for_a_marker_at_the_end():
    panel = draw(scatter(), go.Scatter(x=[2.0], y=[3.0], mode="markers"))
    assert panel.get_xlim()[1] > 2.0


# ---------------------------------------------------------------------------------- the legend


def test_groups_of_the_legend_stand_together_by_rank():
    traces = [
        scatter(name="a", legendgroup="1"),
        scatter(name="b", legendgroup="2"),
        scatter(name="c", legendgroup="1"),
        scatter(name="d", legendgroup="2", legendrank=1),
        scatter(name="hidden", showlegend=False),
    ]
    panel = draw(*traces)
    assert legend_of(panel.figure) == ["d", "b", "a", "c"]
    # a legend that a user makes has the same entries
    assert sorted(panel.get_legend_handles_labels()[1]) == ["a", "b", "c", "d"]


def test_the_legend_has_its_title():
    panel = draw(scatter(name="a"), scatter(name="b"), legend_title_text="x &lt; y")
    assert panel.figure.legends[0].get_title().get_text() == "x < y"


@pytest.mark.parametrize(
    ("place", "is_inside"),
    [({"x": 0.95, "y": 0.95, "xanchor": "right"}, True), ({"orientation": "h", "y": -0.2}, False)],
)
def test_places_of_the_legend(place, is_inside):
    panel = draw(scatter(name="a"), scatter(name="b"), legend=place)
    assert (panel.get_legend() is not None) == is_inside
    assert bool(panel.figure.legends) != is_inside


# ------------------------------------------------------------------------- axes, texts, shapes


@pytest.mark.parametrize(
    ("tickformat", "value", "text"),
    [
        (",d", 12000.0, "12,000"),
        (".0%", 0.25, "25%"),
        ("~s", 12000.0, "12k"),
        (".2f", 0.5, "0.50"),
    ],
)
def test_formats_of_ticks(tickformat, value, text):
    panel = draw(scatter(), xaxis={"tickformat": tickformat})
    assert panel.xaxis.get_major_formatter()(value) == text


def test_steps_and_places_of_ticks():
    panel = draw(
        scatter(), xaxis={"dtick": 0.5}, yaxis={"tickvals": [3, 4], "ticktext": ["low", "high"]}
    )
    assert np.diff(panel.get_xticks()) == pytest.approx(0.5)
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["low", "high"]


def test_ranges_of_logarithmic_axes_are_powers_of_ten():
    panel = draw(scatter(), xaxis={"type": "log", "range": [-1, 3]}, yaxis_rangemode="tozero")
    assert panel.get_xlim() == pytest.approx((0.1, 1000))
    assert panel.get_ylim()[0] == 0


def test_lines_across_the_panel():
    figure = go.Figure(scatter()).add_hline(y=7.0, line_color="#ff0000").add_vline(x=9.0)
    panel = present(figure, "matplotlib")
    across, up = panel.get_lines()[1:]
    assert (list(across.get_ydata()), across.get_color()) == ([7.0, 7.0], (1.0, 0.0, 0.0, 1.0))
    assert list(up.get_xdata()) == [9.0, 9.0]
    assert panel.get_ylim()[1] > 7
    assert legend_of(panel.figure) == []


def test_a_rectangle_and_a_text_in_the_panel():
    figure = go.Figure(scatter()).add_vrect(x0=1, x1=1.5, fillcolor="green", opacity=0.2)
    figure.add_annotation(text="10<sup>-3</sup>", x=1, y=2, showarrow=False)
    figure.update_layout(yaxis={"type": "log"})
    panel = present(figure, "matplotlib")
    assert panel.patches[0].get_width() == 0.5
    assert (panel.texts[0].get_text(), panel.texts[0].xy) == ("10⁻³", (1, 100))


def test_titles_of_panels_and_of_the_figure():
    figure = make_subplots(2, 2, subplot_titles=["a", "b", "c"], x_title="below", y_title="beside")
    for i in range(3):
        figure.add_trace(scatter(), row=i // 2 + 1, col=i % 2 + 1)
    figure.update_layout(title="10 &lt; 20<br>", width=500, height=300)
    panels = present(figure, "matplotlib")
    figure = panels[0, 0].figure
    assert [panel.get_title() for panel in panels.flat] == ["a", "b", "c", ""]
    assert figure.get_suptitle() == "10 < 20\n"
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("below", "beside")
    assert figure.get_size_inches().tolist() == [5, 3]


def test_shared_axes_move_together():
    panels = om.slice_plot(sphere, np.ones(4), BOX, share_x=True, backend="matplotlib")
    panels[0, 0].set(xlim=(0, 1), ylim=(2, 3))
    assert panels[1, 1].get_xlim() == (0, 1)
    assert panels[1, 1].get_ylim() == (2, 3)


# ---------------------------------------------------------------------- what is not translated


@pytest.mark.parametrize(
    ("trace", "layout", "what"),
    [
        (go.Bar(y=[1]), {}, "trace type 'bar'"),
        (scatter(fill="tozeroy"), {}, "'fill' in a trace"),
        (scatter(marker={"line": {"width": 1}}), {}, "'marker.line' in a trace"),
        (scatter(), {"updatemenus": [{}]}, "'updatemenus' in a layout"),
        (scatter(), {"xaxis": {"autorange": "reversed"}}, "'autorange' in a axis"),
        (scatter(), {"xaxis": {"tickformat": "%Y"}}, "format '%Y'"),
        (scatter(), {"shapes": [{"type": "circle", "x0": 0, "x1": 1, "y0": 0, "y1": 1}]}, "circle"),
    ],
)
def test_what_is_not_translated_is_refused(trace, layout, what):
    with pytest.raises(AssertionError, match=what):
        draw(trace, **layout)

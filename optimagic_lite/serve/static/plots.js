// The two plots. Plotly reads a kind of HTML in every text that it gets, so names of parameters are
// escaped, and no other text of a log reaches it.
"use strict";

const Plots = (() => {
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const X_TITLES = { evaluations: "Evaluation", time: "Seconds since the start of the run" };

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  const shortened = (text) => {
    const characters = [...text];
    return characters.length <= 40 ? text : [...characters.slice(0, 19), "…", ...characters.slice(-20)].join("");
  };

  const lineStyle = (palette, i) => ({
    color: palette[i % palette.length],
    dash: DASHES[Math.floor(i / palette.length) % DASHES.length],
  });

  // Another one for another run, and for another server.
  const origin = (data) => data.points.key.split("/")[0];

  // Where the horizontal axis ends; one of no length would not be drawn.
  const lastPlace = ({ summary }, view) => Math.max(view.x === "evaluations" ? summary.n_numbered - 1 : summary.last_time, 1e-3);

  function axis(more) {
    return {
      gridcolor: css("--grid"), linecolor: css("--edge"), tickcolor: css("--edge"),
      zeroline: false, exponentformat: "power", automargin: true, ...more,
    };
  }

  function draw(id, traces, data, view, yAxis, revision) {
    const end = lastPlace(data, view);
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: css("--quiet"), size: 12, family: getComputedStyle(document.body).fontFamily },
      margin: { l: 60, r: 16, t: 10, b: 44 },
      xaxis: axis({
        title: { text: X_TITLES[view.x] }, range: [-0.01 * end, 1.01 * end],
        showgrid: false, showline: true, ticks: "outside",
        // left to itself, plotly puts ticks at halves, which no evaluation has
        ...(view.x === "evaluations" ? { tickformat: ",d", dtick: end < 10 ? 1 : undefined } : {}),
      }),
      yaxis: axis(yAxis),
      // failures stand at the foot of the plot, whatever its scale is
      yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
      hovermode: "closest", showlegend: false, dragmode: "zoom",
      hoverlabel: { namelength: -1 },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--accent") },
      // what the reader has zoomed into stays
      uirevision: revision,
    };
    const buttons = [["zoom2d", "pan2d", "resetScale2d", "toImage"]];
    const config = { displaylogo: false, responsive: true, displayModeBar: "hover", modeBarButtons: buttons };
    Plotly.react(id, traces, layout, config);
  }

  // Values on a logarithmic axis: as they are if all are positive, else their distance to the best.
  function scaled(points, line, view) {
    const all = [...line[1], ...points.fun.filter((v) => v !== null)];
    const positive = all.every((v) => v > 0);
    if (!view.log || positive) return { title: "Criterion", of: (v) => v };
    const best = line[1].at(-1);
    return { title: "Distance to the best value", of: (v) => (v === null || v === best ? null : Math.abs(v - best)) };
  }

  function criterion(data, view, palette) {
    const { points, best_so_far: lines } = data;
    const line = lines[view.x];
    const x = view.x === "evaluations" ? points.number : points.time;
    const scale = scaled(points, line, view);
    const many = points.number.length > 600;
    const colors = points.step.map((step) => (step ? palette[(step - 1) % palette.length] : css("--dots")));
    const hover = view.x === "evaluations" ? "evaluation %{x:,d}" : "after %{x:.4~g} s";
    const end = lastPlace(data, view);
    const failed = x.filter((_, i) => points.fun[i] === null);
    const bestY = line[1].map(scale.of);
    const traces = [
      {
        x, y: points.fun.map(scale.of), mode: "markers", type: "scatter",
        marker: { size: many ? 3.5 : 5.5, color: colors, opacity: many ? 0.55 : 0.75 },
        customdata: points.fun, hovertemplate: `%{customdata:.7~g}<br>${hover}<extra></extra>`,
      },
      {
        x: failed, y: failed.map(() => 0.02), yaxis: "y2", mode: "markers", type: "scatter",
        marker: { symbol: "line-ns-open", size: 9, color: css("--bad"), line: { width: 1.5 } },
        hovertemplate: `failed<br>${hover}<extra></extra>`,
      },
      {
        x: line[0].length ? [...line[0], end] : [], y: line[0].length ? [...bestY, bestY.at(-1)] : [],
        customdata: [...line[1], line[1].at(-1)], mode: "lines", type: "scatter",
        line: { color: css("--accent"), width: 2.4, shape: "hv" },
        hovertemplate: `best so far: %{customdata:.7~g}<br>${hover}<extra></extra>`,
      },
    ];
    const yAxis = { title: { text: scale.title }, type: view.log ? "log" : "linear" };
    draw("criterion-plot", traces, data, view, yAxis, `${origin(data)}/${view.x}/${view.log}`);
  }

  function params(data, view, palette) {
    const { params: found } = data;
    const x = view.x === "evaluations" ? found.number : found.time;
    const hover = view.x === "evaluations" ? "evaluation %{x:,d}" : "after %{x:.4~g} s";
    const traces = found.names.map((name, i) => ({
      x, y: found.values[i], mode: x.length > 1 ? "lines" : "markers", type: "scatter",
      name: escaped(shortened(name)), visible: !view.hiddenNames.has(name),
      line: { ...lineStyle(palette, i), width: 1.6 },
      marker: { color: lineStyle(palette, i).color },
      hovertemplate: `%{y:.6~g}<br>${hover}<extra>%{fullData.name}</extra>`,
    }));
    draw("params-plot", traces, data, view, { title: { text: "Value" } }, `${origin(data)}/${view.x}/${view.words}`);
  }

  return { criterion, params, lineStyle };
})();

// The page asks for what is new once a second and shows it. Texts of a log are set as text content,
// never as HTML.
"use strict";

const INTERVAL = 1000;
const SLOW = 4000;

const byId = (id) => document.getElementById(id);
const view = { run: "-1", x: "evaluations", log: false, logIsChosen: false, words: "", hiddenNames: new Set() };
let data = null;
let palette = ["#1F77B4"];
let shownRuns = "";
let isAsking = false;
let timer = null;

// --- texts ------------------------------------------------------------------------------------

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function value(number, digits = 8) {
  if (number === null || number === undefined) return "–";
  if (number !== 0 && (Math.abs(number) >= 1e9 || Math.abs(number) < 1e-4)) {
    return number.toExponential(Math.min(digits - 1, 5)).replace(/\.?0*e\+?/, "e");
  }
  return String(Number(number.toPrecision(digits)));
}

function duration(seconds) {
  if (seconds < 0.1) return `${value(1000 * seconds, 2)} ms`;
  if (seconds < 10) return `${value(seconds, 2)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  if (minutes < 60 * 24) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}

function clock(timestamp) {
  const date = new Date(timestamp * 1000);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? `at ${date.toLocaleTimeString()}` : `on ${date.toLocaleDateString()}`;
}

function text(id, content) {
  const node = byId(id);
  if (node.textContent !== content) node.textContent = content;
}

function element(tag, content, className = "") {
  const node = document.createElement(tag);
  node.textContent = content;
  node.className = className;
  return node;
}

// A text whose direction of writing does not spread to its neighbours.
function isolated(tag, content) {
  const node = document.createElement(tag);
  node.append(element("bdi", content));
  node.title = content;
  return node;
}

// --- asking -----------------------------------------------------------------------------------

function question() {
  const asked = new URLSearchParams({ run: view.run, words: view.words });
  if (data) {
    asked.set("version", data.version);
    asked.set("points", data.points.key);
    asked.set("points_last", data.points.number.at(-1) ?? -1);
    asked.set("params", data.params.key);
    asked.set("params_last", data.params.number.at(-1) ?? -1);
  }
  return `/live.json?${asked}`;
}

async function ask() {
  clearTimeout(timer);
  if (isAsking || document.hidden) return;
  isAsking = true;
  const slow = setTimeout(() => complain("The log is slow to answer. It may be locked by another program."), SLOW);
  const asked = question();
  try {
    const response = await fetch(asked, { cache: "no-store" });
    const isJson = (response.headers.get("content-type") ?? "").includes("json");
    const answer = isJson ? await response.json() : { error: `The server answers ${response.status}.` };
    if (answer.error) complain(`${answer.error} Looking again every second.`);
    // while the server thought, the reader may have asked for something else
    else if (asked === question()) take(answer);
  } catch {
    complain("The server does not answer. Is it still running? Trying again every second.");
  } finally {
    clearTimeout(slow);
    isAsking = false;
    timer = setTimeout(ask, INTERVAL);
  }
}

function askNow() {
  clearTimeout(timer);
  if (isAsking) timer = setTimeout(askNow, 50);
  else ask();
}

function complain(message) {
  byId("banner").hidden = false;
  text("banner", message);
  byId("pulse").className = "pulse lost";
}

function take(answer) {
  byId("banner").hidden = true;
  byId("pulse").className = "pulse ok";
  palette = answer.palette;
  text("location", answer.location);
  showRuns(answer.runs);
  byId("empty").hidden = answer.runs.length > 0;
  byId("content").hidden = answer.runs.length === 0;
  if (answer.runs.length === 0) {
    data = null;
    return;
  }
  const isNew = answer.points !== undefined;
  data = isNew ? { ...answer, points: joined(data?.points, answer.points), params: joinedParams(data?.params, answer.params) } : { ...data, summary: answer.summary };
  showSummary(data.summary);
  if (isNew) showAll();
}

function joined(old, fresh) {
  if (fresh.is_fresh) return fresh;
  const columns = ["number", "time", "fun", "step", "kind"].filter((name) => name in fresh);
  return { ...fresh, ...Object.fromEntries(columns.map((name) => [name, old[name].concat(fresh[name])])) };
}

function joinedParams(old, fresh) {
  if (fresh.is_fresh) return fresh;
  return { ...joined(old, fresh), values: fresh.values.map((column, i) => old.values[i].concat(column)) };
}

// --- showing ----------------------------------------------------------------------------------

function showRuns(runs) {
  const label = (run) => `${run.run} · ${run.algorithm} · ${run.status}`;
  const labels = runs.map(label).join("\n");
  if (labels === shownRuns) return;
  shownRuns = labels;
  const options = [...runs].reverse().map((run) => new Option(label(run), String(run.run)));
  byId("run").replaceChildren(new Option(`newest of ${runs.length}`, "-1"), ...options);
  if (view.run !== "-1" && Number(view.run) >= runs.length) view.run = "-1";
  byId("run").value = view.run;
}

function showSummary(now) {
  const best = now.best;
  text("status", now.status);
  byId("status").className = `badge ${now.status}`;
  text("algorithm", now.algorithm);
  const { kind, reason } = now.derivatives;
  const derivatives = kind ? `${kind === "none" ? "no" : kind} derivatives` : "";
  text("facts", [`run ${now.run}`, now.direction, `${grouped.format(now.n_params)} parameters`, derivatives].filter(Boolean).join(" · "));
  byId("facts").title = reason ?? "";
  const message = now.status === "died" ? "The process of this run is gone, and could not say why." : now.message;
  byId("message").hidden = !message;
  text("message", message);
  text("best", best ? value(best.fun, 10) : "–");
  const where = best?.step ? ` in local optimisation ${best.step}` : "";
  text("best-when", best ? `evaluation ${grouped.format(best.number)}${where}, ${ago(now, best.time)}` : "no feasible value yet");
  text("evaluations", grouped.format(now.n_evaluations));
  const parts = [[now.n_derivative, "for differences"], [now.n_exploration, "exploration"]];
  text("evaluations-more", parts.filter(([n]) => n).map(([n, what]) => `${grouped.format(n)} ${what}`).join(", "));
  text("rate", now.per_second >= 100 ? grouped.format(now.per_second) : value(now.per_second, 3));
  text("rate-more", now.status === "running" ? "over the last seconds" : "on average");
  text("elapsed", duration(now.elapsed));
  text("started", `began ${clock(now.started)}`);
  text("failed", grouped.format(now.n_failed));
  text("failed-more", now.n_failed ? `${value((100 * now.n_failed) / now.n_evaluations, 2)} % of evaluations` : "none");
  byId("failed-tile").classList.toggle("alarm", now.n_failed > 0);
  document.title = `${best ? value(best.fun, 6) : now.status} · ${now.algorithm}`;
}

function ago(now, time) {
  return now.status === "running" ? `${duration(Math.max(0, now.elapsed - time))} ago` : `after ${duration(time)}`;
}

function showAll() {
  chooseScale();
  showPlots();
  showLegend();
  showTable();
  showSteps();
  showFailures();
}

function chooseScale() {
  if (view.logIsChosen) return;
  const values = data.best_so_far.evaluations[1];
  view.log = values.length > 1 && values.at(-1) > 0 && Math.max(...values) > 1000 * Math.min(...values);
}

function showPlots() {
  if (!data) return;
  for (const x of ["evaluations", "time"]) byId(`x-${x}`).setAttribute("aria-pressed", view.x === x);
  byId("y-log").setAttribute("aria-pressed", view.log);
  byId("y-linear").setAttribute("aria-pressed", !view.log);
  Plots.criterion(data, view, palette);
  Plots.params(data, view, palette);
  const every = (n) => `One in ${grouped.format(n)} evaluations is drawn`;
  text("criterion-note", data.points.stride > 1 ? `${every(data.points.stride)}; the line shows all improvements.` : "");
  const { n_matching: n, names, stride } = data.params;
  const shown = n > names.length ? `The first ${names.length} of ${grouped.format(n)} parameters are drawn: filter to see others.` : "";
  text("params-note", [n ? shown : "No parameter has such a name.", stride > 1 ? `${every(stride)}.` : ""].filter(Boolean).join(" "));
}

function showLegend() {
  const chips = data.params.names.map((name, i) => {
    const style = Plots.lineStyle(palette, i);
    const chip = isolated("button", name);
    const mark = document.createElement("i");
    mark.style.borderTopColor = style.color;
    mark.style.borderTopStyle = { solid: "solid", dot: "dotted" }[style.dash] ?? "dashed";
    chip.prepend(mark);
    chip.type = "button";
    chip.setAttribute("aria-pressed", !view.hiddenNames.has(name));
    chip.addEventListener("click", () => {
      if (!view.hiddenNames.delete(name)) view.hiddenNames.add(name);
      showLegend();
      showPlots();
    });
    return chip;
  });
  byId("legend").replaceChildren(...chips);
}

function showTable() {
  const { names, start, best } = data.params.table;
  const change = (i) => (best[i] === null || start[i] === null ? null : best[i] - start[i]);
  const rows = names.map((name, i) => {
    const row = document.createElement("tr");
    row.append(isolated("td", name), ...[start[i], best[i], change(i)].map((v) => element("td", value(v, 6), "n")));
    return row;
  });
  byId("best-params").replaceChildren(...rows);
  const n = data.params.n_matching;
  text("table-note", n > names.length ? `The first ${names.length} of ${grouped.format(n)}: filter to see others.` : "");
}

function showSteps() {
  const { n, n_finished: finished, rows } = data.steps;
  byId("steps-card").hidden = n === 0;
  text("steps-facts", `${grouped.format(finished)} of ${grouped.format(n)} finished`);
  const goesOn = { running: "running", complete: "ended" }[data.summary.status] ?? "broken off";
  const status = (s) => (!s.is_finished ? goesOn : s.success ? "converged" : s.success === null ? "failed" : "not converged");
  const nodes = rows.map((s) => {
    const row = document.createElement("tr");
    if (data.summary.best?.step === s.step) row.className = "best";
    row.append(element("td", String(s.step), "n"), element("td", status(s)), element("td", grouped.format(s.n_evaluations), "n"), element("td", value(s.first), "n"), element("td", value(s.best), "n"));
    return row;
  });
  byId("steps").replaceChildren(...nodes);
  text("steps-note", n > rows.length ? `The best ${rows.length} of ${grouped.format(n)}.` : "");
}

function showFailures() {
  const { failures, summary } = data;
  byId("failures-card").hidden = failures.length === 0;
  text("failures-facts", failures.length < summary.n_failed ? `the last ${failures.length} of ${grouped.format(summary.n_failed)}` : "");
  const items = failures.map((failure) => {
    const item = document.createElement("li");
    const step = failure.step ? ` in local optimisation ${failure.step}` : "";
    item.append(element("span", `after ${duration(failure.time)}${step}`), element("bdi", failure.message));
    return item;
  });
  byId("failures").replaceChildren(...items);
}

// --- what the reader does ---------------------------------------------------------------------

for (const x of ["evaluations", "time"]) {
  byId(`x-${x}`).addEventListener("click", () => {
    view.x = x;
    showPlots();
  });
}

for (const scale of ["linear", "log"]) {
  byId(`y-${scale}`).addEventListener("click", () => {
    view.log = scale === "log";
    view.logIsChosen = true;
    showPlots();
  });
}

byId("run").addEventListener("change", (event) => {
  view.run = event.target.value;
  view.logIsChosen = false;
  askNow();
});

byId("words").addEventListener("input", (event) => {
  view.words = event.target.value;
  askNow();
});

document.addEventListener("visibilitychange", askNow);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showPlots);
ask();

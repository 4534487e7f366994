// A study under way: asks for the data every two seconds, and draws what there is.
// Names only ever become text nodes, never markup.
"use strict";
const SECONDS = 2;
const PANELS = { valid_loss: "Validation loss", train_loss: "Training loss", lr_mean: "Learning rate" };
const HUES = ["--adaptive", "--lr-decay", "--halving", "--adaptive-rate", "--cosine", "--robbins-monro", "--constant"];
const byId = (id) => document.getElementById(id);
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const element = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};
const short = (value) => (value == null ? "–" : Number(value.toPrecision(4)).toString());
const inWords = (seconds) => (seconds < 120 ? `${Math.round(seconds)} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} hours`);
let data = null, first = null;

const colourOf = (method, methods) => css(HUES[methods.indexOf(method) % HUES.length]);

const showProgress = () => {
  const ended = ["done", "diverged", "failed"].reduce((sum, state) => sum + (data.counts[state] ?? 0), 0);
  first ??= { trained: data.trained, time: Date.now() };
  const made = data.trained - first.trained, seconds = (Date.now() - first.time) / 1000;
  const left = made > 0 && ended < data.runs ? `, about ${inWords((seconds * (data.epochs - data.trained)) / made)} left` : "";
  byId("heading").textContent = data.heading;
  byId("title").textContent = document.title = data.title;
  byId("progress").textContent = ended === data.runs ? `All ${data.runs} runs have ended.` : `${ended} of ${data.runs} runs have ended${left}.`;
  byId("bar").style.width = `${(100 * data.trained) / Math.max(1, data.epochs)}%`;
  byId("counts").replaceChildren(...Object.entries(data.counts).map(([state, count]) => element("div", {}, element("dt", {}, state), element("dd", {}, String(count)))));
};

const showTasks = () => {
  const tasks = [...new Set(data.curves.map((one) => one.task))], select = byId("task");
  if ([...select.options].map((option) => option.value).join("\n") === tasks.join("\n")) return;
  const before = select.value;
  select.replaceChildren(...tasks.map((task) => element("option", { value: task }, task)));
  if (tasks.includes(before)) select.value = before;
};

const showCurves = () => {
  const here = data.curves.filter((one) => one.task === byId("task").value), x = byId("x").value;
  const methods = [...new Set(here.map((one) => one.method))].sort();
  byId("key").replaceChildren(...methods.map((method) => {
    const swatch = element("i");
    swatch.style.borderColor = colourOf(method, methods);
    return element("span", {}, swatch, method);
  }));
  const axis = (text) => ({ title: { text, font: { size: 12 } }, gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, showline: true, nticks: 6 });
  const panels = byId("panels");
  if (!panels.children.length) { // all of them first: a plot is as wide as its panel is then
    for (const name of Object.values(PANELS)) panels.append(element("figure", { className: "panel" }, element("h3", {}, name), element("div", { className: "plot" })));
  }
  // plotly draws the powers of a logarithmic axis a quarter larger than other ticks
  Object.entries(PANELS).forEach(([column, name], place) => {
    const plot = panels.children[place].lastChild;
    const traces = here.map((one) => ({
      x: one[x], y: one[column].map((value, i) => (column === "lr_mean" && one.step[i] === 0 ? null : value)), mode: one[x].length > 1 ? "lines" : "markers", opacity: one.state === "training" ? 1 : 0.35,
      line: { color: colourOf(one.method, methods), width: one.state === "training" ? 2.2 : 1.2 }, marker: { color: colourOf(one.method, methods), size: 5 },
      text: one[x].map(() => one.name), hovertemplate: "%{text}<br>%{y:.3~g}<extra></extra>",
    }));
    const shown = traces.flatMap((trace) => trace.y).filter((value) => value > 0);
    const decades = Math.log10(Math.max(...shown) / Math.min(...shown));
    const log = shown.length > 0 && traces.every((trace) => trace.y.every((value) => value === null || value > 0));
    Plotly.react(plot, traces, {
      margin: { l: 64, r: 10, t: 8, b: 42 }, showlegend: false, hovermode: "closest", uirevision: "kept", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--soft") },
      xaxis: { ...axis(x), rangemode: "tozero" }, yaxis: { ...axis(name.toLowerCase()), type: log ? "log" : "linear", tickfont: { size: log ? 10 : 12 }, exponentformat: "power", ...(log ? { dtick: decades > 1.2 ? Math.ceil(decades / 6) : decades > 0.5 ? "D2" : "D1" } : {}) },
    }, { displayModeBar: false, responsive: true });
  });
};

const showRuns = () => {
  const last = (list) => list.at(-1) ?? null;
  const training = data.curves.filter((one) => one.state === "training");
  byId("runs").hidden = !training.length;
  byId("under-way").replaceChildren(...training.map((one) => element("tr", {},
    element("th", { scope: "row" }, one.name), element("td", {}, `${Math.max(0, one.epoch.length - 1)} of ${one.of}`),
    ...["train_loss", "valid_loss", "lr_mean"].map((column) => element("td", {}, short(last(one[column])))))));
};

const show = () => { showProgress(); showTasks(); showCurves(); showRuns(); };
const look = async () => {
  try {
    const answer = await fetch("/data");
    data = await answer.json();
    show();
  } catch {
    byId("progress").textContent = "The command has ended, or was stopped; what is drawn is the last that was seen.";
  }
  setTimeout(look, 1000 * SECONDS);
};
for (const id of ["task", "x"]) byId(id).addEventListener("change", () => data && showCurves());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => data && showCurves());
look();

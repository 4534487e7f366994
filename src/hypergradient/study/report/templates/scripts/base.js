// What all figures share. The files here are joined into one script, in the order that report.py gives.
// Names (of tasks, methods, panels) only ever become text nodes, never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const coarse = matchMedia("(pointer: coarse)").matches;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const hidden = {}; // figure -> the set of keys that its legend has switched off
let task = data.tasks[0];

// ---- small words ------------------------------------------------------------------------
const element = (tag, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
};
const chosen = (figure, kind) => document.querySelector(`input[name="${figure}-${kind}"]:checked`);
const metricOf = (figure) => chosen(figure, "metric")?.value ?? "lr_mean";
const scaleOf = (figure) => chosen(figure, "scale").value;
const xOf = (figure) => chosen(figure, "x")?.value ?? "epoch";
const lower = (text) => text[0].toLowerCase() + text.slice(1);
const kindOf = (series) => (series.adaptive ? "adaptive" : "constant");
const colourOf = (kind) => css(`--${kind}`);
const rateColour = (lr) => lr === null ? css("--adaptive") : data.colours[dark.matches ? "dark" : "light"][data.rates.indexOf(lr)];
const rateText = (lr) => {
  if (lr === null) return "none";
  const power = Math.log10(lr);
  if (!Number.isInteger(Math.round(power * 1e9) / 1e9)) return String(lr);
  if (lr === 1) return "1";
  return "10" + String(Math.round(power)).replace(/[-\d]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
};
const countText = (n) => (n >= 999500 ? `${Number((n / 1e6).toPrecision(2))}M` : n >= 999.5 ? `${Number((n / 1e3).toPrecision(n < 99500 ? 2 : 3))}k` : String(Math.round(n)));
const startOf = (one) => one.lr === null ? `${one.method}, which takes no rate` : `${data.labels[+one.adaptive]}, α₀ = ${rateText(one.lr)}`;
const short = (value) => (value === null ? "–" : Number(value.toPrecision(3)).toString());

// ---- axes -------------------------------------------------------------------------------
// All panels of a figure share one range, found from what they show and not from bands.
const rangeOf = (values, scale, ceiling) => {
  const finite = values.filter((v) => v !== null && (scale === "linear" || v > 0));
  if (!finite.length) return scale === "log" ? [-1, 0] : [0, 1];
  const exploded = ceiling != null && Math.max(...finite) > ceiling;
  const ends = [Math.min(...finite), exploded ? ceiling : Math.max(...finite)];
  const [low, high] = scale === "log" ? ends.map(Math.log10) : [Math.min(0, ends[0]), ends[1]];
  const margin = 0.05 * (high - low || 1);
  return [scale === "linear" && low === 0 ? 0 : low - margin, exploded ? high : high + margin];
};
const title = (text) => ({ text, font: { size: 12, color: css("--soft") }, standoff: 6 });
const axis = (extra) => ({
  gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, ticks: "outside", ticklen: 3,
  tickcolor: css("--line"), nticks: 6, showline: true,
  ...extra,
});
const layout = (x, y, extra = {}) => ({
  margin: { l: y.title ? 64 : 52, r: 10, t: 8, b: 42 }, showlegend: false, hovermode: "closest",
  dragmode: coarse ? false : "zoom", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
  font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--soft") },
  hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--faint"), font: { color: css("--ink"), size: 12 } },
  xaxis: axis(x), yaxis: axis(y), ...extra,
});
const logTicks = ([low, high]) => {
  // Powers of ten where there are many, 1-2-5 where there are few: plotly's own small digits confuse.
  if (high - low < 0.15) { // steps of 1, 2 or 5, as on a linear axis
    const ends = [10 ** low, 10 ** high], rough = (ends[1] - ends[0]) / 4 || ends[0], power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((digit) => digit * power >= rough) * power, first = Math.ceil(ends[0] / step);
    const tickvals = Array.from({ length: Math.max(0, Math.floor(ends[1] / step) - first + 1) }, (_, i) => (first + i) * step);
    return { tickvals, ticktext: tickvals.map((v) => Number(v.toPrecision(6)).toString()) };
  }
  const wide = high - low > 3.2, step = wide ? Math.ceil((high - low) / 5.5) : 1;
  const digits = wide || high - low > 2.2 ? [1] : high - low > 0.35 ? [1, 2, 5] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
  const tickvals = [];
  for (let power = Math.ceil(low / step) * step - step; power <= high; power += step) {
    for (const digit of digits) tickvals.push(digit * 10 ** power);
  }
  const ticktext = tickvals.map((v) => (wide ? `10<sup>${Math.round(Math.log10(v))}</sup>` : short(v)).replace("-", "−"));
  return { tickvals, ticktext };
};
const logAxis = (range) => ({ type: "log", range, ...logTicks(range) });
const yAxis = (scale, range) => (scale === "log" ? logAxis(range) : { type: "linear", range });
const retick = (plot, event) => {
  const changes = {};
  for (const name of ["xaxis", "yaxis"]) {
    if (!(`${name}.range[0]` in event) || plot.layout[name].type !== "log") continue;
    for (const [key, value] of Object.entries(logTicks(plot.layout[name].range))) changes[`${name}.${key}`] = value;
  }
  if (Object.keys(changes).length) Plotly.relayout(plot, changes);
};

// ---- what every figure adds --------------------------------------------------------------
// drawers: figure -> [{ title, traces, layout }], a panel each; keys: figure -> its legend's entries.
const drawers = {}, keys = {};
const byPanel = (series, draw) => {
  const panels = new Map();
  for (const one of series) {
    if (!panels.has(one.panel)) panels.set(one.panel, []);
    panels.get(one.panel).push(one);
  }
  return [...panels].map(([title, members]) => ({ title, ...draw(members) }));
};

const band = (one, colour, x = "lr") => {
  // A polygon for each unbroken stretch: an interval may be missing in the middle.
  const stretches = [[]];
  one[x].forEach((_, i) => (one.low[i] === null ? stretches.push([]) : stretches.at(-1).push(i)));
  return stretches.filter((s) => s.length > 1).map((s) => ({
    x: [...s, ...s.toReversed()].map((i) => one[x][i]),
    y: [...s.map((i) => one.high[i]), ...s.toReversed().map((i) => one.low[i])],
    mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: colour, opacity: 0.15, hoverinfo: "skip",
  }));
};


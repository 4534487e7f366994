// Methods that take no rate: a line across a figure whose axis is the rate, with its band.
const freeOf = (series) => series.flatMap((s) => s.lr.flatMap((lr, i) => (lr === null ? [{ ...s, mean: s.mean[i], low: s.low[i], high: s.high[i], runs: s.runs[i], diverged: s.diverged[i] }] : [])));
const across = (one, ends) => {
  const colour = colourOf("adaptive"), x = ends.map((end) => 10 ** end);
  const text = `${one.method}, which takes no rate<br><b>${short(one.mean)}</b>` + (one.low === null ? "" : ` (${short(one.low)} to ${short(one.high)})`) +
    (one.diverged ? `<br>${one.diverged} of ${one.runs} diverged` : `<br>${one.runs} seeds`);
  const line = { x: [x[0], Math.sqrt(x[0] * x[1]), x[1]], y: Array(3).fill(one.mean), text: Array(3).fill(text), mode: "lines", line: { color: colour, width: 2 }, hovertemplate: "%{text}<extra></extra>" };
  const area = { x: [...x, ...x.toReversed()], y: [one.low, one.low, one.high, one.high], mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: colour, opacity: 0.15, hoverinfo: "skip" };
  return one.low === null ? [line] : [area, line];
};

// Sensitivity to the learning rate, curves, and published losses.
drawers.sensitivity = (figure) => {
  const metric = metricOf(figure), scale = scaleOf(figure);
  const positive = (one) => {
    const kept = one.lr.flatMap((lr, i) => (lr > 0 ? [i] : []));
    return Object.fromEntries(Object.entries(one).map(([k, v]) => [k, Array.isArray(v) ? kept.map((i) => v[i]) : v]));
  };
  const here = (table) => table[metric].filter((s) => s.task === task).map(positive);
  const series = here(data.sensitivity), seeds = here(data.finals);
  const free = freeOf(data.sensitivity[metric].filter((s) => s.task === task));
  const values = [...series.flatMap((s) => s.mean), ...seeds.flatMap((s) => s.value), ...free.map((s) => s.mean)];
  const range = rangeOf(values, scale, data.ceilings[task]?.[metric]);
  const top = scale === "log" ? 10 ** range[1] : range[1];
  const strip = series.some((s) => s.diverged.some((n) => n > 0));
  const rates = series.flatMap((s) => s.lr).map(Math.log10);
  const ends = [Math.min(...rates), Math.max(...rates)], room = 0.06 * (ends[1] - ends[0] || 1);

  return byPanel(series, (members) => {
    const traces = [];
    for (const one of members.filter((s) => !hidden[figure].has(kindOf(s)))) {
      const colour = colourOf(kindOf(one));
      const dots = seeds.find((s) => s.panel === one.panel && s.adaptive === one.adaptive);
      const text = one.lr.map((lr, i) =>
        `${data.labels[+one.adaptive]}, α₀ = ${rateText(lr)}<br><b>${short(one.mean[i])}</b>` +
        (one.low[i] === null ? "" : ` (${short(one.low[i])} to ${short(one.high[i])})`) +
        (one.diverged[i] ? `<br>${one.diverged[i]} of ${one.runs[i]} diverged` : `<br>${one.runs[i]} seeds`));
      traces.push(...band(one, colour));
      if (dots) traces.push({ x: dots.lr, y: dots.value, mode: "markers", marker: { color: colour, size: 4, opacity: 0.35 }, hoverinfo: "skip" });
      traces.push({
        x: one.lr, y: one.mean, text, mode: "lines+markers", hovertemplate: "%{text}<extra></extra>",
        line: { color: colour, width: 2, dash: one.adaptive ? "solid" : "dash" },
        marker: { size: 7, color: one.diverged.map((n) => (n ? css("--paper") : colour)), line: { color: colour, width: 1.5 } },
      });
      const exploded = one.lr.flatMap((_, i) => (one.mean[i] > top ? [i] : []));
      traces.push({
        x: exploded.map((i) => one.lr[i]), y: exploded.map(() => top), text: exploded.map((i) => text[i]),
        mode: "markers", cliponaxis: false, hovertemplate: "%{text}<extra></extra>",
        marker: { symbol: "triangle-up", size: 10, color: colour },
      });
      const lost = one.lr.flatMap((_, i) => (one.diverged[i] ? [i] : []));
      if (lost.length) traces.push({
        x: lost.map((i) => one.lr[i]), y: lost.map(() => (one.adaptive ? 0 : 1)), yaxis: "y2", mode: "text",
        text: lost.map((i) => `${one.diverged[i]}/${one.runs[i]}`), textfont: { color: colour, size: 10.5 },
        customdata: lost.map((i) => text[i]), hovertemplate: "%{customdata}<extra></extra>", cliponaxis: false,
      });
    }
    if (!hidden[figure].has("free")) for (const one of free.filter((s) => s.panel === members[0].panel && s.mean !== null)) traces.push(...across(one, [ends[0] - room, ends[1] + room]));
    const x = { ...logAxis([ends[0] - room, ends[1] + room]), title: title("initial learning rate α₀") };
    const y = { ...yAxis(scale, range), domain: strip ? [0, 0.8] : [0, 1], title: title(`final ${lower(data.names[metric])}`) };
    const y2 = { domain: [0.84, 1], range: [-0.5, 1.5], fixedrange: true, showgrid: false, zeroline: false, tickvals: [0.5], ticktext: ["diverged"], ticks: "", tickfont: { size: 9.5 } };
    return { traces, layout: layout(x, y, strip ? { yaxis2: y2 } : {}) };
  });
};

// The lines of one panel: a colour an initial rate, dashed bases; a cross where the first seed diverged.
const curveTraces = (figure, metric, members) => {
  const traces = [], x = xOf(figure);
  for (const one of members) {
    if (hidden[figure].has(one.lr === null ? "free" : kindOf(one)) || hidden[figure].has(one.lr)) continue;
    const colour = rateColour(one.lr), name = startOf(one);
    traces.push({
      x: one[x], y: one[metric], mode: "lines", connectgaps: false,
      line: { color: colour, width: one.lr === null ? 2.8 : one.adaptive ? 2 : 1.6, dash: one.adaptive ? "solid" : "5px,3px" },
      hovertemplate: `${name}<br>${x} %{x:.4~g}: <b>%{y:.3~g}</b><extra></extra>`,
    });
    const last = one[metric].findLastIndex((v) => v !== null);
    if (one.diverged && last >= 0) traces.push({
      x: [one[x][last]], y: [one[metric][last]], mode: "markers", marker: { symbol: "x-thin", size: 8, line: { color: colour, width: 2 } },
      hovertemplate: `${name}<br>${one.diverged} of ${one.runs} diverged<extra></extra>`,
    });
  }
  return traces;
};

const curvePanels = (figure, metric) => {
  const series = data.curves.filter((s) => s.task === task), share = metric.endsWith("_accuracy");
  const scale = share ? "linear" : scaleOf(figure), x = xOf(figure);
  const range = share ? [0, 1.02] : rangeOf(series.flatMap((s) => s[metric]), scale, data.ceilings[task]?.[metric]);
  const y = { ...yAxis(scale, range), title: title(lower(data.names[metric])) };
  return byPanel(series, (members) => ({
    traces: curveTraces(figure, metric, members), layout: layout({ title: title(x), rangemode: "tozero" }, { ...y }),
  }));
};

drawers.curves = (figure) => curvePanels(figure, metricOf(figure));
drawers.rate = drawers.curves;

drawers.published = (figure) => {
  const metric = metricOf(figure), scale = scaleOf(figure);
  const series = data.published.filter((s) => s.metric === metric).map((s) => ({ ...s, panel: s.method }));
  const range = rangeOf(series.flatMap((s) => [...s.ours, ...s.theirs]), scale);
  return byPanel(series.filter((s) => s.task === task), ([one]) => {
    const text = one.ratio.map((r, i) => `epoch ${one.epoch[i]}<br>ours <b>${short(one.ours[i])}</b>, published <b>${short(one.theirs[i])}</b><br>ratio ${r === null ? "–" : r.toFixed(3)}`);
    const hover = { text, hovertemplate: "%{text}<extra></extra>" };
    const traces = [
      { x: one.epoch, y: one.ours, ...hover, key: "ours", mode: "lines", line: { color: css("--adaptive"), width: 2 } },
      { x: one.epoch, y: one.theirs, ...hover, key: "theirs", mode: "markers", cliponaxis: false, marker: { symbol: "circle-open", size: 7, color: css("--ink"), line: { width: 1.4 } } },
    ].filter((t) => !hidden[figure].has(t.key)).map(({ key, ...trace }) => trace);
    return { traces, layout: layout({ title: title("epoch"), rangemode: "tozero" }, { ...yAxis(scale, range), title: title(lower(data.names[metric])) }) };
  });
};


const rateKey = () => (data.rates.length < 2 ? [] : [
  { heading: "α₀" }, ...data.rates.map((lr) => ({ id: lr, label: rateText(lr), colour: rateColour(lr) })),
]);
const pairKey = (plain) => [
  { id: "constant", label: data.labels[0], colour: plain ? css("--constant") : css("--ink"), shape: "dashed" },
  { id: "adaptive", label: data.labels[1], colour: plain ? css("--adaptive") : css("--ink") },
];
const freeKey = (series) => [...new Set(series.filter((s) => [s.lr].flat().includes(null)).map((s) => s.method))].map((method, i, all) => (
  { id: "free", label: `${all.join(", ")}: takes no rate`, colour: css("--adaptive") })).slice(0, 1);
keys.sensitivity = () => [...pairKey(true), ...freeKey(Object.values(data.sensitivity)[0])];
keys.curves = keys.rate = () => [...pairKey(false), ...freeKey(data.curves), ...rateKey()];
keys.published = () => [
  { id: "ours", label: "ours", colour: css("--adaptive") },
  { id: "theirs", label: "published", colour: css("--ink"), shape: "dot" },
];

// The poster's way: a row a quantity, a column an optimizer.
drawers.grid = (figure) => ["lr_mean", "train_loss", "valid_loss"].flatMap((metric) => curvePanels(figure, metric));
keys.grid = keys.curves;

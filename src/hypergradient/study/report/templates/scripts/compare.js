// Optimizers beside a tuned rival: the end of training by rate, a metric over training, and rates.
const contenders = (data.compareMethods ?? []).filter((m) => !m.rival).map((m) => m.method);
const hues = ["--adaptive", "--adaptive-rate", "--halving", "--lr-decay", "--cosine", "--robbins-monro"];
const methodColour = (method) => {
  const place = contenders.indexOf(method);
  return css(place < 0 ? "--constant" : hues[place % hues.length]);
};
const entryName = (one) => [one.name, one.setting].filter(Boolean).join(", ");

const endTraces = (ends, range) => ends.flatMap((one) => {
  const colour = methodColour(one.method);
  const text = `${entryName(one)}<br><b>${short(one.mean)}</b>` + (one.low === null ? "" : ` (${short(one.low)} to ${short(one.high)})`) +
    (one.diverged ? `<br>${one.diverged} of ${one.runs} diverged` : `<br>${one.runs} seed${one.runs > 1 ? "s" : ""}`);
  const hover = { text: [text, text], hovertemplate: "%{text}<extra></extra>" };
  if (one.lr !== null) return one.values.map((value) => ({ x: [one.lr], y: [value], mode: "markers", marker: { size: 4, color: colour, opacity: 0.35 }, hoverinfo: "skip" }));
  if (one.mean === null) return [];
  const across = { x: range, y: [one.mean, one.mean], mode: "lines", line: { color: colour, width: 2 }, ...hover };
  const band = { x: [...range, ...range.toReversed()], y: [one.low, one.low, one.high, one.high], mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: colour, opacity: 0.12, hoverinfo: "skip" };
  return one.low === null ? [across] : [band, across];
});
const rateLines = (ends) => [...new Set(ends.filter((e) => e.lr !== null).map((e) => e.method))].map((method) => {
  const own = ends.filter((e) => e.method === method && e.lr !== null).toSorted((a, b) => a.lr - b.lr);
  const colour = methodColour(method);
  const error = own.some((e) => e.low !== null) ? { error_y: { type: "data", symmetric: false, array: own.map((e) => (e.low === null ? 0 : e.high - e.mean)), arrayminus: own.map((e) => (e.low === null ? 0 : e.mean - e.low)), color: colour, thickness: 1, width: 2 } } : {};
  return {
    x: own.map((e) => e.lr), y: own.map((e) => e.mean), mode: "lines+markers", ...error,
    text: own.map((e) => `${entryName(e)}<br><b>${short(e.mean)}</b>` + (e.diverged ? `<br>${e.diverged} of ${e.runs} diverged` : "")), hovertemplate: "%{text}<extra></extra>",
    line: { color: colour, width: 2, dash: own[0].adaptive ? "solid" : "dash" }, marker: { size: 7, color: own.map((e) => (e.diverged ? css("--paper") : colour)), line: { color: colour, width: 1.5 } },
  };
});

drawers.compare = (figure) => {
  const metric = metricOf(figure), x = xOf(figure), name = data.compareMetrics[metric];
  const shown = (table) => table.filter((s) => s.task === task && !hidden[figure].has(s.method));
  const ends = shown(data.compareEnds.filter((e) => e.metric === metric)), curves = shown(data.compare);
  const values = [...curves.flatMap((s) => s[metric]), ...ends.map((e) => e.mean)];
  const loss = metric.endsWith("_loss") && values.every((v) => v === null || v > 0);
  const scale = loss ? scaleOf(figure) : "linear";
  const start = Math.max(...curves.flatMap((s) => s[metric].slice(0, 1)).filter((v) => v !== null));
  const ceiling = loss && Number.isFinite(start) ? 2 * start : null;
  const spread = (list) => {
    if (scale === "log") return rangeOf(list, scale, ceiling);
    const finite = list.filter((v) => v !== null && (ceiling === null || v <= ceiling));
    const ends = [Math.min(...finite), Math.max(...finite)], room = 0.05 * (ends[1] - ends[0] || 1);
    return finite.length ? [ends[0] - room, ends[1] + room] : [0, 1];
  };
  const rates = ends.flatMap((e) => (e.lr === null ? [] : [Math.log10(e.lr)]));
  const [low, high] = rates.length ? [Math.min(...rates), Math.max(...rates)] : [-4, -1];
  const room = 0.08 * (high - low || 1), wide = [10 ** (low - room), 10 ** (high + room)];
  const line = (s, column, best) => ({
    x: s[x], y: s[column], mode: "lines", connectgaps: false, opacity: best ? 1 : 0.4,
    line: { color: methodColour(s.method), width: best ? 2.2 : 1, dash: s.adaptive ? "solid" : "5px,3px" },
    hovertemplate: `${entryName(s)}<br>${x} %{x:.4~g}: <b>%{y:.3~g}</b><extra></extra>`,
  });
  const ordered = [...curves.filter((s) => !s.is_best), ...curves.filter((s) => s.is_best)];
  const best = curves.filter((s) => s.is_best), lr = best.flatMap((s) => s.lr_mean);
  const along = { title: title(x), rangemode: "tozero" };
  const endValues = ends.flatMap((e) => [e.mean, ...e.values]);
  return [
    { title: "At the end", traces: [...endTraces(ends, wide), ...rateLines(ends)], layout: layout({ ...logAxis([low - room, high + room]), title: title("learning rate") }, { ...yAxis(scale, spread(endValues)), title: title(`final ${lower(name)}`) }) },
    { title: "Over training", traces: ordered.map((s) => line(s, metric, s.is_best)), layout: layout(along, { ...yAxis(scale, spread(values)), title: title(lower(name)) }) },
    { title: "The learning rate", traces: best.map((s) => line(s, "lr_mean", true)), layout: layout(along, { ...yAxis("log", rangeOf(lr, "log")), title: title("learning rate") }) },
  ];
};
keys.compare = () => data.compareMethods.map(({ method }) => {
  const best = data.compare.find((s) => s.method === method && s.is_best) ?? data.compare.find((s) => s.method === method);
  return { id: method, label: best.name, colour: methodColour(method), shape: best.adaptive ? "" : "dashed" };
});

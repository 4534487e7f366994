// Schedules beside each other: curves of the best configurations, and sensitivity around the best rate.
const scheduleLabel = (name) => data.scheduleLabels[name] ?? name;
const scheduleColour = (name) => css(`--${name === "adaptive" ? "adaptive-rate" : data.schedules.includes(name) ? name : "constant"}`);
const scheduleDash = (name) => ({ constant: "4px,3px", "lr-decay": "9px,3px", "robbins-monro": "1.5px,3px", halving: "8px,3px,1.5px,3px", cosine: "8px,3px,1.5px,3px,1.5px,3px", "warmup-cosine": "5px,3px", adaptive: "solid", hypergradient: "solid", recommended: "solid", tuned: "9px,3px" })[name] ?? "4px,3px";
const byBase = (series) => series.map((s) => ({ ...s, panel: s.base }));
const scheduleKey = (series, plain) => data.schedules.filter((name) => series.some((s) => s.schedule === name)).map((name) => ({
  id: name, label: scheduleLabel(name), colour: plain && name === "hypergradient" ? css("--ink") : scheduleColour(name), shape: scheduleDash(name) === "solid" ? "" : name === "robbins-monro" ? "dotted" : "dashed",
}));

const scheduleCurves = (figure, curves, seedCurves) => {
  const metric = metricOf(figure), scale = scaleOf(figure);
  const here = (table) => byBase(table.filter((s) => s.task === task && s.metric === metric));
  const series = here(curves), seeds = here(seedCurves);
  const range = rangeOf(series.flatMap((s) => s.mean), scale, data.ceilings[task]?.[metric]);
  return byPanel(series, (members) => {
    const traces = [];
    const visible = members.filter((s) => !hidden[figure].has(s.schedule));
    for (const one of visible.toReversed()) { // hypergradient descent first: dashes show on a solid line
      const colour = scheduleColour(one.schedule);
      traces.push(...band(one, colour, "epoch"));
      for (const seed of seeds.filter((s) => s.base === one.base && s.schedule === one.schedule)) {
        traces.push({ x: seed.epoch, y: seed.value, mode: "lines", line: { color: colour, width: 0.8 }, opacity: 0.35, hoverinfo: "skip" });
      }
      const text = one.epoch.map((epoch, i) => `${scheduleLabel(one.schedule)}<br>epoch ${epoch}: <b>${short(one.mean[i])}</b>` +
        (one.low[i] === null ? "" : ` (${short(one.low[i])} to ${short(one.high[i])})`) + `<br>${one.seeds[i]} seed${one.seeds[i] > 1 ? "s" : ""}`);
      traces.push({
        x: one.epoch, y: one.mean, text, mode: "lines", hovertemplate: "%{text}<extra></extra>",
        line: { color: colour, width: 2.2, dash: scheduleDash(one.schedule) },
      });
    }
    return { traces, layout: layout({ title: title("epoch"), rangemode: "tozero" }, { ...yAxis(scale, range), title: title(lower(data.names[metric])) }) };
  });
};
drawers.best = (figure) => scheduleCurves(figure, data.best, data.bestSeeds);
keys.best = () => scheduleKey(data.best, false);
drawers.tuning = (figure) => scheduleCurves(figure, data.tuning, data.tuningSeeds);
keys.tuning = () => scheduleKey(data.tuning, false);

const betaColour = (beta) => data.betaColours[dark.matches ? "dark" : "light"][data.betas.indexOf(beta)];
drawers.relative = (figure) => {
  const metric = metricOf(figure), scale = scaleOf(figure);
  const series = byBase(data.relative[metric].filter((s) => s.task === task));
  const range = rangeOf(series.flatMap((s) => s.mean), scale, data.ceilings[task]?.[metric]);
  const ratios = data.relative[metric].flatMap((s) => s.ratio).filter((r) => r !== null).map(Math.log10);
  const ends = [Math.min(...ratios) - 0.2, Math.max(...ratios) + 0.2];
  return byPanel(series, (members) => {
    const traces = [];
    const visible = members.filter((s) => !hidden[figure].has(s.schedule) && !hidden[figure].has(s.hypergrad_lr ?? ""));
    for (const one of visible) {
      const colour = one.schedule === "hypergradient" ? betaColour(one.hypergrad_lr) : scheduleColour(one.schedule);
      const name = scheduleLabel(one.schedule) + (one.hypergrad_lr == null ? "" : `, β = ${rateText(one.hypergrad_lr)}`);
      const text = one.lr.map((lr, i) => `${name}<br>α₀ = ${rateText(lr)}, ${short(one.ratio[i])} of the best<br><b>${short(one.mean[i])}</b>` +
        (one.low[i] === null ? "" : ` (${short(one.low[i])} to ${short(one.high[i])})`) + (one.diverged[i] ? `<br>${one.diverged[i]} of ${one.runs[i]} diverged` : `<br>${one.runs[i]} seeds`));
      traces.push(...band(one, colour, "ratio"), {
        x: one.ratio, y: one.mean, text, mode: "lines+markers", hovertemplate: "%{text}<extra></extra>",
        line: { color: colour, width: 2, dash: scheduleDash(one.schedule) },
        marker: { size: 6, color: one.diverged.map((n) => (n ? css("--paper") : colour)), line: { color: colour, width: 1.5 } },
      });
    }
    return { traces, layout: layout({ ...logAxis(ends), title: title("α₀ / best α₀") }, { ...yAxis(scale, range), title: title(`best ${lower(data.names[metric])}`) }) };
  });
};
keys.relative = () => [
  ...scheduleKey(Object.values(data.relative)[0], data.betas.length > 1),
  ...(data.betas.length > 1 ? [{ heading: "β" }, ...data.betas.map((beta) => ({ id: beta, label: rateText(beta), colour: betaColour(beta) }))] : []),
];

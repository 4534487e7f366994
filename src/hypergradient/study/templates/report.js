"use strict";
// Draws the page's figures from the tables in #data, whose numbers are computed before.
// Names (of tasks, methods, panels) only ever become text nodes, never markup.
(() => {
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
  const kindOf = (series) => (series.adaptive ? "adaptive" : "constant");
  const colourOf = (kind) => css(`--${kind}`);
  const rateColour = (lr) => data.colours[dark.matches ? "dark" : "light"][data.rates.indexOf(lr)];
  const rateText = (lr) => {
    const power = Math.log10(lr);
    if (!Number.isInteger(Math.round(power * 1e9) / 1e9)) return String(lr);
    if (lr === 1) return "1";
    return "10" + String(Math.round(power)).replace(/[-\d]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
  };
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
    margin: { l: 52, r: 10, t: 8, b: 42 }, showlegend: false, hovermode: "closest",
    dragmode: coarse ? false : "zoom", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--soft") },
    hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--faint"), font: { color: css("--ink"), size: 12 } },
    xaxis: axis(x), yaxis: axis(y), ...extra,
  });
  const logTicks = ([low, high]) => {
    // Powers of ten where there are many, 1-2-5 where there are few: plotly's own small digits confuse.
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

  // ---- one function a figure: series -> { panel: { traces, layout } } ------------------------
  const byPanel = (series, draw) => {
    const panels = new Map();
    for (const one of series) {
      if (!panels.has(one.panel)) panels.set(one.panel, []);
      panels.get(one.panel).push(one);
    }
    return [...panels].map(([title, members]) => ({ title, ...draw(members) }));
  };

  const band = (one, colour) => {
    // A polygon for each unbroken stretch: an interval may be missing in the middle.
    const stretches = [[]];
    one.lr.forEach((_, i) => (one.low[i] === null ? stretches.push([]) : stretches.at(-1).push(i)));
    return stretches.filter((s) => s.length > 1).map((s) => ({
      x: [...s, ...s.toReversed()].map((i) => one.lr[i]),
      y: [...s.map((i) => one.high[i]), ...s.toReversed().map((i) => one.low[i])],
      mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: colour, opacity: 0.15, hoverinfo: "skip",
    }));
  };

  const sensitivity = (figure) => {
    const metric = metricOf(figure), scale = scaleOf(figure);
    const positive = (one) => {
      const kept = one.lr.flatMap((lr, i) => (lr > 0 ? [i] : []));
      return Object.fromEntries(Object.entries(one).map(([k, v]) => [k, Array.isArray(v) ? kept.map((i) => v[i]) : v]));
    };
    const here = (table) => table[metric].filter((s) => s.task === task).map(positive);
    const series = here(data.sensitivity), seeds = here(data.finals);
    const values = [...series.flatMap((s) => s.mean), ...seeds.flatMap((s) => s.value)];
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
      const x = { ...logAxis([ends[0] - room, ends[1] + room]), title: title("initial learning rate α₀") };
      const y = { ...yAxis(scale, range), domain: strip ? [0, 0.8] : [0, 1] };
      const y2 = { domain: [0.84, 1], range: [-0.5, 1.5], fixedrange: true, showgrid: false, zeroline: false, tickvals: [0.5], ticktext: ["diverged"], ticks: "", tickfont: { size: 9.5 } };
      return { traces, layout: layout(x, y, strip ? { yaxis2: y2 } : {}) };
    });
  };

  const curves = (figure) => {
    const metric = metricOf(figure), scale = scaleOf(figure);
    const series = data.curves.filter((s) => s.task === task);
    const range = rangeOf(series.flatMap((s) => s[metric]), scale, data.ceilings[task]?.[metric]);
    return byPanel(series, (members) => {
      const traces = [];
      for (const one of members) {
        if (hidden[figure].has(kindOf(one)) || hidden[figure].has(one.lr)) continue;
        const colour = rateColour(one.lr), name = `${data.labels[+one.adaptive]}, α₀ = ${rateText(one.lr)}`;
        traces.push({
          x: one.epoch, y: one[metric], mode: "lines", connectgaps: false,
          line: { color: colour, width: one.adaptive ? 2 : 1.6, dash: one.adaptive ? "solid" : "5px,3px" },
          hovertemplate: `${name}<br>epoch %{x}: <b>%{y:.3~g}</b><extra></extra>`,
        });
        const last = one[metric].findLastIndex((v) => v !== null);
        if (one.diverged && last >= 0) traces.push({
          x: [one.epoch[last]], y: [one[metric][last]], mode: "markers", marker: { symbol: "x-thin", size: 8, line: { color: colour, width: 2 } },
          hovertemplate: `${name}<br>${one.diverged} of ${one.runs} diverged<extra></extra>`,
        });
      }
      return { traces, layout: layout({ title: title("epoch"), rangemode: "tozero" }, yAxis(scale, range)) };
    });
  };

  const published = (figure) => {
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
      return { traces, layout: layout({ title: title("epoch"), rangemode: "tozero" }, yAxis(scale, range)) };
    });
  };

  const drawers = { sensitivity, curves, rate: curves, published };

  // ---- the page ---------------------------------------------------------------------------
  const render = (figure) => {
    const section = document.getElementById(figure);
    const grid = section.querySelector(".panels");
    const panels = drawers[figure](figure);
    while (grid.children.length > panels.length) {
      Plotly.purge(grid.lastChild.querySelector(".plot"));
      grid.lastChild.remove();
    }
    while (grid.children.length < panels.length) {
      grid.append(element("figure", { className: "panel" }, element("h3"), element("div", { className: "plot" })));
    }
    panels.forEach((panel, i) => {
      const [heading, plot] = grid.children[i].children;
      heading.textContent = panel.title;
      Plotly.react(plot, panel.traces, panel.layout, { displayModeBar: false, responsive: true, doubleClick: "reset" });
      if (!plot.dataset.zooms) plot.on("plotly_relayout", (event) => retick(plot, event));
      plot.dataset.zooms = "true";
    });
    for (const link of section.querySelectorAll(".files a")) {
      const stem = section.dataset.stem;
      link.href = `figures/${stem}${stem.endsWith("_") ? metricOf(figure) : ""}.${link.dataset.suffix}`;
    }
  };

  const key = (figure) => {
    const box = document.getElementById(figure).querySelector(".key");
    const entry = (id, label, colour, shape) => {
      const swatch = element("i", { className: shape });
      swatch.style.borderColor = colour;
      const button = element("button", { type: "button" }, swatch, label);
      button.setAttribute("aria-pressed", String(!hidden[figure].has(id)));
      button.addEventListener("click", () => {
        if (!hidden[figure].delete(id)) hidden[figure].add(id);
        button.setAttribute("aria-pressed", String(!hidden[figure].has(id)));
        render(figure);
      });
      return button;
    };
    if (figure === "published") {
      box.replaceChildren(entry("ours", "ours", css("--adaptive"), ""), entry("theirs", "published", css("--ink"), "dot"));
      return;
    }
    const plain = figure === "sensitivity";
    box.replaceChildren(
      entry("constant", data.labels[0], plain ? css("--constant") : css("--ink"), "dashed"),
      entry("adaptive", data.labels[1], plain ? css("--adaptive") : css("--ink"), ""),
    );
    if (!plain && data.rates.length > 1) {
      box.append(element("b", {}, "α₀"), ...data.rates.map((lr) => entry(lr, rateText(lr), rateColour(lr), "")));
    }
  };

  const figures = Object.keys(drawers).filter((name) => document.getElementById(name));
  const renderAll = () => figures.forEach((figure) => { key(figure); render(figure); });
  for (const figure of figures) {
    hidden[figure] = new Set();
    for (const input of document.querySelectorAll(`#${figure} .controls input`)) {
      input.addEventListener("change", () => render(figure));
    }
  }
  for (const input of document.querySelectorAll('input[name="task"]')) {
    input.addEventListener("change", () => { task = data.tasks[Number(input.value)]; figures.forEach(render); });
  }
  for (const input of document.querySelectorAll('input[name="summary-metric"]')) {
    input.addEventListener("change", () => {
      for (const part of document.querySelectorAll("#summary [data-metric]")) part.hidden = part.dataset.metric !== input.value;
    });
  }
  dark.addEventListener("change", renderAll);
  renderAll();
})();

"use strict";
// Draws the page from #data, whose numbers are computed before. Names only ever become text nodes.
(async () => {
  await loadPlotly();
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const byId = (id) => document.getElementById(id);
  const hidden = new Set(); // the kinds of rate that a key has switched off
  const FRAMES = 240, FRAME_MS = 42;
  const COLOURS = { constant: "--constant", own: "--adaptive", shared: "--shared", hdm: "--hdm", learned: "--learned" };
  const DASHES = { constant: "dash", own: "solid", shared: "solid", hdm: "solid", learned: "solid" };
  let here = data.landscapes[0];
  let timer = null;

  const element = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const short = (value) => (value === null ? "–" : Number(value.toPrecision(4)).toString().replace("-", "−"));
  const superscript = (power) => String(power).replace(/[-\d]/g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
  const visible = () => here.descents.filter((one) => !hidden.has(one.kind));
  const bases = () => [...new Set(here.descents.map((one) => one.base))];
  const colour = (one) => css(COLOURS[one.kind]);
  const lastStep = () => Math.max(...here.descents.map((one) => one.step.at(-1)));

  const axis = (extra) => ({
    gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, ticks: "outside", ticklen: 3,
    tickcolor: css("--line"), nticks: 6, showline: true, ...extra,
  });
  const title = (text) => ({ text, font: { size: 12, color: css("--soft") }, standoff: 6 });
  const layout = (x, y, extra = {}) => ({
    margin: { l: 52, r: 10, t: 8, b: 42 }, showlegend: false, hovermode: "closest", dragmode: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--soft") },
    hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--faint"), font: { color: css("--ink"), size: 12 } },
    xaxis: axis(x), yaxis: axis(y), ...extra,
  });
  const options = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const panels = (id, names, build) => {
    // One figure a name, kept while there are enough, so that redrawing does not make the page jump.
    const box = document.querySelector(`#${id} .panels`);
    while (box.children.length > names.length) box.lastChild.remove();
    while (box.children.length < names.length) box.append(build());
    return names.map((name, i) => {
      const panel = box.children[i];
      panel.querySelector("h3").textContent = name;
      return panel;
    });
  };
  const plain = () => element("figure", { className: "panel" }, element("h3"), element("div", { className: "plot" }));

  // ---- paths: contours below, the descents on a layer of their own, which alone is animated -----
  const layered = () => element("figure", { className: "panel" }, element("h3"),
    element("div", { className: "layers" }, element("div", { className: "below" }), element("div", { className: "plot" })));
  const until = (one, step) => {
    let end = one.step.findIndex((s) => s > step);
    if (end < 0) end = one.step.length;
    return [one.x.slice(0, end), one.y.slice(0, end), one.step.slice(0, end)];
  };
  const stepOf = (frame) => Math.round((lastStep() + 1) ** (frame / FRAMES)) - 1;
  const pathTraces = (base, step) => {
    const traces = [];
    for (const one of visible().filter((d) => d.base === base)) {
      const [x, y, steps] = until(one, step);
      const line = { color: colour(one), width: 2, dash: DASHES[one.kind] };
      const hovertemplate = "%{text}<br>(%{x:.4g}, %{y:.4g})<extra></extra>";
      const text = steps.map((s) => `${one.title}, step ${s}`);
      traces.push({ x, y, text, hovertemplate, mode: "lines", line });
      traces.push({ x: x.slice(-1), y: y.slice(-1), text: text.slice(-1), hovertemplate, mode: "markers", marker: { size: 9, color: colour(one), line: { color: css("--raised"), width: 1.5 } } });
    }
    const spot = (points, symbol, marker) => ({
      x: points.map((p) => p[0]), y: points.map((p) => p[1]), mode: "markers", hovertemplate: `${symbol}: (%{x:.4g}, %{y:.4g})<extra></extra>`, marker,
    });
    traces.push(spot([here.start], "start", { size: 8, color: css("--raised"), line: { color: css("--ink"), width: 1.6 } }));
    traces.push(spot(here.minima, "minimum", { symbol: "star", size: 15, color: css("--ink"), line: { color: css("--raised"), width: 1.2 } }));
    return traces;
  };
  const box = () => [
    { range: here.box[0], fixedrange: true, showgrid: false }, { range: here.box[1], fixedrange: true, showgrid: false },
  ];
  const drawPaths = (step) => {
    const found = panels("paths", bases(), layered);
    bases().forEach((base, i) => Plotly.react(found[i].querySelector(".plot"), pathTraces(base, step), layout(...box()), options));
  };
  const drawContours = () => {
    const flat = here.z.flat().filter((v) => v !== null);
    const low = flat.reduce((a, b) => Math.min(a, b)), high = flat.reduce((a, b) => Math.max(a, b));
    const soil = [[0, css("--valley")], [0.5, css("--slope")], [1, css("--top")]];
    const contour = {
      type: "contour", x: here.x, y: here.y, z: here.z, zmin: low, zmax: high, showscale: false, hoverinfo: "skip", colorscale: soil,
      contours: { start: low + (high - low) / 14, end: high, size: (high - low) / 14 }, line: { width: 0.5, color: css("--contour"), smoothing: 0.8 },
    };
    for (const panel of panels("paths", bases(), layered)) {
      const bare = box().map((one) => ({ ...one, showticklabels: false, ticks: "", showline: false }));
      Plotly.react(panel.querySelector(".below"), [contour], layout(...bare), { staticPlot: true, responsive: true });
    }
  };

  // ---- distance and rates ------------------------------------------------------------------
  // Step 0 has a place on the logarithmic axis: what is drawn is step + 1.
  const stepAxis = () => {
    const end = Math.log10(lastStep() + 1), powers = [0, 1, 2, 3, 4, 5, 6].filter((p) => p <= end);
    return {
      type: "log", range: [0, end], fixedrange: true, title: title("step"),
      tickvals: powers.map((p) => (p ? 10 ** p + 1 : 1)), ticktext: powers.map((p) => (p ? Number(10 ** p).toLocaleString("en") : "0")),
    };
  };
  const against = (one, values, dash, name) => ({
    x: one.step.map((s) => s + 1), y: values, mode: "lines", line: { color: colour(one), width: 2, dash },
    text: one.step.map((s, i) => `${one.title}, step ${s}<br>${name}<b>${short(values[i])}</b>`), hovertemplate: "%{text}<extra></extra>",
  });
  const drawDistances = () => {
    const found = panels("distance", bases(), plain);
    const y = { type: "log", range: [-6.2, Math.log10(Math.max(...here.descents.map((d) => d.distance[0])) * 2)], fixedrange: true, tickvals: [1e-6, 1e-4, 1e-2, 1, 100], ticktext: [-6, -4, -2].map((p) => "10" + superscript(p)).concat(["1", "100"]) };
    bases().forEach((base, i) => {
      const traces = visible().filter((d) => d.base === base).map((one) => against(one, one.distance, DASHES[one.kind], ""));
      Plotly.react(found[i].querySelector(".plot"), traces, layout(stepAxis(), y), options);
    });
  };
  const drawRates = () => {
    const found = panels("rates", bases(), plain);
    bases().forEach((base, i) => {
      const traces = visible().filter((d) => d.base === base).flatMap((one) => one.kind === "own"
        ? [against(one, one.rate_x, "solid", "α of x: "), against(one, one.rate_y, "dot", "α of y: ")]
        : [against(one, one.rate_x, DASHES[one.kind], "α: ")]);
      Plotly.react(found[i].querySelector(".plot"), traces, layout(stepAxis(), { fixedrange: true, exponentformat: "power", nticks: 5 }), options);
    });
  };

  // ---- search --------------------------------------------------------------------------------
  const powerAxis = (values, text) => {
    const logs = values.map(Math.log10), powers = [];
    for (let p = Math.ceil(Math.min(...logs) - 0.01); p <= Math.max(...logs) + 0.01; p += 1) powers.push(p);
    return { title: title(text), tickvals: powers, ticktext: powers.map((p) => (p ? "10" + superscript(p) : "1")), showgrid: false, showline: false, ticks: "", fixedrange: true };
  };
  const drawSearch = () => {
    const searched = here.descents.filter((one) => one.tried.length)
      .sort((a, b) => (b.kind === "constant") - (a.kind === "constant"));
    byId("search").hidden = !searched.length;
    if (!searched.length) return;
    const counts = searched.flatMap((d) => d.tried.map((t) => t.steps)).filter((s) => s > 0).map(Math.log10);
    const scale = dark.matches ? [[0, "#f0e76a"], [0.5, "#2a9d8a"], [1, "#3a3f78"]] : [[0, "#f5e663"], [0.5, "#21918c"], [1, "#440154"]];
    const found = panels("search", searched.map((d) => d.title), plain);
    searched.forEach((one, i) => {
      const strip = one.kind === "constant";
      found[i].className = strip ? "panel strip" : "panel";
      const alphas = [...new Set(one.tried.map((t) => t.lr))].sort((a, b) => a - b);
      const betas = [...new Set(one.tried.map((t) => t.hypergrad_lr))].sort((a, b) => a - b);
      const cell = (alpha, beta) => one.tried.find((t) => t.lr === alpha && t.hypergrad_lr === beta).steps;
      const grid = betas.map((beta) => alphas.map((alpha) => cell(alpha, beta)));
      const said = (alpha, beta) => `α = ${short(alpha)}${strip ? "" : `, β = ${short(beta)}`}: <b>${cell(alpha, beta) ?? "not near to stay"}</b>`;
      const x = alphas.map(Math.log10), y = strip ? [0] : betas.map(Math.log10);
      const map = {
        type: "heatmap", x, y, z: grid.map((row) => row.map((s) => (s === null ? null : Math.log10(Math.max(s, 1))))), zmin: Math.min(...counts, 0.9), zmax: Math.max(...counts, 1), colorscale: scale, showscale: false,
        xgap: 1.5, ygap: 1.5, hoverongaps: true, customdata: betas.map((a) => alphas.map((e) => said(e, a))), hovertemplate: "%{customdata}<extra></extra>",
        text: grid.map((row) => row.map((s) => (strip || s === null ? "" : String(s)))), texttemplate: "%{text}", textfont: { size: 11 },
      };
      const chosen = { x: [Math.log10(one.lr)], y: [strip ? 0 : Math.log10(one.hypergrad_lr)], mode: "markers", hoverinfo: "skip", marker: strip ? { size: 9, color: css("--raised"), line: { color: css("--ink"), width: 1.5 } } : { size: 32, symbol: "circle-open", color: css("--ink"), line: { width: 1.6 } } };
      const vertical = strip ? { visible: false, fixedrange: true } : powerAxis(betas, "β");
      const extra = { plot_bgcolor: css("--grid"), margin: { l: 52, r: 10, t: 8, b: 46 } };
      Plotly.react(found[i].querySelector(".plot"), [map, chosen], layout(powerAxis(alphas, "α"), vertical, extra), options);
    });
  };

  // ---- time ------------------------------------------------------------------------------------
  const show = (frame) => {
    byId("time").value = frame;
    byId("step").textContent = `step ${stepOf(frame).toLocaleString("en")}`;
    drawPaths(stepOf(frame));
  };
  const pause = () => {
    clearInterval(timer);
    timer = null;
    byId("play").textContent = "Play";
  };
  const play = () => {
    if (Number(byId("time").value) >= FRAMES) show(0);
    byId("play").textContent = "Pause";
    // By the clock: a slow machine shows fewer frames, not a longer film.
    const began = performance.now() - Number(byId("time").value) * FRAME_MS;
    timer = setInterval(() => {
      const frame = Math.min(Math.round((performance.now() - began) / FRAME_MS), FRAMES);
      show(frame);
      if (frame >= FRAMES) pause();
    }, FRAME_MS * (calm ? 12 : 1));
  };
  byId("play").addEventListener("click", () => (timer === null ? play() : pause()));
  byId("time").addEventListener("input", () => { pause(); show(Number(byId("time").value)); });

  // ---- keys, files and switches ------------------------------------------------------------------
  const keys = () => {
    const kinds = Object.keys(data.names).filter((kind) => here.descents.some((d) => d.kind === kind));
    for (const box of document.querySelectorAll(".key")) {
      box.replaceChildren(...kinds.map((kind) => {
        const swatch = element("i", { className: kind === "constant" ? "dashed" : "" });
        swatch.style.borderColor = css(COLOURS[kind]);
        const button = element("button", { type: "button" }, swatch, data.names[kind]);
        button.setAttribute("aria-pressed", String(!hidden.has(kind)));
        button.addEventListener("click", () => {
          if (!hidden.delete(kind)) hidden.add(kind);
          draw();
        });
        return button;
      }));
    }
  };
  const files = () => {
    for (const link of document.querySelectorAll(".files a")) {
      link.href = `figures/${here.name}-${link.closest(".files").dataset.stem}.${link.dataset.suffix}`;
    }
  };
  const draw = () => {
    keys();
    files();
    drawContours();
    show(Number(byId("time").value));
    drawDistances();
    drawRates();
    drawSearch();
  };
  for (const input of document.querySelectorAll('input[name="landscape"]')) {
    input.addEventListener("change", () => {
      pause();
      here = data.landscapes[Number(input.value)];
      for (const part of document.querySelectorAll("[data-landscape]")) part.hidden = part.dataset.landscape !== input.value;
      byId("time").value = FRAMES;
      draw();
    });
  }
  dark.addEventListener("change", draw);
  draw();
})();

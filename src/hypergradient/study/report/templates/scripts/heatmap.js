// Steps to a target loss: heat maps, and beside the published numbers.
const GAP = 0.35; // between the strip of the base and the map, in cells

drawers.heatmap = (figure) => {
  const scale = scaleOf(figure), tall = (z) => (z === null ? null : scale === "log" ? Math.log10(z) : z);
  const all = data.heatmap.flatMap((g) => g.cells.flat()).filter((c) => c && c.steps !== null).map((c) => tall(c.steps));
  const ends = all.length ? [Math.min(...all), Math.max(...all)] : [0, 1];
  return data.heatmap.filter((g) => g.task === task).map((g) => {
    const edges = [-0.5, 0.5, ...Array.from({ length: g.betas.length + 1 }, (_, i) => i + 0.5 + GAP)];
    const middles = [0, ...g.betas.map((_, i) => i + 1 + GAP)];
    // The second column is the gap between the strip and the map.
    const map = (f, none = null) => g.cells.map((row, y) => row.flatMap((cell, x) => {
      const value = cell ? f(cell, x, y) : none;
      return x === 0 ? [value, none] : [value];
    }));
    const share = (c) => (c.reached < c.runs && c.runs > 1 ? `<br><span style="font-size:8.5px">${c.reached}/${c.runs}</span>` : "");
    const told = (c) => (c.steps === null ? `>${countText(c.max_steps)}` : countText(c.steps)) + share(c);
    const hover = map((c, x, y) => {
      const base = g.cells[y][0];
      const steps = (one) => (one.steps === null ? `more than ${one.max_steps.toLocaleString("en")}` : one.steps.toLocaleString("en"));
      return `α₀ = ${rateText(c.lr)}${x ? `, β = ${rateText(c.hypergrad_lr)}` : ", constant rate"}<br><b>${steps(c)}</b> steps, median of ${c.runs}` +
        `<br>reached ${c.reached}/${c.runs}${c.diverged ? `, diverged ${c.diverged}/${c.runs}` : ""}` +
        (x && base ? `<br>constant rate: ${steps(base)}${c.behind ? ", hypergradient is behind" : ""}` : "");
    });
    const common = {
      type: "heatmap", x: edges, y: g.lrs.map((_, i) => i), showscale: false, hoverongaps: false, xgap: 1.5, ygap: 1.5,
      customdata: hover, hovertemplate: "%{customdata}<extra></extra>", texttemplate: "%{text}",
    };
    const lost = (yes) => (c) => ((c.steps === null) === yes ? told(c) : "");
    const stops = data.heatColours.map((c, i) => [i / (data.heatColours.length - 1), c]);
    const at = (x) => (x > 0 ? x + GAP : x);
    const reached = g.cells.flatMap((row, y) => row.flatMap((cell, x) => (cell && cell.steps !== null ? [{ x: at(x), y, cell }] : [])));
    const light = (c) => tall(c.steps) - ends[0] < 0.55 * (ends[1] - ends[0]); // few steps are bright
    const traces = [
      { ...common, z: map((c) => tall(c.steps)), text: map(lost(false), ""), zmin: ends[0], zmax: ends[1], colorscale: stops, texttemplate: "" },
      { ...common, z: map((c) => (c.steps === null ? 1 : null)), text: map(lost(true), ""), colorscale: [[0, css("--unknown")], [1, css("--unknown")]], textfont: { size: 10.5, color: css("--soft") } },
      {
        x: reached.map((one) => one.x), y: reached.map((one) => one.y), text: reached.map(({ cell }) => told(cell)), mode: "text", hoverinfo: "skip",
        textfont: { size: 11, color: reached.map(({ cell }) => (light(cell) ? "#101214" : "#ffffff")) },
      },
      {
        x: g.boundary.flatMap(([x0, , x1]) => [at(x0), at(x1), null]), y: g.boundary.flatMap(([, y0, , y1]) => [y0, y1, null]),
        mode: "lines", line: { color: css("--behind"), width: 3 }, hoverinfo: "skip", cliponaxis: false,
      },
    ];
    const plain = { showgrid: false, showline: false, ticks: "", fixedrange: true };
    const x = { ...plain, range: [-0.5, middles.at(-1) + 0.5], tickvals: middles, ticktext: ["base", ...g.betas.map(rateText)], tickangle: 0, title: title("β of hypergradient descent") };
    const y = { ...plain, range: [-0.5, g.lrs.length - 0.5], tickvals: g.lrs.map((_, i) => i), ticktext: g.lrs.map(rateText), title: title("α₀") };
    return { title: g.panel, traces, layout: layout(x, y, { dragmode: false }) };
  });
};
keys.heatmap = () => {
  const steps = data.heatmap.flatMap((g) => g.cells.flat()).filter((c) => c && c.steps !== null).map((c) => c.steps);
  return [
    ...(steps.length ? [
      { plain: true, label: `${countText(Math.min(...steps))} to ${countText(Math.max(...steps))} steps`, gradient: data.heatColours.join(",") },
    ] : []),
    { plain: true, label: "not reached", gradient: `${css("--unknown")}, ${css("--unknown")}` },
    { plain: true, label: "behind its base optimizer", colour: css("--behind") },
  ];
};

drawers.iterations = (figure) => {
  const scale = scaleOf(figure), near = 10 ** 0.2;
  const known = data.iterations.flatMap((s) => [...s.ours, ...s.theirs, ...s.our_limit, ...s.their_limit]).filter((v) => v !== null);
  const range = rangeOf(known, scale), ends = scale === "log" ? range.map((v) => 10 ** v) : range;
  return data.iterations.filter((s) => s.task === task).map((one) => {
    const pick = (i, a, b) => one[a][i] ?? one[b][i];
    const text = one.lr.map((lr, i) => {
      const say = (v, limit) => (v === null ? `more than ${limit.toLocaleString("en")}` : v.toLocaleString("en"));
      return `α₀ = ${rateText(lr)}${one.hypergrad_lr[i] === null ? "" : `, β = ${rateText(one.hypergrad_lr[i])}`}<br>ours <b>${say(one.ours[i], one.our_limit[i])}</b>, published <b>${say(one.theirs[i], one.their_limit[i])}</b>` +
        (one.log_ratio[i] === null ? "" : `<br>ratio ${short(10 ** one.log_ratio[i])}`);
    });
    const symbol = one.lr.map((_, i) => (one.ours[i] === null ? "triangle-up" : one.theirs[i] === null ? "triangle-right" : "circle"));
    const traces = [
      { x: [ends[0], ends[1], ends[1], ends[0]], y: [ends[0] / near, ends[1] / near, ends[1] * near, ends[0] * near], mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: css("--faint"), opacity: 0.15, hoverinfo: "skip" },
      { x: ends, y: ends, mode: "lines", line: { color: css("--faint"), width: 1 }, hoverinfo: "skip" },
      {
        x: one.lr.map((_, i) => pick(i, "theirs", "their_limit")), y: one.lr.map((_, i) => pick(i, "ours", "our_limit")), text, mode: "markers",
        hovertemplate: "%{text}<extra></extra>", marker: { symbol, size: 9, opacity: 0.75, color: css(one.method.endsWith("-HD") ? "--adaptive" : "--constant") },
      },
    ];
    return { title: one.method, traces, layout: layout({ ...yAxis(scale, range), title: title("published steps") }, { ...yAxis(scale, range), title: title("ours") }) };
  });
};
keys.iterations = () => [
  { plain: true, label: "within a factor 10⁰·² of the published", gradient: `${css("--line")}, ${css("--line")}` },
  { plain: true, label: "▲ not reached" },
];

// ---- downloads --------------------------------------------------------------------------
// The table behind a figure, which a page that was mailed still has. A text that a spreadsheet
// would take for a formula gets an apostrophe before it.
const tables = {
  beside: (figure) => data.beside.filter((s) => s.metric === metricOf(figure)),
  compare: (figure) => data.compareEnds.filter((e) => e.metric === metricOf(figure)),
  sensitivity: (figure) => data.sensitivity[metricOf(figure)],
  relative: (figure) => data.relative[metricOf(figure)],
  best: (figure) => data.best.filter((s) => s.metric === metricOf(figure)),
  tuning: (figure) => data.tuning.filter((s) => s.metric === metricOf(figure)),
  curves: () => data.curves, rate: () => data.curves, grid: () => data.curves,
  published: () => data.published, iterations: () => data.iterations,
};
const cell = (value) => {
  if (value == null) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : Array.isArray(value) ? value.join(" ") : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const csvOf = (series) => {
  // Lists of one length are a column each: those of a series are as long as its first one.
  const rows = series.flatMap((one) => {
    const columns = Object.entries(one), length = columns.find(([, v]) => Array.isArray(v))?.[1].length;
    const flat = columns.some(([k, v]) => k !== "values" && Array.isArray(v));
    return flat ? Array.from({ length }, (_, i) => columns.map(([, v]) => (Array.isArray(v) ? v[i] : v))) : [columns.map(([, v]) => v)];
  });
  const lines = [Object.keys(series[0] ?? {}), ...rows].map((row) => row.map(cell).join(","));
  return `data:text/csv;charset=utf-8,${encodeURIComponent(`${lines.join("\n")}\n`)}`;
};

// The panels of a figure as they are on the page, as one picture: a page that was mailed has no files beside it.
const pictureOf = async (section) => {
  const grid = section.querySelector(".panels"), box = grid.getBoundingClientRect(), space = "http://www.w3.org/2000/svg";
  const node = (tag, attributes, text = "") => {
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return new XMLSerializer().serializeToString(made);
  };
  const parts = await Promise.all([...grid.children].map(async (panel) => {
    const [heading, plot] = panel.children, { left, top, width, height } = plot.getBoundingClientRect();
    const [x, y] = [left - box.left, top - box.top];
    const svg = decodeURIComponent((await Plotly.toImage(plot, { format: "svg", width, height })).replace(/^[^,]*,/, ""));
    const name = node("text", { x: x + 52, y: y - 6, fill: css("--ink"), "font-family": "sans-serif", "font-size": 14, "font-weight": 600 }, heading.textContent);
    return `${name}<g transform="translate(${x} ${y})">${svg}</g>`;
  }));
  const paper = node("rect", { width: "100%", height: "100%", fill: css("--paper") });
  return `<svg xmlns="${space}" width="${box.width}" height="${box.height}" viewBox="0 0 ${box.width} ${box.height}">${paper}${parts.join("")}</svg>`;
};

// ---- the page ---------------------------------------------------------------------------
const render = (figure) => {
  const section = document.getElementById(figure);
  const grid = section.querySelector(".panels");
  const panels = drawers[figure](figure);
  if (grid.classList.contains("rows")) grid.style.setProperty("--columns", new Set(panels.map((panel) => panel.title)).size);
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
  for (const link of section.querySelectorAll(".files a[data-suffix]")) {
    const stem = section.dataset.stem;
    const name = `${stem}${stem.endsWith("_") ? metricOf(figure) : ""}.${link.dataset.suffix}`;
    link.href = link.dataset.suffix === "csv" && tables[figure] ? csvOf(tables[figure](figure)) : `figures/${name}`;
    link.hidden = link.dataset.suffix !== "csv" && figure === "curves" && metricOf(figure).endsWith("_accuracy"); // not drawn
    link.download = link.dataset.suffix === "csv" ? name : "";
  }
};

const key = (figure) => {
  const entry = ({ id, label, colour, shape = "", heading, plain, gradient }) => {
    if (heading) return element("b", {}, heading);
    const swatch = element("i", { className: gradient ? "gradient" : shape });
    swatch.style.borderColor = colour;
    if (gradient) swatch.style.background = `linear-gradient(to right, ${gradient})`;
    if (plain) return element("span", {}, ...(gradient || colour ? [swatch] : []), label);
    const button = element("button", { type: "button" }, swatch, label);
    button.setAttribute("aria-pressed", String(!hidden[figure].has(id)));
    button.addEventListener("click", () => {
      if (!hidden[figure].delete(id)) hidden[figure].add(id);
      button.setAttribute("aria-pressed", String(!hidden[figure].has(id)));
      render(figure);
    });
    return button;
  };
  document.getElementById(figure).querySelector(".key").replaceChildren(...keys[figure]().map(entry));
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
for (const link of document.querySelectorAll("a[data-panels]")) {
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    const section = link.closest("section"), stem = section.dataset.stem, kept = section.querySelector(".files a[data-suffix=csv]").download;
    const href = URL.createObjectURL(new Blob([await pictureOf(section)], { type: "image/svg+xml" }));
    element("a", { href, download: kept ? kept.replace(/csv$/, "svg") : `${stem}.svg` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10000);
  });
}
for (const section of document.querySelectorAll("main section[id]")) {
  const parts = section.querySelectorAll("[data-metric]");
  for (const input of section.querySelectorAll('input[name$="-metric"]')) {
    input.addEventListener("change", () => parts.forEach((part) => { part.hidden = part.dataset.metric !== input.value; }));
  }
}
// ---- tables that sort and filter ---------------------------------------------------------
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], input = document.querySelector(`input[data-filters="${table.id}"]`);
  const valueOf = (row, place) => {
    const text = row.cells[place].textContent.trim();
    return text === "–" ? null : Number.isNaN(Number(text)) ? text : Number(text);
  };
  const compareCells = (a, b) => (a === null || b === null ? (a === null) - (b === null) : typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }));
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = element("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = [...body.rows].sort((a, b) => {
        const [left, right] = [valueOf(a, place), valueOf(b, place)];
        return left === null || right === null || !down ? compareCells(left, right) : compareCells(right, left);
      });
      body.append(...order);
    });
  });
  input?.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
}
dark.addEventListener("change", renderAll);
renderAll();

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
  for (const link of section.querySelectorAll(".files a")) {
    const stem = section.dataset.stem;
    link.href = `figures/${stem}${stem.endsWith("_") ? metricOf(figure) : ""}.${link.dataset.suffix}`;
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
for (const section of document.querySelectorAll("main > section[id]")) {
  const parts = section.querySelectorAll("[data-metric]");
  for (const input of section.querySelectorAll('input[name$="-metric"]')) {
    input.addEventListener("change", () => parts.forEach((part) => { part.hidden = part.dataset.metric !== input.value; }));
  }
}
dark.addEventListener("change", renderAll);
renderAll();

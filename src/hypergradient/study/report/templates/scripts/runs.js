
// ---- single runs: a row of the table that is chosen shows its curves, or its error ---------
const RUN_PANELS = { train_loss: "Training loss", valid_loss: "Validation loss", lr_mean: "Learning rate" };
const RUN_HUES = ["--adaptive", "--lr-decay", "--halving", "--adaptive-rate", "--cosine", "--robbins-monro", "--constant"];
const everyRun = document.getElementById("every-run");
const chosenRuns = new Map(); // row -> { curves, hue }
let ofRuns = null; // unpacked at the first choice

const nameOfRun = (row) => {
  const heads = everyRun.tHead.rows[0].cells;
  return [...row.cells].slice(0, Number(everyRun.dataset.names)).flatMap((cell, i) => {
    const text = cell.textContent.trim();
    const head = heads[i].textContent.replace(/ [▲▼]$/, "").trim(), speaks = Number.isNaN(Number(text)) && head[0] !== lower(head)[0];
    return text === "–" ? [] : [speaks ? text : `${lower(head)} ${text}`]; // "Adam" needs no heading, "none" does
  }).join(", ");
};
const showRuns = () => {
  const box = document.getElementById("chosen-runs"), [names, panels] = box.children;
  box.hidden = !chosenRuns.size;
  names.replaceChildren(...[...chosenRuns].map(([row, { curves, hue }]) => {
    const swatch = element("i"), button = element("button", { type: "button", title: "Leave it out" }, swatch, nameOfRun(row));
    swatch.style.borderColor = css(hue);
    button.addEventListener("click", () => chooseRun(row));
    return curves.error ? element("div", { className: "of-run" }, button, element("p", { className: "failed" }, curves.error)) : button;
  }));
  const drawn = [...chosenRuns].filter(([, { curves }]) => curves.epoch.length);
  panels.hidden = !drawn.length;
  if (!panels.children.length) {
    for (const text of Object.values(RUN_PANELS)) panels.append(element("figure", { className: "panel" }, element("h3", {}, text), element("div", { className: "plot" })));
  }
  if (!drawn.length) return;
  Object.entries(RUN_PANELS).forEach(([column, text], place) => {
    const traces = drawn.map(([row, { curves, hue }]) => ({
      x: curves.epoch, y: curves[column], mode: curves.epoch.length > 1 ? "lines" : "markers", line: { color: css(hue), width: 2 }, marker: { color: css(hue), size: 6 },
      text: curves.epoch.map(() => nameOfRun(row)), hovertemplate: "%{text}<br>epoch %{x}: <b>%{y:.4~g}</b><extra></extra>",
    }));
    const values = traces.flatMap((trace) => trace.y).filter((v) => v !== null);
    const scale = values.some((v) => v <= 0) ? "linear" : "log";
    const y = { ...yAxis(scale, rangeOf(values, scale)), title: title(lower(text)) };
    const plot = panels.children[place].lastChild;
    Plotly.react(plot, traces, layout({ title: title("epoch"), rangemode: "tozero" }, y), { displayModeBar: false, responsive: true, doubleClick: "reset" });
    if (!plot.dataset.zooms) plot.on("plotly_relayout", (event) => retick(plot, event));
    plot.dataset.zooms = "true";
  });
};
const chooseRun = async (row) => {
  ofRuns ??= JSON.parse(await unpack("packed-runs"));
  if (!chosenRuns.delete(row)) {
    const used = [...chosenRuns.values()].map((one) => one.hue), free = RUN_HUES.filter((hue) => !used.includes(hue));
    chosenRuns.set(row, { curves: ofRuns[Number(row.dataset.place)], hue: free[0] ?? RUN_HUES[chosenRuns.size % RUN_HUES.length] });
  }
  row.setAttribute("aria-selected", String(chosenRuns.has(row)));
  showRuns();
  if (chosenRuns.has(row)) document.getElementById("chosen-runs").scrollIntoView({ block: "nearest" });
};
if (everyRun) {
  [...everyRun.tBodies[0].rows].forEach((row, place) => { // as they stand before any sorting
    Object.assign(row.dataset, { place });
    row.tabIndex = 0;
    row.setAttribute("aria-selected", "false");
    row.addEventListener("click", () => chooseRun(row));
    row.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      chooseRun(row);
    });
  });
  dark.addEventListener("change", () => chosenRuns.size && showRuns());
}

// Two results folders beside each other: a panel a method, a line a folder.
const BESIDE = "results folder";
const besideFolders = [...new Set((data.beside ?? []).map((s) => s[BESIDE]))];
const besideColour = (folder) => css(besideFolders.indexOf(folder) ? "--lr-decay" : "--adaptive");
drawers.beside = (figure) => {
  const metric = metricOf(figure), scale = scaleOf(figure), x = xOf(figure);
  const series = data.beside.filter((s) => s.task === task && s.metric === metric);
  const range = rangeOf(series.flatMap((s) => s.value), scale, data.ceilings[task]?.[metric]);
  return byPanel(series, (members) => ({
    traces: members.filter((s) => !hidden[figure].has(s[BESIDE])).map((s) => ({
      x: s[x], y: s.value, mode: "lines", connectgaps: false,
      line: { color: besideColour(s[BESIDE]), width: 2, dash: besideFolders.indexOf(s[BESIDE]) ? "5px,3px" : "solid" },
      hovertemplate: `${[s[BESIDE], s.setting].filter(Boolean).join("<br>")}<br>${x} %{x:.4~g}: <b>%{y:.3~g}</b><extra></extra>`,
    })),
    layout: layout({ title: title(x), rangemode: "tozero" }, { ...yAxis(scale, range), title: title(lower(data.names[metric])) }),
  }));
};
keys.beside = () => besideFolders.map((folder, place) => ({ id: folder, label: folder, colour: besideColour(folder), shape: place ? "dashed" : "" }));

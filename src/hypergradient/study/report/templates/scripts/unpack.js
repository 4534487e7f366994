// What a page holds compressed: gzip in base64, half as large. Browsers unpack it since 2023.
const unpack = async (id) => {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
const loadPlotly = async () => {
  try {
    document.head.append(Object.assign(document.createElement("script"), { textContent: await unpack("plotly") }));
  } catch (error) {
    (document.querySelector(".headline") ?? document.querySelector("main")).append(Object.assign(document.createElement("p"), {
      className: "problem", textContent: "This browser cannot unpack the figures. Chrome 80, Firefox 113 and Safari 16.4 can, and all that are newer; the folder figures has them as files.",
    }));
    throw error;
  }
};

// Draws the figures, in the colours of the page's style: again when those change, and for paper.
(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  // Nothing leaves the page: no button that uploads a figure.
  const config = {
    displaylogo: false,
    showSendToCloud: false,
    plotlyServerURL: "",
    responsive: true,
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
  };

  const value = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const scale = (name) => {
    const stops = value(name).split(",");
    return stops.map((colour, at) => [at / (stops.length - 1), colour.trim()]);
  };
  // "@name" is a colour of the style, "@heat" a scale of colours.
  const coloured = (part) => {
    if (typeof part === "string" && part[0] === "@") return part === "@heat" ? scale("heat") : value(part.slice(1));
    if (Array.isArray(part)) return typeof part[0] === "object" ? part.map(coloured) : part;
    if (part === null || typeof part !== "object") return part;
    return Object.fromEntries(Object.entries(part).map(([key, inner]) => [key, coloured(inner)]));
  };
  const axes = (layout) => {
    const lines = { gridcolor: value("grid"), zerolinecolor: value("grid"), linecolor: value("rule") };
    const found = Object.entries(layout).filter(([key]) => /^[xy]axis/.test(key));
    return Object.fromEntries(found.map(([key, axis]) => [key, { ...lines, ...axis }]));
  };
  const laidOut = (layout) => ({
    ...layout,
    ...axes(layout),
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: value("ink") },
    hoverlabel: { bgcolor: value("paper"), bordercolor: value("rule"), font: { color: value("ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: value("soft"), activecolor: value("accent") },
    margin: { l: 10, r: 16, t: 32, b: 10 },
  });
  const draw = () => {
    for (const place of document.querySelectorAll(".chart")) {
      const figure = figures[place.dataset.figure];
      Plotly.react(place, coloured(figure.data), laidOut(figure.layout), config).catch((error) => {
        place.textContent = `This figure cannot be drawn here (${error.message}); its table tells the same.`;
      });
    }
  };

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  // On paper: every table, and figures as wide as the paper.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
    draw();
    for (const place of document.querySelectorAll(".chart")) Plotly.Plots.resize(place);
  });
  addEventListener("afterprint", () => {
    for (const one of opened) one.open = false;
    draw();
  });
})();

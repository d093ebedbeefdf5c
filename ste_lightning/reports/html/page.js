"use strict";
// Draws every chart in the page's own colours, and again when the system turns light or dark.
const charts = JSON.parse(document.getElementById("charts").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

// Okabe and Ito's colours, which colour-blind readers tell apart; lighter ones on dark ground.
const COLORS = {
  light: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#444444"],
  dark: ["#56b4e9", "#ff9f57", "#2fc79a", "#e7a3c8", "#f0d24a", "#8fb3ff", "#cccccc"],
};

function config(isDark, width) {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  const colors = COLORS[isDark ? "dark" : "light"];
  return {
    background: null,
    font: "system-ui, sans-serif",
    aria: false,
    view: { stroke: null },
    axis: {
      labelColor: read("--text"), titleColor: read("--soft"), gridColor: read("--line"),
      domainColor: read("--line"), tickColor: read("--line"),
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", labelLimit: 220,
      labelOverlap: "greedy", labelSeparation: 8,
    },
    legend: {
      labelColor: read("--text"), titleColor: read("--soft"), labelFontSize: 12,
      titleFontWeight: "normal", orient: "bottom",
      columns: width < 340 ? 1 : width < 600 ? 2 : 3, labelLimit: 300, symbolLimit: 60,
    },
    header: { labelColor: read("--text"), titleColor: read("--soft") },
    text: { color: read("--text") },
    rule: { color: read("--soft") },
    line: { color: colors[0], strokeWidth: 2 },
    point: { color: colors[0], filled: true, size: 45 },
    bar: { color: colors[0] },
    area: { color: colors[0] },
    range: {
      category: colors,
      heatmap: { scheme: "viridis" },
      ramp: { scheme: "viridis", extent: isDark ? [0.3, 1] : [0, 0.85] },  // lines that the ground shows
    },
  };
}

async function draw() {
  for (const [index, spec] of charts.entries()) {
    const place = document.getElementById(`c${index}`);
    const style = config(dark.matches, place.clientWidth);
    const options = { actions: false, renderer: "svg", config: style, tooltip: true };
    try {
      await vegaEmbed(place, {
        width: "container",
        height: 260,
        autosize: { type: "fit", contains: "padding", resize: true },
        ...spec,
      }, options);
      for (const svg of place.querySelectorAll("svg")) svg.setAttribute("aria-hidden", "true");
    } catch (error) {
      place.textContent = `This chart could not be drawn: ${error.message}`;
    }
    if (!calm.matches) await new Promise((next) => setTimeout(next));  // the page stays scrollable
  }
  document.documentElement.dataset.drawn = String(charts.length);
}

dark.addEventListener("change", draw);
draw();

"use strict";
// What can be moved: sliders, choices and numbers, from a table.
const CONTROLS = [
  { key: "speed", text: "speed, steps per second", low: 1, high: 5000, log: true, live: true },
  { key: "n", text: "n, inputs", low: 2, high: 128, whole: true },
  { key: "N", text: "N, samples", low: 4, high: 4096, log: true, whole: true },
  { key: "m", text: "m, hidden units", low: 1, high: 16, whole: true },
  { key: "noise", text: "label noise", low: 0, high: 2, step: 0.05 },
  { key: "lr", text: "step size", low: 0.001, high: 10, log: true, live: true },
  { key: "optimizer", text: "optimizer", options: {
    plain: "plain descent", momentum: "momentum", adam: "Adam" } },
  { key: "momentum", text: "momentum", low: 0, high: 0.99, step: 0.01, live: true, only: ["optimizer", "momentum"] },
  { key: "rule", text: "backward rule of the hidden units", live: true, options: {
    identity: "identity: f′ = 1", relu: "ReLU: f′ = 1 above 0", clipped: "clipped: f′ = 1 within ± the width",
    triangular: "triangular", odd_sign: "odd (cannot work)" } },
  { key: "width", text: "width of the clipped rule", low: 0.1, high: 3, step: 0.1, live: true, only: ["rule", "clipped"] },
  { key: "law", text: "inputs", options: {
    gaussian: "Gaussian", spread: "Gaussian, features of different scales", rademacher: "−1 or 1",
    exponential: "exponential (positive)", uniform: "uniform on [0, 1)" } },
  { key: "shift", text: "mean of the Gaussian", low: 0, high: 3, step: 0.1, only: ["law", "gaussian"] },
  { key: "normalize", text: "normalization", options: {
    none: "none", center: "centre each feature", standardize: "standardize each feature",
    layer_norm: "layer norm (each row)", whitening: "whiten" } },
  { key: "from", text: "count and vote from step", number: true },
  { key: "seed", text: "seed of the data", number: true },
];

function number(value) {
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 0.001 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}

function makeControls() {
  for (const one of CONTROLS) {
    const place = document.createElement("div");
    place.className = "control";
    const input = document.createElement(one.options ? "select" : "input");
    input.id = `set-${one.key}`;
    if (one.options) {
      for (const [value, text] of Object.entries(one.options)) input.add(new Option(text, value));
    } else if (one.number) {
      Object.assign(input, { type: "number", min: 0, max: 999999, step: 1 });
    } else if (one.log) {
      Object.assign(input, { type: "range", min: Math.log(one.low), max: Math.log(one.high), step: 0.01 });
    } else {
      Object.assign(input, { type: "range", min: one.low, max: one.high, step: one.step || 1 });
    }
    input.addEventListener("input", () => change({ [one.key]: read(one, input) }));
    const label = document.createElement("label");
    label.htmlFor = input.id;
    label.append(one.text);
    if (!one.options && !one.number) {
      const output = document.createElement("output");
      output.id = `value-${one.key}`;
      output.htmlFor = input.id;
      label.append(output);
    }
    place.append(label, input);
    $("sliders").append(place);
  }
  $("set-N").setAttribute("list", "half");
  $("sliders").append(Object.assign(document.createElement("datalist"), { id: "half" }));
}

function read(one, input) {
  if (one.options) return input.value;
  let value = Number(input.value);
  if (one.number) return Math.min(Math.max(Math.round(value) || 0, 0), 999999);
  if (one.log) value = Math.exp(value);
  return one.whole ? Math.round(value) : Number(value.toPrecision(3));
}

function show(one) {
  const input = $(`set-${one.key}`);
  const value = settings[one.key];
  if (one.log) input.value = Math.log(value);
  else if (document.activeElement !== input || !one.number) input.value = value;
  if (one.only) input.disabled = settings[one.only[0]] !== one.only[1];
  if (one.low !== undefined) {
    $(`value-${one.key}`).textContent = number(value);
    input.setAttribute("aria-valuetext", number(value));
  }
}

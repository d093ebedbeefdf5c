"use strict";
// The page: controls, scenes, drawing. The training itself is in the engine above.
const $ = (id) => document.getElementById(id);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const KEPT = 300;   // steps that are drawn
const DRAWN = 32;   // latent weights that are drawn
const BUDGET = 12;  // milliseconds of a frame for training

const CONTROLS = [
  { key: "speed", text: "speed, steps per second", low: 5, high: 5000, log: true, live: true },
  { key: "n", text: "n, inputs", low: 2, high: 128, whole: true },
  { key: "N", text: "N, samples", low: 4, high: 4096, log: true, whole: true },
  { key: "m", text: "m, hidden units", low: 1, high: 16, whole: true },
  { key: "noise", text: "label noise", low: 0, high: 2, step: 0.05 },
  { key: "lr", text: "step size", low: 0.01, high: 10, log: true, live: true },
  { key: "momentum", text: "momentum", low: 0, high: 0.99, step: 0.01, live: true },
  { key: "rule", text: "backward rule of the hidden units", live: true, options: {
    identity: "identity: f′ = 1", relu: "ReLU: f′ = 1 above 0", clipped: "clipped: f′ = 1 within ±1",
    triangular: "triangular", odd_sign: "odd (cannot work)" } },
  { key: "law", text: "inputs", options: {
    gaussian: "Gaussian", spread: "Gaussian, features of different scales", rademacher: "−1 or 1",
    exponential: "exponential (positive)", uniform: "uniform on [0, 1)" } },
  { key: "shift", text: "mean of the Gaussian", low: 0, high: 3, step: 0.1 },
  { key: "normalize", text: "normalization", options: {
    none: "none", center: "centre each feature", standardize: "standardize each feature",
    layer_norm: "layer norm (each row)" } },
  { key: "seed", text: "seed of the data", number: true },
];

const settings = { ...USUAL, speed: 120, N: 256, noise: 0.5, seed: 1 };
let scene = SCENES[2];
let student;
let playing = true;
let history = [];  // of {wrong, averaged, weights}
let lastFrame = 0;
let owed = 0;

function number(value) {
  if (Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 0.01 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
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
    input.addEventListener("input", () => {
      settings[one.key] = read(one, input);
      show(one);
      one.live ? adjust() : restart();
      tell();
    });
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
  if (one.low !== undefined) {
    $(`value-${one.key}`).textContent = number(value);
    input.setAttribute("aria-valuetext", number(value));
  }
}

function restart() {
  student = new Student(drawProblem(settings), settings);
  history = [];
  owed = 0;
  remember();
}

function adjust() {
  Object.assign(student, { rule: settings.rule, lr: Math.fround(settings.lr), momentum: settings.momentum });
  student.stale = true;
  student.gradient();
}

function remember() {
  const weights = Array.from({ length: Math.min(student.n, DRAWN) },
    (_, k) => student.latent[k] * student.teacher[k]);
  history.push({ wrong: student.wrong, averaged: student.steps ? student.averagedWrong() : null, weights });
  if (history.length > KEPT) history.shift();
}

function advance(count) {
  const end = performance.now() + BUDGET;
  for (let i = 0; i < count; i++) {
    student.step();
    remember();
    if (performance.now() > end) return i + 1;
  }
  return count;
}

/** Return a canvas's context in CSS pixels, cleared. */
function cleared(id) {
  const canvas = $(id);
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  pen.lineWidth = 1;
  return { pen, width, height };
}

function line(pen, points, style, width = 2, dash = []) {
  pen.beginPath();
  points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.strokeStyle = style;
  pen.lineWidth = width;
  pen.setLineDash(dash);
  pen.stroke();
  pen.setLineDash([]);
}

function write(pen, text, x, y, align = "left") {
  pen.fillStyle = color("soft");
  pen.textAlign = align;
  pen.fillText(text, x, y);
}

function drawWrong() {
  const { pen, width, height } = cleared("wrong");
  const most = Math.max(4, ...history.map((one) => one.wrong), ...history.map((one) => one.averaged || 0));
  const left = 34, bottom = height - 20, top = 8;
  const x = (i) => left + (i / (KEPT - 1)) * (width - left - 6);
  const y = (value) => bottom - (value / most) * (bottom - top);
  for (const value of [0, Math.round(most / 2), most]) {
    line(pen, [[left, y(value)], [width - 6, y(value)]], color("line"), 1);
    write(pen, String(value), left - 6, y(value) + 4, "right");
  }
  const first = student.steps - history.length + 1;
  write(pen, `step ${Math.max(first, 0)}`, left, height - 4);
  write(pen, `step ${student.steps}`, width - 6, height - 4, "right");
  const stairs = (key) => history.flatMap((one, i) => (one[key] === null ? [] : [[x(i), y(one[key])], [x(i + 1), y(one[key])]]));
  line(pen, stairs("wrong"), color("last"), 1.6);
  line(pen, stairs("averaged"), color("averaged"), 2.4, [6, 3]);
  $("wrong").setAttribute("aria-label", `Wrong signs at step ${student.steps}: last iterate ${student.wrong} of ${student.n}.`);
}

function drawWeights() {
  const { pen, width, height } = cleared("weights");
  // The weights that have been wrong lately set the scale; others may leave the picture.
  const reach = history[0].weights.map((_, k) => {
    const values = history.map((one) => one.weights[k]);
    return { low: Math.min(...values), size: Math.max(...values.map(Math.abs)) };
  });
  const restless = reach.filter((one) => one.low < 0);
  const most = 1.15 * Math.max(...(restless.length ? restless : reach).map((one) => one.size)) || 1;
  const middle = height / 2;
  const x = (i) => (i / (KEPT - 1)) * width;
  const y = (value) => middle - (value / most) * (middle - 6);
  pen.fillStyle = color("wrong");
  pen.globalAlpha = 0.1;
  pen.fillRect(0, middle, width, middle);
  pen.globalAlpha = 0.75;
  const count = history[0].weights.length;
  for (let k = 0; k < count; k++) {
    const wrong = history[history.length - 1].weights[k] < 0;
    line(pen, history.map((one, i) => [x(i), y(one.weights[k])]), color(wrong ? "wrong" : "right"), wrong ? 1.6 : 1);
  }
  pen.globalAlpha = 1;
  line(pen, [[0, middle], [width, middle]], color("soft"), 1.5);
  write(pen, "right", 4, 14);
  write(pen, "wrong", 4, height - 6);
}

function drawPhase() {
  const { pen, width, height } = cleared("phase");
  const found = N50.find((one) => one.rule === settings.rule && one.m === settings.m) || N50[0];
  const left = 46, bottom = height - 30, right = width - 12, top = 8;
  const x = (n) => left + (Math.log(n / 2) / Math.log(300 / 2)) * (right - left);
  const y = (N) => bottom - (Math.log(N / 4) / Math.log(4096 / 4)) * (bottom - top);
  for (const N of [4, 16, 64, 256, 1024, 4096]) {
    line(pen, [[left, y(N)], [right, y(N)]], color("line"), 1);
    write(pen, String(N), left - 6, y(N) + 4, "right");
  }
  for (const n of [2, 4, 8, 16, 32, 64, 128, 256]) write(pen, String(n), x(n), bottom + 15, "center");
  write(pen, "n", right, bottom + 28, "right");
  write(pen, "N", left + 4, top + 14);
  line(pen, found.points.map(([n, last]) => [x(n), y(last)]), color("last"), 2.5);
  line(pen, found.points.map(([n, , averaged]) => [x(n), y(averaged)]), color("averaged"), 2.5, [6, 3]);
  pen.beginPath();
  pen.arc(x(settings.n), y(settings.N), 7, 0, 7);
  pen.fillStyle = color("text");
  pen.fill();
  const fits = found.rule === settings.rule && found.m === settings.m;
  $("phase-said").textContent = `Above a line more than half of the students find the teacher (orange: last iterate, `
    + `blue dashes: vote). Measured for ${found.rule}, m = ${found.m}, Gaussian inputs, no noise`
    + `${fits ? "" : "; your rule or m differs"}. The dot is you.`;
  $("phase").setAttribute("aria-label", `Phase diagram; you are at n = ${settings.n}, N = ${settings.N}.`);
}

function fact(name, value) {
  let cell = $(`fact-${name}`);
  if (!cell) {
    const place = document.createElement("div");
    const term = document.createElement("dt");
    term.textContent = name;
    cell = document.createElement("dd");
    cell.id = `fact-${name}`;
    place.append(term, cell);
    $("facts").append(place);
  }
  cell.textContent = value;
}

function lamp(name, wrong) {
  $(`lamp-${name}`).classList.toggle("lit", wrong === 0);
  $(name).textContent = wrong === null ? "no step yet" : wrong === 0 ? "at the teacher" : `${wrong} of ${student.n} wrong`;
}

function drawFacts() {
  const { steps, visits } = student;
  lamp("last", student.wrong);
  lamp("averaged", steps ? student.averagedWrong() : null);
  fact("steps", String(steps));
  fact("time at the teacher", steps ? `${((100 * visits) / steps).toFixed(1)} %` : "-");
  fact("escapes", String(student.escapes));
  fact("returns", String(student.returns));
  fact("flips per step", steps ? (student.flips / steps).toFixed(2) : "-");
  fact("loss", number(student.loss));
  fact("hidden units on", `${(100 * student.active).toFixed(0)} %`);
}

// Scene 1: one weight x with the right sign -1, loss (sign(x) + 1)^2 / 4, one step a frame.
const lone = { x: 0.9 };

function drawPretend() {
  const pretended = $("pretended").checked;
  const sign = lone.x >= 0 ? 1 : -1;
  const slope = pretended && Math.abs(lone.x) <= 1 ? 1 : 0;
  const gradient = ((sign + 1) / 2) * slope;
  if (playing) lone.x -= 0.004 * gradient;
  const { pen, width, height } = cleared("pretend");
  const x = (value) => width / 2 + value * (width / 4.4);
  const y = (value) => height / 2 - value * (height / 3);
  line(pen, [[0, y(0)], [width, y(0)]], color("line"), 1);
  line(pen, [[x(0), 0], [x(0), height]], color("line"), 1);
  line(pen, [[x(-2), y(-1)], [x(0), y(-1)], [x(0), y(1)], [x(2), y(1)]], color("averaged"), 3);
  if (pretended) line(pen, [[x(-2), y(-1)], [x(-1), y(-1)], [x(1), y(1)], [x(2), y(1)]], color("last"), 2.5, [6, 4]);
  write(pen, "sign(x)", x(1.2), y(1) - 8);
  if (pretended) write(pen, "what backward pretends", x(-0.95), y(-0.45), "left");
  pen.beginPath();
  pen.arc(x(lone.x), y(sign), 9, 0, 7);
  pen.fillStyle = color(sign > 0 ? "wrong" : "lit");
  pen.fill();
  const said = sign < 0 ? "The sign is right, the loss is 0: it stays."
    : gradient ? `Slope ${slope}: x walks down, x = ${lone.x.toFixed(2)}.` : "Slope 0: x never moves, the loss stays 1.";
  if ($("pretend-said").textContent !== said && (!gradient || Math.abs((lone.x * 20) % 1) < 0.1)) $("pretend-said").textContent = said;
}

// Scene 2: the numbers of one step.
function drawHand(moved) {
  const { n, m, N, Z, latent, teacher, g } = student;
  const rows = [];
  const signs = Array.from(student.signs);
  const head = ["sample", ...signs.map((_, k) => `z${k + 1}`), "Zw √n", "says", "label", "error r", "f′"];
  for (let i = 0; i < N; i++) {
    const y = student.output(i, student.signs);
    const a = student.hidden[0];
    rows.push([i + 1, ...Array.from(Z.slice(i * m * n, i * m * n + n), (z) => z.toFixed(2)), a.toFixed(2), y, student.labels[i],
      (y - student.labels[i]).toFixed(0), RULES[student.rule](a / Math.sqrt(n))]);
  }
  const blank = ["", "", "", "", ""];
  rows.push(["gradient g", ...Array.from(g, (v) => v.toFixed(3)), ...blank]);
  rows.push(["latent x", ...Array.from(latent, (v, k) => [v.toFixed(3), moved && moved[k] !== signs[k]]), ...blank]);
  rows.push(["sign", ...signs.map((s, k) => [s > 0 ? "+1" : "−1", moved && moved[k] !== s]), ...blank]);
  rows.push(["teacher", ...Array.from(teacher, (s) => (s > 0 ? "+1" : "−1")), ...blank]);
  const table = $("hand");
  table.replaceChildren();
  const first = table.createTHead().insertRow();
  for (const text of head) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = text;
    first.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const part of row) {
      const [text, flipped] = Array.isArray(part) ? part : [part, false];
      const cell = line.insertCell();
      cell.textContent = text;
      if (flipped) cell.className = "flip";
    }
  }
  $("hand-step").disabled = g.every((v) => v === 0);
}

function tell() {
  const law = settings.law === "gaussian" && settings.shift ? `{"name": "gaussian", "mean": ${number(settings.shift)}}`
    : settings.law === "spread" ? '{"name": "gaussian", "std_spread": 1.0}' : `"${settings.law}"`;
  const rule = settings.rule === "odd_sign" ? 'counterexample("odd_sign")' : `"${settings.rule}"`;
  const odd = settings.rule === "odd_sign" ? "from ste_lightning.theory.counterexamples import counterexample\n" : "";
  const more = settings.momentum ? `, momentum=${number(settings.momentum)}` : "";
  const commands = {
    pretend: "python -m ste_lightning.rules --plot rules",
    samples: `from ste_lightning.theory import required_samples\nprint(required_samples(${settings.n}, ${settings.m}, "${settings.rule}"))`,
  };
  $("command").textContent = commands[scene.id] || `from ste_lightning.theory import simulate\n${odd}`
    + `students = simulate(n=${settings.n}, m=${settings.m}, samples=${settings.N}, noise=${number(settings.noise)}, lr=${number(settings.lr)},\n`
    + `    rule=${rule}, inputs=${law}, normalize="${settings.normalize}"${more})\n`
    + "print(students.last_recovery.float().mean(), students.ergodic_recovery.float().mean(),\n"
    + "    students.fraction_at_teacher.mean(), students.escapes.float().mean())";
}

/** Return whether the scene has a student that trains by itself. */
function isLive() {
  return scene.id !== "pretend" && scene.id !== "by-hand";
}

function choose(next) {
  scene = next;
  for (const button of $("scenes").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(button.dataset.scene === scene.id));
  }
  $("scene-title").textContent = scene.title;
  $("look").textContent = scene.look;
  $("paper").textContent = `In the paper: ${scene.paper}`;
  Object.assign(settings, scene.settings || {});
  CONTROLS.forEach(show);
  restart();
  tell();
  lone.x = 0.9;
  $("pretended").checked = false;
  $("pretend-view").hidden = scene.id !== "pretend";
  $("hand-view").hidden = scene.id !== "by-hand";
  $("live-view").hidden = !isLive();
  setPlaying(true);
  if (scene.id === "by-hand") drawHand();
}

function setPlaying(on) {
  playing = on;
  $("play").textContent = on ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", String(on));
}

function frame(now) {
  const elapsed = Math.min((now - lastFrame) / 1000, 0.25);
  lastFrame = now;
  if (scene.id === "pretend") drawPretend();
  else if (isLive()) {
    if (playing) {
      owed = Math.min(owed + elapsed * settings.speed, settings.speed);
      const count = Math.floor(owed);
      owed -= count ? Math.max(advance(count), 1) : 0;
    }
    drawLive();
  }
  requestAnimationFrame(frame);
}

function drawLive() {
  drawFacts();
  drawWrong();
  drawWeights();
  drawPhase();
}

function say() {
  if (!playing || !isLive()) return;
  $("status").textContent = `Step ${student.steps}: last iterate ${$("last").textContent}, vote ${$("averaged").textContent}.`;
}

for (const one of SCENES) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.scene = one.id;
  button.textContent = one.title;
  button.addEventListener("click", () => choose(one));
  item.append(button);
  $("scenes").append(item);
}
makeControls();
$("play").addEventListener("click", () => setPlaying(!playing));
$("one").addEventListener("click", () => { setPlaying(false); advance(1); drawLive(); });
$("again").addEventListener("click", restart);
$("forget").addEventListener("click", () => student.forgetAverage());
$("pretend-again").addEventListener("click", () => { lone.x = 0.9; });
$("hand-again").addEventListener("click", () => { restart(); drawHand(); });
$("hand-step").addEventListener("click", () => { const before = Array.from(student.signs); student.step(); drawHand(before); });
$("copy").addEventListener("click", () => navigator.clipboard?.writeText($("command").textContent));
choose(SCENES.find((one) => `#${one.id}` === location.hash) || SCENES[0]);
setInterval(say, 5000);
requestAnimationFrame(frame);

"use strict";
// The page: controls, scenes, the loop. The training is in the engine above.
const POINTS = 240;  // points a second that are drawn; faster trainings show every k-th step
const BUDGET = 9;    // milliseconds of a frame for training
const TOLD = 250;    // milliseconds between two lots of numbers, so that they can be read

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

const settings = { ...USUAL, N: 256, noise: 0.5, seed: 1 };
let scene = SCENES[0];
let student;
let history;
let playing = true;
let followed = null;
let forces = null;
let lastFrame = 0;
let lastTold = 0;
let owed = 0;
const strips = [wrongStrip(), weightStrip(() => followed)];

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

/** Take new settings: a running student keeps going where it can, else it starts again. */
function change(given) {
  Object.assign(settings, given);
  CONTROLS.forEach(show);
  if (Object.keys(given).every((key) => CONTROLS.find((one) => one.key === key).live)) adjust();
  else restart();
  tell();
}

function stride() {
  return Math.ceil(settings.speed / POINTS);
}

function restart() {
  student = new Student(drawProblem(settings), settings);
  owed = 0;
  startHistory();
  follow(followed);
}

function adjust() {
  const { rule, width, lr, momentum } = settings;
  Object.assign(student, { rule, width, lr: Math.fround(lr), momentum, stale: true });
  student.gradient();
  if (history.stride !== stride()) startHistory();
  follow(followed);
}

function startHistory() {
  history = new History(student, stride());
  strips.forEach((strip) => strip.forget());
  const text = stride() > 1 ? `(every ${stride()}th step is drawn)` : "";
  for (const place of document.querySelectorAll(".stride")) place.textContent = text;
  drawLive(true);
}

function follow(k) {
  followed = k !== null && k < Math.min(student.n, DRAWN) ? k : null;
  $("follow").max = Math.min(student.n, DRAWN);
  $("follow").value = followed === null ? 0 : followed + 1;
  forces = followed === null || scene.id === "pretend" ? null : student.forces(followed);
  strips[1].forget();
  sayForces();
}

function sayForces() {
  if (!forces) {
    $("follow-said").textContent = "";
    return;
  }
  const counted = student.counted();
  const wrong = counted ? `Counted, with all others moving too: ${(100 * student.wrongShare(followed)).toFixed(0)} %.` : "";
  const { push, pull, share } = forces;
  $("follow-said").textContent = push > 0
    ? `Weight ${followed + 1}: right, it is pushed off by g = ${number(push)} a step; wrong, it is driven back by `
      + `D − g = ${number(pull - push)}. So alone it would be wrong g / D = ${(100 * share).toFixed(0)} % of the time. ${wrong}`
    : `Weight ${followed + 1}: at the teacher its force ${push ? "pushes it further to its right side" : "is 0"}, so alone it is never wrong. ${wrong}`;
}

function advance(count) {
  const end = performance.now() + BUDGET;
  for (let i = 0; i < count; i++) {
    student.step();
    history.add(student);
    if (performance.now() > end) return i + 1;
  }
  return count;
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
  $(name).textContent = wrong === null ? "no step counted yet" : wrong === 0 ? "at the teacher" : `${wrong} of ${student.n} wrong`;
}

function drawFacts() {
  const counted = student.counted();
  lamp("last", student.wrong);
  lamp("averaged", counted ? student.averagedWrong() : null);
  $("lamp-dead").hidden = !student.dead;
  fact("steps", String(student.steps));
  fact("time at the teacher", counted ? `${((100 * student.visits) / counted).toFixed(1)} %` : "-");
  fact("escapes", String(student.escapes));
  fact("returns", String(student.returns));
  fact("flips per step", counted ? (student.flips / counted).toFixed(2) : "-");
  fact("loss", number(student.loss));
  fact("hidden units on", `${(100 * student.active).toFixed(0)} %`);
  sayForces();
  $("wrong").setAttribute("aria-label", `Wrong signs at step ${student.steps}: last iterate ${student.wrong} of ${student.n}.`);
}

function drawLive(now) {
  for (const strip of strips) strip.draw(history);
  const time = performance.now();
  if (!now && time - lastTold < TOLD) return;
  lastTold = time;
  drawFacts();
}

/** The diagram, and how many samples are needed: they change with the settings alone. */
function drawPlace() {
  const { n, m, N, noise, rule, law, shift, normalize } = settings;
  const [last, averaged] = ["last", "averaged"].map((iterate) => halfLine(TABLE, BEYOND, settings, iterate));
  drawPhase(settings, { last, averaged });
  $("phase").setAttribute("aria-label", `Phase diagram; you are at n = ${n}, N = ${N}.`);
  $("phase-said").textContent = averaged.length
    ? "The dot is you. Above a line more than half of the students find the teacher "
      + `(${last.length ? "orange: last iterate, " : ""}blue dashes: vote). Measured for ${rule}, m = ${m}, noise ${number(noise)}, Gaussian inputs, step size 1.`
    : "The dot is you. Lines were measured for m = 1 and 4, noise up to 0.5, and the rules identity, ReLU and triangular.";
  const iterate = noise ? "averaged" : "last";
  const needed = requiredSamples(TABLE, settings, 0.95, iterate);
  const other = law !== "gaussian" || shift || normalize !== "none";
  $("needed-said").textContent = needed
    ? `For your n, m, rule and noise: ${needed.samples} samples (95 % interval ${needed.low} to ${needed.high}, `
      + `${needed.measured ? "measured" : "interpolated"}) let 95 % of the students recover by the ${noise ? "vote" : "last iterate"}`
      + `${other ? ", with Gaussian inputs of mean 0" : ""}.`
    : "How many samples your setting needs stands in no table (n = 8 to 64, to 32 with noise): simulate it with the command below.";
  const half = requiredSamples(TABLE, settings, 0.5, iterate);
  $("half").replaceChildren(...(half ? [new Option("half recover", String(Math.log(half.samples)))] : []));
}

// Scene 1: one weight x with the right sign -1, loss (sign(x) + 1)^2 / 4.
const lone = { x: 0.9, drawn: "" };

function playLone(seconds) {
  const pretended = $("pretended").checked;
  const wrong = lone.x >= 0;
  const moves = wrong && pretended && lone.x <= 1;
  if (playing && moves && document.activeElement !== $("lone")) lone.x -= 0.25 * seconds;
  const state = `${lone.x} ${pretended}`;
  if (state === lone.drawn) return;
  lone.drawn = state;
  drawLone(lone.x, pretended);
  $("lone").value = lone.x;
  $("value-lone").textContent = lone.x.toFixed(2);
  const said = !wrong ? "The sign is right and the loss is 0: x stays."
    : moves ? "Pretended slope 1: x walks down."
    : pretended ? "Beyond 1 the pretended slope is 0 too: x stays."
    : "True slope 0: x never moves, the loss stays 1.";
  if ($("pretend-said").textContent !== said) $("pretend-said").textContent = said;
}

// Scene 2: the numbers of one step.
function drawHand(before) {
  const { n, m, N, Z, latent, teacher, g, lr } = student;
  const rows = [];
  const signs = Array.from(student.signs);
  const sign = (s) => (s > 0 ? "+1" : "−1");
  const flipped = (k) => before && before[k] !== signs[k];
  const head = ["sample", ...signs.map((_, k) => `z${k + 1}`), "Zw √n", "says", "label", "error r", "f′"];
  for (let i = 0; i < N; i++) {
    const y = student.output(i, student.signs);
    const a = student.hidden[0];
    rows.push([i + 1, ...Array.from(Z.slice(i * m * n, i * m * n + n), (z) => z.toFixed(2)), a.toFixed(2), y, student.labels[i],
      (y - student.labels[i]).toFixed(0), RULES[student.rule](a / Math.sqrt(n), student.width)]);
  }
  const blank = ["", "", "", "", ""];
  rows.push(["gradient g", ...Array.from(g, (v) => v.toFixed(3)), ...blank]);
  rows.push(["latent x", ...Array.from(latent, (v) => v.toFixed(3)), ...blank]);
  rows.push([`next x − ${number(lr)} g`, ...Array.from(latent, (v, k) => `${g[k] > 0 ? "↓" : g[k] < 0 ? "↑" : "→"} ${(v - lr * g[k]).toFixed(3)}`), ...blank]);
  rows.push(["sign of x", ...signs.map((s, k) => [sign(s), flipped(k)]), ...blank]);
  rows.push(["teacher", ...Array.from(teacher, sign), ...blank]);
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
    row.forEach((part, column) => {
      const [text, marked] = Array.isArray(part) ? part : [part, false];
      const cell = document.createElement(column ? "td" : "th");
      if (!column) cell.scope = "row";
      cell.textContent = text;
      if (marked) cell.className = "flip";
      line.append(cell);
    });
  }
  const still = g.every((v) => v === 0);
  $("hand-step").disabled = still;
  const turned = signs.map((_, k) => k + 1).filter((_, k) => flipped(k));
  const moved = !before ? "" : turned.length ? `The sign of x${turned.join(", x")} flipped. ` : "No sign flipped: the answers stay, and so does g. ";
  $("hand-said").textContent = moved + (still ? "All answers are right: g is 0, nothing moves any more." : `${student.wrong} of ${n} signs are wrong.`);
}

function tell() {
  const { n, m, N, noise, lr, rule, width, law, shift, normalize, optimizer, momentum, from } = settings;
  const inputs = law === "gaussian" && shift ? `{"name": "gaussian", "mean": ${number(shift)}}`
    : law === "spread" ? '{"name": "gaussian", "std_spread": 1.0}' : `"${law}"`;
  const named = { odd_sign: 'counterexample("odd_sign")', clipped: `{"rule": "clipped", "width": ${number(width)}}` };
  const odd = rule === "odd_sign" ? "from ste_lightning.theory.counterexamples import counterexample\n" : "";
  const more = { plain: "", momentum: `, momentum=${number(momentum)}`, adam: ', optimizer="adam"' }[optimizer]
    + (from ? `,\n    burn_in=${from}, steps=${from + 2000}` : "");
  const students = `from ste_lightning.theory import simulate\n${odd}`
    + `students = simulate(n=${n}, m=${m}, samples=${N}, noise=${number(noise)}, lr=${number(lr)},\n`
    + `    rule=${named[rule] || `"${rule}"`}, inputs=${inputs}, normalize="${normalize}"${more}`;
  const commands = {
    pretend: "import torch\nimport ste_lightning.functional as SF\nx = torch.tensor(0.9, requires_grad=True)\n"
      + "((SF.sign(x, rule=\"clipped\") + 1) ** 2 / 4).backward()\nprint(x.grad)  # 1; with the true slope it were 0",
    "by-hand": `${students}, trials=1, steps=1)\nprint(students.teacher, students.latent)`,
    samples: `from ste_lightning.theory import required_samples\nprint(required_samples(${n}, ${m}, "${rule}", noise=${number(noise)}))`,
  };
  $("command").textContent = commands[scene.id] || `${students})\nprint(students)`
    + (from ? "  # burn_in: time and escapes; the average is over all steps" : "");
  drawPlace();
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
  $("tries").replaceChildren(...(scene.tries || []).map(([text, given]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    button.addEventListener("click", () => change(given));
    return button;
  }));
  $("reset-scene").hidden = !isLive();
  $("pretend-view").hidden = scene.id !== "pretend";
  $("hand-view").hidden = scene.id !== "by-hand";
  $("live-view").hidden = !isLive();
  $("place").hidden = ["trap-door", "sawtooth"].includes(scene.id);  // how many samples: later
  followed = scene.id === "sawtooth" ? 11 : null;
  Object.assign(settings, scene.settings || {});
  CONTROLS.forEach(show);
  restart();
  tell();
  lone.x = 0.9;
  lone.drawn = "";
  $("pretended").checked = false;
  setPlaying(true);
  if (scene.id === "by-hand") drawHand();
}

function setPlaying(on) {
  playing = on;
  $("play").textContent = on ? "Pause" : "Play";
  $("play").setAttribute("aria-pressed", String(on));
}

function frame(now) {
  const elapsed = Math.min(Math.max(now - lastFrame, 0) / 1000, 0.25);
  lastFrame = now;
  if (scene.id === "pretend") playLone(elapsed);
  else if (isLive() && playing) {
    owed = Math.min(owed + elapsed * settings.speed, settings.speed);
    const count = Math.floor(owed);
    if (count) {
      owed -= advance(count);
      drawLive();
    }
  }
  requestAnimationFrame(frame);
}

function say() {
  if (!playing || !isLive()) return;
  $("status").textContent = `Step ${student.steps}: last iterate ${$("last").textContent}, vote ${$("averaged").textContent}.`;
}

/** Draw everything anew: the page has another size or other colours. */
function redraw() {
  readColors();
  strips.forEach((strip) => strip.forget());
  lone.drawn = "";
  drawLive(true);
  drawPlace();
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
readColors();
$("play").addEventListener("click", () => { setPlaying(!playing); drawLive(true); });
$("one").addEventListener("click", () => { setPlaying(false); advance(1); drawLive(true); });
$("again").addEventListener("click", restart);
$("new").addEventListener("click", () => change({ seed: settings.seed + 1 }));
$("forget").addEventListener("click", () => {
  settings.from = student.steps;
  student.countFrom(student.steps);
  CONTROLS.forEach(show);
  tell();
  drawLive(true);
});
$("reset-scene").addEventListener("click", () => choose(scene));
$("follow").addEventListener("input", () => { follow(Number($("follow").value) ? Number($("follow").value) - 1 : null); drawLive(true); });
$("weights").addEventListener("click", (event) => { follow(strips[1].closest(history, event.offsetX, event.offsetY)); drawLive(true); });
$("lone").addEventListener("input", () => { lone.x = Number($("lone").value); });
$("lone").addEventListener("change", () => $("lone").blur());
$("pretend-again").addEventListener("click", () => { lone.x = 0.9; });
$("hand-again").addEventListener("click", () => { restart(); drawHand(); });
$("hand-step").addEventListener("click", () => { const before = Array.from(student.signs); student.step(); drawHand(before); });
$("copy").addEventListener("click", () => navigator.clipboard?.writeText($("command").textContent));
dark.addEventListener("change", redraw);
window.addEventListener("resize", redraw);
choose(SCENES.find((one) => `#${one.id}` === location.hash) || SCENES[0]);
setInterval(say, 5000);
requestAnimationFrame(frame);

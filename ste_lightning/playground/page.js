"use strict";
// The page: its state, its scenes, the loop.
const POINTS = 240;  // points a second that are drawn; faster trainings show every k-th step
const BUDGET = 9;    // milliseconds of a frame for training
const TOLD = 250;    // milliseconds between two lots of numbers, so that they can be read

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

function advance(count) {
  const end = performance.now() + BUDGET;
  for (let i = 0; i < count; i++) {
    student.step();
    history.add(student);
    if (performance.now() > end) return i + 1;
  }
  return count;
}

function drawLive(now) {
  for (const strip of strips) strip.draw(history);
  const time = performance.now();
  if (!now && time - lastTold < TOLD) return;
  lastTold = time;
  drawFacts();
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

"use strict";
// Pictures of a training that grow with it: only what is new is drawn, until the window is full.
const SHORT = 40, LONG = 320;  // points of a window: it begins short and doubles
const DRAWN = 32;              // latent weights that are drawn

const $ = (id) => document.getElementById(id);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
let colors = {};

function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["back", "card", "line", "text", "soft", "last", "averaged", "right", "wrong", "shade", "lit"]) {
    colors[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

/** Return a canvas's context in CSS pixels, cleared. */
function cleared(id) {
  const canvas = $(id);
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d", { alpha: false });
  pen.scale(ratio, ratio);
  pen.fillStyle = colors.card;
  pen.fillRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
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
  pen.fillStyle = colors.soft;
  pen.textAlign = align;
  pen.fillText(text, x, y);
}

/** The last points of a training: wrong signs, the vote's, and latent weights times their right sign. */
class History {
  constructor(student, stride) {
    this.rows = Math.min(student.n, DRAWN);
    this.stride = stride;
    this.points = [];   // of {step, wrong, vote, weights}, at most a window's
    this.length = SHORT;
    this.turns = 0;     // how often the window has moved
    this.add(student);
  }

  /** Take every stride-th step. */
  add(student) {
    if (student.steps % this.stride) return;
    if (this.points.length > this.length) {
      if (this.length < LONG) this.length *= 2;
      else this.points.splice(0, LONG / 4);
      this.turns++;
    }
    const weights = new Float32Array(this.rows);
    for (let k = 0; k < this.rows; k++) weights[k] = student.latent[k] * student.teacher[k];
    this.points.push({ step: student.steps, wrong: student.wrong, vote: student.counted() ? student.averagedWrong() : null, weights });
  }

  get last() {
    return this.points[this.points.length - 1];
  }
}

/** A picture over the window of a history; `scale` returns what the vertical axis has to hold. */
class Strip {
  constructor(id, left, scale, background, segment) {
    Object.assign(this, { id, left, scale, background, segment });
    this.forget();
  }

  forget() {
    this.drawn = 0;
    this.most = 0;
    this.turns = -1;
  }

  draw(history) {
    const { points, length } = history;
    const needed = this.scale(history, this.drawn);
    if (this.turns !== history.turns || !this.drawn || needed > this.most || this.drawn > points.length) {
      Object.assign(this, cleared(this.id), { turns: history.turns });
      this.most = 1.15 * this.scale(history, 0) || 1;
      this.x = (i) => this.left + (i / length) * (this.width - this.left - 6);
      this.background(this, history);
      this.drawn = 1;
    }
    if (this.drawn < points.length) this.segment(this, points, this.drawn, points.length, history);
    this.drawn = points.length;
  }
}

function steps(strip, { points, length, stride }) {
  const { pen, height, width, left } = strip;
  write(pen, `step ${points[0].step}`, left, height - 4);
  write(pen, `step ${points[0].step + length * stride}`, width - 6, height - 4, "right");
}

/** Wrong signs of both iterates, as stairs made of bars. */
function wrongStrip() {
  const bottom = 22;
  const y = (strip, value) => strip.height - bottom - (value / strip.most) * (strip.height - bottom - 10);
  const scale = ({ points }, from) => {
    let most = 3;
    for (let i = from; i < points.length; i++) most = Math.max(most, points[i].wrong, points[i].vote || 0);
    return most;
  };
  const background = (strip, history) => {
    const { pen, width, left, most } = strip;
    const top = Math.floor(most);
    for (const value of [0, Math.round(top / 2), top]) {
      pen.fillStyle = colors.line;
      pen.fillRect(left, Math.round(y(strip, value)), width - left - 6, 1);
      write(pen, String(value), left - 6, y(strip, value) + 4, "right");
    }
    steps(strip, history);
  };
  const segment = (strip, points, from, to) => {
    for (const [key, color, thick] of [["wrong", colors.last, 2], ["vote", colors.averaged, 3]]) {
      strip.pen.fillStyle = color;
      for (let i = from; i < to; i++) {
        if (points[i - 1][key] === null || points[i][key] === null) continue;
        if (key === "vote" && Math.floor(strip.x(i) / 6) % 3 === 2) continue;  // dashes
        const [x0, x1] = [strip.x(i - 1), strip.x(i)];
        const [y0, y1] = [y(strip, points[i - 1][key]), y(strip, points[i][key])];
        strip.pen.fillRect(x0, y1 - thick / 2, x1 - x0 + 0.5, thick);
        if (y0 !== y1) strip.pen.fillRect(x0 - 0.5, Math.min(y0, y1), 1.5, Math.abs(y1 - y0));
      }
    }
  };
  return new Strip("wrong", 34, scale, background, segment);
}

/** Latent weights times their right sign; `followed` says which one is drawn thick. */
function weightStrip(followed) {
  // The followed weight's last points set the scale, else the weights that have been wrong in this
  // window; others may leave the picture.
  let lowest = [];
  let size = [];
  const scale = ({ points, rows }, from) => {
    const one = followed();
    if (one !== null && one < rows) {
      return 1.5 * Math.max(...points.slice(Math.max(from, points.length - 60)).map(({ weights }) => Math.abs(weights[one])));
    }
    if (!from) [lowest, size] = [new Float32Array(rows), new Float32Array(rows)];
    for (let i = from; i < points.length; i++) {
      for (let k = 0; k < rows; k++) {
        const value = points[i].weights[k];
        if (value < lowest[k]) lowest[k] = value;
        if (Math.abs(value) > size[k]) size[k] = Math.abs(value);
      }
    }
    let [restless, all] = [0, 0];
    for (let k = 0; k < rows; k++) {
      all = Math.max(all, size[k]);
      if (lowest[k] < 0) restless = Math.max(restless, size[k]);
    }
    return restless || all;
  };
  const middle = (strip) => (strip.height - 20) / 2;
  const y = (strip, value) => middle(strip) * (1 - value / strip.most);
  const background = (strip, history) => {
    const { pen, width, most } = strip;
    pen.fillStyle = colors.shade;
    pen.fillRect(0, middle(strip), width, middle(strip));
    pen.fillStyle = colors.soft;
    pen.fillRect(0, middle(strip) - 0.5, width, 1);
    write(pen, `right, up to ${number(most)}`, 4, 14);
    write(pen, "wrong", 4, 2 * middle(strip) - 5);
    steps(strip, history);
  };
  const segment = (strip, points, from, to, { rows }) => {
    const { pen, width } = strip;
    pen.save();
    pen.beginPath();
    pen.rect(0, 0, width, 2 * middle(strip));
    pen.clip();
    pen.lineJoin = "bevel";
    const one = (k, wanted) => {
      let open = false;
      for (let i = from; i < to; i++) {
        const value = points[i].weights[k];
        if (wanted !== null && value < 0 !== wanted) {
          open = false;
          continue;
        }
        if (!open) pen.moveTo(strip.x(i - 1), y(strip, points[i - 1].weights[k]));
        pen.lineTo(strip.x(i), y(strip, value));
        open = true;
      }
    };
    for (const [wanted, color] of [[false, colors.right], [true, colors.wrong]]) {
      pen.beginPath();
      for (let k = 0; k < rows; k++) if (k !== followed()) one(k, wanted);
      pen.strokeStyle = color;
      pen.lineWidth = 1;
      pen.stroke();
    }
    if (followed() !== null && followed() < rows) {
      pen.beginPath();
      one(followed(), null);
      pen.strokeStyle = colors.text;
      pen.lineWidth = 2;
      pen.stroke();
    }
    pen.restore();
  };
  const strip = new Strip("weights", 0, scale, background, segment);
  /** Return the drawn weight that lies closest to a place in the picture. */
  strip.closest = (history, x, height) => {
    const { points, rows, length } = history;
    const i = Math.min(Math.max(Math.round((x / strip.width) * length), 0), points.length - 1);
    const away = Array.from({ length: rows }, (_, k) => Math.abs(y(strip, points[i].weights[k]) - height));
    return away.indexOf(Math.min(...away));
  };
  return strip;
}

/** The place in the plane of inputs and samples; lines: where half of the students recover. */
function drawPhase({ n, N }, lines) {
  const { pen, width, height } = cleared("phase");
  const left = 46, bottom = height - 30, right = width - 12, top = 8;
  const x = (value) => left + (Math.log(value / 2) / Math.log(300 / 2)) * (right - left);
  const y = (value) => bottom - (Math.log(value / 4) / Math.log(4096 / 4)) * (bottom - top);
  for (const value of [4, 16, 64, 256, 1024, 4096]) {
    line(pen, [[left, y(value)], [right, y(value)]], colors.line, 1);
    write(pen, String(value), left - 6, y(value) + 4, "right");
  }
  for (const value of [2, 4, 8, 16, 32, 64, 128, 256]) write(pen, String(value), x(value), bottom + 15, "center");
  write(pen, "n", right, bottom + 28, "right");
  write(pen, "N", left + 4, top + 14);
  for (const [iterate, color, dash] of [["last", colors.last, []], ["averaged", colors.averaged, [6, 3]]]) {
    if (lines[iterate].length > 1) line(pen, lines[iterate].map(([a, b]) => [x(a), y(b)]), color, 2.5, dash);
  }
  pen.beginPath();
  pen.arc(x(n), y(N), 7, 0, 7);
  pen.fillStyle = colors.text;
  pen.fill();
}

/** One weight x with the right sign -1: its loss is a staircase, its sign and what is pretended. */
function drawLone(x, pretended) {
  const { pen, width, height } = cleared("pretend");
  const half = (height - 24) / 2;
  const at = (value) => width / 2 + value * (width / 4.4);
  const loss = (value) => half - 8 - value * (half - 34);
  const sign = (value) => 1.5 * half + 20 - value * (half / 2 - 18);
  for (const [y, text] of [[loss(0), "loss"], [sign(0), "sign(x)"]]) {
    line(pen, [[0, y], [width, y]], colors.line, 1);
    write(pen, text, 4, y - 6);
  }
  line(pen, [[at(0), 0], [at(0), height]], colors.line, 1);
  write(pen, "x", width - 6, sign(0) + 14, "right");
  line(pen, [[at(-2.2), loss(0)], [at(0), loss(0)], [at(0), loss(1)], [at(2.2), loss(1)]], colors.averaged, 3);
  line(pen, [[at(-2.2), sign(-1)], [at(0), sign(-1)], [at(0), sign(1)], [at(2.2), sign(1)]], colors.averaged, 3);
  if (pretended) {
    line(pen, [[at(-2.2), sign(-1)], [at(-1), sign(-1)], [at(1), sign(1)], [at(2.2), sign(1)]], colors.last, 2.5, [6, 4]);
    write(pen, "what backward pretends", width - 6, sign(0.2), "right");
  }
  const right = x < 0;
  for (const y of [loss(right ? 0 : 1), sign(right ? -1 : 1)]) {
    pen.beginPath();
    pen.arc(at(x), y, 8, 0, 7);
    pen.fillStyle = right ? colors.lit : colors.wrong;
    pen.fill();
  }
}

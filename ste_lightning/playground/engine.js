"use strict";
// The two-layer network y = v^T step(Z w), w = sign(x) / sqrt(n), trained by the straight-through
// estimator; the same update, in the same order of the signs, as ste_lightning.theory.simulate:
//   r_i = y_i - label_i,   g = (1/N) sum_i Z_i^T (f'(Z_i w) * v) r_i,   x <- x - lr g
// A full batch's gradient depends on the signs of x alone, so it is kept until one of them flips.

const RULES = {
  identity: () => 1,
  relu: (a) => (a > 0 ? 1 : 0),
  clipped: (a) => (Math.abs(a) <= 1 ? 1 : 0),
  triangular: (a) => Math.max(1 - Math.abs(a), 0),
  odd_sign: (a) => (a > 0 ? 1 : -1),
};

// mulberry32: small, and the same numbers in every browser for a seed.
function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function normalNumbers(uniform) {
  let kept = null;
  return () => {
    if (kept !== null) {
      const value = kept;
      kept = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    kept = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

// What an input is drawn from; `shift` is the mean of the Gaussian law.
const LAWS = {
  gaussian: ({ normal, shift }) => normal() + shift,
  spread: ({ normal, scale }) => scale * normal(),
  rademacher: ({ uniform }) => (uniform() < 0.5 ? 1 : -1),
  exponential: ({ uniform }) => -Math.log(1 - uniform()),
  uniform: ({ uniform }) => uniform(),
};

function normalizeFeatures(Z, n, divide) {
  const rows = Z.length / n;
  for (let k = 0; k < n; k++) {
    let sum = 0;
    let squares = 0;
    for (let i = k; i < Z.length; i += n) sum += Z[i];
    const mean = sum / rows;
    for (let i = k; i < Z.length; i += n) squares += (Z[i] - mean) ** 2;
    const deviation = divide ? Math.sqrt(squares / rows) || 1 : 1;
    for (let i = k; i < Z.length; i += n) Z[i] = (Z[i] - mean) / deviation;
  }
}

function normalizeRows(Z, n) {
  for (let start = 0; start < Z.length; start += n) {
    let sum = 0;
    let squares = 0;
    for (let k = 0; k < n; k++) sum += Z[start + k];
    const mean = sum / n;
    for (let k = 0; k < n; k++) squares += (Z[start + k] - mean) ** 2;
    const deviation = Math.sqrt(squares / n + 1e-12);
    for (let k = 0; k < n; k++) Z[start + k] = (Z[start + k] - mean) / deviation;
  }
}

const NORMALIZATIONS = {
  none: () => {},
  center: (Z, n) => normalizeFeatures(Z, n, false),
  standardize: (Z, n) => normalizeFeatures(Z, n, true),
  layer_norm: normalizeRows,
};

/** Draw a teacher, inputs, label noise and a start. */
function drawProblem({ n, m, N, noise, law, shift, normalize, seed, start = 0.1 }) {
  const uniform = randomNumbers(seed);
  const normal = normalNumbers(uniform);
  const teacher = Int8Array.from({ length: n }, () => (uniform() < 0.5 ? 1 : -1));
  const latent = Float32Array.from({ length: n }, () => start * normal());
  const v = new Float32Array(m).fill(1 / Math.sqrt(m));
  const scales = Float32Array.from({ length: n }, () => Math.exp(normal()));
  const Z = new Float32Array(N * m * n);
  for (let i = 0; i < Z.length; i++) {
    Z[i] = LAWS[law]({ normal, uniform, shift, scale: scales[i % n] });
  }
  NORMALIZATIONS[normalize](Z, n);
  const labelNoise = Float32Array.from({ length: N }, () => noise * normal());
  return { n, m, N, Z, teacher, v, noise: labelNoise, latent };
}

class Student {
  /** Train on a problem: Z (N m n), teacher (n), v (m), noise (N), latent (n). */
  constructor(problem, { rule = "relu", lr = 1, momentum = 0 } = {}) {
    Object.assign(this, problem, { rule, lr: Math.fround(lr), momentum });
    this.latent = Float32Array.from(problem.latent);
    this.velocity = new Float32Array(this.n);
    this.signs = new Int8Array(this.n);
    this.g = new Float32Array(this.n);
    this.hidden = new Float64Array(this.m);
    this.labels = new Float64Array(this.N);
    this.labels.forEach((_, i) => {
      this.labels[i] = this.output(i, this.teacher) + this.noise[i];
    });
    this.signSum = new Int32Array(this.n);
    this.forgetAverage();
    this.readSigns();
    this.stale = true;
    this.wrong = this.distance(this.signs);
    this.gradient();
  }

  output(i, signs) {
    const { n, m, Z, v, hidden } = this;
    let y = 0;
    for (let j = 0, at = i * m * n; j < m; j++) {
      let a = 0;
      for (let k = 0; k < n; k++, at++) a += signs[k] * Z[at];
      hidden[j] = a;
      if (a > 0) y += v[j];
    }
    return y;
  }

  /** Write the coarse gradient to g and the loss, where a sign has flipped since. */
  gradient() {
    if (!this.stale) return;
    const { n, m, N, Z, v, hidden, labels } = this;
    const slope = RULES[this.rule];
    const sums = new Float64Array(n);
    const scale = 1 / Math.sqrt(n);
    let squares = 0;
    let active = 0;
    for (let i = 0; i < N; i++) {
      const r = this.output(i, this.signs) - labels[i];
      squares += r * r;
      for (let j = 0; j < m; j++) {
        if (hidden[j] > 0) active++;
        const c = slope(hidden[j] * scale) * v[j] * r;
        if (c === 0) continue;
        const at = (i * m + j) * n;
        for (let k = 0; k < n; k++) sums[k] += c * Z[at + k];
      }
    }
    for (let k = 0; k < n; k++) this.g[k] = sums[k] / N;
    this.loss = squares / (2 * N);
    this.active = active / (N * m);
    this.stale = false;
  }

  readSigns() {
    let changed = 0;
    for (let k = 0; k < this.n; k++) {
      const sign = this.latent[k] >= 0 ? 1 : -1;
      if (sign !== this.signs[k]) changed++;
      this.signs[k] = sign;
    }
    return changed;
  }

  distance(signs) {
    let wrong = 0;
    for (let k = 0; k < this.n; k++) if (signs[k] !== this.teacher[k]) wrong++;
    return wrong;
  }

  /** Wrong signs of the averaged iterate, sign((1/T) sum_t sign(x_t)): a vote over all steps. */
  averagedWrong() {
    return this.distance(Array.from(this.signSum, (sum) => (sum >= 0 ? 1 : -1)));
  }

  forgetAverage() {
    this.signSum.fill(0);
    this.steps = this.escapes = this.returns = this.visits = this.flips = 0;
  }

  step() {
    this.gradient();
    const { n, lr, momentum, velocity, latent, g } = this;
    for (let k = 0; k < n; k++) {
      velocity[k] = momentum * velocity[k] + g[k];
      latent[k] -= Math.fround(lr * velocity[k]);
    }
    const changed = this.readSigns();
    this.steps++;
    if (changed) {
      this.flips += changed;
      this.stale = true;
      const before = this.wrong;
      this.wrong = this.distance(this.signs);
      if (before === 0 && this.wrong > 0) this.escapes++;
      if (before > 0 && this.wrong === 0 && this.returns < this.escapes) this.returns++;
    }
    if (this.wrong === 0) this.visits++;
    for (let k = 0; k < n; k++) this.signSum[k] += this.signs[k];
    this.gradient();
  }
}

if (typeof module !== "undefined") {
  module.exports = { Student, drawProblem, RULES, LAWS, NORMALIZATIONS };
}

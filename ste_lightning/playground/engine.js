"use strict";
// The two-layer network y = v^T step(Z w), w = sign(x) / sqrt(n), trained by the straight-through
// estimator; the same update, in the same order of the signs, as ste_lightning.theory.simulate:
//   r_i = y_i - label_i,   g = (1/N) sum_i Z_i^T (f'(Z_i w) * v) r_i,   x <- x - lr g
// or what momentum and Adam make of g.
// A full batch's gradient depends on the signs of x alone, so it is kept until one of them flips.

const RULES = {
  identity: () => 1,
  relu: (a) => (a > 0 ? 1 : 0),
  clipped: (a, width) => (Math.abs(a) <= width ? 1 : 0),
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

// Standardized features times the symmetric inverse root of their covariance; directions below
// 1e-6 of the largest variance are dropped, as ste_lightning.data does.
function whiten(Z, n) {
  normalizeFeatures(Z, n, true);
  const covariance = new Float64Array(n * n);
  for (let start = 0; start < Z.length; start += n) {
    for (let a = 0; a < n; a++) {
      const z = Z[start + a];
      for (let b = a; b < n; b++) covariance[a * n + b] += z * Z[start + b];
    }
  }
  const rows = Z.length / n;
  for (let a = 0; a < n; a++) {
    for (let b = a; b < n; b++) covariance[b * n + a] = covariance[a * n + b] /= rows;
  }
  const { values, vectors } = eigenpairs(covariance, n);
  const smallest = 1e-6 * Math.max(...values);
  const root = new Float64Array(n * n);
  for (let j = 0; j < n; j++) {
    if (values[j] <= smallest) continue;
    const scale = 1 / Math.sqrt(values[j]);
    for (let a = 0; a < n; a++) {
      for (let b = 0; b < n; b++) root[a * n + b] += scale * vectors[a * n + j] * vectors[b * n + j];
    }
  }
  const row = new Float64Array(n);
  for (let start = 0; start < Z.length; start += n) {
    row.fill(0);
    for (let a = 0; a < n; a++) {
      for (let b = 0; b < n; b++) row[b] += Z[start + a] * root[a * n + b];
    }
    Z.set(row, start);
  }
}

/** Eigenvalues of a symmetric matrix, and its eigenvectors in columns, by Jacobi's rotations. */
function eigenpairs(matrix, n) {
  const A = Float64Array.from(matrix);
  const V = new Float64Array(n * n);
  for (let k = 0; k < n; k++) V[k * n + k] = 1;
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0;
    let all = 0;
    for (let p = 0; p < n; p++) for (let q = 0; q < n; q++) {
      all += A[p * n + q] ** 2;
      if (p !== q) off += A[p * n + q] ** 2;
    }
    if (off <= 1e-24 * all) break;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) {
      if (A[p * n + q] === 0) continue;
      const theta = (A[q * n + q] - A[p * n + p]) / (2 * A[p * n + q]);
      const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
      const c = 1 / Math.hypot(t, 1);
      for (const [M, first, next] of [[A, p, n], [A, p * n, 1], [V, p, n]]) {
        const gap = next === n ? q - p : (q - p) * n;
        for (let k = 0, at = first; k < n; k++, at += next) {
          const x = M[at];
          const y = M[at + gap];
          M[at] = c * (x - t * y);
          M[at + gap] = c * (t * x + y);
        }
      }
    }
  }
  return { values: Array.from({ length: n }, (_, k) => A[k * n + k]), vectors: V };
}

const NORMALIZATIONS = {
  none: () => {},
  center: (Z, n) => normalizeFeatures(Z, n, false),
  standardize: (Z, n) => normalizeFeatures(Z, n, true),
  layer_norm: normalizeRows,
  whitening: whiten,
};

// How a step follows from g, in float32 as torch.optim computes it; each has a memory for all n.
const round = Math.fround;
const OPTIMIZERS = {
  plain: (student, k) => round(student.lr * student.g[k]),
  momentum: (student, k) => {
    const { velocity, momentum, lr, g } = student;
    velocity[k] = momentum * velocity[k] + g[k];
    return round(lr * velocity[k]);
  },
  adam: (student, k) => {
    const { velocity, second, lr, g, steps } = student;
    velocity[k] += round(0.1) * round(g[k] - velocity[k]);
    second[k] = round(0.999 * second[k]) + round(0.001) * g[k] * g[k];
    const size = round(Math.sqrt(second[k])) / Math.sqrt(1 - 0.999 ** steps) + 1e-8;
    return round((lr / (1 - 0.9 ** steps)) * velocity[k] / size);
  },
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
  constructor(problem, { rule = "relu", width = 1, lr = 1, optimizer = "plain", momentum = 0.9, from = 0 } = {}) {
    Object.assign(this, problem, { rule, width, lr: round(lr), optimizer, momentum, from });
    this.latent = Float32Array.from(problem.latent);
    this.velocity = new Float32Array(this.n);
    this.second = new Float32Array(this.n);
    this.signs = new Int8Array(this.n);
    this.g = new Float32Array(this.n);
    this.hidden = new Float64Array(this.m);
    this.labels = new Float64Array(this.N);
    this.labels.forEach((_, i) => {
      this.labels[i] = this.output(i, this.teacher) + this.noise[i];
    });
    this.signSum = new Int32Array(this.n);
    this.steps = 0;  // updates so far; what is counted begins after `from` of them
    this.countFrom(from);
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

  /** The coarse gradient at some signs, the loss there and the share of hidden units that are on. */
  coarse(signs) {
    const { n, m, N, Z, v, hidden, labels, width } = this;
    const slope = RULES[this.rule];
    const sums = new Float64Array(n);
    const scale = 1 / Math.sqrt(n);
    let squares = 0;
    let active = 0;
    for (let i = 0; i < N; i++) {
      const r = this.output(i, signs) - labels[i];
      squares += r * r;
      for (let j = 0; j < m; j++) {
        if (hidden[j] > 0) active++;
        const c = slope(hidden[j] * scale, width) * v[j] * r;
        if (c === 0) continue;
        const at = (i * m + j) * n;
        for (let k = 0; k < n; k++) sums[k] += c * Z[at + k];
      }
    }
    return { g: sums.map((sum) => sum / N), loss: squares / (2 * N), active: active / (N * m) };
  }

  /** Write gradient and loss, where a sign has flipped since. */
  gradient() {
    if (!this.stale) return;
    const { g, loss, active } = this.coarse(this.signs);
    this.g.set(g);
    Object.assign(this, { loss, active, stale: false, dead: loss > 0 && g.every((one) => one === 0) });
  }

  /**
   * What happens to weight k near the teacher: it is pushed off by `push` a step while it is right
   * and driven back by `pull - push` while it is wrong, so it is wrong the share push / pull.
   */
  forces(k) {
    const signs = Int8Array.from(this.teacher);
    const push = this.coarse(signs).g[k] * signs[k];
    signs[k] *= -1;
    const pull = push + this.coarse(signs).g[k] * signs[k];
    return { push, pull, share: Math.min(Math.max(push / pull, 0), 1) };
  }

  /** The share of the counted steps in which weight k was wrong. */
  wrongShare(k) {
    return (1 - (this.teacher[k] * this.signSum[k]) / this.counted()) / 2;
  }

  counted() {
    return Math.max(this.steps - this.from, 0);
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

  distance(values) {
    let wrong = 0;
    for (let k = 0; k < this.n; k++) if ((values[k] >= 0 ? 1 : -1) !== this.teacher[k]) wrong++;
    return wrong;
  }

  /** Wrong signs of the averaged iterate, sign((1/T) sum_t sign(x_t)): a vote over all steps. */
  averagedWrong() {
    return this.distance(this.signSum);
  }

  /** Count anew: votes, visits, escapes and returns of the steps after the first `from`. */
  countFrom(from) {
    this.from = from;
    this.signSum.fill(0);
    this.escapes = this.returns = this.visits = this.flips = 0;
  }

  step() {
    this.gradient();
    const { n, latent } = this;
    const update = OPTIMIZERS[this.optimizer];
    this.steps++;
    for (let k = 0; k < n; k++) latent[k] -= update(this, k);
    const changed = this.readSigns();
    const counts = this.steps > this.from;
    if (changed) {
      this.stale = true;
      const before = this.wrong;
      this.wrong = this.distance(this.signs);
      if (counts) {
        this.flips += changed;
        if (before === 0 && this.wrong > 0) this.escapes++;
        if (before > 0 && this.wrong === 0 && this.returns < this.escapes) this.returns++;
      }
    }
    if (counts) {
      if (this.wrong === 0) this.visits++;
      for (let k = 0; k < n; k++) this.signSum[k] += this.signs[k];
    }
    this.gradient();
  }
}

if (typeof module !== "undefined") {
  module.exports = { Student, drawProblem, RULES, LAWS, NORMALIZATIONS, OPTIMIZERS };
}

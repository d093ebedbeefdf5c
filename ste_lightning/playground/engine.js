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
  module.exports = { Student, RULES };
}

"use strict";
// A problem for the student: a teacher, inputs of some law, normalized, label noise, a start.

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

if (typeof module !== "undefined") module.exports = { drawProblem, LAWS, NORMALIZATIONS };

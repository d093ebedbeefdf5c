"use strict";
// Guided scenes: settings, one sentence on what to look for, and what the paper says of it.
const USUAL = { n: 32, m: 4, noise: 0, lr: 1, rule: "relu", law: "gaussian", shift: 0, normalize: "none", momentum: 0 };
const SCENES = [
  {
    id: "pretend",
    title: "1 Why pretend?",
    look: "A sign is flat on both sides, so its true slope is 0 and the weight never moves; switch to the pretended slope and it walks downhill.",
    paper: "The straight-through estimator: forward the sign, backward the slope of another function.",
  },
  {
    id: "by-hand",
    title: "2 One step by hand",
    look: "Follow one step with numbers: inputs, hidden unit, error, pretended slope, gradient, new weight; a sign flips only when its latent weight crosses 0.",
    paper: "g = (1/N) Σ Zᵢᵀ (f′(Zᵢw) ⊙ v) rᵢ is the coarse gradient.",
    settings: { ...USUAL, n: 3, m: 1, N: 4, lr: 0.5, seed: 5 },
  },
  {
    id: "trap-door",
    title: "3 A trap door",
    look: "Without label noise the first arrival at the teacher is the last step: every error is 0 there, so the gradient is exactly 0.",
    paper: "Without noise the teacher w* is absorbing for plain descent.",
    settings: { ...USUAL, N: 512, seed: 1 },
  },
  {
    id: "sawtooth",
    title: "4 The sawtooth",
    look: "With label noise each weight is pushed off by its own force g and driven back by a larger one, a sawtooth around 0; another step size changes its height, not how often it is wrong.",
    paper: "Under label noise the iterates leave the teacher and return to it, again and again.",
    settings: { ...USUAL, n: 16, N: 512, noise: 0.5, lr: 0.3, seed: 2 },
  },
  {
    id: "vote",
    title: "5 The vote",
    look: "The last iterate keeps some wrong signs, never the same ones; a vote of each weight's sign over all steps is right: compare the two lamps.",
    paper: "The paper proves O(n²) samples for the averaged iterate and O(n⁴) for the last one; we measure n^1.15 and n^2.14 from n = 128 to 256 (m = 1, identity rule).",
    settings: { ...USUAL, n: 128, m: 1, N: 448, rule: "identity", seed: 7 },
  },
  {
    id: "mean",
    title: "6 The mean kills ReLU",
    look: "Inputs with a mean push hidden units to one side: all of them off or all of them on, and nothing is learned; centre the inputs and it works.",
    paper: "Normalization restores recovery on inputs that are not Gaussian.",
    settings: { ...USUAL, N: 512, shift: 2, seed: 4 },
  },
  {
    id: "momentum",
    title: "7 Momentum overshoots",
    look: "At the teacher the gradient is 0 but the momentum is not: the weights roll on through the trap door and have to come back.",
    paper: "Absorption holds for plain descent; an optimizer with memory can leave w*.",
    settings: { ...USUAL, N: 2048, momentum: 0.99, seed: 3 },
  },
  {
    id: "samples",
    title: "8 How many samples?",
    look: "Move N through the band in the small diagram and restart: below it nobody finds the teacher, above it everybody does.",
    paper: "N50: the number of samples at which half of the students recover their teacher.",
    settings: { ...USUAL, N: 96, seed: 6 },
  },
];

// N50 of the last and of the averaged iterate by n (python -m ste_lightning.study +recipe=gap) for the identity, and for ReLU the command in docs/playground.md.
const N50 = [
  { rule: "relu", m: 4, points: [[8, 11.1, 11.1], [16, 29, 29.9], [32, 67.4, 68.9], [64, 205, 210]] },
  { rule: "identity", m: 1, points: [[16, 20.4, 20.4], [32, 46.8, 47.2], [64, 133, 131], [128, 528, 369], [256, 2318, 820]] },
];
if (typeof module !== "undefined") module.exports = { SCENES, N50 };
